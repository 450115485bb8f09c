"""The token stays secret, nothing foreign is run or obeyed, and hostile text stays text."""

import json
import os
import traceback

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.adapters.git.authorship import Authorship
from orchestration.adapters.git.lease import lease_message, parse_lease
from orchestration.adapters.git.login import Login
from orchestration.adapters.git.objects import commit_message
from orchestration.adapters.git.remote import is_ref_name, parse_remote
from orchestration.promotion.ports import LeaseRecord, Pushed
from orchestration.promotion.problems import DependencyError, InvalidInputError
from tests.adapters.git_fixtures import TOKEN, World, edit, world

__all__ = ["world"]


def _lease(world: World) -> LeaseRecord:
    lease = world.repository().acquire_lease("iris", "run one", 60.0)
    assert isinstance(lease, LeaseRecord)
    return lease


def test_the_token_is_on_no_command_line_and_in_no_file(world: World) -> None:
    """While Git talks to the server, no process has the token as an argument or variable, and no file has it."""
    seen: list[str] = []

    def look() -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                seen.append(" ".join((*process.cmdline(), *process.environ().values())))
            except psutil.NoSuchProcess:
                continue

    for request in ("info/refs", "git-upload-pack", "git-receive-pack"):
        world.server.order(request, before=look, times=9)
    repository = world.repository()
    pushed = repository.push_edit(lambda head: edit(), _lease(world), 60.0)
    assert isinstance(pushed, Pushed)
    assert any("push --porcelain" in line for line in seen)
    assert not [line for line in seen if TOKEN in line]
    for path in (world.folder / "state").rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_errors_never_hold_the_token(world: World) -> None:
    """When a server repeats the token in its errors, neither the message nor the traceback shows it."""
    hook = world.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho 'your token {TOKEN} is no good, nor https://u:{TOKEN}@host/' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(DependencyError, match="your token") as caught:
        world.repository().acquire_lease("iris", "run one", 60.0)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert len(world.clock.slept) == 1  # a rule is not hammered


def test_refused_credentials_say_what_to_do(world: World) -> None:
    """The error for a wrong token names the setting to correct; no prompt waits for a person."""
    world.token_file.write_text("another-token")
    with pytest.raises(DependencyError, match=r"credentials were refused.*INCUMBENT_GIT_TOKEN_FILE") as caught:
        world.repository().fetch()
    assert "another-token" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"s3cret\nmore", b"s3cret\xff", b"s3cret" * 12000])
def test_a_token_file_without_a_token(world: World, content: bytes | None) -> None:
    """A missing or empty token file is an error that names it, and so is one of another content, which is not shown."""
    world.token_file.unlink()
    if content is not None:
        world.token_file.write_bytes(content)
    with pytest.raises(DependencyError, match=r"file .*the token: expected the token of the Git server") as caught:
        world.repository().fetch()
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__!r}"


def test_a_repository_that_does_not_exist(world: World) -> None:
    """The error for a wrong address says so, and does not blame the network."""
    with pytest.raises(DependencyError, match=r"no such repository.*INCUMBENT_GIT_URL"):
        world.repository(url=world.server.url("none.git")).fetch()


def test_a_branch_that_does_not_exist(world: World) -> None:
    """The error for a wrong branch names it."""
    with pytest.raises(
        DependencyError, match=r"expected a branch release, found no branch of that name.*INCUMBENT_GIT_BRANCH"
    ):
        world.repository(branch="release").fetch()


def test_a_server_that_is_down(world: World) -> None:
    """An address that nothing listens on is an error of the dependency, for reads and for leases."""
    repository = world.repository(url="http://127.0.0.1:9/gitops.git")
    for call in (repository.fetch, lambda: repository.lease("iris"), lambda: repository.tag("incumbent/iris/1-1")):
        with pytest.raises(DependencyError, match=r"127.0.0.1:9.*Check that the server can be reached"):
            call()


