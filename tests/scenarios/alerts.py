"""What makes an alert on a model on either testbed, and what its workflow then does."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from ruamel.yaml import YAML

from testbeds.common.processes import wait_until
from testbeds.common.tools import CHECKOUT
from testbeds.story.environment import Environment
from testbeds.story.stories import registry

_EVALUATION_SECONDS = 240.0
_ROWS = "labels/recent.csv"
EVALUATION = f"evaluation: {{rows: {_ROWS}, label: species, labelled_at: labelled_at, prediction: $.prediction}}\n"
"""A policy's field for the rows that `label_rows` makes."""
_FLOWERS = ((5.1, 3.5, 1.4, 0.2), (6.0, 2.7, 4.2, 1.3), (6.5, 3.0, 5.8, 2.2))
_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
_RUN = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"


def label_rows(environment: Environment, run_id: str, right: int, wrong: int) -> None:
    """Give the champion's answers labels that came now: so many say what it predicts, and so many something else."""
    answers = [httpx2.post(f"{environment.service_url}/predict", json={"features": row}) for row in _FLOWERS]
    predicted = [answer.json()["prediction"] for answer in answers]
    at = time.time()
    lines = ["sepal length,sepal width,petal length,petal width,species,labelled_at"]
    for number in range(right + wrong):
        flower = number % len(_FLOWERS)
        species = predicted[flower] if number < right else (predicted[flower] + 1) % 3
        lines.append(",".join(map(str, (*_FLOWERS[flower], species, at + number / 1000))))
    client: Any = registry(environment)
    client.log_text(run_id, "\n".join(lines), _ROWS)


def evaluate(environment: Environment) -> None:
    """Launch Dagster's job for the policy's champion, and wait until it has succeeded."""
    selector = {"repositoryLocationName": "incumbent", "repositoryName": "__repository__", "jobName": "evaluate"}
    tags = [{"key": "dagster/partition", "value": environment.policy}]
    params: dict[str, Any] = {"selector": selector, "executionMetadata": {"tags": tags}}
    answer = environment.ask_dagster(_LAUNCH, {"params": params})["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", json.dumps(answer)
    run = {"run": answer["run"]["runId"]}

    def status() -> str | None:
        now = environment.ask_dagster(_RUN, run)["runOrError"]["status"]
        return str(now) if now in ("SUCCESS", "FAILURE", "CANCELED") else None

    assert wait_until(status, _EVALUATION_SECONDS, "the champion is evaluated") == "SUCCESS"


def run_step(workflow: str, inputs: Mapping[str, str], given: Mapping[str, str]) -> str:
    """Run the step of a workflow that calls `incumbent`, as its file has it, and return what it printed."""
    (job,) = YAML(typ="safe").load(CHECKOUT / f".github/workflows/{workflow}.yml")["jobs"].values()
    (script,) = [step["run"] for step in job["steps"] if "incumbent analyze" in step.get("run", "")]
    of_inputs = {name: re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", str(value)) for name, value in job["env"].items()}
    variables = {name: inputs.get(match[1], "") for name, match in of_inputs.items() if match is not None}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **given, **variables, "PATH": path, "PYTHONPATH": str(CHECKOUT)}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
