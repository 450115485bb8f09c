"""Prometheus's rules are valid, are tested by promtool on both sides of each bound, and use only what is scraped."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no types of its own

from orchestration.promotion.policy import parse_policy
from orchestration.promotion.served_quality import KEPT
from testbeds.common.tools import CHECKOUT
from tests.platform.programs import PROMTOOLS, content, homelab_promtool, output_of

MONITORING = CHECKOUT / "manifests/platform/monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yml"))
TESTS = sorted((Path(__file__).parent / "rules").glob("*.test.yaml"))
SEVERITIES = {
    "critical": {
        "AlertmanagerCannotNotify",
        "ArgoCDDown",
        "ClusterNotObserved",
        "ClusterUnreachable",
        "DispatcherOutboxUnusable",
        "DispatcherQueueNotDraining",
        "LiveModelIsNotChampion",
        "MLflowBackupTooOld",
        "MLflowDown",
        "ModelErrorBudgetBurnsFast",
        "ModelPodCrashLooping",
        "ModelPodNotReady",
        "ModelPodNotRunning",
        "ModelPodOOMKilled",
        "ModelServiceDown",
        "ModelServiceWithoutEndpoints",
        "ModelUnavailable",
        "NodeDiskAlmostFull",
        "NodeNotReady",
        "PlatformPodNotReady",
        "PrometheusCannotNotify",
        "PrometheusRuleFailures",
        "PrometheusStorageFailing",
        "VolumeAlmostFull",
    },
    "warning": {
        "ArgoCDApplicationOutOfSync",
        "ArgoCDApplicationUnhealthy",
        "ArgoCDSyncFailed",
        "ChampionWithoutEvidence",
        "ConfigReloadFailed",
        "DispatcherDeadLetters",
        "DispatcherRefusesCallers",
        "MLflowBackupFailed",
        "ModelAccuracyBelowBaseline",
        "ModelErrorBudgetBurnsSlowly",
        "ModelEvaluationTooOld",
        "ModelHighCPUUsage",
        "ModelHighMemoryUsage",
        "ModelInfoAmbiguous",
        "ModelMissesSLO",
        "ModelPodFrequentRestarts",
        "NodeDiskFillingUp",
        "NodeUnderPressure",
        "PolicyWithoutAlerts",
        "PromotionHeldTooLong",
        "PromotionMetricsSilent",
        "ScrapeFailing",
        "TargetsMissing",
        "VolumeFillingUp",
    },
    "none": {"Watchdog"},
}


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader))


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return the rules of one kind, `alert` or `record`, by name."""
    groups = [group for path in RULES for group in load(path)["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


@pytest.mark.parametrize("promtool", PROMTOOLS)
@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_rules_do_what_their_tests_say(promtool: Callable[[], Path], test: Path) -> None:
    """In Prometheus 2 and 3, each alert fires once its bound is exceeded and not before, and each record is its SLI."""
    output_of(promtool(), "test", "rules", test)


@pytest.mark.parametrize("promtool", PROMTOOLS)
def test_rules_are_accepted(promtool: Callable[[], Path]) -> None:
    """promtool accepts every rule, and finds none twice."""
    output_of(promtool(), "check", "rules", *RULES)


def test_each_alert_is_tested_both_ways() -> None:
    """Every alert but the heartbeat has a moment at which it fires and one at which it does not."""
    tests = [test for path in TESTS for test in load(path)["tests"]]
    moments = [moment for test in tests for moment in test.get("alert_rule_test", [])]
    fires = {moment["alertname"] for moment in moments if moment["exp_alerts"]}
    silent = {moment["alertname"] for moment in moments if not moment["exp_alerts"]}
    assert fires == silent | {"Watchdog"} == set(rules("alert"))


def test_each_alert_has_its_severity() -> None:
    """The alerts and their severities are as promised, and each says what happened, what to do and where to read on."""
    severities: dict[str, set[str]] = {}
    for name, rule in rules("alert").items():
        severities.setdefault(rule["labels"]["severity"], set()).add(name)
        assert {"summary", "description", "runbook_url"} <= set(rule["annotations"]), name
    assert severities == SEVERITIES


@pytest.mark.parametrize("path", sorted((CHECKOUT / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_slo_has_its_record(path: Path) -> None:
    """Each of a policy's SLOs has a record of the same name, so that it is measured after the promotion too."""
    slos = parse_policy(path.stem, path.read_text(encoding="utf-8")).gate.slos
    assert {f"model_version:{slo.name}" for slo in slos} <= set(rules("record"))


@pytest.mark.platform
def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    """promtool accepts the configuration as the pod mounts it, with credentials in their places."""
    for name in ("config", "rules"):
        (tmp_path / name).mkdir()
        for path in sorted((MONITORING / name).glob("*.yml")):
            text = path.read_text(encoding="utf-8").replace("/etc/prometheus", str(tmp_path))
            text = text.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(tmp_path / "edge"))
            (tmp_path / name / path.name).write_text(text, encoding="utf-8")
    (tmp_path / "edge").mkdir()
    for name in ("token", "ca.crt"):
        (tmp_path / "edge" / name).write_text("not checked", encoding="utf-8")
    output = output_of(homelab_promtool(), "check", "config", tmp_path / "config/prometheus.yml")
    assert len(re.findall(r"\d+ rules found", output)) == len(RULES)


def test_drift_alerts_at_the_bound_that_dagster_shows() -> None:
    """The alert and the check of `champion_evaluation` speak of the same part of the baseline."""
    (group,) = load(MONITORING / "rules/drift.yml")["groups"]
    (alert,) = [rule for rule in group["rules"] if rule["alert"] == "ModelAccuracyBelowBaseline"]
    assert alert["expr"].endswith(f"(incumbent_model_part_of_baseline) < {KEPT}")


def test_what_is_used_is_kept() -> None:
    """kube-state-metrics and the scrapes of cAdvisor keep each series that a rule or dashboard uses, and no others."""
    files = [*RULES, *(CHECKOUT / "manifests/platform/grafana/dashboards").glob("*.json")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    used = set(re.findall(r"\b(?:kube|container|machine)_\w+(?=\{|\[|\))", text))
    objects = content("manifests/platform/kube-state-metrics")
    (deployment,) = [document for document in objects if document["kind"] == "Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    (allowlist,) = [argument for argument in arguments if argument.startswith("--metric-allowlist=")]
    allowed = allowlist.partition("=")[2]
    jobs = {job["job_name"]: job for job in load(MONITORING / "config/scrape-clusters.yml")["scrape_configs"]}
    for cluster in ("gcp", "edge"):
        kept = jobs[f"{cluster}-cadvisor"]["metric_relabel_configs"][0]["regex"]
        assert {*allowed.split(","), *kept.split("|")} - {"machine_cpu_cores"} == used
