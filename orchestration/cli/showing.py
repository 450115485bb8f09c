"""`incumbent status`, `history` and `verify`: what people can ask; nothing is changed."""

import sys
from typing import TYPE_CHECKING

import click

from orchestration.cli.run import (
    REFUSED,
    UNANSWERED,
    Version,
    json_option,
    platform_of_environment,
    policy_argument,
    print_json,
    problems,
    progress,
    require_dagster_home,
    say,
)
from orchestration.cli.tables import paragraph, short_image, table, time_of, width

if TYPE_CHECKING:
    from orchestration.commands.history import PolicyHistory
    from orchestration.commands.verifying import DagsterRecord
    from orchestration.promotion.policy_status import PolicyStatus


@click.command(short_help="Show what is live, and whether anything is wrong.")
@click.argument("policy_name", metavar="[POLICY]", required=False)
@json_option
def status(policy_name: str | None, as_json: bool) -> None:
    """Show for each policy, or for POLICY alone, what is live, what is under way, and what does not agree.

    Git, the registry, the cluster, Argo CD and Prometheus are asked at the same time. A broken policy and a service
    that does not answer are shown beside what is known.

    \b
    Example:
      incumbent status

    \b
    Exit code:
      0  everything could be asked
      2  wrong usage
      3  a policy, its manifest or a setting cannot be used as it stands (or there is no such policy)
      4  a dependency did not answer
    """
    with problems():
        from orchestration.commands.status import read_status
        from orchestration.promotion.policy_status import NO_POLICIES
        from orchestration.promotion.problems import InvalidInputError

        platform = platform_of_environment()
        names = platform.policy_names()
        if not names:
            raise InvalidInputError(NO_POLICIES)
        found = read_status(platform, names if policy_name is None else [policy_name], say=progress)
    if as_json:
        print_json([_status_json(one) for one in found])
    else:
        _print_status(found)
    if any(one.broken is not None for one in found):
        sys.exit(REFUSED)
    if any(one.unanswered for one in found):
        sys.exit(UNANSWERED)


def _print_status(found: "tuple[PolicyStatus, ...]") -> None:
    from orchestration.promotion.policy_status import silent_services

    rows = [
        {
            "policy": one.policy,
            "live": one.live.version if one.live is not None else None,
            "image": _brief(one.live.image) if one.live is not None else None,
            "since (UTC)": time_of(one.live.since) if one.live is not None else None,
            "champion": one.champion,
            "challenger": one.challenger,
            "under way": ", ".join(f"{act.version or ''} {act.state}".strip() for act in one.under_way) or None,
            "agree": {True: "yes", False: "NO", None: "?"}[one.agrees],
        }
        for one in found
    ]
    say(table(rows, width()))
    for one in found:
        notes = list(_notes(one))
        if notes:
            say(f"\n{one.policy}")
            for note in notes:
                say(paragraph(note, width()))
    silent = silent_services(found)
    if silent:
        say("\nNo answer")
    for service in silent:
        say(paragraph(f"{service.problem} (Asked for {', '.join(service.policies)}.)", width()))


def _notes(one: "PolicyStatus") -> "list[str]":
    notes = []
    if one.live is not None:
        notes.append(f"live: {short_image(one.live.image)}, {one.live.why}")
    for act in one.under_way:
        what = f"version {act.version} {act.state}" if act.version is not None else act.state
        since = f" since {time_of(act.since)}" if act.since is not None else ""
        notes.append(f"{what}{since}{': ' if act.reason else ''}{act.reason}")
    if one.at_work is not None:
        from orchestration.promotion.timestamps import show_clock

        lease = f"the lease of application {one.at_work.application} until {show_clock(one.at_work.until)}"
        notes.append(f"at work: {one.at_work.who}, with {lease} unless it is renewed; whoever waits goes on after it")
    notes += [f"does not agree: {difference}" for difference in one.differences]
    return notes + ([f"broken: {one.broken}"] if one.broken is not None else [])


