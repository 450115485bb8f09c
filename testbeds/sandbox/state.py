"""What both testbeds keep in their state folder: the lock, the policies with real addresses, the published models."""

import fcntl
import json
import re
from pathlib import Path
from typing import IO

from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.sandbox.tools import CHECKOUT
from testbeds.training.publish import Published

POLICY = "iris-classifier-edge"


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


def published_models(results: Path) -> dict[str, Published]:
    """The models that are published so far, by their names in the story (`baseline`, `version 1`, ...)."""
    if not results.exists():
        return {}
    lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = (Published(**json.loads(line)) for line in lines if line.endswith("\n"))
    return {model.name: model for model in whole}


def render_policies(templates: Path, folder: Path, service_url: str) -> Policy:
    """Copy a testbed's policies with the real address of the service, and return the one of the story."""
    folder.mkdir()
    for template in templates.glob("*.yaml"):
        text = re.sub(
            r"^service_url: \S+",
            f"service_url: {service_url}",
            template.read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
        (folder / template.name).write_text(text, encoding="utf-8")
    return read_policy(folder)


def read_policy(folder: Path) -> Policy:
    """The policy of the story."""
    return parse_policy(POLICY, (folder / f"{POLICY}.yaml").read_text(encoding="utf-8"))


def baseline_image() -> ImageRef:
    """The image that the checkout's manifest names: what serves before anything is promoted."""
    manifest = CHECKOUT / "manifests/applications/iris-classifier/deployment.yaml"
    found = re.search(r"^\s*(?:- )?image: (\S+)", manifest.read_text(encoding="utf-8"), re.MULTILINE)
    image = parse_image(found[1]) if found else None
    if image is None or image.tag is None:
        raise ProblemError(
            Problem(f"{manifest.relative_to(CHECKOUT)}", "an image with a tag", "none", "Write the image that serves.")
        )
    return image
