"""Which tests run, and which testbed the stories are told on.

Without options pytest runs what `make test` runs; with paths, everything in them; `--target` picks another of the
Makefile's targets (see `tests/targets.py`). `--testbed homelab` tells the stories on the homelab instead of the sandbox
and collects `tests/homelab`, which is about the homelab alone. A homelab that cannot be had fails its tests.
"""

import signal
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.targets import BUILD_SECONDS, PLATFORM, RUN_BY, TEST, TESTS, may_run, target_of
from tests.workers import GroupScheduling, put_groups_first

if TYPE_CHECKING:
    from testbeds.homelab.environment import HomelabEnvironment
    from testbeds.sandbox.environment import SandboxEnvironment
    from testbeds.sandbox.sandbox import Sandbox
    from testbeds.story.environment import Environment

_ONLY_HOMELAB = Path(__file__).parent / "homelab"

# How long an example takes, and how long it takes to make one, says how busy the machine is and nothing of the code.
hypothesis.settings.register_profile(
    "incumbent", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("incumbent")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("incumbent")
    group.addoption("--target", choices=tuple(RUN_BY), help="run the tests of this make target")
    group.addoption("--testbed", choices=("sandbox", "homelab"), default="sandbox", help="where stories are told")
    group.addoption(
        "--keep-homelab", action="store_true", help="use the homelab that runs, and leave it running afterwards"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path == _ONLY_HOMELAB and config.getoption("testbed") != "homelab":
        return True
    target = config.getoption("target")
    if target is not None and fnmatchcase(collection_path.name, "test_*.py"):
        # What is not imported costs nothing.
        return None if may_run(collection_path.relative_to(TESTS).as_posix(), target) else True
    return None


def pytest_configure(config: pytest.Config) -> None:
    # Background jobs inherit that SIGINT is ignored, and would pass it on to all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("testbed") == "homelab" and config.getoption("numprocesses", None):
        raise pytest.UsageError("there is one homelab, and its tests have an order: run them without -n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the chosen target's tests, put those on the homelab in order, and group those that workers share.

    On the homelab the story comes first, because nothing may be promoted before it, and the end of it all last. The
    platform's memory is looked at when most has happened to it.
    """
    _keep_target(config, items)
    for item in items:
        if target_of(item) == PLATFORM:
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))
    if config.getoption("testbed") == "homelab":
        places = {"test_story.py": 0, "test_platform.py": 2, "test_timing.py": 2, "test_lifecycle.py": 3}
        items.sort(key=lambda item: places.get(item.path.name, 1))
    elif any(_ONLY_HOMELAB in item.path.parents for item in items):
        raise pytest.UsageError("tests/homelab are about the homelab: run them with --testbed homelab")
    if hasattr(config, "workerinput"):
        put_groups_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    return GroupScheduling(config, log)


def _keep_target(config: pytest.Config, items: list[pytest.Item]) -> None:
    target = config.getoption("target")
    if target is None:
        if config.args_source is pytest.Config.ArgsSource.ARGS:
            return
        target = TEST
    kept = [item for item in items if target_of(item) in RUN_BY[target]]
    config.hook.pytest_deselected(items=[item for item in items if target_of(item) not in RUN_BY[target]])
    items[:] = kept


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Iterator["Environment"]:
    """The chosen testbed with a baseline that serves, a client that uses it, and Dagster's daemon with the sensor on.

    All tests of a session share it, because starting it takes longest.
    """
    chosen: SandboxEnvironment | HomelabEnvironment = request.getfixturevalue(request.config.getoption("testbed"))
    chosen.start_client()
    chosen.start_dagster()
    yield chosen
    chosen.stop_client()


@pytest.fixture(scope="session")
def sandbox_services(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Sandbox]":
    """The sandbox, in a folder with a space, with the rest of an earlier one in it; nothing runs on afterwards.

    All tests of a session share it. Those of its services run before the story, which changes what is served.
    """
    # Imported here: most tests need neither testbed.
    from testbeds.common.guardian import marked
    from testbeds.sandbox.sandbox import Sandbox

    state = tmp_path_factory.mktemp("the stories") / "sandbox"
    (state / "git").mkdir(parents=True)
    (state / "models.jsonl").write_text("what a killed one left", encoding="utf-8")
    with Sandbox(state) as running:
        yield running
    assert marked(running.processes.identity) == {}


@pytest.fixture(scope="session")
def sandbox(sandbox_services: "Sandbox") -> "SandboxEnvironment":
    """The sandbox as an environment for stories; nothing is promoted in it yet."""
    from testbeds.sandbox.environment import SandboxEnvironment

    return SandboxEnvironment(sandbox_services)


@pytest.fixture(scope="session")
def homelab(request: pytest.FixtureRequest) -> "Iterator[HomelabEnvironment]":
    """A homelab in which nothing is promoted yet; with `--keep-homelab` the running one, as it is."""
    from tests.homelab.running import running_homelab

    with running_homelab(keep=request.config.getoption("keep_homelab")) as running:
        yield running
