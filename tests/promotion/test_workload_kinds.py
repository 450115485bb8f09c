"""Each kind of workload that can be judged, read from objects as real API servers gave them.

The Rollouts are those of Argo CD's own health tests (argo-cd, resource_customizations/argoproj.io/Rollout/testdata:
suspended_v1.0_pausedRollout, degraded_abortedRollout, degraded_statusPhaseMessage, healthy_newWorkloadGeneration), cut
down to what is read. The messages of aborted ones are those of argo-rollouts 1.8.3. The status of the old StatefulSet
is that of gitops-engine's health tests (statefulset-ondelete.yaml). The status of the DaemonSet is Kubernetes 1.34's.
The labels of pods have the forms of logs of real clusters: `ziox-ingester-579b7767cf` of a StatefulSet, `868b4759f5` of
a DaemonSet.
"""

import copy
from typing import Any

import pytest

from orchestration.promotion.cluster_json import parse_inference_service, parse_workload
from orchestration.promotion.cluster_status import GivenUp, WorkloadStatus
from orchestration.promotion.images import ImageRef
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.problems import InvalidInputError
from orchestration.promotion.rights import cluster_rights
from orchestration.promotion.rollout_assessment import ModelFailed, NotJudged, assess
from orchestration.promotion.rollout_conditions import Expected, Revision, replicas_condition
from orchestration.promotion.workload_kinds import JUDGED
from tests.fakes.cluster import a_deployment, a_pod, an_application
from tests.fakes.world import POLICY_TEXT

IMAGE = "ghcr.io/acme/iris:v2@sha256:" + "b" * 64
COMMIT = "c" * 40
EXPECTED = Expected(COMMIT, ImageRef("ghcr.io/acme/iris", "v2", IMAGE[-71:]), "model-server", frozenset((IMAGE[-71:],)))
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "iris"}},
    "spec": {"containers": [{"name": "model-server", "image": IMAGE, "ports": [{"containerPort": 8080}]}]},
}


def obj(spec: dict[str, Any], status: dict[str, Any], generation: int = 5) -> dict[str, Any]:
    metadata = {"name": "iris", "namespace": "ml-apps", "uid": "own", "generation": generation}
    return {"metadata": metadata, "spec": {"template": copy.deepcopy(TEMPLATE), **spec}, "status": status}


def owned(name: str, owner: str, labels: dict[str, str], **fields: Any) -> dict[str, Any]:
    controller = {"uid": owner, "controller": True}
    return {"metadata": {"name": name, "uid": name, "labels": labels, "ownerReferences": [controller]}, **fields}


def pod(name: str, owner: str, label: str, template: str) -> dict[str, Any]:
    container = {"name": "model-server", "image": IMAGE, "imageID": IMAGE, "ready": True, "restartCount": 0}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [container],
    }
    return owned(name, owner, {"app": "iris", label: template}, status=status)


STATEFUL: dict[str, Any] = {
    "observedGeneration": 5,
    "replicas": 2,
    "readyReplicas": 2,
    "availableReplicas": 2,
    "currentReplicas": 2,
    "updatedReplicas": 2,
    "currentRevision": "iris-6b8f9",
    "updateRevision": "iris-6b8f9",
    "collisionCount": 0,
}


def stateful_set(status: dict[str, Any], pods: tuple[str, ...], **strategy: Any) -> WorkloadStatus:
    raw = obj({"replicas": 2, "updateStrategy": {"type": "RollingUpdate", **strategy}}, status)
    labelled = [pod(f"iris-{n}", "own", "controller-revision-hash", revision) for n, revision in enumerate(pods)]
    return parse_workload("StatefulSet", raw, [], labelled, [])


def test_a_stateful_sets_pods_are_told_by_its_update_revision() -> None:
    """The label of its pods is the revision's whole name; a pod of another revision is an old one."""
    done = stateful_set(STATEFUL, ("iris-6b8f9", "iris-6b8f9"))
    assert replicas_condition(done).met
    assert [each.name for each in done.new_pods] == ["iris-0", "iris-1"]
    rolling = stateful_set(
        {**STATEFUL, "updatedReplicas": 1, "currentRevision": "iris-54d7c"}, ("iris-54d7c", "iris-6b8f9")
    )
    assert [each.name for each in rolling.old_pods] == ["iris-0"]
    assert replicas_condition(rolling).finding == "1 of 2 pods are updated"


