"""`incumbent evaluate` and the asset `champion_evaluation`, on a platform of fakes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from orchestration.cli import main
from orchestration.commands.evaluating import Evaluation, NotNow, evaluate_champion
from orchestration.evaluation import champion_evaluation, evaluation_schedule
from orchestration.partitions import policies
from orchestration.promotion.ports import Answer, Headers
from orchestration.promotion.problems import DependencyError, InvalidInputError
from tests.fakes.cluster import DOWN
from tests.fakes.runs import promote, run_until
from tests.fakes.world import MANIFEST, POLICY_NAME, POLICY_TEXT, REPOSITORY, World, WorldPlatform

ROWS = "labels/recent.csv"
POLICY = f"{POLICY_TEXT}evaluation: {{rows: {ROWS}, label: y, prediction: $.prediction, min_rows: 10}}\n"


def labelled(right: int, wrong: int = 0) -> bytes:
    """Rows of which the model, which answers the input, has so many right and wrong."""
    return "\n".join(["x,y", *(f"{n},{n if n < right else n + 1}" for n in range(right + wrong))]).encode()


def served(url: str, _: str, body: bytes, headers: Headers) -> Answer:
    (value,) = json.loads(body)["features"]
    return Answer(200, json.dumps({"prediction": value}).encode(), 0.01)


@pytest.fixture
def world() -> World:
    """Version 1, of accuracy 0.9, is the champion, and 20 rows have labels."""
    world = World(POLICY)
    world.register()
    promote(world, 1, "run 1")
    world.registry.artifacts["run1", ROWS] = labelled(right=20)
    world.service.respond = served
    world.service.asked.clear()
    return world


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr("orchestration.cli.evaluating.platform_of_environment", lambda: WorldPlatform(world))
    return lambda *arguments: CliRunner().invoke(main, ["evaluate", *arguments], catch_exceptions=False)


def evaluated(world: World) -> Evaluation:
    found = evaluate_champion(WorldPlatform(world), POLICY_NAME, world.said.append)
    assert isinstance(found, Evaluation), found
    return found


def not_now(world: World) -> NotNow:
    found = evaluate_champion(WorldPlatform(world), POLICY_NAME, world.said.append)
    assert isinstance(found, NotNow)
    return found


def test_the_served_champion_is_measured(world: World) -> None:
    """Each row is one request to the service, marked so that no gate takes it for a client's."""
    world.registry.artifacts["run1", ROWS] = labelled(right=18, wrong=2)
    evaluation = evaluated(world)
    assert evaluation.is_new
    found = evaluation.found
    assert (found.version, found.metric, found.value, found.baseline, found.rows) == (1, "accuracy", 0.9, 0.9, 20)
    assert world.registry.evaluations == [found]
    assert [json.loads(body) for _, body, _ in world.service.asked] == [{"features": [n]} for n in range(20)]
    assert all(headers["X-Incumbent-Replay"] == "evaluation" for _, _, headers in world.service.asked)


def test_rows_are_evaluated_once(world: World) -> None:
    """Without new labels nothing is asked and nothing kept, so the last evaluation's age says when labels stopped."""
    first = evaluated(world).found
    asked = len(world.service.asked)
    again = evaluated(world)
    assert (again.is_new, again.found) == (False, first)
    assert len(world.service.asked) == asked
    assert len(world.registry.evaluations) == 1


def test_another_champion_is_evaluated_on_the_same_rows(world: World) -> None:
    """They say something new about it."""
    evaluated(world)
    world.register()
    promote(world, 2, "run 2")
    world.registry.artifacts["run2", ROWS] = labelled(right=20)
    world.service.respond = served
    assert evaluated(world).found.version == 2


def test_a_promotion_under_way_is_not_disturbed(world: World) -> None:
    """Requests of an evaluation could hide the errors of real ones from its gate."""
    world.register()
    run_until(world, 2, "manifest_commit")
    problem = not_now(world).problem
    assert "expected a champion that serves, and no promotion under way, found version 2 is committed" in str(problem)
    assert "evaluation" not in {headers["X-Incumbent-Replay"] for _, _, headers in world.service.asked}


