"""The network policies: the table in docs/network.md is what the manifests say, and each pod has its policy."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from testbeds.common.tools import CHECKOUT
from tests.platform.crds import documents

ACCESS = CHECKOUT / "manifests/platform/access"
CLUSTERS = {"gcp": ("control-plane", "dagster"), "edge": ("edge",)}
"""The folders of each cluster; that of Dagster on Kubernetes is applied only where it is switched on."""
Row = tuple[str, str, str, str, str, str]
"""Cluster, namespace, pods, direction, peer, ports."""


def of_kind(cluster: str, kind: str) -> list[dict[str, Any]]:
    files = [path for folder in CLUSTERS[cluster] for path in sorted((ACCESS / folder).glob("*.yaml"))]
    return [each for path in files for each in documents(path) if each["kind"] == kind]


def selected(selector: Mapping[str, Any]) -> str:
    """Name the pods or the namespace that a selector selects: by labels, or by a list of values of the label app."""
    if set(selector) == {"matchExpressions"}:
        (expression,) = selector["matchExpressions"]
        assert (expression["key"], expression["operator"]) == ("app", "In"), selector
        return ", ".join(expression["values"])
    assert set(selector) <= {"matchLabels"}, selector
    labels = selector.get("matchLabels", {})
    return ", ".join(f"{key}={value}" if key != "app" else str(value) for key, value in labels.items()) or "all"


def peers(rule: Mapping[str, Any], word: str) -> str:
    if word not in rule:
        return "any"

    def one(peer: Mapping[str, Any]) -> str:
        kinds = {"podSelector": "", "namespaceSelector": "namespace "}
        found = [f"{kinds[kind]}{selected(peer[kind])}" for kind in kinds if kind in peer]
        return " in ".join(found).replace("kubernetes.io/metadata.name=", "")

    assert all(set(each) <= {"podSelector", "namespaceSelector"} for each in rule[word])
    return ", ".join(map(one, rule[word]))


def ports(rule: Mapping[str, Any]) -> str:
    def one(port: Mapping[str, Any]) -> str:
        last = f"-{port['endPort']}" if "endPort" in port else ""
        return f"{port['port']}{last}{'/UDP' if port.get('protocol') == 'UDP' else ''}"

    return ", ".join(one(port) for port in rule["ports"])


def rows(cluster: str) -> Iterator[Row]:
    """Yield what the manifests allow."""
    for policy in of_kind(cluster, "NetworkPolicy"):
        spec, namespace = policy["spec"], policy["metadata"]["namespace"]
        for direction, word in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, ()):
                pods = selected(spec["podSelector"])
                yield cluster, namespace, pods, direction, peers(rule, word), ports(rule)


def documented() -> set[Row]:
    """Return the rows of the table in docs/network.md."""
    text = (CHECKOUT / "docs/network.md").read_text(encoding="utf-8")
    table = text.partition("## Who may talk to whom")[2].partition("\n## ")[0]
    lines = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")
    ]
    assert lines[0][:6] == ["cluster", "namespace", "pods", "direction", "peer", "ports"]
    found = [(cells[0], cells[1], cells[2], cells[3], cells[4], cells[5]) for cells in lines[2:]]
    assert len(found) == len(set(found)), "a row is there twice"
    return set(found)


def test_the_table_is_what_the_manifests_allow() -> None:
    """Each row of docs/network.md is a rule of a policy, and each rule has its row."""
    assert documented() == {row for cluster in CLUSTERS for row in rows(cluster)}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_each_namespace_denies_by_default(cluster: str) -> None:
    """Every namespace that is ours has a policy for all its pods that allows nothing, in both directions."""
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    denied = {each["metadata"]["namespace"] for each in of_kind(cluster, "NetworkPolicy") if each["spec"] == deny}
    assert denied == {each["metadata"]["name"] for each in of_kind(cluster, "Namespace")}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_each_namespace_is_restricted_and_bounded(cluster: str) -> None:
    """Pod Security's profile restricted is enforced, and a quota holds, with a limit range where pods run."""
    for namespace in of_kind(cluster, "Namespace"):
        labels = namespace["metadata"]["labels"]
        modes = {f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "warn", "audit")}
        assert {name: value for name, value in labels.items() if name in modes} == dict.fromkeys(modes, "restricted")
    names = {each["metadata"]["name"] for each in of_kind(cluster, "Namespace")}
    quotas = {each["metadata"]["namespace"]: each["spec"]["hard"] for each in of_kind(cluster, "ResourceQuota")}
    ranges = {each["metadata"]["namespace"] for each in of_kind(cluster, "LimitRange")}
    assert set(quotas) == names
    assert ranges == {name for name, hard in quotas.items() if hard["pods"] != "0"}


def test_no_policy_is_elsewhere() -> None:
    """What the models' branch and the platform's applications bring cannot widen what the table says."""
    files = [path for path in (CHECKOUT / "manifests").rglob("*.yaml") if not path.is_relative_to(ACCESS)]
    assert not [path for path in files if re.search(r"^kind: NetworkPolicy", path.read_text(encoding="utf-8"), re.M)]


def test_no_policy_of_many_pods_has_rules_for_both_directions() -> None:
    """kube-router would take what such a policy's ingress allows for allowed between its pods (docs/facts.md)."""
    for cluster in CLUSTERS:
        for policy in of_kind(cluster, "NetworkPolicy"):
            spec = policy["spec"]
            if spec.get("ingress") and spec.get("egress"):
                assert set(spec["podSelector"].get("matchLabels", {})) == {"app"}, policy["metadata"]
