"""What one observation of a rollout means: rolled out, still progressing, or ended, and by whose fault (design rule 6).

The model is blamed only for what its own image does; a failed sync, an image that is not ours or a lost node is the
platform's fault, and says nothing about the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestration.promotion.cluster_status import ApplicationStatus, PodStatus, WorkloadStatus
from orchestration.promotion.deployed import IMAGE
from orchestration.promotion.live_value import changed_beside
from orchestration.promotion.pods import Kind, LogToRead, PodTrouble, explain
from orchestration.promotion.problems import Problem
from orchestration.promotion.rollout_conditions import (
    Condition,
    ConditionName,
    Expected,
    Recognise,
    Revision,
    conditions,
    image_condition,
    other_than_expected,
    replicas_condition,
    what_is_live,
)
from orchestration.promotion.workload_kinds import JUDGED

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
    recognise: Recognise,
) -> RolledOut | Progressing | ModelFailed | NotJudged:
    """Judge one observation of the Application and its workload, read at about the same time."""
    if application is None:
        next_step = "Create the Application again from argocd-apps/."
        return _not_judged("Argo CD", "the policy's Application", "no such Application", next_step)
    if workload is not None and image_condition(workload, expected).met:
        # What runs is judged before what Argo CD says about it: a crash during a sync is still a crash.
        ended = _not_ours(workload, expected) or _first_failure(workload, expected) or _given_up(workload, expected)
        if ended is not None:
            return ended
    blocked = _blocked(application, recognise)
    if blocked is not None:
        return blocked
    all_conditions = conditions(application, workload, expected, recognise)
    unmet = next((condition for condition in all_conditions if not condition.met), None)
    if unmet is not None:
        refresh = _refresh(unmet, application, workload, expected, recognise)
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
            f"{expected.deployed} to be live by the deadline",
            f"{what_is_live(workload, expected) if workload is not None else 'no such workload'}; "
            f"{_what_argo_cd_reports(application)}",
            "Check the Application in Argo CD (repository, project, destination), then materialize rollout again.",
        )
    if not_ours := _not_ours(workload, expected):
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
        f"{workload.wanted} available pods of {expected.deployed} by the deadline",
        finding,
        f"{JUDGED[workload.kind].when_stuck} Then materialize rollout; to give the version up, revert its commit.",
    )


def _what_argo_cd_reports(application: ApplicationStatus | None) -> str:
    if application is None:
        return "Argo CD has no such Application"
    errors = (f"{kind}: {message}" for kind, message in application.conditions)
    state = f"Argo CD reports {application.sync_status} at {application.sync_revision or 'no revision'}"
    return "; ".join((state, *errors))


def _not_ours(workload: WorkloadStatus, expected: Expected) -> NotJudged | None:
    """What it means that a new pod has something else than its template says, or runs another image."""
    address = expected.slot.holds_address
    for pod in workload.new_pods:
        found = other_than_expected(pod, workload.new_pods, expected)
        if found is not None:
            what = "sets another value or serves another image" if address else "serves another image"
            return _not_judged(
                f"pod {workload.namespace}/{pod.name}",
                f"{expected.deployed}, served by one image"
                if address
                else f"one of the digests of {expected.deployed}",
                found,
                f"Find out what {what} under this reference (a mirror, an admission webhook, a later commit), then "
                "materialize rollout again.",
            )
    return None


def _first_failure(workload: WorkloadStatus, expected: Expected) -> ModelFailed | None:
    for trouble in _troubles(workload, expected):
        if trouble.final and trouble.fault == "model":
            return _failed(workload, expected, trouble)
    return None


def _given_up(workload: WorkloadStatus, expected: Expected) -> ModelFailed | NotJudged | None:
    """What it means that the workload's own controller goes no further; pods say more than it does."""
    given_up = workload.given_up
    if given_up is None:
        return None
    worst = min(_troubles(workload, expected), key=_rank, default=None)
    if worst is not None and worst.fault == "model":
        return _failed(workload, expected, worst)
    if given_up.by_verdict:
        return _failed(workload, expected, PodTrouble("aborted", "model", given_up.reason))
    return _not_judged(
        str(workload),
        f"a rollout of {expected.deployed} that goes on",
        given_up.reason,
        "Correct the cause and let the rollout begin again, then materialize rollout.",
    )


def _troubles(workload: WorkloadStatus, expected: Expected) -> Sequence[PodTrouble]:
    also, image_changed = changed_beside(expected.slot), expected.slot == IMAGE
    explained = (
        explain(pod, expected.container, also_changed=also, image_changed=image_changed)
        for pod in workload.current_pods
    )
    return [trouble for trouble in explained if trouble is not None]


def _rank(trouble: PodTrouble) -> int:
    """Order troubles by what they prove: the lowest one decides who is at fault."""
    if trouble.fault == "platform":
        # An evicted pod has been replaced, and its replacement is judged by itself.
        return 3 if trouble.kind == "evicted" else 1
    return 2 if trouble.kind == "probe" else 0


def _failed(workload: WorkloadStatus, expected: Expected, trouble: PodTrouble) -> ModelFailed:
    problem = Problem(
        str(workload),
        f"pods of {expected.deployed} that become ready",
        trouble.sentence,
        f"Correct the model{' or its image' if expected.slot == IMAGE else ''} and register a new version.",
    )
    return ModelFailed(problem, trouble.kind, trouble.log)


def _blocked(application: ApplicationStatus, recognise: Recognise) -> NotJudged | None:
    """What Argo CD does not recover from by itself; not a ComparisonError, which often ends with its cause."""
    subject = f"Application {application.name}"
    if not application.auto_sync:
        next_step = f"Switch auto-sync on again in {application.is_changed_in}, then materialize rollout."
        return _not_judged(subject, "auto-sync to be on", "auto-sync switched off", next_step)
    for kind, message in application.conditions:
        if kind == "InvalidSpecError":
            next_step = f"Correct it in {application.is_changed_in}, then materialize rollout."
            return _not_judged(subject, "a spec that Argo CD accepts", f"{kind}: {message}", next_step)
    revision = application.operation_revision
    if application.operation_phase in ("Failed", "Error") and revision and recognise(revision) is Revision.OURS:
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
    recognise: Recognise,
) -> Refresh:
    """Which refresh of the Application helps against the first unmet condition."""
    revision = application.sync_revision
    if revision is None or recognise(revision) is not Revision.OURS:
        return "normal"
    syncing = application.operation_phase == "Running"
    if workload is not None and image_condition(workload, expected).met:
        return "normal" if unmet.name in ("revision", "operation") and not syncing else "no"
    # Argo CD has compared our revision and nothing is left to sync, yet our image is not live: it used a stale cache.
    synced = application.sync_status == "Synced" and not syncing
    return "hard" if synced or unmet.name == "image" else "no"


def _not_judged(subject: str, expected: str, found: str, next_step: str) -> NotJudged:
    return NotJudged(Problem(subject, expected, found, next_step))
