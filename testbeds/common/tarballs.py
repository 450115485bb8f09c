"""Unpacking tarballs on every Python that the testbeds run on."""

import tarfile
from collections.abc import Iterable
from pathlib import Path


def extract_all(tar: tarfile.TarFile, folder: Path, members: Iterable[tarfile.TarInfo] | None = None) -> None:
    """Unpack the members, or all of them, into a folder, outside of which nothing is written (PEP 706).

    Raises:
        tarfile.TarError: a member would be written elsewhere.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, members, filter="data")
        return
    # Debian 12 has Python 3.11.2; filters came with 3.11.4.
    chosen = list(tar if members is None else members)
    for member in chosen:
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise tarfile.TarError(f"{member.name} leads out of the folder")
    tar.extractall(folder, chosen)
