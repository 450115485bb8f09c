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
    """Take the state folder for this process and what it does there, until the file is closed or the process ends.

    Raises:
        ProblemError: another process has it.
    """
    state.mkdir(parents=True, exist_ok=True)
    file = (state / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ProblemError(
            Problem(f"{what} in {state}", "a folder that no other process works in", "one that does", next_step)
        ) from None
    return file


def published_models(results: Path, model: str) -> dict[str, Published]:
    """What is published of a model so far, by its names in the story (`baseline`, `version 1`, ...)."""
    if not results.exists():
        return {}
    lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = (Published(**json.loads(line)) for line in lines if line.endswith("\n"))
    return {one.name: one for one in whole if one.model == model}


def render_policies(templates: Path, folder: Path, url_of: Callable[[int], str]) -> Policy:
    """Copy a testbed's policies with the real address of each one's node port, and return the one of the story."""
    folder.mkdir()
    for template in templates.glob("*.yaml"):
        text = re.sub(
            r"^service_url: \S+:(\d+)",
            lambda found: f"service_url: {url_of(int(found[1]))}",
            template.read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
        (folder / template.name).write_text(text, encoding="utf-8")
    return read_policy(folder)


def read_policy(folder: Path, name: str = POLICY) -> Policy:
    """The policy of that name; the story's unless one is given."""
    return parse_policy(name, (folder / f"{name}.yaml").read_text(encoding="utf-8"))


def read_policies(folder: Path) -> list[Policy]:
    """All policies of a testbed."""
    return [read_policy(folder, file.stem) for file in sorted(folder.glob("*.yaml"))]


def node_port(policy: Policy) -> int:
    """The port of the node in the policy's `service_url`."""
    return int(policy.service_url.rpartition(":")[2])


def baseline_images() -> dict[str, ImageRef]:
    """What serves of each model before anything is promoted."""
    return {family.model: baseline_image(family.model) for family in FAMILIES}


def baseline_image(model: str) -> ImageRef:
    """The image that the checkout's manifest of a model names."""
    manifest = CHECKOUT / f"manifests/applications/{model}/deployment.yaml"
    found = re.search(r"^\s*(?:- )?image: (\S+)", manifest.read_text(encoding="utf-8"), re.MULTILINE)
    image = parse_image(found[1]) if found else None
    if image is None or image.tag is None:
        raise ProblemError(
            Problem(f"{manifest.relative_to(CHECKOUT)}", "an image with a tag", "none", "Write the image that serves.")
        )
    return image
