"""What one observation of a rollout means: rolled out, still progressing, or ended, and by whose fault (design rule 6).

The model is blamed only for what its own image does; a failed sync, an image that is not ours or a lost node is the
platform's fault, and says nothing about the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestration.promotion.cluster_status import ApplicationStatus, PodStatus, WorkloadStatus
from orchestration.promotion.pods import Kind, LogToRead, PodTrouble, explain
from orchestration.promotion.problems import Problem
from orchestration.promotion.rollout_conditions import (
    CarriesOurImage,
    Condition,
    ConditionName,
    Expected,
    HadOurImage,
    conditions,
    image_condition,
    never,
    replicas_condition,
    running_digest,
)

Refresh = Literal["no", "normal", "hard"]


@dataclass(frozen=True)
class RolledOut:
    """All five conditions are met; these are the pods that the gate judges next."""

    template_hash: str
    pods: tuple[PodStatus, ...]


@dataclass(frozen=True)
class Progressing:
    """Not rolled out yet: the first unmet condition, and which refresh of the Application may help."""

    condition: ConditionName
    waiting_for: str
    refresh: Refresh


@dataclass(frozen=True)
class ModelFailed:
    """The rollout failed by the model's own fault; `log` names the container log that says more."""

    problem: Problem
    reason_code: Kind
    log: LogToRead | None = None


@dataclass(frozen=True)
class NotJudged:
    """The rollout ended by the platform's fault, which says nothing about the model."""

    problem: Problem


def assess(
    application: ApplicationStatus | None,
    workload: WorkloadStatus | None,
    expected: Expected,
    carries_our_image: CarriesOurImage,
    had_our_image: HadOurImage = never,
) -> RolledOut | Progressing | ModelFailed | NotJudged:
    """Judge one observation of the Application and its workload, read at about the same time."""
    if application is None:
        next_step = "Create the Application again from argocd-apps/."
        return _not_judged("Argo CD", "the policy's Application", "no such Application", next_step)
    if workload is not None and image_condition(workload, expected).met:
        # What runs is judged before what Argo CD says about it: a crash during a sync is still a crash.
        ended = _unknown_digest(workload, expected) or _first_failure(workload, expected)
        if ended is not None:
            return ended
    blocked = _blocked(application, carries_our_image)
    if blocked is not None:
        return blocked
    all_conditions = conditions(application, workload, expected, carries_our_image, had_our_image)
    unmet = next((condition for condition in all_conditions if not condition.met), None)
    if unmet is not None:
        refresh = _refresh(unmet, application, workload, expected, carries_our_image)
        return Progressing(unmet.name, unmet.finding, refresh)
    assert workload is not None, "no image is live without a workload"
    assert workload.template_hash is not None, "only pods of a known template meet the condition on replicas"
    return RolledOut(workload.template_hash, workload.new_pods)


def at_deadline(
    application: ApplicationStatus | None, workload: WorkloadStatus | None, expected: Expected, waiting_for: str
) -> ModelFailed | NotJudged:
    """Decide who is at fault when the rollout has not finished by its deadline.

    A crash or a missing image is always the model's fault. A pod that does not become ready is so only while nothing
    is wrong on the platform's side, because both may have the same cause.

    Args:
        application: The Application at the last look; None when it is gone.
        workload: The workload then; None when it is gone.
        expected: What must be live.
        waiting_for: What the rollout still waited for then.
    """
    subject = str(workload) if workload is not None else "the workload"
    if workload is None or not image_condition(workload, expected).met:
        return _not_judged(
            subject,
            f"{expected.image} to be live by the deadline",
            f"{_what_is_live(workload, expected)}; {_what_argo_cd_reports(application)}",
            "Check the Application in Argo CD (repository, project, destination), then materialize rollout again.",
        )
    if not_ours := _unknown_digest(workload, expected):
        return not_ours
    troubles = _troubles(workload, expected)
    ranked = sorted(troubles, key=_rank)
    if ranked and ranked[0].fault == "model":
        return _failed(workload, expected, ranked[0])
    replicas = replicas_condition(workload)
    if not ranked and replicas.met:
        next_step = "Look at the Application in Argo CD, and sync it, then materialize rollout again."
        return _not_judged("Argo CD", f"commit {expected.commit[:12]} synced by the deadline", waiting_for, next_step)
    finding = ranked[0].sentence if ranked else replicas.finding
    if workload.progress_deadline_exceeded:
        finding += " (progressDeadlineSeconds has passed, too)"
    return _not_judged(
        subject,
        f"{workload.wanted} available pods of {expected.image} by the deadline",
        finding,
        "Fix the cluster, then materialize rollout again; to give the version up, revert its commit.",
    )


