"""Who decided something, and why: kept in the trailers of a commit, and on the version."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.promotion.texts import one_line


@dataclass(frozen=True)
class Decided:
    """The person behind a decision, as they named themselves, and their reason."""

    by: str
    reason: str

    @property
    def trailers(self) -> dict[str, str]:
        """The decision as trailers of a commit."""
        return {"By": one_line(self.by), "Reason": one_line(self.reason)}

    def __str__(self) -> str:
        return f"{one_line(self.by)} ({one_line(self.reason)})"


def decided_in(trailers: Mapping[str, str]) -> Decided:
    """Read a decision from a commit's trailers."""
    return Decided(trailers.get("By") or "someone", trailers.get("Reason") or "no reason kept")
