"""`python -m testbeds.homelab.pin_digests`: add the digests that their tags have now to the platform's images.

It is for official images, and so it needs the internet; it has been tried only against a registry of this machine. With
pinned manifests, a homelab of images that were built here cannot start, because those have other digests.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from orchestration.adapters.oci import OciRegistry
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.manifest_place import Selector
from orchestration.promotion.ports import ImageRegistry
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.tools import CHECKOUT

_FOLDER = CHECKOUT / "manifests" / "platform"
_WORKLOADS = ("CronJob", "DaemonSet", "Deployment", "StatefulSet")


def main(arguments: list[str] | None = None) -> int:
    """Pin every image below a folder, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testbeds.homelab.pin_digests", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=_FOLDER, help="default: %(default)s")
    folder = parser.parse_args(arguments).folder
    try:
        for line in pin(folder, OciRegistry({})):
            print(line)
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def pin(folder: Path, registry: ImageRegistry) -> Iterator[str]:
    """Rewrite the image of each workload below a folder as `name:tag@digest`, and yield a line for each change.

    Nothing else in a file changes. A tag that has moved since it was pinned gets its present digest.

    Raises:
        ProblemError: an image does not exist, or it cannot be edited without doubt.
    """
    for file in sorted(folder.rglob("*.yaml")):
        content = file.read_bytes()
        for selector, image in _images(file, content):
            pinned = _pinned(registry, image)
            edit = set_image(content, selector, str(pinned))
            if isinstance(edit, EditRefused):
                raise ProblemError(edit.problem)
            if isinstance(edit, Edited):
                content = edit.content
                yield f"{file}, line {edit.line}: {pinned}"
        if content != file.read_bytes():
            file.write_bytes(content)


def _images(file: Path, content: bytes) -> Iterator[tuple[Selector, str]]:
    """Yield each container's image with the selector that leads to it."""
    for document in YAML(typ="safe").load_all(content):
        if not isinstance(document, dict) or document.get("kind") not in _WORKLOADS:
            continue
        metadata: dict[str, Any] = document["metadata"]
        spec: dict[str, Any] = document["spec"]
        pod = (spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec)["template"]["spec"]
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            names = (document["kind"], metadata.get("namespace"), metadata["name"], container["name"])
            yield Selector(str(file), *names), container["image"]


def _pinned(registry: ImageRegistry, image: str) -> ImageRef:
    reference = parse_image(image)
    if reference is None or reference.tag is None:
        raise ProblemError(Problem(f"image {image}", "repository:tag", "no tag", "Add a tag by hand."))
    resolved = registry.resolve(ImageRef(reference.repository, reference.tag))
    if resolved is None:
        raise ProblemError(
            Problem(f"image {image}", "an image in its registry", "no such image", "Correct the name or the tag.")
        )
    return resolved.reference


if __name__ == "__main__":
    sys.exit(main())
