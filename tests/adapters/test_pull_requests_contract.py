"""What every `PullRequests` does with a repository: the clients of GitHub, GitLab and Gitea, and the fake.

The servers merge in a real bare repository, which the real Git adapter reads: so this also shows that Git alone tells a
promotion afterwards, however it was merged. `tests/platform/test_gitea.py` asks the same of Gitea itself.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestration.adapters.git.login import Login
from orchestration.adapters.git.repository import GitRepository
from orchestration.adapters.gitea_requests import GiteaPullRequests
from orchestration.adapters.github_requests import GitHubPullRequests
from orchestration.adapters.gitlab_requests import GitLabMergeRequests
from orchestration.adapters.host_api import ApiNames, TokenFile
from orchestration.promotion.github import NotPermittedError, RateLimitedError, RefusedError
from orchestration.promotion.identity import PromotionId
from orchestration.promotion.merge_wait import must_be_rebuilt, recognise_merges, request_of
from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.ports import Clock, FileEdit, GitOpsRepository, LeaseRecord, Pushed
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.pull_requests import MergeMethod, PullRequests, RequestState, RequestText
from testbeds.common.git_server import create_repository
from testbeds.common.gitea_server import GiteaServer, MergeStyle, Pull
from testbeds.common.github_pulls import GitHubWithPulls
from testbeds.common.github_server import Fault
from testbeds.common.gitlab_server import GitLabServer
from testbeds.common.merging import BareRepository
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGitRepository
from tests.fakes.pull_requests import FakePullRequests
from tests.fakes.world import MANIFEST, POLICY_TEXT, REPOSITORY

TOKEN = "token-that-nobody-may-see"
PATH = "apps/iris.yaml"
CONTENT = {PATH: MANIFEST.format(image=f"{REPOSITORY}:before").encode(), "README": b"hello\n"}
POLICY = parse_policy("iris-edge", POLICY_TEXT + "delivery: {pull_request: {host: github}}\n")
TEXT = RequestText("Promote iris-edge", "What was checked.")
NAMED = ApiNames("the address's setting", "the repository's setting")
WAYS = ("merge", "squash", "squash without trailers", "rebase")


@dataclass
class Scene:
    """A host with its repository, and what people do there."""

    git: GitOpsRepository
    requests: PullRequests
    merge: Callable[[int, str], str]
    close: Callable[[int], None]
    reopen: Callable[[int], None]
    commit: Callable[[bytes], None]
    """Commits to the manifest on the branch, as another person."""

    def propose(self, version: int, policy: Policy = POLICY) -> str:
        """Propose an image for a version, and return the commit."""
        lease = self.git.acquire_lease("iris", "run", 60.0)
        assert isinstance(lease, LeaseRecord)
        identity = PromotionId(policy.name, version, f"{version:012x}", 1)

        def decide(head: str) -> FileEdit:
            content = self.git.read_file(head, PATH) or b""
            before = content.partition(b"image: ")[2].split(b"\n")[0]
            after = f"{REPOSITORY}:v{version}@sha256:{version:012x}{'0' * 52}".encode()
            trailers = {"Promotion-Id": str(identity), "Model-Version": str(version)}
            return FileEdit(PATH, content.replace(before, after), f"Promote to version {version}", trailers)

        pushed = self.git.propose(identity.proposal, decide, lease, 60.0)
        assert isinstance(pushed, Pushed)
        self.git.release_lease(pushed.lease)
        return pushed.commit

    def promoted(self) -> list[str]:
        """The promotions that Git tells, oldest first."""
        history = self.git.history(self.git.fetch(), POLICY.name)
        return [commit.trailers["Promotion-Id"].split("/")[1] for commit in reversed(history)]


def branch(version: int) -> str:
    return f"incumbent/iris-edge/promote-{version}-1"


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _repository(folder: Path) -> tuple[GitRepository, BareRepository, FakeClock]:
    """A real repository by its file address, which needs no server; only people's merges matter here."""
    for path, content in CONTENT.items():
        (folder / "content" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "content" / path).write_bytes(content)
    bare = create_repository(folder / "served", "gitops.git", folder / "content")
    clock = FakeClock()  # in the past, so that no request of the host's clock ends before its proposal
    git = GitRepository(f"file://{bare}", "main", login=Login(None), state=folder / "state", clock=clock)
    return git, BareRepository(bare), clock


