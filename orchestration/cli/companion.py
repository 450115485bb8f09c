"""`incumbent companion` and `incumbent alerts`: the long-lived process beside the pipeline, and its outbox."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestration.cli.run import json_option, platform_of_environment, print_json, problems, say, tell
from orchestration.cli.tables import table, time_of, width

if TYPE_CHECKING:
    from orchestration.dispatcher.configuration import Configuration
    from orchestration.dispatcher.outbox import Entry

_SHOWN = 1000


def _address(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise click.BadParameter(f"expected HOST:PORT such as 127.0.0.1:9464 or [::]:9464, found {value!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


@click.command(short_help="Serve the promotions' metrics, and pass alerts on.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=_address,
    default="127.0.0.1:9464",
    show_default=True,
    help="The address that Prometheus and Alertmanager use.",
)
@click.option(
    "--promotions/--no-promotions", default=True, show_default=True, help="Whether to serve metrics of the promotions."
)
@click.option(
    "--dispatch",
    "dispatcher",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration of the alert dispatcher; without it, there is none.",
)
def companion(listen: tuple[str, int], promotions: bool, dispatcher: Path | None) -> None:
    """Serve what the pipeline needs beside it, until SIGTERM or Ctrl-C. The options choose the parts.

    Every part answers at one address: /metrics for Prometheus, /live and /ready for probes.

    \b
    Metrics of the promotions are computed from Git, the registry and the clusters, never from Dagster, so
    this may be stopped and started again on any machine. It reads everything once and then, every 15 s, only
    what is new. It writes nothing. They say how promotions ended and how long they took, what is under way or
    held, what is serving, and how good it is:
      incumbent_promotions_total{end="champion|rolled_back|refused|superseded"}
      incumbent_promotion_stage_duration_seconds{stage="commit|rollout|gate|rollback"}
      incumbent_promotion_lead_time_seconds      incumbent_promotion_restore_seconds
      incumbent_promotion_ended_timestamp_seconds{end="...",reason="..."}, the last ten
      incumbent_promotion_under_way_since_timestamp_seconds{state="..."}
      incumbent_promotions_held                  incumbent_held_since_timestamp_seconds
      incumbent_champion_info                    incumbent_live_info
      incumbent_live_since_timestamp_seconds     incumbent_model_metric
      incumbent_model_part_of_baseline           incumbent_model_evaluated_timestamp_seconds
      incumbent_model_evaluation_wanted          incumbent_model_drifted_inputs
      incumbent_live_is_champion                 incumbent_champion_has_evidence
      incumbent_last_look_timestamp_seconds      incumbent_look_failures_total

    \b
    The alert dispatcher takes Alertmanager's notifications by POST /alerts, keeps them in an outbox on disk,
    and starts a workflow at GitHub for each alert that a route matches. docs/alerts.md describes its file:
      incumbent_alerts_accepted_total            incumbent_requests_refused_total{reason}
      incumbent_dispatches_total{workflow}       incumbent_dispatch_failures_total{reason}
      incumbent_alerts_left_out_total            incumbent_alerts_limited_total
      incumbent_outbox_oldest_waiting_age_seconds  incumbent_outbox_usable
      incumbent_outbox_alerts{state}             incumbent_outbox_damaged_files

    \b
    Settings of the metrics of the promotions:
      MLFLOW_TRACKING_URI, INCUMBENT_GIT_URL, INCUMBENT_KUBECONFIG, as for a promotion; read access is enough
      INCUMBENT_POLICIES, INCUMBENT_GIT_BRANCH, INCUMBENT_GIT_TOKEN_FILE, INCUMBENT_STATE, if not the defaults

    \b
    Examples:
      incumbent companion --listen 0.0.0.0:9464
      incumbent companion --listen 0.0.0.0:8080 --no-promotions --dispatch /etc/dispatcher/config/dispatcher.yml

    \b
    Exit code:
      0  ended by a signal
      2  wrong usage
      3  refused (a setting or the configuration is wrong, the address is taken, or another process has the
         outbox); the reason is on standard error
      4  the outbox turned out to be damaged; starting it again moves the file aside
    """
    if not promotions and dispatcher is None:
        raise click.UsageError("nothing to do: give --dispatch FILE, or leave --no-promotions out")
    with problems():
        from prometheus_client import CollectorRegistry

        from orchestration.companion.serve import serve

        registry, parts = CollectorRegistry(), []
        if promotions:
            from orchestration.adapters.kube_api import IN_CLUSTER
            from orchestration.companion.promotions import promotions_part
            from orchestration.environment import required

            platform = platform_of_environment()
            if platform.argocd_context != IN_CLUSTER:  # in a pod of the only cluster, no kubeconfig is needed
                required("INCUMBENT_KUBECONFIG", platform.kubeconfig)
            platform.policy_names()
            parts.append(promotions_part(platform, tell))
        if dispatcher is not None:
            from orchestration.companion.dispatch import dispatch_part

            parts.append(dispatch_part(_configuration(dispatcher), registry, tell))
        serve(parts, registry, *listen, tell)


@click.command(short_help="Show the alerts in the dispatcher's outbox.")
@click.argument("dispatcher", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--all", "every", is_flag=True, help="Show also what was dispatched or only recorded.")
@click.option("--retry-dead", is_flag=True, help="First let all dead letters be sent again.")
@click.option("--discard-dead", is_flag=True, help="First put all dead letters aside; they stay listed with --all.")
@click.option("--limit", type=click.IntRange(1), default=_SHOWN, show_default=True, help="Show at most the newest N.")
@json_option
def alerts(dispatcher: Path, every: bool, retry_dead: bool, discard_dead: bool, limit: int, as_json: bool) -> None:
    """Show the alerts that wait, are dead or were kept back by a limit; FILE is the dispatcher's configuration.

    A dead letter is an alert whose workflow GitHub refused to start, or one that waited too long. When you have mended
    what its reason names, send it again with --retry-dead, or put it aside with --discard-dead: the alert on dead
    letters fires until you do one of the two. The dispatcher may run meanwhile; it looks within a minute.

    \b
    Example, in its pod:
      kubectl -n monitoring exec deploy/dispatcher -- incumbent alerts /etc/dispatcher/config/dispatcher.yml

    \b
    Exit code:
      0  shown
      2  wrong usage
      3  refused (the configuration cannot be used, or there is no outbox); the reason is on standard error
      4  the outbox is busy or cannot be read
    """
    if retry_dead and discard_dead:
        raise click.UsageError("give --retry-dead or --discard-dead, not both")
    with problems():
        found, there_are = _entries(_configuration(dispatcher), every, retry_dead, discard_dead, limit)
    if there_are > len(found):
        tell(f"the newest {len(found):,} of {there_are:,} alerts; --limit shows more")
    if as_json:
        print_json([_alert_json(entry) for entry in found])
    else:
        say(table([_alert_row(entry) for entry in found], width()) or "no such alerts")


def _entries(
    configuration: "Configuration", every: bool, retry_dead: bool, discard_dead: bool, limit: int
) -> "tuple[list[Entry], int]":
    """Change dead letters as asked; return the newest entries, and how many there are."""
    from time import time

    from orchestration.adapters.outbox import look_into_outbox
    from orchestration.dispatcher.outbox import OutboxUnusableError, State
    from orchestration.promotion.problems import DependencyError, Problem

    outbox = look_into_outbox(configuration.outbox)
    try:
        if retry_dead:
            outbox.move_dead(State.WAITING, time())
        if discard_dead:
            outbox.move_dead(State.RECORDED, time())
        states = tuple(State) if every else (State.WAITING, State.DEAD, State.LIMITED)
        by_state = outbox.totals().by_state
        return list(outbox.entries(states, limit)), sum(by_state[state] for state in states)
    except OutboxUnusableError as error:
        problem = Problem(f"outbox {configuration.outbox}", "an outbox that answers", str(error), "Try it again.")
        raise DependencyError(problem) from error
    finally:
        outbox.close()


def _alert_row(entry: "Entry") -> dict[str, object]:
    labels = entry.alert.labels
    return {
        "state": entry.state,
        "alert": entry.alert.name,
        "cluster": labels.get("cluster"),
        "pod or model": labels.get("pod") or labels.get("model"),
        "arrived": time_of(entry.received_at),
        "attempts": entry.attempts,
        "answer": entry.answer,
    }


def _alert_json(entry: "Entry") -> dict[str, object]:
    alert = entry.alert
    return {
        "state": entry.state,
        "status": alert.status,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "fingerprint": alert.fingerprint,
        "starts_at": alert.starts_at,
        "received_at": entry.received_at,
        "ended_at": entry.ended_at,
        "attempts": entry.attempts,
        "answer": entry.answer,
    }


def _configuration(file: Path) -> "Configuration":
    from orchestration.adapters.text_files import read_text_file
    from orchestration.dispatcher.configuration import parse_configuration

    return parse_configuration(str(file), read_text_file(file, f"configuration {file}"))
