"""What every `GitOpsRepository` does: the real adapter with a real server, and the fake that replaces both in tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.promotion.ports import FileEdit, GitOpsRepository, LeaseBusy, LeaseLost, LeaseRecord, Pushed
from orchestration.promotion.problems import DependencyError
from tests.adapters.git_fixtures import CONTENT, MANIFEST, World, edit, serving_world
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGitRepository

_EDITED = b"image: repository:two\n"


@dataclass(frozen=True)
class Played:
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
def _fake() -> Iterator[Played]:
    clock = FakeClock(1_800_000_000.0)
    fake = FakeGitRepository(clock, CONTENT)
    yield Played(
        fake,
        fake,
        clock,
        lambda subject: fake.commit(subject, {"README.md": subject.encode()}),
        fake.before_push.append,
        lambda: [commit.subject for commit in fake.log],
    )


@contextmanager
def _real(folder: Path) -> Iterator[Played]:
    with serving_world(folder) as world:
        yield Played(
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
def played(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Played]:
    """The real adapter, and then the fake."""
    with _real(tmp_path) if request.param == "real" else _fake() as playing:
        yield playing


def _leased(played: Played, holder: str = "run one", ttl: float = 60.0) -> LeaseRecord:
    lease = played.repository.acquire_lease("iris", holder, ttl)
    assert isinstance(lease, LeaseRecord)
    return lease


def _pushed(played: Played, lease: LeaseRecord, change: FileEdit | None = None) -> Pushed:
    pushed = played.repository.push_edit(lambda head: change or edit(), lease, 60.0)
    assert isinstance(pushed, Pushed)
    return pushed


def test_reads_files_of_a_commit(played: Played) -> None:
    """A file is read as it was at that commit, and a path without a file is None."""
    first = played.repository.fetch()
    played.commit_by_another("later")
    second = played.repository.fetch()
    assert played.repository.read_file(first, "README.md") == CONTENT["README.md"]
    assert played.repository.read_file(second, "README.md") == b"later"
    assert played.repository.read_file(second, "apps/none.yaml") is None


def test_pushes_one_commit_with_its_trailers(played: Played) -> None:
    """An edit becomes one commit on the branch, which its trailers identify, with nothing else in the diff."""
    before = played.repository.fetch()
    pushed = _pushed(played, _leased(played))
    head = played.repository.fetch()
    assert head == pushed.commit
    assert pushed.attempts == 1
    (commit,) = played.repository.history(head, "iris")
    assert (commit.commit, commit.parent, commit.subject) == (pushed.commit, before, "Promote iris to version 1")
    assert dict(commit.trailers) == {"Promotion-Id": "iris/1/aaaaaaaaaaaa/1", "Model": "iris"}
    assert commit.committed_at == played.clock.now()
    assert played.repository.read_file(head, MANIFEST) == _EDITED
    changed = [line for line in played.repository.diff(head).splitlines() if line[:1] in "+-" and line[1:2] not in "+-"]
    assert changed == ["-image: repository:one", "+image: repository:two"]


def test_history_is_the_policys_alone(played: Played) -> None:
    """A policy's promotions and rollbacks are listed, newest first; those of a policy with a longer name are not."""
    lease = _leased(played)
    first = _pushed(played, lease)
    other = _pushed(played, first.lease, edit("iris-edge/1/aaaaaaaaaaaa/1", b"image: other\n"))
    back = edit(
        subject="Roll back", trailers={"Rollback-Of": "iris/1/aaaaaaaaaaaa/1"}, content=b"image: repository:one\n"
    )
    second = _pushed(played, other.lease, back)
    head = played.repository.fetch()
    assert [commit.commit for commit in played.repository.history(head, "iris")] == [second.commit, first.commit]
    assert [commit.commit for commit in played.repository.history(first.commit, "iris")] == [first.commit]
    assert [commit.commit for commit in played.repository.history(head, "iris-edge")] == [other.commit]


def test_history_goes_on_from_where_it_was_read(played: Played) -> None:
    """Only commits since then are listed; without descent from it, or for an unknown commit, the answer is None."""
    repository = played.repository
    first = _pushed(played, _leased(played))
    second = _pushed(played, first.lease, edit("iris/2/bbbbbbbbbbbb/1", b"image: repository:three\n"))
    head = played.commit_by_another("later")
    repository.fetch()
    since = repository.history_since(first.commit, head, "iris")
    assert since is not None
    assert [commit.commit for commit in since] == [second.commit]
    assert repository.history_since(head, head, "iris") == ()
    assert repository.history_since(first.commit, head, "wine") == ()
    assert repository.history_since(head, first.commit, "iris") is None
    assert repository.history_since("a" * 40, head, "iris") is None


def test_a_decision_ends_the_push(played: Played) -> None:
    """Any decision other than an edit is returned unchanged, and nothing is pushed."""
    lease = _leased(played)
    assert played.repository.push_edit(lambda head: "superseded", lease, 60.0) == "superseded"
    assert played.subjects() == ["Start with what is deployed"]
    assert played.repository.lease("iris") == lease


