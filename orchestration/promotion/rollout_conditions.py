"""The five conditions under which a committed image counts as rolled out (design rule 4).

Argo CD reports the old revision as Synced and Healthy right after a push, and may report the new revision while older,
cached manifests are live (argo-cd#26530). So neither its health nor its sync status is believed: the revision, the
operation, the live image, the replicas and each pod's own image must all agree in one observation.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from orchestration.promotion.cluster_status import ApplicationStatus, PodStatus, WorkloadStatus
from orchestration.promotion.images import ImageRef, parse_image

ConditionName = Literal["revision", "operation", "image", "replicas", "digests"]
CarriesOurImage = Callable[[str], bool | None]
"""Whether a revision is our commit or a descendant that still has our image; None while Git does not know it."""
HadOurImage = Callable[[str], bool]
"""Whether a revision is an ancestor of our commit that has our image already."""


def never(_revision: str) -> bool:
    """Say of each revision that it had not our image before our commit."""
    return False


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Expected:
    """What must be live: the image of a commit, in one container."""

    commit: str
    image: ImageRef
    container: str
    known_digests: frozenset[str]
    """Index, platform manifest and config digests: a kubelet may report the image by any of them."""


@dataclass(frozen=True)
class Condition:
    """One of the five conditions and what was seen, as a row of the table that a person reads."""

    name: ConditionName
    met: bool
    finding: str


def conditions(
    application: ApplicationStatus | None,
    workload: WorkloadStatus | None,
    expected: Expected,
    carries_our_image: CarriesOurImage,
    had_our_image: HadOurImage = never,
) -> tuple[Condition, ...]:
    """The five conditions, each with what was seen, in the order in which they come true."""
    if workload is None:
        live = (
            Condition("image", False, "no such workload"),
            Condition("replicas", False, "no such workload"),
            Condition("digests", False, "no pods"),
        )
    else:
        live = (
            image_condition(workload, expected),
            replicas_condition(workload),
            _digests_condition(workload, expected),
        )
    revision = _revision_condition(application, carries_our_image, had_our_image)
    return revision, _operation_condition(application), *live


def _revision_condition(
    application: ApplicationStatus | None, carries_our_image: CarriesOurImage, had_our_image: HadOurImage
) -> Condition:
    """(a) The compared revision and the synced one are each our commit, or a descendant that has our image.

    The two may differ: a later commit that changes nothing here is compared but never synced (argo-cd#16601). So is
    ours, when it brings back what was synced last, because Argo CD never saw the commit in between.
    """
    if application is None:
        return Condition("revision", False, "no such Application")
    for step, revision in (
        ("compared", application.sync_revision),
        ("synced", application.operation_revision),
    ):
        if revision is None:
            errors = (f": {kind}, {message}" for kind, message in application.conditions if "Error" in kind)
            return Condition("revision", False, f"Argo CD has {step} no revision{next(errors, '')}")
        carries = carries_our_image(revision)
        if step == "synced" and carries is False and application.sync_status == "Synced" and had_our_image(revision):
            carries = True
        if carries is not True:
            why = "which is not on the branch" if carries is None else "which does not have our image"
            return Condition("revision", False, f"Argo CD has {step} {revision[:12]}, {why}")
    return Condition("revision", True, f"Argo CD has compared and synced {(application.sync_revision or '')[:12]}")


def _operation_condition(application: ApplicationStatus | None) -> Condition:
    """(b) The operation succeeded, and Argo CD has compared the result since (kargo#2196)."""
    if application is None or application.operation_phase is None:
        return Condition("operation", False, "Argo CD has not run a sync operation")
    phase, finished, reconciled = (
        application.operation_phase,
        application.operation_finished_at,
        application.reconciled_at,
    )
    if phase != "Succeeded":
        message = f" ({application.operation_message})" if application.operation_message else ""
        return Condition("operation", False, f"the sync operation is {phase}{message}")
    if finished is None:
        return Condition("operation", False, "the sync operation succeeded but has no finishedAt (argo-cd#29636)")
    if reconciled is None or reconciled < finished:
        return Condition("operation", False, "Argo CD has not compared again since the sync operation finished")
    return Condition("operation", True, "the sync operation succeeded, and Argo CD has compared its result")


def image_condition(workload: WorkloadStatus, expected: Expected) -> Condition:
    """(c) The live workload has our image. A pinned digest decides; a tag beside a digest is only a comment."""
    text = workload.images.get(expected.container)
    live = parse_image(text) if text else None
    same = live is not None and live.repository == expected.image.repository
    if same and live is not None:
        pinned = expected.image.digest
        same = live.digest == pinned if pinned else live == expected.image
    finding = f"container {expected.container} has {text}" if text else f"no container {expected.container}"
    return Condition("image", same, finding)


def replicas_condition(workload: WorkloadStatus) -> Condition:
    """(d) The controller has seen the template, all wanted pods are updated and available, and no old pod is left."""
    new = workload.new_pods
    ready = sum(pod.ready for pod in new)
    checks = (
        (workload.observed_generation >= workload.generation, "the controller has not seen the latest generation"),
        (not workload.paused, "the rollout is paused"),
        (workload.template_hash is not None, "no ReplicaSet has the current template"),
        (workload.wanted > 0, "the workload wants no replicas, so there is nothing to judge"),
        (workload.updated == workload.wanted, f"{workload.updated} of {workload.wanted} pods are updated"),
        (workload.available == workload.wanted, f"{workload.available} of {workload.wanted} pods are available"),
        (workload.total == workload.wanted, f"there are {workload.total} pods, but {workload.wanted} are wanted"),
        (not workload.old_pods, f"old pods are left: {', '.join(pod.name for pod in workload.old_pods)}"),
        (len(new) == ready == workload.wanted, f"{ready} of {workload.wanted} new pods are ready"),
    )
    finding = next((text for met, text in checks if not met), None)
    return Condition("replicas", finding is None, finding or f"all {workload.wanted} pods are new and available")


def _digests_condition(workload: WorkloadStatus, expected: Expected) -> Condition:
    """(e) Each new pod runs our image by its digest, whatever its reference says."""
    pods = workload.new_pods
    unreported = [pod.name for pod in pods if running_digest(pod, expected.container) is None]
    others = [
        pod.name for pod in pods if running_digest(pod, expected.container) not in (None, *expected.known_digests)
    ]
    if not pods:
        return Condition("digests", False, "no new pods")
    if unreported or others:
        finding = f"pod {others[0]} runs another image" if others else f"pod {unreported[0]} has not reported its image"
        return Condition("digests", False, finding)
    return Condition("digests", True, f"all {len(pods)} pods run a digest of {expected.image}")


def running_digest(pod: PodStatus, container: str) -> str | None:
    """The digest of the image that a pod's container runs; None until the kubelet has reported an image.

    An image that is reported without a digest is returned as it is: it equals none of the known digests.
    """
    status = pod.container(container)
    if status is None or not status.image_id:
        return None
    match = _DIGEST.search(status.image_id)
    return match[0] if match else status.image_id
