"""The sandbox's Git server keeps strangers out, and understands the HTTP of Git's clients."""

import base64
import gzip
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbeds.common.git_server import GitServer, begin_branch, create_repository, protect
from tests.adapters.git_fixtures import TOKEN, World, world

__all__ = ["world"]


def _get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def _clone(world: World, *settings: str) -> Path:
    folder = world.folder / "clone"
    url = world.url.replace("http://", f"http://git:{TOKEN}@")
    quiet = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    subprocess.run(["git", *settings, "clone", "--quiet", url, str(folder)], check=True, env=quiet)
    return folder


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !!!", "Basic Z2l0Ondyb25n", f"Bearer {TOKEN}", "Basic Z2l0Og==", "Basic Z2l0"]
)
def test_without_the_token_nothing_is_served(world: World, header: str) -> None:
    """Missing, wrong and unreadable credentials are all answered with 401, before Git is run."""
    assert _get(f"{world.url}/info/refs?service=git-upload-pack", Authorization=header)[0] == 401
    assert world.server.requests == []


def test_health_needs_no_token(world: World) -> None:
    """The process that starts the server can wait for it to answer."""
    assert _get(world.server.url("healthz")) == (200, b"ok\n")


def test_a_server_without_a_token_is_refused(tmp_path: Path) -> None:
    """An empty token file does not open the server to everyone."""
    with pytest.raises(ValueError, match="without a token"):
        GitServer(tmp_path, "")


@pytest.mark.parametrize("path", ["../the%20token", "gitops.git/../../the%20token", "gitops.git/config"])
def test_nothing_outside_a_repository_is_served(world: World, path: str) -> None:
    """Paths that lead out of the root, and a repository's own configuration, are not served."""
    password = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    password.add_password(None, world.server.url(""), "git", TOKEN)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(password))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(f"http://127.0.0.1:{world.server.port}/{path}")
    assert caught.value.code in (400, 403, 404)


def test_large_pushes_and_clones(world: World) -> None:
    """A push larger than Git's buffer is sent in chunks, arrives whole, and can be cloned again."""
    folder = _clone(world)
    content = os.urandom(3_000_000)
    (folder / "large.bin").write_bytes(content)
    for command in (
        ["add", "."],
        ["-c", "user.name=p", "-c", "user.email=p", "commit", "-qm", "Large"],
        ["push", "-q"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    assert world.log()[0] == "Large"
    assert int(world.git("cat-file", "-s", "main:large.bin")) == len(content)


def test_compressed_requests(world: World) -> None:
    """A gzipped request body, as Git sends long ones, is understood."""
    request = urllib.request.Request(
        f"{world.url}/git-upload-pack",
        data=gzip.compress(b"0014command=ls-refs\n0000"),
        headers={
            "Authorization": "Basic " + base64.b64encode(f"git:{TOKEN}".encode()).decode(),
            "Content-Type": "application/x-git-upload-pack-request",
            "Content-Encoding": "gzip",
            "Git-Protocol": "version=2",
        },
    )
    with urllib.request.urlopen(request) as answer:
        assert world.head().encode() in answer.read()


def test_the_program_serves_until_it_is_told_to_stop(world: World) -> None:
    """As a program it takes a free port, writes its number to a file once it is open, and ends cleanly on SIGTERM."""
    port_file = world.folder / "port"
    arguments = ["--root", str(world.bare.parent), "--token-file", str(world.token_file), "--port-file", str(port_file)]
    with subprocess.Popen(
        [sys.executable, "-m", "testbeds.common.git_server", *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        port = program.stdout.readline().strip()
        assert port_file.read_text().strip() == port
        repository = world.repository(url=f"http://127.0.0.1:{port}/gitops.git")
        assert repository.fetch() == world.head()
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=30) == 0


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A protected repository with the branches main and models; its address without a login, and a clone of it."""
    files = tmp_path / "content"
    for name in ("argocd-apps/root.yaml", "manifests/applications/iris/deployment.yaml"):
        (files / name).parent.mkdir(parents=True)
        (files / name).write_text(name)
    repository = create_repository(tmp_path / "git", "gitops.git", files)
    begin_branch(repository, "models", "manifests/applications")
    protect(repository)
    refs = "refs/heads/models refs/incumbent/* refs/tags/incumbent/*"
    with GitServer(tmp_path / "git", "owner", bounded={"pipeline": refs, "argocd": ""}).running() as server:
        clone = tmp_path / "clone"
        subprocess.run(["git", "clone", "--quiet", "--branch=models", repository, clone], check=True)
        yield server.url("gitops.git"), clone


def _push(bounded: tuple[str, Path], token: str, *specs: str) -> str:
    """Push with a token, atomically, and return what is refused; empty when all is accepted."""
    url, clone = bounded
    address = url.replace("http://", f"http://git:{token}@")
    who = ["-c", "user.name=Ana", "-c", "user.email=ana@localhost"]
    subprocess.run(["git", *who, "commit", "--quiet", "--allow-empty", "--message=More"], check=True, cwd=clone)
    done = subprocess.run(
        ["git", "push", "--atomic", "--porcelain", address, *specs], cwd=clone, capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_a_branch_begins_with_one_folder_and_the_history(bounded: tuple[str, Path]) -> None:
    """The models' branch descends from the first one, so that promotions before it are known, and has nothing else."""
    _, clone = bounded
    listed = subprocess.run(["git", "ls-files"], cwd=clone, capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["manifests/applications/iris/deployment.yaml"]
    log = subprocess.run(["git", "log", "--format=%s"], cwd=clone, capture_output=True, text=True, check=True).stdout
    assert log.splitlines() == ["Hold the models alone", "Start with what is deployed"]


@pytest.mark.parametrize("ref", ["refs/heads/models", "refs/incumbent/lease/iris", "refs/tags/incumbent/iris/7-1"])
def test_a_bounded_token_pushes_to_its_refs(bounded: tuple[str, Path], ref: str) -> None:
    """A pattern's asterisk stands for slashes, too."""
    assert _push(bounded, "pipeline", f"HEAD:{ref}") == ""


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/heads/models/x", "refs/heads/other", "refs/tags/v1"])
def test_a_bounded_token_pushes_to_no_other_ref(bounded: tuple[str, Path], ref: str) -> None:
    """The whole push is refused by name, with what it may push, and nothing moves; the owner's is accepted."""
    said = _push(bounded, "pipeline", "HEAD:refs/incumbent/lease/iris", f"HEAD:{ref}")
    assert f"protected: this login may not push to {ref}" in said
    refs = subprocess.run(["git", "ls-remote", "origin"], cwd=bounded[1], capture_output=True, text=True, check=True)
    assert "refs/incumbent" not in refs.stdout
    if ref != "refs/heads/models/x":  # no server can have it beside refs/heads/models
        assert _push(bounded, "owner", f"HEAD:{ref}") == ""


def test_a_token_without_refs_reads_and_pushes_nothing(bounded: tuple[str, Path]) -> None:
    """Argo CD's token lists the refs, and is refused the first push."""
    address = bounded[0].replace("http://", "http://git:argocd@")
    assert "refs/heads/main" in subprocess.run(["git", "ls-remote", address], capture_output=True, text=True).stdout
    assert "may not push to refs/heads/models" in _push(bounded, "argocd", "HEAD:refs/heads/models")
