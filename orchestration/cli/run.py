"""What all commands have in common: how they end, what they print, and the platform that they work on."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from orchestration.cli.tables import escaped, printable, shown

if TYPE_CHECKING:
    from orchestration.environment import EnvironmentPlatform

Command = TypeVar("Command", bound=Callable[..., Any])

UNWRITTEN = 1
"""Exit code when the output could not be written; what the command does was done."""
REFUSED = 3
"""Exit code of a command that refused to act and changed nothing."""
UNANSWERED = 4
"""Exit code when a dependency did not answer; it may help to try again later."""


class Version(click.ParamType[int]):
    """The number of a model version."""

    name = "version"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, or end with a usage error."""
        if not re.fullmatch(r"[1-9][0-9]{0,17}", value):
            self.fail(f"expected a number such as 7, found {value!r}", param, ctx)
        return int(value)


def platform_of_environment() -> "EnvironmentPlatform":
    """Return the platform with its settings read from the environment, without an instance of Dagster."""
    from orchestration.environment import platform_from_environment

    return platform_from_environment()


def require_dagster_home() -> None:
    """Refuse, before anything is changed, a DAGSTER_HOME to which no partition can be added."""
    from orchestration.adapters.paths import path_of
    from orchestration.promotion.problems import InvalidInputError, Problem

    home = os.environ.get("DAGSTER_HOME", "")
    path = path_of(home, "DAGSTER_HOME")
    if not home:
        state = "no value"
    elif not path.is_absolute():
        state = f"the relative path {home}"
    elif not path.is_dir():
        state = f"{home}, which is not a folder" if path.exists() else f"{home}, which does not exist"
    elif not os.access(path, os.W_OK | os.X_OK):
        state = f"{home}, where nothing may be written"
    else:
        return
    expected = "the absolute path of a Dagster instance's folder"
    raise InvalidInputError(Problem("setting DAGSTER_HOME", expected, state, "Correct it; the folder may be empty."))


def add_partition(policy: str, version: int) -> str:
    """Add the version's partition to the instance that DAGSTER_HOME names, and return its key."""
    from dagster import DagsterInstance

    from orchestration.partitions import model_versions
    from orchestration.promotion.identity import partition_key

    key = partition_key(policy, version)
    with DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(model_versions.name or "", [key])
    return key


def policy_argument(command: Command) -> Command:
    """Add the argument POLICY, as `policy_name`."""
    return click.argument("policy_name", metavar="POLICY")(command)


def reason_options(command: Command) -> Command:
    """Add `--reason` and `--by`: every command that changes something says why, and who asked for it."""
    by = click.option(
        "--by",
        metavar="NAME",
        callback=_who,
        help="Who asks for it.  [default: user.email of Git's configuration, or the system user]",
    )
    reason = click.option(
        "--reason", metavar="TEXT", required=True, callback=_says_something, help="Why; kept in Git and on the version."
    )
    return reason(by(command))


def json_option(command: Command) -> Command:
    """Add `--json`, as `as_json`: what the command shows as one JSON document, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print a JSON document, for programs.")(command)


def _says_something(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("expected a reason, found an empty text")
    return " ".join(value.split())


def _who(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    """Return the given name, or else whom Git or the system takes the caller for."""
    import getpass
    import subprocess

    given = " ".join((value or "").split())
    if given:
        return given
    try:
        command = ["git", "config", "user.email"]  # the caller's own Git and settings
        asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
        return asked.stdout.strip() or getpass.getuser()
    except (OSError, KeyError, subprocess.TimeoutExpired):  # no Git, or no name for this user
        return f"user {os.getuid()}"


def print_json(document: object) -> None:
    """Print a value of plain types as JSON."""
    import json

    say(escaped(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)))


@contextmanager
def problems() -> Iterator[None]:
    """Turn a problem into one line on standard error and an exit code; a mistake never shows a traceback."""
    import logging

    from orchestration.promotion.problems import DependencyError, ProblemError

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # libraries' notes on retries and defaults; the problem says what matters
    try:
        yield
    except DependencyError as error:
        _fail(error, UNANSWERED)
    except ProblemError as error:
        _fail(error, REFUSED)
    finally:
        logging.disable(disabled)


def say(text: str) -> None:
    """Print lines of the command's output, without what could steer a terminal: parts of them come from others."""
    say_styled(printable(text))


def say_styled(text: str) -> None:
    """Print lines of the output in colours, unless NO_COLOR is set (https://no-color.org) or nobody sees them.

    Whatever comes from others went through `shown` before.
    """
    with writing():
        click.echo(text, color=False if os.environ.get("NO_COLOR") else None)


def tell(text: str) -> None:
    """Show a person lines beside the command's output, on standard error."""
    click.echo(printable(text), err=True)


def progress(text: str) -> None:
    """Show what is being done to a person at a terminal; a pipe or a log gets the result alone."""
    if _is_watched():
        tell(f"{text} ...")


def count(done: int, of: int) -> None:
    """Show a person at a terminal how far it is, on one line that is then overwritten."""
    if _is_watched():
        line = f"{done} of {of} probes done" if done < of else ""
        click.echo(f"\r{line.ljust(30)}\r", err=True, nl=False)


def _is_watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def writing() -> Iterator[None]:
    """End with a reason, and without a traceback, when standard output cannot be written, as on a full disk."""
    import errno

    from orchestration.promotion.problems import Problem

    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.EPIPE):  # nobody reads any more: click ends without a word
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered would fail again at the end
        reason = error.strerror or type(error).__name__
        problem = Problem("standard output", "a place to write to", reason, "The output is incomplete.")
        tell(str(problem))
        sys.exit(UNWRITTEN)


def _fail(error: Exception, exit_code: int) -> NoReturn:
    tell(shown(error))
    sys.exit(exit_code)
