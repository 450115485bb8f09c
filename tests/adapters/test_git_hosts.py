"""What Git hosts ask of a login and of a commit, with real hooks of a real `git http-backend`; docs/git-hosts.md."""

import base64
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestration.adapters.git.authorship import Authorship, parse_authorship
from orchestration.adapters.git.login import AppLogin, Login, ssh_command
from orchestration.adapters.git.mirror import Limits, Patience
from orchestration.adapters.git.settings import api_of
from orchestration.adapters.github import AppKey
from orchestration.adapters.signing import signing_unattended
from orchestration.environment import platform_from_environment
from orchestration.promotion.github import NotPermittedError
from orchestration.promotion.manifest import EditRefused, read_image
from orchestration.promotion.manifest_place import Selector
from orchestration.promotion.ports import LeaseBusy, LeaseRecord, Pushed
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.repository_address import web_address
from testbeds.common import git_server
from testbeds.common.git_server import GitHandler
from tests.adapters.git_fixtures import MANIFEST, World, edit, world
from tests.fakes.github import running_github
from tests.fakes.world import POLICY_TEXT

__all__ = ["world"]

_APP = "INCUMBENT_GIT_APP_ID, INCUMBENT_GIT_APP_INSTALLATION and INCUMBENT_GIT_APP_KEY_FILE"
_ID = "iris/1/aaaaaaaaaaaa/1"


def _hook(world: World, script: str) -> None:
    """Let a pre-receive hook run `script` for each new object, in `$commit`; it prints why it refuses one."""
    hook = world.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    body = f'while read old commit ref; do\ncase "$commit" in *[!0]*) ;; *) continue;; esac\n{script}\ndone\n'
    hook.write_text(f"#!/bin/sh\n{body}")
    hook.chmod(0o755)


def _promote(world: World, authorship: Authorship | None = None, login: Login | None = None) -> str:
    """Promote as a run does: lease, commit, evidence and the lease given back; return the commit."""
    repository = world.repository(authorship=authorship, login=login or Login(world.token_file))
    lease = repository.acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    pushed = repository.push_edit(lambda head: edit(), lease, 60.0)
    assert isinstance(pushed, Pushed)
    tagged = repository.create_tag("incumbent/iris/1-1", pushed.commit, "Passed", pushed.lease, 60.0)
    assert isinstance(tagged, LeaseRecord)
    repository.release_lease(tagged)
    return pushed.commit


# Commits


_DOMAIN = """
case "$(git log -1 --format='%ae %ce' $commit)" in
    *@example.com\\ *@example.com) ;;
    *) echo "GL-HOOK-ERR: Committer's email does not follow the pattern '@example.com\\$'" >&2; exit 1;;
esac
"""
_CONVENTIONAL = """
git cat-file -t $commit | grep -q commit || continue
git log -1 --format=%s $commit | grep -qE '^(feat|fix|chore|revert)(\\([a-z0-9-]+\\))?: [a-z]' ||
    { echo "GL-HOOK-ERR: Commit message does not follow the pattern of Conventional Commits" >&2; exit 1; }
"""
_SIGNED = """
git cat-file -t $commit | grep -q commit || continue
git cat-file commit $commit | grep -q '^gpgsig' ||
    { echo "remote: GH013: Commits must have verified signatures" >&2; exit 1; }
"""
_SIGN_OFF = """
git cat-file -t $commit | grep -q commit || continue
git log -1 --format='%(trailers:key=Signed-off-by)' $commit | grep -q Bot ||
    { echo "the commit has no Signed-off-by line: sign off your commits" >&2; exit 1; }
"""


def _key(folder: Path) -> Path:
    key = folder / "signing key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return key


