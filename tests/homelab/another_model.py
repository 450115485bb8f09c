"""The platform's second model, wine-quality, as a lab of its own beside iris-classifier's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from testbeds.common.state import SECOND_POLICY, read_policy
from testbeds.homelab.environment import HomelabEnvironment
from tests.homelab.lab import Lab


@contextmanager
def another_model(lab: Lab) -> Iterator[Lab]:
    """Yield a lab for wine-quality on the same homelab, with a client of its own until the block ends."""
    policy = read_policy(lab.homelab.state / "policies", SECOND_POLICY)
    environment = HomelabEnvironment(
        replace(lab.homelab, policy=policy), lab.environment.processes, lab.environment.dagster
    )
    environment.start_client()
    try:
        yield Lab(environment, lab.client)
    finally:
        environment.stop_client()
