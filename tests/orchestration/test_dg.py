"""Dagster's own command `dg`: it finds the project by `[tool.dg]` in pyproject.toml."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster_dg_cli.cli import cli

from orchestration.assets import OUTCOME_TAG
from orchestration.partitions import model_versions
from orchestration.stages.pipeline import STAGES
from tests.fakes.world import POLICY_NAME

CHECKOUT = Path(__file__).resolve().parents[2]
PARTITION = "iris-classifier-edge@7"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance that knows the partition, and an environment without the pipeline's settings."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    for setting in ("INCUMBENT_KUBECONFIG", "INCUMBENT_GIT_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(setting, raising=False)
    monkeypatch.chdir(CHECKOUT)
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(model_versions.name or "", [PARTITION])
        yield instance


@pytest.mark.usefixtures("instance")
def test_dg_check_defs_passes() -> None:
    """The code location that `[tool.dg.project]` names loads."""
    checked = CliRunner().invoke(cli, ["check", "defs"])
    assert checked.exit_code == 0, checked.output
    assert "All definitions loaded successfully." in checked.output


@pytest.mark.parametrize(("version", "outcome", "exit_code"), [(1, "champion", 0), (2, "superseded", 1)])
def test_the_exit_code_of_materialize_is_the_answer(
    instance: dg.DagsterInstance, version: int, outcome: str, exit_code: int
) -> None:
    """`dagster asset materialize` ends with 0 for a champion alone, although other runs show a judgement as success."""
    partition = f"{POLICY_NAME}@{version}"
    instance.add_dynamic_partitions(model_versions.name or "", [partition])
    module = ["-m", "tests.orchestration.fake_definitions"]
    command = [sys.executable, "-m", "dagster", "asset", "materialize", *module, "--partition", partition]
    done = subprocess.run([*command, "--select", "group:promotion"], capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stderr
    (run,) = instance.get_runs()
    assert run.tags[OUTCOME_TAG] == outcome


@pytest.mark.parametrize("target", [["--assets", "group:promotion"], ["--job", "promote"]])
def test_dg_launch_runs_the_stages_of_a_partition(instance: dg.DagsterInstance, target: list[str]) -> None:
    """Both targets start one run of all stages for that partition; its first stage runs, and misses a setting."""
    launched = CliRunner().invoke(cli, ["launch", "--partition", PARTITION, *target])
    assert launched.exit_code == 1
    (run,) = instance.get_runs()
    assert run.remote_job_origin is None  # by which a stage knows that the command waits for its exit code
    assert run.tags["dagster/partition"] == PARTITION
    planned = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    assert {record.asset_key for record in planned.records} == {dg.AssetKey(stage.name) for stage in STAGES}
    (failure,) = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    event = failure.event_log_entry.get_dagster_event()
    assert event.step_key == "promotion_candidate"
    assert event.step_failure_data.user_failure_data is not None
    assert "setting MLFLOW_TRACKING_URI" in str(event.step_failure_data.user_failure_data.description)
