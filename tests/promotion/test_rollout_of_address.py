"""Whether a committed address is rolled out, in each of its places: in the template, in each pod, and by one image."""

from dataclasses import replace
from typing import Any

import pytest

from orchestration.promotion.cluster_json import parse_inference_service, parse_workload
from orchestration.promotion.cluster_status import ContainerSpec, PodStatus, WorkloadStatus
from orchestration.promotion.deployed import ModelAddress, Slot
from orchestration.promotion.live_value import live_value, pod_value
from orchestration.promotion.rollout_assessment import (
    ModelFailed,
    NotJudged,
    Progressing,
    RolledOut,
    assess,
    at_deadline,
)
from orchestration.promotion.rollout_conditions import Expected, Revision, conditions
from tests.fakes.cluster import a_deployment, a_pod, an_application

OURS, BEFORE = "models:/iris/7", "models:/iris/2"
INDEX, MANIFEST, OTHER = (f"sha256:{letter * 64}" for letter in "abc")
SERVER = f"ghcr.io/acme/server:1@{INDEX}"
VARIABLE, ARGUMENT, STORAGE_URI = Slot("variable", "MODEL_URI"), Slot("argument", "--model-uri"), Slot("storageUri")
SLOTS = (VARIABLE, ARGUMENT, STORAGE_URI)
APPLICATION = an_application("platform", name="iris")


def recognise(revision: str) -> Revision:
    return Revision.OURS if revision == "platform" else Revision.UNKNOWN


def specs(slot: Slot, address: str) -> tuple[ContainerSpec, ...]:
    """How a pod with that address starts its containers."""
    if slot.kind == "variable":
        return (ContainerSpec("model-server", {slot.name: address}),)
    if slot.kind == "argument":
        return (ContainerSpec("model-server", arguments=("serve", f"{slot.name}={address}")),)
    return ContainerSpec("storage-initializer", arguments=(address, "/mnt/models")), ContainerSpec("model-server")


def pod(name: str, slot: Slot, address: str = OURS, image: str = SERVER, **changes: Any) -> PodStatus:
    return replace(a_pod(name, image, **changes), specs=specs(slot, address))


def workload(slot: Slot, *pods: PodStatus, address: str = OURS, image: str = SERVER) -> WorkloadStatus:
    whole = a_deployment(image, pods or (pod("p1", slot), pod("p2", slot)), namespace="ml", name="iris")
    uri = address if slot.kind == "storageUri" else ""
    return replace(whole, specs=() if uri else specs(slot, address), storage_uri=uri)


def expected(slot: Slot, *, is_pinned: bool = True) -> Expected:
    return Expected("platform", ModelAddress(OURS), "model-server", frozenset((INDEX, MANIFEST)), slot, is_pinned)


def look(slot: Slot, seen: WorkloadStatus, *, is_pinned: bool = True) -> object:
    return assess(APPLICATION, seen, expected(slot, is_pinned=is_pinned), recognise)


@pytest.mark.parametrize("slot", SLOTS)
def test_an_address_in_the_template_and_in_each_pod_is_a_rollout(slot: Slot) -> None:
    """All five conditions hold, whatever the place of the address is."""
    seen = workload(slot)
    assert look(slot, seen) == RolledOut("new", seen.pods)
    rows = {row.name: row.finding for row in conditions(APPLICATION, seen, expected(slot), recognise)}
    assert OURS in rows["image"]
    assert rows["digests"] == f"all 2 pods have {OURS}, and run one image"


@pytest.mark.parametrize("slot", SLOTS)
def test_a_template_with_the_address_before_is_not_rolled_out(slot: Slot) -> None:
    """Synced with older, cached manifests: the live template still has the address before."""
    seen = workload(slot, address=BEFORE)
    outcome = look(slot, seen)
    assert isinstance(outcome, Progressing)
    assert (outcome.condition, outcome.refresh) == ("image", "hard")
    ended = at_deadline(APPLICATION, seen, expected(slot), outcome.waiting_for)
    assert isinstance(ended, NotJudged)
    assert BEFORE in ended.problem.found


@pytest.mark.parametrize("slot", SLOTS)
def test_a_pod_that_still_has_the_old_value_is_not_judged(slot: Slot) -> None:
    """A pod of the new template whose own spec has another address, as a webhook may set it, is no rollout."""
    outcome = look(slot, workload(slot, pod("p1", slot), pod("p2", slot, BEFORE)))
    assert isinstance(outcome, NotJudged)
    assert outcome.problem.found == f"pod p2 has {BEFORE} in place of {OURS}"


def test_a_pod_without_the_address_is_not_judged() -> None:
    """Without KServe's webhook no container downloads the model, so the pod's spec does not have the address."""
    bare = replace(pod("p2", STORAGE_URI), specs=(ContainerSpec("model-server"),))
    outcome = look(STORAGE_URI, workload(STORAGE_URI, pod("p1", STORAGE_URI), bare))
    assert isinstance(outcome, NotJudged)
    assert outcome.problem.found == f"pod p2 has no address in place of {OURS}"


@pytest.mark.parametrize("slot", SLOTS)
def test_a_serving_image_that_changed_within_the_rollout_is_not_judged(slot: Slot) -> None:
    """Pods of one template that run another image than the manifest pins prove nothing about the model."""
    outcome = look(slot, workload(slot, pod("p1", slot), pod("p2", slot, image=f"ghcr.io/acme/server:1@{OTHER}")))
    assert isinstance(outcome, NotJudged)
    assert outcome.problem.found == f"pod p2 runs another image, {OTHER}"


