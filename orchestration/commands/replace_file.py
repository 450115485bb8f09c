"""Replacing a file's content in one step, so that a reader sees all of the old content or all of the new."""

import os
import shutil
import tempfile
from pathlib import Path

from orchestration.promotion.problems import InvalidInputError, Problem

_NAME_SHOWN = 40
"""Characters of the target's name that the temporary file's name begins with, 160 bytes at most."""


def replace_file(target: Path, old: bytes, new: bytes) -> None:
    """Put new content in the place of a file, with the same mode and owner.

    The content goes into a temporary file beside it, which is then renamed. What a rename would silently undo is
    refused instead: a hard link's other names would keep the old content, and a file that nobody may write would be
    written all the same. (`sed -i` does both; editors do neither.)

    Args:
        target: The file itself, not a symbolic link to it: the rename would replace the link.
        old: The content that the edit began with.
        new: The content to write.

    Raises:
        InvalidInputError: the file is one of several hard links, read-only, or has changed; it was left alone.
        OSError: the folder cannot be written, or the file's owner cannot be kept; the file was left alone.
    """
    before = target.stat()
    if before.st_nlink > 1:
        raise _refused(
            target,
            "a file with one name",
            f"a file with {before.st_nlink} names (hard links)",
            "Replacing it would leave the other names with the old content. Edit it through standard input (FILE -) "
            "and copy the result into it, or break the links.",
        )
    if not os.access(target, os.W_OK):
        raise _refused(target, "a file that you may write", "a read-only file", "Make it writable, if it may change.")
    prefix = f".{target.name[:_NAME_SHOWN]}."  # with the whole of a long name it would be too long a name
    handle, path = tempfile.mkstemp(dir=target.parent, prefix=prefix)
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(new)
            temporary.flush()
            own = os.fstat(temporary.fileno())
            if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
                os.fchown(temporary.fileno(), before.st_uid, before.st_gid)
            os.fsync(temporary.fileno())
        shutil.copymode(target, path)
        if target.read_bytes() != old:
            raise _refused(target, "the content that was read", "a file that has changed since", "Run the edit again.")
        Path(path).replace(target)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def _refused(target: Path, expected: str, found: str, next_step: str) -> InvalidInputError:
    return InvalidInputError(Problem(str(target), expected, found, f"Nothing was changed. {next_step}"))
