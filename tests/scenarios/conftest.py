"""One sandbox for all stories of a test session: its start is the dearest part of them."""

from collections.abc import Iterator

import pytest

from testbeds.sandbox.sandbox import Sandbox
from tests.scenarios.on_sandbox import SandboxEnvironment


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxEnvironment]:
    """A sandbox with a baseline that serves, a client that uses it, and Dagster's daemon with the sensor on."""
    with Sandbox(tmp_path_factory.mktemp("the stories") / "sandbox") as sandbox:
        environment = SandboxEnvironment(sandbox)
        environment.start_client()
        environment.start_dagster()
        yield environment
        environment.stop_client()
