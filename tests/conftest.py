"""Which tests run, and on which testbed the stories play.

Without options pytest runs what `make test` runs; with paths, everything in them; `--target` selects another of the
Makefile's targets (see `tests/targets.py`). `--testbed homelab` plays the stories on the homelab instead of the sandbox
and collects `tests/homelab`, which concerns the homelab alone. Its tests fail when no homelab can be started.
"""

import gc
import signal
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.targets import BUILD_SECONDS, PLATFORM, RUN_BY, TEST, TESTS, may_run, target_of
from tests.workers import GroupScheduling, ends_group, put_groups_first

if TYPE_CHECKING:
    from testbeds.homelab.environment import HomelabEnvironment
    from testbeds.sandbox.environment import SandboxEnvironment
    from testbeds.sandbox.sandbox import Sandbox
    from testbeds.story.environment import Environment

_ONLY_HOMELAB = Path(__file__).parent / "homelab"

# The time that it takes to generate or run an example shows how busy the machine is, not how good the code is.
hypothesis.settings.register_profile(
    "incumbent", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("incumbent")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("incumbent")
    group.addoption("--target", choices=tuple(RUN_BY), help="run the tests of this make target")
    group.addoption("--testbed", choices=("sandbox", "homelab"), default="sandbox", help="where the stories play")
    group.addoption(
        "--keep-homelab", action="store_true", help="use the homelab that is running, and leave it running afterwards"
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
    # Background jobs inherit that SIGINT is ignored, and would pass this on to every process that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("testbed") == "homelab" and config.getoption("numprocesses", None):
        raise pytest.UsageError("there is only one homelab, and its tests run in order: run them without -n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the chosen target's tests, sort those on the homelab, and on a worker put groups of tests first.

    On the homelab the story comes first, because nothing may be promoted before it, and its losses and end last. The
    platform's memory is checked after most of the other tests, when it has been used most, and before controllers come
    that are no part of it: with the kinds that they bring, Argo CD takes more.
    """
    targets = {item: target_of(item) for item in items}
    _keep_target(config, items, targets)
    for item in items:
        if targets[item] == PLATFORM:
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))
    if config.getoption("testbed") == "homelab":
        ranks = {
            "test_story.py": 0,
            "test_platform.py": 2,
            "test_timing.py": 2,
            "test_disaster.py": 4,
            "test_lifecycle.py": 4,
        }
        ranks |= dict.fromkeys(
            ("test_argo_rollouts.py", "test_inference_services.py", "test_rollouts.py", "test_kserve.py"), 3
        )
        items.sort(key=lambda item: ranks.get(item.path.name, 1))
    elif any(_ONLY_HOMELAB in item.path.parents for item in items):
        raise pytest.UsageError("tests/homelab needs the homelab: run it with --testbed homelab")
    if hasattr(config, "workerinput"):
        put_groups_first(items)


def pytest_collection_finish() -> None:
    """Spare what was imported and collected, which stays until the end, from the garbage collector's full passes."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> object:
    """End a group's servers with the group: those of a sandbox would take half a core from all the tests after it."""
    if nextitem is not None and hasattr(item.config, "workerinput") and ends_group(item, nextitem):
        # Without a next test, what belongs to the session is torn down.
        return item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    return GroupScheduling(config, log)


def _keep_target(config: pytest.Config, items: list[pytest.Item], targets: Mapping[pytest.Item, str]) -> None:
    target = config.getoption("target")
    if target is None:
        if config.args_source is pytest.Config.ArgsSource.ARGS:
            return
        target = TEST
    config.hook.pytest_deselected(items=[item for item in items if targets[item] not in RUN_BY[target]])
    items[:] = [item for item in items if targets[item] in RUN_BY[target]]


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Iterator["Environment"]:
    """The chosen testbed, with a baseline that serves, a client that sends requests, and Dagster's sensor turned on.

    All tests of a session share it, because starting it takes so long.
    """
    testbed: SandboxEnvironment | HomelabEnvironment = request.getfixturevalue(request.config.getoption("testbed"))
    testbed.start_client()
    testbed.start_dagster()
    yield testbed
    testbed.stop_client()


@pytest.fixture(scope="session")
def sandbox_services(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Sandbox]":
    """The sandbox, in a folder with a space and remains of an earlier sandbox; afterwards no process is left.

    All tests of a session share it. Those of its services run before the story, which changes what is served.
    """
    # Imported here, because most tests need neither testbed.
    from testbeds.common.guardian import marked
    from testbeds.sandbox.sandbox import Sandbox

    state = tmp_path_factory.mktemp("the stories") / "sandbox"
    (state / "git").mkdir(parents=True)
    (state / "models.jsonl").write_text("what a killed sandbox left", encoding="utf-8")
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
