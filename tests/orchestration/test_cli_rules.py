"""`incumbent rules`: what it prints, and what it refuses."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestration.cli import main

CHECKOUT = Path(__file__).parents[2]
POLICY = CHECKOUT / "policies/iris-classifier-edge.yaml"


def rules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setenv("INCUMBENT_POLICIES", str(folder))
    return CliRunner().invoke(main, ["rules"])


def test_it_prints_the_file_that_is_in_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output can be written over the file as it is, and needs no setting but the folder."""
    for name in ("MLFLOW_TRACKING_URI", "INCUMBENT_GIT_URL", "INCUMBENT_KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    done = rules(CHECKOUT / "policies", monkeypatch)
    file = CHECKOUT / "manifests/platform/monitoring/rules/slos.yml"
    assert (done.exit_code, done.stdout, done.stderr) == (0, file.read_text(encoding="utf-8"), "")


def test_a_broken_policy_prints_no_rules_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3 and the policy's problem; rules without one policy would leave it without alerts."""
    (tmp_path / "good.yaml").write_bytes(POLICY.read_bytes())
    (tmp_path / "broken.yaml").write_text("model: iris\n", encoding="utf-8")
    done = rules(tmp_path, monkeypatch)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("policy broken: expected a policy as docs/policies.md describes it, ")


def test_a_folder_without_policies_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is still one that Prometheus accepts."""
    done = rules(tmp_path, monkeypatch)
    assert done.exit_code == 0
    assert done.stdout.endswith("groups: []\n")
    assert done.stderr == f"There are no policies in {tmp_path}, so there are no rules.\n"
