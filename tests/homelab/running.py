"""The homelab that the tests run on."""

from collections.abc import Iterator
from contextlib import contextmanager

from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.host import beside


@contextmanager
def running_homelab(*, keep: bool) -> Iterator[HomelabEnvironment]:
    """A homelab in which nothing is promoted yet, gone afterwards; to `keep` means to use the one that runs, as it is.

    Raises:
        ProblemError: it does not come up, or none runs that could be kept.
    """
    if not keep:
        Homelab.down(print)
    homelab = Homelab.open() if keep else Homelab.up(print)
    try:
        with beside(homelab) as (processes, dagster):
            yield HomelabEnvironment(homelab, processes, dagster)
    finally:
        if not keep:
            Homelab.down(print)
