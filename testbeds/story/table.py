"""The demo's last page: one row per promotion and what the client saw, for a terminal of 100 columns."""

import re
import textwrap
import time
from collections.abc import Mapping, Sequence

from testbeds.story.expectation import Expected, evidence_document, promotion_commits, rollback_commits, window
from testbeds.story.seen import Seen, seconds_of
from testbeds.story.stages import Stages
from testbeds.story.stories import Outcome
from testbeds.story.verifier import SLOW_SECONDS

WIDTH = 100
_NONE = "-"
_HEX = re.compile(r"\b[0-9a-f]{12,64}\b")
_HEADER = ("version", "event at", "commit", "", "revision", "rolled out", "verdict", "champion", "end")


def story_table(story: Expected, outcomes: Sequence[Outcome], seen: Seen, stages: Mapping[int, Stages]) -> str:
    """Lay out one row per promotion; times are seconds since the registry event, whose own time is the time of day."""
    rows = [_row(story, outcome, seen, stages.get(outcome.version, Stages())) for outcome in outcomes]
    reasons = [wrapped(f"{_named(story, outcome, seen)}: {outcome.reason}") for outcome in outcomes if outcome.reason]
    title = "Promotions (seconds since the registry event)"
    return "\n".join([title, "", _grid([_HEADER, *rows]), "", *reasons])


def _row(story: Expected, outcome: Outcome, seen: Seen, stages: Stages) -> tuple[str, ...]:
    commits = promotion_commits(seen, story, outcome.version)
    document = evidence_document(seen, story, outcome.version) or {}
    judged_at = seconds_of(document.get("soak_ended"))

    def since(at: float | None) -> str:
        return _NONE if at is None else f"+{max(0.0, at - outcome.requested_at):.1f}"

    end = outcome.state.replace("_", " ")
    if outcome.state != "champion":
        end += f" {since(outcome.ended_at)}"
    return (
        str(outcome.version),
        time.strftime("%H:%M:%S", time.localtime(outcome.requested_at)),
        commits[0].commit[:8] if commits else _NONE,
        # Git keeps whole seconds.
        f"+{max(0.0, commits[0].at - outcome.requested_at):.0f}" if commits else "",
        since(stages.revision_at),
        since(stages.rolled_out_at),
        f"{document.get('verdict')} {since(judged_at)}" if judged_at is not None else _NONE,
        since(stages.champion_at),
        end,
    )


def _named(story: Expected, outcome: Outcome, seen: Seen) -> str:
    rollbacks = rollback_commits(seen, story, outcome.version)
    return f"version {outcome.version}" + (f" (taken back by {rollbacks[0].commit[:8]})" if rollbacks else "")


def _grid(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    ruled = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0], ruled, *lines[1:]])


def wrapped(text: str, first: str = "", indent: str = "  ") -> str:
    """Wrap a text at the terminal's width, with commit ids and digests shortened to their first eight digits."""
    short = _HEX.sub(lambda match: match[0][:8], " ".join(text.split()))
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return wrapper.fill(short)


def client_summary(story: Expected, seen: Seen) -> str:
    """Summarize the requests that the client sent throughout, and how many of them failed."""
    good = [end for end in story.ends if end.state == "champion"]
    windows = [times for end in good if (times := window(seen, story, end)) is not None]
    during = [request for request in seen.requests if any(start <= request.at < end for start, end in windows)]
    lost = sum(not request.ok for request in during)
    lines = [
        f"A client sent {len(seen.requests)} requests throughout.",
        f"  during the good promotions of versions {_listed([end.version for end in good])}: "
        f"{len(during)} sent, {lost} failed",
    ]
    for end in story.ends:
        if end.state == "rolled_back":
            answers = [request for request in seen.requests if request.version == str(end.version)]
            failed = sum(not answer.ok for answer in answers)
            slow = sum(answer.ok and answer.seconds > SLOW_SECONDS for answer in answers)
            lines.append(
                f"  harmed by version {end.version}: {failed + slow} of the {len(answers)} that it answered "
                f"({failed} failed, {slow} took longer than {SLOW_SECONDS:g} s)"
            )
    return "\n".join(lines)


def _listed(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last
