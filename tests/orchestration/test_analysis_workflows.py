"""The workflows that alerts start: their inputs are the dispatcher's, and stay data up to the command's arguments."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from testbeds.common.github_server import default_workflows

FOLDER = Path(__file__).resolve().parents[2] / ".github/workflows"
KNOWN = {name.removesuffix(".yml"): workflow for name, workflow in default_workflows().items()}
INPUTS = {name: workflow.inputs for name, workflow in KNOWN.items()}
WORKFLOWS: dict[str, dict[str, Any]] = {name: YAML(typ="safe").load(FOLDER / f"{name}.yml") for name in INPUTS}
HOSTILE = "$(touch owned) `touch owned` '; touch owned; ' \"\n--help\n::set-output name=x::y"


def job_of(name: str) -> dict[str, Any]:
    (job,) = WORKFLOWS[name]["jobs"].values()
    return dict(job)


@pytest.mark.parametrize("name", INPUTS)
def test_its_inputs_are_those_that_the_dispatcher_sends(name: str) -> None:
    """GitHub refuses an input that the workflow does not declare, and a missing one that it requires."""
    declared = WORKFLOWS[name]["on"]["workflow_dispatch"]["inputs"]
    assert list(WORKFLOWS[name]["on"]) == ["workflow_dispatch"]
    assert set(declared) == set(INPUTS[name])
    assert {given for given, value in declared.items() if value["required"]} == KNOWN[name].required
    assert {value["type"] for value in declared.values()} == {"string"}


@pytest.mark.parametrize("name", INPUTS)
def test_no_script_contains_an_expression(name: str) -> None:
    """Inputs are in the environment of the job, and secrets in that of the step that needs them."""
    job = job_of(name)
    assert not [step["run"] for step in job["steps"] if "${{" in step.get("run", "")]
    for given in INPUTS[name]:
        assert job["env"][given.upper()] == f"${{{{ inputs.{given} }}}}"
    assert not [value for value in job["env"].values() if "secrets." in value]
    of_steps = [value for step in job["steps"] for value in step.get("env", {}).values()]
    assert all(re.fullmatch(r"\$\{\{ secrets\.[A-Z_]+ \}\}", value) for value in of_steps)


@pytest.mark.parametrize("name", INPUTS)
def test_runs_of_one_alert_wait_for_each_other_and_end(name: str) -> None:
    """A newer run replaces one that waits and never one that runs; and a run that hangs is ended."""
    assert WORKFLOWS[name]["concurrency"]["cancel-in-progress"] is False
    assert "inputs." in WORKFLOWS[name]["concurrency"]["group"]
    assert job_of(name)["timeout-minutes"] <= 45


@pytest.mark.parametrize("name", INPUTS)
def test_hostile_inputs_reach_the_command_as_single_arguments(tmp_path: Path, name: str) -> None:
    """As GitHub runs the step, with a program that writes down its arguments in the command's place."""
    (tmp_path / "incumbent").write_text('#!/bin/sh\nprintf "%s\\0" "$@" >arguments\n', encoding="utf-8")
    (tmp_path / "incumbent").chmod(0o755)
    (script,) = [step["run"] for step in job_of(name)["steps"] if "incumbent analyze" in step.get("run", "")]
    environment = {given.upper(): f"{given} {HOSTILE}" for given in INPUTS[name]}
    environment["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    verb, *options = (tmp_path / "arguments").read_text(encoding="utf-8").removesuffix("\0").split("\0")
    assert verb == f"analyze-{'alert' if name == 'ai-log-analysis' else 'drift'}"
    values = [option.partition("=")[2] for option in options if option != "--issue"]
    assert sorted(values) == sorted(f"{given} {HOSTILE}" for given in INPUTS[name])
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("key", ["", "a key"])
def test_secrets_are_in_files_of_their_owner_and_removed_at_the_end(tmp_path: Path, name: str, key: str) -> None:
    """As GitHub runs the steps; without a language model's key its setting stays unset."""
    steps = job_of(name)["steps"]
    (write,) = [step for step in steps if "umask" in step.get("run", "")]
    given = {**dict.fromkeys(write["env"], "a secret"), "ANALYSIS_KEY": key}
    environment = {**given, "RUNNER_TEMP": str(tmp_path), "GITHUB_ENV": str(tmp_path / "env"), "PATH": "/usr/bin:/bin"}
    run = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    subprocess.run([*run, write["run"]], cwd=tmp_path, env=environment, check=True)
    files = [path for path in (tmp_path / "incumbent").iterdir() if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    settings = (tmp_path / "env").read_text(encoding="utf-8")
    assert "a secret" not in settings
    assert ("INCUMBENT_ANALYSIS_KEY_FILE=" in settings) is bool(key)
    assert steps[-1]["if"] == "always()"
    subprocess.run([*run, steps[-1]["run"]], cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "incumbent").exists()