def test_what_serves_must_be_the_champion(world: World) -> None:
    """An answer of something else says nothing about it."""
    before = MANIFEST.format(image=f"{REPOSITORY}:before").encode()
    world.git.commit("By hand", {"apps/iris.yaml": before}, None, "ana")
    world.reconcile()
    assert "something else serves" in not_now(world).problem.found


def test_an_image_that_is_still_to_be_rolled_out_is_waited_for(world: World) -> None:
    """The champion serves still, and the next request may be answered by something else."""
    before = MANIFEST.format(image=f"{REPOSITORY}:before").encode()
    world.git.commit("By hand", {"apps/iris.yaml": before}, None, "ana")
    assert "Git has " in not_now(world).problem.found
    assert not world.service.asked


def test_a_champion_that_changes_meanwhile_keeps_nothing(world: World) -> None:
    """The answers would be of two versions."""

    def respond(url: str, path: str, body: bytes, headers: Headers) -> Answer:
        if len(world.service.asked) == 10:
            world.register()
            promote(world, 2, "run 2")
            world.service.respond = respond
        return served(url, path, body, headers)

    world.service.respond = respond
    assert "found version 2. Evaluate again later" in str(not_now(world).problem)
    assert not world.registry.evaluations


def test_too_few_labels_are_waited_for(world: World) -> None:
    """And the last evaluation still stands."""
    first = evaluated(world).found
    world.registry.artifacts["run1", ROWS] = labelled(right=9)
    waiting = not_now(world)
    assert "expected 10 of them, found 9. Wait for more labels" in str(waiting.problem)
    assert waiting.last == first


def test_rows_are_read_from_an_address(world: World) -> None:
    """With the headers that its server asks for."""
    address = "https://labels.example.org/iris.csv"
    world.policies[POLICY_NAME] = POLICY.replace(ROWS, address)
    world.service.reached = Answer(200, labelled(right=20), 0.01)
    assert evaluated(world).found.value == 1.0
    world.service.reached = Answer(404, b"no such page", 0.01)
    with pytest.raises(
        DependencyError, match=r"labelled rows at https://labels.*found status 404: no such page\. Check"
    ):
        evaluate_champion(WorldPlatform(world), POLICY_NAME, world.said.append)


