"""What people do in the stories besides setting an alias: register versions, push to the branch, and run CI."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbeds.common.tools import CHECKOUT
from testbeds.story.environment import Environment
from testbeds.story.look import Git
from testbeds.story.pushing import commit_and_push
from testbeds.story.stories import registry
from testbeds.story.versions import register_again

_CI_SECONDS = 240
_ANA = ("--by", "ana@localhost", "--reason", "the story asks for it")
_FAULTS = {"FAULT_FAIL_EVERY": "5", "FAULT_DELAY_SECONDS": "1.2"}


def register_bad(environment: Environment) -> int:
    """Register a version that answers the recorded requests well, but is slow and fails every fifth of the others."""
    return register_again(environment, of=3, faults=_FAULTS)


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


def decide(environment: Environment, *command: str) -> str:
    """Give a command of `incumbent` that changes something, as Ana, and return what it says; it must succeed."""
    process = incumbent(environment.settings(), *command, *_ANA)
    assert process.returncode == 0, process.stderr
    return process.stdout


def answer(environment: Environment, *command: str) -> tuple[int, str]:
    """Give any command of `incumbent`, and return its exit code and what it says."""
    process = incumbent(environment.settings(), *command)
    return process.returncode, process.stdout + process.stderr


def refused(environment: Environment, *command: str, by: str) -> str:
    """Give a command of `incumbent` that must be refused, and return why."""
    process = incumbent(environment.settings(), *command, "--by", by, "--reason", "the story asks for it")
    assert process.returncode == 3, process.stdout
    return process.stderr


def history_from_git(environment: Environment, state: Path) -> dict[str, Any]:
    """Return what `incumbent history` tells without a registry and with an empty folder for its clone of the branch."""
    settings = {**environment.settings(), "INCUMBENT_STATE": str(state)}
    settings.pop("MLFLOW_TRACKING_URI")
    process = incumbent(settings, "history", environment.policy, "--json")
    assert process.returncode == 0, process.stderr
    return dict(json.loads(process.stdout))


def incumbent(settings: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Give a command of `incumbent`, and return its end with what it said."""
    process = subprocess.run(
        [str(Path(sys.executable).parent / "incumbent"), *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **settings, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_CI_SECONDS,
        check=False,
    )
    print(process.stderr, process.stdout)
    return process


@contextmanager
def policy_with(environment: Environment, fields: str) -> Iterator[None]:
    """Add fields, as YAML, to the policy; the pipeline reads it again on every tick and in every run."""
    file = Path(environment.settings()["INCUMBENT_POLICIES"]) / f"{environment.policy}.yaml"
    before = file.read_text(encoding="utf-8")
    _replace(file, f"{before}\n{fields}\n")
    try:
        yield
    finally:
        _replace(file, before)


def _replace(file: Path, content: str) -> None:
    """Write a file in one step, because a run may read it at any time."""
    written = file.with_suffix(".new")
    written.write_text(content, encoding="utf-8")
    written.replace(file)


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
