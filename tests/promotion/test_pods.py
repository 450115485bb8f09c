"""Why a pod does not become ready, and whose fault that is."""

from dataclasses import replace
from typing import Any

import pytest

from orchestration.promotion.cluster_status import ContainerStatus, PodStatus
from orchestration.promotion.pods import LogToRead, PodTrouble, explain, lost_with_its_node, own_restarts

NAME = "model-server"


def pod(warnings: tuple[str, ...] = (), others: tuple[ContainerStatus, ...] = (), **container: Any) -> PodStatus:
    """A pod that is not ready, whose promoted container has these fields."""
    status = replace(ContainerStatus(NAME, "image", "", False, 0), **container)
    return PodStatus("p", "u", "new", "Pending", False, False, "edge-0", 0.0, (status, *others), warnings=warnings)


def trouble(status: PodStatus) -> PodTrouble:
    explained = explain(status, NAME)
    assert explained is not None
    return explained


IMAGE = '"ghcr.io/o/not-found-401:503@sha256:' + "a" * 64 + '"'


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (f"failed to pull and unpack image {IMAGE}: failed to resolve reference {IMAGE}: not found", "model"),
        ("manifest for x:1 not found: manifest unknown: manifest unknown", "model"),
        ("no match for platform in manifest: not found", "model"),
        (f"failed to resolve {IMAGE}: unexpected status: 503 Service Unavailable", "platform"),
        ("unexpected status from HEAD request: 401 Unauthorized", "platform"),
        ("pull access denied, repository does not exist or may require authorization", "platform"),
        ("not found; mirror: 401 Unauthorized", "platform"),
        ("dial tcp: lookup ghcr.io: no such host", "platform"),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", "platform"),
        ("net/http: TLS handshake timeout", "platform"),
        ("toomanyrequests: You have reached your pull rate limit", "platform"),
        ("a message that was never seen before", "platform"),
        (f"Back-off pulling image {IMAGE}", "platform"),
    ],
)
def test_a_pull_is_the_models_fault_only_when_there_is_no_such_image(message: str, fault: str) -> None:
    """Only the registry's own answer that it has no such image blames the model and ends the waiting."""
    pull = trouble(pod(waiting_reason="ErrImagePull", waiting_message=message))
    assert (pull.kind, pull.fault, pull.final) == ("image_pull", fault, fault == "model")


def test_while_a_pull_backs_off_its_last_event_gives_the_cause() -> None:
    """Older kubelets report only that they back off; the latest failed pull decides, not an older one."""
    pulls = ("Failed: Failed to pull image: connection refused", "Failed: Failed to pull image: manifest unknown")
    backing_off: dict[str, Any] = {"waiting_reason": "ImagePullBackOff", "waiting_message": "Back-off"}
    assert trouble(pod(pulls, **backing_off)).fault == "model"
    assert trouble(pod(pulls[::-1], **backing_off)).fault == "platform"


def test_the_second_crash_is_final_and_names_exit_code_and_log() -> None:
    """One crash may be bad luck at start; the second restart, or a back-off, ends the waiting."""
    once = trouble(pod(last_exit_code=3, last_message="boom", restarts=1))
    twice = trouble(pod(last_exit_code=3, restarts=2))
    looping = trouble(pod(last_exit_code=3, restarts=1, waiting_reason="CrashLoopBackOff"))
    assert (once.kind, once.fault, once.final) == ("crash", "model", False)
    assert "exit code 3 (boom)" in once.sentence
    assert once.log == LogToRead("p", NAME, previous=True)
    assert (twice.final, looping.final) == (True, True)


def test_a_container_that_was_lost_with_its_node_is_the_platforms_fault() -> None:
    """When a node loses power, its containers end with 255, Unknown, and start again: the model has not crashed."""
    dead = trouble(pod(terminated_reason="Unknown", terminated_exit_code=255))
    again = trouble(pod(terminated_reason="Unknown", terminated_exit_code=255, restarts=3))
    assert {(lost.kind, lost.fault, lost.final) for lost in (dead, again)} == {("node", "platform", False)}
    starting = trouble(pod(last_terminated_reason="Unknown", last_exit_code=255, restarts=1))
    assert starting.kind == "probe"  # as at any other start
    assert not starting.final
    ready = pod(last_terminated_reason="Unknown", last_exit_code=255, restarts=1, ready=True).containers[0]
    assert own_restarts(ready) == 0
    assert own_restarts(replace(ready, restarts=2)) == 1
    assert own_restarts(replace(ready, last_terminated_reason="Error")) == 1


