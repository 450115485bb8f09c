"""Backups of the model registry on their way off the control plane, and back onto a new one.

A backup is a folder on the claim `mlflow-backup-pvc`, made every night (`manifests/platform/mlflow/backup.yaml`). Off
the machine, it is a tar file of the same name, which has that name only when all of it has arrived.
"""

import re
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from bootstrap.kubectl import Document, Kubectl
from bootstrap.objects import namespace
from bootstrap.secrets import MLFLOW
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError

BACKUPS = "/backup"
"""Where the registry's pods mount the claim."""
DATABASES = ("mlflow.db", "basic_auth.db")
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_MANIFEST = Path(__file__).resolve().parents[1] / "manifests/platform/mlflow/backup.yaml"
_SERVER = ("exec", "deployment/mlflow", f"--namespace={MLFLOW}", "--container=mlflow")
_POD = "registry-backup-restore"
_SECONDS = 3600.0
"""For a whole backup on a slow line."""
_START_SECONDS = 600.0
"""For the pod's image, which a new node has to pull first."""


def fetch_backup(gcp: Kubectl, folder: Path, keep: int) -> Iterator[str]:
    """Copy the newest backup from the control plane into a folder of this machine, unless it is there.

    Args:
        gcp: The control plane, on which MLflow runs.
        folder: Where the files are kept; it exists.
        keep: How many files stay there, at least 1; the oldest go.

    Yields:
        What was done, for a person.

    Raises:
        ProblemError: there is no backup, or it did not arrive whole; the files that were there before are untouched.
    """
    listed = gcp.run(*_SERVER, "--", "ls", BACKUPS).split()
    names = sorted(name for name in listed if _NAME.fullmatch(name))
    if not names:
        next_step = "Make one: kubectl -n mlflow create job backup-by-hand --from=cronjob/mlflow-backup."
        raise ProblemError(Problem(f"MLflow's backups on {gcp.context}", "one at least", "none", next_step))
    file = folder / f"{names[-1]}.tar"
    if file.exists():
        yield f"{file}: exists already"
        return
    unfinished = file.with_suffix(".unfinished")
    unfinished.touch(mode=0o600)  # it has the hashes of passwords
    try:
        with unfinished.open("wb") as target:
            gcp.stream(*_SERVER, "--", "tar", "-C", BACKUPS, "-c", names[-1], target=target, seconds=_SECONDS)
        _require_whole(unfinished, names[-1])
        sizes = gcp.run(*_SERVER, "--", "find", f"{BACKUPS}/{names[-1]}", "-type", "f", "-printf", "%s %P\\n")
        _require_same(unfinished, names[-1], sizes)
        unfinished.rename(file)
    finally:
        unfinished.unlink(missing_ok=True)
    yield f"{file}: {file.stat().st_size / 1e6:.1f} MB"
    kept = sorted(path for path in folder.glob("*.tar") if _NAME.fullmatch(path.stem))
    for old in kept[:-keep]:
        old.unlink()
        yield f"{old}: removed"


