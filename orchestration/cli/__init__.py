"""The command `incumbent`: arguments, help and output; `orchestration.commands` does what the commands say.

Heavy imports stay inside the functions, so that `--help` answers at once.
"""

import click

from orchestration.cli.approving import approve
from orchestration.cli.holding import hold, resume
from orchestration.cli.manifests import set_image
from orchestration.cli.metrics import metrics
from orchestration.cli.notifying import notify_test
from orchestration.cli.planning import doctor, init, plan
from orchestration.cli.recording import record
from orchestration.cli.requests import register, retry
from orchestration.cli.serving import abort, adopt, rollback
from orchestration.cli.showing import history, status, verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Promote MLflow models through Git and Argo CD, and keep the incumbent until its challenger has proved healthy."""


for _command in (
    *(status, history, verify, plan, doctor),
    *(register, retry, rollback, abort, adopt, hold, resume, approve),
    *(init, record, set_image, metrics, notify_test),
):
    main.add_command(_command)
