"""What people do in the stories besides setting an alias: register another version, push to the branch, run CI."""

import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbeds.common.tools import CHECKOUT
from testbeds.story.environment import Environment
from testbeds.story.look import Git
from testbeds.story.stories import registry

_CI_SECONDS = 240
_PUSHES = 10


def register_again(
    environment: Environment, of: int, faults: Mapping[str, str] | None = None, *, published: bool = True
) -> int:
    """Register the model of a version once more, as the next version, with an image of its own and what is wrong in it.

    An image that is not published was never built: the version only says which it would be.
    """
    client = registry(environment)
    known = client.get_model_version(environment.model, str(of))
    model_id = known.source.removeprefix("models:/")  # MLflow does not say it again in `model_id`
    made = client.create_model_version(environment.model, known.source, run_id=known.run_id, model_id=model_id)
    uri = f"models:/{environment.model}/{made.version}"
    tags = {"image_tag": image_tag(environment, int(made.version))}
    if published:
        tags["image_digest"] = environment.publish(uri, tags["image_tag"], **(faults or {}))
    for name, value in tags.items():
        client.set_model_version_tag(environment.model, made.version, name, value)
    return int(made.version)


def image_tag(environment: Environment, version: int) -> str:
    """The tag of a version that was registered here: like a commit id, and another one for each."""
    return hashlib.sha1(f"{environment.model}/{version}".encode()).hexdigest()


def write_state(environment: Environment, version: int, state: str) -> None:
    """Write a state on a version, as nobody but a test should."""
    client: Any = registry(environment)
    client.set_model_version_tag(environment.model, str(version), f"incumbent.{environment.policy}.state", state)


def put_image_back(environment: Environment, version: int) -> None:
    """Somebody commits the image of a promoted version to the manifest again, unless it is there already."""
    with tempfile.TemporaryDirectory() as folder:
        git = Git(environment, Path(folder))
        start = f"{environment.policy}/{version}/"
        commits = [one for one in git.commits() if one.trailers.get("Promotion-Id", "").startswith(start)]
        wanted = f"{commits[-1].commit}:{environment.manifest}"
        content = git.run("show", wanted)
        file = git.folder / environment.manifest
        if file.read_text(encoding="utf-8") == content:
            return
        file.write_text(content, encoding="utf-8")
        commit_and_push(git, f"Serve version {version} again")


def commit_and_push(git: Git, message: str) -> None:
    """Somebody commits all that is changed in a clone, and pushes it onto whatever the branch has meanwhile."""
    author = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
    git.run("add", "--all")
    git.run(*author, "commit", "--quiet", "--message", message)
    for pushes_left in reversed(range(_PUSHES)):
        try:
            git.run("push", "--quiet", "origin", f"HEAD:{git.branch}")
            return
        except RuntimeError:
            if not pushes_left:
                raise
        git.run(*author, "pull", "--quiet", "--rebase", "origin", git.branch)  # somebody else was faster


class Ci:
    """A CI job on a Dagster of its own, without a daemon; `pipeline` is the folder that holds its `orchestration`."""

    def __init__(self, environment: Environment, home: Path, pipeline: Path = CHECKOUT) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.environment, self.pipeline = environment, pipeline
        settings = {"DAGSTER_HOME": str(home), "PYTHONPATH": str(pipeline)}
        self.variables = {**os.environ, **environment.settings(), **settings}

    def promote(self, version: int) -> int:
        """The README's two lines; the exit code of the first that fails, else 0."""
        return self.register(version) or self.materialize(version).wait(_CI_SECONDS)

    def register(self, version: int) -> int:
        return self._start(*self._readme_line("incumbent register", version)).wait(_CI_SECONDS)

    def materialize(self, version: int) -> "subprocess.Popen[bytes]":
        """Start the second line."""
        return self._start(*self._readme_line("dagster asset materialize", version))

    def _readme_line(self, command: str, version: int) -> list[str]:
        """The README's line that begins so, for this policy and version instead of its example's."""
        readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
        (line,) = re.findall(rf"^\$ ({command} .*)$", readme, re.MULTILINE)
        example = {"iris-classifier-edge": self.environment.policy, "7": str(version)}
        example["iris-classifier-edge@7"] = f"{self.environment.policy}@{version}"
        return [example.get(word, word) for word in shlex.split(line)]

    def _start(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        log = (self.environment.logs / "ci.log").open("ab")
        with log:
            return subprocess.Popen(
                [str(Path(sys.executable).parent / program), *arguments],
                cwd=self.pipeline,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
