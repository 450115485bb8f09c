"""The homelab waits for its clusters by the status of their objects, and quotes it when a wait fails."""

import json
from pathlib import Path
from typing import Any

import pytest

from bootstrap.kubectl import Kubectl
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.homelab.progress import phase
from testbeds.homelab.waiting import applications, await_all, backing_off, not_rolled_out


def kubectl_listing(folder: Path, items: list[dict[str, Any]]) -> Kubectl:
    """Return a kubectl that lists the same objects for every command."""
    answer, program = folder / "answer.json", folder / "kubectl"
    answer.write_text(json.dumps({"items": items}), encoding="utf-8")
    program.write_text(f"#!/bin/sh\nexec cat '{answer}'\n", encoding="utf-8")
    program.chmod(0o700)
    return Kubectl(program, folder / "kubeconfig", "edge")


def pod(name: str, **state: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"containerStatuses": [state]}}


def test_a_condition_that_holds_already_ends_the_wait_at_once() -> None:
    """When nothing is missing the wait ends at once, and a line of progress says how long it took."""
    progress: list[str] = []
    await_all("the thing", lambda: "", 0, progress.append)
    assert progress == ["the thing: 0.0 s"]


def test_the_error_names_what_was_still_missing() -> None:
    """After the deadline the error says what was missing, or why a cluster did not answer."""
    with pytest.raises(ProblemError, match="expected the thing within 0 s, found pod x: ImagePullBackOff"):
        await_all("the thing", lambda: "pod x: ImagePullBackOff", 0, print)

    def refused() -> str:
        raise ProblemError(Problem("kubectl get", "success", "connection refused", "Check the cluster."))

    with pytest.raises(ProblemError, match="connection refused"):
        await_all("the thing", refused, 0, print)


def test_a_step_reports_its_time_only_when_it_succeeds() -> None:
    """A step that succeeds reports its time, and one that fails only raises its error."""
    progress: list[str] = []
    with phase("a step", progress.append):
        pass
    with pytest.raises(ValueError, match="broken"), phase("another", progress.append):
        raise ValueError("broken")
    assert progress == ["a step: 0.0 s"]


@pytest.mark.parametrize(
    ("status", "rolled_out"),
    [
        ({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 1}, True),
        ({"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "updatedReplicas": 0, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 2}, False),
        ({}, False),
    ],
)
def test_a_workload_is_rolled_out_when_its_status_matches_its_spec(
    tmp_path: Path, status: dict[str, int], rolled_out: bool
) -> None:
    """A workload is not rolled out while its controller has not seen it, or has the wrong number of new pods."""
    workload = {"metadata": {"name": "redis", "generation": 2}, "spec": {"replicas": 1}, "status": status}
    missing = not_rolled_out(kubectl_listing(tmp_path, [workload]), "argocd")
    assert missing.partition(";")[0] == ("" if rolled_out else "redis")


def test_a_namespace_without_workloads_is_not_rolled_out(tmp_path: Path) -> None:
    """A namespace whose workloads are not applied yet counts as missing them."""
    assert not_rolled_out(kubectl_listing(tmp_path, []), "argocd") == "no workload in argocd"


def test_pods_that_wait_for_an_image_are_found(tmp_path: Path) -> None:
    """Pods in image back-off are listed, and pods that are only starting are not."""
    pods = [
        pod("waits", state={"waiting": {"reason": "ImagePullBackOff"}}),
        pod("starts", state={"waiting": {"reason": "ContainerCreating"}}),
        pod("runs", state={"running": {}}),
    ]
    assert backing_off(kubectl_listing(tmp_path, pods), "ml-apps") == ["waits"]


def test_an_application_shows_its_conditions_and_its_failed_sync(tmp_path: Path) -> None:
    """An Application's text has Argo CD's messages, and an Application without a status does not count as well."""
    destination = {"destination": {"name": "edge", "namespace": "ml-apps"}}
    status = {
        "sync": {"status": "Unknown"},
        "health": {"status": "Healthy"},
        "conditions": [{"type": "ComparisonError", "message": "no such repository"}],
        "operationState": {"phase": "Failed", "message": "one object was refused"},
    }
    raw = [
        {"metadata": {"name": "iris-classifier"}, "spec": destination, "status": status},
        {"metadata": {"name": "new"}, "spec": destination},
    ]
    first, second = applications(kubectl_listing(tmp_path, raw))
    assert str(first) == (
        "iris-classifier Unknown, Healthy: ComparisonError: no such repository; one object was refused"
    )
    assert (first.well, second.well) == (False, False)
    assert str(second) == "new unknown, unknown"


def test_the_error_quotes_kubectl(tmp_path: Path) -> None:
    """The error of a failed command has kubectl's message and the cluster."""
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\necho 'Error: forbidden' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o700)
    with pytest.raises(ProblemError, match=r"kubectl get pods, cluster gcp: expected success, found Error: forbidden"):
        Kubectl(program, tmp_path / "kubeconfig", "gcp").run("get", "pods")
    with pytest.raises(ProblemError, match="No such file or directory"):
        Kubectl(tmp_path / "none", tmp_path / "kubeconfig", "gcp").run("get", "pods")
