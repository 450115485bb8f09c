"""The definition graph, as a snapshot: names and arrows are what users select, link to and script against."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
from inline_snapshot import snapshot

import orchestration
from orchestration.definitions import defs


def test_graph() -> None:
    """Every asset with its group, its upstream and its fixed checks."""
    graph = defs.resolve_asset_graph()
    drawn = {
        node.key.to_user_string(): {
            "after": sorted(key.to_user_string() for key in node.parent_keys),
            "checks": sorted(check.name for check in node.check_keys),
            "partitions": node.partitions_def.name
            if isinstance(node.partitions_def, dg.DynamicPartitionsDefinition)
            else None,
        }
        for node in graph.asset_nodes
    }
    assert drawn == snapshot(
        {
            "promotion_candidate": {
                "after": ["registered_model"],
                "checks": ["image_published", "is_challenger", "quality", "recorded_requests_fit", "run_finished"],
                "partitions": "model_versions",
            },
            "manifest_commit": {
                "after": ["promotion_candidate"],
                "checks": ["dependencies_ready", "one_commit"],
                "partitions": "model_versions",
            },
            "serving_model": {
                "after": ["rollout"],
                "checks": ["champion_alias", "recorded_requests", "slos"],
                "partitions": "model_versions",
            },
            "rollout": {"after": ["manifest_commit"], "checks": ["rolled_out"], "partitions": "model_versions"},
            "registered_model": {"after": [], "checks": [], "partitions": "model_versions"},
        }
    )


def test_jobs_and_sensors() -> None:
    """One job, and one sensor that is off until somebody turns it on."""
    job = defs.resolve_job_def("promote")
    assert job.executor_def.name == "in_process"
    sensors = {sensor.name: (sensor.job_name, sensor.minimum_interval_seconds) for sensor in defs.sensors or ()}
    assert sensors == snapshot({"challenger_sensor": ("promote", 5)})
    assert all(sensor.default_status is dg.DefaultSensorStatus.STOPPED for sensor in defs.sensors or ())


def test_every_check_is_partitioned() -> None:
    """A check of an unpartitioned kind would mix the results of all versions."""
    specs = [spec for asset in defs.resolve_asset_graph().assets_defs for spec in asset.check_specs]
    assert specs
    assert all(spec.partitions_def is not None for spec in specs)


def test_the_pipeline_knows_no_testbed() -> None:
    """It is given URLs and a kubeconfig, here as anywhere; no line of it is for a testbed."""
    package = Path(orchestration.__file__).parent
    texts = {path.name: path.read_text(encoding="utf-8").lower() for path in package.rglob("*.py")}
    assert [name for name, text in texts.items() if "sandbox" in text or "homelab" in text] == []


def test_loading_the_definitions_is_light() -> None:
    """The clients are imported when they are used: MLflow alone would cost seconds at each start."""
    heavy = ("mlflow", "kubernetes", "git", "httpx2", "sklearn")
    code = f"import sys, orchestration.definitions; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