def _status_json(one: "PolicyStatus") -> dict[str, object]:
    from dataclasses import asdict

    live = asdict(one.live) if one.live is not None else None
    return {
        "policy": one.policy,
        "model": one.model,
        "head": one.head,
        "live": live and {**live, "since": _iso(live["since"])},
        "champion": one.champion,
        "challenger": one.challenger,
        "under_way": [{**asdict(act), "since": _iso(act.since)} for act in one.under_way],
        "at_work": asdict(one.at_work) | {"until": _iso(one.at_work.until)} if one.at_work is not None else None,
        "agrees": one.agrees,
        "differences": list(one.differences),
        "broken": asdict(one.broken) if one.broken is not None else None,
        "unanswered": [{"service": service, **asdict(problem)} for service, problem in one.unanswered],
    }


def _iso(at: float | None) -> str | None:
    from orchestration.promotion.timestamps import format_time

    return None if at is None else format_time(at)


@click.command(short_help="Show who was champion from when to when, from Git alone.")
@policy_argument
@json_option
def history(policy_name: str, as_json: bool) -> None:
    """Show who was champion of POLICY from when to when, and how each committed attempt ended, newest first.

    Only Git is asked: the registry, the clusters and Dagster may be down or lost. What people put there by hand is
    part of the history.

    \b
    Example:
      incumbent history iris-classifier-edge

    \b
    Exit code:
      0  shown
      2  wrong usage
      3  refused (there is no such policy, or it cannot be used); the reason is on standard error
      4  the Git server did not answer
    """
    with problems():
        from orchestration.commands.history import read_history

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        found = read_history(platform.git(policy), policy)
    if as_json:
        print_json({"policy": policy_name, **_history_json(found)})
    else:
        _print_history(found)


def _print_history(found: "PolicyHistory") -> None:
    reigns = [
        {
            "version": reign.version,
            "from (UTC)": time_of(reign.since),
            "to (UTC)": time_of(reign.until) or "now",
            "image": _brief(reign.image),
            "how it began": f"{reign.began} by {reign.by}" + (f": {reign.why}" if reign.why else ""),
        }
        for reign in reversed(found.history.reigns)
    ]
    attempts = [
        {
            "attempt": f"{attempt.identity.version}-{attempt.identity.attempt}",
            "requested (UTC)": time_of(attempt.requested_at),
            "committed (UTC)": time_of(attempt.committed_at),
            "ended (UTC)": time_of(attempt.ended_at),
            "end": attempt.end,
            "why": _why(attempt.returns_from, attempt.reason, attempt.verdict, attempt.ended_by, attempt.why),
        }
        for attempt in reversed(found.history.attempts)
    ]
    acts = [
        {"at (UTC)": time_of(act.at), "act": act.kind, "version": act.version, "by": act.by, "why": act.reason}
        for act in found.acts
    ]
    for title, rows in (("Champions", reigns), ("Attempts", attempts), ("What people decided", acts)):
        if rows:
            say(f"{title}\n{table(rows, width())}\n")
    if not (reigns or attempts or acts):
        say("Nothing was committed yet.")


def _brief(image: str) -> str:
    """Shorten an image to what tells it from others of its repository: the beginning of its digest, or its tag.

    An address stays as it is.
    """
    if ":/" in image:
        return image
    return short_image(image).rpartition("@")[2].rpartition("/")[2]


def _why(returns_from: str, reason: str, verdict: str, ended_by: str, why: str) -> str | None:
    """Put together what is known of an attempt's beginning and end."""
    began = f"return from {returns_from}: {reason}" if returns_from else ""
    ended = ": ".join(filter(None, (verdict, f"{ended_by}: {why}" if ended_by and why else ended_by or why)))
    return "; ".join(filter(None, (began, ended))) or None


