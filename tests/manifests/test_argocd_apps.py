"""What Argo CD is told to keep: valid for its version, allowed and no more, and safe to delete."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from testbeds.common.tools import CHECKOUT
from tests.platform.crds import complaints, documents
from tests.platform.programs import content

FOLDER = CHECKOUT / "argocd-apps"
OFF = {"kserve-app.yaml"}
"""Files that the kustomization names in a comment: taking its sign away switches them on."""
ALL = [one for path in sorted(FOLDER.glob("*.yaml")) if path.name != "kustomization.yaml" for one in documents(path)]
APPLICATIONS = {one["metadata"]["name"]: one for one in ALL if one["kind"] == "Application"}
PROJECTS = {one["metadata"]["name"]: one for one in ALL if one["kind"] == "AppProject"}
_CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
Needed = tuple[str, str]


def group_and_kind(document: Mapping[str, Any]) -> Needed:
    return document["apiVersion"].rpartition("/")[0], document["kind"]


def deployed(application: Mapping[str, Any]) -> list[dict[str, Any]]:
    return content(application["spec"]["source"]["path"])


def needs(application: Mapping[str, Any]) -> Iterator[tuple[str, Needed]]:
    """Each object's whitelist with its kind, as a project must allow it."""
    for one in deployed(application):
        whitelist = "clusterResourceWhitelist" if one["kind"] in _CLUSTER_WIDE else "namespaceResourceWhitelist"
        yield whitelist, group_and_kind(one)
    if "CreateNamespace=true" in application["spec"]["syncPolicy"].get("syncOptions", ()):
        yield "clusterResourceWhitelist", ("", "Namespace")


def places(application: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The clusters and namespaces that an application's objects go to, and its own."""
    destination = application["spec"]["destination"]
    own = [one["metadata"] for one in deployed(application) if one["kind"] not in _CLUSTER_WIDE]
    found = {one.get("namespace", destination["namespace"]) for one in own}
    return {(destination["name"], namespace) for namespace in {*found, destination["namespace"]}}


def of_project(name: str) -> list[dict[str, Any]]:
    return [one for one in APPLICATIONS.values() if one["spec"]["project"] == name]


@pytest.mark.platform
@pytest.mark.parametrize("document", ALL, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_argocd_knows_every_field(document: dict[str, Any]) -> None:
    """Each Application and AppProject is valid by the CRD of the Argo CD that is installed, and no field is unknown."""
    assert complaints(document) == []


@pytest.mark.platform
def test_a_field_that_argocd_does_not_know_is_found() -> None:
    """The check is no empty one: a field of a later version and a wrong type are both told."""
    (root,) = [one for one in ALL if one["metadata"]["name"] == "root" and one["kind"] == "Application"]
    spec = root["spec"] | {"later": True, "syncPolicy": {"retry": {"limit": "five", "refresh": True}}}
    assert len(complaints(root | {"spec": spec})) == 2


def test_root_brings_every_file_that_is_not_off() -> None:
    """The app of apps lists what lies beside it; what is off is one commented line."""
    (kustomization,) = documents(FOLDER / "kustomization.yaml")
    beside = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == beside - OFF
    text = (FOLDER / "kustomization.yaml").read_text(encoding="utf-8")
    assert all(f"  # - {name}" in text for name in OFF)


def test_the_repositorys_address_is_the_roots() -> None:
    """All applications and projects say what the root says, so that the copy at build time changes nothing here."""
    address = APPLICATIONS["root"]["spec"]["source"]["repoURL"]
    assert {one["spec"]["source"]["repoURL"] for one in APPLICATIONS.values()} == {address}
    assert [one["spec"]["sourceRepos"] for one in PROJECTS.values()] == [[address]] * len(PROJECTS)


@pytest.mark.platform
@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_allows_what_its_applications_need_and_no_more(name: str) -> None:
    """Kinds, clusters and namespaces are those of its applications' objects, exactly."""
    spec = PROJECTS[name]["spec"]
    needed = [each for one in of_project(name) for each in needs(one)]
    for whitelist in ("clusterResourceWhitelist", "namespaceResourceWhitelist"):
        allowed = [(one["group"], one["kind"]) for one in spec[whitelist]]
        assert sorted(allowed) == sorted({kind for where, kind in needed if where == whitelist})
    destinations = [(one["name"], one["namespace"]) for one in spec["destinations"]]
    assert sorted(destinations) == sorted({place for one in of_project(name) for place in places(one)})
    assert not {"orphanedResources", "sourceNamespaces", "roles"} & set(spec)


@pytest.mark.platform
@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_names_its_cluster_and_tries_again_what_is_newest(name: str) -> None:
    """No address of a cluster stands in Git, and a sync that failed is tried again with what was pushed since."""
    spec = APPLICATIONS[name]["spec"]
    assert set(spec["destination"]) == {"name", "namespace"}
    assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
    assert spec["syncPolicy"]["retry"]["refresh"] is True
    assert deployed(APPLICATIONS[name])


def test_projects_come_first_and_accounts_before_the_rest() -> None:
    """A project before its applications, the accounts and the models' namespace before who needs them."""

    def wave(document: Mapping[str, Any]) -> int:
        return int(document["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", "0"))

    assert {wave(one) for one in PROJECTS.values()} == {-2}
    waves = {name: wave(one) for name, one in APPLICATIONS.items()}
    assert {name for name, found in waves.items() if found == -1} == {"access-control-plane", "access-edge"}
    assert {found for name, found in waves.items() if not name.startswith("access")} == {0}


@pytest.mark.platform
def test_deleting_root_or_the_platforms_applications_deletes_nothing_else() -> None:
    """None of them cascades, and no volume is pruned, whatever is edited in Git."""
    kept = [one for one in APPLICATIONS.values() if one["spec"]["project"] != "models"]
    assert kept
    assert not [one["metadata"]["name"] for one in kept if one["metadata"].get("finalizers")]
    claims = [one for one in deployed(APPLICATIONS["mlflow"]) if one["kind"] == "PersistentVolumeClaim"]
    options = [one["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] for one in claims]
    assert options == ["Prune=false,Delete=false"] * 2
