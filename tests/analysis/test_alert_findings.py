"""From a pod's JSON to what a person reads, by the kind of trouble."""

from dataclasses import replace
from typing import Any

import pytest

from orchestration.analysis.alert import alert_of, workload_of_name
from orchestration.analysis.alert_findings import AlertFacts, Promotions, alert_findings
from orchestration.analysis.pod_facts import parse_events, parse_pod, sibling_selector
from orchestration.analysis.report import Findings
from orchestration.promotion.identity import PromotionId
from orchestration.promotion.reigns import Attempt, End
from tests.analysis.pods import NAME, a_pod, an_event, killed_for_memory

NOW = 1_800_000_000.0
ALERT = alert_of("k3d", "ModelPodNotRunning", "critical", "ml-apps", NAME)
ATTEMPT = Attempt(PromotionId("iris-edge", 7, "0123456789ab", 1), "c" * 40, "sha256:" + "0" * 64, None, NOW - 600)


def findings_of(pod: dict[str, Any] | None, **facts: Any) -> Findings:
    parsed = parse_pod(pod) if pod is not None else None
    return alert_findings(AlertFacts(ALERT, NOW, "iris", parsed, is_gone=pod is None, **facts))


def waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "said the kubelet"}}
    return a_pod(ready=False, containerStatuses=[{"name": "model-server", "restartCount": 0, "state": state}])


UNSCHEDULABLE = a_pod(
    phase="Pending",
    conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient memory"}],
)
EVICTED = a_pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory", conditions=[])


@pytest.mark.parametrize(
    ("pod", "happened", "look_at"),
    [
        (killed_for_memory(), "`OOMKilled` (exit code 137) at 2026-11-26 08:02 UTC after 65 s", "The memory of"),
        (killed_for_memory(), "its memory limit is `512Mi`", "describe pod"),
        (waiting("ImagePullBackOff"), "`ImagePullBackOff`: `said the kubelet`", "the image `ghcr.io/acme/iris:v1`"),
        (waiting("CreateContainerConfigError"), "CreateContainerConfigError", "Secret, ConfigMap or command"),
        (UNSCHEDULABLE, "not scheduled since an unknown time: `0/1 nodes: Insufficient memory`", "Room on the nodes"),
        (EVICTED, "`Failed` because of `Evicted`: `The node was low", "The node `edge-0`"),
        (a_pod(), "is ready now, so the trouble may have passed", "describe pod"),
        (None, "does not exist any more", "describe pod"),
    ],
)
def test_the_trouble_is_named_with_what_to_look_at(pod: dict[str, Any] | None, happened: str, look_at: str) -> None:
    """Each kind of trouble has a sentence of its own, and a step."""
    found = findings_of(pod)
    assert happened in "\n".join(found.happened)
    assert look_at in "\n".join(found.look_at)


def test_a_crash_points_to_the_log_of_the_process_before() -> None:
    """A process that ended by itself says why in its log, which is a section of its own."""
    pod = killed_for_memory()
    end = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    end |= {"reason": "Error", "exitCode": 1, "message": "KeyError: 'model'"}
    parsed = parse_pod(pod)
    (container,) = parsed.containers
    parsed = replace(parsed, containers=(replace(container, previous_log="Traceback\nKeyError: 'model'"),))
    found = alert_findings(AlertFacts(ALERT, NOW, "iris", parsed))
    assert "The end of the log of `model-server`" in "\n".join(found.look_at)
    assert "KeyError: 'model'" in next(part.text for part in found.sections if part.title.startswith("Last log"))


def test_a_failing_probe_is_told_from_its_event() -> None:
    """Warnings are told with how often and when; the newest first."""
    events = parse_events([an_event("Readiness probe failed", reason="Unhealthy"), an_event("old", reason="Old")])
    found = findings_of(a_pod(ready=False), events=events)
    assert "Event `Unhealthy` 3 times, from 2026-11-26 08:00 UTC" in "\n".join(found.happened)
    assert "The probe that fails" in "\n".join(found.look_at)


@pytest.mark.parametrize(
    ("end", "committed_at", "step"),
    [
        (End.CHAMPION, NOW - 600, "incumbent rollback iris-edge --reason REASON"),
        (End.UNDER_WAY, NOW - 600, "incumbent abort iris-edge --reason REASON"),
        (End.ROLLED_BACK, NOW - 600, None),
        (End.CHAMPION, NOW - 48 * 3600, None),
    ],
)
def test_the_way_back_is_named_after_a_recent_promotion_only(end: End, committed_at: float, step: str | None) -> None:
    """What was taken back, or promoted long ago, is told and not advised on."""
    attempt = replace(ATTEMPT, end=end, committed_at=committed_at)
    found = findings_of(a_pod(), promotions=(Promotions("iris-edge", "apps/iris.yaml", (attempt,), None),))
    assert f"last committed version 7 at 2027-01-1{5 if committed_at > NOW - 700 else 3}" in "\n".join(found.happened)
    assert [line for line in found.look_at if "incumbent" in line] == [
        line for line in found.look_at if step is not None and step in line
    ]
    assert ("incumbent" in "\n".join(found.look_at)) is (step is not None)


def test_environment_variables_are_never_read() -> None:
    """They hold secrets, and no part of the findings has them."""
    found = findings_of(a_pod())
    assert "hunter2" not in str(found)
    assert "DB_PASSWORD" not in str(found)


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("iris-classifier-7d9c6b5f4d-x2x9z", "iris-classifier"),
        ("mlflow-0", "mlflow"),
        ("mlflow-backup-29384757-x2x9z", "mlflow-backup"),
        ("node-exporter-x2x9z", "node-exporter"),
        ("iris", "iris"),
    ],
)
def test_a_pod_that_is_gone_still_names_its_workload(pod: str, workload: str) -> None:
    """So that the issue of the same workload is found again."""
    assert workload_of_name(pod) == workload


def test_a_pod_names_its_deployment_and_not_its_replica_set() -> None:
    """Pods of all revisions share the workload, and its other pods are selected without the revision."""
    pod = parse_pod(a_pod())
    assert pod.workload == "iris"
    assert sibling_selector(pod) == "app=iris"


def test_a_pod_of_a_cron_job_names_it_and_not_the_job_of_tonight() -> None:
    """So that the failures of two nights share an issue."""
    raw = a_pod("mlflow-backup-29384757-x2x9z")
    raw["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "mlflow-backup-29384757", "controller": True}]
    raw["metadata"]["labels"] = {"job-name": "mlflow-backup-29384757"}
    pod = parse_pod(raw)
    assert pod.workload == "mlflow-backup"
    assert sibling_selector(pod) == ""


@pytest.mark.parametrize("raw", [{}, {"metadata": [], "spec": None, "status": 7}, {"status": {"conditions": "x"}}])
def test_a_pod_of_any_form_can_be_told(raw: dict[str, Any]) -> None:
    """A field that is absent or of another type reads as empty."""
    assert findings_of(raw).title == "ModelPodNotRunning: ml-apps/iris in k3d"
    assert parse_events([raw])


def test_nothing_in_the_state_changes_by_itself() -> None:
    """The same facts an hour later are no news."""
    first = findings_of(killed_for_memory(), ready=0, total=1)
    later = alert_findings(AlertFacts(ALERT, NOW + 3600, "iris", parse_pod(killed_for_memory()), ready=0, total=1))
    assert first.state == later.state
    assert first.state["Restarts of model-server"] == "3"
