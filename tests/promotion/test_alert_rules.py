"""The rules that follow from a policy: they have its bounds, its queries and its deadlines, whatever its server is."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no types of its own

from orchestration.promotion.alert_rules import alert_rules
from orchestration.promotion.metrics_presets import PRESETS, SUCCESS_RATIO
from orchestration.promotion.policy import Policy, parse_policy

CHECKOUT = Path(__file__).parents[2]
FILE = CHECKOUT / "manifests/platform/monitoring/rules/slos.yml"
RATIO: Mapping[str, Any] = {"name": SUCCESS_RATIO, "at_least": 0.99}
LATENCY: Mapping[str, Any] = {"name": "latency_p95_seconds", "at_most": 0.5}


def a_policy(*slos: Mapping[str, Any], model: str = "iris", **fields: Any) -> Policy:
    """A policy of a server with the preset `kserve`, unless the gate says otherwise."""
    return Policy.model_validate(
        {
            "name": "iris-edge",
            "model": model,
            "image": {"repository": "registry.example.org/iris"},
            "manifest": {"path": "iris.yaml", "namespace": "ml-apps", "name": "iris", "container": "server"},
            "argocd": {"application": "iris"},
            "cluster": "edge",
            "service": {"url": "http://edge:30808"},
            "quality": [{"metric": "accuracy", "at_least": 0.9}],
            **fields,
            "gate": {"metrics": "kserve", **fields.get("gate", {}), "slos": list(slos)},
        }
    )


def rules(*policies: Policy) -> list[dict[str, Any]]:
    groups = yaml.load(alert_rules(policies), yaml.CSafeLoader)["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts(*policies: Policy) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the alerts by name and window."""
    return {(rule["alert"], rule["labels"].get("window", "")): rule for rule in rules(*policies) if rule.get("alert")}


def test_the_file_in_git_is_what_the_policies_give() -> None:
    """Whoever changes a policy runs `incumbent rules` again, and commits what it prints."""
    paths = sorted((CHECKOUT / "policies").glob("*.yaml"))
    policies = [parse_policy(path.stem, path.read_text(encoding="utf-8")) for path in paths]
    assert FILE.read_text(encoding="utf-8") == alert_rules(policies), f"incumbent rules > {FILE.relative_to(CHECKOUT)}"


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_each_preset_gives_all_alerts(preset: str) -> None:
    """Every server's metrics are enough for the alerts on errors and latency, and no placeholder is left over."""
    policy = a_policy(RATIO, LATENCY, gate={"metrics": preset})
    found = alerts(policy)
    assert set(found) == {
        ("LiveModelIsNotChampion", ""),
        ("ModelErrorBudgetBurnsFast", "1h"),
        ("ModelErrorBudgetBurnsFast", "6h"),
        ("ModelErrorBudgetBurnsSlowly", "3d"),
        ("ModelMissesSLO", ""),
        ("ModelUnavailable", ""),
    }
    asked = [rule["expr"] for rule in rules(policy) if "record" in rule]
    assert not [query for query in asked if re.search(r"\$\w", query)]


@pytest.mark.parametrize(
    "slo",
    [
        {"name": "restarts", "from": "pods", "at_most": 0},
        {"name": "memory", "query": "max(memory{pod=~'$pods'})", "at_most": 0.9},
        {"name": SUCCESS_RATIO, "no_worse_than_live": 0.01},
    ],
    ids=["read from the pods", "not about requests", "without a bound of its own"],
)
def test_a_policy_without_a_bound_on_requests_is_watched_for_being_there(slo: Mapping[str, Any]) -> None:
    """It has the alerts on availability and on what is live, and no record of requests that nobody would read."""
    policy = a_policy(slo)
    assert {name for name, _ in alerts(policy)} == {"ModelUnavailable", "LiveModelIsNotChampion"}
    records = {rule["record"] for rule in rules(policy) if "record" in rule}
    assert records <= {"policy:promotion:longest_seconds", "policy:slo:bound"}


@pytest.mark.parametrize(
    ("objective", "window", "bound", "requests"),
    [
        (0.99, "1h", 0.144, 20),
        (0.99, "6h", 0.06, 20),
        (0.99, "3d", 0.01, 100),
        (0.999, "1h", 0.0144, 70),
        (0.9, "1h", 0.55, 20),
        (0.5, "1h", 0.75, 20),
        (1, "1h", 0.0144, 70),
    ],
    ids=["fast", "six hours", "three days", "strict", "a tenth may fail", "half may fail", "none may fail"],
)
def test_one_failed_request_stays_within_each_bound(objective: float, window: str, bound: float, requests: int) -> None:
    """The bound is the objective's budget times the rate, and below 1; so many requests are needed to judge it."""
    found = alerts(a_policy({**RATIO, "at_least": objective}))
    (alert,) = [rule for (_, of_window), rule in found.items() if of_window == window]
    first, second, third = alert["expr"].split("\nand ")
    assert first == f'policy:request_errors:ratio{window}{{policy="iris-edge"}} > {bound}'
    assert second.endswith(f"> {bound}")
    assert third == f'policy:requests:increase{window}{{policy="iris-edge"}} >= {requests}'
    assert 1 / requests <= bound < 1


