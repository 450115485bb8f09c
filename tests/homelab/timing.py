"""How long the stages of good promotions took, beside the shortest way there is: `kubectl set image` by hand."""

from dataclasses import dataclass

from testbeds.story.environment import Environment
from testbeds.story.expectation import evidence_document, promotion_commits, version_tag
from testbeds.story.look import look
from testbeds.story.seen import seconds_of
from testbeds.story.stages import stages_of
from testbeds.story.stories import expected

HEADER = ("version", "asked -> commit", "revision seen", "synced", "rolled out", "verdict", "champion")


@dataclass(frozen=True)
class Row:
    """One promotion: when each stage was over, in seconds since its commit (Git keeps whole seconds)."""

    version: int
    asked_before: float
    """How long before the commit somebody had asked for it."""
    revision: float
    synced: float
    rolled_out: float
    verdict: float
    champion: float

    def cells(self) -> tuple[str, ...]:
        since = (self.revision, self.synced, self.rolled_out, self.verdict, self.champion)
        return str(self.version), f"{self.asked_before:.0f} s", *(f"+{one:.1f} s" for one in since)


def good_promotions(environment: Environment) -> list[Row]:
    """The promotions that Dagster's daemon made champions, oldest first; those made by CI have no pages here."""
    seen, rows = look(environment), []
    story = expected(environment, (), 0)
    for number, version in sorted(seen.versions.items()):
        commits = promotion_commits(seen, story, number)
        if version_tag(version, story, "state") != "champion" or len(commits) != 1:
            continue
        stages, at = stages_of(environment, story, seen, number), commits[0].at
        asked = seconds_of(version_tag(version, story, "requested_at"))
        judged = seconds_of((evidence_document(seen, story, number) or {}).get("soak_ended"))
        dates = (stages.revision_at, stages.synced_at, stages.rolled_out_at, judged, stages.champion_at)
        known = [one - at for one in dates if one is not None]
        if asked is not None and len(known) == len(dates):
            rows.append(Row(number, at - asked, *known))
    return rows


def table(rows: list[Row]) -> list[str]:
    """The rows as lines of text, under a header."""
    cells = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
