"""How long the stages of good promotions took."""

from dataclasses import dataclass

from testbeds.story.environment import Environment
from testbeds.story.expectation import evidence_document, promotion_commits, version_tag
from testbeds.story.look import look
from testbeds.story.seen import seconds_of
from testbeds.story.stages import stages_of
from testbeds.story.stories import expected

HEADER = ("version", "request to commit", "revision seen", "synced", "rolled out", "verdict", "champion")


@dataclass(frozen=True)
class Row:
    """When each stage of a promotion was over, in seconds since its commit (whose time Git keeps in whole seconds)."""

    version: int
    requested: float
    """The seconds from the request to the commit."""
    revision: float
    synced: float
    rolled_out: float
    verdict: float
    champion: float

    def cells(self) -> tuple[str, ...]:
        ends = (self.revision, self.synced, self.rolled_out, self.verdict, self.champion)
        return str(self.version), f"{self.requested:.0f} s", *(f"+{seconds:.1f} s" for seconds in ends)


def good_promotions(environment: Environment) -> list[Row]:
    """Return the promotions that became champion in Dagster's daemon, oldest first; runs in CI are not in its pages."""
    seen, rows = look(environment), []
    story = expected(environment, (), 0)
    for number, version in sorted(seen.versions.items()):
        commits = promotion_commits(seen, story, number)
        if version_tag(version, story, "state") not in ("champion", "former_champion") or len(commits) != 1:
            continue
        stages, at = stages_of(environment, story, seen, number), commits[0].at
        requested = seconds_of(version_tag(version, story, "requested_at"))
        judged = seconds_of((evidence_document(seen, story, number) or {}).get("soak_ended"))
        dates = (stages.revision_at, stages.synced_at, stages.rolled_out_at, judged, stages.champion_at)
        known = [date - at for date in dates if date is not None]
        if requested is not None and len(known) == len(dates):
            rows.append(Row(number, at - requested, *known))
    return rows


def table(rows: list[Row]) -> list[str]:
    """Return the rows as lines of text under a header."""
    cells = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
