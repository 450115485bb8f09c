"""The command `incumbent`. Heavy imports stay inside the commands, so that `--help` answers at once."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from orchestration.resources import EnvironmentPlatform

REFUSED = 3
"""Exit code of a command that looked, decided not to act, and changed nothing."""
UNANSWERED = 4
"""Exit code of a command that a dependency did not answer: trying again later may help."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Promote MLflow models through Git and Argo CD, and keep the incumbent until its challenger has proved healthy."""


@main.command("set-image")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("image")
@click.option("--container", metavar="NAME", required=True, help="The container, or init container, to edit.")
@click.option("--kind", metavar="KIND", help="The workload's kind, such as Deployment.  [default: any]")
@click.option("--namespace", metavar="NS", help="The workload's namespace.  [default: any]")
@click.option("--name", metavar="NAME", help="The workload's name.  [default: any]")
@click.option("--from", "expected", metavar="IMAGE", help="Edit only while the file has this image.")
def set_image(
    file: Path,
    image: str,
    container: str,
    kind: str | None,
    namespace: str | None,
    name: str | None,
    expected: str | None,
) -> None:
    """Put IMAGE into the manifest FILE, and change not one other byte.

    This is the edit that a promotion makes: comments, quotes, indentation and line ends stay as they are. Exactly one
    container must match; what is not clear is refused, with file, line and reason, and the file stays untouched.

    \b
    Example:
      incumbent set-image manifests/applications/iris-classifier/deployment.yaml \\
          ghcr.io/team/model:v7 --container model-server --kind Deployment --name iris-classifier

    \b
    Exit code:
      0  edited, or the image was there already (the output says which)
      2  wrong usage
      3  refused; the reason is on stderr
    """
    from orchestration.promotion.manifest import Edited, EditRefused
    from orchestration.promotion.manifest import set_image as edit
    from orchestration.promotion.manifest_place import Selector
    from orchestration.promotion.yaml_text import MAX_BYTES

    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)  # one more than is accepted, so that a huge file is refused unread
        outcome = edit(content, Selector(str(file), kind, namespace, name, container), image, expected=expected)
        if isinstance(outcome, EditRefused):
            _refuse(str(outcome.problem))
        if isinstance(outcome, Edited):
            _replace(file, content, outcome.content)
            click.echo(f"{file}, line {outcome.line}: {outcome.old} -> {image}")
        else:
            click.echo(f"{file}, line {outcome.line}: already {outcome.value}")
    except OSError as error:
        _refuse(f"{file}: expected a file that can be read and replaced, found {error.strerror}. Nothing was changed.")


@main.command()
@click.argument("policy")
@click.argument("version", type=click.IntRange(min=1))
def register(policy: str, version: int) -> None:
    """Make VERSION the challenger of POLICY, and add its partition to this Dagster instance.

    With a running sensor that is all: the promotion begins within seconds. Without one (in CI) materialize next.

    \b
    Example:
      incumbent register iris-classifier-edge 7
      dagster asset materialize -m orchestration.definitions --partition iris-classifier-edge@7 \\
          --select 'group:promotion'

    \b
    Exit code:
      0  registered, or it was so already
      3  refused (no such version, or it has ended before); the reason is on stderr
      4  a dependency does not answer
    """
    with _problems():
        from orchestration.commands.requesting import request_promotion
        from orchestration.resources import platform_from_environment

        platform = _resolved(platform_from_environment())
        found = platform.policy(policy)
        _require_dagster_home()
        request_promotion(platform.registry(), platform.clock(), found, version)
        key = _add_partition(policy, version)
        click.echo(f"version {version} of {found.model} is {found.challenger_alias}; partition {key}")


@main.command()
@click.argument("policy")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--reason", required=True, help="Why it is tried again; kept on the version.")
def retry(policy: str, version: int, reason: str) -> None:
    """Let VERSION be tried once more under POLICY, after it was refused, rejected and rolled back, or held.

    A version that failed never comes back by itself; this is the only way back, and its attempt is counted.

    \b
    Example:
      incumbent retry iris-classifier-edge 7 --reason 'the node had no memory left'

    \b
    Exit code:
      0  it will be tried again
      3  refused (it has not ended); the reason is on stderr
      4  a dependency does not answer
    """
    with _problems():
        from orchestration.commands.requesting import retry_promotion
        from orchestration.resources import platform_from_environment

        platform = _resolved(platform_from_environment())
        found = platform.policy(policy)
        _require_dagster_home()
        attempt = retry_promotion(platform.registry(), platform.git(), platform.clock(), found, version, reason)
        key = _add_partition(policy, version)
        click.echo(f"version {version} of {found.model} will be tried again as attempt {attempt}; partition {key}")


