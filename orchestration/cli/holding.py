"""`incumbent hold` and `incumbent resume`: whether a policy commits anything new."""

import click

from orchestration.cli.run import platform_of_environment, policy_argument, problems, reason_options, say


@click.command(short_help="Keep a policy from committing anything new.")
@policy_argument
@reason_options
def hold(policy_name: str, by: str, reason: str) -> None:
    """Hold POLICY: no version is committed under it until it is resumed.

    What is committed already is finished, and a rollback is always allowed. A version that becomes challenger meanwhile
    waits, and its page says for what. Only the GitOps repository is needed, and no Dagster.

    \b
    Example:
      incumbent hold iris-classifier-edge --reason 'the cluster moves on Thursday'

    \b
    Exit code:
      0  held, now or before
      2  wrong usage
      3  refused (no such policy); the reason is on standard error
      4  the GitOps repository did not answer
    """
    with problems():
        from orchestration.commands.holding import hold_policy

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        say(hold_policy(platform.git(policy), platform.clock(), policy, by, reason))


@click.command(short_help="Let a held policy go on.")
@policy_argument
@reason_options
def resume(policy_name: str, by: str, reason: str) -> None:
    """Let POLICY go on after `incumbent hold`.

    Where a sensor runs, what waited goes on by itself. Elsewhere, materialize its partition again.

    \b
    Example:
      incumbent resume iris-classifier-edge --reason 'the cluster has moved'

    \b
    Exit code:
      0  resumed, or not held
      2  wrong usage
      3  refused (no such policy); the reason is on standard error
      4  the GitOps repository did not answer
    """
    with problems():
        from orchestration.commands.holding import resume_policy

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        say(resume_policy(platform.git(policy), platform.clock(), policy, by, reason))
