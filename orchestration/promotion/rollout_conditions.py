"""The five conditions under which a committed image, or address, counts as rolled out (design rule 4).

Argo CD reports the old revision as Synced and Healthy right after a push, and may report the new revision while older,
cached manifests are live (argo-cd#26530). So neither its health nor its sync status is believed: the revision, the
operation, the live image, the replicas and each pod's own image must all agree in one observation.

Of an address, the live value must be ours in the template and in each pod's own spec, and all new pods must run one
image: an address says nothing of the program that follows it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from orchestration.promotion.cluster_status import ApplicationStatus, PodStatus, WorkloadStatus
from orchestration.promotion.deployed import IMAGE, Deployed, Slot, is_same
from orchestration.promotion.live_value import live_value, pod_value

ConditionName = Literal["revision", "operation", "image", "replicas", "digests"]


class Revision(Enum):
    """What a revision that Argo CD reports is to our commit."""

    OURS = auto()
    """Our commit, or a descendant that still has our image."""
    EARLIER = auto()
    """An ancestor of our commit that has our image already."""
    OTHER = auto()
    """A commit of the branch that does not have our image, or our address."""
    UNKNOWN = auto()
    """No commit of the branch as Git has it now."""


Recognise = Callable[[str], Revision]
"""Says of a revision's id what it is to our commit."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Expected:
    """What must be live: the image or the address of a commit, in one container."""

    commit: str
    deployed: Deployed
    container: str
    known_digests: frozenset[str]
    """Index, platform manifest and config digests: a kubelet may report the image by any of them.

    Those of the image that serves the model, when an address is deployed.
    """
    slot: Slot = IMAGE
    is_pinned: bool = True
    """Whether the manifest names the image by its digest, so that pods may run no other one."""


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
    recognise: Recognise,
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
    return (
        _revision_condition(application, recognise, expected.slot.noun),
        _operation_condition(application),
        *live,
    )


def _revision_condition(application: ApplicationStatus | None, recognise: Recognise, what: str) -> Condition:
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
        known = recognise(revision)
        was_synced = step == "synced" and known is Revision.EARLIER and application.sync_status == "Synced"
        if known is not Revision.OURS and not was_synced:
            why = "which is not on the branch" if known is Revision.UNKNOWN else f"which does not have our {what}"
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
    """(c) The live workload has our image, or our address."""
    text = live_value(workload, expected.container, expected.slot)
    return Condition("image", is_same(text, str(expected.deployed)), what_is_live(workload, expected))


def what_is_live(workload: WorkloadStatus, expected: Expected) -> str:
    """Say what the live workload has in place of what is expected."""
    container, slot = expected.container, expected.slot
    text = live_value(workload, container, slot)
    if slot == IMAGE:
        return f"container {container} has {text}" if text else f"no container {container}"
    where = slot if slot.kind == "storageUri" else f"{slot} of container {container}"
    return f"{where} is {text or 'not set, or made of something else'}"


def replicas_condition(workload: WorkloadStatus) -> Condition:
    """(d) The controller has seen the template, all wanted pods are updated and available, and no old pod is left."""
    new = workload.new_pods
    ready = sum(pod.ready for pod in new)
    checks = (
        (workload.is_observed, "the controller has not seen the latest generation"),
        (not workload.paused, "the rollout is paused"),
        (workload.template_hash is not None, "the controller has made nothing of the current template"),
        (workload.unfinished is None, workload.unfinished or ""),
        (workload.wanted > 0, "the workload wants no replicas, so there is nothing to judge"),
        (workload.updated == workload.wanted, f"{workload.updated} of {workload.wanted} pods are updated"),
        (workload.total == workload.wanted, f"there are {workload.total} pods, but {workload.wanted} are wanted"),
        (workload.available == workload.wanted, f"{workload.available} of {workload.wanted} pods are available"),
        (not workload.old_pods, f"old pods are left: {', '.join(pod.name for pod in workload.old_pods)}"),
        (len(new) == ready == workload.wanted, f"{ready} of {workload.wanted} new pods are ready"),
    )
    finding = next((text for met, text in checks if not met), None)
    return Condition("replicas", finding is None, finding or f"all {workload.wanted} pods are new and available")


def _digests_condition(workload: WorkloadStatus, expected: Expected) -> Condition:
    """(e) Each new pod runs our image by its digest, or has our address and the one serving image."""
    pods = workload.new_pods
    if not pods:
        return Condition("digests", False, "no new pods")
    others = [found for pod in pods if (found := other_than_expected(pod, pods, expected))]
    unreported = [pod.name for pod in pods if running_digest(pod, expected.container) is None]
    if unreported or others:
        return Condition("digests", False, others[0] if others else f"pod {unreported[0]} has not reported its image")
    if expected.slot == IMAGE:
        return Condition("digests", True, f"all {len(pods)} pods run a digest of {expected.deployed}")
    return Condition("digests", True, f"all {len(pods)} pods have {expected.deployed}, and run one image")


def other_than_expected(pod: PodStatus, pods: Sequence[PodStatus], expected: Expected) -> str | None:
    """Say what a new pod has that is not ours, which never changes in a pod; None when that is not so, or not known.

    Args:
        pod: The pod.
        pods: All new pods.
        expected: What they must have.
    """
    value = pod_value(pod, expected.container, expected.slot)
    if expected.slot != IMAGE and not is_same(value, str(expected.deployed)):
        return f"pod {pod.name} has {value or f'no {expected.slot.noun}'} in place of {expected.deployed}"
    digest, known = running_digest(pod, expected.container), expected.known_digests
    if digest is None or digest in known:
        return None
    if expected.is_pinned:
        return f"pod {pod.name} runs another image, {digest}"
    running = {digest for each in pods if (digest := running_digest(each, expected.container)) is not None}
    return f"pod {pod.name} runs {digest}, and another pod another image" if len(running) > 1 else None


def running_digest(pod: PodStatus, container: str) -> str | None:
    """The digest of the image that a pod's container runs; None until the kubelet has reported an image.

    An image that is reported without a digest is returned as it is: it equals none of the known digests.
    """
    status = pod.container(container)
    if status is None or not status.image_id:
        return None
    match = _DIGEST.search(status.image_id)
    return match[0] if match else status.image_id
