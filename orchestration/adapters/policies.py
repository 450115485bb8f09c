"""The policies folder. It is read at each tick and each run, so that a broken policy never breaks the code location."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.adapters.text_files import read_text_file
from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.problems import InvalidInputError, Problem

ENDINGS = (".yaml", ".yml")
"""How the name of a policy's file ends; what is before it is the policy's name."""
_KUSTOMIZE = frozenset({"Kustomization", "kustomization.yaml", "kustomization.yml"})
"""What lets Kustomize make a ConfigMap of the policies beside it."""
_KUBERNETES_OWN = ".."
"""How the names begin under which Kubernetes keeps the files of a mounted ConfigMap; each is linked beside them."""


@dataclass(frozen=True)
class _Listing:
    files: dict[str, list[str]]
    """By a policy's name its files, as paths in the folder; one that has two is none."""
    ignored: tuple[str, ...]
    """The paths of what is no policy."""


@dataclass
class PolicyFolder:
    """A folder of policies, with its subfolders: each file that ends with `.yaml` or `.yml` is one, but Kustomize's.

    It is listed whenever the names are asked for, so that 1,000 policies can be read without listing it 1,000 times.
    """

    path: Path
    _listing: _Listing = field(default_factory=lambda: _Listing({}, ()))

    def names(self) -> tuple[str, ...]:
        """List the names of all policies as they are now, broken ones included, sorted.

        Raises:
            InvalidInputError: the folder does not exist, or cannot be read.
        """
        self._listing = self._listed()
        return tuple(sorted(self._listing.files))

    def ignored(self) -> tuple[str, ...]:
        """Return the paths of the files that are no policies, as they were when the names were asked for, sorted."""
        return self._listing.ignored

    def policy(self, name: str) -> Policy:
        """Read the policy of that name as it is now.

        Raises:
            InvalidInputError: no such policy exists, two files have its name, or it cannot be used as it stands.
        """
        files = self._listing.files.get(name, [])
        if len(files) != 1 or not (self.path / files[0]).exists():
            names = self.names()
            if name not in names:  # compared, never joined to a path: the name may come from elsewhere
                existing = f"only the policies {', '.join(names)}" if names else "no policies at all"
                expected = f"{name}.yaml in {self.path}"
                raise InvalidInputError(
                    Problem(f"policy {name}", expected, existing, "Correct the name, or write the policy.")
                )
            files = self._listing.files[name]
        if len(files) > 1:
            expected, found = f"one file of that name in {self.path}", " and ".join(files)
            next_step = "Rename or remove one of them; a policy is named after its file, whatever subfolder it is in."
            raise InvalidInputError(Problem(f"policy {name}", expected, found, next_step))
        return parse_policy(name, read_text_file(self.path / files[0], f"policy {name}"))

    def _listed(self) -> _Listing:
        files: dict[str, list[str]] = {}
        ignored: list[str] = []
        try:
            for path in sorted(_files_below(self.path)):
                if path.rpartition("/")[2] in _KUSTOMIZE:
                    continue
                name, dot, ending = path.rpartition("/")[2].rpartition(".")
                if dot + ending in ENDINGS and not name.startswith("."):
                    files.setdefault(name, []).append(path)
                else:
                    ignored.append(path)
            return _Listing(files, tuple(ignored))
        except FileNotFoundError:
            found, next_step = "no such folder", "Set INCUMBENT_POLICIES to the folder of policies."
        except NotADirectoryError:
            found, next_step = "a file", "Set INCUMBENT_POLICIES to the folder of policies."
        except OSError as error:
            found = error.strerror or type(error).__name__
            next_step = "Let this account list the folder and read the files in it (chmod a+rX), or correct its disk."
        raise InvalidInputError(Problem(f"policies folder {self.path}", "a folder that can be read", found, next_step))


def _files_below(folder: Path) -> Iterator[str]:
    """Walk through a folder and give the paths of its files, relative to it; a hidden folder, or one that is named
    like a policy, counts as one file.

    Links to folders are followed, because Kubernetes makes them in a mounted ConfigMap, and a folder is entered once.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        here = folder / below
        identity = here.stat()
        if (identity.st_dev, identity.st_ino) in entered:
            continue
        entered.add((identity.st_dev, identity.st_ino))
        with os.scandir(here) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                if entry.name.startswith(_KUBERNETES_OWN):
                    continue
                if entry.is_dir() and not entry.name.startswith(".") and not entry.name.endswith(ENDINGS):
                    waiting.append(path)
                else:
                    yield path