@pytest.mark.platform
@pytest.mark.parametrize(
    ("hook", "setting", "authorship"),
    [
        (_DOMAIN, "INCUMBENT_GIT_AUTHOR", parse_authorship("Bot <bot@example.com>", "", "", {}, None)),
        (_CONVENTIONAL, "INCUMBENT_GIT_SUBJECT", parse_authorship("", "", "conventional", {}, None)),
        (_SIGN_OFF, "INCUMBENT_GIT_TRAILERS", parse_authorship("", "", "", {"Signed-off-by": "Bot <b@c.de>"}, None)),
        (_SIGNED, "INCUMBENT_GIT_SIGNING_KEY", None),
    ],
    ids=["domain", "conventional", "signed-off", "signed"],
)
def test_a_rule_of_the_server_is_met_by_a_setting(
    world: World, hook: str, setting: str, authorship: Authorship | None
) -> None:
    """A hook that looks at every ref turns the push away, and its words and the setting that helps are said; set, the
    same promotion lands, with the trailers by which it is recognised."""
    _hook(world, hook)
    words = next(part for part in ("does not follow", "verified signatures", "no Signed-off-by") if part in hook)
    with pytest.raises(DependencyError, match=rf"(?s){words}.*{setting}") as caught:
        _promote(world)
    assert len(world.clock.slept) == 1, caught.value  # a rule is not hammered
    signed = parse_authorship("", "", "", {}, signing_unattended(str(_key(world.folder))))
    commit = _promote(world, authorship or signed)
    assert world.promotions(_ID) == [commit]
    assert [each.commit for each in world.repository().history(commit, "iris")] == [commit]


@pytest.mark.platform
def test_a_signature_is_one_that_git_verifies(world: World) -> None:
    """`git verify-commit` accepts the promotion's commit with the key's public half, and with no other."""
    key = _key(world.folder)
    authorship = parse_authorship("Bot <bot@example.com>", "", "{subject} [skip ci]", {}, signing_unattended(str(key)))
    commit = _promote(world, authorship)
    allowed = world.folder / "allowed"
    allowed.write_text(f"bot@example.com {key.with_suffix('.pub').read_text()}")
    said = world.git("-c", f"gpg.ssh.allowedSignersFile={allowed}", "show", "-s", "--format=%G? %GS %s", commit)
    assert said == "G bot@example.com Promote iris to version 1 [skip ci]"
    world.git("fsck", "--strict")


@pytest.mark.platform
def test_a_pgp_key_in_a_file_signs_without_a_keyring(world: World) -> None:
    """The key is imported for one signature, and no agent of it stays behind."""
    home = world.folder / "g"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--passphrase", ""]
    subprocess.run(
        [*gpg, "--quick-gen-key", "Bot <bot@example.com>", "ed25519", "sign"], check=True, capture_output=True
    )
    exported = subprocess.run([*gpg, "--armor", "--export-secret-keys"], check=True, capture_output=True).stdout
    (world.folder / "key.asc").write_bytes(exported)
    commit = _promote(world, parse_authorship("", "", "", {}, signing_unattended(str(world.folder / "key.asc"))))
    verified = subprocess.run(
        ["git", "verify-commit", commit], env={**os.environ, "GIT_DIR": str(world.bare), "GNUPGHOME": str(home)}
    )
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    assert verified.returncode == 0


@pytest.mark.platform
def test_a_signing_key_that_cannot_sign_names_the_setting(world: World) -> None:
    """Nothing is pushed, and nobody is asked for a passphrase."""
    key = world.folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    with pytest.raises(DependencyError, match=r"key .*/key: .*passphrase.*INCUMBENT_GIT_SIGNING_KEY"):
        _promote(world, parse_authorship("", "", "", {}, signing_unattended(str(key))))
    assert world.log() == ["Start with what is deployed"]


def test_a_worded_lease_is_read_and_excludes(world: World) -> None:
    """With a template of subjects the lease's own commit follows it, and every other run still reads the lease."""
    worded = parse_authorship("", "", "conventional", {"Ticket": "OPS-1"}, None)
    lease = world.repository(authorship=worded).acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    assert world.git("log", "-1", "--format=%s", lease.object_id) == "chore(iris): lease application iris"
    assert world.repository("another machine").lease("iris") == lease
    assert isinstance(world.repository("another machine").acquire_lease("iris", "run two", 60.0), LeaseBusy)


