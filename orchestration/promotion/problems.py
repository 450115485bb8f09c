"""What went wrong, in the four parts that a person needs: object, expectation, finding, next step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it must be.

    Every error that a person sees is one of these, so none leaves out what to do next (design rule 10).
    """

    subject: str
    """The object, by its full name: `version 7 of iris-classifier`, `Deployment ml-apps/iris-classifier`."""
    expected: str
    found: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.subject}: expected {self.expected}, found {self.found}. {self.next_step}"


class ProblemError(Exception):
    """An exception that carries a `Problem`; its text is the problem's text."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class DependencyError(ProblemError):
    """A dependency could not answer (down, time-out, 5xx, refused credentials): our side's fault, never the model's.

    Design rule 6: what ends in this error is held or tried again and moves no alias.
    """


class InvalidInputError(ProblemError):
    """Something that a person wrote (policy, recording, setting) cannot be used as it stands."""
