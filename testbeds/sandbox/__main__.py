"""`python -m testbeds.sandbox`: the whole platform on one machine, to watch or to work with."""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from orchestration.promotion.problems import ProblemError
from testbeds.common.processes import die_with_parent
from testbeds.common.tools import CHECKOUT
from testbeds.sandbox.demo import demo as tell_story
from testbeds.sandbox.environment import SandboxEnvironment
from testbeds.sandbox.sandbox import Sandbox
from testbeds.story.stories import StoryStuckError

_INTERRUPTED = 130
"""The exit code of a demo that Ctrl-C ended, as shells define it; commands that run until Ctrl-C exit with 0."""


def main() -> int:
    options = _arguments()
    die_with_parent()
    # SIGINT too: a background job of a shell inherits it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return int(options.run(options))
    except (ProblemError, StoryStuckError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; everything that was started has ended", file=sys.stderr)
        return int(options.interrupted)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testbeds.sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, interrupted, description in (
        ("demo", demo, _INTERRUPTED, "tell the story of five versions, show its outcome, and end"),
        ("ui", ui, 0, "keep the sandbox and Dagster running, sensor on, until Ctrl-C"),
        ("up", up, 0, "keep the sandbox running without Dagster, until Ctrl-C"),
    ):
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument(
            "--state", type=Path, default=CHECKOUT / ".state" / "sandbox", help="folder for everything that it keeps"
        )
        command.set_defaults(run=run, interrupted=interrupted)
    return parser.parse_args()


def demo(options: argparse.Namespace) -> int:
    return tell_story(options.state)


def ui(options: argparse.Namespace) -> int:
    print("starting the sandbox and Dagster; this takes about a minute", flush=True)
    with Sandbox(options.state, reopen=True) as sandbox:
        environment = SandboxEnvironment(sandbox)
        environment.start_client()  # without real requests a version that is bad only for them would pass
        environment.start_dagster()
        describe(sandbox)
        print(
            "\nIn MLflow, give a version of iris-classifier the alias challenger; watch its row in Dagster's assets."
            "\nCtrl-C ends everything.",
            flush=True,
        )
        signal.pause()
    return 0


def up(options: argparse.Namespace) -> int:
    with Sandbox(options.state) as sandbox:
        describe(sandbox)
        signal.pause()
    return 0


def describe(sandbox: Sandbox) -> None:
    """Print the addresses of everything that runs, and how a shell gets the settings for the command line."""
    for name, url in (
        ("Dagster", sandbox.dagster.url),
        ("MLflow", sandbox.mlflow_url),
        ("Prometheus", sandbox.prometheus_url),
        ("model", sandbox.service_url),
    ):
        if url:
            print(f"  {name:12} {url}")
    print(f"  {'logs':12} {sandbox.state / 'logs'}")
    settings = shlex.quote(str(sandbox.settings_file))
    print(f"  {'commands':12} source {settings}   (in another terminal; then: incumbent status)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
