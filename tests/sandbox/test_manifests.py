"""What lies in `manifests/`, `argocd-apps/` and `policies/` fits together."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

from orchestration.promotion.policy import Policy, parse_policy
from testbeds.sandbox.tools import CHECKOUT

POLICY = "iris-classifier-edge"


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
PROJECTS = {one["metadata"]["name"]: one for one in of_kind("AppProject", "argocd-apps")}


def allowed(project: Mapping[str, Any], whitelist: str) -> set[tuple[str, str]]:
    """The kinds, each with its group, that a project's list has."""
    return {(one["group"], one["kind"]) for one in project[whitelist]}


def policy(folder: str) -> Policy:
    return parse_policy(POLICY, (CHECKOUT / folder / f"{POLICY}.yaml").read_text(encoding="utf-8"))


def deployment() -> Mapping[str, Any]:
    (found,) = of_kind("Deployment", "manifests/applications/iris-classifier")
    return found


def test_every_file_of_the_root_is_listed() -> None:
    """The app of apps brings every file that lies beside it."""
    (kustomization,) = of_kind("Kustomization", "argocd-apps")
    beside = {path.name for path in (CHECKOUT / "argocd-apps").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == beside


def test_the_repositorys_address_is_the_roots() -> None:
    """All applications and projects say what the root says, so that the copy at build time changes nothing here."""
    address = APPLICATIONS["root"]["spec"]["source"]["repoURL"]
    assert {one["spec"]["source"]["repoURL"] for one in APPLICATIONS.values()} == {address}
    assert [one["spec"]["sourceRepos"] for one in PROJECTS.values()] == [[address]] * len(PROJECTS)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_applications_project_allows_what_it_deploys(name: str) -> None:
    """Each application's destination and kinds are in its project, its path exists, and its cluster has a name."""
    spec = APPLICATIONS[name]["spec"]
    project = PROJECTS[spec["project"]]["spec"]
    assert set(spec["destination"]) == {"name", "namespace"}
    assert spec["destination"] in project["destinations"]
    namespaces = {one["namespace"] for one in project["destinations"] if one["name"] == spec["destination"]["name"]}
    of_namespaces = allowed(project, "namespaceResourceWhitelist")
    of_clusters = allowed(project, "clusterResourceWhitelist")
    deployed = [one for one in documents(spec["source"]["path"]) if one["kind"] != "Kustomization"]
    assert deployed
    for document in deployed:
        kind = (document["apiVersion"].rpartition("/")[0], document["kind"])
        if "namespace" in document["metadata"]:
            assert kind in of_namespaces
            assert document["metadata"]["namespace"] in namespaces
        else:
            assert kind in of_clusters


def test_nothing_is_allowed_that_is_not_deployed() -> None:
    """The projects have the least privilege: no kind that none of their applications has."""
    for name, project in PROJECTS.items():
        applications = [one for one in APPLICATIONS.values() if one["spec"]["project"] == name]
        content = [each for one in applications for each in documents(one["spec"]["source"]["path"])]
        deployed = {(one["apiVersion"].rpartition("/")[0], one["kind"]) for one in content}
        deployed |= {("", "ConfigMap") for one in content if "configMapGenerator" in one}
        if any("CreateNamespace=true" in one["spec"]["syncPolicy"].get("syncOptions", []) for one in applications):
            deployed.add(("", "Namespace"))
        for whitelist in ("namespaceResourceWhitelist", "clusterResourceWhitelist"):
            assert allowed(project["spec"], whitelist) <= deployed


def test_the_policy_names_what_is_there() -> None:
    """The scalar that a promotion edits exists once, from the policy's repository, on the application's branch."""
    target = policy("policies").manifest
    found = deployment()
    assert (found["kind"], found["metadata"]["namespace"], found["metadata"]["name"]) == (
        target.kind,
        target.namespace,
        target.name,
    )
    assert (CHECKOUT / target.path).is_file()
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["name"] == target.container
    assert re.fullmatch(re.escape(policy("policies").image.repository) + ":[0-9a-f]{40}", container["image"])
    assert policy("policies").argocd.application in APPLICATIONS


def test_an_update_loses_no_request() -> None:
    """The incumbent serves until its successor is ready, and goes on until the routes have left it."""
    spec = deployment()["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["replicas"] >= 2
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < pause < spec["template"]["spec"]["terminationGracePeriodSeconds"]
    assert spec["progressDeadlineSeconds"] < policy("policies").rollout.deadline


def test_the_memory_bound_is_of_the_containers_limit() -> None:
    """The query's constant is the limit that the manifest sets."""
    (container,) = deployment()["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "512Mi"
    query = next(slo.query for slo in policy("policies").gate.slos if slo.name == "memory_of_limit")
    assert query is not None
    assert "/ (512 * 1024 * 1024)" in query


@pytest.mark.parametrize("testbed", ["sandbox", "homelab"])
def test_a_testbeds_policy_differs_only_in_times_and_address(testbed: str) -> None:
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

    assert timeless(policy("policies")) == timeless(policy(f"testbeds/{testbed}/policies"))


def test_no_secret_lies_in_git() -> None:
    """Secrets are named, or declared for the cluster to fill; never written down."""
    folders = {path.parent for top in ("manifests", "argocd-apps") for path in (CHECKOUT / top).rglob("*.yaml")}
    secrets = [one for folder in folders for one in of_kind("Secret", str(folder.relative_to(CHECKOUT)))]
    assert {one["type"] for one in secrets} == {"kubernetes.io/service-account-token"}
    assert not [one for one in secrets if {"data", "stringData"} & set(one)]


def test_the_edge_clusters_address_stands_in_one_place() -> None:
    """A homelab with another address edits one line of the manifests; the policy's service has the same address."""
    address = urlsplit(policy("policies").service_url).hostname
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
