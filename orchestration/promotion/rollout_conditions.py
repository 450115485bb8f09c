"""Whether a committed image is truly rolled out: design rule 4, as a pure judgement of one observation.

Argo CD reports the old revision as Synced and Healthy right after a push, and may report the new one on older
manifests (argo-cd#26530), so neither its health nor its sync status is believed: the revision, the operation, the
live image, the replicas and each pod's own image must all agree at once.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestration.promotion.cluster_status import ApplicationStatus, PodStatus, WorkloadStatus
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.pods import Kind, LogToRead, PodTrouble, explain
from orchestration.promotion.problems import Problem

ConditionName = Literal["revision", "operation", "image", "replicas", "digests"]
Refresh = Literal["no", "normal", "hard"]
CarriesOurImage = Callable[[str], bool | None]
"""Whether a revision is our commit or a descendant that still has our image; None while Git does not know it."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Expected:
    """What must be live: the image of a commit, in one container."""

    commit: str
    image: ImageRef
    container: str
    known_digests: frozenset[str]
    """Index, platform-manifest and config digests: by any of them a kubelet may name the image."""


@dataclass(frozen=True)
class Condition:
    """One of the five conditions, for the table that a person reads."""

    name: ConditionName
    met: bool
    finding: str


@dataclass(frozen=True)
class RolledOut:
    template_hash: str
    pods: tuple[PodStatus, ...]


@dataclass(frozen=True)
class Progressing:
    """Not yet: the first condition that is not met, and whether asking Argo CD to look again can help."""

    condition: ConditionName
    waiting_for: str
    refresh: Refresh


@dataclass(frozen=True)
class ModelFailed:
    """The model's own fault (design rule 6); `log` names the container log that says more."""

    problem: Problem
    reason_code: Kind
    log: LogToRead | None = None


@dataclass(frozen=True)
class NotJudged:
    """Our side's fault: nothing is known of the model."""

    problem: Problem


def assess(
    application: ApplicationStatus | None,
    workload: WorkloadStatus | None,
    expected: Expected,
    carries_our_image: CarriesOurImage,
) -> RolledOut | Progressing | ModelFailed | NotJudged:
    """Judge one observation of the application and its workload, read at about the same time."""
    if application is None:
        return _not_judged("the Argo CD Application", "an Application", "none", "Create it again from argocd-apps/.")
    if workload is not None and _image(workload, expected).met:
        # What runs is judged before what Argo CD says of it: a crash is no less one while a sync is under way.
        early = _foreign_digest(workload, expected) or _first_failure(workload, expected)
        if early is not None:
            return early
    blocked = _blocked(application, carries_our_image)
    if blocked is not None:
        return blocked
    found = conditions(application, workload, expected, carries_our_image)
    unmet = next((one for one in found if not one.met), None)
    if unmet is not None:
        refresh = _refresh(unmet, application, workload, expected, carries_our_image)
        return Progressing(unmet.name, unmet.finding, refresh)
    assert workload is not None, "without a workload no image is live"
    assert workload.template_hash is not None, "replicas are met by pods of a known template only"
    return RolledOut(workload.template_hash, workload.new_pods)


def at_deadline(
    application: ApplicationStatus | None, workload: WorkloadStatus | None, expected: Expected
) -> ModelFailed | NotJudged:
    """Who is at fault when the deadline is over and the rollout is not.

    A crash or a missing image is the model's in any case; a readiness that does not come is so only when nothing of
    ours is in the way, because both may have one cause.
    """
    subject = str(workload) if workload is not None else "the workload"
    if workload is None or not _image(workload, expected).met:
        said = [f"{kind}: {message}" for kind, message in (application.conditions if application else ())]
        state = f"Argo CD says {application.sync_status} at {application.sync_revision}" if application else "no answer"
        live = workload.images.get(expected.container, "no such container") if workload is not None else "nothing"
        return _not_judged(
            subject,
            f"{expected.image} to be live by the deadline",
            f"{live}; {'; '.join([state, *said])}",
            "Look at the Application in Argo CD (repository, project, destination), then materialize rollout again.",
        )
    if foreign := _foreign_digest(workload, expected):
        return foreign
    troubles = _troubles(workload, expected)
    ranked = sorted(troubles, key=_rank)
    if ranked and ranked[0].fault == "model":
        return _failed(workload, expected, ranked[0])
    replicas = _replicas(workload)
    finding = ranked[0].sentence if ranked else replicas.finding
    if workload.progress_deadline_exceeded:
        finding += " (progressDeadlineSeconds is over, too)"
    return _not_judged(
        subject,
        f"{workload.wanted} available pods of {expected.image} by the deadline",
        finding,
        "Mend the cluster's side, then materialize rollout again; to give the version up, revert its commit.",
    )