def test_what_nobody_reads_is_not_recorded() -> None:
    """Without an error budget there are no long windows, which cost the most."""
    records = {rule["record"] for rule in rules(a_policy(LATENCY)) if "record" in rule}
    assert {name for name in records if name.startswith("policy:requests")} == {
        "policy:requests:increase5m",
        "policy:requests:increase1h",
    }


def test_a_policys_own_minimum_of_requests_counts() -> None:
    """A policy that judges by 200 requests is not alerted about by fewer."""
    found = alerts(a_policy({**RATIO, "min_requests": 200}))
    assert found["ModelErrorBudgetBurnsFast", "1h"]["expr"].endswith(">= 200")


def test_a_promotion_that_keeps_its_deadlines_does_not_alert() -> None:
    """What is live may differ from the champion as long as rollout, gate and rollback may take."""
    policy = a_policy(RATIO, rollout={"deadline": "1h"}, gate={"soak": "3h", "judge_within": "6h"})
    assert alerts(policy)["LiveModelIsNotChampion", ""]["for"] == f"{(1 + 6 + 1) * 60 + 5}m"


@pytest.mark.parametrize(
    ("kind", "matching", "other"),
    [
        ("Deployment", "iris-5d8f7c6b9-bcd4f", "iris-canary-5d8f7c6b9-bcd4f"),
        ("Rollout", "iris-5d8f7c6b9-bcd4f", "iris-0"),
        ("StatefulSet", "iris-12", "iris-5d8f7c6b9-bcd4f"),
        ("DaemonSet", "iris-bcd4f", "iris-proxy"),
        ("InferenceService", "iris-predictor-5d8f7c6b9-bcd4f", "iris-transformer-5d8f7c6b9-bcd4f"),
    ],
)
def test_the_pods_of_each_kind_are_those_of_the_workload(kind: str, matching: str, other: str) -> None:
    """The alert on availability asks about all of the workload's pods, and about no other's."""
    manifest = {"path": "iris.yaml", "kind": kind, "namespace": "ml-apps", "name": "iris", "container": "server"}
    expression = alerts(a_policy(RATIO, manifest=manifest))["ModelUnavailable", ""]["expr"]
    (pattern,) = re.findall(r'pod=~"([^"]+)"', expression)
    assert re.fullmatch(pattern, matching)
    assert not re.fullmatch(pattern, other)


@pytest.mark.parametrize(
    ("kind", "pod"),
    [
        ("Deployment", "a" * 58 + "bcd4f"),
        ("InferenceService", "a" * 58 + "bcd4f"),
        ("DaemonSet", "a" * 58 + "bcd4f"),
        ("StatefulSet", "a" * 60 + "-0"),
    ],
)
def test_the_pods_of_a_very_long_name_are_found(kind: str, pod: str) -> None:
    """Kubernetes cuts such a name off in its pods' names, but not where it numbers them."""
    manifest = {"path": "iris.yaml", "kind": kind, "namespace": "ml-apps", "name": "a" * 60, "container": "server"}
    expression = alerts(a_policy(RATIO, manifest=manifest))["ModelUnavailable", ""]["expr"]
    (pattern,) = re.findall(r'pod=~"([^"]+)"', expression)
    assert re.fullmatch(pattern, pod)


def test_a_models_name_is_not_a_template() -> None:
    """A name with braces stands for itself where Prometheus expands templates, and nowhere else."""
    policy = a_policy(RATIO, model="iris {{ 1 }}")
    alert = alerts(policy)["ModelUnavailable", ""]
    assert alert["labels"]["model"] == 'iris {{"{{"}} 1 }}'
    assert 'iris {{"{{"}} 1 }}' in alert["annotations"]["summary"]
    records = {rule["labels"]["model"] for rule in rules(policy) if "record" in rule}
    assert records == {"iris {{ 1 }}"}


def test_no_policies_give_no_rules() -> None:
    """A folder without policies gives a file that Prometheus accepts."""
    assert yaml.load(alert_rules([]), yaml.CSafeLoader) == {"groups": []}
