"""The workflow that promotes in CI: the README's two lines, and input that stays data. All have the least rights."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW: dict[str, Any] = YAML(typ="safe").load(ROOT / ".github/workflows/promote.yml")
(JOB,) = WORKFLOW["jobs"].values()
STEPS = {step.get("name", "checkout"): step for step in JOB["steps"]}


def test_a_person_starts_it_with_a_policy_and_a_version() -> None:
    """Nothing else starts it, and both must be given."""
    assert set(WORKFLOW["on"]) == {"workflow_dispatch"}
    inputs = WORKFLOW["on"]["workflow_dispatch"]["inputs"]
    assert {name: (value["required"], value["type"]) for name, value in inputs.items()} == {
        "policy": (True, "string"),
        "version": (True, "string"),
    }


def test_it_runs_where_the_clusters_are_and_one_at_a_time_for_a_policy() -> None:
    """A second promotion of a policy waits; one under way is never cancelled for it."""
    assert JOB["runs-on"] == ["self-hosted", "incumbent"]
    assert WORKFLOW["concurrency"] == {"group": "promote-${{ inputs.policy }}", "cancel-in-progress": False}


def test_no_input_and_no_secret_is_spliced_into_a_shell() -> None:
    """Scripts hold no expression at all: what comes from outside is in their environment."""
    scripts = [step["run"] for step in JOB["steps"] if "run" in step]
    assert not [script for script in scripts if "${{" in script]
    assert (JOB["env"]["POLICY"], JOB["env"]["VERSION"]) == ("${{ inputs.policy }}", "${{ inputs.version }}")
    secret = [(place, value) for place, value in JOB["env"].items() if "secrets." in str(value)]
    assert secret == [], "a secret is given to the step that needs it"
    given = [value for step in JOB["steps"] for value in step.get("env", {}).values()]
    assert all(re.fullmatch(r"\$\{\{ secrets\.[A-Z_]+ \}\}", value) for value in given)


RELEASES = {
    "images": {"packages": "write", "id-token": "write"},
    "packages": {"id-token": "write"},
    "release": {"contents": "write", "id-token": "write"},
}
"""What each job of a release may do beside reading: no job may do what another one needs."""


@pytest.mark.parametrize("file", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda file: file.stem)
def test_every_workflow_may_only_read_and_pins_its_actions(file: Path) -> None:
    """No job but a release's widens the rights, no checkout keeps a token, and an action is a commit that stays.

    Those that tell of alerts may write issues, too.
    """
    workflow = YAML(typ="safe").load(file)
    issues = {"issues": "write"} if file.stem.startswith("ai-") else {}
    assert workflow["permissions"] == {"contents": "read", **issues}
    for name, job in workflow["jobs"].items():
        own = RELEASES.get(name) if file.stem == "release" else None
        assert job.get("permissions") == (None if own is None else {"contents": "read", **own})
        for step in job["steps"]:
            uses = step.get("uses", "")
            assert not uses or re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", uses)
            if uses.startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}


def test_it_runs_the_readmes_two_lines() -> None:
    """With the inputs in place of the example's policy and version."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\$ ((?:incumbent register|dagster asset materialize) .*)$", readme, re.MULTILINE)
    here = {"iris-classifier-edge": "$POLICY", "7": "$VERSION", "iris-classifier-edge@7": "$POLICY@$VERSION"}
    wanted = [[here.get(word, word) for word in shlex.split(line)] for line in lines]
    assert len(wanted) == 2
    assert [shlex.split(line) for line in STEPS["Promote"]["run"].splitlines()] == wanted


def test_people_are_told_of_what_was_promoted() -> None:
    """After the promotion, however it ended, and never after input that was refused; the message links to the job.

    Where people cannot be told, the job's colour still says how the promotion ended.
    """
    step = STEPS["Tell people, if a secret says where"]
    assert step["if"] == "always() && steps.promote.outcome != 'skipped'"
    assert STEPS["Promote"]["id"] == "promote"
    assert [each.get("name") for each in JOB["steps"] if "continue-on-error" in each] == [step["name"]]
    assert step["continue-on-error"] is True
    assert 'incumbent notify "$POLICY" "$VERSION" --run-url "$job"' in step["run"]
    assert JOB["steps"].index(step) == JOB["steps"].index(STEPS["Promote"]) + 1


def test_what_is_laid_out_for_a_run_is_removed_after_it() -> None:
    """Also after a failure: a self-hosted runner is used again."""
    last = JOB["steps"][-1]
    assert last["if"] == "always()"
    assert last["run"] == 'rm -rf "$RUNNER_TEMP/incumbent" "$RUNNER_TEMP/dagster"'


@pytest.mark.parametrize(
    ("policy", "version", "code"),
    [
        ("iris-classifier-edge", "7", 0),
        ("wine-quality-edge", "120", 0),
        ("--help", "7", 2),
        ("iris; touch owned", "7", 2),
        ("$(touch owned)", "7", 2),
        ("iris\n::set-env::", "7", 2),
        ("iris-classifier-edge", "0", 2),
        ("iris-classifier-edge", "7 --force", 2),
        ("iris-classifier-edge", "", 2),
        ("", "7", 2),
    ],
)
def test_only_a_name_and_a_number_get_past_the_first_step(tmp_path: Path, policy: str, version: str, code: int) -> None:
    """As GitHub runs it; anything else is refused in words, and runs nothing."""
    script = JOB["steps"][0]["run"]
    environment = {"POLICY": policy, "VERSION": version, "PATH": "/usr/bin:/bin"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    assert ("expected a name such as" in done.stderr) is (code != 0)
    assert list(tmp_path.iterdir()) == []
    assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("::")]