def test_pods_of_a_tag_must_run_one_image() -> None:
    """With a tag, any one image will do, also one that the registry no longer has under it; two will not."""
    moved = f"ghcr.io/acme/server:1@{OTHER}"
    older = workload(VARIABLE, pod("p1", VARIABLE, image=moved), pod("p2", VARIABLE, image=moved))
    assert isinstance(look(VARIABLE, older, is_pinned=False), RolledOut)
    assert isinstance(look(VARIABLE, older), NotJudged)
    by_platform = workload(
        VARIABLE, pod("p1", VARIABLE), pod("p2", VARIABLE, image=f"ghcr.io/acme/server:1@{MANIFEST}")
    )
    assert isinstance(look(VARIABLE, by_platform, is_pinned=False), RolledOut)
    mixed = workload(VARIABLE, pod("p1", VARIABLE), pod("p2", VARIABLE, image=moved))
    outcome = look(VARIABLE, mixed, is_pinned=False)
    assert isinstance(outcome, NotJudged)
    assert outcome.problem.found == f"pod p2 runs {OTHER}, and another pod another image"


def test_a_pod_that_has_reported_no_image_is_waited_for() -> None:
    """An address in its spec alone does not say that a pod runs."""
    outcome = look(VARIABLE, workload(VARIABLE, pod("p1", VARIABLE), pod("p2", VARIABLE, image_id="")))
    assert isinstance(outcome, Progressing)
    assert outcome.condition == "digests"


def test_a_model_that_does_not_load_is_the_model_s_fault_and_a_missing_image_is_not() -> None:
    """The promotion changed the address: a crash is the model's fault, and an image that is gone is the platform's."""
    crash: dict[str, Any] = {"ready": False, "restarts": 3, "waiting_reason": "CrashLoopBackOff", "last_exit_code": 1}
    failed = look(VARIABLE, workload(VARIABLE, pod("p1", VARIABLE, **crash)))
    assert isinstance(failed, ModelFailed)
    assert failed.problem.next_step == "Correct the model and register a new version."
    missing: dict[str, Any] = {"ready": False, "waiting_reason": "ErrImagePull", "waiting_message": "manifest unknown"}
    seen = workload(VARIABLE, pod("p1", VARIABLE, **missing))
    assert isinstance(look(VARIABLE, seen), Progressing)
    ended = at_deadline(APPLICATION, replace(seen, available=0), expected(VARIABLE), "pods")
    assert isinstance(ended, NotJudged)
    assert "the promotion did not change that image" in ended.problem.found


def test_a_model_that_cannot_be_downloaded_is_the_model_s_fault() -> None:
    """KServe's storage initializer is started with the address, so its crash is judged as the server's would be."""
    crashing = a_pod("p1", SERVER, container="storage-initializer", ready=False, restarts=3, last_exit_code=1)
    waiting = replace(pod("p1", STORAGE_URI, ready=False, waiting_reason="PodInitializing"))
    both = replace(waiting, containers=(*crashing.containers, *waiting.containers))
    failed = look(STORAGE_URI, workload(STORAGE_URI, both))
    assert isinstance(failed, ModelFailed)
    assert failed.log is not None
    assert failed.log.container == "storage-initializer"


@pytest.mark.parametrize(
    "arguments",
    [(), ("--model-uri",), ("--model-uri=a", "--model-uri=b"), ("--model-uri=a", "--model-uri"), ("--model-uri-2=a",)],
)
def test_an_argument_that_is_missing_or_there_twice_has_no_value(arguments: tuple[str, ...]) -> None:
    """What a server would make of it is not known, so it counts as nothing."""
    seen = replace(workload(ARGUMENT), specs=(ContainerSpec("model-server", arguments=arguments),))
    assert live_value(seen, "model-server", ARGUMENT) == ""
    assert live_value(seen, "other", ARGUMENT) == ""


TEMPLATE: dict[str, Any] = {
    "metadata": {"annotations": {"internal.serving.kserve.io/storage-initializer-sourceuri": OURS}},
    "spec": {
        "containers": [
            {
                "name": "model-server",
                "image": SERVER,
                "command": ["serve", "--model-uri"],
                "args": [OURS],
                "env": [{"name": "MODEL_URI", "value": OURS}],
            }
        ]
    },
}


def test_the_live_values_are_read_from_the_api_s_objects() -> None:
    """A template's variable, argument (over the end of `command`) and annotation are read, and a pod's own as well."""
    metadata = {"name": "iris", "namespace": "ml", "uid": "u"}
    raw = {"metadata": metadata, "spec": {"template": TEMPLATE}}
    owned = {"name": "p", "ownerReferences": [{"controller": True, "uid": "s"}]}
    initializer = {"name": "storage-initializer", "args": [OURS, "/mnt/models"]}
    one = {"metadata": owned, "spec": {**TEMPLATE["spec"], "initContainers": [initializer]}}
    replicaset = {"metadata": {"uid": "s", "ownerReferences": [{"controller": True, "uid": "u"}]}}
    seen = parse_workload("Deployment", raw, [replicaset], [one], [])
    by_kserve = parse_inference_service({"metadata": {**metadata, "name": "iris"}}, seen)
    for slot in SLOTS:
        assert live_value(by_kserve, "model-server", slot) == OURS
        assert pod_value(seen.pods[0], "model-server", slot) == OURS
