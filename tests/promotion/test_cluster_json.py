"""Reading Argo CD's and Kubernetes' JSON, and which pods of a workload are new, current or old."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.cluster_json import (
    parse_application,
    parse_inference_service,
    parse_node,
    parse_service,
    parse_workload,
)
from orchestration.promotion.cluster_status import ClusterService, ContainerPort, ServicePort

IMAGE = "ghcr.io/o/model:abc@sha256:" + "a" * 64


def deployment(image: str = IMAGE, revision: str = "2") -> dict[str, Any]:
    return {
        "metadata": {
            "name": "iris",
            "namespace": "ml-apps",
            "uid": "d-1",
            "generation": 3,
            "annotations": {"deployment.kubernetes.io/revision": revision},
        },
        "spec": {
            "replicas": 2,
            "template": {
                "metadata": {"creationTimestamp": None, "labels": {"app": "iris"}},
                "spec": {
                    "initContainers": [{"name": "wait", "image": "busybox:1"}],
                    "containers": [
                        {"name": "model-server", "image": image, "ports": [{"containerPort": 8080}]},
                    ],
                },
            },
        },
        "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1},
    }


def replicaset(
    image: str, hash_: str, revision: str = "1", owner: str = "d-1", made: str = "2026-01-01T00:00:00Z"
) -> Any:
    template = copy.deepcopy(deployment(image)["spec"]["template"])
    template["metadata"]["labels"]["pod-template-hash"] = hash_
    return {
        "metadata": {
            "uid": f"{owner}-{hash_}",
            "labels": {"app": "iris", "pod-template-hash": hash_},
            "creationTimestamp": made,
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"kind": "Deployment", "uid": owner, "controller": True}],
        },
        "spec": {"template": template},
    }


def pod(name: str, hash_: str, owner: str = "d-1", **status: Any) -> dict[str, Any]:
    """A pod of the ReplicaSet that `replicaset` makes with the same hash and owner."""
    return {
        "metadata": {
            "name": name,
            "uid": f"u-{name}",
            "labels": {"app": "iris", "pod-template-hash": hash_},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "uid": f"{owner}-{hash_}", "controller": True}],
        },
        "spec": {"nodeName": "edge-0"},
        "status": {"phase": "Running", **status},
    }


def test_an_application_says_how_it_is_applied() -> None:
    """Whether the API server applies it, and what it adds to a kustomization."""
    source = {"kustomize": {"images": ["a:b"], "patches": []}}
    raw = {"spec": {"source": source, "syncPolicy": {"syncOptions": ["Prune=false", "ServerSideApply=true"]}}}
    read = parse_application(raw)
    assert read.source is not None
    assert (read.applies_server_side, read.source.kustomize_fields) == (True, frozenset(("images", "patches")))
    assert not parse_application({"spec": {"source": source}}).applies_server_side


def test_the_current_replicaset_is_found_by_its_template_and_not_by_a_stale_annotation() -> None:
    """Right after an edit the revision annotation still names the old ReplicaSet and must not be believed."""
    old = replicaset("ghcr.io/o/model:old", "aaa", revision="2")
    before = parse_workload("Deployment", deployment(revision="2"), [old], [], [])
    after = parse_workload("Deployment", deployment(revision="2"), [old, replicaset(IMAGE, "bbb", "3")], [], [])
    assert before.template_hash is None
    assert after.template_hash == "bbb"


def test_of_equal_replicasets_the_oldest_own_one_is_current() -> None:
    """The controller uses the oldest equal ReplicaSet; one that another Deployment owns is never the current one."""
    foreign = replicaset(IMAGE, "ccc", owner="d-2", made="2020-01-01T00:00:00Z")
    sets = [replicaset(IMAGE, "bbb", made="2026-01-02T00:00:00Z"), foreign, replicaset(IMAGE, "aaa")]
    assert parse_workload("Deployment", deployment(), sets, [], []).template_hash == "aaa"


OLD_SET, NEW_SET = replicaset("ghcr.io/o/model:old", "aaa"), replicaset(IMAGE, "bbb")


def test_a_service_is_read_with_where_it_leads() -> None:
    """A target that is not stated is the port itself; only TCP counts, and a Service without a selector has none."""
    ports = [
        {"port": 80},
        {"port": 81, "targetPort": 8080, "nodePort": 30808},
        {"port": 82, "targetPort": "http"},
        {"port": 53, "protocol": "UDP"},
    ]
    raw = {"metadata": {"name": "iris"}, "spec": {"selector": {"app": "iris"}, "ports": ports}}
    read = (ServicePort(80, 80), ServicePort(81, 8080, 30808), ServicePort(82, "http"))
    assert parse_service(raw) == ClusterService("iris", {"app": "iris"}, read)
    entries = [{"ip": "203.0.113.5"}, {"hostname": "lb.example", "ip": "203.0.113.6"}, {}]
    balanced = {**raw, "status": {"loadBalancer": {"ingress": entries}}}
    assert parse_service(balanced).addresses == ("203.0.113.5", "lb.example")
    assert parse_service({"spec": {"externalIPs": ["203.0.113.7"]}}).addresses == ("203.0.113.7",)
    assert parse_service({"spec": {"type": "ExternalName"}}) == ClusterService("", {}, ())
    assert not parse_service({}).selects({"app": "iris"})


def test_a_workload_is_read_with_counts_images_ports_and_its_own_pods() -> None:
    """Absent counts are zero, and a pod that is being deleted is not new."""
    pods = [pod("new", "bbb"), pod("old", "aaa"), pod("gone", "bbb")]
    pods[2]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    workload = parse_workload("Deployment", deployment(), [OLD_SET, NEW_SET], pods, [])
    counts = (workload.wanted, workload.updated, workload.ready, workload.available, workload.total)
    assert counts == (2, 2, 1, 0, 2)
    assert workload.images == {"wait": "busybox:1", "model-server": IMAGE}
    assert workload.ports == {"model-server": (ContainerPort("", 8080),)}
    assert [status.name for status in workload.new_pods] == ["new"]
    assert [status.name for status in workload.old_pods] == ["old"]


def test_pods_with_the_same_labels_that_another_object_controls_are_not_old_ones() -> None:
    """A canary Deployment, a Job or a person may run pods that the selector matches; the chain of controllers decides.

    An owner that is not the controller does not count, and neither does the Deployment of the same name before.
    """
    canary = replicaset("ghcr.io/o/model:canary", "ccc", owner="d-2")
    kept = pod("kept", "ccc", owner="d-2")
    kept["metadata"]["ownerReferences"].insert(0, {"kind": "ReplicaSet", "uid": "d-1-bbb"})
    pods = [
        pod("new", "bbb"),
        pod("canary", "ccc", owner="d-2"),
        pod("job", "bbb", owner="job"),
        pod("bare", "bbb"),
        kept,
    ]
    del pods[3]["metadata"]["ownerReferences"]
    workload = parse_workload("Deployment", deployment(), [NEW_SET, canary], pods, [])
    assert [status.name for status in workload.pods] == ["new"]
    assert workload.old_pods == ()


def test_an_evicted_pod_is_neither_new_nor_old() -> None:
    """A Failed pod lingers after its replacement serves; it must not hold the rollout up for ever."""
    pods = [pod("new", "bbb"), pod("evicted", "bbb", phase="Failed", reason="Evicted")]
    workload = parse_workload("Deployment", deployment(), [NEW_SET], pods, [])
    assert [status.name for status in workload.new_pods] == ["new"]
    assert workload.old_pods == ()
    assert [status.reason for status in workload.current_pods] == [None, "Evicted"]


def test_while_the_template_is_unknown_there_are_no_new_pods() -> None:
    """A pod without a hash is not mistaken for a pod of a ReplicaSet that does not exist yet."""
    unlabelled = pod("unlabelled", "aaa")
    del unlabelled["metadata"]["labels"]["pod-template-hash"]
    workload = parse_workload("Deployment", deployment(), [OLD_SET], [unlabelled], [])
    assert workload.new_pods == ()
    assert [status.name for status in workload.old_pods] == ["unlabelled"]


def test_a_pod_says_why_it_waits_crashed_or_cannot_be_placed() -> None:
    """A container's states, the scheduler's message and the warning events, oldest first, are read."""
    status: dict[str, Any] = {
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}],
        "containerStatuses": [
            {
                "name": "model-server",
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                "lastState": {"terminated": {"reason": "Error", "exitCode": 1, "message": "boom"}},
            }
        ],
    }
    about = {"kind": "Pod", "name": "p"}
    events = [
        {
            "type": "Warning",
            "reason": "B",
            "message": "2",
            "involvedObject": about,
            "lastTimestamp": "2026-01-01T00:00:02Z",
        },
        {
            "type": "Warning",
            "reason": "A",
            "message": "1",
            "involvedObject": about,
            "eventTime": "2026-01-01T00:00:01.5Z",
        },
        {"type": "Normal", "reason": "C", "message": "3", "involvedObject": about},
    ]
    (waiting,) = parse_workload("Deployment", deployment(), [NEW_SET], [pod("p", "bbb", **status)], events).pods
    (container,) = waiting.containers
    assert waiting.unschedulable == "0/1 nodes"
    status["conditions"][0] |= {"status": "True"}
    (placed,) = parse_workload("Deployment", deployment(), [NEW_SET], [pod("p", "bbb", **status)], []).pods
    assert placed.unschedulable is None
    assert waiting.warnings == ("A: 1", "B: 2")
    assert (container.waiting_reason, container.last_exit_code, container.last_message) == (
        "CrashLoopBackOff",
        1,
        "boom",
    )
    assert (container.restarts, container.ready, container.image_id) == (3, False, "")


def test_a_pod_says_how_its_containers_are_started() -> None:
    """Literal variables with their values, the later of two; others without one; and what replaces the image's own."""
    raw = pod("p", "bbb")
    elsewhere = {"configMapKeyRef": {"name": "m", "key": "uri"}}
    raw["spec"] |= {
        "initContainers": [{"name": "wait", "command": ["sleep", "1"]}],
        "containers": [
            {
                "name": "model-server",
                "envFrom": [{"configMapRef": {"name": "m"}}],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "A", "value": "2"},
                    {"name": "EMPTY"},
                    {"name": "MADE", "value": "x/$(A)"},
                    {"name": "MODEL_URI", "valueFrom": elsewhere},
                    "hostile",
                ],
            }
        ],
    }
    (status,) = parse_workload("Deployment", deployment(), [NEW_SET], [raw], []).pods
    spec, init = status.spec("model-server"), status.spec("wait")
    assert spec is not None
    assert init is not None
    assert spec.environment == {"A": "2", "EMPTY": "", "MADE": None, "MODEL_URI": None}
    assert (spec.takes_more_environment, spec.replaces_command) == (True, False)
    assert (init.takes_more_environment, init.replaces_command) == (False, True)
    assert status.spec("other") is None