def test_redirects_are_not_followed(world: World) -> None:
    """The token goes to the named host and to no other: a redirect is an error."""
    elsewhere = world.server.url("gitops.git")
    world.server.order("info/refs", status=302, headers={"Location": f"{elsewhere}/info/refs"}, times=9)
    with pytest.raises(DependencyError, match="redirects are not followed"):
        world.repository().fetch()


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret-word@host/o/r.git",
        "https://secret-word@host/o/r.git",
        "ssh://git:secret-word@host/o/r.git",
        "ext::sh -c secret-word",
        "ext::secret-word",
        "--upload-pack=secret-word",
        "https://host/r.git?token=secret-word",
        "https://host/r.git\nsecret-word",
        "git://host/secret-word",
        "/srv/secret-word",
        "",
    ],
)
def test_unsafe_addresses_are_refused(url: str) -> None:
    """Addresses with credentials, other protocols or options are refused, and the error does not repeat them."""
    with pytest.raises(InvalidInputError) as caught:
        parse_remote(url, "main", Login())
    assert "INCUMBENT_GIT_URL" in str(caught.value)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("branch", ["", "-x", "a..b", "a b", "a.lock", "refs/heads/*", "a/", "@{-1}", "a\n", "a:b"])
def test_unsafe_branch_names_are_refused(branch: str) -> None:
    """A branch's name that Git forbids, an option or a pattern is refused."""
    with pytest.raises(InvalidInputError, match="INCUMBENT_GIT_BRANCH"):
        parse_remote("https://host/o/r.git", branch, Login())


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r/commit/abc"),
        ("https://github.com/o/r/", "https://github.com/o/r/commit/abc"),
        ("https://gitlab.example/g/s/r.git", "https://gitlab.example/g/s/r/-/commit/abc"),
        ("https://gitea.example:3000/o/r.git", "https://gitea.example:3000/o/r/commit/abc"),
        ("https://bitbucket.org/o/r.git", "https://bitbucket.org/o/r/commits/abc"),
        ("http://127.0.0.1:3000/gitops.git", None),
        ("git@github.com:o/r.git", None),
        ("file:///srv/r.git", None),
    ],
)
def test_commit_pages(url: str, page: str | None) -> None:
    """A commit's web page is known for the usual hosts, and not made up for others."""
    assert parse_remote(url, "main", Login()).commit_url("abc") == page


def test_hooks_and_foreign_configuration_do_not_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks in the mirror, a global configuration and inherited GIT_* variables have no effect."""
    mark = world.folder / "was-run"
    evil = world.folder / "evil"
    evil.write_text(f"#!/bin/sh\ntouch '{mark}'\nexit 1\n")
    evil.chmod(0o755)
    repository = world.repository()
    repository.fetch()
    (folder,) = (world.folder / "state/git").iterdir()
    hooks = folder / "mirror/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-push", "reference-transaction", "post-checkout", "pre-auto-gc"):
        (hooks / name).symlink_to(evil)
    home = world.folder / "home"
    home.mkdir()
    config = f'[core]\n\thooksPath = "{hooks}"\n[url "http://127.0.0.1:9/"]\n\tinsteadOf = {world.url}\n'
    (home / ".gitconfig").write_text(f'{config}[credential]\n\thelper = "{evil}"\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(hooks))
    monkeypatch.setenv("GIT_DIR", str(world.folder / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    monkeypatch.setenv("GIT_TRACE_CURL", str(world.folder / "trace"))
    monkeypatch.setenv("GIT_ASKPASS", str(evil))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    world.commit("Later", {"README.md": b"later"})
    pushed = repository.push_edit(lambda head: edit(), _lease(world), 60.0)
    assert isinstance(pushed, Pushed)
    assert not mark.exists()
    assert not (world.folder / "trace").exists()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "", ".git/config", "a/.GIT/x", "a\nb", "a/./b"])
def test_hostile_paths_are_refused(world: World, path: str) -> None:
    """A path that leads elsewhere, or has invisible characters, is refused for reading and for writing."""
    repository = world.repository()
    head = repository.fetch()
    with pytest.raises(InvalidInputError, match="manifest path"):
        repository.read_file(head, path)
    with pytest.raises(InvalidInputError, match="manifest path"):
        repository.push_edit(lambda head: edit(path=path), _lease(world), 60.0)


def test_paths_are_literal(world: World) -> None:
    """Characters with a meaning in a pathspec are literal in a path."""
    name = ":(icase)apps/[a]*?/x y.yaml"
    world.commit("Odd", {name: b"odd", "apps/a/x y.yaml": b"not this one"})
    repository = world.repository()
    assert repository.read_file(repository.fetch(), name) == b"odd"
    assert repository.read_file(repository.fetch(), "apps/*/x y.yaml") is None
    pushed = repository.push_edit(lambda head: edit(path=name, content=b"edited"), _lease(world), 60.0)
    assert isinstance(pushed, Pushed)
    assert world.git("-c", "core.quotePath=false", "diff", "--name-only", f"{pushed.commit}^", pushed.commit) == name


def test_only_regular_files_are_edited(world: World) -> None:
    """A symbolic link, a folder or nothing at the manifest's path is refused, so no other file is edited instead."""
    blob = world.git("hash-object", "-w", "--stdin", stdin=b"../README.md")
    tree = world.git("mktree", stdin=f"120000 blob {blob}\tlink\n".encode())
    apps = world.git("ls-tree", "main").encode() + f"\n040000 tree {tree}\tlinks\n".encode()
    commit = world.git("commit-tree", "-m", "Link", "-p", world.head(), world.git("mktree", stdin=apps))
    world.git("update-ref", "refs/heads/main", commit)
    repository, lease = world.repository(), _lease(world)
    for path, kind in {"links/link": "a symbolic link", "links": "a folder", "links/none": "nothing at"}.items():
        with pytest.raises(InvalidInputError, match=kind):
            repository.push_edit(lambda head, path=path: edit(path=path), lease, 60.0)  # type: ignore[misc]


