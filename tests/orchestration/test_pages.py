"""What a person reads on Dagster's pages: the end on the run itself, the reason before the trace, numbers, checks."""

from collections import Counter

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from orchestration.assets import OUTCOME_TAG, REASON_TAG, VERSION_TAG, registered_model, stage_assets
from orchestration.definitions import defs
from orchestration.jobs import promote
from orchestration.metadata import sentence, short, table
from orchestration.partitions import model_versions
from orchestration.promotion.state import State
from orchestration.stages.pipeline import STAGES
from tests.fakes.cluster import DOWN
from tests.fakes.world import POLICY_NAME, World, WorldPlatform, materialize

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def test_a_champions_run_says_so(instance: dg.DagsterInstance) -> None:
    """The list of runs shows version and outcome, and a good end has no reason."""
    world = World()
    world.register()
    result = materialize(world, 1, instance)
    tags = instance.get_runs()[0].tags
    assert result.success
    assert tags[VERSION_TAG] == "1"
    assert tags[OUTCOME_TAG] == "champion"
    assert REASON_TAG not in tags


def test_a_run_that_ends_says_why(instance: dg.DagsterInstance) -> None:
    """The outcome and the finding are tags of the run; the four parts stand in the log, with no second trace."""
    world = World()
    world.register()
    world.bad_images.add(world.image(1))
    result = materialize(world, 1, instance)
    tags = instance.get_runs()[0].tags
    assert tags[OUTCOME_TAG] == "rolled back"
    assert tags[REASON_TAG].startswith("the new pods: expected every SLO kept")
    assert "success_ratio" in tags[REASON_TAG]
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    failed = event.step_failure_data
    assert failed.user_failure_data is not None
    assert list(failed.user_failure_data.metadata) == ["what", "expected", "found", "next_step"]
    assert failed.error is not None
    assert (failed.error.cause, failed.error.context) == (None, None)


def launch(world: World, number: int, instance: dg.DagsterInstance, *stages: str) -> dg.DagsterRun:
    """Run a version's promotion as the daemon and the web server do: from a job that they can find again."""
    key = f"{POLICY_NAME}@{number}"
    instance.add_dynamic_partitions(model_versions.name or "", [key])
    assets: list[dg.AssetSpec | dg.AssetsDefinition] = [registered_model, *stage_assets]
    definitions = dg.Definitions(assets=assets, jobs=[promote], resources={"platform": WorldPlatform(world)})
    job = definitions.resolve_job_def("promote")
    selected = {dg.AssetKey(name) for name in stages or [stage.name for stage in STAGES]}
    job = job.get_subset(asset_selection=selected)
    location = RegisteredCodeLocationOrigin("incumbent")
    run = instance.create_run_for_job(
        job,
        tags={"dagster/partition": key},
        asset_selection=selected,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "promote"),
    )
    execute_run(InMemoryJob(job), run, instance, raise_on_error=False)
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    return ended


def checks_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.AssetCheckEvaluation]:
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.get_dagster_event() for record in records]
    return [event.asset_check_evaluation_data for event in events]


@pytest.mark.parametrize(
    ("fault", "end"), [("quality", State.REFUSED), ("slo", State.ROLLED_BACK), ("crash", State.ROLLED_BACK)]
)
def test_a_judgement_is_not_red(instance: dg.DagsterInstance, fault: str, end: State) -> None:
    """The run succeeds, its tags say what happened, and each of its checks has a result that is no error.

    Every check needs one, because Dagster shows a check in the colour of its newest result, whichever version failed.
    """
    world = World()
    world.register(0.1 if fault == "quality" else 0.9)
    (world.bad_images if fault == "slo" else world.crashing_images if fault == "crash" else set()).add(world.image(1))
    run = launch(world, 1, instance)
    assert world.state(1) is end
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags[OUTCOME_TAG] == str(end).replace("_", " ")
    assert run.tags[REASON_TAG]
    checks = checks_of(instance, run)
    assert Counter(check.check_name for check in checks) == Counter(name for stage in STAGES for name in stage.checks)
    assert {check.severity for check in checks} == {WARN}
    assert {check.partition for check in checks} == {f"{POLICY_NAME}@1"}
    assert not all(check.passed for check in checks)
    unreached = checks[-1]
    assert (unreached.passed, unreached.check_name) == (False, "champion_alias")
    assert run.tags[REASON_TAG].removesuffix(" ...") in (unreached.description or "")


