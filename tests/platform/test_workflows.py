"""actionlint on every workflow: names, expressions, inputs, runner labels and what is spliced into scripts."""

import subprocess
from pathlib import Path

import pytest

from testbeds.common.tools import CHECKOUT
from tests.platform.programs import actionlint

WORKFLOWS = sorted((CHECKOUT / ".github/workflows").glob("*.yml"))
OWN_LABELS = "self-hosted-runner:\n  labels: [homelab, incumbent]\n"
"""The labels of our own runners, which actionlint cannot know."""


def lint(folder: Path, *workflows: Path) -> subprocess.CompletedProcess[str]:
    """Run actionlint without the programs that it would look for on PATH, which not every machine has."""
    settings = folder / "actionlint.yaml"
    settings.write_text(OWN_LABELS, encoding="utf-8")
    command: list[str | Path] = [actionlint(), "-shellcheck=", "-pyflakes=", "-config-file", settings, *workflows]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_has_no_fault(tmp_path: Path, workflow: Path) -> None:
    """GitHub would take it, and nothing that anyone may choose is part of a script."""
    done = lint(tmp_path, workflow)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("inputs.pod_name", "inputs.pod", 'property "pod" is not defined'),
        ("[self-hosted, incumbent]", "[self-hosted, other]", 'label "other" is unknown'),
        ("timeout-minutes", "timeout-minute", 'unexpected key "timeout-minute"'),
        ("secrets.INCUMBENT_KUBECONFIG }}", "secret.INCUMBENT_KUBECONFIG }}", 'undefined variable "secret"'),
    ],
)
def test_a_fault_is_found(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    """So that the test above can fail."""
    text = (CHECKOUT / ".github/workflows/ai-log-analysis.yml").read_text(encoding="utf-8")
    assert right in text
    workflow = tmp_path / "workflow.yml"
    workflow.write_text(text.replace(right, wrong), encoding="utf-8")
    done = lint(tmp_path, workflow)
    assert done.returncode == 1
    assert said in done.stdout