def test_a_revision_of_an_older_generation_is_not_believed() -> None:
    """Right after an edit the status still names the old revision, whose pods would count as new ones of our image."""
    stale = stateful_set({**STATEFUL, "observedGeneration": 4}, ("iris-6b8f9", "iris-6b8f9"))
    assert stale.template_hash is None
    assert stale.new_pods == ()


@pytest.mark.parametrize(
    ("kind", "strategy", "reason"),
    [
        ("StatefulSet", {"type": "OnDelete"}, "OnDelete"),
        ("StatefulSet", {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}, "partition: 1"),
        ("StatefulSet", {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}, None),
        ("StatefulSet", {}, None),
        ("DaemonSet", {"type": "OnDelete"}, "OnDelete"),
        ("DaemonSet", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}, None),
    ],
)
def test_what_never_rolls_out_by_itself_is_told(kind: str, strategy: dict[str, Any], reason: str | None) -> None:
    """With OnDelete, or below a partition, a new image waits for a person who deletes the pods."""
    found = parse_workload(kind, obj({"updateStrategy": strategy}, {}), [], [], []).never_rolls_out
    assert (found is None) if reason is None else (reason in (found or ""))


def test_a_stateful_set_of_an_old_server_is_read() -> None:
    """Before Kubernetes 1.22 there is no `availableReplicas`, and nothing may be taken for available."""
    status = {
        "collisionCount": 0,
        "currentReplicas": 1,
        "currentRevision": "redis-master-7b8f75b98",
        "observedGeneration": 1,
        "readyReplicas": 1,
        "replicas": 1,
        "updateRevision": "redis-master-7b8f75b98",
        "updatedReplicas": 1,
    }
    raw = obj({"replicas": 1, "updateStrategy": {"type": "OnDelete"}}, status, generation=1)
    workload = parse_workload("StatefulSet", raw, [], [], [])
    assert workload.template_hash == "redis-master-7b8f75b98"
    assert replicas_condition(workload).finding == "0 of 1 pods are available"
    assert "OnDelete" in (workload.never_rolls_out or "")


DAEMON: dict[str, Any] = {
    "observedGeneration": 5,
    "currentNumberScheduled": 2,
    "desiredNumberScheduled": 2,
    "numberAvailable": 2,
    "numberMisscheduled": 0,
    "numberReady": 2,
    "updatedNumberScheduled": 2,
}


def revision(number: int, template_hash: str, owner: str = "own", image: str = IMAGE) -> dict[str, Any]:
    template = {**copy.deepcopy(TEMPLATE), "$patch": "replace"}
    template["metadata"]["creationTimestamp"] = None
    template["spec"]["containers"][0]["image"] = image
    labels = {"app": "iris", "controller-revision-hash": template_hash}
    return owned(f"iris-{template_hash}", owner, labels, revision=number, data={"spec": {"template": template}})


def test_a_daemon_sets_pods_are_told_by_the_revision_with_an_equal_template() -> None:
    """Its status names no revision, so its own ControllerRevision with its template is looked for."""
    pods = [
        pod("iris-a", "own", "controller-revision-hash", "new"),
        pod("iris-b", "own", "controller-revision-hash", "old"),
    ]
    revisions = [
        revision(1, "old", image="ghcr.io/acme/iris:v1"),
        revision(2, "new"),
        revision(9, "other", owner="else"),
    ]
    workload = parse_workload("DaemonSet", obj({}, DAEMON), revisions, pods, [])
    assert workload.template_hash == "new"
    assert [each.name for each in workload.old_pods] == ["iris-b"]
    assert replicas_condition(parse_workload("DaemonSet", obj({}, DAEMON), revisions, pods[:1] * 2, [])).met
    assert parse_workload("DaemonSet", obj({}, DAEMON), revisions[:1], pods, []).template_hash is None
    unavailable = {**DAEMON, "numberReady": 1, "numberAvailable": 1, "numberUnavailable": 1}
    missing = parse_workload("DaemonSet", obj({}, unavailable), revisions, pods[:1] * 2, [])
    assert replicas_condition(missing).finding == "1 of 2 pods are available"


