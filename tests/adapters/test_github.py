"""The client of GitHub, against a server whose answers a table from GitHub's documentation holds in place."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestration.adapters.github import AppKey, GitHubRepository
from orchestration.adapters.http import next_link
from orchestration.promotion.github import NotPermittedError, RateLimitedError, RefusedError
from orchestration.promotion.problems import DependencyError, InvalidInputError
from testbeds.common.github_server import Fault, GitHubServer
from tests.fakes.github import NAMED, TOKEN, client_of, running_github

INPUTS = {"model_name": "iris", "current_accuracy": "0.81", "baseline_accuracy": "0.95"}
WORKFLOW = "ai-drift-detection.yml"
APP_ID, INSTALLATION = "Iv23abc", 77


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with running_github() as server:
        yield server


@pytest.fixture
def github(server: GitHubServer, tmp_path: Path) -> GitHubRepository:
    return client_of(server, tmp_path)


@pytest.fixture
def app(server: GitHubServer, tmp_path: Path) -> AppKey:
    """An App that the server knows, with its key in a file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    server.app = (APP_ID, INSTALLATION, public.decode())
    (tmp_path / "key.pem").write_bytes(pem)
    return AppKey(APP_ID, INSTALLATION, tmp_path / "key.pem", "the App's settings")


@pytest.mark.parametrize("names_run", [False, True])
def test_a_dispatch_arrives(server: GitHubServer, github: GitHubRepository, names_run: bool) -> None:
    """Both acknowledgements are understood: 204, and 200 with the run."""
    server.answers_with_run = names_run
    github.dispatch(WORKFLOW, "main", INPUTS)
    assert [(each.workflow, each.ref, each.inputs) for each in server.dispatches] == [(WORKFLOW, "main", INPUTS)]


def test_a_workflows_name_stays_one_part_of_the_path(server: GitHubServer, github: GitHubRepository) -> None:
    """A name with slashes or dots reaches no other endpoint."""
    with pytest.raises(RefusedError):
        github.dispatch("../../issues?", "main", INPUTS)
    assert server.requests[-1][1].endswith("/actions/workflows/..%2F..%2Fissues%3F/dispatches")


def test_issues_live(github: GitHubRepository) -> None:
    """An issue is created, found by its label, commented on and closed; closing it again changes nothing."""
    created = github.create_issue("title", "body", ["drift", "iris"])
    github.create_issue("another", "", ["drift"])
    assert [issue.number for issue in github.issues(["drift", "iris"])] == [created.number]
    comment = github.comment(created.number, "more")
    assert [each.body for each in github.comments(created.number)] == ["more"]
    assert comment.author == "incumbent[bot]"
    for _ in range(2):
        assert not github.close_issue(created.number).is_open
    assert list(github.issues(["iris"])) == []
    assert [issue.title for issue in github.issues(["iris"], state="closed")] == ["title"]


def test_pages_are_asked_for_as_they_are_needed(server: GitHubServer, github: GitHubRepository) -> None:
    """Who takes the first of many issues pays for one page; who takes all gets each once, without pull requests."""
    for number in range(250):
        github.create_issue(str(number), "")
    server.repository.issues[7]["pull_request"] = {}
    server.requests.clear()
    assert [issue.title for issue in islice(github.issues(), 2)] == ["249", "248"]
    assert len(server.requests) == 1
    assert len({issue.number for issue in github.issues()}) == 249
    assert len(server.requests) == 4


def test_a_next_page_elsewhere_is_not_followed(github: GitHubRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server that a link leads to would be given the token."""
    with running_github() as elsewhere:
        links = iter((f"{elsewhere.url}/repos/{elsewhere.name}/issues?page=2", None))
        monkeypatch.setattr("orchestration.adapters.host_api.next_link", lambda _: next(links))
        with pytest.raises(DependencyError, match="found a next page on another server"):
            list(github.issues())
        assert elsewhere.requests == []


def test_the_token_is_read_for_each_request(server: GitHubServer, github: GitHubRepository, tmp_path: Path) -> None:
    """A token that was rotated is used at once; a wrong one is our trouble, and no error shows it."""
    (tmp_path / "github-token").write_text("an-expired-token", encoding="utf-8")
    with pytest.raises(NotPermittedError, match="HTTP 401: Bad credentials") as caught:
        github.dispatch(WORKFLOW, "main", INPUTS)
    assert "an-expired-token" not in str(caught.value)
    (tmp_path / "github-token").write_text(TOKEN, encoding="utf-8")
    github.dispatch(WORKFLOW, "main", INPUTS)


def test_a_missing_permission_is_named(server: GitHubServer, github: GitHubRepository) -> None:
    """A 403 that is not about limits is trouble of our token, and the error says which permission is needed."""
    server.may_write = False
    with pytest.raises(NotPermittedError, match="It needs the permission actions=write"):
        github.dispatch(WORKFLOW, "main", INPUTS)


@pytest.mark.parametrize(
    ("workflow", "ref", "found"),
    [("none.yml", "main", "HTTP 404: Not Found"), (WORKFLOW, "none", "HTTP 422: No ref found for: none")],
)
def test_what_will_always_be_refused_is_told_apart(
    github: GitHubRepository, workflow: str, ref: str, found: str
) -> None:
    """A wrong name or reference needs a person."""
    with pytest.raises(RefusedError, match=found):
        github.dispatch(workflow, ref, INPUTS)


@pytest.mark.parametrize(
    ("fault", "pause"),
    [
        (Fault(403, "secondary rate limit", {"Retry-After": "30"}), 30.0),
        (Fault(429, "", {"Retry-After": "7"}), 7.0),
        (Fault(503, "", {"Retry-After": "8"}), 8.0),
        (Fault(429, "", {"Retry-After": "86400000"}), 3600.0),
        (Fault(403, "You have exceeded a secondary rate limit. Please wait."), 60.0),
        (Fault(429, "", {"Retry-After": "-1"}), 60.0),
        (Fault(429, "", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}), 1.0),
        (Fault(429, "", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}), 60.0),
    ],
)
def test_limits_say_how_long_to_wait(
    server: GitHubServer, github: GitHubRepository, fault: Fault, pause: float
) -> None:
    """`Retry-After` counts first, then the reset of an exhausted limit, else a minute; never more than an hour."""
    server.faults.append(fault)
    with pytest.raises(RateLimitedError) as caught:
        github.dispatch(WORKFLOW, "main", INPUTS)
    assert caught.value.wait_seconds == pause


def test_a_reset_is_read_by_the_servers_clock(
    server: GitHubServer, github: GitHubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However wrong our own clock is, the pause until the hour's reset is right."""
    reset = str(int(time.time()) + 600)
    monkeypatch.setattr("orchestration.adapters.github.time", SimpleNamespace(time=lambda: 0.0))
    server.faults.append(Fault(403, "", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}))
    with pytest.raises(RateLimitedError) as caught:
        github.dispatch(WORKFLOW, "main", INPUTS)
    assert 500 < caught.value.wait_seconds <= 600


