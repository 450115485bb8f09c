"""What every `GitOpsRepository` does: the real adapter with a real server, and the fake that replaces both in tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.branch_view import acts
from orchestration.promotion.ports import (
    FileEdit,
    GitOpsRepository,
    LeaseBusy,
    LeaseLost,
    LeaseRecord,
    Pushed,
    TagRecord,
)
from orchestration.promotion.problems import DependencyError
from tests.adapters.git_fixtures import CONTENT, MANIFEST, World, edit, serving_world
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGitRepository

_EDITED = b"image: repository:two\n"


@dataclass(frozen=True)
class Scene:
    """An implementation of the port, and what other people do to its repository."""

    repository: GitOpsRepository
    elsewhere: GitOpsRepository
    """The same repository, as another machine sees it."""
    clock: FakeClock
    commit_by_another: Callable[[str], str]
    """Makes a commit with that subject in README.md, and returns its id."""
    before_next_push: Callable[[Callable[[], None]], None]
    subjects: Callable[[], list[str]]


@contextmanager
def _fake() -> Iterator[Scene]:
    clock = FakeClock(1_800_000_000.0)
    fake = FakeGitRepository(clock, CONTENT)
    yield Scene(
        fake,
        fake,
        clock,
        lambda subject: fake.commit(subject, {"README.md": subject.encode()}),
        fake.before_push.append,
        lambda: [commit.subject for commit in fake.log],
    )


@contextmanager
def _real(folder: Path) -> Iterator[Scene]:
    with serving_world(folder) as world:
        yield Scene(
            world.repository(),
            world.repository("another machine"),
            world.clock,
            lambda subject: world.commit(subject, {"README.md": subject.encode()}),
            lambda action: _before_push(world, action),
            world.log,
        )


def _before_push(world: World, action: Callable[[], None]) -> None:
    # Between the advertisement of the refs and the push itself: the narrowest place for a race.
    world.server.order("POST /gitops.git/git-receive-pack", before=action)


@pytest.fixture(params=["real", "fake"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """The real adapter, and then the fake."""
    with _real(tmp_path) if request.param == "real" else _fake() as scene:
        yield scene


def _leased(scene: Scene, holder: str = "run one", ttl: float = 60.0) -> LeaseRecord:
    lease = scene.repository.acquire_lease("iris", holder, ttl)
    assert isinstance(lease, LeaseRecord)
    return lease


def _pushed(scene: Scene, lease: LeaseRecord, change: FileEdit | None = None) -> Pushed:
    pushed = scene.repository.push_edit(lambda head: change or edit(), lease, 60.0)
    assert isinstance(pushed, Pushed)
    return pushed


def test_reads_files_of_a_commit(scene: Scene) -> None:
    """A file is read as it was at that commit, and a path without a file is None."""
    first = scene.repository.fetch()
    scene.commit_by_another("later")
    second = scene.repository.fetch()
    assert scene.repository.read_file(first, "README.md") == CONTENT["README.md"]
    assert scene.repository.read_file(second, "README.md") == b"later"
    assert scene.repository.read_file(second, "apps/none.yaml") is None


def test_lists_the_files_below_a_folder(scene: Scene) -> None:
    """All files below a folder are listed with their whole paths, of the commit that is asked for."""
    head = scene.repository.fetch()
    below = ("apps/iris classifier/deployment.yaml", "apps/iris classifier/service.yaml")
    assert scene.repository.list_files(head, "apps/iris classifier") == below
    assert scene.repository.list_files(head, ".") == tuple(sorted(CONTENT))
    assert scene.repository.list_files(head, "apps/iris") == ()


def test_a_check_of_the_push_pushes_nothing(scene: Scene) -> None:
    """A server that takes pushes passes, and has no new commit, lease or tag afterwards."""
    before = scene.repository.fetch()
    scene.repository.check_push()
    assert scene.elsewhere.fetch() == before
    assert scene.repository.lease("dry-run") is None
    assert scene.repository.tags_below("incumbent/") == ()
    assert scene.repository.tag("incumbent/dry-run") is None
    assert scene.repository.address().branch == "main"


def test_pushes_one_commit_with_its_trailers(scene: Scene) -> None:
    """An edit becomes one commit on the branch, which its trailers identify, with nothing else in the diff."""
    before = scene.repository.fetch()
    pushed = _pushed(scene, _leased(scene))
    head = scene.repository.fetch()
    assert head == pushed.commit
    assert pushed.attempts == 1
    (commit,) = scene.repository.history(head, "iris")
    assert (commit.commit, commit.parent, commit.subject) == (pushed.commit, before, "Promote iris to version 1")
    assert dict(commit.trailers) == {"Promotion-Id": "iris/1/aaaaaaaaaaaa/1", "Model": "iris"}
    assert commit.committed_at == scene.clock.now()
    assert scene.repository.read_file(head, MANIFEST) == _EDITED
    changed = [line for line in scene.repository.diff(head).splitlines() if line[:1] in "+-" and line[1:2] not in "+-"]
    assert changed == ["-image: repository:one", "+image: repository:two"]


def test_history_is_the_policys_alone(scene: Scene) -> None:
    """A policy's promotions and rollbacks are listed, newest first; those of a policy with a longer name are not."""
    lease = _leased(scene)
    first = _pushed(scene, lease)
    other = _pushed(scene, first.lease, edit("iris-edge/1/aaaaaaaaaaaa/1", b"image: other\n"))
    back = edit(
        subject="Roll back", trailers={"Rollback-Of": "iris/1/aaaaaaaaaaaa/1"}, content=b"image: repository:one\n"
    )
    second = _pushed(scene, other.lease, back)
    head = scene.repository.fetch()
    assert [commit.commit for commit in scene.repository.history(head, "iris")] == [second.commit, first.commit]
    assert [commit.commit for commit in scene.repository.history(first.commit, "iris")] == [first.commit]
    assert [commit.commit for commit in scene.repository.history(head, "iris-edge")] == [other.commit]


