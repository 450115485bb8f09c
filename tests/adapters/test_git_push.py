"""One commit per promotion, whatever happens to the push, to the pushing process and to its competitors."""

import fcntl
import itertools
import multiprocessing
import signal
import threading
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

import pytest

from orchestration.promotion.ports import FileEdit, LeaseBusy, LeaseRecord, Pushed
from orchestration.promotion.problems import DependencyError
from testbeds.common import git_server
from tests.adapters import git_promoter
from tests.adapters.git_fixtures import MANIFEST, World, edit, world

__all__ = ["world"]
_ID = "iris/1/aaaaaaaaaaaa/1"
_PUSH = "POST /gitops.git/git-receive-pack"
_PROCESSES = multiprocessing.get_context("forkserver")


def _lease(world: World, holder: str = "run one", ttl: float = 60.0) -> LeaseRecord:
    lease = world.repository().acquire_lease("iris", holder, ttl)
    assert isinstance(lease, LeaseRecord)
    return lease


def _promoter(world: World, holder: str, state: str = "state") -> ForkServerProcess:
    """Start a process of its own; what it writes at its end is in a file named after the holder."""
    # Not each of them imports everything again. A process has one such list, which the last that sets it decides.
    _PROCESSES.set_forkserver_preload([git_promoter.__name__])
    arguments = (world.url, str(world.token_file), str(world.folder / state), holder, _ID)
    process = _PROCESSES.Process(target=git_promoter.write, args=(str(world.folder / holder), *arguments))
    process.start()
    return process


def test_only_the_manifest_changes(world: World) -> None:
    """The commit's tree differs in exactly one entry, the file's mode is kept, and Git finds no fault."""
    repository = world.repository()
    first = repository.push_edit(lambda head: edit(), _lease(world), 60.0)
    assert isinstance(first, Pushed)
    assert world.git("diff", "--name-status", f"{first.commit}^", first.commit) == f"M\t{MANIFEST}"
    script = edit("iris/2/aaaaaaaaaaaa/1", b"#!/bin/sh\ntrue\n", path="apps/run.sh")
    second = repository.push_edit(lambda head: script, first.lease, 60.0)
    assert isinstance(second, Pushed)
    assert world.git("ls-tree", second.commit, "apps/run.sh").startswith("100755 blob")
    world.git("fsck", "--strict")


def test_the_commits_date_never_goes_back(world: World) -> None:
    """A commit on top of one from the future takes its parent's date, so that a walk by date finds it."""
    world.clock.time = 1_000_000.0
    parents_date = int(world.git("log", "-1", "--format=%ct", "main"))
    pushed = world.repository().push_edit(lambda head: edit(), _lease(world), 60.0)
    assert isinstance(pushed, Pushed)
    assert int(world.git("log", "-1", "--format=%ct", pushed.commit)) == parents_date


def test_several_competitors_in_a_row(world: World) -> None:
    """Three races lost in a row end in one commit on top of all three, with hardly a pause."""
    lease = _lease(world)
    for number in range(3):
        world.server.order(_PUSH, before=partial(world.commit, f"Other {number}", {"README.md": b"%d" % number}))
    pushed = world.repository().push_edit(lambda head: edit(), lease, 60.0)
    assert isinstance(pushed, Pushed)
    assert pushed.attempts == 4
    assert world.log()[:4] == ["Promote iris to version 1", "Other 2", "Other 1", "Other 0"]
    assert len(world.clock.slept) == 3
    assert max(world.clock.slept) <= 0.3


@pytest.mark.parametrize("status", [None, 500, 503])
def test_a_lost_acknowledgement_is_one_commit(world: World, status: int | None) -> None:
    """A push whose answer is cut off counts; one that a failing proxy turned away is repeated. Both make one commit."""
    lease = _lease(world)
    if status is None:
        world.server.order(_PUSH, cut=True)
    else:
        world.server.order(_PUSH, status=status, times=2)
    decided: list[str] = []

    def decide(head: str) -> FileEdit:
        decided.append(head)
        return edit()

    pushed = world.repository().push_edit(decide, lease, 60.0)
    assert isinstance(pushed, Pushed)
    assert world.promotions(_ID) == [pushed.commit]
    assert world.repository().lease("iris") == pushed.lease
    assert len(decided) == (1 if status is None else pushed.attempts)


