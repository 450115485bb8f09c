"""Files that hold one secret: read each time anew, because secrets are rotated."""

from pathlib import Path

from orchestration.adapters.paths import at_home
from orchestration.promotion.problems import DependencyError, Problem

_LONGEST = 64 * 1024


def read_secret(path: Path, what: str, setting: str, encoding: str = "ascii", *, lines: bool = False) -> str:
    """Return the secret in a file, without the white space around it: one line, as a header can have it.

    Args:
        path: the file.
        what: the secret's name in a sentence, such as `the token of the Git server`.
        setting: what names the file, such as a setting.
        encoding: how its bytes become text; only ASCII goes into a header as it is.
        lines: whether the secret may have several lines, as a private key has.

    Raises:
        DependencyError: the file cannot be read, or does not hold such a secret.
    """

    def refuse(found: str) -> DependencyError:
        next_step = f"Write it into that file, or correct {setting}."
        return DependencyError(Problem(f"file {path}", what, found, next_step))

    try:
        with at_home(path).open("rb") as file:
            content = file.read(_LONGEST + 1)
        secret = content.decode(encoding).strip(" \t\r\n")
    except OSError as error:
        raise refuse(f"a file that cannot be read ({error.strerror or type(error).__name__})") from error
    except UnicodeDecodeError:
        raise refuse(f"bytes that are not {encoding.upper()}") from None  # the exception holds the file's content
    if not secret:
        raise refuse("an empty file")
    if len(content) > _LONGEST:
        raise refuse(f"more than {_LONGEST:,} bytes")
    one_line = secret.replace("\r\n", "").replace("\n", "") if lines else secret
    if any(char < " " or char == "\x7f" for char in one_line):
        raise refuse("more than one line, or control characters")
    return secret
