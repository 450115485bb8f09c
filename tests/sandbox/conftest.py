"""What several tests of the sandbox's parts share."""

from collections.abc import Iterator

import pytest

from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import answers, free_ports
from testbeds.sandbox.services import start_registry


@pytest.fixture(scope="module")
def registry_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real OCI registry."""
    state = tmp_path_factory.mktemp("registry")
    processes = Processes(state)
    (port,) = free_ports(1)
    service = start_registry(processes, state, port)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/v2/"), 60, "the registry answers", service)
    yield url
    processes.stop_all()
