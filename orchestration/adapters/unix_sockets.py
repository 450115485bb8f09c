"""Sockets in a folder, for processes of one user and machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def private_folder(folder: Path) -> Path:
    """Make a folder that only its owner may enter, unless it is there, and return it.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def address(folder: Path, name: str) -> Iterator[str]:
    """Yield the address of a socket as long as the block lasts; it fits however long the folder's path is.

    Raises:
        OSError: the folder cannot be opened.
    """
    held = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{held}/{name}"
    finally:
        os.close(held)
