"""`python -m testbeds.sandbox`: run the sandbox."""

import argparse
import signal
import sys
from pathlib import Path

from orchestration.promotion.problems import ProblemError
from testbeds.sandbox.processes import die_with_parent
from testbeds.sandbox.sandbox import Sandbox
from testbeds.sandbox.tools import CHECKOUT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbeds.sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it, print its addresses, and keep it running until Ctrl-C")
    up.add_argument("--state", type=Path, default=CHECKOUT / ".state" / "sandbox", help="folder for all that it keeps")
    up.add_argument("--dagster", action="store_true", help="with Dagster's daemon and pages")
    options = parser.parse_args()
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Sandbox(options.state) as sandbox:
            if options.dagster:
                sandbox.start_dagster()
            describe(sandbox)
            signal.pause()
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


def describe(sandbox: Sandbox) -> None:
    """Print where everything is, and the settings with which the pipeline is run against it."""
    for name, url in (
        ("model", sandbox.service_url),
        ("MLflow", sandbox.mlflow_url),
        ("Prometheus", sandbox.prometheus_url),
        ("Dagster", sandbox.dagster_url),
    ):
        if url:
            print(f"{name + ':':12} {url}")
    print(f"{'logs:':12} {sandbox.state / 'logs'}")
    for name, value in sandbox.environment().items():
        print(f"export {name}='{value}'", flush=True)


if __name__ == "__main__":
    sys.exit(main())
