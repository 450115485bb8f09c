"""`incumbent verify` with the history of a Dagster instance that is kept on disk."""

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.commands.serving import return_to_champion
from orchestration.promotion.decided import Decided
from tests.fakes.world import POLICY_NAME, World, WorldPlatform, materialize


def history_row(number: int) -> tuple[bool, str]:
    result = CliRunner().invoke(main, ["verify", POLICY_NAME, str(number), "--json"], catch_exceptions=False)
    (row,) = (row for row in json.loads(result.stdout)["findings"] if row["where"] == "Dagster")
    return row["ok"], row["finding"]


def test_what_dagster_remembers_is_compared(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The instance that DAGSTER_HOME names says what it has of a version, and whether that is the same evidence."""
    monkeypatch.setattr("orchestration.cli.showing.platform_of_environment", lambda: WorldPlatform(world))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    world.register()
    with dg.DagsterInstance.get() as kept:
        materialize(world, 1, kept)
    assert history_row(1) == (True, "serving_model was materialized, and its checks passed")
    tag = world.git.tags[f"incumbent/{POLICY_NAME}/1-1"]
    other = tag.message.replace("Evidence-Digest: sha256:", "Evidence-Digest: sha256:0")
    world.git.tags[tag.name] = replace(tag, message=other)
    ok, finding = history_row(1)
    assert not ok
    assert finding.startswith("the evidence was sha256:")


def test_an_attempt_that_another_process_made_is_no_fault(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a return on the command line, this instance's newest history is of an earlier attempt, which is said."""
    monkeypatch.setattr("orchestration.cli.showing.platform_of_environment", lambda: WorldPlatform(world))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as kept:
        for number in (1, 2):
            world.register()
            materialize(world, number, kept)
    return_to_champion(
        WorldPlatform(world), POLICY_NAME, None, Decided("ana@team", "complaints"), "run", world.said.append
    )
    ok, finding = history_row(1)
    assert ok
    assert finding.startswith("none of this attempt in this instance; the last is of iris-edge/1/")


@pytest.mark.parametrize("case", ["no folder", "no database"])
def test_an_instance_that_cannot_be_read_is_a_problem(
    case: str, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wrong DAGSTER_HOME is refused, and a storage that does not answer is a dependency's; neither is a traceback."""
    monkeypatch.setattr("orchestration.cli.showing.platform_of_environment", lambda: WorldPlatform(world))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "none" if case == "no folder" else tmp_path))
    (tmp_path / "history").write_text("not a folder")
    world.register()
    result = CliRunner().invoke(main, ["verify", POLICY_NAME, "1"], catch_exceptions=False)
    assert result.exit_code == (3 if case == "no folder" else 4), result.output
    assert "DAGSTER_HOME" in result.stderr
