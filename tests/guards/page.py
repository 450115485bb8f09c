"""Writes docs/guards.md from the table: `python -m tests.guards.page > docs/guards.md`."""

from tests.guards.guard import Guard
from tests.guards.table import GUARDS

_BEGINNING = """\
# Guards

What keeps incumbent from losing, inventing or promoting something wrong, where that is in `orchestration/`, and the \
test in `tests/` that fails without it.

`make test-scenarios` takes each guard out of a copy of the pipeline in turn, and its test must fail there by an \
assertion, or by the exception that the table names. `make test-fast` makes sure that each guard is still where this \
page says. The page is written from the tables in `tests/guards`: `python -m tests.guards.page > docs/guards.md`. \
[Architecture](architecture.md) explains the stages, and [design rules](design-rules.md) the reasons.
"""


def page() -> str:
    """Return the page."""
    return _BEGINNING + "".join(_section(title, guards) for title, guards in GUARDS.items())


def _section(title: str, guards: tuple[Guard, ...]) -> str:
    rows = "".join(_row(guard) for guard in guards)
    return f"\n## {title}\n\n| guard | held by | fails without it |\n|---|---|---|\n{rows}"


def _row(guard: Guard) -> str:
    mutant = guard.mutant
    return f"| {guard.what} | `{mutant.file}`, `{mutant.place}` | `{guard.test}` |\n"


if __name__ == "__main__":
    print(page(), end="")
