"""Texts of MLflow, Git and the cluster that try to steer the terminal of whoever reads them (design rule 9)."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from click.testing import CliRunner, Result

from orchestration import cli
from orchestration.cli import approving, holding, main, planning, requests, serving, showing
from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.model_version import policy_tags
from orchestration.promotion.problems import DependencyError, Problem
from tests.fakes.runs import promote
from tests.fakes.world import POLICY_NAME, World, WorldPlatform

MARK = "EVIL"
HOSTILE = f"\x1b]0;title\x07{MARK}\x1b[8m\x9b2J\x00\u202e\x7f\rall is well\x85\n  ok         everything"
"""A title, concealed text, an erased screen, another direction, an overwritten line, and a line of its own."""
DECIDED = ("--reason", "why", "--by", "ana")
MODULES: tuple[ModuleType, ...] = (approving, holding, planning, requests, serving, showing)


def _refused(world: World) -> None:
    _write(world, 2, state="refused", reason=HOSTILE)


def _write(world: World, number: int, **tags: str) -> None:
    world.registry.write_tags(world.registry.versions["iris", number], policy_tags(POLICY_NAME, tags))


def _held(world: World) -> None:
    world.git.record_act(Act(POLICY_NAME, ActKind.HOLD, world.clock.now(), HOSTILE, HOSTILE))


def _silent(world: World) -> None:
    world.git.down = HOSTILE


def _without_registry(world: World) -> None:
    def no_answer(*_: object) -> NoReturn:
        raise DependencyError(Problem("MLflow", "an answer", HOSTILE, "Start it."))

    for name in ("version", "version_by_alias"):
        setattr(world.registry, name, no_answer)


def _without_argocd(world: World) -> None:
    world.argocd.down = Problem("Argo CD", "an answer", HOSTILE, HOSTILE)


def _by_hand(world: World) -> None:
    content = world.git.commits[world.git.head].files["apps/iris.yaml"]
    changed = content.replace(world.live_image.encode(), b"ghcr.io/acme/iris:before")
    world.git.commit(HOSTILE, {"apps/iris.yaml": changed}, None, HOSTILE)
    world.reconcile()


CASES: dict[str, tuple[Callable[[World], None], tuple[str, ...]]] = {
    "status under a hold": (_held, ("status",)),
    "status of a change by hand": (_by_hand, ("status",)),
    "status without Git": (_silent, ("status",)),
    "history": (_held, ("history", POLICY_NAME)),
    "history of a change by hand": (_by_hand, ("history", POLICY_NAME)),
    "verify": (lambda world: _write(world, 1, commit=HOSTILE), ("verify", POLICY_NAME, "1")),
    "plan of a refused version": (_refused, ("plan", POLICY_NAME)),
    "plan under a hold": (_held, ("plan", POLICY_NAME)),
    "plan without Argo CD": (_without_argocd, ("plan", POLICY_NAME)),
    "doctor": (_without_argocd, ("doctor",)),
    "init": (_without_argocd, ("init", "iris", "--application", "argocd/iris", "--output", "/tmp/none.yaml")),
    "register": (_refused, ("register", POLICY_NAME, "2")),
    "retry": (_silent, ("retry", POLICY_NAME, "2", *DECIDED)),
    "rollback": (_silent, ("rollback", POLICY_NAME, *DECIDED)),
    "rollback without the registry": (_without_registry, ("rollback", POLICY_NAME, "1", *DECIDED)),
    "abort": (_silent, ("abort", POLICY_NAME, *DECIDED)),
    "adopt": (_silent, ("adopt", POLICY_NAME, "1", *DECIDED)),
    "hold": (_held, ("hold", POLICY_NAME, *DECIDED)),
    "resume": (_held, ("resume", POLICY_NAME, *DECIDED)),
    "approve": (_silent, ("approve", POLICY_NAME, "1", *DECIDED)),
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """Version 1 is the champion, version 2 the challenger, and the commands work on this platform."""
    world = World()
    world.register()
    assert promote(world, 1, "run")
    world.register()
    platform = WorldPlatform(world)
    world.policies[POLICY_NAME] += "approval: {by: [ana]}"
    for module in MODULES:
        monkeypatch.setattr(module, "platform_of_environment", lambda: platform)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(showing, "_dagster_record", lambda *_: None)
    return world


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("case", CASES)
def test_what_others_wrote_steers_no_terminal(world: World, case: str) -> None:
    """The text is shown, in a line of ours, and nothing of it acts on the terminal or passes for another line."""
    spoil, arguments = CASES[case]
    spoil(world)
    result = run(*arguments)
    assert MARK in result.output
    assert {char for char in result.output if unicodedata.category(char).startswith("C")} <= {"\n"}
    assert not any(line.strip().startswith("ok         everything") for line in result.output.splitlines())


@pytest.mark.parametrize("arguments", [("status",), ("history", POLICY_NAME), ("plan", POLICY_NAME)])
def test_a_document_keeps_the_text_and_is_harmless(world: World, arguments: tuple[str, ...]) -> None:
    """A program reads the text as it was written, and a terminal that is shown the document sees escapes."""
    _held(world)
    result = run(*arguments, "--json")
    assert {char for char in result.stdout if unicodedata.category(char).startswith("C")} <= {"\n"}
    assert any(" ".join(HOSTILE.split()) in text for text in _texts(json.loads(result.stdout)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value


def test_nothing_else_prints() -> None:
    """Commands print by `say` and `tell`, which leave out what steers a terminal; so nothing is forgotten."""
    folder = Path(cli.__file__).parent
    printing = {
        file.name for file in folder.glob("*.py") if re.search(r"\b(click\.s?echo|print)\(", file.read_text("utf-8"))
    }
    assert printing == {"run.py"}
