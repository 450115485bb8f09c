"""The rules of Prometheus: accepted, tested by promtool on both sides of each bound, and fed by what is scraped."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from orchestration.promotion.policy import parse_policy
from testbeds.common.tools import CHECKOUT
from tests.platform.programs import PROMTOOLS, content, homelab_promtool, says

MONITORING = CHECKOUT / "manifests/platform/monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yml"))
TESTS = sorted((Path(__file__).parent / "rules").glob("*.test.yaml"))
SEVERITIES = {
    "ModelPodNotRunning": "critical",
    "ModelPodFrequentRestarts": "warning",
    "ModelPodOOMKilled": "critical",
    "ModelHighCPUUsage": "warning",
    "ModelHighMemoryUsage": "warning",
    "PromotionHeldTooLong": "warning",
    "LiveModelIsNotChampion": "critical",
    "ChampionWithoutEvidence": "warning",
    "PromotionMetricsSilent": "warning",
    "ScrapeFailing": "warning",
}


def load(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(path))


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """The rules that alert, or those that record, by name."""
    groups = [group for path in RULES for group in load(path)["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


@pytest.mark.parametrize("promtool", PROMTOOLS)
@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_rules_do_what_their_tests_say(promtool: Callable[[], Path], test: Path) -> None:
    """Each alert fires past its bound and not before, and each record is its SLI, in Prometheus 2 and 3 alike."""
    says(promtool(), "test", "rules", test)


@pytest.mark.parametrize("promtool", PROMTOOLS)
def test_rules_are_accepted(promtool: Callable[[], Path]) -> None:
    """No rule of a file is refused, or there twice."""
    says(promtool(), "check", "rules", *RULES)


def test_each_alert_is_tested_both_ways() -> None:
    """Every alert has a moment at which it fires and one at which it does not."""
    moments = [each for path in TESTS for test in load(path)["tests"] for each in test.get("alert_rule_test", [])]
    fires = {each["alertname"] for each in moments if each["exp_alerts"]}
    silent = {each["alertname"] for each in moments if not each["exp_alerts"]}
    assert fires == silent == set(rules("alert"))


def test_each_alert_has_its_severity() -> None:
    """The alerts are those that were promised, as severe as promised, and say what happened and what to do."""
    assert {name: rule["labels"]["severity"] for name, rule in rules("alert").items()} == SEVERITIES
    assert all(set(rule["annotations"]) == {"summary", "description"} for rule in rules("alert").values())


@pytest.mark.parametrize("path", sorted((CHECKOUT / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_slo_has_its_record(path: Path) -> None:
    """What a promotion is judged by is recorded under the same name afterwards."""
    slos = parse_policy(path.stem, path.read_text(encoding="utf-8")).gate.slos
    assert {f"model_version:{slo.name}" for slo in slos} <= set(rules("record"))


@pytest.mark.platform
def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    """Prometheus takes what the pod mounts: the files at their places, with credentials beside them."""
    for name in ("config", "rules"):
        (tmp_path / name).mkdir()
        for path in sorted((MONITORING / name).glob("*.yml")):
            text = path.read_text(encoding="utf-8").replace("/etc/prometheus", str(tmp_path))
            text = text.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(tmp_path / "edge"))
            (tmp_path / name / path.name).write_text(text, encoding="utf-8")
    (tmp_path / "edge").mkdir()
    for name in ("token", "ca.crt"):
        (tmp_path / "edge" / name).write_text("not checked", encoding="utf-8")
    said = says(homelab_promtool(), "check", "config", tmp_path / "config/prometheus.yml")
    assert len(re.findall(r"\d+ rules found", said)) == len(RULES)


def test_what_is_used_is_kept() -> None:
    """kube-state-metrics and the scrape of cAdvisor keep each series that a rule or dashboard names, and no other."""
    files = [*RULES, *(CHECKOUT / "manifests/platform/grafana/dashboards").glob("*.json")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    used = set(re.findall(r"\b(?:kube|container|machine)_\w+(?=\{|\[|\))", text))
    (workload,) = [one for one in content("manifests/platform/kube-state-metrics") if one["kind"] == "Deployment"]
    arguments = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    (allowed,) = [one.partition("=")[2] for one in arguments if one.startswith("--metric-allowlist=")]
    jobs = {one["job_name"]: one for one in load(MONITORING / "config/scrape-clusters.yml")["scrape_configs"]}
    for cluster in ("gcp", "edge"):
        kept = jobs[f"{cluster}-cadvisor"]["metric_relabel_configs"][0]["regex"]
        assert {*allowed.split(","), *kept.split("|")} - {"machine_cpu_cores"} == used
