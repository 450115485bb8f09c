"""Files that people write: read completely, or refused with the reason."""

import stat
from pathlib import Path

from orchestration.promotion.problems import InvalidInputError, Problem

LARGEST = 1_000_000
"""Bytes."""


def read_text_file(path: Path, subject: str) -> str:
    """Return a file's text.

    Args:
        path: The file.
        subject: How an error names what it holds, such as `policy iris`.

    Raises:
        InvalidInputError: it is missing, cannot be read, is not a file, is too large or is not UTF-8.
    """

    def refuse(found: str) -> InvalidInputError:
        expected = f"a readable UTF-8 file of at most {LARGEST:,} bytes"
        return InvalidInputError(Problem(subject, expected, found, f"Correct {path}."))

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a named pipe would wait for a writer
            raise refuse("a folder, pipe or device")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:  # a part of it would mean something else
            raise refuse("a larger file")
        return content.decode("utf-8")
    except OSError as error:
        raise refuse(error.strerror or type(error).__name__) from error
    except UnicodeDecodeError as error:
        raise refuse(f"bytes that are not UTF-8 ({error.reason} at byte {error.start})") from error
