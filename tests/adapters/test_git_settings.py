"""What the settings of Git and of its host's API mean, and which of them each error names."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestration.adapters.git.authorship import parse_authorship, trailer_fault
from orchestration.adapters.git.objects import Maker, Person, write_commit, write_tag
from orchestration.adapters.signing import signing_unattended, signing_with
from orchestration.environment import EnvironmentPlatform, parse_pairs, platform_from_environment
from orchestration.promotion.github import NotPermittedError
from orchestration.promotion.policy import GitTarget, git_target, parse_policy
from orchestration.promotion.problems import DependencyError, InvalidInputError, ProblemError
from orchestration.promotion.pull_requests import PullRequests
from tests.adapters.git_fixtures import World, world
from tests.fakes.world import POLICY_TEXT

__all__ = ["world"]


def platform_with(folder: Path, monkeypatch: pytest.MonkeyPatch, policy: str, **settings: str) -> EnvironmentPlatform:
    """The platform of these settings, without their prefix, and of one policy `p` with further lines."""
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "p.yaml").write_text(POLICY_TEXT + policy)
    monkeypatch.setenv("INCUMBENT_POLICIES", str(folder / "policies"))
    monkeypatch.setenv("INCUMBENT_STATE", str(folder / "state"))
    for name, value in settings.items():
        monkeypatch.setenv(f"INCUMBENT_GIT_{name}", value)
    return platform_from_environment()


def requests_of(platform: EnvironmentPlatform) -> PullRequests:
    requests = platform.pull_requests(platform.policy("p"))
    assert requests is not None
    return requests


# Logins


@pytest.mark.parametrize(("stated", "sent"), [("", "x-access-token"), (", username: svc-1", "svc-1")])
def test_a_policys_own_token_has_a_user_name(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stated: str, sent: str
) -> None:
    """Its own, or the one that its host is known to take; never that of the settings' token."""
    (tmp_path / "wrong").write_text("wrong-token")
    own = f"git: {{url: '{world.url}', token_file: '{tmp_path / 'wrong'}'{stated}}}\n"
    platform = platform_with(tmp_path, monkeypatch, own, URL="https://other.example/o/r.git", USERNAME="settings")
    with pytest.raises(
        DependencyError, match=rf"git\.token_file of policy p .*git\.username of policy p \(now {sent}\)"
    ):
        platform.git(platform.policy("p")).fetch()


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ("{url: 'https://h/r.git', username: 'a:b', token_file: t}", "git.username: expected a user name"),
        ("{url: 'https://h/r.git', username: a}", "username needs token_file"),
        ("{branch: 'a b'}", "git.branch: expected a branch's name"),
        ("{branch: HEAD}", "git.branch: expected a branch's name"),
        (
            "{branch: main}\ndelivery: {pull_request: {host: gitea, api: 'https://h/api/v1?x=1'}}",
            "delivery.pull_request.api: expected an address such as https://host/api/v1, without a query",
        ),
    ],
)
def test_a_policys_own_repository_is_checked_when_it_is_read(own: str, found: str) -> None:
    """By the field's name, and not at the first fetch."""
    with pytest.raises(InvalidInputError, match=re.escape(found)):
        parse_policy("p", f"{POLICY_TEXT}git: {own}\n")


