"""The Dockerfiles: what they copy is there, what they install is locked, and the homelab makes the same images.

No Docker engine runs where the tests run, so the files are read, and not built.
"""

import json
import re
import shlex
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from orchestration.promotion.images import parse_image
from testbeds.common.layers import layer_in_memory
from testbeds.common.oci import Image
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import images, settings

FILES = sorted((CHECKOUT / "images").glob("*/Dockerfile"))
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PATH = "/usr/local/bin:/usr/bin"


@dataclass(frozen=True)
class Stage:
    """One part of a Dockerfile, from FROM on."""

    base: str
    name: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.instructions if name == instruction]

    def last(self, instruction: str) -> Any:
        """The last one's value; JSON as it is, and None without any."""
        found = self.all(instruction)
        return None if not found else json.loads(found[-1]) if found[-1].startswith("[") else found[-1]

    def pairs(self, instruction: str) -> dict[str, str]:
        return dict(pair.split("=", 1) for rest in self.all(instruction) for pair in shlex.split(rest))


@cache
def stages(file: Path) -> dict[str, Stage]:
    """Read the stages by their names; the last one, which is what is built, is also `''`."""
    text = re.sub(r"(?m)^\s*#.*\n", "", file.read_text(encoding="utf-8")).replace("\\\n", " ")
    lines = [tuple(line.strip().split(None, 1)) for line in text.splitlines() if line.strip()]
    found: dict[str, Stage] = {}
    for number, (instruction, rest) in enumerate(lines):
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            ends = (at for at, line in enumerate(lines[number + 1 :], number + 1) if line[0] == "FROM")
            own = tuple((line[0], line[1]) for line in lines[number + 1 : next(ends, len(lines))])
            found[name] = found[""] = Stage(base, name, own)
    return found


