"""`incumbent rollback`, `abort` and `adopt` as commands: exit codes, what they print where, and their help."""

import pytest
from click.testing import CliRunner, Result

from orchestration import environment
from orchestration.cli import main
from orchestration.cli import serving as commands
from orchestration.promotion.decided import Decided
from orchestration.stages.lease import abort_holder, command_holder
from tests.fakes.runs import promote
from tests.fakes.world import POLICY_NAME, World, WorldPlatform

COMMANDS = {"rollback": [POLICY_NAME], "abort": [POLICY_NAME], "adopt": [POLICY_NAME, "1"]}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Versions 1 and 2 were champion, and the commands work on this platform."""
    world = World()
    for number in (1, 2):
        world.register()
        assert promote(world, number, f"run {number}")
    monkeypatch.setattr(commands, "platform_of_environment", lambda: WorldPlatform(world))
    return world


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--reason", "complaints since noon", "--by", "ana@team"])


def test_done_and_done_before_are_0(world: World) -> None:
    """The answer is on standard output, and the progress on standard error."""
    first = run("rollback", POLICY_NAME)
    assert (first.exit_code, first.stdout) == (0, "version 1 serves again, and is the champion of iris-edge.\n")
    assert "committing ghcr.io/acme/iris:v1" in first.stderr
    again = run("rollback", POLICY_NAME, "1")
    assert (again.exit_code, again.stdout) == (0, "version 1 serves and is the champion of iris-edge already.\n")
    nothing = run("abort", POLICY_NAME)
    assert (nothing.exit_code, nothing.stdout) == (0, "nothing to abort: no promotion of iris-edge is under way.\n")
    adopted = run("adopt", POLICY_NAME, "1")
    assert (adopted.exit_code, adopted.stdout) == (0, "version 1 of iris is the champion of iris-edge already.\n")
    assert world.champion == 1


def test_refused_is_3(world: World) -> None:
    """One line on standard error, without a traceback, and nothing changed."""
    for arguments in (("rollback", POLICY_NAME, "9"), ("adopt", POLICY_NAME, "1"), ("adopt", POLICY_NAME, "9")):
        refused = run(*arguments)
        assert refused.exit_code == 3, refused.output
        assert refused.stdout == ""
        assert len(refused.stderr.strip().splitlines()) == 1
    assert len(world.subjects) == 2


@pytest.mark.parametrize(
    ("holder", "who"),
    [
        (command_holder("rollback", "bob@team", "1f2e3d4c"), "a rollback by bob@team at work, with the lease for"),
        (command_holder("adopt", "bob@team", "1f2e3d4c"), "an adoption by bob@team at work, with the lease for"),
        (abort_holder(Decided("bob@team", "wrong data")), "an abort by bob@team (wrong data) at work."),
        ("aa09-4711", "run aa09-4711 at work, with the lease for another 60 s."),
    ],
)
@pytest.mark.parametrize("command", ["rollback", "adopt"])
def test_who_else_is_at_work_is_said(world: World, command: str, holder: str, who: str) -> None:
    """A person is told in words which command or run comes first, and how to go on."""
    world.git.acquire_lease("iris", holder, 60)
    refused = run(command, *COMMANDS[command], *(["1"] if command == "rollback" else []))
    assert refused.exit_code == 3
    assert f"policy {POLICY_NAME}: expected no other promotion under way, found {who}" in refused.stderr
    assert f"incumbent status {POLICY_NAME} shows it." in refused.stderr
    ends_it = f"is ended by: incumbent abort {POLICY_NAME} --reason '...'."
    assert (ends_it in refused.stderr) is not holder.startswith("abort")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_answer_is_4(world: World, command: str) -> None:
    """Git is down: it may help to try again later."""
    world.git.down = "no answer"
    assert run(command, *COMMANDS[command]).exit_code == 4


def test_committed_and_not_finished_is_4(world: World) -> None:
    """The registry is down: the image serves again, and the line says who finishes the rest."""
    world.registry.down = True
    unfinished = run("rollback", POLICY_NAME)
    assert unfinished.exit_code == 4
    assert "the sensor makes it the champion" in unfinished.stderr
    assert world.live_image == world.image(1)


def test_interrupted_is_130(world: World) -> None:
    """Ctrl-C in mid-rollout: the commit stays, the lease is given back, and the line says who goes on."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    world.argocd.on_refresh = lambda _: interrupt()
    interrupted = run("rollback", POLICY_NAME)
    assert interrupted.exit_code == 130
    assert "What is committed is finished by the sensor" in interrupted.stderr
    assert world.subjects[-1] == "Return iris-edge to version 1"
    assert world.git.leases == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reason_is_required(command: str) -> None:
    """Wrong usage names the option."""
    result = CliRunner().invoke(main, [command, *COMMANDS[command]])
    assert result.exit_code == 2
    assert "--reason" in result.stderr
    blank = CliRunner().invoke(main, [command, *COMMANDS[command], "--reason", " "])
    assert blank.exit_code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_the_exit_codes(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no setting, and every exit code is explained."""
    monkeypatch.setattr(environment, "required", None)
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"incumbent {command} iris-classifier-edge" in result.stdout
    codes = result.stdout.partition("Exit code:\n")[2]
    assert [line.split()[0] for line in codes.splitlines()[:5] if line.strip()] == ["0", "2", "3", "4"]
