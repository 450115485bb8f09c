"""The policies folder. It is read at each tick and each run, so that a broken policy never breaks the code location."""

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
    path = folder / f"{name}.yaml"
    try:
        content = path.read_bytes()[:_LARGEST_POLICY].decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(f"policy {name}", "a readable UTF-8 file", str(error), f"Correct {path}.")
        raise InvalidInputError(problem) from error
    return parse_policy(name, content)
