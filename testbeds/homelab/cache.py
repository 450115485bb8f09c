"""The cache of everything that is made here: outside the checkout, with a key of its inputs in each entry's name.

An entry appears under its name only when it is complete, so that every existing entry can be used. A maker that is
killed leaves only a temporary file, which the next maker removes.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder `HOMELAB_CACHE`, else `incumbent/homelab` in the user's cache folder."""
    given = os.environ.get("HOMELAB_CACHE")
    if given:
        return Path(given).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "incumbent" / "homelab"


def key_of(*inputs: str | bytes) -> str:
    """Return a short key of these inputs; different inputs have different keys."""
    digest = hashlib.sha256()
    for item in inputs:
        content = item.encode() if isinstance(item, str) else item
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()[:16]


def cached(folder: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return the entry `<cache>/<folder>/<name>`; when it is missing, `make` makes it at a temporary path.

    Parallel callers make it once. An exception of `make` is passed on, and leaves no entry.
    """
    place = cache_folder() / folder
    entry = place / name
    if entry.exists():
        return entry
    with _one_at_a_time(place / f".{name}.lock"):
        if not entry.exists():
            unfinished = place / f".{name}.unfinished"
            _remove(unfinished)
            try:
                make(unfinished)
                unfinished.rename(entry)
            finally:
                _remove(unfinished)
    return entry


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Hold a lock for the block; it ends with its process, so that a killed process blocks no other."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
