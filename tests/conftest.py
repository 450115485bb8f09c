"""Which testbed the stories are told on: `--testbed sandbox` (the default), or `--testbed homelab`.

`tests/homelab` is about the homelab alone and is collected with it only. A homelab that cannot be had fails its tests.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testbeds.homelab.environment import HomelabEnvironment
    from testbeds.sandbox.environment import SandboxEnvironment
    from testbeds.story.environment import Environment

_ONLY_HOMELAB = Path(__file__).parent / "homelab"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("testbeds")
    group.addoption("--testbed", choices=("sandbox", "homelab"), default="sandbox", help="where stories are told")
    group.addoption(
        "--keep-homelab", action="store_true", help="use the homelab that runs, and leave it running afterwards"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path == _ONLY_HOMELAB and config.getoption("testbed") != "homelab":
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the homelab the story comes first, because nothing may be promoted before it, and the end of it all last.

    The platform's memory is looked at when most has happened to it.
    """
    if config.getoption("testbed") == "homelab":
        places = {"test_story.py": 0, "test_platform.py": 2, "test_timing.py": 2, "test_lifecycle.py": 3}
        items.sort(key=lambda item: places.get(item.path.name, 1))
    elif any(_ONLY_HOMELAB in item.path.parents for item in items):
        raise pytest.UsageError("tests/homelab are about the homelab: run them with --testbed homelab")


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Iterator["Environment"]:
    """The chosen testbed with a baseline that serves, a client that uses it, and Dagster's daemon with the sensor on.

    One for all tests of a session: its start is the dearest part of them.
    """
    chosen: SandboxEnvironment | HomelabEnvironment = request.getfixturevalue(request.config.getoption("testbed"))
    chosen.start_client()
    chosen.start_dagster()
    yield chosen
    chosen.stop_client()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SandboxEnvironment]":
    """A sandbox in which nothing is promoted yet."""
    # Imported here: most tests need neither testbed.
    from testbeds.sandbox.environment import SandboxEnvironment
    from testbeds.sandbox.sandbox import Sandbox

    with Sandbox(tmp_path_factory.mktemp("the stories") / "sandbox") as running:
        yield SandboxEnvironment(running)


@pytest.fixture(scope="session")
def homelab(request: pytest.FixtureRequest) -> "Iterator[HomelabEnvironment]":
    """A homelab in which nothing is promoted yet; with `--keep-homelab` the one that runs, as it is."""
    from tests.homelab.running import running_homelab

    with running_homelab(keep=request.config.getoption("keep_homelab")) as running:
        yield running
