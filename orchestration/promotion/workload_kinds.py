"""The kinds of workload that a promotion can judge: one entry each, with all that tells a kind from the others.

A Deployment and an Argo Rollout own their pods through ReplicaSets; a StatefulSet and a DaemonSet own them directly,
and keep their templates in ControllerRevisions. KServe makes a Deployment of an InferenceService.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestration.promotion.cluster_status import GivenUp, WorkloadStatus
from orchestration.promotion.json_reading import (
    Json,
    condition_of,
    controller_uid,
    int_of,
    items_of,
    mapping_at,
    text_of,
)

POD_TEMPLATE = ("spec", "template", "spec")
"""Where most kinds have the pod's specification."""
_APPS = ("apps", "v1")
_RANDOM = "[b-df-hj-np-tv-xz24-9]"
"""The characters of which Kubernetes makes hashes and suffixes, without vowels so that they are no words."""
NUMBERED = "-[0-9]+"
"""What a StatefulSet adds to its name in those of its pods, which are never cut off."""
_ROLLOUT_HASH = "rollouts-pod-template-hash"
_KSERVE_MODES = ("Standard", "RawDeployment")
_KSERVE_MODE = "serving.kserve.io/deploymentMode"
_ABORT_WITH_CAUSE = re.compile(r"Rollout aborted update to revision \d+: ")


@dataclass(frozen=True)
class WorkloadKind:
    """How one kind is read."""

    group: str
    version: str
    plural: str
    read: Callable[[WorkloadStatus, Json, Sequence[Json]], WorkloadStatus]
    """Fills in what the object itself says of its rollout, by the object and its revisions."""
    hash_label: str
    """The label by which a pod names the template that it was made of."""
    pod_spec: tuple[str, ...] = POD_TEMPLATE
    """Where a manifest has the pod's specification."""
    revisions: str = ""
    """What of the group `apps` is listed beside it: `replicasets`, `controllerrevisions`, or nothing."""
    when_stuck: str = "Fix the cluster."
    """What a person does about a rollout that does not end, as a sentence."""
    deployment_suffix: str = ""
    """What is added to its name in that of the Deployment that runs its pods; empty for a kind with pods of its own."""
    pod_suffix: str = f"-{_RANDOM}+-{_RANDOM}{{5}}"
    """A regular expression for what is added to its name in those of its pods: of a ReplicaSet's, hash and suffix."""

    @property
    def owns_pods_through_replicasets(self) -> bool:
        """Whether its pods are controlled by its ReplicaSets, and not by itself."""
        return self.revisions == "replicasets"


def _read_deployment(base: WorkloadStatus, raw: Json, revisions: Sequence[Json]) -> WorkloadStatus:
    spec, status = mapping_at(raw, "spec"), mapping_at(raw, "status")
    return replace(
        _with_replicas(base, raw),
        template_hash=_hash_of_equal_template(raw, revisions),
        progress_deadline_exceeded=_deadline_exceeded(status),
        paused=spec.get("paused") is True,
    )


def _read_stateful_set(base: WorkloadStatus, raw: Json, _revisions: Sequence[Json]) -> WorkloadStatus:
    read, status = _with_replicas(base, raw), mapping_at(raw, "status")
    partition = int_of(mapping_at(raw, "spec", "updateStrategy", "rollingUpdate"), "partition")
    by_hand = _on_delete(raw)
    if by_hand is None and partition > 0:
        by_hand = f"updateStrategy.rollingUpdate.partition: {partition}, which keeps the pods below it as they are"
    # The revision belongs to the generation that was observed, and names the old one until the new one is.
    current = text_of(status, "updateRevision") if read.is_observed else None
    return replace(read, template_hash=current, never_rolls_out=by_hand)


def _read_daemon_set(base: WorkloadStatus, raw: Json, revisions: Sequence[Json]) -> WorkloadStatus:
    status = mapping_at(raw, "status")
    return replace(
        base,
        observed_generation=int_of(status, "observedGeneration"),
        wanted=int_of(status, "desiredNumberScheduled"),
        updated=int_of(status, "updatedNumberScheduled"),
        ready=int_of(status, "numberReady"),
        available=int_of(status, "numberAvailable"),
        total=int_of(status, "currentNumberScheduled"),
        template_hash=_hash_of_equal_revision(raw, revisions),
        never_rolls_out=_on_delete(raw),
    )


