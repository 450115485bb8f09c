"""The command `incumbent`: arguments, help and output; `orchestration.commands` does what the commands say.

Heavy imports stay inside the functions, so that `--help` answers at once.
"""

import click

from orchestration.cli.analyzing import analyze_alert, analyze_drift
from orchestration.cli.approving import approve
from orchestration.cli.checking import check_server
from orchestration.cli.companion import alerts, companion, register_webhook, serve
from orchestration.cli.evaluating import evaluate
from orchestration.cli.holding import hold, resume
from orchestration.cli.manifests import set_image, set_model_uri
from orchestration.cli.notifying import notify, notify_test
from orchestration.cli.planning import doctor, init, plan
from orchestration.cli.recording import record
from orchestration.cli.requests import register, retry
from orchestration.cli.rules import rules
from orchestration.cli.serving import abort, adopt, rollback
from orchestration.cli.showing import history, status, verify

_SECTIONS = {
    "Look, and change nothing": (status, history, verify, plan, doctor),
    "Prepare": (init, check_server, record, set_image, set_model_uri),
    "Promote": (register, retry, approve, hold, resume),
    "Change what serves": (rollback, abort, adopt),
    "Watch what serves": (serve, companion, register_webhook, rules, evaluate),
    "Tell people": (notify, notify_test, alerts, analyze_alert, analyze_drift),
}


class _Commands(click.Group):
    """Lists its commands by what people want to do, in that order."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list for each section."""
        longest = max(len(name) for name in self.commands)
        for section, commands in _SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(str(each.name).ljust(longest), each.get_short_help_str(80)) for each in commands])


@click.group(
    cls=_Commands,
    commands=[command for commands in _SECTIONS.values() for command in commands],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="incumbent", message="%(prog)s %(version)s")
def main() -> None:
    """Promote MLflow models through Git and Argo CD, and keep the incumbent until its challenger has proved healthy.

    The environment says where everything is; `incumbent doctor` tells what is missing. Every command has --help with
    an example.
    """
