"""The policies folder: read at tick and run time, so that one broken policy never takes the code location down."""

from pathlib import Path

from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.problems import InvalidInputError, Problem

_LARGEST_POLICY = 1_000_000


def policy_names(folder: Path) -> tuple[str, ...]:
    """The names of all policies in the folder, broken ones included, sorted.

    Raises:
        InvalidInputError: there is no such folder.
    """
    if not folder.is_dir():
        found = "no such folder" if not folder.exists() else "a file"
        raise InvalidInputError(
            Problem(f"policies folder {folder}", "a folder", found, "Set INCUMBENT_POLICIES to the folder of policies.")
        )
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def load_policy(folder: Path, name: str) -> Policy:
    """The policy of that name.

    Raises:
        InvalidInputError: there is no such policy, or it cannot be used as it stands.
    """
    names = policy_names(folder)
    if name not in names:  # looked up, never joined: a name from elsewhere becomes no path
        found = f"only {', '.join(names)}" if names else "no policy at all"
        raise InvalidInputError(
            Problem(f"policy {name}", f"{name}.yaml in {folder}", found, "Correct the name, or write the policy.")
        )
    path = folder / f"{name}.yaml"
    try:
        content = path.read_bytes()[:_LARGEST_POLICY].decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(f"policy {name}", "a readable UTF-8 file", str(error), f"Correct {path}.")
        raise InvalidInputError(problem) from error
    return parse_policy(name, content)