def conditions(
    application: ApplicationStatus | None,
    workload: WorkloadStatus | None,
    expected: Expected,
    carries_our_image: CarriesOurImage,
) -> tuple[Condition, ...]:
    """The five conditions, each with what was found, in the order in which they come true."""
    if workload is None:
        live = (
            Condition("image", False, "no such workload is live"),
            Condition("replicas", False, "no workload"),
            Condition("digests", False, "no pods"),
        )
    else:
        live = (_image(workload, expected), _replicas(workload), _digests(workload, expected))
    return _revision(application, carries_our_image), _operation(application), *live


def _revision(application: ApplicationStatus | None, carries_our_image: CarriesOurImage) -> Condition:
    """(a) The compared revision and the last operation's own are ours or descendants that have our image.

    The two may differ: a later commit that changes nothing here is compared, but never synced (argo-cd#16601).
    """
    if application is None:
        return Condition("revision", False, "no Application")
    for what, revision in (
        ("compared", application.sync_revision),
        ("synced", application.operation_revision),
    ):
        if revision is None:
            failed = next((f": {kind}, {message}" for kind, message in application.conditions if "Error" in kind), "")
            return Condition("revision", False, f"Argo CD names no revision that it has {what}{failed}")
        ours = carries_our_image(revision)
        if ours is not True:
            known = "which the branch does not have" if ours is None else "which does not have our image"
            return Condition("revision", False, f"Argo CD has {what} {revision[:12]}, {known}")
    return Condition("revision", True, f"compared and synced at {(application.sync_revision or '')[:12]}")


def _operation(application: ApplicationStatus | None) -> Condition:
    """(b) The operation succeeded, and Argo CD has looked at the result since (kargo#2196)."""
    if application is None or application.operation_phase is None:
        return Condition("operation", False, "Argo CD has run no sync operation")
    phase, finished, reconciled = (
        application.operation_phase,
        application.operation_finished_at,
        application.reconciled_at,
    )
    if phase != "Succeeded":
        said = f" ({application.operation_message})" if application.operation_message else ""
        return Condition("operation", False, f"the sync operation is {phase}{said}")
    if finished is None:
        return Condition("operation", False, "the sync operation Succeeded but has no finishedAt (argo-cd#29636)")
    if reconciled is None or reconciled < finished:
        return Condition("operation", False, "Argo CD has not compared again since the sync operation finished")
    return Condition("operation", True, "the sync operation succeeded and its result was compared")


def _image(workload: WorkloadStatus, expected: Expected) -> Condition:
    """(c) The live workload has our image. A pinned digest decides; a tag beside it is only a comment."""
    text = workload.images.get(expected.container)
    live = parse_image(text) if text else None
    same = live is not None and live.repository == expected.image.repository
    if same and live is not None:
        pinned = expected.image.digest
        same = live.digest == pinned if pinned else live == expected.image
    finding = f"{expected.container} has {text}" if text else f"there is no container {expected.container}"
    return Condition("image", same, finding)


def _replicas(workload: WorkloadStatus) -> Condition:
    """(d) The controller has seen the template, all wanted pods are updated and available, and no old one is left."""
    new = workload.new_pods
    ready = sum(pod.ready for pod in new)
    checks = (
        (workload.observed_generation >= workload.generation, "the controller has not seen the newest generation"),
        (not workload.paused, "the rollout is paused"),
        (workload.template_hash is not None, "no ReplicaSet has the current template"),
        (workload.wanted > 0, "no replicas are wanted, so there is nothing to judge"),
        (workload.updated == workload.wanted, f"{workload.updated} of {workload.wanted} pods are updated"),
        (workload.available == workload.wanted, f"{workload.available} of {workload.wanted} pods are available"),
        (workload.total == workload.wanted, f"{workload.total} pods for {workload.wanted} wanted"),
        (not workload.old_pods, f"old pods are left: {', '.join(pod.name for pod in workload.old_pods)}"),
        (len(new) == ready == workload.wanted, f"{ready} of {workload.wanted} new pods are ready"),
    )
    finding = next((text for met, text in checks if not met), None)
    return Condition("replicas", finding is None, finding or f"all {workload.wanted} pods are new and available")


