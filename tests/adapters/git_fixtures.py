"""A real Git server with faults that a test orders, a repository on it, and adapters that speak to it."""

import os
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestration.adapters.git.login import Login
from orchestration.adapters.git.repository import GitRepository
from orchestration.promotion.ports import FileEdit
from testbeds.common.git_server import GitHandler, GitServer, create_repository
from tests.fakes.clock import FakeClock

TOKEN = "t0ken-that-nobody-may-see"
MANIFEST = "apps/iris classifier/deployment.yaml"
CONTENT: Mapping[str, bytes] = {
    MANIFEST: b"image: repository:one\n",
    "apps/iris classifier/service.yaml": b"kind: Service\n",
    "apps/run.sh": b"#!/bin/sh\n",
    "README.md": b"what is deployed\n",
}


@dataclass
class Fault:
    """What the server does to the next requests whose method, path and query contain `where`.

    `before` is called first. Then: `status` answers with that status and does nothing; `cut` closes the connection
    after the request was carried out in full, so that only the acknowledgement is lost; `keep` answers 500 and keeps
    the request for `FaultyServer.carry_out_kept`, like a proxy that gives up on a slow server.
    """

    where: str
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    status: int | None = None
    cut: bool = False
    keep: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


class FaultyServer(GitServer):
    """The sandbox's server, with a list of faults to come and a list of requests so far."""

    def __init__(self, root: Path, token: str) -> None:
        super().__init__(root, token, handler=_FaultyHandler)
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.sent = 0
        self.kept: tuple[str, dict[str, str], bytes] | None = None
        self._guard = threading.Lock()

    def order(self, where: str, before: Callable[[], object] = lambda: None, **fault: Any) -> None:
        """Order a fault for the next request that contains `where`."""
        self.faults.append(self.fault(where, before, **fault))

    def carry_out_kept(self) -> None:
        """Carry out the request that was kept, long after its sender was told that it failed."""
        assert self.kept is not None
        path, headers, body = self.kept
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=headers)
        with urllib.request.urlopen(request) as answer:
            answer.read()

    @staticmethod
    def fault(where: str, before: Callable[[], object] = lambda: None, **fault: Any) -> Fault:
        return Fault(where, before, **fault)

    def next_fault(self, request: str) -> Fault | None:
        with self._guard:
            self.requests.append(request)
            for fault in self.faults:
                if fault.where in request and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


class _FaultyHandler(GitHandler):
    _muted = False

    @property
    def _faulty(self) -> FaultyServer:
        assert isinstance(self.server, FaultyServer)
        return self.server

    def serve_git(self) -> None:
        fault = self._faulty.next_fault(f"{self.command} {self.path}")
        if fault is None:
            super().serve_git()
            return
        fault.before()
        if fault.keep:
            names = ("Authorization", "Content-Type", "Content-Encoding")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            self._faulty.kept = (self.path, headers, b"".join(self._body()))
            self.refuse(500, "ordered by a test\n")
            return
        if fault.status is not None:
            self.refuse(fault.status, "ordered by a test\n", fault.headers)
            return
        self._muted = fault.cut
        super().serve_git()
        fault.after()
        self.close_connection = self.close_connection or fault.cut

    def send_response(self, code: int, message: str | None = None) -> None:
        if not self._muted:
            super().send_response(code, message)

    def send_header(self, keyword: str, value: str) -> None:
        if not self._muted:
            super().send_header(keyword, value)

    def end_headers(self) -> None:
        if self._muted:
            raise ConnectionResetError  # as if the client had gone: the push goes on without it
        super().end_headers()

    def send_block(self, block: bytes) -> None:
        self._faulty.sent += len(block)
        super().send_block(block)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        """Log nothing: tests look at the list of requests."""


@dataclass
class World:
    """A server with one repository, and a person who works in it."""

    server: FaultyServer
    bare: Path
    folder: Path
    token_file: Path
    clock: FakeClock = field(default_factory=lambda: FakeClock(1_800_000_000.0))

    @property
    def url(self) -> str:
        return self.server.url("gitops.git")

    def repository(self, state: str = "state", **changes: object) -> GitRepository:
        """Make an adapter; those with the same `state` share a mirror."""
        settings: dict[str, object] = {"url": self.url, "branch": "main", "login": Login(self.token_file), **changes}
        return GitRepository(**settings, state=self.folder / state, clock=self.clock)  # type: ignore[arg-type]

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run Git in the bare repository itself, bypassing the server."""
        return self._run("git", *arguments, stdin=stdin)

    def _run(self, *command: str, stdin: bytes) -> str:
        person = {f"GIT_{who}_{what}": "person" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        index = str(self.folder / "person-index")
        env = {"PATH": os.environ["PATH"], "GIT_DIR": str(self.bare), "GIT_INDEX_FILE": index, **person}
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        ran = subprocess.run(command, input=stdin, capture_output=True, env={**env, **quiet}, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.decode().strip()

    def head(self) -> str:
        return self.git("rev-parse", "refs/heads/main")

    def log(self) -> list[str]:
        """Return the subjects of the branch's commits, newest first."""
        return self.git("log", "--format=%s", "refs/heads/main").splitlines()

    def commit(self, message: str, files: Mapping[str, bytes] | None = None, parent: str | None = None) -> str:
        """Commit to the branch as another person; with `parent`, rewrite the branch from there."""
        parent = parent or self.head()
        lines = "".join(
            f"100644 {self.git('hash-object', '-w', '--stdin', stdin=content)}\t{path}\n"
            for path, content in (files or {}).items()
        )
        script = 'git read-tree "$1" && git update-index --add --index-info && git write-tree'
        tree = self._run("sh", "-c", script, "sh", parent, stdin=lines.encode())
        commit = self.git("commit-tree", "-p", parent, "-F", "-", tree, stdin=message.encode())
        self.git("update-ref", "refs/heads/main", commit)
        return commit

    def promotions(self, identity: str) -> list[str]:
        """Return the branch's commits that carry the trailer `Promotion-Id: <identity>`, by Git's own parser."""
        lines = self.git("log", "--format=%H %(trailers:key=Promotion-Id,valueonly,separator=%x20)", "refs/heads/main")
        return [line.split()[0] for line in lines.splitlines() if line.split()[1:] == [identity]]


@contextmanager
def serving_world(folder: Path) -> Iterator[World]:
    """Serve a repository, in a folder whose name has a space."""
    folder = folder / "a folder"
    content = folder / "content"
    for path, data in CONTENT.items():
        (content / path).parent.mkdir(parents=True, exist_ok=True)
        (content / path).write_bytes(data)
    (content / "apps/run.sh").chmod(0o755)
    bare = create_repository(folder / "served", "gitops.git", content)
    token_file = folder / "the token"
    token_file.write_text(TOKEN + "\n")
    server = FaultyServer(folder / "served", TOKEN)
    with server.running():
        yield World(server, bare, folder, token_file)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server with a repository."""
    with serving_world(tmp_path) as served:
        yield served


def edit(
    identity: str = "iris/1/aaaaaaaaaaaa/1", content: bytes = b"image: repository:two\n", **changes: object
) -> FileEdit:
    """Return a promotion's edit of the manifest."""
    values: dict[str, object] = {
        "path": MANIFEST,
        "content": content,
        "subject": "Promote iris to version 1",
        "trailers": {"Promotion-Id": identity, "Model": "iris"},
        **changes,
    }
    return FileEdit(**values)  # type: ignore[arg-type]
