"""Promotions by pull requests of a real Gitea, over its own Git and API; registry and cluster are the fakes' world."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from orchestration.adapters.clock import SystemClock
from orchestration.adapters.git.login import Login
from orchestration.adapters.git.repository import GitRepository
from orchestration.adapters.gitea_requests import GiteaPullRequests
from orchestration.environment import platform_from_environment
from orchestration.promotion.branch_view import acts
from orchestration.promotion.github import NotPermittedError, RefusedError
from orchestration.promotion.ports import FileEdit, LeaseRecord
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.pull_requests import RequestState
from orchestration.promotion.state import State
from testbeds.common.processes import wait_until
from tests.adapters import test_pull_requests_contract as contract
from tests.adapters.test_pull_requests_contract import CONTENT, PATH, TEXT, TOKEN, Scene, branch
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGitRepository
from tests.fakes.pull_requests import FakePullRequests
from tests.fakes.runs import promote, run_stages
from tests.fakes.world import MANIFEST, POLICY_NAME, POLICY_TEXT, REPOSITORY, World
from tests.platform.gitea import BOT, PERSON, Gitea, Repository, running_gitea

pytestmark = pytest.mark.timeout(3600)  # the first of these tests may have to build it

_SECONDS = 60.0
_STYLES = (("merge", ""), ("squash", "the message"), ("squash", ""), ("rebase", ""), ("rebase-merge", ""))
"""Each way of merging; without a message of their own, squashed commits lose the trailers."""


@pytest.fixture(scope="module")
def gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gitea]:
    with running_gitea(tmp_path_factory.mktemp("gitea")) as running:
        yield running


@pytest.fixture(scope="module")
def token(gitea: Gitea) -> Path:
    """The pipeline's token, with the scopes that the documentation asks for."""
    return gitea.token(BOT)


def git_of(repository: Repository, token: Path, folder: Path, clock: FakeClock | None = None) -> GitRepository:
    clock = clock or FakeClock()  # in the past, so that no request of the server's clock ends before its proposal
    return GitRepository(repository.url, "main", login=Login(token), state=folder / "state", clock=clock)


def requests_of(repository: Repository, token: Path) -> GiteaPullRequests:
    name = f"{PERSON}/{repository.name}"
    return contract.gitea_requests(f"{repository.gitea.url}/api/v1", name, token, SystemClock())


def message_of(git: GitRepository, commit: str) -> str:
    """Return the text of a commit below its subject."""
    (found,) = (proposal for proposal in git.proposals(POLICY_NAME) if proposal.commit.commit == commit)
    return "\n".join(f"{name}: {value}" for name, value in found.commit.trailers.items())


# The contract


@pytest.fixture
def scene(gitea: Gitea, token: Path, tmp_path: Path) -> Scene:
    repository = gitea.repository(CONTENT)
    git, requests = git_of(repository, token, tmp_path), requests_of(repository, token)

    def merge(number: int, way: str) -> str:
        message = message_of(git, repository.pull(number)["head"]["sha"]) if way == "squash" else ""
        return repository.merge(number, way.split()[0], message)

    def commit(content: bytes) -> None:
        repository.commit("Scale", {PATH: content})
        wait_until(lambda: not repository.pull(1)["mergeable"], _SECONDS, "the conflict is found")

    return Scene(git, requests, merge, repository.close, repository.reopen, commit)


PROMISES: tuple[Callable[[Scene], None], ...] = (
    contract.test_each_way_of_merging_is_recognised,
    contract.test_a_request_is_opened_once,
    contract.test_a_conflict_is_seen_and_solved_by_a_new_proposal,
    contract.test_who_closed_a_request_is_known,
    contract.test_a_person_who_closes_what_they_reopened_has_refused_it,
    contract.test_a_withdrawn_proposal_leaves_nothing,
    contract.test_the_right_to_open_a_request_is_told_without_opening_one,
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__.removeprefix("test_"))
def test_it_keeps_the_contract(scene: Scene, promise: Callable[[Scene], None]) -> None:
    """It does with real commits what the imitations of the three hosts do."""
    promise(scene)


# Git