@pytest.mark.parametrize(
    ("author", "subject", "setting"),
    [
        ("bot@example.com", "", "INCUMBENT_GIT_AUTHOR"),
        ("Bot <bot>", "", "INCUMBENT_GIT_AUTHOR"),
        ("Bot\n<bot@example.com>", "", "INCUMBENT_GIT_AUTHOR"),
        ("", "[OPS-1]", "INCUMBENT_GIT_SUBJECT"),
        ("", "{subject} {ticket}", "INCUMBENT_GIT_SUBJECT"),
        ("", "{subject.__class__}", "INCUMBENT_GIT_SUBJECT"),
        ("", "{subject!r}", "INCUMBENT_GIT_SUBJECT"),
        ("", "{subject", "INCUMBENT_GIT_SUBJECT"),
        ("", "{subject}\nRollback-Of: x", "INCUMBENT_GIT_SUBJECT"),
    ],
)
def test_settings_of_commits_are_checked(author: str, subject: str, setting: str) -> None:
    """What could not be put into a commit, or would lose what it does, is refused by the setting's name."""
    with pytest.raises(InvalidInputError, match=setting):
        parse_authorship(author, "", subject, {}, None)


# Logins


def _wants(monkeypatch: pytest.MonkeyPatch, accepts: Callable[[str, str], bool]) -> list[str]:
    """Let the server take the users and passwords that `accepts` says; return the users that came."""
    came: list[str] = []

    def may_push(self: GitHandler) -> str | None:
        encoded = self.headers.get("Authorization", "").partition(" ")[2]
        user, _, password = base64.b64decode(encoded).decode().partition(":")
        came.append(user)
        (all_refs,) = self.git_server.may_push.values()
        return all_refs if password != "" and accepts(user, password) else None

    monkeypatch.setattr(GitHandler, "_may_push", may_push)
    return came


@pytest.mark.parametrize(
    ("host", "username"),
    [
        ("github.com", "x-access-token"),
        ("gitlab.com", "oauth2"),
        ("gitlab.example.com", "oauth2"),
        ("bitbucket.org", "x-token-auth"),
        ("dev.azure.com", "x-access-token"),
        ("codeberg.org", "x-access-token"),
    ],
)
def test_the_user_name_is_the_hosts(host: str, username: str) -> None:
    """As each host documents it (docs/git-hosts.md); a setting overrides the guess."""
    assert Login(Path("token")).username_for(host) == username
    assert Login(Path("token"), "svc-at-123").username_for(host) == "svc-at-123"


def test_a_refused_user_name_is_named_with_its_setting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error tells the user name that was sent; with the right one, the token is taken."""
    came = _wants(monkeypatch, lambda user, _: user == "svc'at\\n 123")
    with pytest.raises(
        DependencyError, match=r"credentials were refused.*INCUMBENT_GIT_USERNAME \(now x-access-token\)"
    ):
        world.repository().fetch()
    assert world.repository(login=Login(world.token_file, "svc'at\\n 123")).fetch() == world.head()
    assert {"x-access-token", "svc'at\\n 123"} <= set(came)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[tuple[AppLogin, list[tuple[str, str]]]]:
    """A GitHub App, and the requests that GitHub's API got."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, no_encryption = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, no_encryption)
    )
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    with running_github() as github:
        github.app = ("Iv23abc", 77, public.decode())
        yield AppLogin(github.url, AppKey("Iv23abc", 77, tmp_path / "key.pem", _APP)), github.requests


