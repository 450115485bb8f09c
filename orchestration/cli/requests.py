"""`incumbent register` and `incumbent retry`: asking for a promotion."""

import click

from orchestration.cli.run import (
    Version,
    add_partition,
    platform_of_environment,
    problems,
    reason_options,
    require_dagster_home,
    say,
)


@click.command(short_help="Make a version the challenger of a policy.")
@click.argument("policy_name", metavar="POLICY")
@click.argument("version", type=Version())
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
      0  registered, now or before; or it is the champion already, and no alias is moved
      2  wrong usage
      3  refused (no such version, or its promotion has ended); standard error says what leads on
      4  a dependency did not answer
    """
    with problems():
        from orchestration.commands.requesting import request_promotion

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        require_dagster_home()
        is_challenger = request_promotion(platform.registry(), platform.clock(), policy, version)
        key = add_partition(policy_name, version)
        what = policy.challenger_alias if is_challenger else f"{policy.champion_alias} already"
        say(f"version {version} of {policy.model} is {what}; partition {key}")


@click.command(short_help="Try a failed or held version once more.")
@click.argument("policy_name", metavar="POLICY")
@click.argument("version", type=Version())
@reason_options
def retry(policy_name: str, version: int, reason: str, by: str) -> None:
    """Try VERSION once more under POLICY, after it was refused, superseded, rolled back or held.

    A version that failed never comes back by itself. This is the only way back, and each attempt is counted. Who
    asked, and why, is kept on the version and in the promotion's commit.

    \b
    Example:
      incumbent retry iris-classifier-edge 7 --reason 'the node had no memory left'

    \b
    Exit code:
      0  it will be tried again
      2  wrong usage
      3  refused (no such version, its promotion has not ended, or it was the champion)
      4  a dependency did not answer
    """
    with problems():
        from orchestration.commands.requesting import retry_promotion

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        require_dagster_home()
        registry, git, clock = platform.registry(), platform.git(policy), platform.clock()
        attempt = retry_promotion(registry, git, clock, policy, version, by=by, reason=reason)
        key = add_partition(policy_name, version)
        say(f"version {version} of {policy.model} will be tried again as attempt {attempt}; partition {key}")
