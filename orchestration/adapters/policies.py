"""The policies folder. It is read at each tick and each run, so that a broken policy never breaks the code location."""

import stat
from pathlib import Path

from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.problems import InvalidInputError, Problem

_LARGEST_POLICY = 1_000_000


def policy_names(folder: Path) -> tuple[str, ...]:
    """List the names of all policies in the folder, broken ones included, sorted.

    Raises:
        InvalidInputError: the folder does not exist.
    """
    if not folder.is_dir():
        state = "no such folder" if not folder.exists() else "a file"
        raise InvalidInputError(
            Problem(f"policies folder {folder}", "a folder", state, "Set INCUMBENT_POLICIES to the folder of policies.")
        )
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def load_policy(folder: Path, name: str) -> Policy:
    """Read the policy of that name.

    Raises:
        InvalidInputError: no such policy exists, or it cannot be used as it stands.
    """
    names = policy_names(folder)
    if name not in names:  # compared, never joined to a path: the name may come from elsewhere
        existing = f"only the policies {', '.join(names)}" if names else "no policies at all"
        raise InvalidInputError(
            Problem(f"policy {name}", f"{name}.yaml in {folder}", existing, "Correct the name, or write the policy.")
        )
    return parse_policy(name, _read(folder / f"{name}.yaml", name))


def _read(path: Path, name: str) -> str:
    def refuse(found: str) -> InvalidInputError:
        expected = f"a readable UTF-8 file of at most {_LARGEST_POLICY:,} bytes"
        return InvalidInputError(Problem(f"policy {name}", expected, found, f"Correct {path}."))

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a named pipe would wait for a writer
            raise refuse("a folder, pipe or device")
        with path.open("rb") as file:
            content = file.read(_LARGEST_POLICY + 1)
        if len(content) > _LARGEST_POLICY:  # a part of it would be another policy
            raise refuse("a larger file")
        return content.decode("utf-8")
    except OSError as error:
        raise refuse(error.strerror or type(error).__name__) from error
    except UnicodeDecodeError as error:
        raise refuse(f"bytes that are not UTF-8 ({error.reason} at byte {error.start})") from error
