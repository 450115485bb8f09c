"""What most tests of the assets begin with: a world of fakes, and a Dagster instance that nobody else uses."""

from collections.abc import Iterator

import dagster as dg
import pytest

from tests.fakes.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