def test_a_pod_is_lost_with_its_node_until_it_is_ready_again() -> None:
    """Its container is ready but its kubelet silent, or it has ended, or restarts; not every unready pod is lost."""
    silent = pod(ready=True)  # the node's controller has taken the pod's readiness away
    dead = pod(terminated_reason="Unknown", terminated_exit_code=255)
    starting = pod(last_terminated_reason="Unknown", last_exit_code=255, restarts=1)
    assert all(lost_with_its_node(status, NAME) for status in (silent, dead, starting))
    crashed = pod(last_terminated_reason="Error", last_exit_code=1, restarts=1)
    assert not any(lost_with_its_node(status, NAME) for status in (replace(starting, ready=True), crashed, pod()))


def test_the_log_of_an_instance_that_has_just_ended_is_the_current_one() -> None:
    """Until the kubelet restarts it, the crashed instance is not the previous one."""
    crash = trouble(pod(terminated_exit_code=1, terminated_reason="Error"))
    assert crash.log == LogToRead("p", NAME, previous=False)


def test_a_crash_by_a_liveness_probe_names_the_probe() -> None:
    """Exit code 137 alone would make people suspect the memory limit."""
    event = "Unhealthy: Liveness probe failed: timeout"
    assert "Liveness probe failed" in trouble(pod((event,), last_exit_code=137, restarts=2)).sentence


@pytest.mark.parametrize("field", ["terminated_reason", "last_terminated_reason"])
def test_an_oom_kill_is_final_and_the_models_fault_even_as_the_last_state(field: str) -> None:
    """It is recognized even when the container already runs again."""
    status: Any = pod(last_exit_code=137, restarts=1).containers[0]
    killed = trouble(replace(pod(), containers=(replace(status, **{field: "OOMKilled"}),)))
    assert (killed.kind, killed.fault, killed.final) == ("oom", "model", True)


@pytest.mark.parametrize(
    ("reason", "message", "kind", "fault"),
    [
        ("CreateContainerConfigError", 'secret "mlflow" not found', "config", "platform"),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", "config", "model"),
        ("CreateContainerError", "context deadline exceeded", "start", "platform"),
        ("RunContainerError", 'exec: "serve": executable file not found in $PATH', "start", "model"),
        ("ContainerCreating", "", "starting", "platform"),
    ],
)
def test_a_container_that_cannot_be_created_is_the_models_or_the_platforms_fault(
    reason: str, message: str, kind: str, fault: str
) -> None:
    """A missing Secret was missing before; an image that runs as root or lacks its program came with the model."""
    failed = trouble(pod(waiting_reason=reason, waiting_message=message))
    assert (failed.kind, failed.fault) == (kind, fault)


def test_a_missing_readiness_is_the_models_fault_but_may_still_come() -> None:
    """The probe's own words are the reason; only the deadline makes it a failure."""
    unready = trouble(pod(("Unhealthy: Readiness probe failed: HTTP 503",)))
    assert (unready.kind, unready.fault, unready.final) == ("probe", "model", False)
    assert "Readiness probe failed: HTTP 503" in unready.sentence


def test_what_the_cluster_does_to_a_pod_is_the_platforms_fault() -> None:
    """A pod that is unschedulable, evicted, or not ready on a lost node says nothing about the model."""
    unready = pod()
    assert trouble(replace(unready, unschedulable="0/1 nodes")).fault == "platform"
    evicted = trouble(replace(unready, phase="Failed", reason="Evicted"))
    assert (evicted.kind, evicted.fault) == ("evicted", "platform")
    lost = trouble(pod(ready=True))
    assert (lost.kind, lost.fault) == ("node", "platform")
    assert trouble(replace(unready, containers=())).kind == "starting"


def test_another_containers_crash_is_the_platforms_fault() -> None:
    """The promotion changed one image; a sidecar or an init container that fails is not the model."""
    init = ContainerStatus("fetch", "busybox", "", False, 4, "CrashLoopBackOff", last_exit_code=1)
    crash = trouble(pod(others=(init,), waiting_reason="PodInitializing"))
    assert (crash.kind, crash.fault, crash.final) == ("crash", "platform", False)


def test_nothing_is_wrong_with_a_ready_pod_or_one_being_deleted() -> None:
    """An init container that has finished its work has not crashed."""
    done = ContainerStatus("fetch", "busybox", "", False, 0, terminated_reason="Completed", terminated_exit_code=0)
    ready = replace(pod(others=(done,), ready=True), ready=True, phase="Running")
    assert explain(ready, NAME) is None
    assert explain(replace(pod(waiting_reason="ErrImagePull"), deleting=True), NAME) is None
