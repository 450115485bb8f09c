"""One atomic push with expected old values, and what its answer means."""

import random
from dataclasses import dataclass

from orchestration.adapters.git.mirror import Mirror
from orchestration.promotion.redact import redact

ATTEMPTS = 10
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 1.0, 1.5, 30.0
_ACCEPTED = (" ", "+", "-", "*")


@dataclass(frozen=True)
class RefUpdate:
    """A ref's new object (None deletes the ref), and the object that the server must have there now (None: no ref)."""

    ref: str
    new: str | None
    old: str | None


@dataclass(frozen=True)
class Applied:
    """The server accepted all updates."""


@dataclass(frozen=True)
class Refused:
    """Git or the server refused. The server's refs tell whether someone else was faster or a rule forbids the push."""

    reason: str


@dataclass(frozen=True)
class Unanswered:
    """No status came back: the push may have been applied, or not, or may still be."""

    reason: str


def push(mirror: Mirror, updates: tuple[RefUpdate, ...]) -> Applied | Refused | Unanswered:
    """Push all of the updates or none. Only the flags of the porcelain status are read, never the prose beside them."""
    expected = [f"--force-with-lease={update.ref}:{update.old or ''}" for update in updates]
    specs = [f"{update.new or ''}:{update.ref}" for update in updates]
    result = mirror.network("push", "--porcelain", "--atomic", *expected, "--", "origin", *specs)
    flags = _flags(result.output.decode("utf-8", errors="replace"))
    if result.status == 0 and all(update.ref in flags and flags[update.ref][0] in _ACCEPTED for update in updates):
        return Applied()
    refused = {ref: summary for ref, (flag, summary) in flags.items() if flag == "!"}
    # "[remote failure]" is Git's status for a ref about which the server reported nothing.
    if refused and not any(summary.startswith("[remote failure]") for summary in refused.values()):
        reasons = "; ".join(f"{ref}: {summary}" for ref, summary in sorted(refused.items()))
        return Refused(f"{redact(reasons, mirror.remote.login.secrets())}; {result.error}")
    return Unanswered(result.error or f"git push ended with status {result.status}")


def _flags(output: str) -> dict[str, tuple[str, str]]:
    """Flag and summary of each ref in `git push --porcelain`: `<flag> TAB <from>:<to> TAB <summary>`."""
    flags = {}
    for line in output.split("\n"):
        flag, _, rest = line.partition("\t")
        refs, tab, summary = rest.partition("\t")
        if tab and len(flag) == 1:
            flags[refs.rpartition(":")[2]] = (flag, summary)
    return flags


def pause_after_race() -> float:
    """Return the seconds to wait after someone else's push was faster: hardly any.

    Waiting longer would only let the next competitor in, and meanwhile the lease runs out: the failed push did not
    renew it.
    """
    return random.uniform(0.0, 0.3)  # noqa: S311 - it separates competitors, and protects nothing


def pause_after_failure(attempt: int) -> float:
    """Return the seconds to wait after a failed attempt: 1 s x 1.5 for each further one, up to 30 s, less some jitter.

    Args:
        attempt: the number of the attempt that failed, counted from 1.
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * _GROWTH ** (attempt - 1))
    return longest * random.uniform(0.7, 1.0)  # noqa: S311 - it separates competitors, and protects nothing
