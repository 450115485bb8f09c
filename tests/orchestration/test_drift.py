"""A drift alert: what is compared, and what a policy's `on_drift` does, once for each champion."""

from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from orchestration.cli import analyzing, main
from orchestration.commands.holding import resume_policy
from orchestration.commands.serving import return_to_champion
from orchestration.promotion.acts import ActKind, current_hold
from orchestration.promotion.branch_view import acts
from orchestration.promotion.decided import Decided
from tests.fakes.runs import promote
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, World, WorldPlatform


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Versions 1 to 3 were promoted one after the other, the last with other parameters."""
    world = World()
    for number in (1, 2, 3):
        world.register()
        run = world.registry.runs[f"run{number}"]
        world.registry.add_run(replace(run, parameters={"max_depth": str(number)}))
        assert promote(world, number, f"run {number}")
    monkeypatch.setattr(analyzing, "platform_of_environment", lambda: WorldPlatform(world))
    return world


def on_drift(world: World, what: str) -> None:
    world.policies[POLICY_NAME] = f"{POLICY_TEXT}on_drift: {what}\n"


def drift(current: str = "0.8", baseline: str = "0.9", model: str = "iris", **which: str) -> Result:
    given = {"model": model, "current": current, "baseline": baseline, **which}
    return CliRunner().invoke(main, ["analyze-drift", *(f"--{name}={value}" for name, value in given.items())])


def told(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def holds(world: World) -> list[str]:
    return [act.reason for act in acts(world.git, POLICY_NAME) if act.kind is ActKind.HOLD]


def test_the_champion_is_compared_with_the_one_before(world: World) -> None:
    """By what the registry has, and by when Git says it was promoted; by default nothing is done."""
    report = told(drift())
    assert report.startswith("# Drift of iris: accuracy 0.8 now, baseline 0.9\n")
    assert "Under `iris-edge` version 3 is the champion, since 1970-" in report
    assert "by promotion; before it, version 2." in report
    assert "it has become worse since: the inputs, or what they mean, have changed" in report
    assert "other parameters than the version before: `max_depth` `3` (before `2`)." in report
    assert "Nothing was done under `iris-edge`, as its `on_drift` says." in report
    assert "`incumbent rollback iris-edge 2 --reason REASON`" in report
    assert (world.champion, holds(world)) == (3, [])


def test_a_hold_is_made_once_for_each_champion(world: World) -> None:
    """With who and why; what a person resumed stays resumed, until another version is the champion."""
    on_drift(world, "hold")
    assert "iris-edge is held: nothing new is committed" in told(drift())
    held = current_hold(acts(world.git, POLICY_NAME))
    assert held is not None
    assert (held.by, held.reason) == ("drift alert", "drift of version 3: accuracy 0.8 now, baseline 0.9")
    assert "was held for this champion already" in told(drift("0.7"))
    policy = world.policy(POLICY_NAME)
    resume_policy(world.git, world.clock, policy, "ana@team", "looked at it")
    assert "it is not held again" in told(drift())
    assert len(holds(world)) == 1
    world.register()
    assert promote(world, 4, "run 4")
    told(drift())
    assert holds(world)[0] == "drift of version 4: accuracy 0.8 now, baseline 0.9"


def test_it_goes_back_once_and_no_further(world: World) -> None:
    """To the former champion; a drift of that one goes no second step back by itself."""
    on_drift(world, "roll_back")
    assert "version 2 serves again, and is the champion of iris-edge." in told(drift())
    assert world.champion == 2
    trailers = world.git.log[0].trailers
    assert trailers["By"] == "drift alert"
    assert trailers["Reason"] == "drift of version 3: accuracy 0.8 now, baseline 0.9"
    assert "A second step back is a person's to take." in told(drift())
    assert world.champion == 2


def test_a_person_who_returns_to_the_drifted_version_is_not_overruled(world: World) -> None:
    """What was done for a champion once is not done again."""
    on_drift(world, "roll_back")
    told(drift())
    decided = Decided("ana@team", "the labels were wrong")
    return_to_champion(WorldPlatform(world), POLICY_NAME, 3, decided, "rollback by ana@team (1f2e3d4c)", print)
    assert world.champion == 3
    assert "that was done for this champion already" in told(drift())
    assert world.champion == 3


def test_a_champion_that_was_not_measured_is_left_alone(world: World) -> None:
    """The workflow's run may start long after the alert: what drifted may be gone, and a newer version serve."""
    on_drift(world, "roll_back")
    report = told(drift(policy=POLICY_NAME, version="2"))
    assert "the alert is about version 2, and version 3 is the champion now." in report
    assert "Drift alert about version 2 of the model `iris` under `iris-edge`: " in report
    assert world.champion == 3
    assert "version 2 serves again" in told(drift(policy=POLICY_NAME, version="3"))
    assert world.champion == 2