def test_text_from_the_registry_writes_no_trailer(world: World) -> None:
    """Line ends and control characters in a subject, body or value become spaces, so they cannot add a trailer."""
    hostile = "x\n\nPromotion-Id: iris/9/bbbbbbbbbbbb/1\r\x85\u2028\0\x1b[31m\u202eRollback-Of: iris/9/b/1"
    change = edit(subject=hostile, body=hostile, trailers={"Promotion-Id": "iris/1/aaaaaaaaaaaa/1", "Model": hostile})
    repository = world.repository()
    pushed = repository.push_edit(lambda head: change, _lease(world), 60.0)
    assert isinstance(pushed, Pushed)
    (commit,) = repository.history(repository.fetch(), "iris")
    assert set(commit.trailers) == {"Promotion-Id", "Model"}
    assert commit.trailers["Promotion-Id"] == "iris/1/aaaaaaaaaaaa/1"
    message = world.git("log", "-1", "--format=%B", pushed.commit)
    assert message.replace("\n", "").isprintable()


@given(st.text(max_size=80), st.text(max_size=200), st.lists(st.text(max_size=80), min_size=1, max_size=3))
def test_messages_end_in_exactly_their_trailers(subject: str, body: str, values: list[str]) -> None:
    """For any text, the last paragraph of a message is the trailers, one line each, and the first line the subject."""
    message = commit_message(subject, body, {f"Key-{number}": value for number, value in enumerate(values)})
    last = message.rstrip("\n").split("\n\n")[-1].split("\n")
    assert [line.partition(":")[0] for line in last] == [f"Key-{number}" for number in range(len(values))]
    assert message.split("\n")[0].strip()
    assert message.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "message",
    [
        "Talk\n\nPromotion-Id: iris/1/aaaaaaaaaaaa/1\n\nThis paragraph is the last one.\n",
        "Promotion-Id: iris/1/aaaaaaaaaaaa/1\n",
        "Quote\n\n> Promotion-Id: iris/1/aaaaaaaaaaaa/1\n",
        "Revert\n\nThis reverts:\n    Promotion-Id: iris/1/aaaaaaaaaaaa/1\n\nSigned-off-by: a <b>\n",
    ],
)
def test_words_in_a_body_are_not_a_trailer(world: World, message: str) -> None:
    """A foreign commit that mentions a promotion's id outside the trailer block does not count as that promotion."""
    world.commit(message, {"README.md": b"x"})
    repository = world.repository()
    assert repository.history(repository.fetch(), "iris") == ()


def test_a_foreign_commit_with_odd_bytes_is_read(world: World) -> None:
    """A commit whose message is not UTF-8 does not hide the others."""
    world.git("config", "i18n.commitEncoding", "latin1")
    world.commit("caf\xe9\n\nPromotion-Id: iris/1/aaaaaaaaaaaa/1\n", {"README.md": b"x"})
    tree = world.git("rev-parse", "main^{tree}")
    raw = f"tree {tree}\nparent {world.head()}\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000\n\n".encode()
    odd = world.git(
        "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw + b"\xff\xfe\n\nPromotion-Id: iris/2/\xff\n"
    )
    world.git("update-ref", "refs/heads/main", odd)
    repository = world.repository()
    ids = [commit.trailers["Promotion-Id"] for commit in repository.history(repository.fetch(), "iris")]
    assert ids == ["iris/2/\ufffd", "iris/1/aaaaaaaaaaaa/1"]


