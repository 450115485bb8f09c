"""Python libraries as a layer: the locked versions, for the interpreter of the images."""

import compileall
import platform
import py_compile
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.layers import Layer, LayerWriter, read_layer, write_layer
from testbeds.common.tools import CHECKOUT
from testbeds.homelab.cache import cached, key_of
from testbeds.homelab.programs import run_long
from testbeds.homelab.progress import Say

PYTHON = (3, 11)
"""The version of `settings.PYTHON_IMAGE`."""
FOLDER = "/srv/libraries"
"""Where an image has the libraries: for `PYTHONPATH`, and its `bin` for `PATH`."""
INCUMBENT = "/srv/incumbent"
"""Where an image has the package `incumbent` itself, as its wheel installs it."""
_LOCK = CHECKOUT / "requirements.lock"
_OF_WHEEL = ("LICENSE", "README.md", "dagster.yaml", "pyproject.toml", "workspace-code-server.yaml")
"""What the wheel is made of beside the modules."""
_OF_INSTALLER = (".lock", "RECORD", "direct_url.json", "uv_cache.json")
"""What uv notes of an installation, which is different each time."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_PLATFORMS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
# Raised by hand when a change below makes another layer of the same lock.
_RECIPE = "2"
# A path with a space, or a long one, does not fit into a script's first line; then a shell starts the interpreter.
_INTERPRETER = re.compile(rb"\A#!(?:/bin/sh\n\'\'\'exec\' [^\n]*\n\' \'\'\'|[^\n]*python[^\n]*)\n")
# A fifth of the libraries' size, and nothing that a server runs.
_LEFT_OUT = {"tests", "include"}
_LEFT_OUT_SUFFIXES = {".pyx", ".pxd", ".pyi", ".a", ".h", ".hpp", ".c", ".cpp"}


def architecture() -> str:
    """Return this machine's architecture as images name it; Docker's virtual machine on it has the same."""
    return _ARCHITECTURES[platform.machine()]


def library_layer(names: Sequence[str], say: Say, *, without: Sequence[str] = ()) -> Layer:
    """Make a layer with these libraries and their dependencies, at the lock's versions and hashes; it is cached.

    Args:
        names: the libraries.
        say: takes the lines of progress.
        without: dependencies that no program in the image uses; they and their own dependencies are left out.

    Raises:
        ProblemError: the libraries cannot be installed; with uv's last lines.
    """
    made_of = (_RECIPE, _LOCK.read_bytes(), architecture(), repr(sys.version_info[:2]), repr(names), repr(without))
    name = f"libraries-{names[0]}-{key_of(*made_of)}"

    def make(unfinished: Path) -> None:
        scratch = unfinished.with_suffix(".folder")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            _install(names, without, scratch, say)
            compile_sources(scratch, FOLDER)
            write_layer(unfinished, lambda layer: _write(layer, scratch, FOLDER))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    return read_layer(cached("layers", name, make))


def wheel_layer(say: Say) -> Layer:
    """Make a layer with the package `incumbent` of this checkout, as its wheel installs it; it is cached.

    Raises:
        ProblemError: the wheel cannot be installed; with uv's last lines.
    """
    from hatchling.builders.wheel import WheelBuilder

    files = [CHECKOUT / name for name in _OF_WHEEL] + sorted((CHECKOUT / "orchestration").rglob("*.py"))
    contents = (item for path in files for item in (str(path.relative_to(CHECKOUT)), path.read_bytes()))
    key = key_of(_RECIPE, repr(sys.version_info[:2]), *contents)

    def make(unfinished: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            (wheel,) = WheelBuilder(str(CHECKOUT)).build(directory=scratch, versions=["standard"])
            folder = Path(scratch, "installed")
            install: list[str | Path] = [
                _uv(),
                "pip",
                "install",
                "--quiet",
                "--offline",
                "--no-deps",
                "--link-mode",
                "copy",
            ]
            install += ["--python", sys.executable, "--target", folder, wheel]
            step = "Check that uv works: `uv --version`."
            run_long("the package incumbent for images", install, say, next_step=step)
            for name in _OF_INSTALLER:
                for note in folder.rglob(name):
                    note.unlink()
            compile_sources(folder, INCUMBENT)
            write_layer(unfinished, lambda layer: _write(layer, folder, INCUMBENT))

    return read_layer(cached("layers", f"incumbent-{key}", make))


def compile_sources(folder: Path, in_image: str) -> None:
    """Compile a folder of sources for an image; without this, its programs start seconds slower.

    A read-only container cannot compile. Python uses this bytecode without comparing the source's time, which a layer
    does not keep. An interpreter of another version than the images' compiles nothing, and they start slower.

    Args:
        folder: the sources.
        in_image: where the image has that folder.
    """
    if sys.version_info[:2] == PYTHON:
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(
            folder, maxlevels=20, stripdir=folder, prependdir=in_image, quiet=2, invalidation_mode=unchecked, workers=2
        )


def _install(names: Sequence[str], without: Sequence[str], folder: Path, say: Say) -> None:
    version = ".".join(map(str, PYTHON))
    overrides = folder.with_suffix(".overrides")
    overrides.write_text("".join(f"{name} ; sys_platform == 'never'\n" for name in without), encoding="utf-8")
    command: list[str | Path] = [
        _uv(),
        "pip",
        "install",
        "--quiet",
        "--target",
        folder,
        "--only-binary",
        ":all:",
        "--link-mode",
        "copy",
    ]
    command += ["--python-version", version, "--python-platform", _PLATFORMS[architecture()]]
    run_long(
        f"libraries for images: {', '.join(names)}",
        [*command, "--constraints", _LOCK, "--overrides", overrides, *names],
        say,
        next_step="Check that the Python package index is reachable, and try again.",
    )
    overrides.unlink()


def _uv() -> str:
    own = CHECKOUT / ".tools" / "uv" / "bin" / "uv"
    program = shutil.which("uv") or (str(own) if own.exists() else None)
    if program is None:
        raise ProblemError(Problem("program uv", "uv on PATH or in .tools", "no uv in either", "Run `make setup`."))
    return program


def for_any_interpreter(script: bytes) -> bytes:
    """Let a script run with the `python3` of PATH instead of the interpreter that installed it, which no image has."""
    return _INTERPRETER.sub(b"#!/usr/bin/env python3\n", script, count=1)


def _write(layer: LayerWriter, folder: Path, in_image: str) -> None:
    for script in (folder / "bin").glob("*"):
        script.write_bytes(for_any_interpreter(script.read_bytes()))
    layer.tree(in_image, folder, lambda path: path.name in _LEFT_OUT or path.suffix in _LEFT_OUT_SUFFIXES)
