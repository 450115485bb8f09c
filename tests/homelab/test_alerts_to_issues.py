"""Alerts on the models, from their cause to the issue that a person reads.

Every window, `for` and wait is that of the manifests; only the scrape interval is shorter, as always in the homelab.
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from bootstrap.registration import ANALYST, write_kubeconfig
from orchestration.adapters.github import GitHubRepository
from orchestration.adapters.host_api import TokenFile
from orchestration.analysis.issues import LABEL
from orchestration.promotion.github import Issue
from testbeds.common.processes import wait_until
from testbeds.homelab import alerts, settings
from testbeds.story.environment import Environment
from testbeds.story.look import read_log
from tests.fakes.github import NAMED
from tests.homelab.lab import Lab
from tests.scenarios.alerts import EVALUATION, evaluate, label_rows, run_step
from tests.scenarios.people import policy_with

pytestmark = pytest.mark.timeout(1800)

_ALERT_SECONDS = 180.0
"""Enough for the kubelet, a scrape every 15 s, the rule, and Alertmanager's wait of 10 s."""
_ACCURACY_SECONDS = 480.0
"""ModelAccuracyBelowBaseline waits for 5 minutes."""
_BURN_SECONDS = 900.0
"""In an hour full of good requests, 14.4 % of bad ones take almost 9 minutes, and the alert waits for 2 more."""
_BURN = 0.144


def test_an_oom_killed_pod_becomes_an_issue(lab: Lab, tmp_path: Path) -> None:
    """The alert gets through Prometheus, Alertmanager and dispatcher, and its analysis, run as an analyst, tells it."""
    version = lab.promote({"FAULT_REMOTE": "1"})
    version.becomes_champion()
    lab.wait_until_whole()
    pod, began = lab.environment.serving()[0].pod, time.time()
    lab.spoil(pod, FAULT_ALLOCATE_MB="128")  # a request; the limit is 512

    alert = "ModelPodOOMKilled"
    labels = received(lab, began, _ALERT_SECONDS, alertname=alert, pod=pod)
    wanted = {"cluster": "edge", "namespace": "ml-apps", "container": "model-server", "severity": "critical"}
    assert labels.items() >= wanted.items()
    assert {"environment", "location"} <= labels.keys()
    run = started(lab, 0, alert_name=alert, pod_name=pod)

    issue = told(lab, "ai-log-analysis", run, analyst(lab, tmp_path))
    assert issue.title == f"{alert}: ml-apps/{lab.homelab.policy.manifest.name} in k3d"
    assert f"Alert `{alert}`, severity `critical`: pod `ml-apps/{pod}` in cluster `k3d`" in issue.body
    assert "Container `model-server` has been restarted 1 time(s). It last ended with `OOMKilled`" in issue.body
    assert "its memory limit is `512Mi`" in issue.body
    assert f"`{lab.environment.policy}` last committed version {version.version} at " in issue.body
    assert f"name: {pod}" in issue.body
    assert "Not known:" not in issue.body


def test_a_falling_accuracy_becomes_an_issue(lab: Lab, tmp_path: Path) -> None:
    """New labels are measured by Dagster, the companion exposes it, and the issue has the alert's own two numbers."""
    environment, model = lab.environment, lab.environment.model
    champion = lab.client.get_model_version_by_alias(model, environment.champion_alias)
    trained = lab.client.get_run(champion.run_id).data.metrics["accuracy"]
    with policy_with(environment, EVALUATION):
        label_rows(environment, champion.run_id, right=100, wrong=0)
        evaluate(environment)
        runs, began = len(alerts.started_runs(lab.homelab.state)), time.time()
        label_rows(environment, champion.run_id, right=60, wrong=40)
        evaluate(environment)
        alert = "ModelAccuracyBelowBaseline"
        labels = received(lab, began, _ACCURACY_SECONDS, alertname=alert, policy=environment.policy)
        wanted = {"model": model, "version": champion.version, "metric": "accuracy", "severity": "warning"}
        assert labels.items() >= wanted.items()
        run = started(lab, runs, model_name=model)
        assert float(run["current_accuracy"]) == pytest.approx(0.6)
        assert float(run["baseline_accuracy"]) == pytest.approx(trained)

        issue = told(lab, "ai-drift-detection", run, as_workflow(lab, tmp_path))
        assert issue.title == f"Drift of {model}: accuracy 0.6 now, baseline {trained:g}"
        assert f"Under `{environment.policy}` version {champion.version} is the champion, since " in issue.body
        assert f"The version had accuracy {trained:g} when it was trained, so it has become worse since" in issue.body
        assert f"Nothing was done under `{environment.policy}`, as its `on_drift` says." in issue.body
        assert "Not known:" not in issue.body
        label_rows(environment, champion.run_id, right=100, wrong=0)  # so that the alert ends
        evaluate(environment)


