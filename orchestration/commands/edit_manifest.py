"""The promotion's edit, made by hand: to a file, or from standard input to standard output."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from orchestration.commands.replace_file import replace_file
from orchestration.promotion.manifest import Edited, EditRefused, set_image, too_large_problem
from orchestration.promotion.manifest_place import Selector
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.yaml_text import MAX_BYTES


def edit_file(file: Path, selector: Selector, image: str, expected: str | None) -> str:
    """Put an image, or an address, into a file. A symbolic link stays one: the file that it leads to is edited.

    Args:
        file: The manifest.
        selector: Which image, or which address, of it is meant.
        image: The new image or address.
        expected: Edit only while the file has this one.

    Returns:
        What was done, for a person.

    Raises:
        InvalidInputError: the edit is refused, or the file cannot be read or replaced; it was left alone.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # to open a named pipe would wait for a writer
            raise InvalidInputError(
                Problem(str(file), "a regular file", "a pipe or device", "Pass it through standard input: FILE -.")
            )
        target = file.resolve(strict=True)
        with target.open("rb") as source:
            content = _read(source, selector.file)
        edited, done = _edit(content, selector, image, expected)
        if edited != content:
            replace_file(target, content, edited)
    except OSError as error:
        raise InvalidInputError(
            Problem(
                str(file),
                "a file that can be read and replaced",
                error.strerror or type(error).__name__,
                "Nothing was changed. Check the permissions of the file and its folder.",
            )
        ) from error
    return done


def edit_stream(source: BinaryIO, output: BinaryIO, selector: Selector, image: str, expected: str | None) -> str:
    """Copy a manifest from one stream to another, with the image put into it; see `edit_file`.

    A manifest that has the image already is passed through. Nothing is written when the edit is refused.

    Raises:
        InvalidInputError: the input cannot be read, or the edit is refused.
        OSError: the output cannot be written; it may hold a part of the manifest.
    """
    try:
        content = _read(source, selector.file)
    except OSError as error:
        raise InvalidInputError(
            Problem(selector.file, "a manifest to read", error.strerror or type(error).__name__, "Check the input.")
        ) from error
    edited, done = _edit(content, selector, image, expected)
    output.write(edited)
    output.flush()
    return done


def _read(source: BinaryIO, name: str) -> bytes:
    """Read a whole manifest, but no more than is accepted of what is larger."""
    content = source.read(MAX_BYTES + 1)
    if len(content) <= MAX_BYTES:
        return content
    try:
        status = os.fstat(source.fileno())
    except OSError:  # a stream without a file, as in a test
        raise InvalidInputError(too_large_problem(name, None)) from None
    raise InvalidInputError(too_large_problem(name, status.st_size if stat.S_ISREG(status.st_mode) else None))


def _edit(content: bytes, selector: Selector, image: str, expected: str | None) -> tuple[bytes, str]:
    outcome = set_image(content, selector, image, expected=expected)
    if isinstance(outcome, EditRefused):
        raise InvalidInputError(outcome.problem)
    if isinstance(outcome, Edited):
        return outcome.content, f"{selector.file}, line {outcome.line}: {outcome.old} -> {image}"
    return content, f"{selector.file}, line {outcome.line}: already {outcome.value}"