C1, C2, C3 = ("1" * 40, "2" * 40, "3" * 64)
APPLICATION: dict[str, Any] = {
    "metadata": {"name": "iris"},
    "spec": {"syncPolicy": {"automated": {"prune": True}}},
    "status": {
        "sync": {"status": "Synced", "revision": C2},
        "health": {"status": "Healthy"},
        "reconciledAt": "2026-01-01T00:00:03Z",
        "conditions": [{"type": "ComparisonError", "message": "no repo"}],
        "operationState": {
            "phase": "Succeeded",
            "message": "ok",
            "finishedAt": "2026-01-01T00:00:02.123456789Z",
            "syncResult": {"revision": C1},
        },
    },
}


def test_an_application_is_read_with_both_of_its_revisions_and_times() -> None:
    """The compared and the synced revision may differ, and times come with and without fractions."""
    application = parse_application(APPLICATION)
    assert (application.sync_revision, application.operation_revision) == (C2, C1)
    assert application.operation_finished_at == pytest.approx(1767225602.123456)
    assert application.reconciled_at == 1767225603.0
    assert application.conditions == (("ComparisonError", "no repo"),)


def test_the_addresses_that_argo_cd_tells_are_read() -> None:
    """Those of Ingresses, and links that people set, with their titles; what is no address of one host is left out."""
    urls = ["https://iris.example.org/predict", "Board|https://grafana.example", "http://*.example.org", "mailto:x", 7]
    read = parse_application({"status": {"summary": {"externalURLs": urls}}}).external_urls
    assert read == ("https://iris.example.org/predict", "https://grafana.example")


