"""`incumbent plan`, `doctor` and `init` as commands: what they print, how they end, and that no file is overwritten."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestration.cli import main
from orchestration.promotion.cluster_status import ApplicationSource
from orchestration.promotion.problems import Problem
from tests.fakes.world import POLICY_NAME, World, WorldPlatform

Run = Callable[..., Result]


@pytest.fixture
def world() -> World:
    """A world whose application says what it reads, with a challenger."""
    world = World()
    world.register()
    assert world.argocd.status is not None
    source = ApplicationSource("https://git.example/acme/gitops", "main", "apps")
    deployed = (("Deployment", "ml-apps", "iris"),)
    world.argocd.status = replace(world.argocd.status, source=source, destination="edge", resources=deployed)
    pods = {pod.name: 1.0 for pod in world.cluster.status.pods} if world.cluster.status else {}
    world.metrics.script |= {"up{": pods, "time()": world.clock.now()}
    return world


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command on the world, on a wide terminal, with an empty policies folder."""
    platform = WorldPlatform(world)
    platform.policies_path = tmp_path  # type: ignore[attr-defined]
    monkeypatch.setattr("orchestration.cli.planning.platform_of_environment", lambda: platform)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_plan_is_a_table_and_ends_with_what_would_happen(run: Run) -> None:
    """The checks, the commit with its diff, the way back and the queries are all there, and no colours in a pipe."""
    result = run("plan", POLICY_NAME)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == "Version 1 of iris would be promoted."
    assert (
        "  passed     quality                1 metric(s) keep their bounds; no champion yet: thresholds alone" in lines
    )
    assert "  Promote iris-edge to version 1" in lines
    assert "  -          image: ghcr.io/acme/iris:before" in lines
    assert "  ghcr.io/acme/iris:before (the image before, unverified)" in lines
    assert "  success_ratio (real|replayed), must be >= 0.99: 1" in lines
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("no_color", ["", "1"])
@pytest.mark.usefixtures("run")
def test_colours_are_left_out_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    """NO_COLOR counts at a terminal, too, if it is not empty (https://no-color.org)."""
    monkeypatch.setenv("NO_COLOR", no_color)
    shown = CliRunner().invoke(main, ["plan", POLICY_NAME], color=True).stdout
    assert ("\x1b" in shown) is not bool(no_color)


def test_a_plan_that_stops_short_has_its_own_exit_codes(run: Run, world: World) -> None:
    """3 when it would be refused or would wait, 4 when a dependency does not answer; the table is there in any case."""
    world.register(accuracy=0.1)
    result = run("plan", POLICY_NAME)
    assert result.exit_code == 3
    assert result.stdout.splitlines()[-1] == "Version 2 of iris would not be promoted."
    assert "Train a better model and register it as a new version." in result.stdout
    world.register(publish=False)
    result = run("plan", POLICY_NAME)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (3, "Version 3 of iris would wait.")
    world.metrics.down = Problem("Prometheus", "an answer", "none", "Start it.")
    result = run("plan", POLICY_NAME)
    assert result.exit_code == 4
    assert "It is not known whether version 3 of iris would be promoted" in result.stdout
    assert run("plan", POLICY_NAME, 2).exit_code == 3, "it is refused, whatever Prometheus would say"
    world.registry.down = True
    result = run("plan", POLICY_NAME, 1)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("the model registry: expected an answer")


def test_a_plan_of_another_version_ends_with_what_the_alias_would_do(run: Run, world: World) -> None:
    """It notes that the alias is elsewhere, and the exit code and the last line are those of the version itself."""
    world.register(accuracy=0.1)
    result = run("plan", POLICY_NAME, 1)
    lines = result.stdout.splitlines()
    (note,) = (number for number, line in enumerate(lines) if line.startswith("  note       is_challenger "))
    assert "alias challenger names version 2" in lines[note]
    assert lines[note + 1].strip() == "To set it: incumbent register iris-edge 1."
    assert (result.exit_code, lines[-1]) == (0, "Version 1 of iris would be promoted if alias challenger named it.")
    world.register()
    result = run("plan", POLICY_NAME, 2)
    last = "Version 2 of iris would not be promoted if alias challenger named it."
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (3, last)
    assert json.loads(run("plan", POLICY_NAME, 2, "--json").stdout)["as_if_challenger"] is True
    world.git.down = "no route"
    assert "would be promoted if alias challenger named it: a dependency did" in run("plan", POLICY_NAME, 1).stdout


