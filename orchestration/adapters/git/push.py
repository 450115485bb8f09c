"""An atomic push with expected-old values, and what its answer means."""

import random
from dataclasses import dataclass

from orchestration.adapters.git.mirror import Mirror

ATTEMPTS = 10
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 1.0, 1.5, 30.0
_TAKEN = (" ", "+", "-", "*")


@dataclass(frozen=True)
class RefUpdate:
    """A ref's new object (None deletes it) and the object that the server must have there now (None: no such ref)."""

    ref: str
    new: str | None
    old: str | None


@dataclass(frozen=True)
class Applied:
    pass


@dataclass(frozen=True)
class Refused:
    """Git or the server said no. Whether somebody was faster or a rule forbids it, the server's refs tell."""

    reason: str


@dataclass(frozen=True)
class Unanswered:
    """No status came back: the push may have been applied or not, or may be applied yet."""

    reason: str


def push(mirror: Mirror, updates: tuple[RefUpdate, ...]) -> Applied | Refused | Unanswered:
    """Push all of the updates or none. Only the flags of the porcelain status are read, never the prose beside them."""
    expected = [f"--force-with-lease={one.ref}:{one.old or ''}" for one in updates]
    specs = [f"{one.new or ''}:{one.ref}" for one in updates]
    ran = mirror.network("push", "--porcelain", "--atomic", *expected, "--", "origin", *specs)
    flags = _flags(ran.output.decode("utf-8", errors="replace"))
    if ran.status == 0 and all(one.ref in flags and flags[one.ref][0] in _TAKEN for one in updates):
        return Applied()
    refused = {ref: summary for ref, (flag, summary) in flags.items() if flag == "!"}
    # "[remote failure]" is Git's status for a ref of which the server reported nothing.
    if refused and not any(summary.startswith("[remote failure]") for summary in refused.values()):
        reasons = "; ".join(f"{ref}: {summary}" for ref, summary in sorted(refused.items()))
        return Refused(f"{reasons}; {ran.error}")
    return Unanswered(ran.error or f"git push ended with status {ran.status}")


def _flags(output: str) -> dict[str, tuple[str, str]]:
    """Flag and summary of each ref in `git push --porcelain`: `<flag> TAB <from>:<to> TAB <summary>`."""
    found = {}
    for line in output.split("\n"):
        flag, _, rest = line.partition("\t")
        refs, tab, summary = rest.partition("\t")
        if tab and len(flag) == 1:
            found[refs.rpartition(":")[2]] = (flag, summary)
    return found


def moment() -> float:
    """Seconds to wait after a push that somebody was faster than: hardly any.

    Who waits longer only lets the next one in, and meanwhile the own lease runs out, which such a push did not renew.
    """
    return random.uniform(0.0, 0.3)  # noqa: S311 - it parts competitors, and guards nothing


def pause(attempt: int) -> float:
    """Seconds to wait after the given attempt (from 1) that failed: 1 s x 1.5 and so on to 30 s, less some jitter."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * _GROWTH ** (attempt - 1))
    return longest * random.uniform(0.7, 1.0)  # noqa: S311 - it parts competitors, and guards nothing
