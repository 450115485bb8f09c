"""`incumbent hold`, `resume` and `approve` as a person types them, and the jobs of the same names in Dagster."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from orchestration.cli import approving, holding, main
from orchestration.operations import operations
from orchestration.promotion.acts import ActKind
from orchestration.promotion.branch_view import acts
from tests.fakes.world import POLICY_NAME, World, WorldPlatform

ASKS = "approval: {by: [ana@example.org]}"


@pytest.fixture(autouse=True)
def platform(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands work on the world of fakes."""
    modules: tuple[ModuleType, ...] = (holding, approving)
    for module in modules:
        monkeypatch.setattr(module, "platform_of_environment", lambda: WorldPlatform(world))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def made(world: World) -> list[tuple[ActKind, str, str]]:
    return [(act.kind, act.by, act.reason) for act in acts(world.git, POLICY_NAME)]


def test_hold_and_resume(world: World) -> None:
    """Who and why are kept; a second time is no error and adds nothing."""
    for command, kind in (("hold", ActKind.HOLD), ("resume", ActKind.RESUME)):
        for _ in range(2):
            done = run(command, POLICY_NAME, "--reason", "we  move", "--by", "ana")
            assert done.exit_code == 0, done.output
        assert made(world)[0] == (kind, "ana", "we move")
        world.clock.sleep(1)
    assert len(made(world)) == 2


def test_who_asks_is_whom_git_or_else_the_system_knows(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without `--by`, the address of the caller's own Git is kept, and the system's user where Git has none."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\n\temail = mo@example.org\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("LOGNAME", "operator")
    assert run("hold", POLICY_NAME, "--reason", "the fair").exit_code == 0
    world.clock.sleep(1)
    settings.write_text("", encoding="utf-8")
    assert run("resume", POLICY_NAME, "--reason", "over").exit_code == 0
    assert made(world) == [(ActKind.RESUME, "operator", "over"), (ActKind.HOLD, "mo@example.org", "the fair")]


CHANGES = ("abort", "adopt", "approve", "hold", "resume", "retry", "rollback")


@pytest.mark.parametrize("command", CHANGES)
def test_whoever_decides_says_why(command: str) -> None:
    """Without a reason the command is wrong usage, before anything is asked; the message names the option."""
    version = ["1"] if command in ("adopt", "approve", "retry") else []
    done = run(command, POLICY_NAME, *version)
    assert done.exit_code == 2
    assert "--reason" in done.stderr


def test_what_people_decide_is_a_job_of_the_launchpad_each() -> None:
    """A person with Dagster's page alone can do what the commands do."""
    assert sorted(operation.name for operation in operations) == sorted(CHANGES)


def test_approve(world: World) -> None:
    """The output says what was approved and what is missing still."""
    world.policies[POLICY_NAME] += ASKS
    world.register()
    arguments = ("approve", POLICY_NAME, "1", "--reason", "seen", "--by", "ana@example.org")
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("ana@example.org approved the image sha256:")
    assert "1 of 1 approvals, so that it may be committed." in done.stdout
    assert "has already approved the image" in run(*arguments).stdout
    assert made(world) == [(ActKind.APPROVE, "ana@example.org", "seen")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("hold", POLICY_NAME), 2, "Missing option '--reason'"),
        (("hold", POLICY_NAME, "--reason", " "), 2, "expected a reason, found an empty text"),
        (("approve", POLICY_NAME, "v1", "--reason", "x"), 2, "expected a number such as 7, found 'v1'"),
        (("hold", POLICY_NAME, "--reason", "x", "--by", "ana"), 4, "Git repository: expected an answer"),
        (("approve", POLICY_NAME, "1", "--reason", "x", "--by", "eve"), 3, "expected the field approval"),
    ],
)
def test_exit_codes(world: World, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Wrong usage is 2, a refusal 3, and a server that does not answer 4, each with one line that says why."""
    world.register()
    world.git.down = "no answer"
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["hold", "resume", "approve"])
def test_help_has_an_example_and_the_exit_codes(command: str) -> None:
    """A person finds out how to use it without the documentation."""
    shown = run(command, "--help").output
    assert f"incumbent {command} iris-classifier-edge" in shown
    assert "Exit code:" in shown


def launch(world: World, job: str, config: Mapping[str, object]) -> tuple[bool, str]:
    """Start a job from the launchpad: whether it succeeded, and what it says."""
    (definition,) = [operation for operation in operations if operation.name == job]
    with dg.DagsterInstance.ephemeral() as instance:
        result = definition.execute_in_process(
            run_config={"ops": {f"do_{job}": {"config": dict(config)}}},
            resources={"platform": WorldPlatform(world)},
            instance=instance,
            raise_on_error=False,
        )
        for event in result.all_events:
            if event.event_type_value == "STEP_OUTPUT":
                return result.success, str(event.step_output_data.metadata["done"].value)
            if event.event_type_value == "STEP_FAILURE":
                failed = event.step_failure_data.user_failure_data
                assert failed is not None, event.step_failure_data.error
                return result.success, failed.description or ""
    raise AssertionError("a run ends one way or the other")


def test_the_jobs_do_what_the_commands_do(world: World) -> None:
    """Each says what it did as its output's metadata."""
    world.policies[POLICY_NAME] += ASKS
    world.register()
    told = {"policy": POLICY_NAME, "reason": "we move", "by": "ana@example.org"}
    for job, begins in (("hold", "iris-edge is held"), ("resume", "iris-edge is resumed")):
        succeeded, said = launch(world, job, told)
        assert succeeded
        assert said.startswith(begins)
        world.clock.sleep(1)
    succeeded, said = launch(world, "approve", {**told, "version": 1})
    assert succeeded
    assert said.startswith("ana@example.org approved the image")
    assert [kind for kind, _, _ in made(world)] == [ActKind.APPROVE, ActKind.RESUME, ActKind.HOLD]


def test_a_job_that_is_refused_fails_with_the_reason(world: World) -> None:
    """An unknown policy, an empty reason, and a version that there is not: each is a problem with a next step."""
    told = {"policy": POLICY_NAME, "reason": "we move", "by": "ana@example.org"}
    for job, config, said in (
        ("hold", {**told, "reason": " "}, "reason: expected a text, found an empty one"),
        ("approve", {**told, "version": 1}, "expected the field approval"),
        ("approve", {**told, "version": 0}, "version: "),
    ):
        succeeded, found = launch(world, job, config)
        assert not succeeded
        assert said in found
    assert made(world) == []


@pytest.mark.parametrize("job", ["hold", "resume", "approve"])
def test_the_launchpad_asks_for_every_field(world: World, job: str) -> None:
    """Policy, reason and name are required, and a version where it matters, so that nothing is done by default."""
    told: dict[str, object] = {"policy": POLICY_NAME, "reason": "we move", "by": "ana"}
    if job == "approve":
        told["version"] = 1
    for missing in told:
        with pytest.raises(dg.DagsterInvalidConfigError, match=missing):
            launch(world, job, {name: value for name, value in told.items() if name != missing})
    assert made(world) == []