def test_history_goes_on_from_where_it_was_read(scene: Scene) -> None:
    """Only commits since then are listed; without descent from it, or for an unknown commit, the answer is None."""
    repository = scene.repository
    first = _pushed(scene, _leased(scene))
    second = _pushed(scene, first.lease, edit("iris/2/bbbbbbbbbbbb/1", b"image: repository:three\n"))
    head = scene.commit_by_another("later")
    repository.fetch()
    since = repository.history_since(first.commit, head, "iris")
    assert since is not None
    assert [commit.commit for commit in since] == [second.commit]
    assert repository.history_since(head, head, "iris") == ()
    assert repository.history_since(first.commit, head, "wine") == ()
    assert repository.history_since(head, first.commit, "iris") is None
    assert repository.history_since("a" * 40, head, "iris") is None


def test_a_decision_ends_the_push(scene: Scene) -> None:
    """Any decision other than an edit is returned unchanged, and nothing is pushed."""
    lease = _leased(scene)
    assert scene.repository.push_edit(lambda head: "superseded", lease, 60.0) == "superseded"
    assert scene.subjects() == ["Start with what is deployed"]
    assert scene.repository.lease("iris") == lease


def test_a_competing_commit_survives(scene: Scene) -> None:
    """A commit that another person pushed in between stays, and the edit is decided anew on top of it."""
    lease = _leased(scene)
    heads: list[str] = []
    scene.before_next_push(lambda: heads.append(scene.commit_by_another("Fix the service")))
    seen: list[str] = []

    def decide(head: str) -> FileEdit:
        seen.append(head)
        return edit()

    pushed = scene.repository.push_edit(decide, lease, 60.0)
    assert isinstance(pushed, Pushed)
    assert pushed.attempts == 2
    assert seen[-1] == heads[0]
    assert scene.subjects() == ["Promote iris to version 1", "Fix the service", "Start with what is deployed"]
    assert scene.repository.read_file(scene.repository.fetch(), "README.md") == b"Fix the service"


def test_a_stale_owner_is_fenced(scene: Scene) -> None:
    """A run whose lease expired and was taken by another can push no commit, no tag and no renewal."""
    stale = _leased(scene, ttl=10.0)
    scene.clock.sleep(11.0)
    taken = _leased(scene, "run two")
    head = scene.repository.fetch()
    assert scene.repository.push_edit(lambda head: edit(), stale, 60.0) == LeaseLost(taken)
    assert scene.repository.create_tag("incumbent/iris/1-1", head, "Passed", stale, 60.0) == LeaseLost(taken)
    assert scene.repository.renew_lease(stale, 60.0) == LeaseLost(taken)
    assert scene.subjects() == ["Start with what is deployed"]
    assert scene.repository.tag("incumbent/iris/1-1") is None
    assert scene.repository.lease("iris") == taken


