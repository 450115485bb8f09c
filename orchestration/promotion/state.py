"""Where a version stands under one policy, as its version tag `incumbent.<policy>.state` says."""

from enum import StrEnum


class State(StrEnum):
    """Where a version stands under one policy: the version tag `incumbent.<policy>.state`."""

    REQUESTED = "requested"
    WAITING = "waiting"
    """Not committed yet: waiting for an image, another version's promotion or a dependency. It goes on by itself."""
    COMMITTED = "committed"
    HELD = "held"
    """Committed and not judged, until the cause ends or a person acts."""
    CHAMPION = "champion"
    FORMER_CHAMPION = "former_champion"
    """Was champion until another version became it."""
    REFUSED = "refused"
    """Ended before any commit."""
    SUPERSEDED = "superseded"
    """Overtaken by a newer challenger before its commit."""
    REJECTED = "rejected"
    """Failed; its rollback may still be under way."""
    ROLLED_BACK = "rolled_back"

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens by itself. `rejected` is not an end: its rollback must still be finished."""
        return self in _ENDS

    @property
    def is_under_way_on_branch(self) -> bool:
        """Whether the version is committed, and neither champion nor taken back yet."""
        return self in (State.COMMITTED, State.HELD, State.REJECTED)


_ENDS = frozenset((State.CHAMPION, State.FORMER_CHAMPION, State.REFUSED, State.SUPERSEDED, State.ROLLED_BACK))
