"""From the facts of an alert about a pod to what a person reads: what happened, what to look at, and the facts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestration.analysis.alert import Alert
from orchestration.analysis.markdown import code
from orchestration.analysis.pod_facts import Container, Event, Pod, Termination
from orchestration.analysis.report import Findings, Section, issue_title
from orchestration.promotion.images import short_digest
from orchestration.promotion.reigns import Attempt, Reign
from orchestration.promotion.timestamps import show_time

_RECENT_SECONDS = 24 * 3600.0
"""How long before an alert a promotion is named as what may have caused it."""
_WARNINGS_TOLD = 3
_EVENTS_SHOWN = 40
_IMAGE_REASONS = frozenset(("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"))
_SETTING_REASONS = frozenset(("CreateContainerConfigError", "CreateContainerError", "RunContainerError"))


@dataclass(frozen=True)
class Promotions:
    """What Git knows about one policy of the workload."""

    policy: str
    manifest: str
    """The file that a promotion edits."""
    attempts: tuple[Attempt, ...]
    """The newest ones, newest first."""
    reign: Reign | None
    """What serves as the champion now."""


@dataclass(frozen=True)
class AlertFacts:
    """All that was collected about an alert."""

    alert: Alert
    at: float
    """When it was collected, in seconds since the epoch."""
    workload: str
    """The name of what made the pods; empty for an alert that is about no pod and no policy."""
    pod: Pod | None = None
    """None when it is gone, or could not be read."""
    is_gone: bool = False
    """Whether the cluster says that there is no such pod."""
    pods: tuple[Pod, ...] = ()
    """Pods of the policy's workload, for an alert that names the policy and no pod."""
    events: tuple[Event, ...] = ()
    ready: int | None = None
    """How many pods of the workload are ready; None when that is not known."""
    total: int | None = None
    promotions: tuple[Promotions, ...] = ()
    gaps: tuple[str, ...] = ()
    """What could not be found out, and why, as Markdown."""


def alert_findings(facts: AlertFacts) -> Findings:
    """Tell an alert's facts."""
    alert = facts.alert
    place = f"{alert.namespace}/{facts.workload}".strip("/") or "no workload"
    about = f"pod {code(f'{alert.namespace}/{alert.pod}')}" if alert.names_pod else f"{code(place)}"
    return Findings(
        title=issue_title(f"{alert.name}: {place} in {alert.cluster}"),
        subject=f"Alert {code(alert.name)}, severity {code(alert.severity)}: {about} in cluster {code(alert.cluster)}, "
        f"looked at {show_time(facts.at)}.",
        happened=tuple(_happened(facts)),
        look_at=tuple(dict.fromkeys(_look_at(facts))),
        sections=tuple(_sections(facts)),
        gaps=facts.gaps,
        state=dict(_state(facts)),
    )


def _happened(facts: AlertFacts) -> Iterator[str]:
    pod = facts.pod
    if facts.alert.summary:
        yield f"The alert says: {code(facts.alert.summary)}"
    if pod is not None:
        yield from _pod_trouble(pod)
    elif facts.is_gone:
        yield "The pod does not exist any more."
    elif facts.alert.pod and not facts.alert.names_pod:
        yield f"The alert names {code(facts.alert.pod)}, which cannot be the name of a pod."
    warnings = [event for event in facts.events if event.kind == "Warning"]
    for event in reversed(warnings[-_WARNINGS_TOLD:]):
        times = f" {event.count} times" if event.count > 1 else ""
        yield f"Event {code(event.reason)}{times}, {_span(event.first_at, event.last_at)}: {code(event.message)}"
    for each in facts.pods:
        for line in (line for container in each.containers for line in _container_trouble(container)):
            yield f"In pod {code(each.name)}: {line}"
    if facts.total is not None:
        yield f"{facts.ready} of {facts.total} pod(s) of the workload are ready."
    for known in facts.promotions:
        yield from _promotion(known, facts.at)


def _pod_trouble(pod: Pod) -> Iterator[str]:
    for condition in pod.conditions:
        if condition.status == "False" and condition.kind in ("Ready", "PodScheduled"):
            why = f": {code(condition.message)}" if condition.message else ""
            words = "not ready" if condition.kind == "Ready" else "not scheduled"
            yield f"The pod is {words} since {_time(condition.since)}{why}"
    if pod.reason:
        yield f"The pod is {code(pod.phase)} because of {code(pod.reason)}: {code(pod.message)}"
    if pod.deleted_at is not None:
        yield f"The pod is being deleted since {_time(pod.deleted_at)}."
    for container in pod.containers:
        yield from _container_trouble(container)
    if pod.is_ready and pod.deleted_at is None:
        yield "The pod runs and is ready now, so the trouble may have passed."


