"""`incumbent rules`: alerts for Prometheus, made from the policies."""

import click

from orchestration.cli.run import platform_of_environment, problems, say, tell


@click.command(short_help="Print alert rules for Prometheus, made from the policies.")
def rules() -> None:
    """Print a rule file for Prometheus that watches what each policy's pods do after their promotion.

    The alerts follow the policies' own queries and bounds: how fast the error budget of success_ratio is spent,
    whether another objective about requests is missed, whether any pod is ready, and whether what serves has not been
    the champion for longer than a promotion may take. Run it again whenever a policy has changed; the same policies
    always give the same text.

    \b
    What Prometheus must have:
      the model's metrics, as for the gate
      kube_pod_status_ready of kube-state-metrics, with the policy's cluster as the label cluster
      the metrics of `incumbent companion`
      external_labels: {runbooks: URL}, the address of the page that explains the alerts

    \b
    Settings:
      INCUMBENT_POLICIES, if not the default

    \b
    Example:
      incumbent rules > slos.yml && promtool check rules slos.yml

    \b
    Exit code:
      0  printed
      1  the output could not be written
      2  wrong usage
      3  refused, because a policy cannot be read; the reason is on standard error, and nothing was printed
    """
    with problems():
        from orchestration.promotion.alert_rules import alert_rules

        platform = platform_of_environment()
        policies = [platform.policy(name) for name in platform.policy_names()]
        if not policies:
            tell(f"There are no policies in {platform.policies_folder}, so there are no rules.")
        say(alert_rules(policies).rstrip("\n"))
