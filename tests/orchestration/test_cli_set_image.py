"""`incumbent set-image`: the promotion's edit, made to a file in place."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestration.cli import main
from orchestration.commands.replace_file import replace_file
from orchestration.promotion.problems import InvalidInputError

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
    """Running it again succeeds, says so and writes nothing."""
    before = manifest.stat()
    result = run(manifest, OLD, "--container", "model-server", "--from", "ghcr.io/team/model:v0")
    assert result.exit_code == 0
    assert f"already {OLD}" in result.stdout
    assert manifest.stat() == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((NEW, "--container", "sidecar"), "only container model-server"),
        ((NEW, "--container", "model-server", "--kind", "StatefulSet"), "found no match"),
        ((NEW, "--container", "model-server", "--namespace", "other"), "found no match"),
        ((NEW, "--container", "model-server", "--name", "other"), "found no match"),
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
def test_wrong_usage_differs_from_a_refusal(
    manifest: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file or option is wrong usage, exit code 2."""
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
    with pytest.raises(InvalidInputError, match=r"found a file that has changed since\. Nothing was changed"):
        replace_file(manifest, b"what was read", b"what would be written")
    assert_untouched(manifest)


def test_a_hard_link_is_refused_and_not_silently_broken(manifest: Path) -> None:
    """Replacing the file would leave its other name with the old content."""
    other = manifest.parent.parent / "other.yaml"
    os.link(manifest, other)
    result = run(manifest, NEW, "--container", "model-server")
    assert result.exit_code == 3
    assert (
        "expected a file with one name, found a file with 2 names (hard links). Nothing was changed." in result.stderr
    )
    assert_untouched(manifest)
    assert other.samefile(manifest)
    assert run(manifest, OLD, "--container", "model-server").exit_code == 0  # nothing to write


