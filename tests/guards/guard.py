"""A guard of the pipeline: what it keeps from happening, a pipeline without it, and the test that then fails."""

import ast
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """The pipeline with one piece of text replaced."""

    file: str
    """The file's path below `orchestration/`."""
    old: str
    """A text that occurs exactly once in the file."""
    new: str

    @property
    def times(self) -> int:
        """How often the file has the text, as it is now."""
        return _read(self.file).count(self.old)

    @property
    def text(self) -> str:
        """The file with the text replaced; it must have it exactly once."""
        assert self.times == 1, f"{self.file} contains {self.old!r} {self.times} times"
        return _read(self.file).replace(self.old, self.new)

    @property
    def place(self) -> str:
        """The name of what the text is in: a function, a method, or the value that a module gives a name."""
        changed = _read(self.file).index(self.old) + len(self.old) - len(self.old.lstrip())
        line = _read(self.file).count("\n", 0, changed) + 1
        return ".".join(_names_at(_parse(self.file), line))

    def write(self, folder: Path, origin: Path = CHECKOUT) -> Path:
        """Copy the pipeline of `origin`, an unchanged one, into a folder and replace the text; return the folder."""
        text = self.text
        copy_pipeline(folder, origin)
        (folder / "orchestration" / self.file).write_text(text, encoding="utf-8")
        return folder


@dataclass(frozen=True)
class Guard:
    """One guard, and what shows that it is there."""

    what: str
    """What it makes sure of, in a sentence."""
    mutant: Mutant
    test: str
    """The test that fails without it: the file's path below `tests/`, and the test's name."""
    raises: str = ""
    """The exception with which that test fails, where it is not an assertion."""
    needs_programs: bool = False
    """Whether that test needs ssh and gpg, and so belongs to `make test-platform`."""


def copy_pipeline(folder: Path, origin: Path = CHECKOUT) -> None:
    """Copy the pipeline of `origin` into a folder, with what bytecode there is."""
    half_written = shutil.ignore_patterns("*.pyc.*")
    shutil.copytree(origin / "orchestration", folder / "orchestration", ignore=half_written)


@cache
def _read(file: str) -> str:
    return (CHECKOUT / "orchestration" / file).read_text(encoding="utf-8")


@cache
def _parse(file: str) -> ast.Module:
    return ast.parse(_read(file))


def _names_at(tree: ast.AST, line: int) -> list[str]:
    """Return the names of the definitions around a line, the outermost first."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return [node.name, *_names_at(node, line)]
        if isinstance(tree, ast.Module | ast.ClassDef) and isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            return [ast.unparse(target)]
        return _names_at(node, line)
    return []
