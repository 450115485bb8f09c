"""What a pod's process runs: the testbeds' model server, or the image's own program with the image's files.

An image's own program runs in a folder into which its layers were unpacked, with its own `PATH`. There is no container:
that folder is not the root of a file system, so paths in it must be relative to the image's working folder, and what
`PATH` names must exist on this machine.
"""

import asyncio
import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from testbeds.common.guardian import MARK
from testbeds.common.tarballs import extract_all
from testbeds.sandbox.cluster.images import PulledImage, PullError

MODEL_SERVER = ("python", "-m", "model_server")
"""The command of the images that the testbeds' model server serves; its process is forked and not started."""
_SITE = Path(__file__).parent / "pod_site"


@dataclass(frozen=True)
class Program:
    """A process to start."""

    argv: tuple[str, ...]
    """Empty for the testbeds' model server."""
    environment: Mapping[str, str]
    folder: Path


def has_program(image: PulledImage) -> bool:
    """Check whether an image brings a program of its own."""
    return image.command not in ((), MODEL_SERVER)


async def unpack(client: httpx2.AsyncClient, image: PulledImage, root: Path) -> None:
    """Unpack an image's layers into a folder.

    Raises:
        PullError: the registry does not give a layer.
    """
    root.mkdir(exist_ok=True)
    for url in image.layers:
        try:
            answer = await client.get(url)
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            raise PullError(f'rpc error: code = Unknown desc = failed to copy: Get "{url}": {error}') from error
        await asyncio.to_thread(extract, answer.content, root)


def extract(layer: bytes, root: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        extract_all(tar, root)


def own_program(image: PulledImage, environment: Mapping[str, str], root: Path) -> Program:
    """Return the program of an image that was unpacked into a folder.

    Its children may outlive it when everything is killed at once, so they get the testbed's mark.
    """
    path = os.pathsep.join(filter(None, (str(_SITE), image.environment.get("PYTHONPATH"))))
    own = {"PYTHONPATH": path, "PATH": image.environment.get("PATH", os.defpath)}
    mark = {MARK: os.environ[MARK]} if MARK in os.environ else {}
    return Program(image.command, {**environment, **own, **mark}, root / image.working_folder.lstrip("/"))
