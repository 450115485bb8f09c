"""`python -m testbeds.homelab`: two k3d clusters with Argo CD, MLflow, Prometheus and a model, on this machine."""

import argparse
import signal
import sys

from orchestration.promotion.problems import ProblemError
from testbeds.common.processes import die_with_parent
from testbeds.homelab import alerts, settings
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.host import beside
from testbeds.homelab.supply import find_supply
from testbeds.homelab.waiting import applications

_INTERRUPTED = 130


def main() -> int:
    options = _arguments()
    # SIGINT too: a background job of a shell inherits it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return int(options.run())
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return int(options.interrupted)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testbeds.homelab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, interrupted, description in (
        (
            "build",
            build,
            _INTERRUPTED,
            "build what a start needs, without starting anything; half an hour where nothing is cached",
        ),
        (
            "up",
            up,
            _INTERRUPTED,
            "start the homelab unless it is running; it keeps running when the command has ended",
        ),
        ("down", down, _INTERRUPTED, "end the homelab, and leave no container, process, mount or network behind"),
        ("ui", ui, 0, "run Dagster on the homelab, sensor on, and a client that uses the model, until Ctrl-C"),
        (
            "status",
            status,
            _INTERRUPTED,
            "show applications, nodes and addresses; exit code 1 unless all applications are well",
        ),
    ):
        command = commands.add_parser(name, help=description, description=description)
        command.set_defaults(run=run, interrupted=interrupted)
    return parser.parse_args()


def build() -> int:
    find_supply().build(_say)
    return 0


def up() -> int:
    _describe(Homelab.up(_say))
    print("\nNext: `make homelab-ui` for Dagster on it, `make homelab-down` to end it.", flush=True)
    return 0


def down() -> int:
    Homelab.down(_say)
    return 0


def ui() -> int:

    die_with_parent()
    homelab = Homelab.open()
    print("starting Dagster beside the homelab; this takes about a minute", flush=True)
    with beside(homelab) as (processes, dagster):
        environment = HomelabEnvironment(homelab, processes, dagster)
        environment.start_client()  # without real requests a version that is bad only for them would pass
        environment.start_dagster()
        _describe(homelab, ("Dagster", dagster.url), ("its metrics", settings.EXPORTER_URL))
        print(
            "\nIn MLflow, give a version of iris-classifier the alias challenger; watch its row in Dagster's assets."
            "\nCtrl-C ends Dagster and the client; the homelab stays.",
            flush=True,
        )
        signal.pause()
    return 0


def status() -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `status | head` ends quietly, as other programs do
    homelab = Homelab.open()
    all_applications = applications(homelab.gcp)
    rows = [("application", "sync", "health", "revision")]
    rows += [(each.name, each.sync, each.health, each.revision[:8]) for each in all_applications]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for application in all_applications:
        for condition in application.conditions:
            print(f"  {application.name}: {condition}")
    for cluster in (homelab.gcp, homelab.edge):
        print(f"\n{cluster.context}\n{cluster.run('get', 'nodes', '--output=wide')}", end="")
    print()
    _describe(homelab)
    return 0 if all_applications and all(each.well for each in all_applications) else 1


def _describe(homelab: Homelab, *more: tuple[str, str | None]) -> None:
    """Print the addresses of everything that runs."""
    for name, place in (
        *more,
        ("MLflow", homelab.mlflow_url),
        ("Prometheus", homelab.prometheus_url),
        ("Alertmanager", homelab.alertmanager_url),
        ("alerts", str(alerts.log_file(homelab.state))),
        ("model", homelab.service_url),
        ("Git", homelab.git_url),
        ("kubectl", f"KUBECONFIG={homelab.admin_kubeconfig} kubectl --context gcp (or edge)"),
    ):
        print(f"  {name:12} {place}", flush=True)


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