def _container_trouble(container: Container) -> Iterator[str]:
    name = code(container.name)
    end = container.last_end
    if end is not None and not (container.is_init and end.exit_code == 0):
        last = f"It last {_ended(end)}{_limit(container, end)}."
        yield f"Container {name} has been restarted {container.restarts} time(s). {last}"
    if container.waiting:
        more = f": {code(container.waiting_message)}" if container.waiting_message else ""
        yield f"Container {name} waits: {code(container.waiting)}{more}"


def _ended(end: Termination) -> str:
    how = f"exit code {end.exit_code}" + (f", signal {end.signal}" if end.signal else "")
    ran = ""
    if end.started_at is not None and end.finished_at is not None:
        ran = f" after {end.finished_at - end.started_at:.0f} s"
    return f"ended with {code(end.reason or 'no reason')} ({how}) at {_time(end.finished_at)}{ran}"


def _limit(container: Container, end: Termination) -> str:
    if end.reason != "OOMKilled":
        return ""
    return f"; its memory limit is {code(container.limits.get('memory', 'not set'))}"


def _promotion(known: Promotions, now: float) -> Iterator[str]:
    if known.attempts:
        last = known.attempts[0]
        ended = f", {last.end}" + (f" at {_time(last.ended_at)}" if last.ended_at is not None else "")
        ago = (now - last.committed_at) / 60
        when = f"{show_time(last.committed_at)} ({_minutes(ago)} before)"
        yield f"Policy {code(known.policy)} last committed version {last.identity.version} at {when}{ended}."
    if known.reign is not None:
        began = f"since {_time(known.reign.since)}, by {known.reign.began}"
        yield f"What serves under {code(known.policy)} is {known.reign.described}, {began}."


def _look_at(facts: AlertFacts) -> Iterator[str]:
    for known in facts.promotions:
        yield from _way_back(known, facts.at)
    if facts.pod is not None:
        for container in facts.pod.containers:
            yield from _container_advice(container, facts.promotions)
        if any(each.kind == "PodScheduled" and each.status == "False" for each in facts.pod.conditions):
            yield "Room on the nodes: the scheduler's message says what is missing."
        if facts.pod.reason == "Evicted":
            yield f"The node {code(facts.pod.node)}: what it ran out of is in the pod's message."
    if any(event.reason == "Unhealthy" for event in facts.events):
        yield "The probe that fails, in the events: a model that is still being loaded, or a server that hangs."
    alert = facts.alert
    for pod in facts.pods:
        for container in pod.containers:
            yield from _container_advice(container, facts.promotions)
    if any(container.log for pod in facts.pods for container in pod.containers):
        yield "The last log lines of its pods, in the facts below: which requests fail, and why."
    for known in facts.promotions if facts.pods else ():
        yield f"What serves now, and since when: {code(f'incumbent status {known.policy}')}"
    if alert.names_pod:
        command = f"kubectl -n {alert.namespace} describe pod {alert.pod}"
        yield f"The pod itself, in cluster {code(alert.cluster)}: {code(command)}"


def _way_back(known: Promotions, now: float) -> Iterator[str]:
    if not known.attempts or now - known.attempts[0].committed_at > _RECENT_SECONDS:
        return
    last, policy = known.attempts[0], known.policy
    if last.end == "under way":
        steps = f"{code(f'incumbent status {policy}')}; to end it: {code(f'incumbent abort {policy} --reason REASON')}"
        yield f"The promotion of version {last.identity.version} that is under way: {steps}"
    elif last.end == "champion":
        yield (
            f"Version {last.identity.version}, which was promoted shortly before. "
            f"To go back: {code(f'incumbent rollback {policy} --reason REASON')}"
        )


def _container_advice(container: Container, promotions: Sequence[Promotions]) -> Iterator[str]:
    name, end = code(container.name), container.last_end
    if end is not None and end.reason == "OOMKilled":
        files = " or ".join(code(known.manifest) for known in promotions)
        where = f" in {files}" if files else ""
        yield f"The memory of {name}: a limit that is too low{where}, or a leak. Its log ends where it was killed."
    elif end is not None and end.exit_code != 0:
        yield f"The end of the log of {name}, in the facts below: its process ended by itself, or was killed."
    if container.waiting in _IMAGE_REASONS:
        yield f"Whether the image {code(container.image)} exists, and whether the node may pull it."
    if container.waiting in _SETTING_REASONS:
        yield f"The Secret, ConfigMap or command of {name} that the message names."