def restore_backup(gcp: Kubectl, file: Path) -> Iterator[str]:
    """Put a backup onto the control plane's claim, from where a registry that starts empty restores it.

    On a new control plane this comes before root is applied, so that MLflow finds it at its first start.

    Args:
        gcp: The control plane.
        file: What `fetch_backup` made; its name is the backup's.

    Yields:
        What was done, for a person.

    Raises:
        InvalidInputError: the file is not a whole backup.
        ProblemError: the cluster refuses, or the backup does not arrive.
    """
    name = file.stem
    _require_whole(file, name)
    claim, pod = _claim_and_pod()
    gcp.apply([namespace(MLFLOW), claim, pod])
    try:
        ready = ("wait", f"pod/{_POD}", f"--namespace={MLFLOW}", "--for=condition=Ready")
        gcp.run(*ready, f"--timeout={_START_SECONDS:.0f}s", seconds=_START_SECONDS + 10)
        within = ("exec", _POD, f"--namespace={MLFLOW}")
        place = f"{BACKUPS}/{name}"
        script = (
            f"test ! -e {place} || exit 0; rm -rf {place}.unfinished; mkdir {place}.unfinished; "
            f"tar -C {place}.unfinished --strip-components=1 --no-same-owner -x; sync; mv {place}.unfinished {place}"
        )
        with file.open("rb") as source:
            gcp.stream(*within, "--stdin", "--", "sh", "-ec", script, source=source, seconds=_SECONDS)
        sizes = gcp.run(*within, "--", "find", place, "-type", "f", "-printf", "%s %P\\n")
        _require_same(file, name, sizes)
    finally:
        # `sleep` does not hear SIGTERM as the first process of a pod.
        gcp.run("delete", "pod", _POD, f"--namespace={MLFLOW}", "--ignore-not-found", "--grace-period=1", seconds=120)
    yield f"backup {name}: on {gcp.context}'s claim {claim['metadata']['name']}"
    if gcp.read("deployment", "mlflow", MLFLOW) is not None:
        yield "MLflow is deployed already and keeps its registry; docs/clusters.md says how to replace that"


def _claim_and_pod() -> tuple[Document, Document]:
    """Return the claim as Git has it, and a pod that mounts it as the nightly job does, and waits."""
    documents = list(YAML(typ="safe").load_all(_MANIFEST.read_text(encoding="utf-8")))
    claim = next(document for document in documents if document["kind"] == "PersistentVolumeClaim")
    job = next(document for document in documents if document["kind"] == "CronJob")
    spec: dict[str, Any] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "backup"]
    waits = {"command": ["sleep", str(int(_SECONDS + _START_SECONDS))], "args": [], "volumeMounts": mounts}
    volumes = [volume for volume in spec["volumes"] if volume["name"] == "backup"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _POD, "namespace": MLFLOW},
        "spec": {**spec, "containers": [{**container, **waits}], "volumes": volumes},
    }
    return claim, pod


def _require_whole(file: Path, name: str) -> None:
    """Check that a file is a tar of that backup, to its end, with databases that are sound.

    Raises:
        InvalidInputError: it is not.
    """
    try:
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name {name}, which is none of a backup's")
        with tarfile.open(file) as tar, tempfile.TemporaryDirectory() as folder:
            for member in tar:  # reads to the end, so that a file that was cut is noticed
                path = PurePosixPath(member.name)
                if path.parts[:1] != (name,) or ".." in path.parts or not (member.isdir() or member.isfile()):
                    raise ValueError(f"{member.name!r} in it")
            for database in DATABASES:
                copy = Path(folder, database)
                content = tar.extractfile(f"{name}/{database}")
                copy.write_bytes(content.read() if content is not None else b"")
                with closing(sqlite3.connect(copy)) as connection:
                    (result,) = connection.execute("PRAGMA integrity_check").fetchone()
                if result != "ok":
                    raise ValueError(f"a damaged {database}: {result}")
    except (OSError, tarfile.TarError, sqlite3.Error, KeyError, ValueError) as error:
        expected = f"a tar file of one backup, with sound databases {' and '.join(DATABASES)}"
        next_step = "Take another file, or fetch it again: python -m bootstrap fetch-backup."
        raise InvalidInputError(Problem(str(file), expected, str(error).strip("'\""), next_step)) from error


def _require_same(file: Path, name: str, sizes: str) -> None:
    """Check that a tar file has the files of a folder in a pod, each with its size.

    Raises:
        ProblemError: it has others.
    """
    there = set(sizes.splitlines())
    with tarfile.open(file) as tar:
        here = {f"{each.size} {each.name.removeprefix(f'{name}/')}" for each in tar if each.isfile()}
    if here != there:
        found = f"{len(here - there)} files in {file} alone, {len(there - here)} in the pod alone"
        raise ProblemError(Problem(f"backup {name}", "the same files on both sides", found, "Run this again."))