def test_a_lost_acknowledgement_and_then_a_dead_server(world: World) -> None:
    """The commit is recognised although the server is down at first and others have committed on top of it."""
    lease = _lease(world)
    refs = "GET /gitops.git/info/refs?service=git-upload-pack"

    def others_go_on() -> None:
        world.commit("Later", {"README.md": b"later"})
        world.server.order(refs, status=503, times=3)

    world.server.order(_PUSH, cut=True, after=others_go_on)
    pushed = world.repository().push_edit(lambda head: edit(), lease, 60.0)
    assert isinstance(pushed, Pushed)
    assert world.promotions(_ID) == [pushed.commit]
    assert world.log()[0] == "Later"


def test_lost_answers_about_leases_and_tags(world: World) -> None:
    """A lease taken, renewed or released without an answer, and a tag pushed without an answer, are recognised."""
    repository = world.repository()
    world.server.order(_PUSH, cut=True, times=4)
    lease = repository.acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    renewed = repository.renew_lease(lease, 60.0)
    assert isinstance(renewed, LeaseRecord)
    tagged = repository.create_tag("incumbent/iris/1-1", repository.fetch(), "Passed", renewed, 60.0)
    assert isinstance(tagged, LeaseRecord)
    assert repository.lease("iris") == tagged
    repository.release_lease(tagged)
    assert repository.lease("iris") is None
    assert [fault.times for fault in world.server.faults] == [0]


def test_a_push_that_arrives_late_still_counts_once(world: World) -> None:
    """A push that the server applies only after it was looked for fences its own repetition, and is the result."""
    lease = _lease(world)
    world.server.order(_PUSH, keep=True)
    world.server.order(_PUSH, before=world.server.carry_out_kept)
    pushed = world.repository().push_edit(lambda head: edit(), lease, 60.0)
    assert isinstance(pushed, Pushed)
    assert world.promotions(_ID) == [pushed.commit]
    assert world.repository().lease("iris") == pushed.lease


