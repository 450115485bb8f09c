"""A backup leaves the control plane and comes back onto another one: whole, or not at all."""

import json
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bootstrap import __main__ as program
from bootstrap.kubectl import Kubectl
from bootstrap.registry_backup import DATABASES, fetch_backup, restore_backup
from orchestration.promotion.problems import InvalidInputError, ProblemError
from tests.manifests.mlflow_objects import BACKUP, FOLDER, JOB_POD, OBJECTS

NAME = "20261126T031700.123456Z"
# Runs what `exec` gets for a pod here, on a folder in the claim's place.
_KUBECTL = """
import json, pathlib, subprocess, sys
place = pathlib.Path({place!r})
words = sys.argv[2:]
with (place / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
faults = json.loads((place / "faults").read_text())
if words[0] == "exec":
    inside = words[words.index("--") + 1:]
    inside[1:1] = faults.get(inside[0], [])
    command = [word.replace("/backup", str(place / "backup")) for word in inside]
    done = subprocess.run(command, capture_output=True, stdin=None if "--stdin" in words else subprocess.DEVNULL)
    sys.stdout.buffer.write(done.stdout[: faults.get("cut")])
    sys.stderr.buffer.write(done.stderr)
    sys.exit(done.returncode)
if words[0] == "apply":
    (place / "applied").write_text(sys.stdin.read())
if words[0] == "get":
    print(json.dumps(faults.get("deployment", "")) if "deployment" in faults else "")
"""


class Cluster:
    """A control plane that is a folder: its claim's content, and what kubectl was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.backups = folder, folder / "backup"
        self.backups.mkdir(parents=True)
        script, starter = folder / "kubectl.py", folder / "kubectl"
        script.write_text(_KUBECTL.format(place=str(folder)))
        starter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        starter.chmod(0o755)
        self.kubectl = Kubectl(starter, None, "gcp")
        self.have()

    def have(self, **faults: Any) -> None:
        (self.folder / "faults").write_text(json.dumps(faults))

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def save(self) -> str:
        """Make a backup with the nightly job's own script, and return its name."""
        data = self.folder / "data"
        (data / "artifacts/1").mkdir(parents=True, exist_ok=True)
        for database in DATABASES:
            with closing(sqlite3.connect(data / database)) as connection, connection:
                connection.execute("CREATE TABLE IF NOT EXISTS rows (number INTEGER)")
                connection.execute("INSERT INTO rows VALUES (1)")
        for artifact in ("a", "b"):
            (data / "artifacts/1" / artifact).write_text(artifact)
        before = set(self.backups.iterdir())
        script, keep = FOLDER / "backup.py", BACKUP["args"][-1]
        subprocess.run([sys.executable, script, "save", data, self.backups, keep], check=True, capture_output=True)
        (made,) = set(self.backups.iterdir()) - before
        return made.name


@pytest.fixture
def gcp(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "gcp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "off the machine").mkdir()
    return tmp_path / "off the machine"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_comes_back_as_it_was(gcp: Cluster, folder: Path, tmp_path: Path) -> None:
    """Fetched from one control plane and put onto an empty one, each file is the same; the second time is no news."""
    name = gcp.save()
    (line,) = fetch_backup(gcp.kubectl, folder, keep=7)
    file = folder / f"{name}.tar"
    assert line.startswith(f"{file}: ")
    assert file.stat().st_mode & 0o077 == 0
    other = Cluster(tmp_path / "other")
    for _ in range(2):
        assert list(restore_backup(other.kubectl, file)) == [f"backup {name}: on gcp's claim mlflow-backup-pvc"]
    assert content(other.backups / name) == content(gcp.backups / name) != {}
    assert [path.name for path in other.backups.iterdir()] == [name]


def test_the_newest_backup_is_fetched_once_and_old_copies_go(gcp: Cluster, folder: Path) -> None:
    """A backup that is not complete does not count, and files that are no backups stay."""
    (folder / "notes.tar").touch()
    names = []
    for _ in range(3):
        names.append(gcp.save())
        (gcp.backups / "20991126T031700.123456Z.unfinished").mkdir(exist_ok=True)
        list(fetch_backup(gcp.kubectl, folder, keep=2))
    assert list(fetch_backup(gcp.kubectl, folder, keep=2)) == [f"{folder / names[-1]}.tar: exists already"]
    assert sorted(path.name for path in folder.iterdir()) == [*(f"{name}.tar" for name in names[1:]), "notes.tar"]


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ({"cut": 5000}, "unexpected end of data"),
        ({"tar": ["--exclude=*/artifacts/1/b"]}, "0 files in "),  # it lacks a file, and is a whole tar
        ({"tar": ["--no-such-option"]}, "unrecognized option"),
    ],
)
def test_what_does_not_arrive_whole_is_no_backup(gcp: Cluster, folder: Path, fault: dict[str, Any], found: str) -> None:
    """Nothing is left of it, and what was fetched before stays."""
    gcp.save()
    list(fetch_backup(gcp.kubectl, folder, keep=1))
    before = content(folder)
    gcp.save()
    gcp.have(**fault)
    with pytest.raises(ProblemError) as caught:
        list(fetch_backup(gcp.kubectl, folder, keep=1))
    assert found in caught.value.problem.found
    assert content(folder) == before


