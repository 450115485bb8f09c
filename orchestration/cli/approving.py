"""`incumbent approve`: letting a version be committed where the policy asks for approval."""

import click

from orchestration.cli.run import Version, platform_of_environment, policy_argument, problems, reason_options, say


@click.command(short_help="Approve a version where its policy asks for it.")
@policy_argument
@click.argument("version", type=Version())
@reason_options
@click.option(
    "--sign", "key", metavar="KEY", help="Sign with an OpenSSH private key (its file) or a key of GnuPG (its id)."
)
def approve(policy_name: str, version: int, by: str, reason: str, key: str | None) -> None:
    """Approve VERSION under POLICY: the image that it has now, by digest, may be committed; or its address.

    An image that is pushed again under the same tag needs another approval. Who may approve, how many must, and whether
    they sign is the policy's field `approval`.

    \b
    Examples:
      incumbent approve iris-classifier-edge 7 --reason 'evaluated on the March data'
      incumbent approve iris-classifier-edge 7 --reason 'as measured in March' --sign ~/.ssh/key

    \b
    Exit code:
      0  approved, now or before
      2  wrong usage
      3  refused (the policy asks for none, yours does not count, or there is no image)
      4  a dependency did not answer
    """
    with problems():
        from orchestration.adapters.signing import signing_with
        from orchestration.commands.approving import approve_version

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        ports = platform.registry(), platform.images(), platform.git(policy), platform.clock()
        say(approve_version(*ports, policy, version, by, reason, signing_with(key) if key is not None else None))