def _history_json(found: "PolicyHistory") -> dict[str, object]:
    from dataclasses import asdict

    reigns = [
        {**asdict(reign), "began": str(reign.began), "since": _iso(reign.since), "until": _iso(reign.until)}
        for reign in reversed(found.history.reigns)
    ]
    attempts = [
        {
            **asdict(attempt),
            "identity": str(attempt.identity),
            "version": attempt.identity.version,
            "attempt": attempt.identity.attempt,
            "end": str(attempt.end),
            **{name: _iso(getattr(attempt, name)) for name in ("requested_at", "committed_at", "ended_at")},
        }
        for attempt in reversed(found.history.attempts)
    ]
    acts = [
        {
            "kind": str(act.kind),
            "at": _iso(act.at),
            "version": act.version,
            "digest": act.digest,
            "by": act.by,
            "reason": act.reason,
            "promotion": str(act.promotion) if act.promotion is not None else None,
            "verdict": act.verdict,
        }
        for act in found.acts
    ]
    return {"head": found.head, "reigns": reigns, "attempts": attempts, "acts": acts}


@click.command(short_help="Compare all evidence of a version, and what runs.")
@policy_argument
@click.argument("version", type=Version())
@json_option
def verify(policy_name: str, version: int, as_json: bool) -> None:
    """Find out whether all that is kept about VERSION under POLICY agrees, and what runs when it is live.

    It compares the commit, the evidence tag and the tag's digest in Git; the evidence, the tags and the alias in
    MLflow; the history of the Dagster instance that DAGSTER_HOME names, if it has any; and the pods.

    \b
    Example:
      incumbent verify iris-classifier-edge 7

    \b
    Exit code:
      0  everything agrees
      2  wrong usage
      3  something differs, or refused (no such version, or it was never committed or adopted)
      4  a dependency did not answer
    """
    with problems():
        from orchestration.commands.verifying import verify_version

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        findings = verify_version(platform.clients(policy), policy, version, _dagster_record(policy_name, version))
    rows = [{"ok": found.ok, "what": found.what, "where": found.where, "finding": found.finding} for found in findings]
    if as_json:
        print_json({"policy": policy_name, "version": version, "agrees": all(r["ok"] for r in rows), "findings": rows})
    else:
        say(table([{**row, "ok": "ok" if row["ok"] else "NO"} for row in rows], width()))
    if not all(found.ok for found in findings):
        sys.exit(REFUSED)


def _dagster_record(policy: str, version: int) -> "DagsterRecord | None":
    """Read what the instance that DAGSTER_HOME names keeps of the version's last `serving_model`; None for nothing.

    Raises:
        InvalidInputError: DAGSTER_HOME is set, and no folder that can be used.
        DependencyError: the instance's storage does not answer.
    """
    import os

    from orchestration.promotion.problems import DependencyError, Problem

    if not os.environ.get("DAGSTER_HOME"):
        return None
    require_dagster_home()
    try:
        return _last_served(policy, version)
    except Exception as error:  # whatever its storage is, a file or a server
        found = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        next_step = "Check its storage, or unset DAGSTER_HOME to leave Dagster out."
        problem = Problem("the Dagster instance that DAGSTER_HOME names", "a storage that answers", found, next_step)
        raise DependencyError(problem) from error


def _last_served(policy: str, version: int) -> "DagsterRecord | None":
    import dagster as dg

    from orchestration.commands.verifying import DagsterRecord
    from orchestration.promotion.identity import partition_key
    from orchestration.stages.serving_model import STAGE

    key, partition = dg.AssetKey(STAGE.name), partition_key(policy, version)
    with dg.DagsterInstance.get() as instance:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
        ).records
        if not records or records[0].asset_materialization is None:
            return None
        metadata = records[0].asset_materialization.metadata
        logs = instance.all_logs(records[0].run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations = [entry.get_dagster_event().asset_check_evaluation_data for entry in logs]
    checks = {one.check_name: one.passed for one in evaluations if one.asset_key == key}
    texts = {name: str(value.value) for name, value in metadata.items()}
    return DagsterRecord(texts.get("promotion_id"), texts.get("evidence_digest"), checks)