def _what_is_live(workload: WorkloadStatus | None, expected: Expected) -> str:
    if workload is None:
        return "no such workload"
    image = workload.images.get(expected.container)
    return f"container {expected.container} with {image}" if image else f"no container {expected.container}"


def _what_argo_cd_reports(application: ApplicationStatus | None) -> str:
    if application is None:
        return "Argo CD has no such Application"
    errors = (f"{kind}: {message}" for kind, message in application.conditions)
    state = f"Argo CD reports {application.sync_status} at {application.sync_revision or 'no revision'}"
    return "; ".join((state, *errors))


def _unknown_digest(workload: WorkloadStatus, expected: Expected) -> NotJudged | None:
    for pod in workload.new_pods:
        digest = running_digest(pod, expected.container)
        if digest is not None and digest not in expected.known_digests:
            return _not_judged(
                f"pod {workload.namespace}/{pod.name}",
                f"one of the digests of {expected.image}",
                f"imageID {digest}",
                "Find out what serves another image under this reference (a mirror, an admission webhook), then "
                "materialize rollout again.",
            )
    return None


def _first_failure(workload: WorkloadStatus, expected: Expected) -> ModelFailed | None:
    for trouble in _troubles(workload, expected):
        if trouble.final and trouble.fault == "model":
            return _failed(workload, expected, trouble)
    return None


def _troubles(workload: WorkloadStatus, expected: Expected) -> Sequence[PodTrouble]:
    troubles = (explain(pod, expected.container) for pod in workload.current_pods)
    return [trouble for trouble in troubles if trouble is not None]


def _rank(trouble: PodTrouble) -> int:
    """Order troubles by what they prove: the lowest one decides who is at fault."""
    if trouble.fault == "platform":
        # An evicted pod has been replaced, and its replacement is judged by itself.
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
    """What Argo CD does not recover from by itself; not a ComparisonError, which often ends with its cause."""
    subject = f"Application {application.name}"
    if not application.auto_sync:
        next_step = "Switch auto-sync on again, then materialize rollout."
        return _not_judged(subject, "auto-sync to be on", "auto-sync switched off", next_step)
    for kind, message in application.conditions:
        if kind == "InvalidSpecError":
            return _not_judged(subject, "a spec that Argo CD accepts", f"{kind}: {message}", "Correct the Application.")
    revision = application.operation_revision
    if application.operation_phase in ("Failed", "Error") and revision and carries_our_image(revision):
        # After a failure Argo CD does not sync the same commit again by itself, so waiting would never end.
        return _not_judged(
            subject,
            f"commit {revision[:12]} to sync",
            f"sync operation {application.operation_phase}: {application.operation_message}",
            f"Fix the cause and run `argocd app sync {application.name}`, then materialize rollout.",
        )
    return None


def _refresh(
    unmet: Condition,
    application: ApplicationStatus,
    workload: WorkloadStatus | None,
    expected: Expected,
    carries_our_image: CarriesOurImage,
) -> Refresh:
    """Which refresh of the Application helps against the first unmet condition."""
    revision = application.sync_revision
    if revision is None or carries_our_image(revision) is not True:
        return "normal"
    syncing = application.operation_phase == "Running"
    if workload is not None and image_condition(workload, expected).met:
        return "normal" if unmet.name in ("revision", "operation") and not syncing else "no"
    # Argo CD has compared our revision and nothing is left to sync, yet our image is not live: it used a stale cache.
    synced = application.sync_status == "Synced" and not syncing
    return "hard" if synced or unmet.name == "image" else "no"


def _not_judged(subject: str, expected: str, found: str, next_step: str) -> NotJudged:
    return NotJudged(Problem(subject, expected, found, next_step))
