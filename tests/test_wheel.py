"""A wheel is all that an installation has: every file of the package, its command, and what it needs."""

import ast
import re
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from testbeds.common.tools import CHECKOUT

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


@dataclass(frozen=True)
class Package:
    """A package of this checkout that is built and installed by itself."""

    root: Path
    """The folder with its pyproject.toml."""
    module: str
    beside: frozenset[str]
    """What its wheel has beside the module and its metadata."""
    never_imported: frozenset[str]
    """What it needs and does not import."""

    @property
    def sources(self) -> Path:
        return CHECKOUT / self.module

    @property
    def project(self) -> Any:
        return _project(self.root)

    def built(self) -> dict[str, bytes]:
        """Each file of its wheel, by its name."""
        return _built(self.root)

    def in_dist_info(self, name: str) -> str:
        folder = f"{self.project['name'].replace('-', '_')}-{self.project['version']}.dist-info"
        return self.built()[f"{folder}/{name}"].decode()

    def metadata(self) -> Message:
        return Parser().parsestr(self.in_dist_info("METADATA"))


INCUMBENT = Package(
    CHECKOUT,
    "orchestration",
    frozenset(
        {
            "licenses/LICENSE",
            "data/share/incumbent/dagster.yaml",
            "data/share/incumbent/workspace-code-server.yaml",
        }
    ),
    frozenset({"dagster-k8s", "dagster-postgres", "tzdata"}),  # dagster.yaml names two, and `zoneinfo` finds the third
)
MODEL_SERVER = Package(CHECKOUT / "model_server", "model_server", frozenset(), frozenset())


@pytest.fixture(params=[INCUMBENT, MODEL_SERVER], ids=lambda package: package.module)
def package(request: pytest.FixtureRequest) -> Package:
    found = request.param
    assert isinstance(found, Package)
    return found


def test_a_wheel_has_the_package_and_nothing_of_the_checkout(package: Package) -> None:
    """Every module, the types' marker, and what goes beside; no test, testbed or policy."""
    named = {PurePosixPath(name) for name in package.built()}
    packed = {name for name in named if name.parts[0] == package.module}
    here = {path for path in package.sources.rglob("*") if path.is_file() and path.name.endswith((".py", "py.typed"))}
    assert packed == {PurePosixPath(path.relative_to(CHECKOUT).as_posix()) for path in here}
    beside = {"/".join(name.parts[1:]) for name in named - packed}
    assert beside == package.beside | {"METADATA", "RECORD", "WHEEL", "entry_points.txt"}


def test_no_module_looks_for_the_checkout(package: Package) -> None:
    """A path made from a module's own would lead into the checkout here, and nowhere once it is installed."""
    assert [path.name for path, text in _texts(package).items() if "__file__" in text] == []


def test_its_command_is_there(package: Package) -> None:
    """The entry point has the package's name, and leads to a function."""
    lines = package.in_dist_info("entry_points.txt").split()
    assert lines[:3] == ["[console_scripts]", package.project["name"], "="]
    module, _, function = lines[3].partition(":")
    assert callable(getattr(import_module(module), function))


def test_what_is_imported_is_declared_and_the_other_way_round(package: Package) -> None:
    """An installation without the groups for development and the sandbox lacks nothing, and has nothing for show."""
    requirements = [Requirement(text) for text in package.metadata().get_all("Requires-Dist", [])]
    declared = {canonicalize_name(each.name) for each in requirements if "extra" not in str(each.marker)}
    extra = {canonicalize_name(each.name) for each in requirements} - declared
    imports = _imports(package)
    at_once = _distributions({name for name, is_at_once in imports if is_at_once})
    assert _distributions({name for name, _ in imports}) == (declared | extra) - package.never_imported
    assert not at_once & extra, "a module that is imported at once needs an extra"


def test_its_name_version_and_pythons_are_the_projects(package: Package) -> None:
    """What the command prints as its version, and what an installer compares with its Python."""
    metadata = package.metadata()
    assert (metadata["Name"], metadata["Version"]) == (package.project["name"], package.project["version"])
    assert metadata["Requires-Python"].replace(" ", "").split(",") == ["<3.15", ">=3.11"]


def test_what_a_package_of_its_own_needs_is_in_the_lock() -> None:
    """The testbeds import the model server from the checkout, where the lock says which libraries there are."""
    lock = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    for text in MODEL_SERVER.project["dependencies"]:
        requirement = Requirement(text)
        locked = re.findall(rf"^{re.escape(canonicalize_name(requirement.name))}==(\S+)", lock, re.MULTILINE)
        assert locked
        assert all(requirement.specifier.contains(version) for version in locked)


@cache
def _project(root: Path) -> Any:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@cache
def _built(root: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        (built,) = WheelBuilder(str(root)).build(directory=folder, versions=["standard"])
        with zipfile.ZipFile(built) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@cache
def _texts(package: Package) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(package.sources.rglob("*.py"))}


def _imports(package: Package) -> frozenset[tuple[str, bool]]:
    """Each imported module that is neither Python's nor ours, and whether importing its importer imports it."""
    known = {*sys.stdlib_module_names, package.module}

    def is_of_others(module: str) -> bool:
        return module.partition(".")[0] not in known

    found = set()
    for text in _texts(package).values():
        if not any(map(is_of_others, _AN_IMPORT.findall(text))):  # most modules: parsing them takes most of the time
            continue
        tree = ast.parse(text)
        for_types = {id(inner) for node in tree.body if _is_for_types(node) for inner in ast.walk(node)}
        at_once = set(map(id, tree.body))
        found |= {
            (name, id(node) in at_once)
            for node in ast.walk(tree)
            if id(node) not in for_types
            for name in _names(node)
            if is_of_others(name)
        }
    return frozenset(found)


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module else []


def _distributions(modules: set[str]) -> set[str]:
    """What installs these modules: what is called as their first part is, or as `INSTALLED_BY` says."""
    found: set[str] = set()
    for name in modules:
        by = (owner for module, owner in INSTALLED_BY.items() if f"{name}.".startswith(f"{module}."))
        found.add(canonicalize_name(next(by, name.partition(".")[0])))
    return found
