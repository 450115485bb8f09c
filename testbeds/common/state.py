"""What both testbeds keep in their state folder: the lock, the policies with real addresses, the published models."""

import fcntl
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.tools import CHECKOUT
from testbeds.training.models import FAMILIES
from testbeds.training.publish import Published

POLICY = "iris-classifier-edge"
SECOND_POLICY = "wine-quality-edge"


def lock(state: Path, what: str, next_step: str) -> IO[str]:
    """Lock the state folder for this process until the file is closed or the process ends.

    Args:
        state: the folder; it is made when it is missing.
        what: what works in the folder, for the error.
        next_step: what a person should do when another process has the folder.

    Raises:
        ProblemError: another process has the folder.
    """
    state.mkdir(parents=True, exist_ok=True)
    file = (state / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ProblemError(
            Problem(
                f"{what} in {state}",
                "a folder that no other process works in",
                "another process at work in it",
                next_step,
            )
        ) from None
    return file


def published_models(results: Path, model: str) -> dict[str, Published]:
    """Read what has been published of a model so far, by its names in the story (`baseline`, `version 1`, ...)."""
    if not results.exists():
        return {}
    lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
    published = (Published(**json.loads(line)) for line in lines if line.endswith("\n"))
    return {version.name: version for version in published if version.model == model}


def render_policies(templates: Path, folder: Path, url_of: Callable[[int], str]) -> Policy:
    """Copy a testbed's policies with the real addresses of their node ports, and return the story's policy.

    Args:
        templates: the folder with the policies.
        folder: the new folder for the copies.
        url_of: says where a node port answers.
    """
    folder.mkdir()
    for template in templates.glob("*.yaml"):
        text = re.sub(
            r"^service: \{url: [^,]+:(\d+)",
            lambda match: f"service: {{url: {url_of(int(match[1]))}",
            template.read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
        (folder / template.name).write_text(text, encoding="utf-8")
    return read_policy(folder)


def read_policy(folder: Path, name: str = POLICY) -> Policy:
    """Read the policy of that name, by default the story's."""
    return parse_policy(name, (folder / f"{name}.yaml").read_text(encoding="utf-8"))


def read_policies(folder: Path) -> list[Policy]:
    """Read all policies of a testbed."""
    return [read_policy(folder, file.stem) for file in sorted(folder.glob("*.yaml"))]


def node_port(policy: Policy) -> int:
    """Return the node port in the policy's `service.url`."""
    return int(policy.service.url.rpartition(":")[2])


def baseline_images() -> dict[str, ImageRef]:
    """Return the image of each model that serves before anything is promoted."""
    return {family.model: baseline_image(family.model) for family in FAMILIES}


def baseline_image(model: str) -> ImageRef:
    """Return the image that the checkout's manifest of a model names.

    Raises:
        ProblemError: the manifest names no image with a tag.
    """
    manifest = CHECKOUT / f"manifests/applications/{model}/deployment.yaml"
    match = re.search(r"^\s*(?:- )?image: (\S+)", manifest.read_text(encoding="utf-8"), re.MULTILINE)
    image = parse_image(match[1]) if match else None
    if image is None or image.tag is None:
        raise ProblemError(
            Problem(
                f"{manifest.relative_to(CHECKOUT)}",
                "an image with a tag",
                "no such image",
                "Write the serving image into it.",
            )
        )
    return image