def _commit(bare: BareRepository, content: bytes) -> None:
    head = bare.head("main")
    assert head is not None
    blob = bare.run("hash-object", "-w", "--stdin", stdin=content.decode())
    inner = bare.run("mktree", stdin=f"100644 blob {blob}\tiris.yaml\n")
    readme = bare.run("rev-parse", f"{head}:README")
    tree = bare.run("mktree", stdin=f"100644 blob {readme}\tREADME\n040000 tree {inner}\tapps\n")
    new = bare.run("commit-tree", "-p", head, "-m", "Scale", tree, author="ben")
    bare.run("update-ref", "refs/heads/main", new)


def token_in(file: Path) -> TokenFile:
    return TokenFile(file, "the token's setting")


def gitea_requests(url: str, name: str, token: Path, clock: Clock) -> GiteaPullRequests:
    """Return a client of a repository's requests into `main`."""
    return GiteaPullRequests(url, name, "main", token_in(token), NAMED, clock)


@contextmanager
def github_scene(folder: Path) -> Iterator[tuple[Scene, GitHubWithPulls]]:
    git, bare, _ = _repository(folder)
    server = GitHubWithPulls(TOKEN, "acme/gitops", bare)
    (folder / "token").write_text(TOKEN)
    requests = GitHubPullRequests(server.url, server.name, "main", token_in(folder / "token"), NAMED)

    def merge(number: int, way: str) -> str:
        server.squash_message = "BLANK" if way == WAYS[2] else "COMMIT_MESSAGES"
        return server.merge_pull(number, way.split()[0])

    with _serving(server):
        yield (
            Scene(git, requests, merge, server.close_pull, server.reopen_pull, lambda content: _commit(bare, content)),
            server,
        )


@contextmanager
def gitlab_scene(folder: Path) -> Iterator[tuple[Scene, GitLabServer]]:
    git, bare, _ = _repository(folder)
    server = GitLabServer(TOKEN, "acme/teams/gitops", bare)
    (folder / "token").write_text(TOKEN)
    requests = GitLabMergeRequests(server.url, server.name, "main", token_in(folder / "token"), NAMED)

    def merge(number: int, way: str) -> str:
        server.method = "ff" if way == "rebase" else "merge"
        server.squash_template = "%{title}" if way == WAYS[2] else "%{all_commits}"
        return server.merge_request(number, squash=way.startswith("squash"))

    with _serving(server):
        yield Scene(git, requests, merge, server.close, server.reopen, lambda content: _commit(bare, content)), server


@contextmanager
def gitea_scene(folder: Path) -> Iterator[tuple[Scene, GiteaServer]]:
    git, bare, clock = _repository(folder)
    server = GiteaServer(TOKEN, "acme/gitops", bare)
    (folder / "token").write_text(TOKEN)
    requests = gitea_requests(server.url, server.name, folder / "token", clock)
    styles: dict[str, MergeStyle] = {"merge": "merge", "squash": "squash", WAYS[2]: "squash", "rebase": "rebase-merge"}

    def merge(number: int, way: str) -> str:
        server.keeps_messages = way != WAYS[2]
        return server.merge(number, styles[way])

    with _serving(server):
        yield Scene(git, requests, merge, server.close, server.reopen, lambda content: _commit(bare, content)), server


@contextmanager
def fake_scene(_: Path) -> Iterator[tuple[Scene, None]]:
    clock = FakeClock()
    git = FakeGitRepository(clock, CONTENT)
    requests = FakePullRequests(git, clock)

    def merge(number: int, way: str) -> str:
        message = "Title" if way == WAYS[2] else None
        return requests.merge(number, way.split()[0], message=message)  # type: ignore[arg-type]

    yield (
        Scene(
            git,
            requests,
            merge,
            requests.close_by_hand,
            requests.reopen,
            lambda content: (git.commit("Scale", {PATH: content}), None)[1],
        ),
        None,
    )


SCENES = {"github": github_scene, "gitlab": gitlab_scene, "gitea": gitea_scene, "fake": fake_scene}


@pytest.fixture(params=SCENES)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Each host, and the fake."""
    with SCENES[request.param](tmp_path) as (made, _):
        yield made


def test_each_way_of_merging_is_recognised(scene: Scene) -> None:
    """The branch's history has each promotion once, in order, also of a commit that lost its trailers."""
    for version, way in enumerate(WAYS, start=1):
        scene.propose(version)
        opened = scene.requests.open(branch(version), TEXT)
        assert opened.state is RequestState.OPEN
        assert opened.url
        recognise_merges(scene.git, scene.requests, POLICY)
        assert len(scene.git.proposals(POLICY.name)) == 1
        scene.merge(opened.number, way)
        found = scene.requests.find(branch(version))
        assert found is not None
        assert (found.state, found.by) == (RequestState.MERGED, "ana")
        recognise_merges(scene.git, scene.requests, POLICY)
        assert scene.git.proposals(POLICY.name) == ()
        assert scene.promoted() == [str(known) for known in range(1, version + 1)]


