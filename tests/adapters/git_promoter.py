"""A process that promotes once through the Git adapter; tests start it, race it and kill it."""

from pathlib import Path

from orchestration.adapters.clock import SystemClock
from orchestration.adapters.git.login import Login
from orchestration.adapters.git.repository import GitRepository
from orchestration.promotion.ports import FileEdit, LeaseRecord, Pushed
from tests.adapters.git_fixtures import edit


def main(url: str, token_file: str, state: str, holder: str, identity: str) -> str:
    """Return `busy`, `pushed`, `found` (an earlier attempt had pushed it) or `lost`, as a promotion would see it."""
    repository = GitRepository(url, "main", login=Login(Path(token_file)), state=Path(state), clock=SystemClock())
    lease = repository.acquire_lease("iris", holder, 60.0)
    if not isinstance(lease, LeaseRecord):
        return "busy"

    def decide(head: str) -> FileEdit | str:
        promotions = [commit.trailers["Promotion-Id"] for commit in repository.history(head, "iris")]
        return "found" if identity in promotions else edit(identity)

    result = repository.push_edit(decide, lease, 60.0)
    if isinstance(result, Pushed):
        repository.release_lease(result.lease)
        return "pushed"
    return result if isinstance(result, str) else "lost"


def write(end: str, *arguments: str) -> None:
    """Write what `main` returns into a file."""
    Path(end).write_text(main(*arguments), encoding="utf-8")
