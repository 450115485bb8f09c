"""The mirror is only a cache: if it is lost, broken, locked or behind a rewritten branch, the answers stay right."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestration.adapters.git.repository import GitRepository
from orchestration.promotion.ports import LeaseRecord, Pushed
from orchestration.promotion.problems import DependencyError
from tests.adapters.git_fixtures import CONTENT, MANIFEST, World, edit, world

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
    repository = GitRepository(
        f"file://{full}", "main", token_file=None, state=world.folder / "state", clock=world.clock
    )
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
