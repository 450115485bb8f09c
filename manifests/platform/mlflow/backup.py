"""Back up the model registry, and restore a backup if there is no registry.

It runs in MLflow's own image, with only the standard library. A backup is a folder named after its time (UTC); an
incomplete one has another name and is never restored.
"""

import argparse
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

ARTIFACTS = "artifacts"
AUTH = "basic_auth.db"
REGISTRY = "mlflow.db"
"""Restored last, so a folder that has it is complete."""
UNFINISHED = ".unfinished"


def main() -> None:
    """Run the command `save` or `restore`, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    saving = commands.add_parser("save", help="make a backup, and remove the oldest ones")
    saving.add_argument("data", type=Path)
    saving.add_argument("backups", type=Path)
    saving.add_argument("--keep", type=int, required=True, help="number of backups to keep, including this one")
    restoring = commands.add_parser("restore", help="restore the newest backup, unless there is a registry")
    restoring.add_argument("backups", type=Path)
    restoring.add_argument("data", type=Path)
    options = parser.parse_args()
    if options.command == "save":
        print(save(options.data, options.backups, options.keep))
    else:
        print(restore(options.backups, options.data))


def save(data: Path, backups: Path, keep: int) -> str:
    """Back up the running registry, and describe what was done.

    The databases are copied first, so every artifact that they name already exists and is copied after them.
    """
    if not (data / REGISTRY).is_file():
        sys.exit(f"{data / REGISTRY}: expected the registry's database, found none. Check that MLflow has started.")
    if keep < 1:
        sys.exit(f"--keep: expected at least 1, found {keep}.")
    earlier = whole(backups)
    for left in backups.glob(f"*{UNFINISHED}"):
        shutil.rmtree(left)
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    unfinished = backups / f"{name}{UNFINISHED}"
    unfinished.mkdir()
    for database in (REGISTRY, AUTH):
        copy_database(data / database, unfinished / database)
    last = earlier[-1] / ARTIFACTS if earlier else None
    copied, linked = copy_artifacts(data / ARTIFACTS, unfinished / ARTIFACTS, last)
    os.sync()
    unfinished.rename(backups / name)
    removed = [*earlier, backups / name][:-keep]
    for old in removed:
        gone = old.with_name(f"{old.name}{UNFINISHED}")
        old.rename(gone)  # a backup that is only half removed no longer counts as one
        shutil.rmtree(gone)
    return f"backup {name}: {copied} artifacts copied, {linked} unchanged; {len(removed)} old backups removed"


def restore(backups: Path, data: Path) -> str:
    """Restore the newest backup into a folder without a registry, and describe what was done."""
    if (data / REGISTRY).exists():
        return f"{data / REGISTRY} exists: nothing to put back"
    complete = whole(backups)
    if not complete:
        return f"no backup in {backups}: the registry begins empty"
    newest = complete[-1]
    shutil.copytree(newest / ARTIFACTS, data / ARTIFACTS, dirs_exist_ok=True)
    for database in (AUTH, REGISTRY):
        unfinished = data / f"{database}{UNFINISHED}"
        shutil.copyfile(newest / database, unfinished)
        os.sync()
        unfinished.rename(data / database)
    return f"backup {newest.name} put back"


def whole(backups: Path) -> list[Path]:
    """The complete backups, oldest first."""
    return sorted(
        path for path in backups.iterdir() if (path / REGISTRY).is_file() and not path.name.endswith(UNFINISHED)
    )


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that is in use as of one moment, and check the copy's integrity."""
    connection = closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60))
    with connection as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
        (result,) = copy.execute("PRAGMA integrity_check").fetchone()
    if result != "ok":
        sys.exit(f"{source}: expected a sound copy, found {result}. The earlier backups are untouched.")


def copy_artifacts(source: Path, target: Path, earlier: Path | None) -> tuple[int, int]:
    """Copy a tree, sharing files that an earlier backup already has.

    Returns:
        How many files were copied, and how many are shared.
    """
    target.mkdir()
    copied = linked = 0
    for folder, _, names in os.walk(source):
        here = Path(folder).relative_to(source)
        (target / here).mkdir(exist_ok=True)
        for name in names:
            file, was = source / here / name, earlier / here / name if earlier else None
            if was is not None and was.is_file() and same(file, was):
                os.link(was, target / here / name)
                linked += 1
            else:
                shutil.copy2(file, target / here / name)
                copied += 1
    return copied, linked


def same(file: Path, earlier: Path) -> bool:
    """Whether size and modification time are equal."""
    now, before = file.stat(), earlier.stat()
    return (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


if __name__ == "__main__":
    main()