def test_names_of_branches_that_git_allows_are_taken(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By settings, policies and the options of `incumbent init`; Git fetches and lists such a branch as any other."""
    world.git("branch", "env@prod", "main")
    token = {"TOKEN_FILE": str(world.token_file), "URL": world.url}
    by_setting = platform_with(tmp_path, monkeypatch, "", BRANCH="env@prod", **token)
    assert by_setting.git().fetch() == world.head()
    by_policy = platform_with(tmp_path, monkeypatch, "git: {branch: 'env@prod'}\n", BRANCH="main")
    assert by_policy.git(by_policy.policy("p")).fetch() == world.head()
    assert git_target({"url": "", "branch": "env@prod", "token_file": None}) == GitTarget(branch="env@prod")
    with pytest.raises(InvalidInputError, match=r"the options --git-\.\.\.: .*found branch: .*'a b'"):
        git_target({"branch": "a b"})


def test_a_user_name_that_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its colon would end it, and the rest would count as the password."""
    platform = platform_with(tmp_path, monkeypatch, "", URL="https://h/r.git", TOKEN_FILE="t", USERNAME="a:b")
    with pytest.raises(InvalidInputError, match="setting INCUMBENT_GIT_USERNAME: expected a user name"):
        platform.git()


@pytest.mark.parametrize("path", ["missing", "."])
def test_a_tokens_file_that_cannot_be_read_is_named_with_its_setting(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    """Nothing, and a folder."""
    platform = platform_with(tmp_path, monkeypatch, "", URL=world.url, TOKEN_FILE=path)
    with pytest.raises(DependencyError, match=r"a file that cannot be read .*INCUMBENT_GIT_TOKEN_FILE"):
        platform.git().fetch()


@pytest.mark.parametrize("setting", ["TOKEN_FILE", "SSH_KEY_FILE", "KNOWN_HOSTS_FILE"])
def test_a_file_in_a_home_that_nobody_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str) -> None:
    """Its setting is named before Git or ssh is run."""
    files = {setting: "~nobody-here/file"}
    platform = platform_with(tmp_path, monkeypatch, "", URL="git@git.example.com:o/r.git", **files)
    with pytest.raises(InvalidInputError, match=rf"setting INCUMBENT_GIT_{setting}: .*no home folder of ~nobody-here"):
        platform.git()


def test_a_state_in_a_home_that_nobody_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is refused by its name, before anything is contacted."""
    platform_with(tmp_path, monkeypatch, "", URL="https://h/r.git")
    monkeypatch.setenv("INCUMBENT_STATE", "~nobody-here/state")
    with pytest.raises(InvalidInputError, match="setting INCUMBENT_STATE: expected a path"):
        platform_from_environment().git()


def test_the_settings_own_repository_is_never_named_as_a_policys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even with an address that cannot be read, which is like no other."""
    platform = platform_with(tmp_path, monkeypatch, "", URL="https://h:port/r.git", TOKEN_FILE="t")
    with pytest.raises(InvalidInputError, match=r"^INCUMBENT_GIT_URL: .*an address that cannot be read"):
        platform.git()


# Commits


@pytest.mark.parametrize("author", ["'. , ;' <b@example.com>", '" <b@example.com>', "\\ <b@example.com>"])
def test_a_name_that_git_takes_away_is_refused_by_its_setting(author: str) -> None:
    """Of these Git keeps nothing."""
    for author_and_committer in ((author, ""), ("", author)):
        with pytest.raises(InvalidInputError, match=r"INCUMBENT_GIT_(AUTHOR|COMMITTER): .*with a letter or digit"):
            parse_authorship(*author_and_committer, "", {}, None)


def test_what_git_says_about_a_person_is_no_fault_of_the_disk(world: World) -> None:
    """Whatever else Git refuses about a name is told in its words, with the settings."""
    nobody = Person("", "b@example.com")
    repository = world.repository()
    head = repository.fetch()
    mirror = repository._access.mirror
    writes: tuple[Callable[[], str], ...] = (
        lambda: write_commit(mirror, f"{head}^{{tree}}", head, "x", 1e9, Maker(nobody, nobody)),
        lambda: write_tag(mirror, "x", head, "x", 1e9, Person("<", "no space\n")),
    )
    for write in writes:
        with pytest.raises(InvalidInputError, match="INCUMBENT_GIT_AUTHOR and INCUMBENT_GIT_COMMITTER") as caught:
            write()
        assert "disk" not in str(caught.value)


def test_a_trailers_value_may_have_commas() -> None:
    r"""They are written `\,`; without the backslash the rest is an entry of its own, which is refused."""
    text = r"Signed-off-by=Bot\, Model <b@example.com>, Ticket=OPS-12\,OPS-13"
    assert parse_pairs("INCUMBENT_GIT_TRAILERS", text, "Key=value", trailer_fault) == {
        "Signed-off-by": "Bot, Model <b@example.com>",
        "Ticket": "OPS-12,OPS-13",
    }
    with pytest.raises(InvalidInputError, match=r"the entry 'OPS-13': .*A comma in a value is written \\,"):
        parse_pairs("INCUMBENT_GIT_TRAILERS", "Ticket=OPS-12,OPS-13", "Key=value", trailer_fault)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("By=x", "By is a trailer that the pipeline itself writes and reads"),
        ("Ticket=1,promotion-id=x", "promotion-id is a trailer that the pipeline itself writes and reads"),
        ("No key=x", "a trailer's name has letters"),
        ("Ticket=", "a trailer has a value"),
        ("Ticket=a  b", "one line of visible characters"),
        ("Ticket=1,Ticket=2", "Ticket stands there twice"),
    ],
)
def test_a_trailer_that_cannot_be_added_says_why(text: str, found: str) -> None:
    """With the setting, the entry and what it collides with."""
    with pytest.raises(InvalidInputError, match=rf"setting INCUMBENT_GIT_TRAILERS: .*found the entry .*{found}"):
        parse_pairs("INCUMBENT_GIT_TRAILERS", text, "Key=value", trailer_fault)