def test_a_judgement_is_told_in_the_versions_rows(instance: dg.DagsterInstance) -> None:
    """A refused version has no materialization, so its reason is an event of its partition, with the four parts."""
    world = World()
    world.register(0.1)
    launch(world, 1, instance)
    for name in ("registered_model", "promotion_candidate"):
        (record, *_) = instance.fetch_observations(dg.AssetKey(name), limit=1).records
        observation = record.asset_observation
        assert observation is not None
        assert observation.partition == f"{POLICY_NAME}@1"
        assert list(observation.metadata) == ["outcome", "what", "expected", "found", "next_step"]
        assert (observation.description or "").startswith("refused: metric accuracy")


def test_what_is_broken_is_red(instance: dg.DagsterInstance) -> None:
    """Held, and an error, fail the run also when the daemon launched it."""
    world = World()
    world.register()
    launch(world, 1, instance, "promotion_candidate", "manifest_commit", "rollout")
    world.metrics.down = DOWN
    held = launch(world, 1, instance, "serving_model")
    assert (held.status, held.tags[OUTCOME_TAG]) == (dg.DagsterRunStatus.FAILURE, "held")
    assert ERROR in {check.severity for check in checks_of(instance, held)}
    world = World()
    world.register()
    world.git.down = "no answer in 10 s"
    error = launch(world, 1, instance)
    assert (error.status, error.tags[OUTCOME_TAG]) == (dg.DagsterRunStatus.FAILURE, "error")


def test_the_same_judgement_fails_a_run_in_its_callers_process(instance: dg.DagsterInstance) -> None:
    """A command's exit code must say that there is no champion; checks are yellow all the same."""
    world = World()
    world.register(0.1)
    result = materialize(world, 1, instance)
    assert not result.success
    assert {check.severity for check in result.get_asset_check_evaluations()} == {WARN}


def test_a_champion_that_is_named_again_is_told_so(instance: dg.DagsterInstance) -> None:
    """The answer is no refusal: the first stage alone says that the version is the champion already."""
    world = World()
    world.register()
    launch(world, 1, instance)
    run = launch(world, 1, instance, "promotion_candidate")
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags[OUTCOME_TAG] == "champion"
    assert run.tags[REASON_TAG] == "Version 1 of iris is the champion already."


def test_a_former_champion_that_is_named_again_is_told_the_way_back(instance: dg.DagsterInstance) -> None:
    """It is refused, and the reason has the command that goes back to it."""
    world = World()
    for number in (1, 2):
        world.register()
        launch(world, number, instance)
    world.registry.set_alias(world.registry.versions["iris", 1], "challenger")
    run = launch(world, 1, instance, "promotion_candidate")
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags[OUTCOME_TAG] == "former champion"
    assert "incumbent rollback iris-edge 1" in run.tags[REASON_TAG]


@pytest.mark.parametrize("text", ["word " * 100, "x" * 300, "x" * 300 + " tail", "short", "an older one. Do it."])
def test_a_reason_is_cut_at_a_word(text: str) -> None:
    """A tag of a run is one line, and never empty; only a word that is too long by itself is cut."""
    cut = sentence(text)
    kept = cut.removesuffix(" ...")
    assert kept
    assert len(cut) <= 250
    assert text.startswith(kept)
    assert text.strip() == kept or cut != kept or " " not in kept


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        (0.9555555555, 0.9556),
        (1234567.0, 1234567.0),
        (12345.678, 12346.0),
        (0.00012345, 0.0001234),
        (0.0, 0.0),
        (-2.0, -2.0),
    ],
)
def test_numbers_are_short(measured: float, shown: float) -> None:
    """Four digits are enough for a page, and a whole number loses none of its own."""
    assert short(measured) == pytest.approx(shown, rel=1e-12)
    assert table([{"value": measured}]).records[0].data["value"] == short(measured)


def test_numbers_that_are_none_stay_so() -> None:
    """What cannot be rounded is shown as it is."""
    assert str(short(float("nan"))) == "nan"
    assert short(float("inf")) == float("inf")


def test_every_check_says_what_it_proves() -> None:
    """A check's page begins with its meaning."""
    specs = [spec for asset in defs.resolve_asset_graph().assets_defs for spec in asset.check_specs]
    assert all(spec.description for spec in specs)