def test_a_failing_champion_becomes_an_issue(lab: Lab, tmp_path: Path) -> None:
    """Clients' requests fail until the error budget burns; the issue says whose, how many, and which way leads back."""
    environment = lab.environment
    version = lab.promote({"FAULT_REMOTE": "1"})
    version.becomes_champion()
    lab.wait_until_whole()
    pods, began = [serving.pod for serving in environment.serving()], time.time()
    runs = len(alerts.started_runs(lab.homelab.state))
    try:
        for pod in pods:
            lab.spoil(pod, FAULT_FAIL_EVERY="1")
        alert = "ModelErrorBudgetBurnsFast"
        labels = received(lab, began, _BURN_SECONDS, alertname=alert, policy=environment.policy)
        wanted = {"cluster": "edge", "namespace": "ml-apps", "model": environment.model, "severity": "critical"}
        assert labels.items() >= wanted.items()
        assert "pod" not in labels
        run = started(lab, runs, alert_name=alert, policy=environment.policy)
        failed = failed_since(environment, time.time() - 3600.0)
        issue = told(lab, "ai-log-analysis", run, analyst(lab, tmp_path))
    finally:
        for pod in pods:
            lab.spoil(pod)
    assert run["pod_name"] == "none"
    said = re.fullmatch(r"([\d.]+)% of the requests to iris-classifier failed in the last (?:1h|6h)", run["summary"])
    assert said is not None, run["summary"]
    assert _BURN <= float(said[1]) / 100 <= failed + 0.02  # it was measured earlier than ours, and only grew since
    assert issue.title == f"{alert}: ml-apps/{lab.homelab.policy.manifest.name} in k3d"
    assert f"The alert says: `{run['summary']}`" in issue.body
    assert f"{len(pods)} of {len(pods)} pod(s) of the workload are ready." in issue.body
    assert f"`{environment.policy}` last committed version {version.version} at " in issue.body
    assert f"`incumbent rollback {environment.policy} --reason REASON`" in issue.body
    assert any(f"name: {pod}" in issue.body for pod in pods)
    assert "Not known:" not in issue.body


def received(lab: Lab, since: float, seconds: float, **wanted: str) -> Mapping[str, str]:
    """Wait for an alert as it arrives beside the dispatcher, and return its labels."""

    def look() -> Mapping[str, str] | None:
        firing = (
            each for each in alerts.received_alerts(lab.homelab.state) if each.at >= since and each.status == "firing"
        )
        return next((alert.labels for alert in firing if alert.labels.items() >= wanted.items()), None)

    return wait_until(look, seconds, f"the receiver gets the alert {wanted['alertname']}")


def started(lab: Lab, after: int, **wanted: str) -> Mapping[str, str]:
    """Wait for a run that the dispatcher starts, leaving out so many earlier ones, and return its inputs."""

    def look() -> Mapping[str, str] | None:
        runs = alerts.started_runs(lab.homelab.state)[after:]
        return next((run for run in runs if run.items() >= wanted.items()), None)

    return wait_until(look, _ALERT_SECONDS, "the dispatcher starts the workflow")


def as_workflow(lab: Lab, folder: Path) -> dict[str, str]:
    """Return the settings of a workflow that does a promotion's work, as those of `promote.yml`."""
    return {
        **lab.environment.settings(),
        "INCUMBENT_STATE": str(folder / "state"),
        "INCUMBENT_GITHUB_TOKEN_FILE": str(alerts.github_token_file(lab.homelab.state)),
        "INCUMBENT_GITHUB_ACCOUNT": "incumbent[bot]",
        "GITHUB_API_URL": settings.GITHUB_URL,
        "GITHUB_REPOSITORY": settings.GITHUB_REPOSITORY,
    }


def analyst(lab: Lab, folder: Path) -> dict[str, str]:
    """Return the settings of the log analysis, with an analyst's rights in the clusters."""
    kubeconfig, clusters = folder / "analyst.kubeconfig", {settings.EDGE: lab.homelab.edge}
    write_kubeconfig(kubeconfig, clusters, {settings.EDGE: settings.api_url(settings.EDGE)}, ANALYST)
    return {**as_workflow(lab, folder), "INCUMBENT_KUBECONFIG": str(kubeconfig)}


def told(lab: Lab, workflow: str, inputs: Mapping[str, str], given: Mapping[str, str]) -> Issue:
    """Run the step of a started workflow that tells the alert, and return the issue that it opened."""
    output = run_step(workflow, inputs, given)
    github = GitHubRepository(
        settings.GITHUB_URL,
        settings.GITHUB_REPOSITORY,
        TokenFile(alerts.github_token_file(lab.homelab.state), "the token's file"),
        NAMED,
    )
    (issue,) = [issue for issue in github.issues([LABEL]) if output == f"opened {issue.url}\n"]
    github.close_issue(issue.number)  # as a person does, so that the next alert opens another one
    return issue


def failed_since(environment: Environment, since: float) -> float:
    """Return which part of a client's requests has failed since a time."""
    sent = [request.ok for request in read_log(environment.client_log) if request.at >= since]
    return sent.count(False) / len(sent)
