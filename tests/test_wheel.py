"""The wheel is all that an installation has: every file of the package, its commands, and what it needs."""

import ast
import re
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from functools import cache
from pathlib import Path, PurePosixPath

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestration.cli import main
from testbeds.common.tools import CHECKOUT

PACKAGE = CHECKOUT / "orchestration"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEVER_IMPORTED = {"dagster-webserver", "tzdata"}
"""A program, and data that `zoneinfo` finds by itself."""
Wheel = dict[str, bytes]
"""Each file of a wheel, by its name."""
INSTALLED_BY = {
    "botocore": "boto3",  # which is little else
    "git": "GitPython",
    "google.genai": "google-genai",
    "google.protobuf": "protobuf",
    "jwt": "PyJWT",
    "ruamel.yaml": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""What installs these modules, where their name does not say it."""
_AN_IMPORT = re.compile(r"^ *(?:import|from) +([\w.]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """The wheel as `uv build` makes it."""
    (built,) = WheelBuilder(str(CHECKOUT)).build(directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel: Wheel) -> Message:
    return Parser().parsestr(_in_dist_info(wheel, "METADATA"))


def test_it_has_the_package_and_nothing_of_the_checkout(wheel: Wheel) -> None:
    """Every module, the types' marker, the licence, and Dagster's two files; no test, testbed or policy."""
    named = {PurePosixPath(name) for name in wheel}
    package = {name for name in named if name.parts[0] == "orchestration"}
    here = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert package == {PurePosixPath(path.relative_to(CHECKOUT).as_posix()) for path in here}
    beside = {"/".join(name.parts[1:]) for name in named - package}
    assert beside == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "data/share/incumbent/dagster.yaml",
        "data/share/incumbent/workspace-code-server.yaml",
    }


def test_no_module_looks_for_the_checkout() -> None:
    """A path made from a module's own would lead into the checkout here, and nowhere once it is installed."""
    looks = [path.name for path, text in _texts().items() if "__file__" in text]
    assert looks == []


def test_its_command_is_there(wheel: Wheel) -> None:
    """The entry point names the function that the tests call."""
    assert _in_dist_info(wheel, "entry_points.txt").split() == [
        "[console_scripts]",
        "incumbent",
        "=",
        f"{main.callback.__module__}:{main.callback.__name__}",
    ]


def test_what_is_imported_is_declared_and_the_other_way_round(metadata: Message) -> None:
    """An installation without the groups for development and the sandbox lacks nothing, and has nothing for show."""
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    declared = {canonicalize_name(each.name) for each in requirements if "extra" not in str(each.marker)}
    extra = {canonicalize_name(each.name) for each in requirements} - declared
    assert extra == {canonicalize_name(Requirement(text).name) for text in _extras()}
    modules = {name for name, _ in _imports()}
    at_once = _distributions({name for name, is_at_once in _imports() if is_at_once})
    assert _distributions(modules) == (declared | extra) - NEVER_IMPORTED
    assert not at_once & extra, "a module that is imported at once needs an extra"


def test_its_name_version_and_pythons_are_the_projects(metadata: Message) -> None:
    """What the command prints as its version, and what an installer compares with its Python."""
    assert (metadata["Name"], metadata["Version"]) == (PROJECT["name"], PROJECT["version"])
    assert metadata["Requires-Python"].replace(" ", "").split(",") == ["<3.15", ">=3.11"]


def _in_dist_info(wheel: Wheel, name: str) -> str:
    return wheel[f"{PROJECT['name']}-{PROJECT['version']}.dist-info/{name}"].decode()


def _extras() -> list[str]:
    return [text for texts in PROJECT["optional-dependencies"].values() for text in texts]


@cache
def _texts() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def _imports() -> frozenset[tuple[str, bool]]:
    """Each imported module that is neither Python's nor ours, and whether importing its importer imports it."""
    found = set()
    for text in _texts().values():
        if not any(map(_is_of_others, _AN_IMPORT.findall(text))):  # most modules: parsing them takes most of the time
            continue
        tree = ast.parse(text)
        for_types = {id(inner) for node in tree.body if _is_for_types(node) for inner in ast.walk(node)}
        at_once = set(map(id, tree.body))
        found |= {
            (name, id(node) in at_once)
            for node in ast.walk(tree)
            if id(node) not in for_types
            for name in _names(node)
            if _is_of_others(name)
        }
    return frozenset(found)


def _is_of_others(module: str) -> bool:
    return module.partition(".")[0] not in {*sys.stdlib_module_names, "orchestration"}


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module else []


def _distributions(modules: set[str]) -> set[str]:
    """What installs these modules: what is called as their first part is, or as `INSTALLED_BY` says."""
    found = set()
    for name in modules:
        by = (owner for module, owner in INSTALLED_BY.items() if f"{name}.".startswith(f"{module}."))
        found.add(canonicalize_name(next(by, name.partition(".")[0])))
    return found
