"""The cache of what is made here: outside the checkout, each entry under a name that tells its inputs.

An entry appears under its name only when it is whole, so whoever finds it may use it, and a killed maker leaves nothing
but a temporary file that the next one clears away.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """`HOMELAB_CACHE`, else `incumbent/homelab` in the user's cache folder."""
    given = os.environ.get("HOMELAB_CACHE")
    if given:
        return Path(given).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "incumbent" / "homelab"


def key_of(*inputs: str | bytes) -> str:
    """A short name for these inputs; equal only for equal ones."""
    digest = hashlib.sha256()
    for item in inputs:
        content = item.encode() if isinstance(item, str) else item
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()[:16]


def cached(folder: str, name: str, make: Callable[[Path], None]) -> Path:
    """The entry `<cache>/<folder>/<name>`, made by `make` at a temporary path when it is not there.

    Parallel callers make it once. What `make` raises goes through, and then there is no entry.
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
    """The lock ends with its process, so a killed one blocks nobody."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
