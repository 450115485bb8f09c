"""`incumbent set-image`: the promotion's edit, made to a file in place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestration.cli import _replace, main

OLD = "ghcr.io/team/model:v1"
NEW = "ghcr.io/team/model:v2@sha256:" + "ab" * 32
MANIFEST = f"""\ufeff# iris\r
kind: Deployment
metadata: {{name: iris, namespace: ml-apps}}
spec:
  template:
    spec:
      containers:
        - name: model-server
          image: '{OLD}'  # pinned
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest in a folder whose name holds a space."""
    file = tmp_path / "a folder" / "deployment.yaml"
    file.parent.mkdir()
    file.write_bytes(MANIFEST.encode())
    return file


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["set-image", *map(str, arguments)])


def assert_untouched(file: Path, content: bytes = MANIFEST.encode()) -> None:
    assert file.read_bytes() == content
    assert sorted(file.parent.iterdir()) == [file]


def test_the_image_is_put_into_the_file(manifest: Path) -> None:
    """The file has the new image and not one other change, and the output says from what to what."""
    result = run(manifest, NEW, "--container", "model-server")
    assert result.exit_code == 0, result.output
    assert manifest.read_bytes() == MANIFEST.replace(OLD, NEW).encode()
    assert f"line 9: {OLD} -> {NEW}" in result.stdout
    assert sorted(manifest.parent.iterdir()) == [manifest]


def test_an_image_that_is_there_already_is_no_error(manifest: Path) -> None:
    """Said twice, the second time succeeds, says so and writes nothing."""
    before = manifest.stat()
    result = run(manifest, OLD, "--container", "model-server", "--from", "ghcr.io/team/model:v0")
    assert result.exit_code == 0
    assert f"already {OLD}" in result.stdout
    assert manifest.stat() == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((NEW, "--container", "sidecar"), "only container model-server"),
        ((NEW, "--container", "model-server", "--kind", "StatefulSet"), "found none"),
        ((NEW, "--container", "model-server", "--namespace", "other"), "found none"),
        ((NEW, "--container", "model-server", "--name", "other"), "found none"),
        ((NEW, "--container", "model-server", "--from", "ghcr.io/team/model:v0"), OLD),
        (("", "--container", "model-server"), "an image reference"),
        (("not an image", "--container", "model-server"), "an image reference"),
    ],
)
def test_a_refusal_leaves_the_file_and_says_why(manifest: Path, arguments: tuple[str, ...], reason: str) -> None:
    """Exit code 3, the reason on stderr, nothing on stdout, and the file as it was."""
    result = run(manifest, *arguments)
    assert result.exit_code == 3
    assert reason in result.stderr
    assert result.stdout == ""
    assert_untouched(manifest)


def test_the_selection_narrows_to_one_of_several(manifest: Path) -> None:
    """Kind, namespace and name choose among workloads that have the same container."""
    two = MANIFEST + "---\n" + MANIFEST.removeprefix("\ufeff").replace("name: iris", "name: wine")
    manifest.write_bytes(two.encode())
    assert run(manifest, NEW, "--container", "model-server").exit_code == 3
    assert_untouched(manifest, two.encode())
    result = run(
        manifest, NEW, "--container", "model-server", "--kind", "Deployment", "--namespace", "ml-apps", "--name", "wine"
    )
    assert result.exit_code == 0, result.output
    assert manifest.read_bytes().decode().partition("---")[0] == two.partition("---")[0]
    assert NEW in manifest.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nowhere.yaml", NEW, "--container", "x"),
        (".", NEW, "--container", "x"),
        ("--container",),
        ("deployment.yaml", NEW),
        ("deployment.yaml", NEW, "--container", "x", "--unknown"),
    ],
)
def test_wrong_usage_is_told_from_a_refusal(
    manifest: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file or option is usage, exit code 2."""
    monkeypatch.chdir(manifest.parent)
    assert run(*arguments).exit_code == 2
    assert_untouched(manifest)


def test_mode_and_symbolic_link_are_kept(manifest: Path) -> None:
    """The file behind a link is replaced, with its mode; the link stays a link."""
    manifest.chmod(0o640)
    link = manifest.parent.parent / "link.yaml"
    link.symlink_to(manifest)
    assert run(link, NEW, "--container", "model-server").exit_code == 0
    assert link.is_symlink()
    assert manifest.read_bytes() == MANIFEST.replace(OLD, NEW).encode()
    assert manifest.stat().st_mode & 0o777 == 0o640


def test_a_hard_read_error_is_a_refusal(tmp_path: Path) -> None:
    """A file that is there but cannot be read or replaced gives a reason, not a stack trace."""
    result = run(Path("/proc/self/mem"), NEW, "--container", "x")
    assert result.exit_code == 3
    assert "Nothing was changed" in result.stderr


def test_a_file_that_changed_since_it_was_read_is_not_overwritten(manifest: Path) -> None:
    """An editor that saved in between keeps its change, and no temporary file is left."""
    with pytest.raises(OSError, match="somebody changed it"):
        _replace(manifest, b"what was read", b"what would be written")
    assert_untouched(manifest)


def test_a_huge_file_is_refused(manifest: Path) -> None:
    """Only as much as is accepted is read; the file stays."""
    huge = MANIFEST.encode() + b"# x\n" * 100_000
    manifest.write_bytes(huge)
    result = run(manifest, NEW, "--container", "model-server")
    assert result.exit_code == 3
    assert "more than" in result.stderr
    assert_untouched(manifest, huge)


def test_the_help_teaches_with_an_example() -> None:
    """`--help` shows an example, the options and what each exit code means."""
    result = run("--help")
    assert result.exit_code == 0
    for part in ("Example:", "incumbent set-image manifests/", "--from IMAGE", "Exit code:", "3  refused"):
        assert part in result.stdout


def test_a_real_process_edits_and_refuses(manifest: Path) -> None:
    """The command as a user runs it: an edit, then a refusal by --from, with exit codes and streams."""
    command = [
        sys.executable,
        "-m",
        "orchestration.cli",
        "set-image",
        str(manifest),
        NEW,
        "--container",
        "model-server",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    edited = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (edited.returncode, edited.stderr) == (0, "")
    assert manifest.read_bytes() == MANIFEST.replace(OLD, NEW).encode()
    command[5] = "ghcr.io/team/model:v3"
    refused = subprocess.run(
        [*command, "--from", OLD], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "a person's change is not overwritten" in refused.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["set-image", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help answers at once: mlflow, dagster, kubernetes, pydantic and Git are not imported for it."""
    program = (
        "import sys\n"
        "from orchestration.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "print('HEAVY', sorted({'mlflow', 'dagster', 'kubernetes', 'git', 'pydantic', 'ruamel'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    assert "HEAVY []" in result.stdout