def test_a_competing_commit_survives(played: Played) -> None:
    """A commit that another person pushed in between stays, and the edit is decided anew on top of it."""
    lease = _leased(played)
    heads: list[str] = []
    played.before_next_push(lambda: heads.append(played.commit_by_another("Fix the service")))
    seen: list[str] = []

    def decide(head: str) -> FileEdit:
        seen.append(head)
        return edit()

    pushed = played.repository.push_edit(decide, lease, 60.0)
    assert isinstance(pushed, Pushed)
    assert pushed.attempts == 2
    assert seen[-1] == heads[0]
    assert played.subjects() == ["Promote iris to version 1", "Fix the service", "Start with what is deployed"]
    assert played.repository.read_file(played.repository.fetch(), "README.md") == b"Fix the service"


def test_a_stale_owner_is_fenced(played: Played) -> None:
    """A run whose lease expired and was taken by another can push no commit, no tag and no renewal."""
    stale = _leased(played, ttl=10.0)
    played.clock.sleep(11.0)
    taken = _leased(played, "run two")
    head = played.repository.fetch()
    assert played.repository.push_edit(lambda head: edit(), stale, 60.0) == LeaseLost(taken)
    assert played.repository.create_tag("incumbent/iris/1-1", head, "Passed", stale, 60.0) == LeaseLost(taken)
    assert played.repository.renew_lease(stale, 60.0) == LeaseLost(taken)
    assert played.subjects() == ["Start with what is deployed"]
    assert played.repository.tag("incumbent/iris/1-1") is None
    assert played.repository.lease("iris") == taken


def test_a_lease_taken_between_decision_and_push_fences(played: Played) -> None:
    """A lease that is deleted after the decision and before the push stops that push."""
    lease = _leased(played)
    played.before_next_push(lambda: played.elsewhere.release_lease(lease))
    assert played.repository.push_edit(lambda head: edit(), lease, 60.0) == LeaseLost(None)
    assert played.subjects() == ["Start with what is deployed"]


def test_a_lease_excludes_until_it_expires(played: Played) -> None:
    """Another holder learns who has the lease, and can take it once it has expired."""
    lease = _leased(played, ttl=30.0)
    assert lease.expires_at == played.clock.now() + 30.0
    assert played.repository.acquire_lease("iris", "run two", 30.0) == LeaseBusy(lease)
    played.clock.sleep(30.0)
    taken = played.repository.acquire_lease("iris", "run two", 30.0)
    assert isinstance(taken, LeaseRecord)
    assert taken.holder == "run two"


def test_leases_of_applications_are_independent(played: Played) -> None:
    """A lease of one application does not block another application."""
    _leased(played)
    assert isinstance(played.repository.acquire_lease("wine", "run two", 30.0), LeaseRecord)


def test_the_holder_takes_its_own_lease_again(played: Played) -> None:
    """The same holder gets a new object each time, so that pushes with its earlier lease are fenced off."""
    first = _leased(played)
    again = _leased(played)
    assert again.object_id != first.object_id
    assert played.repository.renew_lease(first, 60.0) == LeaseLost(again)


def test_a_renewal_is_a_new_object(played: Played) -> None:
    """Renewing moves the expiry and always writes a new object, even within the same instant."""
    lease = _leased(played)
    renewed = played.repository.renew_lease(lease, 60.0)
    assert isinstance(renewed, LeaseRecord)
    assert renewed.object_id != lease.object_id
    assert played.repository.lease("iris") == renewed


def test_release_frees_only_our_own(played: Played) -> None:
    """Releasing a lease that another run has taken changes nothing; releasing the current one frees it, once."""
    stale = _leased(played, ttl=10.0)
    played.clock.sleep(11.0)
    taken = _leased(played, "run two")
    played.repository.release_lease(stale)
    assert played.repository.lease("iris") == taken
    played.repository.release_lease(taken)
    played.repository.release_lease(taken)
    assert played.repository.lease("iris") is None


def test_a_tag_is_created_once(played: Played) -> None:
    """A tag comes with a renewed lease; the same tag again counts as created, that of another commit is an error."""
    head = played.repository.fetch()
    lease = _leased(played)
    renewed = played.repository.create_tag("incumbent/iris/1-1", head, "Passed\n\nEvidence: abc", lease, 60.0)
    assert isinstance(renewed, LeaseRecord)
    assert played.repository.lease("iris") == renewed
    tag = played.repository.tag("incumbent/iris/1-1")
    assert tag is not None
    assert (tag.name, tag.commit, tag.message) == ("incumbent/iris/1-1", head, "Passed\n\nEvidence: abc")
    again = played.repository.create_tag("incumbent/iris/1-1", head, "another text", renewed, 60.0)
    assert isinstance(again, LeaseRecord)
    assert played.repository.tag("incumbent/iris/1-1") == tag
    other = played.commit_by_another("later")
    played.repository.fetch()
    with pytest.raises(DependencyError, match="a tag of commit"):
        played.repository.create_tag("incumbent/iris/1-1", other, "Passed", again, 60.0)


def test_ancestry_is_known_or_false(played: Played) -> None:
    """A commit is an ancestor of itself and of later commits; an unknown commit is an ancestor of none."""
    first = played.repository.fetch()
    played.commit_by_another("later")
    second = played.repository.fetch()
    assert played.repository.is_ancestor(first, second)
    assert played.repository.is_ancestor(first, first)
    assert not played.repository.is_ancestor(second, first)
    assert not played.repository.is_ancestor("1" * 40, second)
    assert not played.repository.is_ancestor(second, "1" * 40)