def _read_rollout(base: WorkloadStatus, raw: Json, replicasets: Sequence[Json]) -> WorkloadStatus:
    """Read an Argo Rollout, whose observed generation is a text.

    Its controller may write the new generation before the rest of the status, so what the status says counts only when
    it is about a ReplicaSet with the images of the template.
    """
    read, spec, status = _with_replicas(base, raw), mapping_at(raw, "spec"), mapping_at(raw, "status")
    observed = text_of(status, "observedGeneration") or ""
    read = replace(
        read,
        observed_generation=int(observed) if observed.isascii() and observed.isdigit() and len(observed) < 10 else 0,
        paused=spec.get("paused") is True,
        progress_deadline_exceeded=_deadline_exceeded(status),
    )
    if mapping_at(raw, "spec", "workloadRef"):
        by_reference = "a workloadRef in place of a pod template, so its own manifest has no image"
        read = replace(read, never_rolls_out=by_reference)
    if not read.is_observed:
        return read
    invalid = condition_of(status, "InvalidSpec")
    if invalid:
        why = f"the Rollout's spec is invalid: {text_of(invalid, 'message') or 'no message'}"
        return replace(read, given_up=GivenUp(False, why))
    current = text_of(status, "currentPodHash")
    if current not in _hashes_of_equal_images(raw, replicasets):
        return read
    return replace(
        read,
        template_hash=current,
        unfinished=_rollout_unfinished(status, spec),
        given_up=_rollout_aborted(status, spec),
    )


def _hashes_of_equal_images(rollout: Json, replicasets: Iterable[Json]) -> set[str | None]:
    """The hashes of a Rollout's own ReplicaSets whose containers have the images of its template.

    The templates themselves differ: the API server fills in a ReplicaSet's defaults and not a Rollout's, and the
    controller adds what the strategy says (`canaryMetadata`, `antiAffinity`).
    """
    owner, wanted = text_of(mapping_at(rollout, "metadata"), "uid"), _images(rollout)
    return {
        text_of(mapping_at(replicaset, "metadata", "labels"), _ROLLOUT_HASH)
        for replicaset in replicasets
        if controller_uid(replicaset) == owner and _images(replicaset) == wanted
    }


def _images(raw: Json) -> list[tuple[str | None, str | None]]:
    template = mapping_at(raw, *POD_TEMPLATE)
    containers = (*items_of(template, "initContainers"), *items_of(template, "containers"))
    return [(text_of(container, "name"), text_of(container, "image")) for container in containers]


def _rollout_unfinished(status: Json, spec: Json) -> str | None:
    pauses = [text_of(pause, "reason") or "no reason" for pause in items_of(status, "pauseConditions")]
    if pauses:
        return f"the Rollout is paused ({', '.join(pauses)}), which a person or its next step ends"
    stable = text_of(status, "stableRS") or text_of(mapping_at(status, "canary"), "stableRS")
    if stable == text_of(status, "currentPodHash"):
        return None
    steps = len(items_of(mapping_at(spec, "strategy", "canary"), "steps"))
    step = f" (step {min(int_of(status, 'currentStepIndex') + 1, steps)} of {steps})" if steps else ""
    return f"the Rollout has not made the new pods its stable ones{step}"


def _rollout_aborted(status: Json, spec: Json) -> GivenUp | None:
    """Why a Rollout goes no further although its spec is valid: a person, an analysis or its deadline aborted it.

    An analysis that could not measure says nothing about the model. Neither do pods that were not ready in time; with
    `progressDeadlineAbort` the controller may abort because of them, and its message is then that of a person's abort.
    """
    progressing = condition_of(status, "Progressing")
    # A person's abort is in `abort` before the controller has dealt with it and said so in its condition.
    if status.get("abort") is not True or progressing.get("reason") != "RolloutAborted":
        return None
    message = text_of(progressing, "message") or ""
    reason = f"the Rollout was aborted: {message or 'no message'}"
    if spec.get("progressDeadlineAbort") is True and not _ABORT_WITH_CAUSE.match(message):
        return GivenUp(False, f"{reason}, by a person or by progressDeadlineAbort")
    return GivenUp("assessed Error" not in message, reason)


def _read_inference_service(base: WorkloadStatus, raw: Json, _revisions: Sequence[Json]) -> WorkloadStatus:
    """Read an InferenceService over the status of its Deployment, which has the counts and the pods."""
    status = mapping_at(raw, "status")
    mode = text_of(status, "deploymentMode") or text_of(mapping_at(raw, "metadata", "annotations"), _KSERVE_MODE)
    other = None if mode in (None, *_KSERVE_MODES) else f"the deployment mode {mode}, which makes no Deployment"
    ready = condition_of(status, "Ready")
    unfinished = base.unfinished
    if unfinished is None and ready.get("status") != "True":
        why = text_of(ready, "message") or text_of(ready, "reason") or "no condition Ready that is True"
        unfinished = f"the InferenceService is not ready: {why}"
    return replace(base, unfinished=unfinished, never_rolls_out=other)


