"""How the homelab waits for its clusters: by what the objects say, and with their words when they do not come."""

import json
from pathlib import Path
from typing import Any

import pytest

from bootstrap.kubectl import Kubectl
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.homelab.progress import phase
from testbeds.homelab.waiting import applications, await_all, backing_off, not_rolled_out


def answering(folder: Path, items: list[dict[str, Any]]) -> Kubectl:
    """A kubectl that lists the same objects, whatever it is asked."""
    answer, program = folder / "answer.json", folder / "kubectl"
    answer.write_text(json.dumps({"items": items}), encoding="utf-8")
    program.write_text(f"#!/bin/sh\nexec cat '{answer}'\n", encoding="utf-8")
    program.chmod(0o700)
    return Kubectl(program, folder / "kubeconfig", "edge")


def pod(name: str, **state: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"containerStatuses": [state]}}


def test_what_is_there_is_not_waited_for() -> None:
    """Nothing missing, nothing waited: the line says how long it took."""
    said: list[str] = []
    await_all("the thing", lambda: "", 0, said.append)
    assert said == ["the thing: 0.0 s"]


def test_an_error_says_what_was_still_missing() -> None:
    """After the deadline the object's own words are in the error; a cluster that does not answer is waited for, too."""
    with pytest.raises(ProblemError, match="expected the thing within 0 s, found pod x: ImagePullBackOff"):
        await_all("the thing", lambda: "pod x: ImagePullBackOff", 0, print)

    def refuses() -> str:
        raise ProblemError(Problem("kubectl get", "success", "connection refused", "Look."))

    with pytest.raises(ProblemError, match="connection refused"):
        await_all("the thing", refuses, 0, print)


def test_a_step_tells_its_time_only_when_it_ended_well() -> None:
    """A step that failed is told by its error alone."""
    said: list[str] = []
    with phase("a step", said.append):
        pass
    with pytest.raises(ValueError, match="broken"), phase("another", said.append):
        raise ValueError("broken")
    assert said == ["a step: 0.0 s"]


@pytest.mark.parametrize(
    ("status", "up"),
    [
        ({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 1}, True),
        ({"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "updatedReplicas": 0, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 2}, False),
        ({}, False),
    ],
)
def test_a_workload_is_up_when_its_status_is_of_its_spec(tmp_path: Path, status: dict[str, int], up: bool) -> None:
    """What the controller has not seen, has not updated or has too much of is not rolled out."""
    workload = {"metadata": {"name": "redis", "generation": 2}, "spec": {"replicas": 1}, "status": status}
    said = not_rolled_out(answering(tmp_path, [workload]), "argocd")
    assert said.partition(";")[0] == ("" if up else "redis")


def test_a_namespace_without_workloads_is_not_up(tmp_path: Path) -> None:
    """What was not applied yet is missing, and not there already."""
    assert not_rolled_out(answering(tmp_path, []), "argocd") == "no workload in argocd"


def test_pods_that_wait_for_an_image_are_found(tmp_path: Path) -> None:
    """Those that are in back-off, and not those that only start."""
    pods = [
        pod("waits", state={"waiting": {"reason": "ImagePullBackOff"}}),
        pod("starts", state={"waiting": {"reason": "ContainerCreating"}}),
        pod("runs", state={"running": {}}),
    ]
    assert backing_off(answering(tmp_path, pods), "ml-apps") == ["waits"]


def test_an_application_tells_its_conditions_and_a_failed_sync(tmp_path: Path) -> None:
    """Whoever reads the error learns what Argo CD says, and one that has no status yet is not well."""
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
    first, second = applications(answering(tmp_path, raw))
    assert str(first) == (
        "iris-classifier Unknown, Healthy: ComparisonError: no such repository; one object was refused"
    )
    assert (first.well, second.well) == (False, False)
    assert str(second) == "new unknown, unknown"


def test_kubectls_own_words_are_in_the_error(tmp_path: Path) -> None:
    """A refusal is shown as kubectl said it, with the cluster that it came from."""
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\necho 'Error: forbidden' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o700)
    with pytest.raises(ProblemError, match=r"kubectl get pods, cluster gcp: expected success, found Error: forbidden"):
        Kubectl(program, tmp_path / "kubeconfig", "gcp").run("get", "pods")
    with pytest.raises(ProblemError, match="No such file or directory"):
        Kubectl(tmp_path / "none", tmp_path / "kubeconfig", "gcp").run("get", "pods")