PAUSED: dict[str, Any] = {
    "HPAReplicas": 6,
    "availableReplicas": 6,
    "blueGreen": {},
    "canary": {},
    "conditions": [
        {"type": "Progressing", "status": "Unknown", "reason": "RolloutPaused", "message": "Rollout is paused"}
    ],
    "controllerPause": True,
    "currentPodHash": "8566c77b97",
    "currentStepIndex": 1,
    "message": "CanaryPauseStep",
    "observedGeneration": "5",
    "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2021-07-15T21:08:55Z"}],
    "phase": "Paused",
    "readyReplicas": 6,
    "replicas": 6,
    "stableRS": "77f4f8ff97",
    "updatedReplicas": 2,
}
HEALTHY = {**PAUSED, "pauseConditions": [], "stableRS": "8566c77b97", "replicas": 5, "readyReplicas": 5}
HEALTHY |= {"availableReplicas": 5, "updatedReplicas": 5, "currentStepIndex": 3, "phase": "Healthy", "message": ""}
STEPS = {"canary": {"steps": [{"setWeight": 21}, {"pause": {}}, {"setWeight": 100}]}}


def replicaset(template_hash: str, image: str) -> dict[str, Any]:
    """With the defaults that the API server fills in, and the label that its controller adds."""
    template = copy.deepcopy(TEMPLATE)
    template["metadata"]["labels"]["rollouts-pod-template-hash"] = template_hash
    template["spec"] |= {
        "restartPolicy": "Always",
        "containers": [{**TEMPLATE["spec"]["containers"][0], "image": image}],
    }
    labels = {"rollouts-pod-template-hash": template_hash}
    return owned(f"rs-{template_hash}", "own", labels, spec={"template": template})


def rollout(status: dict[str, Any], pods: dict[str, int] | None = None, **spec: Any) -> WorkloadStatus:
    counts = pods if pods is not None else {"8566c77b97": 5}
    sets = [replicaset(each, IMAGE if each == "8566c77b97" else "ghcr.io/acme/iris:v1") for each in counts]
    labelled = [
        pod(f"iris-{each}-{n}", f"rs-{each}", "rollouts-pod-template-hash", each)
        for each, count in counts.items()
        for n in range(count)
    ]
    return parse_workload("Rollout", obj({"replicas": 5, "strategy": STEPS, **spec}, status), sets, labelled, [])


def test_a_rollout_is_done_when_its_new_pods_are_its_stable_ones() -> None:
    """Its pods carry a label of their own, and its observed generation is a text."""
    done = rollout(HEALTHY)
    assert replicas_condition(done).met
    assert done.observed_generation == 5
    assert len(done.new_pods) == 5


def test_a_paused_rollout_is_waited_for_and_said() -> None:
    """Its own canary may run: the finding names the pause, and the old pods still serve."""
    paused = rollout(PAUSED, {"8566c77b97": 2, "77f4f8ff97": 4})
    assert replicas_condition(paused).finding == (
        "the Rollout is paused (CanaryPauseStep), which a person or its next step ends"
    )
    assert (len(paused.new_pods), len(paused.old_pods)) == (2, 4)
    assert replicas_condition(rollout(HEALTHY, paused=True)).finding == "the rollout is paused"


def test_a_rollout_at_full_weight_is_not_done_while_a_step_is_left() -> None:
    """All pods may be new and ready while an analysis still runs, after which everything may be taken back."""
    waiting = rollout({**HEALTHY, "stableRS": "77f4f8ff97", "currentStepIndex": 1})
    assert replicas_condition(waiting).finding == (
        "the Rollout has not made the new pods its stable ones (step 2 of 3)"
    )


@pytest.mark.parametrize("observed", ["4", "58b949649c", "", None, "8575574967"])
def test_a_rollouts_status_of_another_generation_says_nothing(observed: str | None) -> None:
    """Right after our commit, the pause, the abort and the hash of the rollout before must not be taken for ours.

    Controllers before 0.10 wrote a hash there, which may be made of digits alone.
    """
    stale = rollout({**PAUSED, "abort": True, "observedGeneration": observed})
    assert (stale.unfinished, stale.given_up, stale.template_hash) == (None, None, None)
    assert replicas_condition(stale).finding == "the controller has not seen the latest generation"