def _with_replicas(base: WorkloadStatus, raw: Json) -> WorkloadStatus:
    spec, status = mapping_at(raw, "spec"), mapping_at(raw, "status")
    replicas = spec.get("replicas")
    return replace(
        base,
        observed_generation=int_of(status, "observedGeneration"),
        wanted=replicas if isinstance(replicas, int) else 1,
        updated=int_of(status, "updatedReplicas"),
        ready=int_of(status, "readyReplicas"),
        available=int_of(status, "availableReplicas"),
        total=int_of(status, "replicas"),
    )


def _deadline_exceeded(status: Json) -> bool:
    return condition_of(status, "Progressing").get("reason") == "ProgressDeadlineExceeded"


def _on_delete(raw: Json) -> str | None:
    if text_of(mapping_at(raw, "spec", "updateStrategy"), "type") != "OnDelete":
        return None
    return "updateStrategy: OnDelete, with which a pod changes only when someone deletes it"


def _hash_of_equal_template(deployment: Json, replicasets: Iterable[Json]) -> str | None:
    """The hash of the Deployment's current ReplicaSet, found as its controller finds it: by an equal template.

    The annotation `deployment.kubernetes.io/revision` names the *old* ReplicaSet from the moment of an edit until the
    controller has seen the edit, which is exactly when a rollout must not be taken for done. A cluster upgrade can
    leave several ReplicaSets with equal templates; the controller uses the oldest.
    """
    owner = text_of(mapping_at(deployment, "metadata"), "uid")
    template = _bare(mapping_at(deployment, "spec", "template"))
    equal = [
        replicaset
        for replicaset in replicasets
        if controller_uid(replicaset) == owner and _bare(mapping_at(replicaset, "spec", "template")) == template
    ]
    oldest = min(equal, key=lambda raw: text_of(mapping_at(raw, "metadata"), "creationTimestamp") or "", default=None)
    return None if oldest is None else text_of(mapping_at(oldest, "metadata", "labels"), "pod-template-hash")


def _hash_of_equal_revision(daemon_set: Json, revisions: Iterable[Json]) -> str | None:
    """The hash of the DaemonSet's current ControllerRevision, found as its controller finds it: by an equal template.

    Of equal ones the controller keeps the newest and deletes the others.
    """
    owner = text_of(mapping_at(daemon_set, "metadata"), "uid")
    template = _bare(mapping_at(daemon_set, "spec", "template"))
    equal = [
        revision
        for revision in revisions
        if controller_uid(revision) == owner and _bare(mapping_at(revision, "data", "spec", "template")) == template
    ]
    newest = max(equal, key=lambda raw: int_of(raw, "revision"), default=None)
    return None if newest is None else text_of(mapping_at(newest, "metadata", "labels"), "controller-revision-hash")


def _bare(template: Json) -> Json:
    """A pod template without what its copies differ in: the hash label, an empty creation time, a patch's directive."""
    metadata = {key: value for key, value in mapping_at(template, "metadata").items() if key != "creationTimestamp"}
    labels = {key: value for key, value in mapping_at(metadata, "labels").items() if key != "pod-template-hash"}
    kept = {key: value for key, value in template.items() if key != "$patch"}
    return {**kept, "metadata": {**metadata, "labels": labels}}


WITH_STORAGE_URI = "InferenceService"
"""The kind whose manifest may give the model's address in place of a container."""

JUDGED: Mapping[str, WorkloadKind] = {
    "DaemonSet": WorkloadKind(
        *_APPS,
        "daemonsets",
        _read_daemon_set,
        "controller-revision-hash",
        revisions="controllerrevisions",
        pod_suffix=f"-{_RANDOM}{{5}}",
    ),
    "Deployment": WorkloadKind(*_APPS, "deployments", _read_deployment, "pod-template-hash", revisions="replicasets"),
    WITH_STORAGE_URI: WorkloadKind(
        "serving.kserve.io",
        "v1beta1",
        "inferenceservices",
        _read_inference_service,
        "pod-template-hash",
        pod_spec=("spec", "predictor"),
        deployment_suffix="-predictor",
    ),
    "Rollout": WorkloadKind(
        "argoproj.io",
        "v1alpha1",
        "rollouts",
        _read_rollout,
        _ROLLOUT_HASH,
        revisions="replicasets",
        when_stuck="Correct what the Rollout waits for, or let it go on: kubectl argo rollouts promote NAME.",
    ),
    "StatefulSet": WorkloadKind(
        *_APPS,
        "statefulsets",
        _read_stateful_set,
        "controller-revision-hash",
        # kubernetes#67250: with OrderedReady the controller waits for a pod before it gives it another template.
        when_stuck="Fix the cluster, and delete pods that never become ready: their StatefulSet waits for them.",
        pod_suffix=NUMBERED,
    ),
}


def kind_fault(kind: str) -> str | None:
    """Say why workloads of a kind cannot be judged; None when they can."""
    if kind in JUDGED:
        return None
    return f"a rollout of kind {kind} cannot be judged; the kinds that can are {', '.join(JUDGED)}"