def test_a_request_is_opened_once(scene: Scene) -> None:
    """A second call finds the first one's, whose answer may have been lost."""
    assert scene.requests.find(branch(1)) is None
    scene.propose(1)
    first = scene.requests.open(branch(1), TEXT)
    scene.requests.comment(first.number, "more")
    assert scene.requests.open(branch(1), TEXT).number == first.number
    (proposal,) = scene.git.proposals(POLICY.name)
    found = request_of(scene.requests, proposal)
    assert found is not None
    assert (found.number, found.head, found.has_conflict) == (first.number, proposal.commit.commit, False)


def test_a_conflict_is_seen_and_solved_by_a_new_proposal(scene: Scene) -> None:
    """The same request has the new commit, and can be merged."""
    scene.propose(1)
    opened = scene.requests.open(branch(1), TEXT)
    text = scene.git.read_file(scene.git.fetch(), PATH) or b""
    scene.commit(text.replace(b":before", b":before-that"))
    (proposal,) = scene.git.proposals(POLICY.name)
    found = scene.requests.find(branch(1))
    assert found is not None
    assert must_be_rebuilt(proposal, found)
    commit = scene.propose(1)
    again = scene.requests.open(branch(1), TEXT)
    assert (again.number, again.head, again.has_conflict) == (opened.number, commit, False)


def test_who_closed_a_request_is_known(scene: Scene) -> None:
    """A person's closing is told from ours, which says why in a comment."""
    scene.propose(1)
    opened = scene.requests.open(branch(1), TEXT)
    scene.close(opened.number)
    closed = scene.requests.find(branch(1))
    assert closed is not None
    assert (closed.state, closed.by, closed.was_withdrawn) == (RequestState.CLOSED, "ana", False)
    scene.propose(2)
    ours = scene.requests.open(branch(2), TEXT)
    closed = scene.requests.close(ours.number, "superseded")
    assert (closed.state, closed.was_withdrawn) == (RequestState.CLOSED, True)


def test_a_person_who_closes_what_they_reopened_has_refused_it(scene: Scene) -> None:
    """Our comment from before counts no more, and what we close after that is withdrawn again."""
    scene.propose(1)
    opened = scene.requests.open(branch(1), TEXT)
    scene.requests.close(opened.number, "held")
    scene.reopen(opened.number)
    scene.close(opened.number)
    closed = scene.requests.find(branch(1))
    assert closed is not None
    assert (closed.number, closed.state, closed.was_withdrawn) == (opened.number, RequestState.CLOSED, False)
    scene.reopen(opened.number)
    assert scene.requests.close(opened.number, "superseded").was_withdrawn


def test_a_withdrawn_proposal_leaves_nothing(scene: Scene) -> None:
    """Its branch and its record are gone, and a merge that came first is seen when it is closed."""
    scene.propose(1)
    opened = scene.requests.open(branch(1), TEXT)
    scene.merge(opened.number, "squash without trailers")
    assert scene.requests.close(opened.number, "too late").state is RequestState.MERGED
    lease = scene.git.acquire_lease("iris", "run", 60.0)
    assert isinstance(lease, LeaseRecord)
    scene.git.withdraw("iris-edge/promote-1-1", lease, 60.0)
    assert scene.git.proposals(POLICY.name) == ()


@pytest.mark.parametrize("is_mergeable", [True, False])
def test_github_merges_by_itself(tmp_path: Path, is_mergeable: bool) -> None:
    """What nothing keeps from it is merged at once; anything else when its reviews and checks allow it."""
    with github_scene(tmp_path) as (scene, server):
        server.is_mergeable = is_mergeable
        commit = scene.propose(1)
        opened = scene.requests.open(branch(1), TEXT)
        scene.requests.merge_when_ready(opened.number, commit, "squash")
        pull = server.pulls[opened.number]
        assert (pull.auto_merge, pull.merged_by is not None) == (None if is_mergeable else "SQUASH", is_mergeable)
        server.allows_auto_merge, server.is_mergeable = False, False
        with pytest.raises(RefusedError, match="Allow auto-merge in the repository's settings"):
            scene.requests.merge_when_ready(opened.number, commit, "squash")