@pytest.mark.parametrize("key", ["{folder}/none", "~nobody-here/key", "{folder}"])
def test_a_signing_key_that_is_not_there_is_not_looked_for_elsewhere(tmp_path: Path, key: str) -> None:
    """A path is no id of a key that gpg has, so gpg is not asked, neither for the pipeline nor for a person."""
    path = key.format(folder=tmp_path)
    for sign in (signing_unattended(path), signing_with(path)):
        with pytest.raises(
            ProblemError, match=r"found (no such file|something else than a file|a file that cannot be)"
        ):
            sign(b"x")


@pytest.mark.parametrize(("key", "package"), [("file", "OpenSSH's client"), ("0xABCD", "GnuPG")])
def test_a_missing_program_that_signs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, package: str
) -> None:
    """With what to install, and not with advice about the key."""
    (tmp_path / "file").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DependencyError, match=rf"no program .* Install {package}\.$"):
        signing_unattended(key)(b"x")


# The API


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Run a server that gives every request one answer, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
            """Log nothing."""

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server calls

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_JSON, _PAGE = json.dumps({"message": "no"}).encode(), b"<html>hello</html>"


@pytest.mark.parametrize("host", ["github", "gitlab", "gitea"])
@pytest.mark.parametrize(
    ("status", "body", "names"),
    [
        (401, _JSON, ("INCUMBENT_GIT_TOKEN_FILE", "It needs")),
        (404, _JSON, ("INCUMBENT_GIT_URL", "delivery.pull_request of policy p")),
        (404, _PAGE, ("INCUMBENT_GIT_URL", "delivery.pull_request of policy p")),
        (301, b"", ("INCUMBENT_GIT_URL", "delivery.pull_request of policy p")),
        (200, _PAGE, ("delivery.pull_request of policy p",)),
    ],
)
def test_an_api_that_does_not_answer_as_it_should_leads_to_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, status: int, body: bytes, names: tuple[str, ...]
) -> None:
    """A token, a repository, a kind of host or an address that is wrong: each error names what to look at."""
    (tmp_path / "token").write_text("token")
    with answering(status, body) as address:
        delivery = f"delivery: {{pull_request: {{host: {host}}}}}\n"
        settings = {"URL": f"{address}/o/r.git", "TOKEN_FILE": str(tmp_path / "token")}
        requests = requests_of(platform_with(tmp_path, monkeypatch, delivery, **settings))
        with pytest.raises(DependencyError) as caught:
            requests.check_open(None)
    for name in names:
        assert name in caught.value.problem.next_step


_OWN = "git: {{url: 'https://{host}/o/own.git', token_file: own}}\n"
_APP = {"APP_ID": "1", "APP_INSTALLATION": "7", "APP_KEY_FILE": "app.pem"}


@pytest.mark.parametrize(
    ("settings", "own", "file", "setting"),
    [
        ({"TOKEN_FILE": "git"}, "", "file git:", "INCUMBENT_GIT_TOKEN_FILE"),
        ({"TOKEN_FILE": "git", "API_TOKEN_FILE": "api"}, "", "file api:", "INCUMBENT_GIT_API_TOKEN_FILE"),
        (_APP, "", "file app.pem:", "INCUMBENT_GIT_APP_KEY_FILE"),
        ({**_APP, "API_TOKEN_FILE": "api"}, "", "file api:", "INCUMBENT_GIT_API_TOKEN_FILE"),
        ({"TOKEN_FILE": "git"}, "github.com", "file own:", "git.token_file of policy p"),
        (_APP, "github.com", "file own:", "git.token_file of policy p"),
        ({"API_TOKEN_FILE": "api"}, "github.com", "file api:", "INCUMBENT_GIT_API_TOKEN_FILE"),
        ({"API_TOKEN_FILE": "api"}, "ghe.example", "file own:", "git.token_file of policy p"),
    ],
)
def test_a_token_for_the_api_counts_on_its_host_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Mapping[str, str], own: str, file: str, setting: str
) -> None:
    """It counts before an App and before a policy's own token; no file is there, so nothing is sent."""
    delivery = "delivery: {pull_request: {host: github}}\n"
    policy = (_OWN.format(host=own) if own else "") + delivery
    platform = platform_with(tmp_path, monkeypatch, policy, URL="https://github.com/o/r.git", **settings)
    with pytest.raises(NotPermittedError, match=f"^{file}.*{setting}"):
        requests_of(platform).find("incumbent/x")


def test_a_token_for_the_api_counts_however_git_reaches_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The API of a repository over ssh is that of the same repository over HTTPS."""
    policy = _OWN.format(host="github.com") + "delivery: {pull_request: {host: github}}\n"
    platform = platform_with(tmp_path, monkeypatch, policy, URL="git@github.com:o/r.git", API_TOKEN_FILE="api")
    with pytest.raises(NotPermittedError, match=r"^file api:"):
        requests_of(platform).find("incumbent/x")