def test_a_lease_that_is_taken_over_fences_its_owner(scene: Scene) -> None:
    """A run at work whose lease is taken over can push no commit, no tag and no renewal, and frees nothing."""
    stale = _leased(scene, ttl=600.0)
    taken = scene.elsewhere.acquire_lease("iris", "abort by ana", 60.0, take_over=True)
    assert isinstance(taken, LeaseRecord)
    assert taken.holder == "abort by ana"
    head = scene.repository.fetch()
    assert scene.repository.push_edit(lambda head: edit(), stale, 60.0) == LeaseLost(taken)
    assert scene.repository.create_tag("incumbent/iris/1-1", head, "Passed", stale, 60.0) == LeaseLost(taken)
    assert scene.repository.renew_lease(stale, 60.0) == LeaseLost(taken)
    assert scene.repository.acquire_lease("iris", "run one", 60.0) == LeaseBusy(taken)
    scene.repository.release_lease(stale)
    assert scene.subjects() == ["Start with what is deployed"]
    assert scene.repository.tag("incumbent/iris/1-1") is None
    assert scene.elsewhere.lease("iris") == taken


def test_a_lease_that_is_renewed_meanwhile_is_taken_over_all_the_same(scene: Scene) -> None:
    """The owner's renewal just before the push does not stop whoever takes the lease over."""
    owned = [_leased(scene, ttl=600.0)]

    def renew() -> None:
        renewed = scene.elsewhere.renew_lease(owned[-1], 600.0)
        assert isinstance(renewed, LeaseRecord)
        owned.append(renewed)

    scene.before_next_push(renew)
    taken = scene.repository.acquire_lease("iris", "abort by ana", 60.0, take_over=True)
    assert isinstance(taken, LeaseRecord)
    assert scene.repository.lease("iris") == taken
    assert scene.elsewhere.renew_lease(owned[-1], 600.0) == LeaseLost(taken)


def test_a_lease_taken_between_decision_and_push_fences(scene: Scene) -> None:
    """A lease that is deleted after the decision and before the push stops that push."""
    lease = _leased(scene)
    scene.before_next_push(lambda: scene.elsewhere.release_lease(lease))
    assert scene.repository.push_edit(lambda head: edit(), lease, 60.0) == LeaseLost(None)
    assert scene.subjects() == ["Start with what is deployed"]


def test_a_lease_excludes_until_it_expires(scene: Scene) -> None:
    """Another holder learns who has the lease, and can take it once it has expired."""
    lease = _leased(scene, ttl=30.0)
    assert lease.expires_at == scene.clock.now() + 30.0
    assert scene.repository.acquire_lease("iris", "run two", 30.0) == LeaseBusy(lease)
    scene.clock.sleep(30.0)
    taken = scene.repository.acquire_lease("iris", "run two", 30.0)
    assert isinstance(taken, LeaseRecord)
    assert taken.holder == "run two"


def test_leases_of_applications_are_independent(scene: Scene) -> None:
    """A lease of one application does not block another application."""
    _leased(scene)
    assert isinstance(scene.repository.acquire_lease("wine", "run two", 30.0), LeaseRecord)


def test_the_holder_takes_its_own_lease_again(scene: Scene) -> None:
    """The same holder gets a new object each time, so that pushes with its earlier lease are fenced off."""
    first = _leased(scene)
    again = _leased(scene)
    assert again.object_id != first.object_id
    assert scene.repository.renew_lease(first, 60.0) == LeaseLost(again)


def test_a_renewal_is_a_new_object(scene: Scene) -> None:
    """Renewing moves the expiry and always writes a new object, even within the same instant."""
    lease = _leased(scene)
    renewed = scene.repository.renew_lease(lease, 60.0)
    assert isinstance(renewed, LeaseRecord)
    assert renewed.object_id != lease.object_id
    assert scene.repository.lease("iris") == renewed


def test_release_frees_only_the_current_lease(scene: Scene) -> None:
    """Releasing a lease that another run has taken changes nothing; releasing the current one frees it, once."""
    stale = _leased(scene, ttl=10.0)
    scene.clock.sleep(11.0)
    taken = _leased(scene, "run two")
    scene.repository.release_lease(stale)
    assert scene.repository.lease("iris") == taken
    scene.repository.release_lease(taken)
    scene.repository.release_lease(taken)
    assert scene.repository.lease("iris") is None


def test_a_tag_is_created_once(scene: Scene) -> None:
    """A tag comes with a renewed lease; the same tag again counts as created, that of another commit is an error."""
    head = scene.repository.fetch()
    lease = _leased(scene)
    renewed = scene.repository.create_tag("incumbent/iris/1-1", head, "Passed\n\nEvidence: abc", lease, 60.0)
    assert isinstance(renewed, LeaseRecord)
    assert scene.repository.lease("iris") == renewed
    tag = scene.repository.tag("incumbent/iris/1-1")
    assert tag is not None
    assert (tag.name, tag.commit, tag.message) == ("incumbent/iris/1-1", head, "Passed\n\nEvidence: abc")
    again = scene.repository.create_tag("incumbent/iris/1-1", head, "another text", renewed, 60.0)
    assert isinstance(again, LeaseRecord)
    assert scene.repository.tag("incumbent/iris/1-1") == tag
    other = scene.commit_by_another("later")
    scene.repository.fetch()
    with pytest.raises(DependencyError, match="a tag of commit"):
        scene.repository.create_tag("incumbent/iris/1-1", other, "Passed", again, 60.0)


