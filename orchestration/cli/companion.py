"""`incumbent companion` and `incumbent alerts`: the long-lived process beside the pipeline, and its outbox."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestration.cli.run import (
    json_option,
    platform_of_environment,
    print_json,
    problems,
    require_dagster_home,
    say,
    tell,
)
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
@click.option(
    "--mlflow-webhook",
    "webhook_secret",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Take MLflow's webhooks, signed with the secret in this file; without it, none is taken.",
)
def companion(listen: tuple[str, int], promotions: bool, dispatcher: Path | None, webhook_secret: Path | None) -> None:
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
    MLflow tells by POST /webhooks/mlflow that an alias was set, and the sensor asks at once what else it would
    ask within a second. `incumbent register-webhook` lets it; this must run where Dagster runs, with its
    INCUMBENT_STATE:
      incumbent_registry_webhooks_total          incumbent_requests_refused_total{reason}

    \b
    Settings of the metrics of the promotions:
      MLFLOW_TRACKING_URI, INCUMBENT_GIT_URL, INCUMBENT_KUBECONFIG, as for a promotion; read access is enough
      INCUMBENT_POLICIES, INCUMBENT_GIT_BRANCH, INCUMBENT_GIT_TOKEN_FILE, INCUMBENT_STATE, if not the defaults

    \b
    Examples:
      incumbent companion --listen 0.0.0.0:9464
      incumbent companion --mlflow-webhook ~/.mlflow-webhook-secret
      incumbent companion --listen 0.0.0.0:8080 --no-promotions --dispatch /etc/dispatcher/config/dispatcher.yml

    \b
    Exit code:
      0  ended by a signal
      2  wrong usage
      3  refused (a setting or the configuration is wrong, the address is taken, or another process has the
         outbox); the reason is on standard error
      4  the outbox turned out to be damaged; starting it again moves the file aside
    """
    if not promotions and dispatcher is None and webhook_secret is None:
        raise click.UsageError(
            "nothing to do: give --dispatch FILE or --mlflow-webhook FILE, or leave --no-promotions out"
        )
    with problems():
        from dataclasses import replace

        from prometheus_client import CollectorRegistry

        from orchestration.companion.serve import serve

        registry, parts = CollectorRegistry(), []
        if promotions:
            from orchestration.adapters.kube_api import IN_CLUSTER
            from orchestration.companion.promotions import promotions_part
            from orchestration.environment import required

            platform = platform_of_environment()
            # A mirror of its own: promotions wait for the lock of theirs, and this one fetches every 15 s.
            platform = replace(platform, state=f"{platform.state}/companion")
            if platform.argocd_context != IN_CLUSTER:  # in a pod of the only cluster, no kubeconfig is needed
                required("INCUMBENT_KUBECONFIG", platform.kubeconfig)
            platform.policy_names()
            parts.append(promotions_part(platform, tell))
        if dispatcher is not None:
            from orchestration.companion.dispatch import dispatch_part

            parts.append(dispatch_part(_configuration(dispatcher), registry, tell))
        if webhook_secret is not None:
            from orchestration.adapters.paths import path_of
            from orchestration.companion.registry_webhook import registry_webhook_part
            from orchestration.environment import setting

            state = path_of(setting("INCUMBENT_STATE"), "INCUMBENT_STATE")
            parts.append(registry_webhook_part(state, webhook_secret, registry, tell))
        serve(parts, registry, *listen, tell)


@click.command(short_help="Run Dagster's processes, forked from one.")
@click.option(
    "--pages",
    metavar="HOST:PORT",
    callback=_address,
    default="127.0.0.1:3000",
    show_default=True,
    help="The address of Dagster's pages.",
)
@click.option(
    "--code-port",
    type=click.IntRange(1, 65535),
    default=4266,
    show_default=True,
    help="The port of this machine at which Dagster's processes reach the code server.",
)
@click.option("--companion", "beside", metavar="HOST:PORT", help="Run `incumbent companion` as well, at this address.")
@click.option(
    "--mlflow-webhook", "webhook_secret", metavar="FILE", type=click.Path(path_type=Path), help="As of the companion."
)
def serve(pages: tuple[str, int], code_port: int, beside: str | None, webhook_secret: Path | None) -> None:
    """Run the pipeline: Dagster's code server, daemon and pages, and the process from which runs are forked.

    Everything is imported once and shared, so that together they take little more than half of the memory that they
    take when each is started alone. When one of them ends, all end, and whoever started this starts it again. Runs
    that are under way go on, and are found again.

    \b
    Settings: those of a promotion, and DAGSTER_HOME, with the file dagster.yaml of the checkout in it.

    \b
    Example:
      incumbent serve --pages 0.0.0.0:3000
      incumbent serve --companion 127.0.0.1:9464 --mlflow-webhook ~/.mlflow-webhook-secret

    \b
    Exit code:
      0  ended by a signal
      2  wrong usage
      3  refused (DAGSTER_HOME cannot be used, or another pipeline uses it); the reason is on standard error
      4  one of its processes has ended by itself
    """
    if webhook_secret is not None and beside is None:
        raise click.UsageError("--mlflow-webhook is of the companion: give --companion HOST:PORT, too")
    with problems():
        require_dagster_home()
        from orchestration.adapters.paths import path_of
        from orchestration.warm_runs.together import Service, dagster_services, serve_together

        home = path_of(os.environ["DAGSTER_HOME"], "DAGSTER_HOME")
        family = dagster_services(home, code_port, pages)
        if beside is not None:
            options = [f"--listen={beside}"]
            options += [f"--mlflow-webhook={webhook_secret}"] if webhook_secret is not None else []
            family += (Service("companion", lambda: companion(options)),)
        serve_together(home, family, tell)


@click.command(short_help="Let MLflow tell the companion of each alias that is set.")
@click.argument("url", metavar="URL")
@click.argument("secret", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--name", default="incumbent", show_default=True, help="The webhook's name in MLflow.")
def register_webhook(url: str, secret: Path, name: str) -> None:
    """Let MLflow tell the companion at URL of each alias that is set, signed with the secret in FILE, and try it.

    A promotion then begins at once, and not within a second or, between two ticks, five. Nothing depends on it: what
    MLflow does not tell is found by asking, as ever. It may be run again, with another address or secret.

    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD must be those of an administrator, where MLflow has logins.
    The server needs MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY, or it cannot read the secret any more once it was restarted;
    for a URL that begins with http:// MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https, and for a private address
    MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true.

    \b
    Example, with a secret that is made first:
      openssl rand -hex 32 > ~/.mlflow-webhook-secret
      incumbent companion --mlflow-webhook ~/.mlflow-webhook-secret &
      incumbent register-webhook http://127.0.0.1:9464/webhooks/mlflow ~/.mlflow-webhook-secret

    \b
    Exit code:
      0  MLflow told the companion
      2  wrong usage
      3  refused (a setting is wrong); the reason is on standard error
      4  MLflow does not answer, or does not get through to URL; the reason is on standard error
    """
    with problems():
        from orchestration.adapters.mlflow_registry import MlflowRegistry
        from orchestration.adapters.secret_files import read_secret
        from orchestration.environment import required, setting
        from orchestration.promotion.registry_webhook import EVENTS

        signed_with = read_secret(secret, "the secret of MLflow's webhook", "FILE", "utf-8")
        registry = MlflowRegistry(required("MLFLOW_TRACKING_URI", setting("MLFLOW_TRACKING_URI")))
        registry.register_webhook(name, url, signed_with, EVENTS)
    say(f"{registry} tells {url} of each alias that is set")


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
