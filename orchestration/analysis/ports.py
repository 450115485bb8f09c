"""What the analysis asks of a language model."""

from typing import Protocol

from orchestration.analysis.prompt import Prompt
from orchestration.promotion.problems import DependencyError, Problem


class BusyError(DependencyError):
    """The language model takes no more questions now, and may say when it will."""

    def __init__(self, problem: Problem, wait_seconds: float | None) -> None:
        super().__init__(problem)
        self.wait_seconds = wait_seconds
        """Seconds after which it may be asked again; None when it does not say."""


class LanguageModel(Protocol):
    """A language model behind an API. Its text, `str(model)`, is the model's name."""

    def ask(self, prompt: Prompt) -> str:
        """Return the whole answer; asked once.

        Raises:
            BusyError: it takes no more questions now.
            DependencyError: no answer came, or it was cut, empty or withheld.
        """
