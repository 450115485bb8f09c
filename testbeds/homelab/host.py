"""What runs beside the homelab as processes of this machine: Dagster, the exporter, and the client of the model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbeds.common.dagster import Dagster
from testbeds.common.processes import Processes, await_end, wait_until
from testbeds.common.services import answers, free_ports
from testbeds.common.state import lock
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import settings
from testbeds.homelab.homelab import Homelab

_SECONDS = 120.0


@contextmanager
def beside(homelab: Homelab) -> Iterator[tuple[Processes, Dagster]]:
    """Yield a Dagster whose databases are laid out, and its processes; all of them end with the block.

    `incumbent companion` runs from the beginning, where Prometheus looks for it.

    Raises:
        ProblemError: another process has a Dagster beside this homelab; two would promote the same versions.
    """
    folder = homelab.state / "host"
    with lock(folder, "Dagster beside the homelab", "End that process first: `make homelab-ui`, or tests."):
        processes = Processes(folder)
        try:
            dagster = Dagster(processes, folder / "dagster", *free_ports(2))
            await_end(dagster.lay_out(), _SECONDS, "Dagster's databases are laid out")
            start_companion(processes, homelab)
            yield processes, dagster
        finally:
            processes.stop_all()


def start_companion(processes: Processes, homelab: Homelab) -> None:
    """Start the companion with the pipeline's accounts and a mirror of its own, for whose lock no promotion waits."""
    own = {"INCUMBENT_STATE": str(homelab.state / "host" / "companion")}
    listen = f"--listen={settings.ADDRESS}:{settings.EXPORTER_PORT}"
    command = (Path(sys.executable).parent / "incumbent", "companion", listen)
    service = processes.start("companion", command, {**homelab.environment(), **own}, cwd=CHECKOUT)
    wait_until(lambda: answers(settings.EXPORTER_URL), _SECONDS, "the companion answers", service)
