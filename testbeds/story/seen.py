"""What a story left behind, as plain values: this is all that the verifier knows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

_INFO = re.compile(r"^model_info\{(.*)\} 1(?:\.0)?$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Change:
    """One changed line; `removed` or `added` is None when the line has no counterpart."""

    path: str
    removed: str | None
    added: str | None

    @property
    def image(self) -> str | None:
        """The image that the line names now; None for any other line."""
        name, colon, value = (self.added or "").strip().partition(":")
        return value.strip() if colon and name == "image" else None


@dataclass(frozen=True)
class Commit:
    commit: str
    parent: str
    at: float
    """The committer's time, whole seconds since the epoch."""
    subject: str
    trailers: Mapping[str, str]
    changes: tuple[Change, ...]

    @property
    def image(self) -> str | None:
        """The image that the commit puts into the manifest; None when it does anything else."""
        return self.changes[0].image if len(self.changes) == 1 else None


@dataclass(frozen=True)
class Tag:
    name: str
    annotated: bool
    commit: str
    message: str

    def field(self, name: str) -> str | None:
        """Return the value of a line `Name: value` of the message; None when there is no such line."""
        lines = (line.partition(": ") for line in self.message.splitlines())
        return next((value.strip() for key, colon, value in lines if colon and key == name), None)


@dataclass(frozen=True)
class Version:
    """A registered version with all its tags, and its run's artifacts under `incumbent/<policy>/`."""

    number: int
    run_id: str
    tags: Mapping[str, str]
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    """The documents' content by artifact path."""


@dataclass(frozen=True)
class Serving:
    """What one serving process reports about itself in `model_info`, and the image that it runs."""

    pod: str
    model: str
    version: str
    image: str


@dataclass(frozen=True)
class Request:
    """One line of the client's log (`testbeds/story/client.py`)."""

    at: float
    seconds: float
    status: int
    version: str | None
    ok: bool
    error: str | None = None
    pod: str | None = None

    @property
    def answered_at(self) -> float:
        return self.at + self.seconds


@dataclass(frozen=True)
class Seen:
    """Everything that a story left behind, read at one time."""

    commits: tuple[Commit, ...]
    """The whole branch, oldest first."""
    tags: tuple[Tag, ...]
    versions: Mapping[int, Version]
    champion: int | None
    """The version that the champion alias names."""
    serving: tuple[Serving, ...]
    requests: tuple[Request, ...]
    """In the order in which they were sent."""
    at: float
    """When this was read."""


def seconds_of(text: str | None) -> float | None:
    """Parse a time with its zone (`2026-01-31T12:00:00.000Z`) as seconds since the epoch; None for any other text."""
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None


def model_info(metrics: str) -> dict[str, str]:
    """Read the labels of `model_info` from a metrics page; empty when the metric is missing."""
    match = _INFO.search(metrics)
    return dict(_LABEL.findall(match[1])) if match else {}