def test_tags_below_a_prefix_are_those_of_the_server(scene: Scene) -> None:
    """All annotated tags below a prefix, by name, with commit, message and time; those of other policies are not."""
    head = scene.repository.fetch()
    assert scene.repository.tags_below("incumbent/iris/") == ()
    lease = _leased(scene)
    for name in ("incumbent/iris/2-1", "incumbent/iris-edge/1-1", "incumbent/iris/1-1"):
        created = scene.repository.create_tag(name, head, f"{name} passed\n\nVerdict: Passed", lease, 60.0)
        assert isinstance(created, LeaseRecord)
        lease = created
    below = scene.elsewhere.tags_below("incumbent/iris/")
    assert [tag.name for tag in below] == ["incumbent/iris/1-1", "incumbent/iris/2-1"]
    assert below[0] == TagRecord(
        "incumbent/iris/1-1", head, "incumbent/iris/1-1 passed\n\nVerdict: Passed", float(int(scene.clock.now()))
    )
    assert below[0] == scene.repository.tag("incumbent/iris/1-1")


def test_changes_are_those_of_one_file(scene: Scene) -> None:
    """The commits that changed a file, newest first, with who and when; other files' commits are not among them."""
    pushed = _pushed(scene, _leased(scene))
    scene.commit_by_another("later")
    head = scene.repository.fetch()
    newest, first = scene.elsewhere.changes(scene.elsewhere.fetch(), MANIFEST)
    assert (newest.commit, newest.subject, newest.author) == (pushed.commit, "Promote iris to version 1", "incumbent")
    assert newest.committed_at == scene.clock.now()
    assert scene.repository.read_file(first.commit, MANIFEST) == CONTENT[MANIFEST]
    assert scene.repository.changes(head, MANIFEST, limit=1) == (newest,)
    assert scene.repository.changes(pushed.commit, "README.md", limit=5)[0].subject != "later"
    assert [change.author for change in scene.repository.changes(head, "README.md", limit=1)] == ["person"]
    assert scene.repository.changes(head, "apps/none.yaml") == ()


def test_acts_are_added_and_never_replaced(scene: Scene) -> None:
    """Acts of two people in the same millisecond both stay, on the head; the same act twice is one."""
    head = scene.commit_by_another("later")
    act = Act("iris", ActKind.APPROVE, scene.clock.now(), "ana", "a reason\nBy: bob", 7, f"sha256:{'a' * 64}")
    first = scene.repository.record_act(act)
    assert scene.elsewhere.record_act(act) == first
    second = scene.elsewhere.record_act(replace(act, by="bob"))
    assert second.at == pytest.approx(act.at + 0.001)
    read = acts(scene.repository, "iris")
    assert [(made.by, made.reason, made.commit) for made in read] == [
        ("bob", "a reason By: bob", head),
        ("ana", "a reason By: bob", head),
    ]
    assert acts(scene.repository, "iris-edge") == ()


def test_acts_that_arrive_during_a_push_are_seen_by_the_next_decision(scene: Scene) -> None:
    """`decide` may read acts: what someone records while the branch is contended is there at the second try."""
    lease = _leased(scene)
    hold = Act("iris", ActKind.HOLD, scene.clock.now(), "ana", "we move")

    def act() -> None:
        scene.commit_by_another("later")
        scene.elsewhere.record_act(hold)

    scene.before_next_push(act)
    seen: list[int] = []

    def decide(head: str) -> FileEdit | str:
        seen.append(len(acts(scene.repository, "iris")))
        return "held" if seen[-1] else edit()

    assert scene.repository.push_edit(decide, lease, 60.0) == "held"
    assert seen == [0, 1]
    assert scene.subjects()[0] == "later"


def test_ancestry_is_known_or_false(scene: Scene) -> None:
    """A commit is an ancestor of itself and of later commits; an unknown commit is an ancestor of none."""
    first = scene.repository.fetch()
    scene.commit_by_another("later")
    second = scene.repository.fetch()
    assert scene.repository.is_ancestor(first, second)
    assert scene.repository.is_ancestor(first, first)
    assert not scene.repository.is_ancestor(second, first)
    assert not scene.repository.is_ancestor("1" * 40, second)
    assert not scene.repository.is_ancestor(second, "1" * 40)
