"""What people do in the stories besides setting an alias: register versions, push to the branch, and run CI."""

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
    """Register the model of a version again, as the next version, with its own image that has the given faults.

    With `published=False` the image was never built, and the version only has the tag that it would have.
    """
    client = registry(environment)
    original = client.get_model_version(environment.model, str(of))
    model_id = original.source.removeprefix("models:/")  # MLflow does not return it in `model_id`
    copy = client.create_model_version(environment.model, original.source, run_id=original.run_id, model_id=model_id)
    uri = f"models:/{environment.model}/{copy.version}"
    tags = {"image_tag": image_tag(environment, int(copy.version))}
    if published:
        tags["image_digest"] = environment.publish(uri, tags["image_tag"], **(faults or {}))
    for name, value in tags.items():
        client.set_model_version_tag(environment.model, copy.version, name, value)
    return int(copy.version)


def image_tag(environment: Environment, version: int) -> str:
    """Return the image tag of a version registered here, which looks like a commit id and differs for each version."""
    return hashlib.sha1(f"{environment.model}/{version}".encode()).hexdigest()


def write_state(environment: Environment, version: int, state: str) -> None:
    """Write a state on a version, which only tests should do."""
    client: Any = registry(environment)
    client.set_model_version_tag(environment.model, str(version), f"incumbent.{environment.policy}.state", state)


def put_image_back(environment: Environment, version: int) -> None:
    """Commit the image of a promoted version to the manifest again, unless the manifest has it already."""
    with tempfile.TemporaryDirectory() as folder:
        git = Git(environment, Path(folder))
        start = f"{environment.policy}/{version}/"
        commits = [commit for commit in git.commits() if commit.trailers.get("Promotion-Id", "").startswith(start)]
        revision = f"{commits[-1].commit}:{environment.manifest}"
        content = git.run("show", revision)
        file = git.folder / environment.manifest
        if file.read_text(encoding="utf-8") == content:
            return
        file.write_text(content, encoding="utf-8")
        commit_and_push(git, f"Serve version {version} again")


def commit_and_push(git: Git, message: str) -> None:
    """Commit all changes in a clone as a person, and push them on top of whatever the branch has by then."""
    author = ("-c", "user.name=Someone", "-c", "user.email=someone@localhost")
    git.run("add", "--all")
    git.run(*author, "commit", "--quiet", "--message", message)
    for pushes_left in reversed(range(_PUSHES)):
        try:
            git.run("push", "--quiet", "origin", f"HEAD:{git.branch}")
            return
        except RuntimeError:
            if not pushes_left:
                raise
        git.run(*author, "pull", "--quiet", "--rebase", "origin", git.branch)  # someone else pushed first


def decide(environment: Environment, *command: str) -> str:
    """Give a command of `incumbent` that changes what serves, as Ana, and return what it says; it must succeed."""
    who = ("--by", "ana@localhost", "--reason", "the story asks for it")
    variables = {**os.environ, **environment.settings(), "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.run(
        [str(Path(sys.executable).parent / "incumbent"), *command, *who],
        cwd=CHECKOUT,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_CI_SECONDS,
        check=False,
    )
    print(process.stderr, process.stdout)
    assert process.returncode == 0, process.stderr
    return process.stdout


class Ci:
    """A CI job with its own Dagster and no daemon; `pipeline` is the folder that contains its `orchestration`."""

    def __init__(self, environment: Environment, home: Path, pipeline: Path = CHECKOUT) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.environment, self.pipeline = environment, pipeline
        settings = {"DAGSTER_HOME": str(home), "PYTHONPATH": str(pipeline)}
        self.variables = {**os.environ, **environment.settings(), **settings}

    def promote(self, version: int) -> int:
        """Run the two commands of the README; return the exit code of the first one that fails, else 0."""
        return self.register(version) or self.materialize(version).wait(_CI_SECONDS)

    def register(self, version: int) -> int:
        return self._start(*self._readme_command("incumbent register", version)).wait(_CI_SECONDS)

    def materialize(self, version: int) -> "subprocess.Popen[bytes]":
        """Start the second command."""
        return self._start(*self._readme_command("dagster asset materialize", version))

    def _readme_command(self, command: str, version: int) -> list[str]:
        """Return the README's command that begins so, with this policy and version in place of the example's."""
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