def test_a_read_only_file_is_refused(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename could replace a file that nobody may write, as long as its folder is writable."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everything
    result = run(manifest, NEW, "--container", "model-server")
    assert result.exit_code == 3
    assert "found a read-only file. Nothing was changed." in result.stderr
    assert_untouched(manifest)


def test_the_owner_is_kept_or_the_edit_is_refused(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is given to the old one's owner; whoever may not do that changes nothing."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda handle, user, group: given.append((user, group)))
    status = manifest.stat()
    monkeypatch.setattr(Path, "stat", with_owner(Path.stat, status.st_uid + 1))
    assert run(manifest, NEW, "--container", "model-server").exit_code == 0
    assert given == [(status.st_uid + 1, status.st_gid)]
    manifest.write_bytes(MANIFEST.encode())

    def forbidden(handle: int, user: int, group: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", forbidden)
    result = run(manifest, NEW, "--container", "model-server")
    assert result.exit_code == 3
    assert "found Operation not permitted. Nothing was changed." in result.stderr
    assert_untouched(manifest)


def with_owner(read: Callable[..., os.stat_result], owner: int) -> Callable[..., os.stat_result]:
    """Return a `Path.stat` that reports another owner."""

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        fields = list(read(path, follow_symlinks=follow_symlinks))
        fields[4] = owner
        return os.stat_result(fields)

    return stat


@pytest.mark.parametrize("arguments", [("--", "-manifest.yaml"), ("./-manifest.yaml",), ("./-",)])
def test_a_name_that_begins_with_a_dash_is_a_file(
    manifest: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After -- or with ./ before it, as with any tool; only a lone - is standard input."""
    file = manifest.parent / Path(arguments[-1]).name
    manifest.rename(file)
    monkeypatch.chdir(file.parent)
    result = run("--container", "model-server", *arguments, NEW)
    assert result.exit_code == 0, result.output
    assert file.read_bytes() == MANIFEST.replace(OLD, NEW).encode()


@pytest.mark.parametrize(
    ("image", "message"), [(NEW, f"line 9: {OLD} -> {NEW}"), (OLD, f"line 9: already {OLD}")], ids=["new", "there"]
)
def test_standard_input_is_copied_to_standard_output(image: str, message: str) -> None:
    """The edited or unchanged manifest alone is on stdout, byte for byte; messages are on stderr."""
    result = CliRunner().invoke(main, ["set-image", "-", image, "--container", "model-server"], input=MANIFEST.encode())
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes == MANIFEST.replace(OLD, image).encode()
    assert result.stderr == f"standard input, {message}\n"


@pytest.mark.parametrize("content", [b"", MANIFEST.encode() * 2, b"# x\n" * 1_100_000])
def test_a_refusal_of_standard_input_writes_nothing_to_standard_output(content: bytes) -> None:
    """A pipe gets no half of a manifest: stdout stays empty and the exit code is 3."""
    result = CliRunner().invoke(main, ["set-image", "-", NEW, "--container", "model-server"], input=content)
    assert (result.exit_code, result.stdout_bytes) == (3, b"")
    assert result.stderr.startswith("standard input")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which "$@" is the edit without its FILE, which the line gives as its last word."""
    command = [sys.executable, "-m", "orchestration.cli", "set-image", "--container", "model-server"]
    return subprocess.run(
        ["bash", "-c", line.replace("INCUMBENT", '"$@"'), "bash", *command],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "IMAGE": NEW},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "exit_code", "message"),
    [
        ("INCUMBENT - $IMAGE <&-", 3, "standard input: expected an open stream"),
        ("INCUMBENT - $IMAGE <deployment.yaml >&-", 3, "standard output: expected an open stream"),
        (
            "INCUMBENT - $IMAGE <deployment.yaml >/dev/full",
            1,
            "standard output: expected a place to write to, found No",
        ),
        ("INCUMBENT deployment.yaml $IMAGE >/dev/full", 1, "standard output: expected a place to write to, found No"),
        ("INCUMBENT <(cat deployment.yaml) $IMAGE", 3, "found a pipe or device. Pass it through standard input"),
    ],
)
def test_a_stream_that_cannot_be_used_gives_one_line(line: str, exit_code: int, message: str, manifest: Path) -> None:
    """A closed stream, a full disk and a pipe in place of a file end with a reason, and with no traceback."""
    result = shell(line, manifest.parent)
    assert result.returncode == exit_code, result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_named_pipe_is_refused_and_not_waited_for(manifest: Path) -> None:
    """To open one would wait until somebody writes to it."""
    pipe = manifest.parent / "pipe"
    os.mkfifo(pipe)
    result = run(pipe, NEW, "--container", "model-server")
    assert result.exit_code == 3
    assert "expected a regular file, found a pipe or device." in result.stderr


def test_a_file_with_the_longest_possible_name_is_edited(manifest: Path) -> None:
    """The temporary file beside it has a name of its own, not a longer one."""
    longest = manifest.rename(manifest.with_name("ä" * 127 + "y"))
    result = run(longest, NEW, "--container", "model-server")
    assert result.exit_code == 0, result.output
    assert_untouched(longest, MANIFEST.replace(OLD, NEW).encode())


def test_a_huge_file_is_refused(manifest: Path) -> None:
    """The refusal names the file's real size and the limit, and the file stays."""
    huge = MANIFEST.encode() + b"# x\n" * 2_000_000
    manifest.write_bytes(huge)
    result = run(manifest, NEW, "--container", "model-server")
    assert result.exit_code == 3
    assert f"expected at most 4,194,304 bytes (4 MiB), found {len(huge):,} bytes." in result.stderr
    assert_untouched(manifest, huge)


def test_a_large_bundle_is_edited(manifest: Path) -> None:
    """A bundle of install manifests near the limit is edited like any other file."""
    config = "---\nkind: ConfigMap\ndata:\n  text: |\n" + "    a: b\n" * 10_000
    bundle = MANIFEST + config * 40
    assert len(bundle) > 3_500_000
    manifest.write_bytes(bundle.encode())
    assert run(manifest, NEW, "--container", "model-server").exit_code == 0
    assert manifest.read_bytes() == bundle.replace(OLD, NEW).encode()


def test_the_help_teaches_with_an_example() -> None:
    """`--help` shows an example, the options and what each exit code means."""
    result = run("--help")
    assert result.exit_code == 0
    for part in ("Examples:", "incumbent set-image manifests/", "4 MiB", "--from IMAGE", "Exit code:", "3  refused"):
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
    assert "that change is not overwritten" in refused.stderr


def test_help_imports_nothing_heavy() -> None:
    """Help answers at once: for no command does it import a client library, a parser or any other module of ours."""
    program = (
        "import sys\n"
        "from orchestration.cli import main\n"
        "for command in [None, *main.commands]:\n"
        "    main([command, '--help'] if command else ['--help'], standalone_mode=False)\n"
        "heavy = {'mlflow', 'dagster', 'kubernetes', 'git', 'pydantic', 'ruamel', 'yaml', 'httpx2'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
        "ours = (name for name in sys.modules if name.startswith('orchestration.'))\n"
        "print('OURS', sorted(name for name in ours if not name.startswith('orchestration.cli')))\n"
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
    assert "OURS []" in result.stdout


def test_a_misspelt_policy_is_told_without_any_client() -> None:
    """No library of Dagster, MLflow or Kubernetes is imported for an answer that a look into a folder gives."""
    program = (
        "import sys\n"
        "from orchestration.cli import main\n"
        "try:\n"
        "    main(['status', 'nosuch'])\n"
        "except SystemExit as ended:\n"
        "    heavy = {'mlflow', 'dagster', 'kubernetes', 'git', 'httpx2'}\n"
        "    print('ENDED', ended.code, 'HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "INCUMBENT_POLICIES": str(ROOT / "policies")},
        timeout=60,
        check=True,
    )
    assert "ENDED 3 HEAVY []" in result.stdout


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_commands_help_teaches(command: str) -> None:
    """Each has an example of itself and says what its exit codes mean."""
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert re.search(rf"\bincumbent {command}( |$)", result.stdout.partition("Example")[2], re.MULTILINE)
    assert re.search("^ +3  ", result.stdout.partition("Exit code:")[2], re.MULTILINE)


def test_the_list_of_commands_says_in_whole_sentences_what_each_does() -> None:
    """Each command has one line, none of them cut off on a terminal of 80 columns."""
    shown = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout
    listed = re.findall(r"^  ([a-z][a-z-]*) {2,}[A-Z].*\.$", shown, re.MULTILINE)
    assert sorted(listed) == sorted(main.commands)
    assert "..." not in shown.partition("Options:")[2]


def test_it_says_its_version() -> None:
    """As people do when they report a fault."""
    assert re.fullmatch(r"main \d+\.\d+\.\d+\n", CliRunner().invoke(main, ["--version"]).stdout)


@pytest.mark.parametrize("command", sorted(main.commands))
def test_help_fits_110_columns(command: str) -> None:
    """Examples and exit codes are not folded, so they must not be longer."""
    shown = CliRunner().invoke(main, [command, "--help"], terminal_width=110).stdout
    assert [line for line in shown.splitlines() if len(line) > 110] == []