@main.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--url", required=True, metavar="URL", help="A running server of that version: its prediction address.")
@click.option(
    "--requests",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON list of request bodies.  [default: the rows of the model's input example]",
)
def record(model: str, version: int, url: str, file: Path | None) -> None:
    """Record what a running server of VERSION answers, as the requests that it must go on answering.

    Each request is asked three times; fields that differ between the answers, such as times, are left out. The
    recording becomes the artifact incumbent/recorded_requests.json of the version's training run.

    \b
    Example:
      incumbent record iris-classifier 7 --url http://127.0.0.1:8080/predict

    \b
    Exit code:
      0  recorded
      3  refused; the reason is on stderr
      4  the server or the registry does not answer
    """
    with _problems():
        from orchestration.adapters.service import HttpService
        from orchestration.commands.recording import record_answers, recorded_bodies
        from orchestration.promotion.recorded_requests import RECORDING_PATH, dump_recording
        from orchestration.resources import platform_from_environment

        registry = _resolved(platform_from_environment()).registry()
        run_id, bodies = recorded_bodies(registry, model, version, file.read_bytes() if file else None)
        recording = record_answers(HttpService(), url, bodies)
        registry.put_artifact(run_id, RECORDING_PATH, dump_recording(recording))
        click.echo(f"{len(recording.requests)} recorded requests are artifact {RECORDING_PATH} of run {run_id}")


def _address(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise click.BadParameter(f"expected HOST:PORT such as 127.0.0.1:9464 or [::]:9464, found {value!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


@main.command()
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=_address,
    default="127.0.0.1:9464",
    show_default=True,
    help="Where Prometheus asks for them.",
)
def metrics(listen: tuple[str, int]) -> None:
    """Expose metrics of the promotions themselves to Prometheus, until SIGTERM or Ctrl-C.

    They are computed from Git, the registry and the clusters, never from Dagster, so this may be lost and started
    again on any machine: it reads all once, then every 15 s only what is new. It writes nothing.

    \b
    It answers from memory, how promotions ended and how long they took, what is held, and what serves:
      incumbent_promotions_total{end="champion|rolled_back|refused|superseded"}
      incumbent_promotion_stage_duration_seconds{stage="commit|rollout|gate|rollback"}
      incumbent_promotion_lead_time_seconds      incumbent_promotion_restore_seconds
      incumbent_promotions_held                  incumbent_held_since_timestamp_seconds
      incumbent_champion_info                    incumbent_live_info
      incumbent_live_is_champion                 incumbent_champion_has_evidence
      incumbent_last_look_timestamp_seconds      incumbent_look_failures_total

    \b
    Settings:
      MLFLOW_TRACKING_URI, INCUMBENT_GIT_URL, INCUMBENT_KUBECONFIG, as for a promotion; read is enough
      INCUMBENT_POLICIES, INCUMBENT_GIT_BRANCH, INCUMBENT_GIT_TOKEN_FILE, INCUMBENT_STATE, where they differ

    \b
    Example:
      incumbent metrics --listen 0.0.0.0:9464

    \b
    Exit code:
      0  ended by a signal
      2  wrong usage
      3  refused (a setting is missing, or the address is taken); the reason is on stderr
    """
    with _problems():
        from orchestration.exporter.serve import serve
        from orchestration.resources import platform_from_environment, required

        platform = _resolved(platform_from_environment())
        required("INCUMBENT_KUBECONFIG", platform.kubeconfig)
        platform.policy_names()
        serve(platform, *listen, lambda text: click.echo(text, err=True))


def _resolved(platform: "EnvironmentPlatform") -> "EnvironmentPlatform":
    """The platform with its settings read from the environment, as Dagster does it for a run."""
    from orchestration.resources import EnvironmentPlatform

    resolved = platform.process_config_and_initialize()
    assert isinstance(resolved, EnvironmentPlatform), "a resource resolves to itself"
    return resolved


def _require_dagster_home() -> None:
    import os

    from orchestration.promotion.problems import InvalidInputError, Problem

    if not os.environ.get("DAGSTER_HOME"):
        problem = Problem(
            "setting DAGSTER_HOME", "the folder of a Dagster instance", "none", "Set it; it may be empty."
        )
        raise InvalidInputError(problem)


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
    """Turn a problem into one line on stderr and an exit code; nobody sees a traceback for a mistake."""
    import logging

    from orchestration.promotion.problems import DependencyError, ProblemError

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # libraries' notes about retries and defaults; what matters is said by the problem
    try:
        yield
    except DependencyError as error:
        click.echo(str(error), err=True)
        sys.exit(UNANSWERED)
    except ProblemError as error:
        _refuse(str(error))
    finally:
        logging.disable(disabled)


def _replace(file: Path, old: bytes, new: bytes) -> None:
    """Put new content in the place of a file in one step; a reader sees the old file or the new one.

    A symbolic link stays one: the file that it leads to is replaced. Its mode is kept.

    Raises:
        OSError: the folder cannot be written, or the file changed since it was read; nothing was replaced.
    """
    import errno
    import os
    import shutil
    import tempfile

    target = file.resolve(strict=True)
    handle, path = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(new)
            written.flush()
            os.fsync(written.fileno())
        shutil.copymode(target, path)
        if target.read_bytes() != old:
            raise OSError(errno.EAGAIN, "that somebody changed it just now")
        Path(path).replace(target)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def _refuse(reason: str) -> NoReturn:
    click.echo(reason, err=True)
    sys.exit(REFUSED)


if __name__ == "__main__":
    main()