def test_inputs_are_compared_with_the_training_sample(world: World) -> None:
    """The one that the policy names, or the input example; and when there is neither, that is said."""
    world.registry.artifacts["run1", ROWS] = labelled(right=100)
    assert "no sample of its training data" in evaluated(world).found.not_compared
    world.policies[POLICY_NAME] = POLICY.replace("min_rows", "sample: sample.csv, min_rows")
    world.registry.artifacts["run1", "sample.csv"] = b"x\n" + b"\n".join(b"%d" % (n + 90) for n in range(100))
    world.registry.artifacts["run1", ROWS] = labelled(right=101)
    moved = evaluated(world)
    assert (moved.found.compared_inputs, moved.found.drifted_inputs, moved.found.not_compared) == (1, ("x",), "")
    assert moved.drift[0].drifted


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda w: w.registry.artifacts.pop(("run1", ROWS)), "no such artifact"),
        (lambda w: w.registry.runs["run1"].metrics.pop("accuracy"), "which is the baseline"),
        (lambda w: w.registry.runs["run1"].metrics.update(accuracy=float("nan")), "a run without it (accuracy nan)"),
        (
            lambda w: setattr(w.service, "respond", lambda *_: Answer(200, b'{"prediction": NaN}', 0.01)),
            "a finite number",
        ),
        (lambda w: setattr(w.service, "respond", lambda *_: Answer(400, b"bad row", 0.01)), "status 400: bad row"),
        (lambda w: setattr(w.service, "respond", lambda *_: Answer(200, b"{}", 0.01)), "a prediction at $.prediction"),
        (lambda w: w.policies.update({POLICY_NAME: POLICY_TEXT}), "expected evaluation, with the rows"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(world: World, break_it: Callable[[World], Any], said: str) -> None:
    """With what to do about it, and nothing is kept."""
    break_it(world)
    with pytest.raises(InvalidInputError) as refused:
        evaluate_champion(WorldPlatform(world), POLICY_NAME, world.said.append)
    assert said in str(refused.value)
    assert not world.registry.evaluations


def test_a_service_that_does_not_answer_is_no_bad_model(world: World) -> None:
    """A gateway's error is nobody's prediction."""
    world.service.respond = lambda *_: Answer(503, b"no endpoints", 0.01)
    with pytest.raises(DependencyError, match=r"found status 503: no endpoints\. Check that the service is up"):
        evaluate_champion(WorldPlatform(world), POLICY_NAME, world.said.append)


def test_a_dependency_that_is_down_is_named(world: World) -> None:
    """Whether the champion serves is not guessed."""
    world.registry.down = True
    with pytest.raises(DependencyError):
        evaluate_champion(WorldPlatform(world), POLICY_NAME, world.said.append)


def test_the_command_says_what_it_found(world: World, ask: Callable[..., Result]) -> None:
    """In a few lines, or as JSON; and what is not new is not told as new."""
    shown = ask(POLICY_NAME)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[0] == "version 1: accuracy 1 of 20 rows, 0.9 in training"
    assert shown.stdout.splitlines()[-1] == "kept at http://mlflow/evaluations/1"
    assert "no new labels since version 1: accuracy 1 of 20 rows was measured" in ask(POLICY_NAME).stdout
    assert json.loads(ask(POLICY_NAME, "--json").stdout)["is_new"] is False
    world.registry.artifacts["run1", ROWS] = labelled(right=5)
    refused = ask(POLICY_NAME)
    assert (refused.exit_code, "Wait for more labels" in refused.stderr) == (3, True)


def materialized(world: World, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    instance.add_dynamic_partitions(policies.name or "", [POLICY_NAME])
    return dg.materialize(
        [champion_evaluation],
        partition_key=POLICY_NAME,
        instance=instance,
        resources={"platform": WorldPlatform(world)},
        raise_on_error=False,
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    return {one.check_name: (one.passed, one.description or "") for one in result.get_asset_check_evaluations()}


def test_the_asset_shows_how_good_the_champion_is(world: World, instance: dg.DagsterInstance) -> None:
    """A model that got worse is a warning, and the numbers are charted."""
    world.registry.artifacts["run1", ROWS] = labelled(right=16, wrong=4)
    result = materialized(world, instance)
    assert result.success
    assert checks(result)["keeps_baseline"] == (False, "accuracy 0.8 of 20 rows, 0.9 in training")
    (event,) = result.asset_materializations_for_node("champion_evaluation")
    assert event.metadata["accuracy"].value == 0.8


def test_the_asset_waits_without_turning_red(world: World, instance: dg.DagsterInstance) -> None:
    """While a promotion is under way, the last evaluation's checks stand, and nothing is materialized."""
    materialized(world, instance)
    world.register()
    run_until(world, 2, "manifest_commit")
    result = materialized(world, instance)
    assert result.success
    assert checks(result)["keeps_baseline"] == (True, "accuracy 1 of 20 rows, 0.9 in training")
    assert not result.asset_materializations_for_node("champion_evaluation")


def test_before_the_first_evaluation_nothing_is_claimed(world: World, instance: dg.DagsterInstance) -> None:
    """A check that nobody made has not passed."""
    world.registry.artifacts["run1", ROWS] = labelled(right=1)
    assert checks(materialized(world, instance))["keeps_baseline"] == (False, "Never evaluated yet.")


def test_the_asset_fails_when_something_is_broken(world: World, instance: dg.DagsterInstance) -> None:
    """Red means that something is broken."""
    world.metrics.down = DOWN
    del world.registry.artifacts["run1", ROWS]
    assert not materialized(world, instance).success


def test_the_schedule_asks_for_each_policy_that_says_how(world: World, tmp_path: Path) -> None:
    """Those without the field, and those that cannot be read, are left alone."""
    world.policies.update({"wine-edge": POLICY_TEXT, "broken": "model: ["})
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.add_dynamic_partitions(policies.name or "", [*world.policies])
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at)
        found = evaluation_schedule(context, platform=WorldPlatform(world))
    assert isinstance(found, list)
    assert [request.partition_key for request in found] == [POLICY_NAME]