def test_a_rollouts_status_that_is_about_the_template_before_says_nothing() -> None:
    """The controller may write the new generation first: then pause, abort and hash are still those of another image.

    In argo-rollouts' checkPausedConditions and patchCondition (rollout/sync.go, v1.8.3).
    """
    before = {**PAUSED, "abort": True, "currentPodHash": "77f4f8ff97"}
    stale = rollout(before, {"77f4f8ff97": 5})
    assert stale.is_observed
    assert (stale.unfinished, stale.given_up, stale.template_hash, stale.new_pods) == (None, None, None, ())
    assert replicas_condition(stale).finding == "the controller has made nothing of the current template"


ABORTED = "Rollout aborted update to revision 2"


def aborted_rollout(message: str, *, reason: str = "RolloutAborted", **spec: Any) -> WorkloadStatus:
    """As argo-rollouts 1.8.3 leaves it: its condition has the message, and `message` has it after the reason."""
    progressing = {"type": "Progressing", "status": "False", "reason": reason, "message": message}
    status = {**PAUSED, "pauseConditions": [], "abort": True, "phase": "Degraded", "conditions": [progressing]}
    return rollout({**status, "message": f"{reason}: {message}"}, **spec)


@pytest.mark.parametrize(
    ("message", "by_verdict"),
    [
        (ABORTED, True),
        (f'{ABORTED}: Metric "success-rate" assessed Failed due to failed (1) > failureLimit (0)', True),
        (
            f'{ABORTED}: Step-based analysis phase error/failed: Metric "p95" assessed Failed due to failed (2) > 1',
            True,
        ),
        (f'{ABORTED}: Metric "up" assessed Error due to consecutiveErrors (1) > consecutiveErrorLimit (0)', False),
    ],
)
def test_an_aborted_rollout_is_a_failed_one(message: str, by_verdict: bool) -> None:
    """A person or an analysis decided against the version; one that could not measure did not (design rule 6)."""
    aborted = aborted_rollout(message)
    assert aborted.given_up == GivenUp(by_verdict, f"the Rollout was aborted: {message}")
    application = an_application(COMMIT, name="iris")
    outcome = assess(application, aborted, EXPECTED, lambda _: Revision.OURS)
    assert isinstance(outcome, ModelFailed if by_verdict else NotJudged)
    assert message in outcome.problem.found
    assert not isinstance(outcome, ModelFailed) or outcome.reason_code == "aborted"


def test_an_abort_that_may_be_the_deadlines_is_nobodys_verdict() -> None:
    """With progressDeadlineAbort, pods that were not ready in time leave the same message as a person's abort."""
    either = aborted_rollout(ABORTED, progressDeadlineAbort=True)
    assert either.given_up == GivenUp(
        False, f"the Rollout was aborted: {ABORTED}, by a person or by progressDeadlineAbort"
    )
    judged = aborted_rollout(f'{ABORTED}: Metric "p95" assessed Failed', progressDeadlineAbort=True)
    assert judged.given_up is not None
    assert judged.given_up.by_verdict


def test_an_abort_counts_once_its_controller_has_dealt_with_it() -> None:
    """Until then `message` still says what the Rollout did before, such as `CanaryPauseStep`."""
    just_aborted = rollout({**PAUSED, "abort": True}, {"8566c77b97": 2, "77f4f8ff97": 4})
    assert just_aborted.given_up is None
    assert replicas_condition(just_aborted).finding.startswith("the Rollout is paused (CanaryPauseStep)")


@pytest.mark.parametrize("crash", [{"restarts": 3, "waiting_reason": "CrashLoopBackOff"}, {"restarts": 1}])
def test_what_a_pod_says_is_believed_before_the_abort(crash: dict[str, Any]) -> None:
    """A Rollout that was aborted because its pods crashed, be it once, has failed by the crash, whatever it says."""
    crashed = a_pod("p", IMAGE, ready=False, last_exit_code=1, **crash)
    base = a_deployment(IMAGE, (crashed,), namespace="ml-apps", name="iris")
    workload = WorkloadStatus(**{**vars(base), "given_up": GivenUp(False, "the Rollout was aborted: timed out")})
    outcome = assess(an_application(COMMIT, name="iris"), workload, EXPECTED, lambda _: Revision.OURS)
    assert isinstance(outcome, ModelFailed)
    assert outcome.reason_code == "crash"


