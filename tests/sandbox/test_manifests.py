"""The files in `manifests/`, `argocd-apps/` and `policies/` fit together."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # no types of its own

from orchestration.promotion.policy import Policy, parse_policy
from testbeds.common.tools import CHECKOUT

MODELS = sorted(path.parent.name for path in (CHECKOUT / "manifests/applications").glob("*/deployment.yaml"))


def documents(folder: str) -> list[dict[str, Any]]:
    """Return all YAML documents of a folder's own files."""
    return [
        document
        for path in sorted((CHECKOUT / folder).glob("*.yaml"))
        for document in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    ]


def of_kind(kind: str, folder: str) -> list[dict[str, Any]]:
    return [document for document in documents(folder) if document["kind"] == kind]


APPLICATIONS = {application["metadata"]["name"]: application for application in of_kind("Application", "argocd-apps")}


def policy(folder: str, model: str) -> Policy:
    name = f"{model}-edge"
    return parse_policy(name, (CHECKOUT / folder / f"{name}.yaml").read_text(encoding="utf-8"))


def of_model(kind: str, model: str) -> Mapping[str, Any]:
    """Return the only object of that kind in a model's application."""
    (document,) = of_kind(kind, f"manifests/applications/{model}")
    return document


@pytest.mark.parametrize("model", MODELS)
def test_the_policy_fits_the_manifests(model: str) -> None:
    """The policy names the model's Deployment, container, image repository, Application and port."""
    promoted = policy("policies", model)
    target, deployment = promoted.manifest, of_model("Deployment", model)
    metadata = deployment["metadata"]
    assert (deployment["kind"], metadata["namespace"], metadata["name"]) == (
        target.kind,
        target.namespace,
        target.name,
    )
    assert (CHECKOUT / target.path).is_file()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["name"] == target.container
    assert re.fullmatch(re.escape(promoted.images.repository) + ":[0-9a-f]{40}", container["image"])
    assert APPLICATIONS[promoted.argocd.application]["spec"]["source"]["path"] == str(Path(target.path).parent)
    (port,) = of_model("Service", model)["spec"]["ports"]
    assert urlsplit(promoted.service.url).port == port["nodePort"]


def test_promoting_one_model_never_touches_another() -> None:
    """No two policies share a model, image, manifest, application or address, and no two applications share pods."""
    policies = [policy("policies", model) for model in MODELS]
    own = [
        (each.model, each.images.repository, each.manifest.path, each.argocd.application, each.service.url)
        for each in policies
    ]
    for values in zip(*own, strict=True):
        assert len(set(values)) == len(MODELS) > 1
    for model in MODELS:
        content = documents(f"manifests/applications/{model}")
        assert {document["metadata"]["name"] for document in content} == {model}
        assert {document["metadata"]["labels"]["app"] for document in content} == {model}
        spec = of_model("Deployment", model)["spec"]
        selectors = [of_model("Service", model)["spec"]["selector"], spec["selector"]["matchLabels"]]
        selectors += [of_model("PodDisruptionBudget", model)["spec"]["selector"]["matchLabels"]]
        assert selectors == [{"app": model}] * 3
        assert spec["template"]["metadata"]["labels"]["app"] == model


@pytest.mark.parametrize("model", MODELS)
def test_an_update_loses_no_request(model: str) -> None:
    """The incumbent serves until its successor is ready and the routes no longer lead to it."""
    spec = of_model("Deployment", model)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < pause < spec["template"]["spec"]["terminationGracePeriodSeconds"]
    assert spec["progressDeadlineSeconds"] < policy("policies", model).rollout.deadline
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["livenessProbe"]["httpGet"]["path"] != "/health"


@pytest.mark.parametrize("model", MODELS)
def test_the_autoscaler_alone_sets_the_number_of_pods(model: str) -> None:
    """The Deployment states no replicas, which a sync would restore, and a drained node leaves at least one pod.

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
    assert int(target.removesuffix("m")) < int(limit.removesuffix("m")), "a pod's usage can reach the target"
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300
    assert scaler["behavior"]["scaleUp"]["stabilizationWindowSeconds"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_pod_has_the_expected_size_and_no_token(model: str) -> None:
    """A model's pod has the resources and port that queries and clients rely on, and no token of Kubernetes."""
    pod = of_model("Deployment", model)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "384Mi"},
    }
    assert [(port["containerPort"], port["name"]) for port in container["ports"]] == [(8080, "http")]


@pytest.mark.parametrize("model", MODELS)
def test_the_memory_bound_uses_the_containers_limit(model: str) -> None:
    """The query of the memory bound divides by the limit that the manifest sets, 512 MiB."""
    query = next(slo.query for slo in policy("policies", model).gate.slos if slo.name == "memory_of_limit")
    assert query is not None
    assert "/ (512 * 1024 * 1024)" in query


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("testbed", ["sandbox", "homelab"])
def test_a_testbeds_policy_differs_only_in_times_and_address(testbed: str, model: str) -> None:
    """A testbed's policy is the one that people start from, except for times and the address."""

    def comparable(each: Policy) -> dict[str, Any]:
        content = each.model_dump()
        content["service"].pop("url")
        content.pop("rollout")
        content["image"].pop("deadline")
        for name in ("soak", "every", "judge_within"):
            content["gate"].pop(name)
        for slo in content["gate"]["slos"]:
            if slo["name"].endswith("_seconds"):
                slo.pop("at_most")  # a busy laptop answers more slowly than a cluster
        return content

    assert comparable(policy("policies", model)) == comparable(policy(f"testbeds/{testbed}/policies", model))


def test_the_edge_clusters_address_occurs_once() -> None:
    """The manifests name the address of the policies' services in one line, which is all that another homelab edits."""
    (address,) = {urlsplit(policy("policies", model).service.url).hostname for model in MODELS}
    files = [path for top in ("manifests", "argocd-apps") for path in (CHECKOUT / top).rglob("*.yaml")]
    assert sum(path.read_text(encoding="utf-8").count(str(address)) for path in files) == 1


@pytest.mark.parametrize("folder", ["edge", "control-plane"])
def test_no_account_has_more_rights_than_listed(folder: str) -> None:
    """Roles list their groups, resources and verbs, exclude Secrets, and are bound only to the folder's accounts."""
    content = documents(f"manifests/platform/access/{folder}")
    roles = [document for document in content if document["kind"] in ("Role", "ClusterRole")]
    rules = [rule for role in roles for rule in role["rules"]]
    assert all(set(rule) - {"resourceNames"} == {"apiGroups", "resources", "verbs"} for rule in rules)
    named = {word for rule in rules for part in rule.values() for word in part}
    assert not named & {"*", "secrets", "pods/exec", "pods/attach", "update", "delete", "deletecollection", "escalate"}
    bindings = [document for document in content if document["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    accounts = {document["metadata"]["name"] for document in content if document["kind"] == "ServiceAccount"}
    for binding in bindings:
        assert {subject["kind"] for subject in binding["subjects"]} == {"ServiceAccount"}
        assert {subject["name"] for subject in binding["subjects"]} <= accounts
