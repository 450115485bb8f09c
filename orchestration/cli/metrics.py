"""`incumbent metrics`: the exporter."""

import click

from orchestration.cli.run import platform_of_environment, problems


def _address(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise click.BadParameter(f"expected HOST:PORT such as 127.0.0.1:9464 or [::]:9464, found {value!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


@click.command(short_help="Expose metrics of the promotions to Prometheus.")
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
    with problems():
        from orchestration.exporter.serve import serve
        from orchestration.resources import required

        platform = platform_of_environment()
        required("INCUMBENT_KUBECONFIG", platform.kubeconfig)
        platform.policy_names()
        serve(platform, *listen, lambda text: click.echo(text, err=True))
