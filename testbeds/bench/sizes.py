"""Curves over what grows in a repository: its files, its commits, and the manifest that a promotion edits."""

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration.adapters.clock import SystemClock
from orchestration.adapters.git.login import Login
from orchestration.adapters.git.repository import GitRepository
from orchestration.promotion.manifest import Edited, set_image
from orchestration.promotion.manifest_place import Selector
from orchestration.promotion.ports import FileEdit, LeaseBusy, Pushed
from testbeds.bench.rows import Curve
from testbeds.common.git_server import GitHandler, GitServer

_BRANCH, _MANIFEST, _POLICY, _APPLICATION = "main", "apps/iris/deployment.yaml", "iris", "iris"
_TTL = 60.0
_TIMES = 7
_FILES = (100, 10_000, 100_000)
_COMMITS = (10, 10_000)
_BYTES = (1_000, 200_000, 4_000_000)
_LIMIT_SECONDS = 0.3
"""The most that an edit of 200 kB may take."""
_DEPLOYMENT = b"""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: iris, namespace: ml}
spec:
  template:
    spec:
      containers:
        - name: server
          image: ghcr.io/acme/iris:1
"""
_OTHER = b"""\
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings-%d
  labels: {app.kubernetes.io/part-of: iris}
data:
  threshold: "0.5" # what counts as certain
  names: setosa, versicolor, virginica
"""


class _Silent(GitHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
        """Say nothing: the table is what a person wants to read."""


def over_files() -> Curve:
    """How long a promotion's commit takes while the repository has ever more files."""
    return Curve("commit", "files in the repository", _commits({size: _with_files(size) for size in _FILES}))


def over_commits() -> Curve:
    """How long a promotion's commit takes while the branch has ever more commits."""
    return Curve("commit", "commits of the branch", _commits({size: _with_commits(size) for size in _COMMITS}))


def over_manifests() -> tuple[Curve, Curve]:
    """How long the edit of a manifest takes while the file grows: up to 200 kB, which has a limit, and beyond."""
    points = tuple((float(size), _edits(_manifest(size))) for size in _BYTES)
    return (
        Curve("edit", "bytes of the manifest, up to 200 kB", points[:2], _LIMIT_SECONDS),
        Curve("edit", "bytes of the manifest", points),
    )


def _manifest(size: int) -> bytes:
    """Return a Deployment among as many other objects as fill the size."""
    others = (size - len(_DEPLOYMENT)) // len(_OTHER)
    return b"".join([_DEPLOYMENT, *(_OTHER % number for number in range(others))])


def _edits(manifest: bytes) -> tuple[float, ...]:
    selector = Selector("deployment.yaml", kind="Deployment", name="iris", container="server")
    seconds = []
    for number in range(_TIMES):
        # Another size each time: the pipeline keeps what it parsed of a content that it has seen.
        content = manifest + b"# %d\n" % number
        began = time.monotonic()
        edited = set_image(content, selector, "ghcr.io/acme/iris:2")
        seconds.append(time.monotonic() - began)
        assert isinstance(edited, Edited), edited
    return tuple(seconds)


def _commits(streams: dict[int, Callable[[], Iterator[bytes]]]) -> tuple[tuple[float, tuple[float, ...]], ...]:
    return tuple((float(size), _commit_times(stream)) for size, stream in streams.items())


def _commit_times(stream: Callable[[], Iterator[bytes]]) -> tuple[float, ...]:
    """Return the seconds of each commit with its lease, after the first, which makes the mirror."""
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder), stream) as repository:
        seconds = []
        for number in range(_TIMES + 1):
            began = time.monotonic()
            _commit(repository, number)
            seconds.append(time.monotonic() - began)
        return tuple(seconds[1:])


def _commit(repository: GitRepository, number: int) -> None:
    lease = repository.acquire_lease(_APPLICATION, "bench", _TTL)
    assert not isinstance(lease, LeaseBusy), lease

    def decide(head: str) -> FileEdit:
        assert repository.read_file(head, _MANIFEST) is not None
        repository.history(head, _POLICY)
        trailers = {"Promotion-Id": f"{_POLICY}/{number}/{number:012x}/1"}
        return FileEdit(_MANIFEST, b"image: %d\n" % number, f"Promote {number}", trailers)

    pushed = repository.push_edit(decide, lease, _TTL)
    assert isinstance(pushed, Pushed), pushed
    repository.release_lease(pushed.lease)


@contextmanager
def _served(folder: Path, stream: Callable[[], Iterator[bytes]]) -> Iterator[GitRepository]:
    """Serve a bare repository that is made of a stream of `git fast-import`, and open it as the pipeline does."""
    bare = folder / "served" / "bench.git"
    bare.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", "--bare", f"--initial-branch={_BRANCH}", bare], check=True)
    with subprocess.Popen(["git", "-C", bare, "fast-import", "--quiet"], stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        program.stdin.writelines(stream())
    if program.returncode:
        raise RuntimeError(f"git fast-import ended with {program.returncode}")
    token = folder / "token"
    token.write_text("only-for-this-run", encoding="utf-8")
    server = GitServer(bare.parent, token.read_text(encoding="utf-8"), handler=_Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield GitRepository(
            server.url(bare.name), _BRANCH, login=Login(token), state=folder / "state", clock=SystemClock()
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _with_files(count: int) -> Callable[[], Iterator[bytes]]:
    def stream() -> Iterator[bytes]:
        yield _begin(1)
        yield _file(_MANIFEST, b"image: 0\n")
        for number in range(count - 1):
            yield _file(f"others/{number // 1000:03}/{number:06}.yaml", b"number: %d\n" % number)

    return stream


def _with_commits(count: int) -> Callable[[], Iterator[bytes]]:
    def stream() -> Iterator[bytes]:
        for number in range(count):
            yield _begin(number + 1)
            yield _file(_MANIFEST if number == 0 else "README.md", b"%d\n" % number)

    return stream


def _begin(number: int) -> bytes:
    text = b"commit refs/heads/%s\nmark :%d\ncommitter Ana <ana@localhost> %d +0000\ndata 2\nx\n"
    begun = text % (_BRANCH.encode(), number, 1_700_000_000 + number)
    return begun if number == 1 else begun + b"from :%d\n" % (number - 1)


def _file(path: str, content: bytes) -> bytes:
    return b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content)