@pytest.mark.parametrize(
    "fault",
    [Fault(502, "Server Error"), Fault(500, ""), Fault(408, "Timeout"), Fault(425, ""), Fault(), Fault(is_done=True)],
)
def test_no_usable_answer_is_neither(server: GitHubServer, github: GitHubRepository, fault: Fault) -> None:
    """A server error or a lost answer is an outage; the dispatch is sent once, because it may have been carried out."""
    server.faults.append(fault)
    with pytest.raises(DependencyError) as caught:
        github.dispatch(WORKFLOW, "main", INPUTS)
    assert type(caught.value) is DependencyError
    assert len(server.requests) == 1
    assert len(server.dispatches) == fault.is_done


def test_an_app_asks_with_its_installations_token(server: GitHubServer, app: AppKey) -> None:
    """One token serves many requests."""
    github = GitHubRepository(server.url, server.name, app, NAMED)
    for _ in range(3):
        github.dispatch(WORKFLOW, "main", INPUTS)
    assert len(server.dispatches) == 3
    assert sum(path.startswith("/app/") for _, path in server.requests) == 1


def test_an_apps_token_is_replaced_before_it_ends(
    server: GitHubServer, app: AppKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 58 of its 60 minutes another is fetched."""
    github, start = GitHubRepository(server.url, server.name, app, NAMED), time.monotonic()
    github.dispatch(WORKFLOW, "main", INPUTS)
    for minutes, tokens in ((57, 1), (59, 2)):
        later = SimpleNamespace(time=time.time, monotonic=lambda m=minutes: start + 60 * m)
        monkeypatch.setattr("orchestration.adapters.github.time", later)
        github.dispatch(WORKFLOW, "main", INPUTS)
        assert sum(path.startswith("/app/") for _, path in server.requests) == tokens


def test_a_revoked_token_of_an_app_is_replaced(server: GitHubServer, app: AppKey) -> None:
    """The request that GitHub refused fails; the next one brings a new token."""
    github = GitHubRepository(server.url, server.name, app, NAMED)
    github.dispatch(WORKFLOW, "main", INPUTS)
    server.tokens.clear()
    with pytest.raises(NotPermittedError):
        github.dispatch(WORKFLOW, "main", INPUTS)
    github.dispatch(WORKFLOW, "main", INPUTS)


def test_an_app_that_github_does_not_know_is_our_trouble(server: GitHubServer, app: AppKey) -> None:
    """A key that belongs to another App is refused as a wrong token is."""
    app.app_id = "another"
    with pytest.raises(NotPermittedError, match="a token of installation 77 of GitHub App another"):
        GitHubRepository(server.url, server.name, app, NAMED).dispatch(WORKFLOW, "main", INPUTS)


def test_a_file_that_is_no_key_is_named(server: GitHubServer, app: AppKey) -> None:
    """The error names the file and shows nothing of it."""
    app.path.write_text("hunter2hunter2", encoding="utf-8")
    with pytest.raises(DependencyError, match=r"key file .*key\.pem: expected an RSA private key in PEM") as caught:
        GitHubRepository(server.url, server.name, app, NAMED).dispatch(WORKFLOW, "main", INPUTS)
    assert "hunter2" not in str(caught.value)


def test_an_address_with_a_password_is_refused(tmp_path: Path) -> None:
    """Secrets stay in files."""
    with pytest.raises(InvalidInputError, match="user or password"):
        GitHubRepository("https://me:hunter2@api.github.com", "a/b", AppKey("1", 1, tmp_path, ""), NAMED)


@pytest.mark.parametrize(
    ("header", "link"),
    [
        ("", None),
        ('<https://h/x?page=2>; rel="next", <https://h/x?page=9>; rel="last"', "https://h/x?page=2"),
        ('<https://h/x?page=1>; rel="prev"', None),
        ('<https://h/x?page=3>; type="t"; rel="next"; a="b"', "https://h/x?page=3"),
        ("</v2/x?last=a,b&n=2>; rel=next", "/v2/x?last=a,b&n=2"),
        ('<https://h/x>; rel="next-archive"', None),
    ],
)
def test_the_next_page_is_found(header: str, link: str | None) -> None:
    """Only the relation `next` counts."""
    assert next_link(header) == link
