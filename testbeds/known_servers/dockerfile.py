"""Images for the sandbox from Dockerfiles, without Docker: the instructions that say how a container is started.

`FROM` and `RUN` install programs; here an environment of this machine has them, and the image's `PATH` names it.
"""

import json
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

from testbeds.common.layers import LayerWriter, layer_in_memory
from testbeds.common.oci import Image


def build(dockerfile: str, context: Path, environment: Path, **arguments: str) -> Image:
    """Build an image of one layer.

    Args:
        dockerfile: the text; FROM, ARG, RUN, WORKDIR, COPY, ENV and CMD as a JSON list are known.
        context: the folder from which COPY takes files and folders.
        environment: the virtual environment with what FROM and RUN install.
        arguments: the values of ARG.

    Raises:
        ValueError: an instruction is unknown here, or an argument has no value.
    """
    settings: dict[str, Any] = {"WorkingDir": "/"}
    variables = {"PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
    copies: list[tuple[Path, str]] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        instruction, _, rest = line.strip().partition(" ")
        match instruction:
            case "" | "FROM" | "RUN":
                continue
            case "ARG" if rest not in arguments:
                raise ValueError(f"ARG {rest}: expected a value, found none")
            case "ARG":
                continue
            case "WORKDIR":
                settings["WorkingDir"] = rest
            case "COPY":
                source, target = rest.split()
                copies.append((context / source, str(PurePosixPath(settings["WorkingDir"], target))))
            case "ENV":
                pairs = (pair.split("=", 1) for pair in shlex.split(rest))
                variables |= {name: _substituted(value, arguments) for name, value in pairs}
            case "CMD":
                settings["Cmd"] = json.loads(rest)
            case _:
                raise ValueError(f"{instruction}: expected an instruction that is known here, found {line!r}")
    settings["Env"] = [f"{name}={value}" for name, value in variables.items()]
    return Image((layer_in_memory(lambda layer: _copy(layer, copies)),), settings)


def _substituted(value: str, arguments: dict[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda match: arguments[match[1]], value)


def _copy(layer: LayerWriter, copies: list[tuple[Path, str]]) -> None:
    for source, target in copies:
        if source.is_dir():
            layer.tree(target, source)
        else:
            layer.file(str(PurePosixPath(target, source.name)), source)
