"""The command `incumbent`: the arguments, the help and the output of each subcommand.

What the subcommands do is in `orchestration.commands`. Heavy imports stay inside the functions, so that `--help`
answers at once.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from orchestration.resources import EnvironmentPlatform

UNWRITTEN = 1
"""Exit code when the output could not be written; what the command does was done."""
REFUSED = 3
"""Exit code of a command that refused to act and changed nothing."""
UNANSWERED = 4
"""Exit code when a dependency did not answer; it may help to try again later."""


class _Version(click.ParamType[int]):
    """The number of a model version."""

    name = "version"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if not re.fullmatch(r"[1-9][0-9]{0,17}", value):
            self.fail(f"expected a number such as 7, found {value!r}", param, ctx)
        return int(value)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Promote MLflow models through Git and Argo CD, and keep the incumbent until its challenger has proved healthy."""


@main.command("set-image")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.argument("image")
@click.option("--container", metavar="NAME", required=True, help="The container, or init container, to edit.")
@click.option("--kind", metavar="KIND", help="The workload's kind, such as Deployment.  [default: any]")
@click.option("--namespace", metavar="NS", help="The workload's namespace.  [default: any]")
@click.option("--name", metavar="NAME", help="The workload's name.  [default: any]")
@click.option("--from", "expected", metavar="IMAGE", help="Edit only while the file has this image.")
def set_image(
    file: str,
    image: str,
    container: str,
    kind: str | None,
    namespace: str | None,
    name: str | None,
    expected: str | None,
) -> None:
    """Put IMAGE into the manifest FILE, and change no other byte.

    This is the edit that a promotion makes: comments, quotes, indentation and line ends stay as they are. Exactly one
    container must match. Anything that has more than one reading is refused, with file, line and reason, and the file
    stays untouched.

    FILE may have up to 4 MiB, and the document in it that holds the image up to 256 KiB. With FILE "-" the manifest
    is read from standard input and written to standard output, and messages go to standard error. Write -- before a
    name that begins with a dash.

    The file is replaced in one step and keeps its mode and owner. A symbolic link stays one. A file with several hard
    links is refused, because its other names would keep the old content; so is a read-only file.

    \b
    Examples:
      incumbent set-image manifests/applications/iris-classifier/deployment.yaml \\
          ghcr.io/team/model:v7 --container model-server --kind Deployment --name iris-classifier
      kustomize build . | incumbent set-image - ghcr.io/team/model:v7 --container model-server

    \b
    Exit code:
      0  edited, or the image was there already (the output says which)
      1  the output could not be written
      2  wrong usage
      3  refused; the reason is on standard error
    """
    with _problems():
        from orchestration.commands.edit_manifest import edit_file, edit_stream
        from orchestration.promotion.manifest_place import Selector

        selector = Selector("standard input" if file == "-" else file, kind, namespace, name, container)
        if file == "-":
            _require_open_streams()
            with _writing():
                done = edit_stream(sys.stdin.buffer, sys.stdout.buffer, selector, image, expected)
            click.echo(done, err=True)
        else:
            _say(edit_file(Path(file), selector, image, expected))


@main.command(short_help="Make a version the challenger of a policy.")
@click.argument("policy_name", metavar="POLICY")
@click.argument("version", type=_Version())
def register(policy_name: str, version: int) -> None:
    """Make VERSION the challenger of POLICY, and add its partition to this Dagster instance.

    With a running sensor, nothing more is needed: the promotion begins within seconds. Without one, as in CI,
    materialize the partition next. Running it again changes nothing.

    \b
    Example:
      incumbent register iris-classifier-edge 7
      dagster asset materialize -m orchestration.definitions --partition iris-classifier-edge@7 \\
          --select 'group:promotion'

    \b
    Exit code:
      0  registered, now or before
      2  wrong usage
      3  refused (no such version, or its promotion has ended); the reason is on standard error
      4  a dependency did not answer
    """
    with _problems():
        from orchestration.commands.requesting import request_promotion

        platform = _platform()
        policy = platform.policy(policy_name)
        _require_dagster_home()
        request_promotion(platform.registry(), platform.clock(), policy, version)
        key = _add_partition(policy_name, version)
        _say(f"version {version} of {policy.model} is {policy.challenger_alias}; partition {key}")


@main.command(short_help="Try a failed or held version once more.")
@click.argument("policy_name", metavar="POLICY")
@click.argument("version", type=_Version())
@click.option("--reason", required=True, metavar="TEXT", help="Why to try again; kept on the version.")
def retry(policy_name: str, version: int, reason: str) -> None:
    """Try VERSION once more under POLICY, after it was refused, superseded, rolled back or held.

    A version that failed never comes back by itself. This is the only way back, and each attempt is counted.

    \b
    Example:
      incumbent retry iris-classifier-edge 7 --reason 'the node had no memory left'

    \b
    Exit code:
      0  it will be tried again
      2  wrong usage
      3  refused (no such version, or its promotion has not ended); the reason is on standard error
      4  a dependency did not answer
    """
    with _problems():
        from orchestration.commands.requesting import retry_promotion

        platform = _platform()
        policy = platform.policy(policy_name)
        _require_dagster_home()
        attempt = retry_promotion(platform.registry(), platform.git(), platform.clock(), policy, version, reason)
        key = _add_partition(policy_name, version)
        _say(f"version {version} of {policy.model} will be tried again as attempt {attempt}; partition {key}")