@pytest.mark.parametrize("is_mergeable", [True, False])
def test_gitlab_merges_by_itself(tmp_path: Path, is_mergeable: bool) -> None:
    """At once, or when the pipeline has succeeded; never another commit than the one that was proposed."""
    with gitlab_scene(tmp_path) as (scene, server):
        server.is_mergeable = is_mergeable
        commit = scene.propose(1)
        opened = scene.requests.open(branch(1), TEXT)
        with pytest.raises(RefusedError, match="SHA does not match"):
            scene.requests.merge_when_ready(opened.number, "0" * 40, "merge")
        scene.requests.merge_when_ready(opened.number, commit, "merge")
        item = server.requests[opened.number].item
        assert item["state"] == ("merged" if is_mergeable else "opened")
        assert item.get("merge_when_pipeline_succeeds", False) is not is_mergeable


@pytest.mark.parametrize("is_approved", [True, False])
def test_gitea_merges_by_itself(tmp_path: Path, is_approved: bool) -> None:
    """At once, or when reviews and checks allow it; asked once it has checked the request, or again."""
    with gitea_scene(tmp_path) as (scene, server):
        server.is_approved, server.checks_take = is_approved, 4
        commit = scene.propose(1)
        opened = scene.requests.open(branch(1), TEXT)
        with pytest.raises(RefusedError, match="another commit than the proposed one"):
            scene.requests.merge_when_ready(opened.number, "0" * 40, "rebase")
        scene.requests.merge_when_ready(opened.number, commit, "rebase")
        pull = server.pulls[opened.number]
        assert (pull.scheduled, pull.item["merged"]) == ("rebase", is_approved)
        if not is_approved:
            scene.requests.merge_when_ready(opened.number, commit, "rebase")
        server.checks_take = 1000
        assert scene.propose(2)
        other = scene.requests.open(branch(2), TEXT)
        with pytest.raises(DependencyError, match="conflicts, or was not checked within 10 s"):
            scene.requests.merge_when_ready(other.number, other.head, "rebase")


def test_gitea_has_not_looked_for_a_conflict_yet(tmp_path: Path) -> None:
    """What is not checked yet looks as a conflict does; only another content of the same file makes it one."""
    with gitea_scene(tmp_path) as (scene, server):
        scene.propose(1)
        opened = scene.requests.open(branch(1), TEXT)
        for is_other in (False, True):
            server.checks_take = 1
            found = scene.requests.find(branch(1))
            assert found is not None
            assert (found.number, found.has_conflict) == (opened.number, is_other)
            text = scene.git.read_file(scene.git.fetch(), PATH) or b""
            scene.commit(text.replace(b":before", b":before-that"))


def test_gitea_finds_the_newest_of_the_repositorys_own(tmp_path: Path) -> None:
    """Of two requests from a branch it is the newer one, and never one from a branch of that name in a fork."""
    with gitea_scene(tmp_path) as (scene, server):
        scene.propose(1)
        scene.requests.close(scene.requests.open(branch(1), TEXT).number, "superseded")
        newer = scene.requests.open(branch(1), TEXT)
        scene.close(newer.number)
        for number in range(newer.number + 1, newer.number + 30):
            server.pulls[number] = Pull(copy.deepcopy(server.pulls[newer.number].item), branch(1))
            server.pulls[number].item["number"] = number
            server.pulls[number].item["head"]["repo_id"] = 2
        found = scene.requests.find(branch(1))
        assert found is not None
        assert (found.number, found.by, found.was_withdrawn) == (newer.number, "ana", False)


def test_what_gitea_refuses(tmp_path: Path) -> None:
    """A token without the scope, a limit, and a repository that it may not see; no error shows the token."""
    with gitea_scene(tmp_path) as (scene, server):
        scene.propose(1)
        server.may_write = False
        with pytest.raises(NotPermittedError, match="the scopes write:repository and write:issue"):
            scene.requests.open(branch(1), TEXT)
        server.faults.extend([(429, {"Retry-After": "7"})])
        with pytest.raises(RateLimitedError) as limited:
            scene.requests.find(branch(1))
        assert limited.value.wait_seconds == 7
        other = gitea_requests(server.url, "acme/other", tmp_path / "token", FakeClock())
        with pytest.raises(RefusedError, match="Correct the repository's setting"):
            other.find(branch(1))
        (tmp_path / "token").write_text("wrong-token")
        with pytest.raises(NotPermittedError) as refused:
            scene.requests.find(branch(1))
        assert "wrong-token" not in str(refused.value)


def test_the_right_to_open_a_request_is_told_without_opening_one(scene: Scene) -> None:
    """Where nothing is wrong, nothing is said, and nothing is there afterwards."""
    for method in (None, "merge", "squash", "rebase"):
        scene.requests.check_open(method)
    assert scene.requests.find("main") is None


