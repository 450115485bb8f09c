"""The homelab that the tests run on."""

from collections.abc import Iterator
from contextlib import contextmanager

from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.host import beside


@contextmanager
def running_homelab(*, keep: bool) -> Iterator[HomelabEnvironment]:
    """Yield a homelab in which nothing has been promoted, and end it afterwards.

    Args:
        keep: use the running homelab as it is, and leave it running.

    Raises:
        ProblemError: the homelab does not come up, or `keep` is set and none is running.
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
