"""What the command refuses before it asks anything: a DAGSTER_HOME without use, and policies that cannot be read."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner, Result

from orchestration.adapters.policies import PolicyFolder
from orchestration.cli import main
from orchestration.environment import parse_mirrors, platform_from_environment
from orchestration.promotion.problems import InvalidInputError

POLICIES = Path(__file__).parents[2] / "policies"


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses at which nobody answers, and a usable folder for Dagster."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("INCUMBENT_GIT_URL", "http://127.0.0.1:1/gitops.git")
    monkeypatch.setenv("INCUMBENT_POLICIES", str(POLICIES))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def register(policy: str = "iris-classifier-edge") -> Result:
    return CliRunner().invoke(main, ["register", policy, "7"])


@pytest.mark.parametrize(
    ("home", "found"),
    [
        ("", "found no value."),
        (".", "found the relative path .."),
        ("/nowhere/at/all", "found /nowhere/at/all, which does not exist."),
        (__file__, f"found {__file__}, which is not a folder."),
        ("/proc", "found /proc, where nothing may be written."),
    ],
)
def test_a_useless_dagster_home_is_refused_before_the_alias_is_set(
    home: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3 and one line; the registry, which would not answer, is not asked."""
    monkeypatch.setenv("DAGSTER_HOME", home)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/proc" and access(path, mode))  # root may all
    result = register()
    assert result.exit_code == 3, result.output
    assert result.stderr.startswith("setting DAGSTER_HOME: expected the absolute path of a Dagster instance's folder, ")
    assert found in result.stderr


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def make_binary(path: Path) -> None:
    path.write_bytes(b"model: \xff")


def make_large(path: Path) -> None:
    path.write_bytes((POLICIES / "iris-classifier-edge.yaml").read_bytes() + b"# x\n" * 250_000)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (make_pipe, "found a folder, pipe or device."),
        (make_folder, "found a folder, pipe or device."),
        (make_dangling, "found No such file or directory."),
        (make_binary, "found bytes that are not UTF-8 (invalid start byte at byte 7)."),
        (make_large, "at most 1,000,000 bytes, found a larger file."),
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(
    make: Callable[[Path], None], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe is not waited for, and no part of a large file is taken for the policy."""
    make(tmp_path / "a.yaml")
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path))
    result = register("a")
    assert result.exit_code == 3, result.output
    assert found in result.stderr


@pytest.mark.parametrize("command", ["register", "retry", "record"])
def test_a_version_that_is_no_number_is_wrong_usage(command: str) -> None:
    """The message says what was expected, in words."""
    result = CliRunner().invoke(main, [command, "iris", "v7"])
    assert result.exit_code == 2
    assert "Invalid value for 'VERSION': expected a number such as 7, found 'v7'" in result.stderr


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Be nobody in here when the tests are run by root, whom no permission stops."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("mode", [0o000, 0o111])
def test_a_policies_folder_that_may_not_be_listed_is_no_empty_folder(mode: int) -> None:
    """Otherwise the sensor would stop watching everything without a word; the next step is about permissions."""
    with TemporaryDirectory(dir="/tmp") as parent:  # the folders above tmp_path let nobody else in
        Path(parent).chmod(0o755)
        folder = Path(parent, "policies")
        folder.mkdir()
        (folder / "iris-edge.yaml").write_text("model: iris")
        folder.chmod(mode)
        for ask in (lambda: PolicyFolder(folder).names(), lambda: PolicyFolder(folder).policy("iris-edge")):
            with ordinary_user(), pytest.raises(InvalidInputError, match=r"found Permission denied\. Let this account"):
                ask()
        folder.chmod(0o755)


def test_each_client_names_its_other_side_by_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not answer is named so that a person knows where to look."""
    monkeypatch.setenv("PROMETHEUS_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("INCUMBENT_KUBECONFIG", "/nowhere")
    monkeypatch.setenv("INCUMBENT_ARGOCD_CONTEXT", "hub")
    platform = platform_from_environment()
    ports = platform.registry(), platform.git(), platform.metrics(), platform.cluster("edge"), platform.argocd()
    assert [str(port) for port in ports] == [
        "MLflow at http://127.0.0.1:1",
        "Git repository http://127.0.0.1:1/gitops.git",
        "Prometheus at http://127.0.0.1:2",
        "Kubernetes API of context edge",
        "Argo CD by the Kubernetes API of context hub",
    ]


def test_mirrors_are_pairs_of_hosts_and_addresses() -> None:
    """Blanks and empty entries do no harm."""
    assert parse_mirrors("ghcr.io=http://127.0.0.1:5000, quay.io=https://mirror,") == {
        "ghcr.io": "http://127.0.0.1:5000",
        "quay.io": "https://mirror",
    }
    assert parse_mirrors("index.docker.io = https://mirror/hub,localhost:5000=http://a,[::1]:5000=http://b") == {
        "docker.io": "https://mirror/hub",
        "localhost:5000": "http://a",
        "[::1]:5000": "http://b",
    }


@pytest.mark.parametrize(
    "entry",
    [
        *("ghcr.io", "ghcr.io=", "ghcr.io=127.0.0.1:5000", "=http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        *("https://ghcr.io=http://m", "ghcr.io/team=http://m", "GHCR.io=http://m", "ghcr=http://m", "*.io=http://m"),
    ],
)
def test_a_mirror_without_an_address_is_refused(entry: str) -> None:
    """The entry is named, among those that are right; so is one whose left side is no image's host."""
    with pytest.raises(
        InvalidInputError, match=rf"^setting INCUMBENT_OCI_MIRRORS: .* the entry '{re.escape(entry)}': "
    ):
        parse_mirrors(f"quay.io=https://mirror,{entry}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ghcr.io=http://a,ghcr.io=http://b", "'ghcr.io=http://b': ghcr.io stands there twice"),
        ("docker.io=http://a,registry-1.docker.io=http://a", "'registry-1.docker.io=http://a': docker.io stands there"),
        ("ghcr.io=ftp://me:hunter22@mirror", "'ghcr.io=ftp://mirror': a mirror's address begins with http://"),
    ],
)
def test_two_mirrors_of_a_registry_are_refused(text: str, found: str) -> None:
    """Neither is left out unseen, and no password is shown."""
    with pytest.raises(InvalidInputError, match=rf"^setting INCUMBENT_OCI_MIRRORS: .* the entry {re.escape(found)}"):
        parse_mirrors(text)