def _sections(facts: AlertFacts) -> Iterator[Section]:
    pods = (facts.pod,) if facts.pod is not None else facts.pods
    for pod in pods:
        yield Section.of("Pod", "\n".join(_pod_lines(pod)))
        for container in pod.containers:
            yield Section.of("Container", "\n".join(_container_lines(container)))
    if facts.events:
        yield Section.of(
            "Events, the newest last", "\n".join(_event_line(each) for each in facts.events[-_EVENTS_SHOWN:])
        )
    if facts.promotions:
        yield Section.of("Promotions, the newest first", "\n".join(_promotion_lines(facts.promotions)))
    for pod in pods:
        yield from _log_sections(pod)
    if facts.pod is not None:
        marks = (("label", facts.pod.labels), ("annotation", facts.pod.annotations))
        lines = [f"{kind} {name}: {value}" for kind, values in marks for name, value in values.items()]
        yield Section.of("Labels and annotations of the pod", "\n".join(lines))


def _log_sections(pod: Pod) -> Iterator[Section]:
    for container in pod.containers:
        for when, log in (("of the process before", container.previous_log), ("now", container.log)):
            if log:
                yield Section.of(
                    f"Last log lines {when}", f"pod {pod.name}, container {container.name}\n\n{log}", keep_end=True
                )


def _pod_lines(pod: Pod) -> Iterator[str]:
    yield f"name: {pod.name}"
    yield f"workload: {pod.workload}"
    yield f"phase: {pod.phase} {pod.reason} {pod.message}".rstrip()
    yield f"node: {pod.node or 'none'}"
    yield f"created: {_time(pod.created_at)}"
    if pod.deleted_at is not None:
        yield f"being deleted since: {_time(pod.deleted_at)}"
    for each in pod.conditions:
        yield f"condition {each.kind}: {each.status} since {_time(each.since)} {each.reason} {each.message}".rstrip()


def _container_lines(container: Container) -> Iterator[str]:
    yield f"name: {container.name}{' (init container)' if container.is_init else ''}"
    yield f"image: {container.image}"
    yield f"ready: {'yes' if container.ready else 'no'}, restarts: {container.restarts}"
    for what, values in (("requests", container.requests), ("limits", container.limits)):
        yield f"{what}: {', '.join(f'{name} {value}' for name, value in values.items()) or 'none'}"
    if container.running_since is not None:
        yield f"running since: {_time(container.running_since)}"
    if container.waiting:
        yield f"waiting: {container.waiting} {container.waiting_message}".rstrip()
    for what, end in (("ended", container.ended), ("ended before", container.ended_before)):
        if end is not None:
            yield (
                f"{what}: {end.reason}, exit code {end.exit_code}, signal {end.signal}, "
                f"from {_time(end.started_at)} to {_time(end.finished_at)} {end.message}".rstrip()
            )


def _event_line(event: Event) -> str:
    return f"{_time(event.last_at)} {event.kind} {event.reason} ({event.count}x): {event.message}"


def _promotion_lines(promotions: Sequence[Promotions]) -> Iterator[str]:
    for known in promotions:
        yield f"policy {known.policy}, manifest {known.manifest}"
        for attempt in known.attempts:
            identity, end = attempt.identity, f"{attempt.end} {_time(attempt.ended_at)} {attempt.verdict} {attempt.why}"
            yield (
                f"  {show_time(attempt.committed_at)} version {identity.version} (attempt {identity.attempt}), image "
                f"{short_digest(attempt.digest)}, commit {attempt.commit[:12]}: {end.rstrip()}"
            )


def _state(facts: AlertFacts) -> Iterator[tuple[str, str]]:
    """What tells one occurrence from the next; nothing in it changes by itself while nothing happens."""
    if facts.pod is not None:
        yield "Pod", facts.pod.name
        yield "Phase", f"{facts.pod.phase} {facts.pod.reason}".strip()
        for container in facts.pod.containers[:5]:
            yield f"Restarts of {container.name}", str(container.restarts)
            yield f"Image of {container.name}", container.image
            if container.last_end is not None:
                yield f"Last end of {container.name}", container.last_end.reason
    if facts.total is not None:
        yield "Pods ready", f"{facts.ready} of {facts.total}"
    for known in facts.promotions[:5]:
        if known.attempts:
            last = known.attempts[0]
            yield f"Last promotion under {known.policy}", f"version {last.identity.version}, {last.end}"


def _span(first: float | None, last: float | None) -> str:
    if first is None or last is None or last - first < 60:
        return f"at {_time(last)}"
    return f"from {_time(first)} to {_time(last)}"


def _minutes(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def _time(at: float | None) -> str:
    return show_time(at) if at is not None else "an unknown time"