def _digests(workload: WorkloadStatus, expected: Expected) -> Condition:
    """(e) Each new pod runs an image that is ours by digest, whatever its reference says."""
    pods = workload.new_pods
    unknown = [pod.name for pod in pods if _running(pod, expected.container) is None]
    foreign = [pod.name for pod in pods if _running(pod, expected.container) not in (None, *expected.known_digests)]
    if not pods:
        return Condition("digests", False, "no new pods")
    if unknown or foreign:
        finding = f"{foreign[0]} runs another image" if foreign else f"{unknown[0]} has not reported its image"
        return Condition("digests", False, finding)
    return Condition("digests", True, f"all {len(pods)} pods run a digest of {expected.image}")


def _running(pod: PodStatus, container: str) -> str | None:
    """The digest that a pod's container runs; None until its kubelet has said. No digest at all is a foreign one."""
    status = pod.container(container)
    if status is None or not status.image_id:
        return None
    match = _DIGEST.search(status.image_id)
    return match[0] if match else status.image_id


def _foreign_digest(workload: WorkloadStatus, expected: Expected) -> NotJudged | None:
    for pod in workload.new_pods:
        digest = _running(pod, expected.container)
        if digest is not None and digest not in expected.known_digests:
            return _not_judged(
                f"pod {workload.namespace}/{pod.name}",
                f"one of the digests of {expected.image}",
                f"imageID {digest}",
                "Find out what puts another image under this reference (a mirror, an admission webhook), then "
                "materialize rollout again.",
            )
    return None


def _first_failure(workload: WorkloadStatus, expected: Expected) -> ModelFailed | None:
    final = (one for one in _troubles(workload, expected) if one.final and one.fault == "model")
    trouble = next(final, None)
    return None if trouble is None else _failed(workload, expected, trouble)


def _troubles(workload: WorkloadStatus, expected: Expected) -> Sequence[PodTrouble]:
    found = (explain(pod, expected.container) for pod in workload.current_pods)
    return [one for one in found if one is not None]


def _rank(trouble: PodTrouble) -> int:
    if trouble.fault == "platform":
        # An evicted pod was replaced, and its replacement has its own story.
        return 3 if trouble.kind == "evicted" else 1
    return 2 if trouble.kind == "probe" else 0


def _failed(workload: WorkloadStatus, expected: Expected, trouble: PodTrouble) -> ModelFailed:
    problem = Problem(
        str(workload),
        f"pods of {expected.image} that become ready",
        trouble.sentence,
        "Correct the model or its image and register a new version.",
    )
    return ModelFailed(problem, trouble.kind, trouble.log)


def _blocked(application: ApplicationStatus, carries_our_image: CarriesOurImage) -> NotJudged | None:
    """What Argo CD will not get over by itself. A ComparisonError is not among it: it often ends with its cause."""
    subject = f"Application {application.name}"
    if not application.auto_sync:
        next_step = "Switch auto-sync on again, then materialize rollout."
        return _not_judged(subject, "auto-sync on", "that it was switched off", next_step)
    for kind, message in application.conditions:
        if kind == "InvalidSpecError":
            return _not_judged(subject, "a spec that Argo CD accepts", f"{kind}: {message}", "Correct the Application.")
    revision = application.operation_revision
    if application.operation_phase in ("Failed", "Error") and revision and carries_our_image(revision):
        # Argo CD does not sync the same commit again by itself after a failure, so waiting would never end.
        return _not_judged(
            subject,
            f"commit {revision[:12]} to sync",
            f"{application.operation_phase}: {application.operation_message}",
            f"Mend the cause and run `argocd app sync {application.name}`, then materialize rollout.",
        )
    return None


def _refresh(
    unmet: Condition,
    application: ApplicationStatus,
    workload: WorkloadStatus | None,
    expected: Expected,
    carries_our_image: CarriesOurImage,
) -> Refresh:
    """Whether asking Argo CD to look again helps against the first condition that is not met."""
    revision = application.sync_revision
    moved = revision is not None and carries_our_image(revision) is True
    if not moved:
        return "normal"
    live = workload is not None and _image(workload, expected).met
    if live:
        return (
            "normal" if unmet.name in ("revision", "operation") and application.operation_phase != "Running" else "no"
        )
    # Our revision is compared, nothing is left to sync, and yet our image is not live: older manifests were cached.
    synced = application.sync_status == "Synced" and application.operation_phase != "Running"
    return "hard" if synced or unmet.name == "image" else "no"


def _not_judged(subject: str, expected: str, found: str, next_step: str) -> NotJudged:
    return NotJudged(Problem(subject, expected, found, next_step))
