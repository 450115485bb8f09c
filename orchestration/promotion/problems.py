"""What went wrong, in the four parts that a person needs: subject, expectation, finding and next step."""

import hashlib
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be.

    Every error that a person sees is a `Problem`, so every error says what to do next (design rule 10).
    """

    subject: str
    """What it is about, by its full name: `version 7 of iris-classifier`, `Deployment ml-apps/iris-classifier`."""
    expected: str
    found: str
    """A statement or noun phrase that also reads by itself: tables and tags of runs show it alone."""
    next_step: str
    """What a person should do now, as a whole sentence."""

    def then(self, step: str) -> "Problem":
        """Return the same problem with another step after its own."""
        return replace(self, next_step=f"{self.next_step} {step}")

    @property
    def fingerprint(self) -> str:
        """A short text that distinct problems do not share, by which one that was told already is recognised."""
        return hashlib.sha256(str(self).encode("utf-8", "replace")).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{self.subject}: expected {self.expected}, found {self.found}. {self.next_step}"


class ProblemError(Exception):
    """An exception that carries a `Problem`; its text is the problem's text."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class DependencyError(ProblemError):
    """A dependency could not answer (down, time-out, 5xx, refused credentials): the platform's fault, not the model's.

    A promotion that ends in this error is held or tried again, and moves no alias (design rule 6).
    """


class RateLimitedError(DependencyError):
    """A dependency answers, but was asked too often, and says when to ask again."""

    def __init__(self, problem: Problem, seconds: float) -> None:
        super().__init__(problem)
        self.seconds = seconds
        """How long not to ask again."""


class InvalidInputError(ProblemError):
    """Something that a person wrote (a policy, a recording, a setting) is invalid."""
