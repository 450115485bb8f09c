"""What tests of several files share: one API server, which takes seconds to start."""

from collections.abc import Iterator

import pytest

from tests.platform.api_server import ApiServer, running_api_server


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api_server(tmp_path_factory.mktemp("api-server")) as server:
        yield server