def test_a_rule_of_the_server_is_reported_and_not_hammered(world: World) -> None:
    """A hook that declines the branch ends in an error that names the server's rules, after two pushes, not ten."""
    hook = world.bare / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ncase "$1" in refs/heads/*) echo "main is protected" >&2; exit 1;; esac\n')
    hook.chmod(0o755)
    lease = _lease(world)
    world.server.requests.clear()
    with pytest.raises(DependencyError, match=r"main is protected.*Allow the token's owner to push"):
        world.repository().push_edit(lambda head: edit(), lease, 60.0)
    assert world.server.requests.count(_PUSH) == 2
    assert world.log() == ["Start with what is deployed"]
    assert world.repository().lease("iris") == lease


def test_a_token_that_may_only_read(world: World) -> None:
    """A forbidden push is an error at once, which says what the token lacks."""
    lease = _lease(world)
    world.server.order("git-receive-pack", status=403, times=99)
    with pytest.raises(DependencyError, match=r"forbids this.*write access"):
        world.repository().push_edit(lambda head: edit(), lease, 60.0)
    assert world.clock.slept == []


def test_a_server_that_never_answers_a_push(world: World) -> None:
    """After ten attempts comes an error; nothing is committed, and the lease still stands."""
    lease = _lease(world)
    world.server.order(_PUSH, status=500, times=99)
    with pytest.raises(DependencyError, match="push to the branch"):
        world.repository().push_edit(lambda head: edit(), lease, 60.0)
    assert world.log() == ["Start with what is deployed"]
    assert world.repository().lease("iris") == lease


def test_racing_processes_make_one_commit(world: World) -> None:
    """Of several processes with the same promotion, on a shared mirror and on their own, exactly one commits."""
    started = [_promoter(world, f"run {number}", state) for number, state in enumerate(["a", "a", "b", "c"])]
    for process in started:
        process.join(200)
    ends = [(world.folder / f"run {number}").read_text(encoding="utf-8") for number in range(len(started))]
    assert ends.count("pushed") == 1
    assert set(ends) <= {"pushed", "busy", "found"}
    assert len(world.promotions(_ID)) == 1


def test_two_owners_never_both_have_the_lease(world: World) -> None:
    """When two runs see the same expired lease, the one that pushes second learns that it is busy."""
    _lease(world, "run zero", ttl=1.0)
    world.clock.sleep(2.0)
    winner: list[LeaseRecord | LeaseBusy] = []
    world.server.order(
        _PUSH, before=lambda: winner.append(world.repository("b").acquire_lease("iris", "run two", 60.0))
    )
    answer = world.repository("a").acquire_lease("iris", "run one", 60.0)
    assert isinstance(winner[0], LeaseRecord)
    assert answer == LeaseBusy(winner[0])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_request_then_again(world: World, moment: str) -> None:
    """After SIGKILL at any request to the server, before or after it is carried out, a second run leaves one commit."""
    start, starting = world.head(), threading.Lock()
    for number in itertools.count():
        world.server.requests.clear()
        victim: list[ForkServerProcess] = []

        def kill(at: int = number, victim: list[ForkServerProcess] = victim) -> None:
            if len(world.server.requests) == at + 1:
                with starting:
                    victim[0].kill()

        world.server.faults[:] = [world.server.fault("git", times=99, **{moment: kill})]
        with starting:
            victim.append(_promoter(world, "run one"))
        victim[0].join(200)
        end = victim[0].exitcode
        world.server.faults.clear()
        if end == 0:
            assert number > 8, "the promotion ended before it could be killed"
            break
        assert end == -signal.SIGKILL
        again = git_promoter.main(world.url, str(world.token_file), str(world.folder / "state"), "run one", _ID)
        assert again in ("pushed", "found")
        assert len(world.promotions(_ID)) == 1, f"killed {moment} request {number}"
        world.git("update-ref", "refs/heads/main", start)
        world.git("update-ref", "-d", "refs/incumbent/lease/iris")


def test_the_orphan_of_a_killed_process_keeps_its_mirror(world: World) -> None:
    """While the Git of a killed process still runs, no other process may work in its mirror."""
    victim: list[ForkServerProcess] = []
    excluded: list[bool] = []
    starting = threading.Lock()

    def kill_and_try() -> None:
        with starting:
            victim[0].kill()
        wait([victim[0].sentinel])
        (lock,) = (world.folder / "state/git").glob("*/lock")
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                excluded.append(True)
            else:
                excluded.append(False)

    world.server.order(_PUSH, before=kill_and_try)
    with starting:
        victim.append(_promoter(world, "run one"))
    victim[0].join(200)
    assert world.repository().fetch() == world.head()  # waits for the orphan to end
    assert excluded == [True]


@pytest.mark.parametrize(
    ("status", "next_step"),
    [(401, "INCUMBENT_GIT_TOKEN_FILE"), (403, "write access"), (404, "INCUMBENT_GIT_URL"), (503, "healthy")],
)
def test_a_server_that_takes_no_push_is_found_out_by_a_dry_run(world: World, status: int, next_step: str) -> None:
    """A token that may only read is refused when the server is asked for the refs to push to; nothing was pushed."""
    world.repository().fetch()
    world.server.order("info/refs?service=git-receive-pack", status=status, times=9)
    with pytest.raises(DependencyError, match=next_step):
        world.repository().check_push()
    assert not [request for request in world.server.requests if request.startswith(_PUSH)]


def test_a_server_without_atomic_pushes_is_found_out_by_a_dry_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says whether it takes atomic pushes before anything is sent."""
    monkeypatch.setitem(git_server._SETTINGS, "receive.advertiseAtomic", "false")
    with pytest.raises(DependencyError, match="no atomic pushes"):
        world.repository().check_push()


def test_a_dry_run_does_not_prove_what_hooks_decide(world: World) -> None:
    """A hook runs only when a push arrives, so a dry run passes on a server that refuses every push."""
    hook = world.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    world.repository().check_push()
    refs = world.git("for-each-ref", "--format=%(refname)")
    assert refs == "refs/heads/main"