@pytest.mark.parametrize(
    ("settings", "method", "error", "said"),
    [
        ({"permissions": {"pull": True, "push": False}}, None, NotPermittedError, "the role Write"),
        ({"archived": True}, None, RefusedError, "Unarchive it"),
        ({"allow_auto_merge": False}, "squash", RefusedError, "Allow auto-merge in the repository's settings"),
        ({"allow_rebase_merge": False}, "rebase", RefusedError, "Allow the way rebase"),
        ({"allow_auto_merge": False, "allow_rebase_merge": False}, None, None, ""),
        (None, None, NotPermittedError, "pull_requests=write"),
    ],
)
def test_what_keeps_a_request_from_being_opened_on_github(
    tmp_path: Path, settings: dict[str, object] | None, method: MergeMethod | None, error: type[Exception], said: str
) -> None:
    """The account's role, the repository's settings, and the token's own rights, each with what helps."""
    with github_scene(tmp_path) as (scene, server):
        server.settings |= settings or {}
        server.may_write = settings is not None
        with pytest.raises(error, match=said) if error else nullcontext():
            scene.requests.check_open(method)
        assert server.pulls == {}


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"archived": True}, RefusedError, "Unarchive it"),
        ({"merge_requests_access_level": "disabled"}, RefusedError, "Turn them on"),
        ({"squash_option": "never"}, RefusedError, "correct auto_merge"),
        (None, NotPermittedError, "the scope api"),
    ],
)
def test_what_keeps_a_request_from_being_opened_on_gitlab(
    tmp_path: Path, settings: dict[str, object] | None, error: type[Exception], said: str
) -> None:
    """The same of a GitLab project."""
    with gitlab_scene(tmp_path) as (scene, server):
        server.settings |= settings or {}
        server.may_write = settings is not None
        with pytest.raises(error, match=said):
            scene.requests.check_open("squash")
        assert server.requests == {}


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"permissions": {"pull": True, "push": False}}, NotPermittedError, "an account that may write"),
        ({"archived": True}, RefusedError, "Unarchive it"),
        ({"has_pull_requests": False}, RefusedError, "Turn them on"),
        ({"allow_squash_merge": False}, RefusedError, "correct auto_merge"),
        (None, NotPermittedError, "the scopes write:repository and write:issue"),
    ],
)
def test_what_keeps_a_request_from_being_opened_on_gitea(
    tmp_path: Path, settings: dict[str, object] | None, error: type[Exception], said: str
) -> None:
    """The same of a repository on Gitea."""
    with gitea_scene(tmp_path) as (scene, server):
        server.settings |= settings or {}
        server.may_write = settings is not None
        with pytest.raises(error, match=said):
            scene.requests.check_open("squash")
        assert server.pulls == {}


def test_what_github_refuses(tmp_path: Path) -> None:
    """A token without the permission, a limit, and a repository that the token may not see, each by its class."""
    with github_scene(tmp_path) as (scene, server):
        scene.propose(1)
        server.may_write = False
        with pytest.raises(NotPermittedError, match="pull_requests=write"):
            scene.requests.open(branch(1), TEXT)
        server.may_write = True
        server.faults.append(Fault(429, "slow down", {"Retry-After": "7"}))
        with pytest.raises(RateLimitedError) as limited:
            scene.requests.find(branch(1))
        assert limited.value.wait_seconds == 7
        other = GitHubPullRequests(server.url, "acme/other", "main", token_in(tmp_path / "token"), NAMED)
        with pytest.raises(RefusedError):
            other.find(branch(1))


def test_what_gitlab_refuses(tmp_path: Path) -> None:
    """The same of GitLab; no error shows the token."""
    with gitlab_scene(tmp_path) as (scene, server):
        scene.propose(1)
        server.may_write = False
        with pytest.raises(NotPermittedError, match="the scope api"):
            scene.requests.open(branch(1), TEXT)
        server.faults.extend([(429, {"Retry-After": "7"})])
        with pytest.raises(RateLimitedError) as limited:
            scene.requests.find(branch(1))
        assert limited.value.wait_seconds == 7
        other = GitLabMergeRequests(server.url, "acme/other", "main", token_in(tmp_path / "token"), NAMED)
        with pytest.raises(RefusedError, match="Correct the repository's setting"):
            other.find(branch(1))
        (tmp_path / "token").write_text("wrong-token")
        with pytest.raises(NotPermittedError) as refused:
            scene.requests.find(branch(1))
        assert "wrong-token" not in str(refused.value)
