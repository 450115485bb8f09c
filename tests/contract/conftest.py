"""One place that all contract tests share, with its two Applications deployed and `steady` serving."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import content
from tests.contract.place import PODS, Place

_ONLY_REAL = ("test_argo_rollouts.py", "test_dry_runs.py", "test_inference_services.py")
"""The files about kinds, and calls, that the sandbox's cluster does not know."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name in _ONLY_REAL and config.getoption("testbed") != "homelab" else None


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Open the place on the testbed that `--testbed` names, with everything that the tests look at deployed."""
    folder = tmp_path_factory.mktemp("contract")
    if request.config.getoption("testbed") == "homelab":
        from tests.contract.on_homelab import contract_place

        opened = contract_place(folder, request.getfixturevalue("homelab").homelab)
    else:
        from tests.contract.on_sandbox import contract_place as sandbox_place

        opened = sandbox_place(folder)
    with opened as place:
        place.wait("steady serves", lambda: place.rolled_out("steady"))
        place.wait("every pod exists", lambda: len(place.edge.items(PODS)) == content.PODS)
        yield place
