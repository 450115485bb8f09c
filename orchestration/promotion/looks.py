"""What a look before the commit finds, as the stages, `incumbent plan` and `incumbent doctor` all say it."""

from dataclasses import dataclass
from enum import StrEnum

from orchestration.promotion.problems import Problem


class Bearing(StrEnum):
    """What a finding means for a commit."""

    FITS = "fits"
    NOTED = "noted"
    """It may be worth knowing, and stands in nobody's way."""
    WAITS = "waits"
    """It may pass by itself, so that the promotion waits for it."""
    REFUSED = "refused"
    """Only a person can put it right."""


@dataclass(frozen=True)
class Look:
    """One thing that was looked at."""

    what: str
    bearing: Bearing
    finding: str
    """A statement by itself."""
    problem: Problem | None = None
    """What stands in the way, if anything does."""


def fits(what: str, finding: str) -> Look:
    """Return that all is as it should be."""
    return Look(what, Bearing.FITS, finding)


def noted(what: str, finding: str) -> Look:
    """Return what does not stand in the way."""
    return Look(what, Bearing.NOTED, finding)


def waits(what: str, problem: Problem) -> Look:
    """Return what the promotion waits for."""
    return Look(what, Bearing.WAITS, problem.found, problem)


def refused(what: str, problem: Problem) -> Look:
    """Return what a person must put right."""
    return Look(what, Bearing.REFUSED, problem.found, problem)
