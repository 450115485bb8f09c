"""Collecting the facts of an alert about pods: from their cluster and from Git; what does not answer becomes a gap."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestration.analysis.alert import Alert, workload_of_name
from orchestration.analysis.alert_findings import AlertFacts, Promotions
from orchestration.analysis.markdown import code
from orchestration.analysis.pod_facts import Container, Event, Pod, parse_events, parse_pod, sibling_selector
from orchestration.commands.gaps import Gaps, usable_policies
from orchestration.commands.history import read_history
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Cluster
from orchestration.promotion.problems import ProblemError
from orchestration.promotion.promql import pods_of

_LOG_LINES = 60
_ATTEMPTS = 5
_PODS_TOLD = 3
"""How many pods of a workload are told in full, the troubled and then the newest ones first."""


def collect_alert(platform: Platform, context: str, alert: Alert) -> AlertFacts:
    """Collect what the cluster and Git know about an alert. Nothing is changed, and no language model has a part in it.

    Args:
        platform: The policies and the clients.
        context: The kubeconfig's context of the alert's cluster.
        alert: The alert.
    """
    gaps = Gaps()
    facts = AlertFacts(alert, platform.clock().now(), workload_of_name(alert.pod) if alert.names_pod else "")
    policies = tuple(usable_policies(platform, gaps)) if alert.names_pod or alert.policy else ()
    if alert.names_pod:
        facts = _with_pod(facts, gaps, platform, context)
    elif alert.policy:
        facts = _with_workload(facts, gaps, platform, context, policies)
    known = tuple(_promotions(platform, context, facts, policies, gaps)) if facts.workload else ()
    return replace(facts, promotions=known, gaps=tuple(gaps.found))


def _with_pod(facts: AlertFacts, gaps: Gaps, platform: Platform, context: str) -> AlertFacts:
    alert = facts.alert
    try:
        cluster = platform.cluster(context)
        raw = cluster.pods(alert.namespace, fields=f"metadata.name={alert.pod}")
    except ProblemError as error:
        gaps.note("The pod", error)
        return facts
    no_events: tuple[Event, ...] = ()
    events = gaps.try_to("Its events", lambda: parse_events(cluster.pod_events(alert.namespace, alert.pod)), no_events)
    if not raw:
        return replace(facts, events=events, is_gone=True)
    pod = parse_pod(raw[0])
    pod = replace(pod, containers=tuple(_with_logs(each, pod.name, alert, cluster, gaps) for each in pod.containers))
    ready, total = _siblings(pod, alert, cluster, gaps)
    return replace(facts, workload=pod.workload, pod=pod, events=events, ready=ready, total=total)


def _with_workload(
    facts: AlertFacts, gaps: Gaps, platform: Platform, context: str, policies: Sequence[Policy]
) -> AlertFacts:
    """Add the pods of the workload that the alert's policy promotes, which are those that its rule counts."""
    alert = facts.alert
    target = next(
        (
            policy.manifest
            for policy in policies
            if (policy.name, policy.cluster, policy.manifest.namespace) == (alert.policy, context, alert.namespace)
        ),
        None,
    )
    if target is None:
        return facts
    facts = replace(facts, workload=target.name)
    try:
        cluster = platform.cluster(context)
        raw = cluster.pods(target.namespace)
    except ProblemError as error:
        gaps.note("The pods", error)
        return facts
    name = re.compile(pods_of(target.kind, target.name))
    pods = [each for each in map(parse_pod, raw) if name.fullmatch(each.name) and each.deleted_at is None]
    told = sorted(pods, key=lambda pod: (pod.is_ready, -(pod.created_at or 0.0)))[:_PODS_TOLD]
    full = [
        replace(pod, containers=tuple(_with_logs(each, pod.name, alert, cluster, gaps) for each in pod.containers))
        for pod in told
    ]
    return replace(facts, pods=tuple(full), ready=sum(each.is_ready for each in pods), total=len(pods))


def _with_logs(container: Container, pod: str, alert: Alert, cluster: Cluster, gaps: Gaps) -> Container:
    def read(previous: bool) -> str:
        return cluster.log_tail(alert.namespace, pod, container.name, previous=previous, lines=_LOG_LINES)

    what = f"A log of container {code(container.name)}"
    before = gaps.try_to(what, lambda: read(True), "") if container.restarts else ""
    return replace(container, previous_log=before, log=gaps.try_to(what, lambda: read(False), ""))


def _siblings(pod: Pod, alert: Alert, cluster: Cluster, gaps: Gaps) -> tuple[int | None, int | None]:
    selector = sibling_selector(pod)
    if not selector:
        return None, None
    raw = gaps.try_to("The other pods", lambda: cluster.pods(alert.namespace, labels=selector), None)
    if raw is None:
        return None, None
    pods = [each for each in map(parse_pod, raw) if each.workload == pod.workload and each.deleted_at is None]
    return sum(each.is_ready for each in pods), len(pods)


def _promotions(
    platform: Platform, context: str, facts: AlertFacts, policies: Sequence[Policy], gaps: Gaps
) -> Iterator[Promotions]:
    target = (context, facts.alert.namespace, facts.workload)
    for policy in policies:
        manifest = policy.manifest
        if (policy.cluster, manifest.namespace, manifest.name) != target:
            continue
        try:
            history = read_history(platform.git(policy), policy).history
        except ProblemError as error:
            gaps.note(f"Promotions under {code(policy.name)}", error)
            continue
        attempts = tuple(reversed(history.attempts[-_ATTEMPTS:]))
        yield Promotions(policy.name, manifest.path, attempts, history.reigns[-1] if history.reigns else None)