def test_without_a_backup_the_next_step_is_named(gcp: Cluster, folder: Path) -> None:
    """A control plane in its first night has none."""
    with pytest.raises(ProblemError, match="create job backup-by-hand --from=cronjob/mlflow-backup"):
        list(fetch_backup(gcp.kubectl, folder, keep=7))


def tar_of(file: Path, *members: tuple[str, bytes | None]) -> Path:
    """Write a tar file of these members; without content a member is a symbolic link."""
    with tarfile.open(file, "w") as tar:
        for name, text in members:
            member = tarfile.TarInfo(name)
            source = file.with_suffix(".member")
            source.write_bytes(text or b"")
            member.size = len(text or b"")
            if text is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            with source.open("rb") as stream:
                tar.addfile(member, stream)
    return file


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([(f"{NAME}/mlflow.db", b"")], "basic_auth.db"),
        ([(f"{NAME}/../../x", b"")], "in it"),
        ([("other/mlflow.db", b"")], "in it"),
        ([(f"{NAME}/mlflow.db", None)], "in it"),
        ([(f"{NAME}/mlflow.db", b"no database " * 100), (f"{NAME}/basic_auth.db", b"")], "not a database"),
    ],
)
def test_what_is_no_backup_is_not_put_back(
    gcp: Cluster, tmp_path: Path, members: list[tuple[str, bytes | None]], found: str
) -> None:
    """Neither a member outside its folder, nor a link, nor a damaged database reaches the cluster."""
    file = tar_of(tmp_path / f"{NAME}.tar", *members)
    with pytest.raises(InvalidInputError) as caught:
        list(restore_backup(gcp.kubectl, file))
    assert found in caught.value.problem.found
    assert not (gcp.folder / "calls").exists()


@pytest.mark.parametrize("name", ["notes.tar", f"{NAME}; rm -rf x.tar"])
def test_a_file_of_another_name_is_no_backup(gcp: Cluster, tmp_path: Path, name: str) -> None:
    """The name becomes a path on the claim."""
    with pytest.raises(InvalidInputError, match="which is none of a backup's"):
        list(restore_backup(gcp.kubectl, tar_of(tmp_path / name, ("x", b""))))


def test_the_pod_is_the_nightly_jobs_and_goes_again(gcp: Cluster, folder: Path, tmp_path: Path) -> None:
    """It has the job's image, user and limits and the claim alone, and is deleted even when nothing arrives."""
    name = gcp.save()
    list(fetch_backup(gcp.kubectl, folder, keep=7))
    other = Cluster(tmp_path / "other")
    other.have(sh=["--no-such-option"], find=["--no-such-option"])
    with pytest.raises(ProblemError):
        list(restore_backup(other.kubectl, folder / f"{name}.tar"))
    _, claim, pod = [json.loads(text) for text in (other.folder / "applied").read_text().split("\n---\n")]
    assert [claim] == [each for each in OBJECTS if each["metadata"]["name"] == "mlflow-backup-pvc"]
    (container,) = pod["spec"]["containers"]
    same = ("image", "resources", "securityContext")
    assert {key: container[key] for key in same} == {key: BACKUP[key] for key in same}
    assert pod["spec"]["securityContext"] == JOB_POD["securityContext"]
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["backup"]
    assert other.calls()[-1][:2] == ["delete", "pod"]


def test_a_registry_that_runs_already_is_named(gcp: Cluster, folder: Path) -> None:
    """It would not look at the claim again."""
    name = gcp.save()
    list(fetch_backup(gcp.kubectl, folder, keep=7))
    gcp.have(deployment={"metadata": {"name": "mlflow"}})
    *_, last = restore_backup(gcp.kubectl, folder / f"{name}.tar")
    assert last.startswith("MLflow is deployed already and keeps its registry")


def test_a_folder_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command exits with 1, so that whatever runs it each night can tell."""
    assert program.main(["fetch-backup", str(tmp_path / "none")]) == 1
    assert "expected an existing folder, found none" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_at_least_one_copy_is_kept(tmp_path: Path, count: str) -> None:
    """Any other number is wrong usage."""
    with pytest.raises(SystemExit):
        program.main(["fetch-backup", str(tmp_path), f"--keep={count}"])