def test_only_the_policy_that_the_alert_names_is_acted_on(world: World) -> None:
    """Another policy may serve the same model elsewhere, where nothing has drifted."""
    on_drift(world, "hold")
    other = world.policies[POLICY_NAME].replace(POLICY_NAME, "iris-cloud")
    world.policies["iris-cloud"] = other
    report = told(drift(policy="iris-cloud", version="none"))
    assert "`iris-cloud`" in report
    assert f"`{POLICY_NAME}`" not in report
    assert holds(world) == []
    assert "No policy `iris-east` promotes the model `iris`." in told(drift(policy="iris-east"))


def test_of_an_error_more_is_worse(world: World) -> None:
    """The numbers are of the policy's own metric: a champion whose error has grown is held, a better one is not."""
    on_drift(world, "hold")
    world.policies[POLICY_NAME] += (
        "evaluation: {rows: rows.csv, label: species, metric: rmse, prediction: $.prediction}\n"
    )
    assert "do not say that rmse is worse" in told(drift("0.5", "0.9"))
    assert holds(world) == []
    report = told(drift("1.4", "0.9"))
    assert report.startswith("# Drift of iris: rmse 1.4 now, baseline 0.9\n")
    assert holds(world) == ["drift of version 3: rmse 1.4 now, baseline 0.9"]


@pytest.mark.parametrize(("current", "baseline"), [("0.95", "0.9"), ("NaN", "0.9"), ("0.8", "$(id)")])
@pytest.mark.parametrize("what", ["hold", "roll_back"])
def test_without_a_number_below_the_baseline_nothing_is_done(
    world: World, what: str, current: str, baseline: str
) -> None:
    """A broken rule, or anybody who may start the workflow, cannot take a champion back by it."""
    on_drift(world, what)
    assert "Nothing was done under `iris-edge`" in told(drift(current, baseline))
    assert (world.champion, holds(world)) == (3, [])


def test_what_is_refused_is_told_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no former champion: the report has the reason, and the exit code is that of a refusal."""
    world = World()
    world.register()
    assert promote(world, 1, "run 1")
    monkeypatch.setattr(analyzing, "platform_of_environment", lambda: WorldPlatform(world))
    on_drift(world, "roll_back")
    failed = drift()
    assert failed.exit_code == 3
    assert "What `iris-edge` asks for was not done: `" in failed.stdout
    assert world.champion == 1


def test_a_missing_setting_ends_it_before_anything_is_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held without being told."""
    on_drift(world, "hold")
    monkeypatch.delenv("INCUMBENT_GITHUB_TOKEN_FILE", raising=False)
    refused = CliRunner().invoke(main, ["analyze-drift", "--model=iris", "--current=0.8", "--baseline=0.9", "--issue"])
    assert refused.exit_code == 3
    assert holds(world) == []


def test_a_registry_that_is_down_is_a_gap(world: World) -> None:
    """When what Git knows is told, and nothing is done."""
    on_drift(world, "hold")
    world.registry.down = True
    report = told(drift())
    assert "The champions under `iris-edge`: `the model registry: expected an answer" in report
    assert "there is no champion" not in report.partition("Nothing was done")[0]
    assert holds(world) == []


def test_another_model_is_not_touched(world: World) -> None:
    """The alert's model is matched whole."""
    on_drift(world, "hold")
    assert "No policy promotes the model `iri`." in told(drift(model="iri"))
    assert holds(world) == []