@main.command(short_help="Record how a running server of a version answers.")
@click.argument("model")
@click.argument("version", type=_Version())
@click.option("--url", required=True, metavar="URL", help="The prediction address of a running server of that version.")
@click.option(
    "--requests",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON list of request bodies.  [default: the rows of the model's input example]",
)
def record(model: str, version: int, url: str, file: Path | None) -> None:
    """Record how a running server of VERSION of MODEL answers; after a rollout, the new pods must answer the same.

    Each request is sent three times, and fields that differ between the answers, such as times, are left out. The
    recording becomes the artifact incumbent/recorded_requests.json of the version's training run.

    \b
    Examples:
      incumbent record iris-classifier 7 --url http://127.0.0.1:8080/predict
      incumbent record iris-classifier 7 --url http://127.0.0.1:8080/predict --requests requests.json

    \b
    Exit code:
      0  recorded
      2  wrong usage
      3  refused; the reason is on standard error
      4  the server or the registry did not answer
    """
    with _problems():
        from orchestration.adapters.service import HttpService
        from orchestration.commands.recording import record_version

        registry = _platform().registry()
        content = file.read_bytes() if file else None
        _say(record_version(registry, HttpService(), model, version, url, content))


def _address(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise click.BadParameter(f"expected HOST:PORT such as 127.0.0.1:9464 or [::]:9464, found {value!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


@main.command(short_help="Expose metrics of the promotions to Prometheus.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=_address,
    default="127.0.0.1:9464",
    show_default=True,
    help="The address that Prometheus scrapes.",
)
def metrics(listen: tuple[str, int]) -> None:
    """Expose metrics of the promotions to Prometheus, until SIGTERM or Ctrl-C.

    The metrics are computed from Git, the registry and the clusters, never from Dagster, so this may be stopped
    and started again on any machine. It reads everything once and then, every 15 s, only what is new. It writes
    nothing.

    \b
    The metrics say how promotions ended and how long they took, what is held, and what is serving:
      incumbent_promotions_total{end="champion|rolled_back|refused|superseded"}
      incumbent_promotion_stage_duration_seconds{stage="commit|rollout|gate|rollback"}
      incumbent_promotion_lead_time_seconds      incumbent_promotion_restore_seconds
      incumbent_promotions_held                  incumbent_held_since_timestamp_seconds
      incumbent_champion_info                    incumbent_live_info
      incumbent_live_is_champion                 incumbent_champion_has_evidence
      incumbent_last_look_timestamp_seconds      incumbent_look_failures_total

    \b
    Settings:
      MLFLOW_TRACKING_URI, INCUMBENT_GIT_URL, INCUMBENT_KUBECONFIG, as for a promotion; read access is enough
      INCUMBENT_POLICIES, INCUMBENT_GIT_BRANCH, INCUMBENT_GIT_TOKEN_FILE, INCUMBENT_STATE, if not the defaults

    \b
    Example:
      incumbent metrics --listen 0.0.0.0:9464

    \b
    Exit code:
      0  ended by a signal
      2  wrong usage
      3  refused (a setting is missing, or the address is taken); the reason is on standard error
    """
    with _problems():
        from orchestration.exporter.serve import serve
        from orchestration.resources import required

        platform = _platform()
        required("INCUMBENT_KUBECONFIG", platform.kubeconfig)
        platform.policy_names()
        serve(platform, *listen, lambda text: click.echo(text, err=True))


def _require_open_streams() -> None:
    """Refuse to copy a manifest from or to a stream that was closed before the command began (`<&-`, `>&-`)."""
    from orchestration.promotion.problems import InvalidInputError, Problem

    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if stream is None:
            raise InvalidInputError(Problem(name, "an open stream", "a closed one", "Give FILE, or open the stream."))


def _platform() -> "EnvironmentPlatform":
    """Return the platform with its settings read from the environment, as Dagster reads them for a run."""
    from orchestration.resources import EnvironmentPlatform, platform_from_environment

    resolved = platform_from_environment().process_config_and_initialize()
    assert isinstance(resolved, EnvironmentPlatform), "a resource resolves to itself"
    return resolved


def _require_dagster_home() -> None:
    """Refuse, before anything is changed, a DAGSTER_HOME to which no partition can be added."""
    import os

    from orchestration.promotion.problems import InvalidInputError, Problem

    home = os.environ.get("DAGSTER_HOME", "")
    path = Path(home).expanduser()
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


def _add_partition(policy: str, version: int) -> str:
    """Add the version's partition to the instance that DAGSTER_HOME names, and return its key."""
    from dagster import DagsterInstance

    from orchestration.partitions import model_versions
    from orchestration.promotion.identity import partition_key

    key = partition_key(policy, version)
    with DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(model_versions.name or "", [key])
    return key


@contextmanager
def _problems() -> Iterator[None]:
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


def _say(text: str) -> None:
    with _writing():
        click.echo(text)


@contextmanager
def _writing() -> Iterator[None]:
    """End with a reason, and without a traceback, when standard output cannot be written, as on a full disk."""
    import errno
    import os

    from orchestration.promotion.problems import Problem

    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.EPIPE):  # nobody reads any more: click ends without a word
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered would fail again at the end
        reason = error.strerror or type(error).__name__
        problem = Problem("standard output", "a place to write to", reason, "The output is incomplete.")
        click.echo(str(problem), err=True)
        sys.exit(UNWRITTEN)


def _fail(error: Exception, exit_code: int) -> NoReturn:
    click.echo(str(error), err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