def test_a_branchs_name_is_not_a_revision() -> None:
    """While Argo CD cannot read the manifests, it names the branch that it should compare and not a commit."""
    raw = copy.deepcopy(APPLICATION)
    raw["status"]["sync"] = {"status": "Unknown", "revision": "main"}
    assert parse_application(raw).sync_revision is None


def test_an_operation_that_has_no_result_yet_has_the_revision_it_was_asked_for() -> None:
    """Until an operation has a result, only its request says what it syncs."""
    raw = copy.deepcopy(APPLICATION)
    raw["status"]["operationState"] = {"phase": "Running", "operation": {"sync": {"revision": C3}}}
    application = parse_application(raw)
    assert (application.operation_revision, application.operation_finished_at) == (C3, None)


@pytest.mark.parametrize(
    ("policy", "on"),
    [
        ({"automated": {}}, True),
        ({"automated": {"enabled": True}}, True),
        ({"automated": {"enabled": False, "prune": True}}, False),
        ({"automated": None}, False),
        ({}, False),
        (None, False),
    ],
)
def test_auto_sync_is_on_when_automated_is_present_and_not_disabled(policy: object, on: bool) -> None:
    """`automated: {}` is on; `enabled: false` is off whatever else is set beside it."""
    assert parse_application({"spec": {"syncPolicy": policy}}).auto_sync is on


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z"])
def test_a_malformed_time_reads_as_absent(text: str) -> None:
    """A time without a zone, or one that no calendar has, never counts as reached."""
    assert parse_application({"status": {"reconciledAt": text}}).reconciled_at is None


def test_a_node_is_ready_only_when_it_says_so() -> None:
    """Unknown, which a lost node's condition says, is not ready."""
    for status, ready in (("True", True), ("False", False), ("Unknown", False)):
        raw = {
            "metadata": {"name": "n", "labels": {"kubernetes.io/arch": "arm64"}},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        }
        node = parse_node(raw)
        assert (node.architecture, node.ready) == ("arm64", ready)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "spec", "status", "template", "conditions", "labels", "containers", "name"])
            | st.sampled_from(["containerStatuses", "state", "sync", "operationState", "syncPolicy", "ports"])
            | st.sampled_from(["updateStrategy", "strategy", "canary", "steps", "pauseConditions", "abort", "data"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
OBJECT = st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), JSON)


@given(OBJECT, OBJECT, OBJECT)
def test_no_shape_of_json_stops_the_parsers(raw: Any, owned: Any, event: Any) -> None:
    """An object of an unexpected shape must not crash a promotion (CVE-2026-40886)."""
    parse_application(raw)
    parse_node(raw)
    for kind in ("DaemonSet", "Deployment", "Rollout", "StatefulSet"):
        parse_workload(kind, raw, [owned], [owned], [event])
    parse_inference_service(raw, None)
