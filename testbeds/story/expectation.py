"""How a story must end, and where its traces are: the pipeline's conventions, stated independently of the pipeline."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from testbeds.story.seen import Commit, Seen, Version, seconds_of


@dataclass(frozen=True)
class End:
    """How one version's promotion must have ended."""

    version: int
    state: Literal["champion", "rolled_back", "refused"]
    reason: str = ""
    """A regular expression that the reason on the version must match."""
    back_to: int | None = None
    """The version that serves again after a rollback."""
    served: bool = True
    """False for a version that was taken back before any of its pods became ready: it never answered a client."""


@dataclass(frozen=True)
class Expected:
    """How a story must end; `ends` are in the order in which the promotions were requested."""

    policy: str
    manifest: str
    ends: tuple[End, ...]
    champion: int
    judge_within: float
    """The policy's time for a verdict, in seconds; a gate that rejects a bad version earlier did not time out."""


def promotion_commits(seen: Seen, story: Expected, version: int) -> list[Commit]:
    """Return the commits that put a version into the manifest, identified by their trailer."""
    return promoting(seen.commits, story.policy, version)


def promoting(commits: Sequence[Commit], policy: str, version: int) -> list[Commit]:
    """Return those of the given commits that put a version into the manifest."""
    start = f"{policy}/{version}/"
    return [commit for commit in commits if commit.trailers.get("Promotion-Id", "").startswith(start)]


def rollback_commits(seen: Seen, story: Expected, version: int) -> list[Commit]:
    """Return the commits that took a version back."""
    start = f"{story.policy}/{version}/"
    return [commit for commit in seen.commits if commit.trailers.get("Rollback-Of", "").startswith(start)]


def version_tag(version: Version | None, story: Expected, name: str) -> str:
    return version.tags.get(f"incumbent.{story.policy}.{name}", "") if version is not None else ""


def evidence_path(story: Expected, version: int) -> str:
    return f"incumbent/{story.policy}/{version}-1.json"


def evidence_content(seen: Seen, story: Expected, number: int) -> bytes:
    version = seen.versions.get(number)
    return version.evidence.get(evidence_path(story, number), b"") if version is not None else b""


def evidence_document(seen: Seen, story: Expected, version: int) -> dict[str, Any] | None:
    """Read what the gate measured and decided; None when the artifact is missing or not readable."""
    try:
        parsed = json.loads(evidence_content(seen, story, version))
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def window(seen: Seen, story: Expected, end: End) -> tuple[float, float] | None:
    """Return a version's window: from its commit until the next promotion was requested, or until everything was read.

    None unless the version has exactly one commit.
    """
    commits = promotion_commits(seen, story, end.version)
    if len(commits) != 1:
        return None
    later = story.ends[story.ends.index(end) + 1 :]
    next_requested_at = (
        seconds_of(version_tag(seen.versions.get(later[0].version), story, "requested_at")) if later else None
    )
    return commits[0].at, seen.at if next_requested_at is None else next_requested_at
