"""An image's own program: pulled with command and layers, unpacked, and started as if alone on its network."""

import asyncio
import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from testbeds.common.layers import layer_in_memory
from testbeds.common.oci import Image
from testbeds.sandbox.cluster.images import PulledImage, PullError, pull
from testbeds.sandbox.cluster.programs import MODEL_SERVER, has_program, own_program, unpack

_PROGRAM = b"""
import socket, sys
listening = [socket.socket() for _ in range(2)]
listening[0].bind(("0.0.0.0", 0))
listening[1].bind(("127.0.0.1", 0))
print(*(one.getsockname()[0] for one in listening), open("beside.txt").read())
"""


def image(*command: str) -> Image:
    """Return an image with a program and a file beside it in two layers."""
    layers = (
        layer_in_memory(lambda layer: layer.file("srv/program.py", _PROGRAM)),
        layer_in_memory(lambda layer: layer.file("srv/beside.txt", b"beside")),
    )
    settings = {"Env": ["COLOUR=blue", "PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/srv", "Cmd": list(command)}
    return Image(layers, settings)


def pulled(image: Image) -> tuple[PulledImage, httpx2.AsyncClient]:
    """Pull an image from a registry that has it, and return it with a client of that registry."""
    config, blobs = image.config(), {layer.digest: layer.content for layer in image.layers}
    blobs[f"sha256:{hashlib.sha256(config).hexdigest()}"] = config

    def answer(request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.rpartition("/")[2]
        content = image.manifest() if name == "v1" else blobs.get(name)
        assert content is None or isinstance(content, bytes)
        return httpx2.Response(404 if content is None else 200, content=content)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return asyncio.run(pull(client, {"ghcr.io": "http://registry"}, "ghcr.io/acme/iris:v1", "amd64")), client


def test_a_program_runs_among_its_files_and_listens_at_the_pods_address(tmp_path: Path) -> None:
    """Its command starts in the image's working folder, and what listens on all addresses gets the pod's."""
    known, client = pulled(image("python3", "program.py"))
    assert has_program(known)
    asyncio.run(unpack(client, known, tmp_path / "root"))
    program = own_program(known, {"HOST": "127.9.8.7", **known.environment}, tmp_path / "root")
    assert program.environment["COLOUR"] == "blue"
    said = subprocess.run(
        program.argv, env=dict(program.environment), cwd=program.folder, capture_output=True, text=True, check=True
    )
    assert said.stdout == "127.9.8.7 127.0.0.1 beside\n"


@pytest.mark.parametrize("command", [(), MODEL_SERVER])
def test_the_testbeds_images_bring_no_program(command: tuple[str, ...]) -> None:
    """The testbeds' model server is forked, and so is what has no command."""
    assert not has_program(pulled(image(*command))[0])


def test_a_layer_that_the_registry_does_not_give_is_a_failed_pull(tmp_path: Path) -> None:
    """The pod then waits as for a missing image."""
    known, client = pulled(image("python3", "program.py"))
    missing = replace(known, layers=("http://registry/v2/acme/iris/blobs/sha256:0",))
    with pytest.raises(PullError, match="404"):
        asyncio.run(unpack(client, missing, tmp_path / "root"))


def test_the_config_says_where_and_how_a_program_starts() -> None:
    """Entrypoint and command are joined, and the working folder is the root unless the config says otherwise."""
    settings = {"Entrypoint": ["uvicorn"], "Cmd": ["serve:app"]}
    known, _ = pulled(Image(image().layers, settings))
    assert (known.command, known.working_folder, len(known.layers)) == (("uvicorn", "serve:app"), "/", 2)
