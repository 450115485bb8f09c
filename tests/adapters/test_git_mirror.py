"""The mirror is only a cache: if it is lost, broken, locked or behind a rewritten branch, the answers stay right."""

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestration.adapters.git.login import Login
from orchestration.adapters.git.mirror import Limits, Patience, _finish
from orchestration.adapters.git.repository import GitRepository
from orchestration.commands.sensor_tick import watch
from orchestration.promotion.ports import LeaseRecord, Pushed
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.sensor_rules import Cursor
from tests.adapters.git_fixtures import CONTENT, MANIFEST, World, edit, world
from tests.fakes.clock import FakeClock
from tests.fakes.world import POLICY_TEXT, WorldPlatform
from tests.fakes.world import World as Promotions

__all__ = ["world"]
_TRAILER = "Promote\n\nPromotion-Id: iris/{}/aaaaaaaaaaaa/1\n"


def _mirror(world: World) -> Path:
    (folder,) = (world.folder / "state/git").iterdir()
    return folder / "mirror"


def _count_git(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `git` on PATH that logs a line for each process and runs the real one; return the log."""
    real = shutil.which("git")
    lines, folder = world.folder / "calls", world.folder / "bin"
    folder.mkdir()
    program = folder / "git"
    program.write_text(f'#!/bin/sh\necho "$*" >> "{lines}"\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return lines


@pytest.mark.parametrize("damage", ["HEAD", "config", "objects", "packs", "everything", "ref"])
def test_a_broken_mirror_is_made_again(world: World, damage: str) -> None:
    """Whatever part of the mirror is lost or overwritten, everything is read and pushed as before."""
    first = world.commit(_TRAILER.format(1), {"README.md": b"one"})
    repository = world.repository()
    repository.history(repository.fetch(), "iris")
    mirror = _mirror(world)
    if damage == "everything":
        shutil.rmtree(world.folder / "state")
    elif damage == "objects":
        shutil.rmtree(mirror / "objects")
    elif damage == "packs":
        for pack in mirror.glob("objects/pack/*.pack"):
            pack.chmod(0o600)
            pack.write_bytes(b"garbage")
    else:
        path = mirror / {"ref": "refs/incumbent/head"}.get(damage, damage)
        path.write_bytes(b"\0garbage")
    again = world.repository()
    head = again.fetch()
    assert head == first
    assert again.read_file(head, "README.md") == b"one"
    assert [commit.commit for commit in again.history(head, "iris")] == [first]
    lease = again.acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    assert isinstance(again.push_edit(lambda head: edit("iris/2/aaaaaaaaaaaa/1"), lease, 60.0), Pushed)


def test_lock_files_of_dead_processes_are_removed(world: World) -> None:
    """Lock files that a killed Git left behind cost nothing, not even the mirror (argo-cd#7898, #17623, #27930)."""
    repository = world.repository()
    repository.fetch()
    mirror = _mirror(world)
    inode = mirror.stat().st_ino
    for name in ("HEAD", "config", "packed-refs", "shallow", "refs/incumbent/head", "objects/info/commit-graph"):
        (mirror / f"{name}.lock").touch()
    head = world.commit("Later", {"README.md": b"later"})
    assert repository.fetch() == head
    assert list(mirror.rglob("*.lock")) == []
    assert mirror.stat().st_ino == inode


def test_a_living_process_is_waited_for(world: World) -> None:
    """While another process, or the orphaned Git of a killed one, uses the mirror, its lock files are left alone."""
    repository = world.repository()
    repository.fetch()
    mirror = _mirror(world)
    script = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(mirror.parent / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        (mirror / "refs/incumbent/head.lock").touch()
        fetched = threading.Thread(target=repository.fetch)
        fetched.start()
        fetched.join(0.5)
        assert fetched.is_alive()
        assert (mirror / "refs/incumbent/head.lock").exists()
        (mirror / "refs/incumbent/head.lock").unlink()
        holder.stdin.close()
    fetched.join(60)
    assert not fetched.is_alive()


def test_a_rewritten_branch_is_followed(world: World) -> None:
    """After a force-push the history is that of the new branch alone, although the old commits were already scanned."""
    base = world.head()
    old = world.commit(_TRAILER.format(1), {"README.md": b"one"})
    repository = world.repository()
    assert [commit.commit for commit in repository.history(repository.fetch(), "iris")] == [old]
    new = world.commit(_TRAILER.format(2), {"README.md": b"two"}, parent=base)
    head = repository.fetch()
    assert head == new
    assert [commit.commit for commit in repository.history(head, "iris")] == [new]
    assert not repository.is_ancestor(old, head)


def test_a_merge_that_brings_a_change_in_is_the_change(world: World) -> None:
    """What a person changed on another branch is on ours since the merge, and no blob is fetched to find that out."""
    base = world.head()
    side = world.commit("Change the image", {MANIFEST: b"image: repository:two\n"})
    tree = world.git("rev-parse", f"{side}^{{tree}}")
    merge = world.git("commit-tree", tree, "-p", base, "-p", side, "-m", "Merge the change")
    world.git("update-ref", "refs/heads/main", merge)
    repository = world.repository()
    head = repository.fetch()
    sent = len(world.server.requests)
    changes = repository.changes(head, MANIFEST)
    assert [change.commit for change in changes] == [merge, base]
    assert len(world.server.requests) == sent


def test_a_merge_brings_promotions_in(world: World) -> None:
    """A promotion on the second side of a merge is part of the history."""
    base = world.head()
    side = world.commit(_TRAILER.format(1), {"README.md": b"one"}, parent=base)
    main = world.commit("Main goes on", {"apps/other": b"x"}, parent=base)
    repository = world.repository()
    assert repository.history(repository.fetch(), "iris") == ()
    tree = world.git("rev-parse", f"{main}^{{tree}}")
    merge = world.git("commit-tree", tree, "-p", main, "-p", side, "-m", "Merge")
    world.git("update-ref", "refs/heads/main", merge)
    assert [commit.commit for commit in repository.history(repository.fetch(), "iris")] == [side]


@pytest.mark.parametrize("damage", [None, b"", b"garbage", b"\xff\xfe", "forged"])
def test_the_index_of_trailers_is_verified(world: World, damage: bytes | str | None) -> None:
    """A lost, garbled or edited index is never believed, and is made anew."""
    promotion = world.commit(_TRAILER.format(1), {"README.md": b"one"})
    repository = world.repository()
    head = repository.fetch()
    expected = repository.history(head, "iris")
    index = _mirror(world).parent / "history"
    if damage is None:
        index.unlink()
    elif damage == "forged":
        index.write_text(index.read_text().replace("iris/1/", "iris/9/"))
    else:
        assert isinstance(damage, bytes)
        index.write_bytes(damage)
    assert repository.history(head, "iris") == expected
    assert [commit.commit for commit in expected] == [promotion]


def test_the_index_reads_new_commits_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit is scanned twice: the next walk begins after the last head."""
    before = world.commit(_TRAILER.format(1), {"README.md": b"one"})
    repository = world.repository()
    repository.history(repository.fetch(), "iris")
    after = world.commit(_TRAILER.format(2), {"README.md": b"two"})
    calls = _count_git(world, monkeypatch)
    head = repository.fetch()
    assert [commit.commit for commit in repository.history(head, "iris")] == [after, before]
    repository.history(head, "iris")
    (walk,) = [line for line in calls.read_text().splitlines() if " log " in line]
    assert f"^{before}" in walk


def test_costs_do_not_grow_with_the_repository(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 2000 more files in other folders a promotion runs no more Git processes and transfers hardly more bytes."""
    calls = _count_git(world, monkeypatch)

    def promote(state: str, identity: str) -> tuple[int, int]:
        calls.write_text("")
        world.server.sent = 0
        repository = world.repository(state)
        lease = repository.acquire_lease("iris", state, 60.0)
        assert isinstance(lease, LeaseRecord)

        def decide(head: str) -> object:
            assert repository.read_file(head, MANIFEST) is not None
            return edit(identity, content=identity.encode())

        pushed = repository.push_edit(decide, lease, 60.0)
        assert isinstance(pushed, Pushed)
        repository.release_lease(pushed.lease)
        processes = [line for line in calls.read_text().splitlines() if "git-upload-pack" not in line]
        return len([line for line in processes if "http-backend" not in line]), world.server.sent

    small = promote("small", "iris/1/aaaaaaaaaaaa/1")
    lines = "".join(f"blob\nmark :{n + 1}\ndata 2000\n{'x' * 1990}{n:010d}\n" for n in range(2000))
    files = "".join(f"M 100644 :{n + 1} bulk/{n // 100}/{n}.bin\n" for n in range(2000))
    commit = f"commit refs/heads/main\ncommitter p <p> 1799999999 +0000\ndata 4\nbulk\nfrom {world.head()}\n{files}\n"
    world.git("fast-import", "--quiet", stdin=(lines + commit).encode())
    large = promote("large", "iris/2/aaaaaaaaaaaa/1")
    assert large[0] == small[0]
    # The listings of the new folders, 2000 names and ids, are transferred once; their 4 MB of content never.
    assert large[1] - small[1] < 200_000


def test_a_server_without_partial_clones(world: World) -> None:
    """When the server cannot leave content out, everything is fetched and works the same."""
    full = world.folder / "served/full.git"
    world.git("clone", "--quiet", "--bare", str(world.bare), str(full))
    with full.joinpath("config").open("a") as config:
        config.write("[uploadpack]\n\tallowFilter = false\n")
    repository = GitRepository(f"file://{full}", "main", login=Login(), state=world.folder / "state", clock=world.clock)
    head = repository.fetch()
    assert repository.read_file(head, MANIFEST) == CONTENT[MANIFEST]
    lease = repository.acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    assert isinstance(repository.push_edit(lambda head: edit(), lease, 60.0), Pushed)


def test_content_is_fetched_for_the_asked_path_alone(world: World) -> None:
    """Reading one file fetches that file's content and no other."""
    repository = world.repository()
    head = repository.fetch()
    assert repository.read_file(head, MANIFEST) == CONTENT[MANIFEST]
    listed = subprocess.run(
        ["git", "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"],
        env={"PATH": os.environ["PATH"], "GIT_DIR": str(_mirror(world))},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    blobs = [line for line in listed.splitlines() if line.startswith("blob")]
    assert blobs == [f"blob {world.git('rev-parse', f'{head}:{MANIFEST}')}"]


def test_local_questions_never_reach_the_network(world: World) -> None:
    """That an unknown commit is not an ancestor is answered from the mirror; the server is not asked for any object."""
    repository = world.repository()
    head = repository.fetch()
    world.server.requests.clear()
    assert not repository.is_ancestor("1" * 40, head)
    assert not repository.is_ancestor(head, "1" * 40)
    assert not repository.is_ancestor("HEAD", head)
    assert not repository.is_ancestor("--all", head)
    assert world.server.requests == []
    assert "promisor" not in (_mirror(world) / "config").read_text()


def test_piled_up_packs_are_packed(world: World) -> None:
    """A mirror with very many packs is tidied by the next process, which still knows what the mirror left out."""
    repository = world.repository()
    for number in range(60):
        world.commit(f"Commit {number}", {"README.md": b"%d" % number})
        repository.fetch()
    assert len(list(_mirror(world).glob("objects/pack/*.pack"))) > 50
    again = world.repository()
    head = again.fetch()
    assert len(list(_mirror(world).glob("objects/pack/*.pack"))) < 5
    assert again.read_file(head, MANIFEST) == CONTENT[MANIFEST]


def test_an_unknown_commit_is_an_error(world: World) -> None:
    """Reading a file of a commit that is not on the branch is an error that says so, not a missing file."""
    repository = world.repository()
    with pytest.raises(DependencyError, match="no commit '1111"):
        repository.read_file("1" * 40, MANIFEST)


def test_a_state_folder_that_cannot_be_used(world: World) -> None:
    """A file in the place of the state folder is an error that names the setting."""
    (world.folder / "state").write_text("not a folder")
    with pytest.raises(DependencyError, match="INCUMBENT_STATE"):
        world.repository().fetch()


class SilentServer:
    """Accepts every connection and never answers, as a server does whose workers all hang."""

    def __init__(self) -> None:
        self.accepted: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> "SilentServer":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self.accepted:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.accepted.append(self._listening.accept()[0])

    def repository(self, scheme: str, state: Path, unasked: float = 30.0) -> GitRepository:
        limits = Limits(Patience(1, 2.0), Patience(1, 2.0), Patience(1, 4.0), unasked)
        url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}/gitops.git"
        return GitRepository(url, "main", login=Login(), state=state, clock=FakeClock(), limits=limits)


def only_programs(folder: Path, *names: str) -> Path:
    """A folder for PATH that holds these programs alone."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, f"{name} is missing on this machine"
        (folder / name).symlink_to(found)
    return folder


@pytest.mark.parametrize("scheme", ["http", "https", pytest.param("ssh", marks=pytest.mark.platform)])
@pytest.mark.parametrize("programs", ["all", "slim"])
def test_a_server_that_never_answers_is_given_up_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, programs: str
) -> None:
    """In bounded time, whether Git is connected or still shakes hands, and by its address; then nothing asks again.

    Also in a slim image, which has neither ps nor pgrep.
    """
    if programs == "slim":
        programs_of_git = ["git", "ssh"] if scheme == "ssh" else ["git"]
        monkeypatch.setenv("PATH", str(only_programs(tmp_path / "bin", "env", *programs_of_git)))
    with SilentServer() as server:
        began = time.monotonic()
        with pytest.raises(
            DependencyError, match=rf"^Git repository {scheme}://127.0.0.1:\d+/gitops.git: .*"
        ) as raised:
            server.repository(scheme, tmp_path).fetch()
        assert re.search(r"found no answer within \d s\. Check that the server", str(raised.value))
        assert time.monotonic() - began < 10
        asked = len(server.accepted)
        again = server.repository(scheme, tmp_path)  # as another thread or process has it
        for ask in (again.fetch, lambda: again.lease("iris"), lambda: again.tags_below("incumbent/iris/acts/")):
            with pytest.raises(DependencyError, match=r"found no answer within 2 s\."):
                ask()
        assert len(server.accepted) == asked


def test_all_of_a_session_is_ended_when_its_time_is_over() -> None:
    """A helper that the command left behind would keep its pipes, and the mirror's lock, for as long as it likes."""
    command = ["sh", "-c", "sleep 60 & echo; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the helper runs
        _, _, _, was_killed = _finish(process, 0.1)
        assert was_killed
        ended, _, _ = select.select([process.stdout], [], [], 5)
        assert ended, "the helper still has the pipe"
        assert process.stdout.read() == b""


def test_a_missing_ssh_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim images have Git without ssh; what to install is said, instead of what Git's shell says."""
    monkeypatch.setenv("PATH", str(only_programs(tmp_path / "bin", "env", "git")))
    repository = GitRepository("ssh://127.0.0.1:9/x", "main", login=Login(), state=tmp_path, clock=FakeClock())
    with pytest.raises(DependencyError) as raised:
        repository.fetch()
    assert str(raised.value) == (
        "Git: expected the program ssh on PATH, found no such program. Install an OpenSSH client."
    )


def test_a_server_that_did_not_answer_is_asked_again_later(tmp_path: Path) -> None:
    """It may be well by then."""
    with SilentServer() as server:
        for _ in range(2):
            with pytest.raises(DependencyError):
                server.repository("http", tmp_path, unasked=0.0).lease("iris")
        assert len(server.accepted) == 2


def test_a_tick_ends_while_the_git_server_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Dagster would end it, which names nobody: the server is asked for the first policy alone."""
    with SilentServer() as server:
        world = Promotions()
        world.policies["wine-edge"] = POLICY_TEXT.replace("model: iris", "model: wine")
        world.register()
        platform = WorldPlatform(world)
        repository = server.repository("http", tmp_path)
        monkeypatch.setattr(platform, "git", lambda _policy=None: repository)
        began = time.monotonic()
        seen = watch(platform, NoRuns(), Cursor())
        assert time.monotonic() - began < 10
        assert len(seen.unwatched) == 2
        assert all("waits for an answer of Git repository http://127.0.0.1:" in why for why in seen.unwatched)
        assert len(server.accepted) == 2  # a fetch, and the small question


class NoRuns:
    def count(self, request: str) -> int:
        return 0

    def cancelled(self, request: str) -> str | None:
        return None

    def is_young(self, request: str, *, created_after: float, started_after: float) -> bool:
        return False
