"""Argo CD's applications and projects: valid for its version, with no more rights than needed, and safe to delete."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from testbeds.common.services import BRANCH
from testbeds.common.tools import CHECKOUT
from tests.platform.crds import complaints, documents
from tests.platform.programs import content

FOLDER = CHECKOUT / "argocd-apps"
OFF = {"dagster-app.yaml", "kserve-app.yaml"}
"""Files that the kustomization names in comments: uncommenting the line switches them on."""
FILES = [path for path in sorted(FOLDER.glob("*.yaml")) if path.name != "kustomization.yaml"]
ALL = [document for path in FILES for document in documents(path)]
APPLICATIONS = {document["metadata"]["name"]: document for document in ALL if document["kind"] == "Application"}
PROJECTS = {document["metadata"]["name"]: document for document in ALL if document["kind"] == "AppProject"}
_CLUSTER_WIDE = {
    *("Namespace", "ClusterRole", "ClusterRoleBinding"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
}
Needed = tuple[str, str]


def group_and_kind(document: Mapping[str, Any]) -> Needed:
    return document["apiVersion"].rpartition("/")[0], document["kind"]


def deployed(application: Mapping[str, Any]) -> list[dict[str, Any]]:
    return content(application["spec"]["source"]["path"])


def needs(application: Mapping[str, Any]) -> Iterator[tuple[str, Needed]]:
    """Yield the whitelist of a project and the kind that it must contain, for each of an application's objects."""
    for document in deployed(application):
        whitelist = "clusterResourceWhitelist" if document["kind"] in _CLUSTER_WIDE else "namespaceResourceWhitelist"
        yield whitelist, group_and_kind(document)


def places(application: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the clusters and namespaces of an application's objects and of the application itself."""
    destination = application["spec"]["destination"]
    metadata = [document["metadata"] for document in deployed(application) if document["kind"] not in _CLUSTER_WIDE]
    namespaces = {each.get("namespace", destination["namespace"]) for each in metadata}
    return {(destination["name"], namespace) for namespace in {*namespaces, destination["namespace"]}}


def of_project(name: str) -> list[dict[str, Any]]:
    return [application for application in APPLICATIONS.values() if application["spec"]["project"] == name]


@pytest.mark.platform
@pytest.mark.parametrize("document", ALL, ids=lambda document: f"{document['kind']} {document['metadata']['name']}")
def test_argocd_knows_every_field(document: dict[str, Any]) -> None:
    """The installed Argo CD's CRDs accept each Application and AppProject, and know all their fields."""
    assert complaints(document) == []


@pytest.mark.platform
def test_a_field_that_argocd_does_not_know_is_found() -> None:
    """The validation reports both a field of a later version and a value of the wrong type."""
    root = APPLICATIONS["root"]
    spec = root["spec"] | {"later": True, "syncPolicy": {"retry": {"limit": "five", "refresh": True}}}
    assert len(complaints(root | {"spec": spec})) == 2


def test_root_deploys_every_file_that_is_not_off() -> None:
    """The app of apps lists all files beside it, and one that is off in a comment."""
    (kustomization,) = documents(FOLDER / "kustomization.yaml")
    assert set(kustomization["resources"]) == {path.name for path in FILES} - OFF
    text = (FOLDER / "kustomization.yaml").read_text(encoding="utf-8")
    assert all(f"  # - {name}" in text for name in OFF)


def test_all_use_roots_repository() -> None:
    """All applications and projects name root's repository, so copying its address at build time changes nothing."""
    address = APPLICATIONS["root"]["spec"]["source"]["repoURL"]
    assert {application["spec"]["source"]["repoURL"] for application in APPLICATIONS.values()} == {address}
    assert [project["spec"]["sourceRepos"] for project in PROJECTS.values()] == [[address]] * len(PROJECTS)


def test_only_models_follow_the_branch_that_the_pipeline_writes() -> None:
    """What has rights or makes rules is read from root's branch, and the models from theirs, in one folder."""
    sources = {name: application["spec"]["source"] for name, application in APPLICATIONS.items()}
    models = {name for name, source in sources.items() if source["targetRevision"] == BRANCH}
    of_models = [each for each in APPLICATIONS.values() if each["spec"]["project"] in ("models", "kserve")]
    assert models == {application["metadata"]["name"] for application in of_models}
    assert all(sources[name]["path"].startswith("manifests/applications/") for name in models)
    others = {source["targetRevision"] for name, source in sources.items() if name not in models}
    assert others == {sources["root"]["targetRevision"]} != {BRANCH}


@pytest.mark.platform
@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_allows_what_its_applications_need_and_no_more(name: str) -> None:
    """A project allows exactly the kinds, clusters and namespaces of its applications' objects."""
    spec, applications = PROJECTS[name]["spec"], of_project(name)
    needed = [need for application in applications for need in needs(application)]
    for whitelist in ("clusterResourceWhitelist", "namespaceResourceWhitelist"):
        allowed = [(entry["group"], entry["kind"]) for entry in spec[whitelist]]
        assert sorted(allowed) == sorted({kind for needed_in, kind in needed if needed_in == whitelist})
    destinations = [(destination["name"], destination["namespace"]) for destination in spec["destinations"]]
    assert sorted(destinations) == sorted({place for application in applications for place in places(application)})
    assert not {"orphanedResources", "sourceNamespaces", "roles"} & set(spec)


def test_only_the_accounts_applications_reach_beyond_namespaces() -> None:
    """What follows a branch that the pipeline writes, and the registry, can make nothing that belongs to a cluster."""
    reaching = {name for name, project in PROJECTS.items() if project["spec"]["clusterResourceWhitelist"]}
    assert reaching == {"access", "kube-state-metrics"}
    syncs = [application["spec"]["syncPolicy"] for application in APPLICATIONS.values()]
    assert not [sync for sync in syncs if "syncOptions" in sync]  # CreateNamespace=true would make one


@pytest.mark.platform
@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_names_its_cluster_and_retries_the_newest_commit(name: str) -> None:
    """Git contains no address of a cluster, and a failed sync is retried with what was pushed since."""
    spec = APPLICATIONS[name]["spec"]
    assert set(spec["destination"]) == {"name", "namespace"}
    assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
    assert spec["syncPolicy"]["retry"]["refresh"] is True
    assert deployed(APPLICATIONS[name])


def test_projects_come_first_and_accounts_before_the_rest() -> None:
    """Projects are created before applications, and accounts and the models' namespace before what needs them."""

    def wave(document: Mapping[str, Any]) -> int:
        return int(document["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", "0"))

    assert {wave(project) for project in PROJECTS.values()} == {-2}
    waves = {name: wave(application) for name, application in APPLICATIONS.items()}
    assert {name for name, number in waves.items() if number == -1} == {
        "access-control-plane",
        "access-dagster",
        "access-edge",
    }
    assert {number for name, number in waves.items() if not name.startswith("access")} == {0}


@pytest.mark.platform
def test_deleting_root_or_the_platforms_applications_deletes_nothing_else() -> None:
    """No application of the platform cascades its deletion, and no edit in Git prunes a volume."""
    platform = [each["metadata"] for each in APPLICATIONS.values() if each["spec"]["project"] != "models"]
    assert platform
    assert not [metadata["name"] for metadata in platform if metadata.get("finalizers")]
    objects = deployed(APPLICATIONS["mlflow"])
    claims = [document["metadata"] for document in objects if document["kind"] == "PersistentVolumeClaim"]
    options = [metadata["annotations"]["argocd.argoproj.io/sync-options"] for metadata in claims]
    assert options == ["Prune=false,Delete=false"] * 2