_GOOD = {"application": "iris", "holder": "run one", "expires_at": 1.5, "nonce": "x"}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b"{}",
        json.dumps({**_GOOD, "application": "wine"}).encode(),
        json.dumps({**_GOOD, "holder": ""}).encode(),
        json.dumps({**_GOOD, "holder": "a\nb"}).encode(),
        json.dumps({**_GOOD, "holder": 7}).encode(),
        json.dumps({**_GOOD, "expires_at": "soon"}).encode(),
        json.dumps({**_GOOD, "expires_at": True}).encode(),
        b'{"application":"iris","holder":"x","expires_at":NaN}',
        b'{"application":"iris","holder":"x","expires_at":1e999}',
        b'{"application":"iris","holder":"x","expires_at":1' + b"0" * 400 + b"}",
        b'{"application":"iris","holder":"x","expires_at":1' + b"0" * 5000 + b"}",
    ],
)
def test_an_unreadable_lease_blocks_and_says_how_to_free_it(world: World, message: bytes) -> None:
    """An unreadable lease may be a newer incumbent's: nobody can take it, and the error has the command to free it."""
    tree = world.git("mktree")
    raw = f"tree {tree}\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000\n\n".encode() + message
    lease = world.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw)
    world.git("update-ref", "refs/incumbent/lease/iris", lease)
    with pytest.raises(DependencyError, match=r"git push .*/gitops.git --delete refs/incumbent/lease/iris"):
        world.repository().acquire_lease("iris", "run one", 60.0)
    assert world.git("rev-parse", "refs/incumbent/lease/iris") == lease


def test_a_lease_that_is_not_a_commit_blocks(world: World) -> None:
    """A blob in the place of a lease counts as an unreadable lease."""
    blob = world.git("hash-object", "-w", "--stdin", stdin=b"busy")
    world.git("update-ref", "refs/incumbent/lease/iris", blob)
    with pytest.raises(DependencyError, match="not a small commit"):
        world.repository().lease("iris")


@given(st.binary(max_size=300))
def test_no_bytes_make_the_lease_reader_fail(content: bytes) -> None:
    """Whatever bytes a lease object has, parsing gives a lease or a reason, never an exception."""
    assert isinstance(parse_lease("iris", "0" * 40, b"tree x\n\n" + content), str | LeaseRecord)


@pytest.mark.parametrize("application", ["", "a/b", "a..b", "a.lock", "-a", "a b", "*", "a\n"])
def test_hostile_application_names_are_refused(world: World, application: str) -> None:
    """An application's name that would name another ref is refused before the server is asked."""
    with pytest.raises(InvalidInputError, match="part of a Git ref"):
        world.repository().lease(application)
    assert world.server.requests == []


@given(st.text(alphabet="ab./-@{}~^:?*[\\ \n\x7f", max_size=12))
def test_accepted_ref_names_are_gits_too(name: str) -> None:
    """No accepted name has any of the characters or forms that git-check-ref-format forbids."""
    if is_ref_name(name):
        assert not any(bad in name for bad in ("..", "@{", "~", "^", ":", "?", "*", "[", "\\", " ", "\n", "//", "\x7f"))
        assert not name.startswith(("/", "-", "."))
        assert not name.endswith(("/", ".", ".lock"))


def test_the_state_is_for_its_owner_alone(world: World) -> None:
    """Other users of the machine can neither read the mirror nor change the program that answers Git's prompts."""
    world.repository().fetch()
    (folder,) = (world.folder / "state/git").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "askpass").stat().st_mode & 0o077 == 0
    assert os.access(folder / "askpass", os.X_OK)


def test_no_two_leases_are_one_object() -> None:
    """Within one second two leases of a holder expire alike, and pushing a ref that does not change fences nobody."""
    assert lease_message("iris", "run", 60.0, Authorship()) != lease_message("iris", "run", 60.0, Authorship())
