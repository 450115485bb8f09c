"""The commands that write into a checkout, and touch no cluster: `init` and `new-model`."""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.adopt import adopt, changes, with_settings
from bootstrap.new_model import NewModel, scaffold
from bootstrap.owner import CHECKOUT, FILE, parse_owner, read_owner
from bootstrap.places import find_scalar
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.yaml_text import read_stream

_SCP_LIKE = re.compile(r"(?:ssh://)?git@(?P<host>[^:/]+)[:/](?P<path>.+)")
_INIT = f"""Make this checkout yours.

What differs between two owners is in one file, {FILE}: the repository and its branch, where the images are, the
machines' names and addresses, and the storage of the control plane. This command writes the values that you give into
that file, and then into every place that follows from it: Argo CD's applications and projects, the platform's and the
models' manifests, the policies, k3d's files, the workflows and the commands in docs/clusters.md. Only the values
change; comments, order and the versions that promotions committed stay.

On a terminal, it asks for what is not given here. Otherwise, and for what it never asks, the file counts as it is, so
editing {FILE} and running this again does the same. Running it twice changes nothing."""
_NEW_MODEL = f"""Write everything that another model on edge needs.

That is: Deployment, Service, autoscaler and disruption budget in manifests/applications/NAME, its Application, which
root lists, its policy, its scraped service, its alerts, its port of edge, and its line in {FILE}.

The files are those of a model that is there already, with the names replaced; it takes the next free NodePort. Nothing
is overwritten: a name that is taken is refused. Rights, scraping of pods and dashboards need nothing, because they are
for every model of the namespace."""
_NEW_MODEL_EXAMPLES = """Examples:
  python -m bootstrap new-model fraud --image ghcr.io/you/fraud:1.4.0 --registered-model fraud-detection
  python -m bootstrap new-model fraud --image ghcr.io/you/fraud:1.4.0 --like wine-quality

Exit code:
  0  written
  1  refused, with the reason on standard error; nothing was written
  2  wrong usage"""
_EXAMPLES = """Examples:
  python -m bootstrap init
  python -m bootstrap init --repository https://github.com/you/your-fork.git --registry ghcr.io/you \\
      --control-plane-address 100.64.0.1 --edge-address 100.64.0.2
  python -m bootstrap init --check

Exit code:
  0  every place agrees now (with --dry-run: would agree)
  1  refused: a value is wrong, a place has something unknown, or --check found a difference; nothing was written
  2  wrong usage"""


@dataclass(frozen=True)
class Setting:
    """A value that people are asked for."""

    path: str
    """Where it is in the file."""
    question: str
    example: str

    @property
    def option(self) -> str:
        """Its option on the command line."""
        return f"--{self.path.replace('.', '-').replace('_', '-')}"


SETTINGS = (
    Setting("repository", "Your GitOps repository, as Argo CD reads it", "https://github.com/you/your-fork.git"),
    Setting("branch", "The branch that Argo CD follows", "main"),
    Setting("registry", "Where your images are", "ghcr.io/you"),
    Setting("control_plane.host", "The control plane's name in your tailnet", "gcp-control-plane"),
    Setting("control_plane.address", "Its address there (`tailscale ip -4`)", "100.64.0.1"),
    Setting("edge.address", "The edge machine's address there", "100.64.0.2"),
    Setting("storage.class", "The storage class of the control plane", "local-path"),
)


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to the parser of `python -m bootstrap`."""
    command = commands.add_parser(
        "init",
        help=f"make a fork yours: write {FILE}, and every place that follows from it",
        description=_INIT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for setting in SETTINGS:
        command.add_argument(
            setting.option, dest=setting.path, metavar="VALUE", help=f"{setting.question}: {setting.example}"
        )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    how.add_argument("--check", action="store_true", help=f"say which places differ from {FILE}, and write nothing")
    command.set_defaults(run=_init)
    command = commands.add_parser(
        "new-model",
        help="write everything that another model needs",
        description=_NEW_MODEL,
        epilog=_NEW_MODEL_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", metavar="NAME", help="the name of its folder, Deployment, Service and Application")
    command.add_argument("--image", required=True, help="the image that serves first, such as ghcr.io/you/fraud:1.4.0")
    command.add_argument("--registered-model", metavar="MODEL", help="its name in MLflow (default: NAME)")
    command.add_argument("--like", metavar="MODEL", help=f"the model whose files are taken (default: {FILE}'s first)")
    command.set_defaults(run=_new_model)


def _new_model(options: argparse.Namespace) -> Iterable[str]:
    like = options.like or next(iter(read_owner(CHECKOUT).models))
    return scaffold(CHECKOUT, NewModel(options.name, options.image, options.registered_model or options.name, like))


def _init(options: argparse.Namespace) -> Iterable[str]:
    given = {each.path: value for each in SETTINGS if (value := getattr(options, each.path)) is not None}
    if options.check:
        if given:
            problem = Problem("--check", "no values beside it", ", ".join(given), f"It compares with {FILE} as it is.")
            raise InvalidInputError(problem)
        return check(CHECKOUT)
    if not options.dry_run and sys.stdin.isatty():
        given = ask_for_the_rest(CHECKOUT, given, input, print)
    return adopt(CHECKOUT, given, write_it=not options.dry_run)


def check(root: Path) -> Iterator[str]:
    """Say that everything agrees with the settings.

    Raises:
        InvalidInputError: something does not; the problem names each place.
    """
    found = [difference for change in changes(root, read_owner(root)) for difference in change.differences]
    if found:
        lines = "".join(f"\n  {difference}" for difference in found)
        number = f"{len(found)} place{'s that differ' if len(found) > 1 else ' that differs'}:{lines}\n"
        problem = Problem(f"checkout {root}", f"what {FILE} says everywhere", number, "Run `python -m bootstrap init`.")
        raise InvalidInputError(problem)
    yield f"Everything agrees with {FILE}."


def ask_for_the_rest(
    root: Path, given: Mapping[str, str], ask: Callable[[str], str], tell: Callable[[str], None]
) -> dict[str, str]:
    """Ask for every setting that is not given; an empty answer keeps what is proposed, and a wrong one is asked again.

    Args:
        root: The checkout.
        given: Values by their paths.
        ask: Shows a question and returns the answer.
        tell: Shows what is wrong with an answer.
    """
    values = dict(given)
    content = (root / FILE).read_bytes()
    document = read_stream(content).documents[0]
    for setting in SETTINGS:
        now = find_scalar(document, setting.path).value
        proposed = (origin(root) if setting.path == "repository" else None) or now
        while setting.path not in given:
            answer = ask(f"{setting.question} [{proposed}]: ").strip() or proposed
            try:
                parse_owner(with_settings(content, values | {setting.path: answer}).decode("utf-8"))
            except InvalidInputError as error:
                tell(str(error.problem.found))
                continue
            values[setting.path] = answer
            break
    return values


def origin(root: Path) -> str | None:
    """Return the address from which a checkout was cloned, as Argo CD can read it; None when there is none."""
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    done = subprocess.run(command, capture_output=True, text=True)
    address = done.stdout.strip()
    if match := _SCP_LIKE.fullmatch(address):
        return f"https://{match['host']}/{match['path']}"
    return (
        address if done.returncode == 0 and address.startswith(("https://", "http://")) and "@" not in address else None
    )
