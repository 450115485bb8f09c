"""`incumbent rollback`, `incumbent abort` and `incumbent adopt`: what people decide about what serves."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from orchestration.cli.run import (
    Version,
    platform_of_environment,
    policy_argument,
    problems,
    reason_options,
    say,
    tell,
)

if TYPE_CHECKING:
    from orchestration.promotion.decided import Decided

_INTERRUPTED = 130
"""Exit code that shells expect after Ctrl-C."""


@click.command(short_help="Go back to a former champion.")
@policy_argument
@click.argument("version", type=Version(), required=False)
@reason_options
def rollback(policy_name: str, version: int | None, reason: str, by: str) -> None:
    """Go back to VERSION, or to the last champion before the one that serves, and make it the champion again.

    One commit puts the image back that was verified, by its digest, or the address. When it is rolled out, each pod
    and the service are asked the version's recorded requests; nothing is soaked again. Then the champion alias moves.
    The version that is left stays the challenger, and is not promoted again by itself.

    Where the policy delivers rollbacks by pull requests, a request is opened for the commit, and the command ends: the
    sensor goes on after its merge, and so does the same command. `incumbent abort` closes the request.

    A hold, a freeze window or a missing approval does not stop it. When the registry does not answer, the image is
    brought back all the same, and the sensor finishes the rest; so it does after Ctrl-C or a crash. A rollout or an
    answer that fails is held, and never taken back by itself.

    \b
    Examples:
      incumbent rollback iris-classifier-edge --reason 'complaints since noon'
      incumbent rollback iris-classifier-edge 7 --reason 'the last one without the new feature'

    \b
    Exit code:
      0  it serves and is the champion, now or before
      2  wrong usage
      3  refused: never verified, no image, or a promotion under way; or an abort ended it
      4  a dependency did not answer, it waits for a merge, or it is held; the reason is on standard error
    """
    with problems(), _interruptible():
        from orchestration.commands.serving import return_to_champion

        platform = platform_of_environment()
        say(return_to_champion(platform, policy_name, version, _decided(by, reason), _run("rollback", by), tell))


@click.command(short_help="End the promotion that is under way.")
@policy_argument
@reason_options
def abort(policy_name: str, reason: str, by: str) -> None:
    """End the promotion of POLICY that is under way, and take its image back if it was committed.

    It may be requested, waiting, committed, held, or held by a person, and a run may be at work on it: that run
    stops writing at once, and ends with the reason. The command returns when the image before serves again. Nothing
    is promoted again by itself; `incumbent retry` tries the version once more. Of a return (`incumbent rollback`)
    that waits for its merge, the request is closed, and what serves stays.

    \b
    Example:
      incumbent abort iris-classifier-edge --reason 'the wrong training data'

    \b
    Exit code:
      0  ended, now or by another abort; or nothing was under way
      2  wrong usage
      3  refused: it was verified already (incumbent rollback leaves it), or another abort is at work
      4  a dependency did not answer, or the image before does not serve yet
    """
    with problems(), _interruptible():
        from orchestration.commands.serving import abort_promotion

        say(abort_promotion(platform_of_environment(), policy_name, _decided(by, reason), tell))


@click.command(short_help="Make the version that serves already the champion.")
@policy_argument
@click.argument("version", type=Version())
@reason_options
def adopt(policy_name: str, version: int, reason: str, by: str) -> None:
    """Make VERSION the champion of POLICY without a commit or a rollout, because it serves already.

    The manifest must have the version's image (or its address), each pod must run it, and its recorded requests, if
    it has any, must be answered as they were recorded. A rollback counts it as a verified champion from then on.

    \b
    Example:
      incumbent adopt iris-classifier-edge 3 --reason 'served since last year'

    \b
    Exit code:
      0  adopted, now or before
      2  wrong usage
      3  refused: it does not serve, it answers wrong, or a promotion is under way
      4  a dependency did not answer
    """
    with problems(), _interruptible():
        from orchestration.commands.serving import adopt_version

        platform = platform_of_environment()
        say(adopt_version(platform, policy_name, version, _decided(by, reason), _run("adopt", by), tell))


def _decided(by: str, reason: str) -> "Decided":
    from orchestration.promotion.decided import Decided

    return Decided(by, reason)


def _run(command: str, by: str) -> str:
    """Name this run as the holder of a lease, which no other run may share."""
    import uuid

    from orchestration.stages.lease import command_holder

    return command_holder(command, by, uuid.uuid4().hex[:8])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Say after Ctrl-C what becomes of what was begun."""
    try:
        yield
    except KeyboardInterrupt:
        tell("Interrupted. What is committed is finished by the sensor, or by the same command.")
        sys.exit(_INTERRUPTED)
