"""The definition graph: names and arrows are what users select, link to and script against."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg

import orchestration
from orchestration.definitions import defs
from orchestration.live import live_models
from orchestration.operations import operations
from orchestration.partitions import model_versions, policies
from orchestration.stages.pipeline import STAGES

ROOT = Path(__file__).resolve().parents[2]


def test_the_graph_is_the_documented_one() -> None:
    """The stages, their order and their fixed checks are what docs/architecture.md says: users script against them."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.partition("\n## Stages\n")[2].partition("\n## ")[0]
    table = section.partition("| asset | after | checks |\n")[2].partition("\n\n")[0]
    documented = [[re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:-1]] for row in table.splitlines()[1:]]
    graph = defs.resolve_asset_graph()
    defined = {
        node.key.to_user_string(): (
            sorted(key.to_user_string() for key in node.parent_keys),
            sorted(check.name for check in node.check_keys),
        )
        for node in graph.asset_nodes
    }
    assert defined.pop("registered_model") == ([], [])
    assert defined.pop("live_models") == ([], ["agrees", "policy_usable", "services_answer"])
    assert defined.pop("champion_evaluation") == ([], ["inputs_as_trained", "keeps_baseline"])
    assert defined == {name: (after, sorted(checks)) for (name,), after, checks in documented}
    assert [name for (name,), _, _ in documented] == [stage.name for stage in STAGES]


def test_a_promotion_is_one_group() -> None:
    """`--select group:promotion` takes all stages and nothing else; each has a partition for each version."""
    graph = defs.resolve_asset_graph()
    groups = {node.key.to_user_string(): node.group_name for node in graph.asset_nodes}
    own = {"registered_model": "registry", "live_models": "live", "champion_evaluation": "live"}
    assert groups == {**own, **{stage.name: "promotion" for stage in STAGES}}
    partitions = {node.key.to_user_string(): node.partitions_def for node in graph.asset_nodes}
    assert partitions.pop("live_models") is policies
    assert partitions.pop("champion_evaluation") is policies
    assert all(definition is model_versions for definition in partitions.values())


def test_jobs_and_sensors() -> None:
    """Jobs that promote and that do what people decide; of the sensors, only the one that just looks is on."""
    for name in ("promote", *(operation.name for operation in operations)):
        assert defs.resolve_job_def(name).executor_def.name == "in_process"
    sensors = {
        sensor.name: ([target.job_name for target in sensor.targets], sensor.minimum_interval_seconds)
        for sensor in defs.sensors or ()
    }
    assert sensors == {
        "challenger_sensor": (["promote"], 5),
        "live_sensor": ([], 15),
        "notification_sensor": ([], 15),
    }
    on = [sensor.name for sensor in defs.sensors or () if sensor.default_status is dg.DefaultSensorStatus.RUNNING]
    assert on == ["live_sensor"]


def test_no_sensor_waits_for_another(tmp_path: Path) -> None:
    """A service that hangs holds up the sensor that asks it; the others, and what they say about it, go on."""
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        settings = instance.get_sensor_settings()
    assert settings["use_threads"] is True
    assert settings["num_workers"] >= len(list(defs.sensors or ()))


def test_operations_ask_who_and_why() -> None:
    """What people decide in the launchpad needs a policy, a name and a reason, and some of it a version."""
    with_version = {"approve", "adopt", "retry"}
    for name in (operation.name for operation in operations):
        fields = {"version"} if name in with_version else set()
        (op,) = defs.resolve_job_def(name).nodes
        assert op.definition.config_schema is not None
        config: Any = op.definition.config_schema.config_type
        required = {field for field, schema in config.fields.items() if schema.is_required}
        assert required == {"policy", "reason", "by"} | fields


def test_every_check_of_a_version_or_policy_is_partitioned() -> None:
    """A check of an unpartitioned kind would mix the results of all of them; live_models judges all together."""
    every = [spec for asset in defs.resolve_asset_graph().assets_defs for spec in asset.check_specs]
    specs = [spec for spec in every if spec.asset_key != live_models.key]
    assert specs
    assert all(spec.partitions_def is not None for spec in specs)


def test_the_pipeline_knows_no_testbed() -> None:
    """It is given URLs and a kubeconfig, here as anywhere; no line of it is for a testbed."""
    package = Path(orchestration.__file__).parent
    texts = {path.name: path.read_text(encoding="utf-8").lower() for path in package.rglob("*.py")}
    assert [name for name, text in texts.items() if "sandbox" in text or "homelab" in text] == []


def test_loading_the_definitions_is_light() -> None:
    """The clients are imported when they are used: MLflow alone would cost seconds at each start."""
    heavy = ("mlflow", "kubernetes", "git", "httpx2", "sklearn", "apprise")
    code = f"import sys, orchestration.definitions; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