def test_a_rollout_that_its_controller_refuses_is_the_platforms_fault() -> None:
    """An invalid spec says nothing about the model, and waiting does not help."""
    invalid = {"type": "InvalidSpec", "status": "True", "message": "spec.strategy: required"}
    refused = rollout({**HEALTHY, "conditions": [invalid]})
    assert refused.given_up == GivenUp(False, "the Rollout's spec is invalid: spec.strategy: required")
    timed_out = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    late = rollout({**HEALTHY, "conditions": [timed_out]})
    assert late.progress_deadline_exceeded
    assert late.given_up is None


def test_a_rollout_without_a_template_of_its_own_is_told() -> None:
    """With a workloadRef the image is in another object, which this policy does not edit."""
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "iris"}
    assert "workloadRef" in (rollout(HEALTHY, workloadRef=reference).never_rolls_out or "")


def inference_service(mode: str | None, ready: str = "True", **status: Any) -> dict[str, Any]:
    """As in argo-cd's InferenceService/testdata/healthy_raw."""
    annotations = {"serving.kserve.io/deploymentMode": mode} if mode else {}
    metadata = {"name": "iris", "namespace": "ml-apps", "uid": "own", "generation": 2, "annotations": annotations}
    conditions = [{"type": "PredictorReady", "status": ready}, {"type": "Ready", "status": ready, **status}]
    return {"metadata": metadata, "spec": {}, "status": {"conditions": conditions}}


PREDICTOR = a_deployment(IMAGE, (a_pod("p", IMAGE),), namespace="ml-apps", name="iris-predictor")


@pytest.mark.parametrize("mode", ["RawDeployment", "Standard", None])
def test_an_inference_service_is_judged_by_its_deployment_and_its_own_condition(mode: str | None) -> None:
    """The Deployment gives pods and image, and the InferenceService's condition Ready must be true as well."""
    workload = parse_inference_service(inference_service(mode), PREDICTOR)
    assert str(workload) == "InferenceService ml-apps/iris"
    assert workload.images == {"model-server": IMAGE}
    assert replicas_condition(workload).met
    unready = parse_inference_service(inference_service(mode, "False", reason="PredictorNotReady"), PREDICTOR)
    assert replicas_condition(unready).finding == "the InferenceService is not ready: PredictorNotReady"
    without = parse_inference_service(inference_service(mode), None)
    assert not replicas_condition(without).met


@pytest.mark.parametrize("mode", ["Serverless", "Knative", "ModelMesh"])
def test_an_inference_service_of_another_mode_cannot_be_judged(mode: str) -> None:
    """Knative's revisions are not a Deployment, so the promotion is refused before its commit."""
    assert mode in (parse_inference_service(inference_service(mode), None).never_rolls_out or "")


@pytest.mark.parametrize("kind", ["CronJob", "Job", "Pod", "Service", "deployment", ""])
def test_a_policy_refuses_kinds_that_cannot_be_judged(kind: str) -> None:
    """The policy is refused as soon as it is read, and says which kinds can be judged."""
    text = POLICY_TEXT.replace("manifest: {", f"manifest: {{kind: '{kind}', ")
    with pytest.raises(InvalidInputError, match="DaemonSet, Deployment, InferenceService, Rollout, StatefulSet"):
        parse_policy("iris-edge", text)


@pytest.mark.parametrize(
    ("kind", "rights"),
    [
        ("DaemonSet", ["get daemonsets.apps", "list controllerrevisions.apps"]),
        ("Deployment", ["get deployments.apps", "list replicasets.apps"]),
        (
            "InferenceService",
            ["get inferenceservices.serving.kserve.io", "get deployments.apps", "list replicasets.apps"],
        ),
        ("Rollout", ["get rollouts.argoproj.io", "list replicasets.apps"]),
        ("StatefulSet", ["get statefulsets.apps"]),
    ],
)
def test_each_kind_needs_its_own_rights(kind: str, rights: list[str]) -> None:
    """No more than what is read of the kind is asked for, beside what every kind needs."""
    assert kind in JUDGED
    policy = parse_policy("iris-edge", POLICY_TEXT.replace("manifest: {", f"manifest: {{kind: {kind}, "))
    needed = [str(right).removesuffix(" in namespace ml-apps") for right in cluster_rights(policy)]
    assert needed[: len(rights)] == rights
    listed = ["list pods", "list events", "list services"]
    assert needed[len(rights) :] == [*listed, "get pods/log", "create pods/proxy", "list nodes"]
