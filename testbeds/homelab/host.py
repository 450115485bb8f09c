"""What runs beside the homelab, as processes of this machine: Dagster, and whoever uses the model."""

from collections.abc import Iterator
from contextlib import contextmanager

from testbeds.homelab.homelab import Homelab
from testbeds.sandbox.dagster import Dagster
from testbeds.sandbox.processes import Processes, await_end
from testbeds.sandbox.services import free_ports
from testbeds.sandbox.state import lock

_SECONDS = 120.0


@contextmanager
def beside(homelab: Homelab) -> Iterator[tuple[Processes, Dagster]]:
    """A Dagster whose databases are laid out, and the processes that it belongs to; all of them end with the block.

    Raises:
        ProblemError: another process has a Dagster beside this homelab; two would promote the same versions.
    """
    folder = homelab.state / "host"
    with lock(folder, "Dagster beside the homelab", "End that one first: `make homelab-ui`, or tests."):
        processes = Processes(folder)
        try:
            dagster = Dagster(processes, folder / "dagster", *free_ports(1))
            await_end(dagster.lay_out(), _SECONDS, "Dagster's databases are laid out")
            yield processes, dagster
        finally:
            processes.stop_all()