def test_an_apps_token_serves_until_it_is_refused(
    world: World, app: tuple[AppLogin, list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token serves every command of a promotion, no file keeps it, and a revoked one is replaced at once."""
    login, requests = app
    revoked: list[str] = []
    _wants(monkeypatch, lambda user, password: user == "x-access-token" and password not in revoked)
    _promote(world, login=Login(app=login))
    assert len(requests) == 1
    revoked.append(login.key.current)
    for path in (world.folder / "state").rglob("*"):
        assert not path.is_file() or revoked[0].encode() not in path.read_bytes(), path
    assert world.repository(login=Login(app=login)).fetch() == world.head()
    assert len(requests) == 2
    _wants(monkeypatch, lambda *_: False)
    with pytest.raises(DependencyError, match=rf"credentials were refused.*this repository \({_APP}\)") as caught:
        world.repository(login=Login(app=login)).fetch()
    assert "INCUMBENT_GIT_TOKEN_FILE" not in str(caught.value)
    assert revoked[0] not in str(caught.value)


@pytest.mark.parametrize("wrong", ["key", "installation"])
def test_an_app_that_github_does_not_know_names_the_settings(
    world: World, app: tuple[AppLogin, list[tuple[str, str]]], wrong: str
) -> None:
    """The server is not asked for anything, and the error says which settings to look at."""
    key = app[0].key
    if wrong == "key":
        key.path.write_text("-----BEGIN nothing")
    else:
        key.installation_id = 78
    with pytest.raises(DependencyError, match=_APP):
        world.repository(login=Login(app=app[0])).fetch()
    assert world.server.requests == []


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://github.com/o/r.git", "https://api.github.com"),
        ("https://acme.ghe.com/o/r.git", "https://api.acme.ghe.com"),
        ("https://git.acme.com:8443/o/r.git", "https://git.acme.com:8443/api/v3"),
        ("http://127.0.0.1:3000/o/r.git", "http://127.0.0.1:3000/api/v3"),
        ("git@git.acme.com:o/r.git", "https://git.acme.com/api/v3"),
    ],
)
def test_githubs_api_is_known_by_the_repositorys_address(url: str, api: str) -> None:
    """On github.com, on Enterprise Cloud with data residency and on Enterprise Server."""
    assert api_of(web_address(url)) == api


@pytest.mark.platform
def test_ssh_is_told_its_key_and_its_known_hosts(tmp_path: Path) -> None:
    """Whatever the files are called; ssh itself reads the options as they were meant."""
    key, hosts = tmp_path / "the 100% key", tmp_path / "known hosts"
    for file in (key, hosts):
        file.write_text("")
        file.chmod(0o600)
    command = ssh_command(Login(ssh_key_file=key, known_hosts_file=hosts), 5)
    read = subprocess.run(f"{command} -G host", shell=True, check=True, capture_output=True, text=True).stdout
    options = dict(reversed([line.split(" ", 1) for line in read.splitlines()]))
    assert options["stricthostkeychecking"] in ("true", "yes")
    assert options["batchmode"] == "yes"
    assert options["identityfile"].replace("%%", "%") == str(key)
    assert options["userknownhostsfile"].replace("%%", "%").strip('"') == str(hosts)


@pytest.mark.parametrize("fault", ["missing", "open", "quote"])
def test_a_key_that_ssh_would_not_use_names_file_and_setting(tmp_path: Path, fault: str) -> None:
    """Before ssh is run, whose own words would be about a login that failed."""
    key = tmp_path / ('a"key' if fault == "quote" else "key")
    if fault != "missing":
        key.write_text("")
        key.chmod(0o644)
    with pytest.raises(DependencyError, match=rf"file .*{key.name}: .*INCUMBENT_GIT_SSH_KEY_FILE"):
        ssh_command(Login(ssh_key_file=key), 5)


# Repositories


def test_a_renamed_repository_is_refused_with_its_new_address(world: World) -> None:
    """The token goes to the named host alone, and a person learns what to set."""
    world.server.order(
        "info/refs",
        status=301,
        headers={"Location": "https://git.example.com/new/name.git/info/refs?service=x"},
        times=9,
    )
    with pytest.raises(DependencyError, match=r"has moved to https://git.example.com/new/name.git.*INCUMBENT_GIT_URL"):
        world.repository().fetch()


def test_a_branch_that_does_not_exist_is_told_with_those_that_do(world: World) -> None:
    """A default branch is not called main everywhere."""
    for name in ("master", "release/1"):
        world.git("branch", name, "main")
    world.git("branch", "-D", "main")
    with pytest.raises(
        DependencyError, match=r"no branch of that name among master, release/1\. .*INCUMBENT_GIT_BRANCH"
    ):
        world.repository().fetch()


def test_a_shallow_repository_is_refused_by_name(world: World) -> None:
    """A partial clone of one hangs, and any other leaves the branch as it was with a mere warning."""
    repository = world.repository(limits=Limits(Patience(10, 2.0), Patience(10, 2.0), Patience(10, 4.0)))
    repository.fetch()
    world.commit("more", {"README.md": b"more\n"})
    (world.bare / "shallow").write_text(f"{world.head()}\n")
    with pytest.raises(DependencyError, match="a shallow repository"):
        repository.fetch()


def test_a_manifest_behind_a_submodule_or_link_is_refused_by_name(world: World) -> None:
    """Nothing is at such a path in this repository, and the reason is said."""
    head = world.head()
    index = f"160000 {head}\tmodels\n120000 {world.git('hash-object', '-w', '--stdin', stdin=b'apps')}\tlink\n"
    tree = world.git(
        "mktree",
        stdin=world.git("ls-tree", head).encode()
        + b"\n"
        + index.replace("160000 ", "160000 commit ").replace("120000 ", "120000 blob ").encode(),
    )
    world.git("update-ref", "refs/heads/main", world.git("commit-tree", "-p", head, "-m", "more", tree))
    repository = world.repository()
    new = repository.fetch()
    for path, found in (
        ("models/iris/deployment.yaml", "a submodule at models"),
        ("link/iris/x.yaml", "a symbolic link at link"),
    ):
        with pytest.raises(InvalidInputError, match=found):
            repository.read_file(new, path)
    assert repository.read_file(new, "apps/none/x.yaml") is None


def test_bytes_are_kept_as_in_the_repository(world: World) -> None:
    """No attribute of the repository changes line ends, neither of what is read nor of what is committed."""
    world.commit("attributes", {".gitattributes": b"* text=auto eol=lf\n", MANIFEST: b"image: repository:one\r\n"})
    repository = world.repository()
    assert repository.read_file(repository.fetch(), MANIFEST) == b"image: repository:one\r\n"
    lease = repository.acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    pushed = repository.push_edit(lambda head: edit(content=b"image: repository:two\r\n"), lease, 60.0)
    assert isinstance(pushed, Pushed)
    assert world.git("cat-file", "-s", f"main:{MANIFEST}") == str(len(b"image: repository:two\r\n"))


def test_a_pointer_of_lfs_is_refused_by_name() -> None:
    """It has the form that git-lfs writes."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    refused = read_image(pointer, Selector("apps/iris.yaml", "Deployment", "serving", "iris", "server"))
    assert isinstance(refused, EditRefused)
    assert "a pointer of Git LFS" in str(refused.problem)


def test_a_server_without_atomic_pushes_is_refused_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first lease ends it, before anything is sent (Azure DevOps, CodeCommit)."""
    monkeypatch.setitem(git_server._SETTINGS, "receive.advertiseAtomic", "false")
    with pytest.raises(DependencyError, match=r"takes no atomic pushes.*docs/git-hosts\.md"):
        world.repository().acquire_lease("iris", "run one", 60.0)
    assert world.clock.slept == []
    assert not [request for request in world.server.requests if request.startswith("POST /gitops.git/git-receive-pack")]


def test_a_server_that_hides_the_leases_refs_is_refused_at_once(world: World) -> None:
    """It says so to the first push, and is not asked again."""
    world.git("config", "transfer.hideRefs", "refs/incumbent")
    with pytest.raises(DependencyError, match=r"hides refs outside its branches and tags.*refs/incumbent"):
        world.repository().acquire_lease("iris", "run one", 60.0)
    assert world.clock.slept == []


# Repositories of policies


@pytest.mark.parametrize(("host", "api"), [("github", "/api/v3"), ("gitlab", "/api/v4"), ("gitea", "/api/v1")])
def test_the_api_of_a_policys_own_repository_gets_no_token_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, api: str
) -> None:
    """Its requests are opened in its own repository, with its own token; the settings' token stays with their host."""
    monkeypatch.setenv("INCUMBENT_GIT_URL", "https://git.example.com/o/settings.git")
    monkeypatch.setenv("INCUMBENT_GIT_API_TOKEN_FILE", str(tmp_path / "token of the settings"))
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path))
    by_request = f"delivery: {{pull_request: {{host: {host}}}}}\n"
    own = "git: {url: 'https://elsewhere.example.com/team/own.git'"
    texts = {
        "shared": by_request,
        "own": f"{own}, token_file: '{tmp_path / 'own token'}'}}\n{by_request}",
        "bare": f"{own}}}\n{by_request}",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(POLICY_TEXT + text)
    platform = platform_from_environment()
    shared, owned = (platform.pull_requests(platform.policy(name)) for name in ("shared", "own"))
    assert f"https://git.example.com{api}" in str(shared)
    assert f"https://elsewhere.example.com{api}" in str(owned)
    for requests, named in ((shared, "token of the settings"), (owned, "own token")):
        assert requests is not None
        with pytest.raises(NotPermittedError, match=named):  # neither file is there
            requests.find("incumbent/x")
    with pytest.raises(InvalidInputError, match=r"git\.token_file in policy bare"):
        platform.pull_requests(platform.policy("bare"))


@pytest.mark.parametrize(
    ("url", "rule", "shown"),
    [
        ("https://git.example.com:3000/o/r.git", "host: gitea", "https://git.example.com:3000/api/v1"),
        ("http://127.0.0.1:3000/o/r.git", "host: gitlab", "http://127.0.0.1:3000/api/v4"),
        ("git@git.example.com:o/r.git", "host: github", "https://git.example.com/api/v3"),
        ("https://GitHub.com/o/r.git", "host: github", "https://api.github.com"),
        ("https://example.com/git/o/r.git", "host: gitea, api: 'https://example.com/git/api/v1'", "/git/api/v1"),
        ("https://example.com/o/r.git", "host: gitea, api: 'https://evil.example/api/v1'", ""),
        ("https://example.com/o/r.git", "host: gitea, api: 'http://example.com/api/v1'", ""),
        ("https://example.com/o/r.git", "host: gitlab, api: 'https://notexample.com/api/v4'", ""),
    ],
)
def test_where_the_settings_token_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, rule: str, shown: str
) -> None:
    """To the API of the settings' own host, at its port and below its folder, and nowhere else, whatever `api` says."""
    monkeypatch.setenv("INCUMBENT_GIT_URL", url)
    monkeypatch.setenv("INCUMBENT_GIT_API_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path))
    (tmp_path / "p.yaml").write_text(f"{POLICY_TEXT}delivery: {{pull_request: {{{rule}}}}}\n")
    platform = platform_from_environment()
    if shown:
        assert shown in str(platform.pull_requests(platform.policy("p")))
        return
    with pytest.raises(InvalidInputError, match=r"Set git\.url and git\.token_file in policy p"):
        platform.pull_requests(platform.policy("p"))


@pytest.mark.parametrize("url", ["https://[bad/o/r.git", "file:///srv/r.git"])
@pytest.mark.parametrize("host", ["github", "gitlab", "gitea"])
def test_no_api_is_guessed_without_a_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, url: str) -> None:
    """An address that cannot be read, or that is a folder's, is refused by the setting's name."""
    monkeypatch.setenv("INCUMBENT_GIT_URL", url)
    monkeypatch.setenv("INCUMBENT_GIT_API_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path))
    (tmp_path / "p.yaml").write_text(f"{POLICY_TEXT}delivery: {{pull_request: {{host: {host}}}}}\n")
    platform = platform_from_environment()
    with pytest.raises(InvalidInputError, match="INCUMBENT_GIT_URL: expected the address of a repository on a server"):
        platform.pull_requests(platform.policy("p"))


def test_ssh_hosts_do_not_share_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An address without a scheme names its host, too."""
    monkeypatch.setenv("INCUMBENT_GIT_URL", "git@good.example.com:o/r.git")
    monkeypatch.setenv("INCUMBENT_GIT_API_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path))
    own = "git: {url: 'git@evil.example.com:o/r.git'}\ndelivery: {pull_request: {host: gitea}}\n"
    (tmp_path / "p.yaml").write_text(POLICY_TEXT + own)
    platform = platform_from_environment()
    with pytest.raises(InvalidInputError, match="for the host of INCUMBENT_GIT_URL alone"):
        platform.pull_requests(platform.policy("p"))


def test_a_policys_own_repository(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a policy does not state is as the settings have it, but the settings' token goes to their own host alone."""
    monkeypatch.setenv("INCUMBENT_GIT_URL", "https://git.example.com/o/settings.git")
    monkeypatch.setenv("INCUMBENT_GIT_TOKEN_FILE", str(tmp_path / "never read"))
    monkeypatch.setenv("INCUMBENT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path))
    world.git("branch", "release", "main")
    texts = {
        "shared": "",
        "branch": "git: {branch: release}\n",
        "own": f"git: {{url: '{world.url}', branch: release, token_file: '{world.token_file}'}}\n",
        "bare": f"git: {{url: '{world.url}'}}\n",
        "wrong": "git: {url: 'https://token@host/r.git'}\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(POLICY_TEXT + text)
    platform = platform_from_environment()
    addresses = {name: platform.git(platform.policy(name)).address() for name in texts if name != "wrong"}
    assert {name: (each.url, each.branch) for name, each in addresses.items()} == {
        "shared": ("https://git.example.com/o/settings.git", "main"),
        "branch": ("https://git.example.com/o/settings.git", "release"),
        "own": (world.url, "release"),
        "bare": (world.url, "main"),
    }
    assert platform.git(platform.policy("own")).fetch() == world.head()
    with pytest.raises(DependencyError, match="credentials were refused"):  # and the settings' token was not read
        platform.git(platform.policy("bare")).fetch()
    with pytest.raises(InvalidInputError, match=r"^git.url of policy wrong: "):
        platform.git(platform.policy("wrong"))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"INCUMBENT_GIT_APP_ID": "1"}, "no INCUMBENT_GIT_APP_INSTALLATION and no INCUMBENT_GIT_APP_KEY_FILE"),
        (
            {"INCUMBENT_GIT_APP_ID": "1", "INCUMBENT_GIT_APP_INSTALLATION": "acme", "INCUMBENT_GIT_APP_KEY_FILE": "k"},
            "'acme'",
        ),
        (
            {
                "INCUMBENT_GIT_APP_ID": "1",
                "INCUMBENT_GIT_APP_INSTALLATION": "7",
                "INCUMBENT_GIT_APP_KEY_FILE": "k",
                "INCUMBENT_GIT_TOKEN_FILE": "t",
            },
            "INCUMBENT_GIT_TOKEN_FILE and the settings of a GitHub App",
        ),
        ({"INCUMBENT_GIT_TRAILERS": "Rollback-Of=x"}, "the entry 'Rollback-Of=x'"),
        ({"INCUMBENT_GIT_AUTHOR": "me"}, "'me'"),
    ],
)
def test_settings_that_contradict_each_other(
    monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str], found: str
) -> None:
    """Each is refused when the client is made, as `incumbent doctor` shows it."""
    for name, value in {"INCUMBENT_GIT_URL": "https://github.com/o/r.git", **settings}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError, match=found):
        platform_from_environment().git()
