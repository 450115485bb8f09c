"""Paths that people write in settings and policies, where `~` stands for a home folder as it does in a shell."""

import errno
from pathlib import Path

from orchestration.promotion.problems import InvalidInputError, Problem


def at_home(path: str | Path) -> Path:
    """Return a path with the home folder in place of a leading `~` or `~user`.

    Raises:
        OSError: the account that runs this has no home folder, there is no such user, or no file can have that name.
    """
    if "\0" in str(path):  # opening it would raise no OSError
        raise OSError(errno.EINVAL, "a name with a null byte")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        first = Path(path).parts[0]
        whose = "this account: set HOME" if first == "~" else first
        raise FileNotFoundError(errno.ENOENT, f"no home folder of {whose}") from None


def path_of(text: str, setting: str) -> Path:
    """Return the path in a setting's value.

    Raises:
        InvalidInputError: it begins with `~`, which stands for no folder here.
    """
    try:
        return at_home(text)
    except OSError as error:
        found = f"{text!r} ({error.strerror})"
        raise InvalidInputError(
            Problem(f"setting {setting}", "a path", found, "Correct it, or write the whole path.")
        ) from None
