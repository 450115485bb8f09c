"""A running GitHub-compatible server for tests, and a client of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration.adapters.github import GitHubRepository
from orchestration.adapters.host_api import ApiNames, TokenFile
from testbeds.common.github_server import GitHubServer

TOKEN = "github_pat_of-the-tests"
NAMED = ApiNames("the address's setting", "the repository's setting")


@contextmanager
def running_github() -> Iterator[GitHubServer]:
    """Run the server on the loopback."""
    server = GitHubServer(TOKEN)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    serving.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def client_of(server: GitHubServer, folder: Path, token: str = TOKEN) -> GitHubRepository:
    """Return a client of the server's repository whose token is in a file of this folder."""
    file = folder / "github-token"
    file.write_text(f"{token}\n", encoding="utf-8")
    return GitHubRepository(server.url, server.name, TokenFile(file, "the token's setting"), NAMED)