def images_of(file: Path) -> list[Stage]:
    """The stages that become images: those that say as whom they run."""
    return [stage for name, stage in stages(file).items() if name and stage.all("USER")] or [stages(file)[""]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_an_image_runs_as_nobody_in_particular(file: Path) -> None:
    """By a number, which `runAsNonRoot` can check, and from a base that has a fixed version, or a digest."""
    for stage in images_of(file):
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", stage.last("USER"))
        assert {"title", "description", "licenses"} == {name.rpartition(".")[2] for name in stage.pairs("LABEL")}
    text = file.read_text(encoding="utf-8")
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    parsed = parse_image(base)
    assert parsed is not None
    assert parsed.tag not in (None, "latest")
    known = set(stages(file)) | {"${PYTHON_IMAGE}"}
    assert {stage.base for stage in stages(file).values()} <= known, "another base than the one that is pinned"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_nothing_comes_from_anywhere_else(file: Path) -> None:
    """What is installed is locked or ours, uv is that of the checkout, and no address is downloaded."""
    own = [instruction for stage in stages(file).values() for instruction in stage.instructions]
    assert not any(name == "ADD" or "://" in rest for name, rest in own)
    installs = [part for name, rest in own if name == "RUN" for part in rest.split("&&") if "pip install" in part]
    assert installs
    for install in installs:
        locked = "--constraints requirements.lock" in install
        ours = "--no-deps" in install and "dist/*.whl" in install
        assert locked or ours or install.split()[-1] == "uv==${UV_VERSION}", install
    versions = set(re.findall(r"ARG UV_VERSION=(\S+)", file.read_text(encoding="utf-8")))
    setup = (CHECKOUT / "testbeds/setup.sh").read_text(encoding="utf-8")
    assert versions == set(re.findall(r"^uv_version=(\S+)$", setup, re.MULTILINE))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_what_is_copied_is_there_and_nothing_else_is_sent(file: Path) -> None:
    """The builder gets what the Dockerfiles copy, of what Git keeps; neither history nor state nor secrets."""
    allowed = {line[1:] for line in ignore_lines() if line.startswith("!")}
    for stage in stages(file).values():
        for rest in stage.all("COPY"):
            options = [word for word in rest.split() if word.startswith("--")]
            *sources, _ = (word for word in rest.split() if not word.startswith("--"))
            if any(option.startswith("--from=") for option in options):
                assert {option.removeprefix("--from=") for option in options} <= set(stages(file))
                continue
            assert all((CHECKOUT / source).exists() for source in sources), rest
            assert set(sources) <= allowed, rest


def ignore_lines() -> list[str]:
    lines = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_builder_is_sent_only_what_is_named() -> None:
    """Everything is left out first, so that a new file is, too; bytecode is left out of the folders that are sent."""
    lines = ignore_lines()
    assert lines[0] == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert not any(fnmatchcase(name, "*[*?]*") for name in sent)
    assert "**/__pycache__" in lines[len(sent) :]
    assert not sent & {".git", ".state", ".venv", ".tools", "policies", "tests", "testbeds"}


def config_of(image: Image) -> dict[str, Any]:
    """What of a made image a manifest depends on."""
    known = dict(pair.split("=", 1) for pair in image.settings["Env"])
    ports = sorted(port.removesuffix("/tcp") for port in image.settings["ExposedPorts"])
    parts = {name: image.settings[key] or None for name, key in (("entry", "Entrypoint"), ("command", "Cmd"))}
    return {**parts, "user": image.settings["User"], "folder": image.settings["WorkingDir"], "env": known, "on": ports}


def config_in(stage: Stage) -> dict[str, Any]:
    """The same of an image that a Dockerfile says."""
    own = {name: value.replace("${PATH}", PATH) for name, value in stage.pairs("ENV").items()}
    return {
        "entry": stage.last("ENTRYPOINT"),
        "command": stage.last("CMD"),
        "user": stage.last("USER"),
        "folder": stage.last("WORKDIR"),
        "env": {"PATH": PATH, **own},
        "on": sorted(" ".join(stage.all("EXPOSE")).split()),
    }


BASE = Image((), {"Env": [f"PATH={PATH}"]})
EMPTY = layer_in_memory(lambda layer: layer.folder("empty"))


@pytest.mark.parametrize(
    ("file", "stage", "made"),
    [
        ("pipeline", "pipeline", images.pipeline_image(BASE, EMPTY, EMPTY)),
        ("pipeline", "companion", images.companion_image(BASE, EMPTY, EMPTY)),
        ("model-server", "", images.model_image(BASE, EMPTY, CHECKOUT / "images/model-server", "v1", {})),
    ],
)
def test_the_homelab_makes_the_same_image(file: str, stage: str, made: Image) -> None:
    """The same user, folder, program, ports and environment, so that a manifest fits both."""
    assert config_of(made) == config_in(stages(CHECKOUT / "images" / file / "Dockerfile")[stage])


def test_the_homelab_installs_the_same_libraries() -> None:
    """The companion's ten, and for the pipeline all that the package declares, with its extras."""
    file = stages(CHECKOUT / "images/pipeline/Dockerfile")
    (companion,) = file["companion-libraries"].all("RUN")
    assert tuple(companion.split("requirements.lock", 1)[1].split()) == images._COMPANION_LIBRARIES
    (pipeline,) = file["pipeline-libraries"].all("RUN")
    assert pipeline.split()[-3:] == ["--all-extras", "--requirements", "pyproject.toml"]
    declared = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    assert len(images.pipeline_libraries()) == len(declared)
    assert all(text.startswith(name) for name, text in zip(images.pipeline_libraries(), declared, strict=True))
    assert not re.search(r"[<>=~!; ]", "".join(images.pipeline_libraries()))


def test_the_images_have_the_version_of_the_package() -> None:
    """A manifest that names one gets the code that it was written for."""
    for name in (settings.PIPELINE_IMAGE, settings.COMPANION_IMAGE):
        parsed = parse_image(name)
        assert parsed is not None
        assert parsed.tag == PROJECT["version"]