def test_a_plan_as_json(run: Run) -> None:
    """A program reads the same from one document."""
    document = json.loads(run("plan", POLICY_NAME, "--json").stdout)
    assert (document["would_promote"], document["as_if_challenger"]) == (True, False)
    assert {check["outlook"] for check in document["checks"]} == {"passed"}
    assert document["commit"]["trailers"]["Promotion-Id"].startswith("iris-edge/1/")
    assert {query["name"] for query in document["queries"]} == {"requests", "success_ratio", "restarts"}


def test_a_doctor_says_what_is_wrong_and_how_to_put_it_right(run: Run, world: World) -> None:
    """0 when nothing is wrong, and 3 for a red line, which has its fix below it."""
    result = run("doctor", POLICY_NAME)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    world.argocd.status = None
    result = run("doctor")
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    red = next(number for number, line in enumerate(lines) if line.startswith("  failed"))
    assert "Application argocd/iris: expected the application that the policy names" in lines[red]
    assert "kubectl -n argocd get applications" in lines[red + 1]
    assert run("doctor", "nope").exit_code == 3


def test_a_doctor_whom_nobody_answers_ends_otherwise(run: Run, world: World) -> None:
    """It may help to ask again later, unless something else is wrong, too."""
    world.git.down = "no route"
    assert run("doctor").exit_code == 4
    world.argocd.status = None
    assert run("doctor").exit_code == 3


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_plan_and_doctor_keep_to_the_terminal(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Every line fits, but for what is shown as it is (the diff, the queries), and no word or next step is lost."""
    world.register(accuracy=0.1)
    world.argocd.status = None
    for command in ("plan", "doctor"):
        monkeypatch.setenv("COLUMNS", "1000")
        wide = run(command, POLICY_NAME).stdout
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = run(command, POLICY_NAME).stdout.splitlines()
        assert "".join("".join(lines).split()) == "".join(wide.split())
        as_it_is = re.compile(r"  [-+@ ]|      \S+[{(]")
        assert [line for line in lines if len(line) > columns and not as_it_is.match(line)] == []


def test_a_doctor_as_json(run: Run) -> None:
    """One row for each probe, with its outcome, finding and fix."""
    rows = json.loads(run("doctor", "--json").stdout)
    assert all(row.keys() == {"area", "name", "outcome", "finding", "fix", "unanswered"} for row in rows)
    assert {"ok", "not known"} >= {row["outcome"] for row in rows}


def test_init_writes_a_file_once(run: Run, tmp_path: Path) -> None:
    """What is left open is said on standard error; a second time the file is kept, and nothing is asked."""
    arguments = ("init", "iris", "--application", "argocd/iris", "--policy", "iris-new")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    file = tmp_path / "iris-new.yaml"
    assert f"wrote {file}; " in result.stdout
    assert "TODO service: " in result.stderr
    file.write_text("mine")
    result = run(*arguments)
    assert (result.exit_code, file.read_text()) == (3, "mine")
    assert "a file, which is kept" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--application", "iris"), 2, "NAMESPACE/NAME"),
        (("--application", "argocd/../iris"), 2, "NAMESPACE/NAME"),
        ((), 2, "--application"),
        (("--application", "argocd/nope"), 3, "no such application"),
        (("--application", "argocd/iris", "--policy", "Iris!"), 3, "lower-case letters"),
        (("--application", "argocd/iris", "--output", "/nowhere/at/all.yaml"), 3, "no such folder"),
    ],
)
def test_init_refuses_what_it_cannot_use(run: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    """A person's mistake is one line with the next step, and no file is written."""
    result = run("init", "iris", *arguments)
    assert (result.exit_code, said in result.stderr) == (code, True), result.output
    assert "Traceback" not in result.output
