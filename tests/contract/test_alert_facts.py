"""An alert about a pod in trouble: what is collected of it through the real adapter."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestration.analysis.alert import alert_of
from orchestration.analysis.alert_findings import AlertFacts, alert_findings
from orchestration.analysis.report import Analysis, issue_body
from orchestration.commands.alert_facts import collect_alert
from orchestration.environment import EnvironmentPlatform, platform_from_environment
from tests.contract.place import CONTAINER, NAMESPACE, Place


@pytest.fixture
def platform(place: Place, tmp_path: Path) -> EnvironmentPlatform:
    """The clusters, and no policies."""
    return replace(platform_from_environment(), kubeconfig=str(place.kubeconfig), policies_folder=str(tmp_path))


def facts_when_ended(place: Place, platform: EnvironmentPlatform, workload: str, reason: str) -> AlertFacts:
    """Collect until the pod's container has ended for a reason, and is told by an event."""

    def look() -> AlertFacts | None:
        status = place.workload(workload)
        assert status is not None
        alert = alert_of("k3d", "ModelPodFrequentRestarts", "warning", NAMESPACE, status.new_pods[0].name)
        facts = collect_alert(platform, "edge", alert)
        assert facts.pod is not None
        (container,) = facts.pod.containers
        end = container.last_end
        return facts if end is not None and end.reason == reason and facts.events and container.restarts else None

    return place.wait(f"{workload}: {reason}", look)


def test_a_crash_is_told_with_the_log_of_the_process_before(place: Place, platform: EnvironmentPlatform) -> None:
    """Its exit code, its restarts, the event, and the last lines before it ended."""
    facts = facts_when_ended(place, platform, "crash", "Error")
    body = issue_body("", alert_findings(facts), Analysis(missing="none"))
    assert facts.workload == "crash"
    assert f"Container `{CONTAINER}` has been restarted" in body
    assert "It last ended with `Error` (exit code 7)" in body
    assert "Event `BackOff`" in body
    assert "| version crash starts" in body
    assert "0 of 1 pod(s) of the workload are ready." in body
    assert facts.gaps == ()


def test_a_process_that_took_too_much_memory_is_told_with_its_limit(
    place: Place, platform: EnvironmentPlatform
) -> None:
    """The kernel's end of it, and the limit that it reached."""
    facts = facts_when_ended(place, platform, "greedy", "OOMKilled")
    told = "\n".join(alert_findings(facts).happened)
    assert "It last ended with `OOMKilled` (exit code 137)" in told
    assert "its memory limit is `" in told
    assert "`not set`" not in told


def test_a_pod_that_is_gone_is_told(place: Place, platform: EnvironmentPlatform) -> None:
    """Its workload is known by its name, and nothing else is made up."""
    alert = alert_of("k3d", "ModelPodNotRunning", "critical", NAMESPACE, "steady-7d9c6b5f4d-x2x9z")
    facts = collect_alert(platform, "edge", alert)
    assert (facts.workload, facts.pod, facts.events, facts.gaps) == ("steady", None, (), ())