def test_the_settings_name_it(gitea: Gitea, token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual settings and `host: gitea` reach its Git and its API with one token, and no user name beside it."""
    repository = gitea.repository(CONTENT)
    rule = f"delivery: {{pull_request: {{host: gitea, api: '{gitea.url}/api/v1'}}}}\n"
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / f"{POLICY_NAME}.yaml").write_text(POLICY_TEXT + rule)
    monkeypatch.setenv("INCUMBENT_GIT_URL", repository.url)
    monkeypatch.setenv("INCUMBENT_GIT_TOKEN_FILE", str(token))
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path / "policies"))
    monkeypatch.setenv("INCUMBENT_STATE", str(tmp_path / "state"))
    platform = platform_from_environment()
    policy = platform.policy(POLICY_NAME)
    platform.git(policy).check_push()
    requests = platform.pull_requests(policy)
    assert requests is not None
    assert requests.find(branch(1)) is None


def test_its_refs_hold_leases(gitea: Gitea, token: Path, tmp_path: Path) -> None:
    """It takes, lists and keeps refs outside branches and tags, also through the collection of garbage."""
    repository = gitea.repository(CONTENT)
    git = git_of(repository, token, tmp_path)
    lease = git.acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    (listed,) = (ref for ref in repository.refs() if ref.startswith("refs/incumbent/"))
    (bare,) = gitea.folder.glob(f"**/{PERSON}/{repository.name}.git")
    repository.git("--git-dir", str(bare), "gc", "--quiet", "--prune=now")
    assert listed in repository.refs()
    assert git_of(repository, token, tmp_path / "other").lease("iris") == lease
    git.release_lease(lease)


def test_a_push_to_the_protected_branch_names_the_delivery(gitea: Gitea, token: Path, tmp_path: Path) -> None:
    """It refuses the whole push, the lease's renewal with it, and the error leads to pull requests."""
    repository = gitea.repository(CONTENT)
    git = git_of(repository, token, tmp_path)
    lease = git.acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    head = git.fetch()
    with pytest.raises(DependencyError) as refused:
        git.push_edit(lambda _: FileEdit(PATH, b"image: other\n", "Edit", {}), lease, 60.0)
    assert "Not allowed to push to protected branch main" in str(refused.value)
    assert "delivery.pull_request" in str(refused.value)
    assert git.fetch() == head
    assert git.lease("iris") == lease


def test_a_token_that_it_does_not_take(gitea: Gitea, tmp_path: Path) -> None:
    """Git and API each say in one line what the token lacks, and which setting names it."""
    repository = gitea.repository(CONTENT)
    (tmp_path / "wrong").write_text(TOKEN)
    with pytest.raises(DependencyError, match=r"INCUMBENT_GIT_USERNAME \(now x-access-token\)"):
        git_of(repository, tmp_path / "wrong", tmp_path).fetch()
    with pytest.raises(NotPermittedError, match="write:repository and write:issue"):
        requests_of(repository, tmp_path / "wrong").find(branch(1))
    reader = gitea.token(BOT, "read:repository,read:issue")
    with pytest.raises(DependencyError, match="the server forbids this"):
        git_of(repository, reader, tmp_path / "reader").acquire_lease("iris", "run", 60.0)
    with pytest.raises(NotPermittedError, match="at least one of required scope"):
        requests_of(repository, reader).open(branch(1), TEXT)
    with pytest.raises(NotPermittedError, match="at least one of required scope"):
        requests_of(repository, reader).check_open(None)
    stranger = contract.gitea_requests(f"{gitea.url}/api/v1", f"{PERSON}/missing", reader, SystemClock())
    with pytest.raises(RefusedError, match="Correct the repository's setting"):
        stranger.find(branch(1))


# Promotions


def world_on(repository: Repository, token: Path, folder: Path, delivery: str = "") -> World:
    """Return a world whose branch and requests are Gitea's; everything else is the fakes'."""
    world = World(POLICY_TEXT + f"delivery: {{pull_request: {{host: gitea{delivery}}}}}\n")
    world.git = cast("FakeGitRepository", git_of(repository, token, folder, world.clock))
    world.requests = cast("FakePullRequests", requests_of(repository, token))
    world.reconcile()
    world.register()
    return world


@pytest.mark.parametrize(("style", "message"), _STYLES)
def test_a_merged_request_is_promoted(gitea: Gitea, token: Path, tmp_path: Path, style: str, message: str) -> None:
    """However a person merges it, the version becomes champion, and Git alone tells the promotion."""
    repository = gitea.repository(CONTENT)
    world = world_on(repository, token, tmp_path)
    git = cast("GitRepository", world.git)
    promote(world, 1, "first")
    assert world.state(1) is State.WAITING
    assert f"request #1 ({gitea.url}/{PERSON}/{repository.name}/pulls/1)" in world.reason(1)
    assert world.live_image == f"{REPOSITORY}:before"
    text = message_of(git, repository.pull(1)["head"]["sha"]) if message else ""
    repository.merge(1, style, text)
    promote(world, 1, "second")
    assert (world.state(1), world.champion) == (State.CHAMPION, 1)
    assert world.live_image == world.image(1)
    (told,) = git.history(git.fetch(), POLICY_NAME)
    assert told.trailers["Promotion-Id"].startswith(f"{POLICY_NAME}/1/")
    assert git.proposals(POLICY_NAME) == ()
    assert [ref for ref in repository.refs() if ref.startswith("refs/heads/")] == ["refs/heads/main"]


def test_a_request_that_a_person_closes_is_a_refusal(gitea: Gitea, token: Path, tmp_path: Path) -> None:
    """The version is refused by that person's account name, recorded in Git."""
    repository = gitea.repository(CONTENT)
    world = world_on(repository, token, tmp_path)
    promote(world, 1, "first")
    repository.close(1)
    promote(world, 1, "second")
    assert world.state(1) is State.REFUSED
    assert f"{PERSON} closed request #1" in world.reason(1)
    assert [act.by for act in acts(world.git, POLICY_NAME)] == [PERSON]


def test_a_rollback_is_a_request_as_well(gitea: Gitea, token: Path, tmp_path: Path) -> None:
    """A bad version is taken back by a second request, because the branch refuses a push of that, too."""
    repository = gitea.repository(CONTENT)
    world = world_on(repository, token, tmp_path, ", rollbacks: pull_request")
    promote(world, 1, "first")
    world.bad_images.add(world.image(1))
    repository.merge(1)
    promote(world, 1, "second")
    assert "Its rollback is request #2" in world.reason(1)
    assert world.live_image == world.image(1)
    repository.merge(2, "squash")
    promote(world, 1, "third")
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"


def test_a_rollback_that_may_not_be_pushed_names_the_setting(gitea: Gitea, token: Path, tmp_path: Path) -> None:
    """Where the branch forbids a pushed rollback, the run says which setting helps, and a later one goes on."""
    repository = gitea.repository(CONTENT)
    world = world_on(repository, token, tmp_path)
    promote(world, 1, "first")
    world.bad_images.add(world.image(1))
    repository.merge(1)
    refused = run_stages(world, 1).failure
    assert "Not allowed to push to protected branch main" in refused
    assert "delivery.pull_request, and its rollbacks" in refused
    assert world.state(1) is State.REJECTED
    repository.protect(push_whitelist_usernames=[PERSON, BOT])
    promote(world, 1, "third")
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"


@pytest.mark.parametrize("needs_approval", [False, True])
def test_it_merges_by_itself(gitea: Gitea, token: Path, tmp_path: Path, needs_approval: bool) -> None:
    """At once where no rule keeps it from that, or else when a person has approved it."""
    repository = gitea.repository(CONTENT)
    repository.protect(required_approvals=int(needs_approval))
    world = world_on(repository, token, tmp_path, ", auto_merge: rebase")
    promote(world, 1, "first")
    assert world.state(1) is State.WAITING
    if needs_approval:
        promote(world, 1, "again")  # what is scheduled already is not refused
        assert world.requests.find(branch(1)) is not None
        assert repository.pull(1)["state"] == "open"
        repository.approve(1)
    wait_until(lambda: repository.pull(1)["merged"], _SECONDS, "it is merged")
    promote(world, 1, "second")
    assert world.champion == 1


def test_what_it_merges_by_itself_may_be_a_persons(gitea: Gitea, token: Path, tmp_path: Path) -> None:
    """What somebody commits to the branch of a request that waits is merged, too; it stays, and the version ends."""
    repository = gitea.repository(CONTENT)
    repository.protect(required_approvals=1)
    world = world_on(repository, token, tmp_path, ", auto_merge: squash")
    promote(world, 1, "first")
    world.images.publish(REPOSITORY, "theirs")
    text = MANIFEST.format(image=f"{REPOSITORY}:theirs").encode()
    repository.edit(branch(1), PATH, text)
    repository.approve(1)
    wait_until(lambda: repository.pull(1)["merged"], _SECONDS, "it is merged")
    promote(world, 1, "second")
    assert world.live_image == f"{REPOSITORY}:theirs"
    assert (world.state(1), world.champion) == (State.REFUSED, None)


def test_a_request_is_closed_with_a_comment(gitea: Gitea, token: Path, tmp_path: Path) -> None:
    """The newer challenger closes the older one's request and says why; that is not taken for a person's refusal."""
    repository = gitea.repository(CONTENT)
    world = world_on(repository, token, tmp_path)
    promote(world, 1, "first")
    world.register(accuracy=0.95)
    promote(world, 2, "second")
    closed = world.requests.find(branch(1))
    assert closed is not None
    assert (closed.state, closed.by, closed.was_withdrawn) == (RequestState.CLOSED, BOT, True)
    (comment,) = repository.owner("GET", "/issues/1/comments", {})
    assert "superseded by version 2" in comment["body"]
    assert (world.state(1), world.state(2)) == (State.SUPERSEDED, State.WAITING)
