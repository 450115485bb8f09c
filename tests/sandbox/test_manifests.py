"""What lies in `manifests/`, `argocd-apps/` and `policies/` fits together."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

from orchestration.promotion.policy import Policy, parse_policy
from testbeds.common.tools import CHECKOUT

MODELS = sorted(path.name for path in (CHECKOUT / "manifests/applications").iterdir())


def documents(folder: str) -> list[dict[str, Any]]:
    """All YAML documents of a folder's own files."""
    return [
        document
        for path in sorted((CHECKOUT / folder).glob("*.yaml"))
        for document in YAML(typ="safe").load_all(path.read_text(encoding="utf-8"))
    ]


def of_kind(kind: str, folder: str) -> list[dict[str, Any]]:
    return [document for document in documents(folder) if document["kind"] == kind]


APPLICATIONS = {one["metadata"]["name"]: one for one in of_kind("Application", "argocd-apps")}


def policy(folder: str, model: str) -> Policy:
    name = f"{model}-edge"
    return parse_policy(name, (CHECKOUT / folder / f"{name}.yaml").read_text(encoding="utf-8"))


def of_model(kind: str, model: str) -> Mapping[str, Any]:
    """The one object of that kind that a model's application has."""
    (found,) = of_kind(kind, f"manifests/applications/{model}")
    return found


@pytest.mark.parametrize("model", MODELS)
def test_the_policy_names_what_is_there(model: str) -> None:
    """The scalar that a promotion edits exists once, from the policy's repository, on the application's branch."""
    promoted = policy("policies", model)
    target, found = promoted.manifest, of_model("Deployment", model)
    assert (found["kind"], found["metadata"]["namespace"], found["metadata"]["name"]) == (
        target.kind,
        target.namespace,
        target.name,
    )
    assert (CHECKOUT / target.path).is_file()
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["name"] == target.container
    assert re.fullmatch(re.escape(promoted.image.repository) + ":[0-9a-f]{40}", container["image"])
    assert APPLICATIONS[promoted.argocd.application]["spec"]["source"]["path"] == str(Path(target.path).parent)
    (port,) = of_model("Service", model)["spec"]["ports"]
    assert urlsplit(promoted.service_url).port == port["nodePort"]


def test_promoting_one_model_never_touches_another() -> None:
    """Nothing that is committed, deployed, selected or asked is in two policies, nor in two applications."""
    policies = [policy("policies", model) for model in MODELS]
    own = [
        (one.model, one.image.repository, one.manifest.path, one.argocd.application, one.service_url)
        for one in policies
    ]
    for values in zip(*own, strict=True):
        assert len(set(values)) == len(MODELS) > 1
    for model in MODELS:
        content = documents(f"manifests/applications/{model}")
        assert {one["metadata"]["name"] for one in content} == {model}
        assert {one["metadata"]["labels"]["app"] for one in content} == {model}
        spec = of_model("Deployment", model)["spec"]
        selectors = [of_model("Service", model)["spec"]["selector"], spec["selector"]["matchLabels"]]
        selectors += [of_model("PodDisruptionBudget", model)["spec"]["selector"]["matchLabels"]]
        assert selectors == [{"app": model}] * 3
        assert spec["template"]["metadata"]["labels"]["app"] == model


@pytest.mark.parametrize("model", MODELS)
def test_an_update_loses_no_request(model: str) -> None:
    """The incumbent serves until its successor is ready, and goes on until the routes have left it."""
    spec = of_model("Deployment", model)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < pause < spec["template"]["spec"]["terminationGracePeriodSeconds"]
    assert spec["progressDeadlineSeconds"] < policy("policies", model).rollout.deadline
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["livenessProbe"]["httpGet"]["path"] != "/health"


@pytest.mark.parametrize("model", MODELS)
def test_the_autoscaler_alone_says_how_many_pods_there_are(model: str) -> None:
    """Replicas in Git would undo it at each sync; a drained node leaves at least one of its fewest pods.

    As Kubernetes advises ("Specifying a Disruption Budget"), pods that are not ready do not keep a drain waiting.
    """
    deployment, scaler = of_model("Deployment", model), of_model("HorizontalPodAutoscaler", model)["spec"]
    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": model}
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]
    budget = of_model("PodDisruptionBudget", model)["spec"]
    assert budget["maxUnavailable"] < scaler["minReplicas"]
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    (metric,) = scaler["metrics"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    target, limit = metric["resource"]["target"]["averageValue"], container["resources"]["limits"]["cpu"]
    assert int(target.removesuffix("m")) < int(limit.removesuffix("m")), "a use that a pod can reach"
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300
    assert scaler["behavior"]["scaleUp"]["stabilizationWindowSeconds"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_pod_has_the_described_size_and_no_token(model: str) -> None:
    """Requests, limits and port are those that the gate's queries and the clients count on; Kubernetes is not asked."""
    pod = of_model("Deployment", model)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "384Mi"},
    }
    assert [(one["containerPort"], one["name"]) for one in container["ports"]] == [(8080, "http")]


@pytest.mark.parametrize("model", MODELS)
def test_the_memory_bound_is_of_the_containers_limit(model: str) -> None:
    """The query's constant is the limit that the manifest sets: 512 MiB, as above."""
    query = next(slo.query for slo in policy("policies", model).gate.slos if slo.name == "memory_of_limit")
    assert query is not None
    assert "/ (512 * 1024 * 1024)" in query


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("testbed", ["sandbox", "homelab"])
def test_a_testbeds_policy_differs_only_in_times_and_address(testbed: str, model: str) -> None:
    """What is proved in the testbeds is the policy that people start from."""

    def timeless(one: Policy) -> dict[str, Any]:
        content = one.model_dump()
        content.pop("service_url")
        content.pop("rollout")
        content["image"].pop("deadline")
        for name in ("soak", "every", "judge_within"):
            content["gate"].pop(name)
        for slo in content["gate"]["slos"]:
            if slo["name"].endswith("_seconds"):
                slo.pop("at_most")  # a busy laptop answers later than a cluster
        return content

    assert timeless(policy("policies", model)) == timeless(policy(f"testbeds/{testbed}/policies", model))


def test_the_edge_clusters_address_stands_in_one_place() -> None:
    """A homelab with another address edits one line of the manifests; the policy's service has the same address."""
    (address,) = {urlsplit(policy("policies", model).service_url).hostname for model in MODELS}
    files = [path for top in ("manifests", "argocd-apps") for path in (CHECKOUT / top).rglob("*.yaml")]
    assert sum(path.read_text(encoding="utf-8").count(str(address)) for path in files) == 1


@pytest.mark.parametrize("folder", ["edge", "control-plane"])
def test_no_account_has_more_than_it_is_given(folder: str) -> None:
    """The roles name groups, resources and verbs one by one, are bound to accounts of their own, and hold no secret."""
    content = documents(f"manifests/platform/access/{folder}")
    rules = [rule for one in content if one["kind"] in ("Role", "ClusterRole") for rule in one["rules"]]
    assert all(set(rule) - {"resourceNames"} == {"apiGroups", "resources", "verbs"} for rule in rules)
    named = {word for rule in rules for part in rule.values() for word in part}
    assert not named & {"*", "secrets", "pods/exec", "pods/attach", "update", "delete", "deletecollection", "escalate"}
    bindings = [one for one in content if one["kind"].endswith("Binding")]
    accounts = {one["metadata"]["name"] for one in content if one["kind"] == "ServiceAccount"}
    for binding in bindings:
        assert {one["kind"] for one in binding["subjects"]} == {"ServiceAccount"}
        assert {one["name"] for one in binding["subjects"]} <= accounts
