"""What a story left behind, as plain values: the only things that the verifier knows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

_INFO = re.compile(r"^model_info\{(.*)\} 1(?:\.0)?$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Change:
    """One changed line: `removed` or `added` is None when the line has no counterpart."""

    path: str
    removed: str | None
    added: str | None

    @property
    def image(self) -> str | None:
        """The image that the line has now, when it is an image's line."""
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
        """The image that the commit puts there, when that is all it does."""
        return self.changes[0].image if len(self.changes) == 1 else None


@dataclass(frozen=True)
class Tag:
    name: str
    annotated: bool
    commit: str
    message: str

    def field(self, name: str) -> str | None:
        """The value of a line `Name: value` of the message."""
        lines = (line.partition(": ") for line in self.message.splitlines())
        return next((value.strip() for key, colon, value in lines if colon and key == name), None)


@dataclass(frozen=True)
class Version:
    """A registered version with all its tags, and the artifacts under `incumbent/<policy>/` of its run."""

    number: int
    run_id: str
    tags: Mapping[str, str]
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    """The documents' content by artifact path."""


@dataclass(frozen=True)
class Serving:
    """What one serving process says of itself: its `model_info`, and by which image it runs."""

    pod: str
    model: str
    version: str
    image: str


@dataclass(frozen=True)
class Request:
    """One line of the client's log (`testbeds/sandbox/client.py`)."""

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
    """All of it, at one time."""

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
    """When this was looked at."""


def seconds_of(text: str | None) -> float | None:
    """Seconds since the epoch of a time with its zone, such as `2026-01-31T12:00:00.000Z`; None when it is none."""
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None


def model_info(metrics: str) -> dict[str, str]:
    """The labels of `model_info` in a text of metrics; none when it is not there."""
    found = _INFO.search(metrics)
    return dict(_LABEL.findall(found[1])) if found else {}
