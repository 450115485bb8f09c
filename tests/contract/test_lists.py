"""Lists and watches: pages, selectors, the fields of items, and how changes are reported."""

from typing import Any

from orchestration.adapters.kube_api import KubeApi
from tests.contract.place import ARGOCD, NAMESPACE, PODS, STEADY, TROUBLED, Place, application_path
from tests.contract.test_answers import MERGE
from tests.contract.watching import version_of, watch

APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{ARGOCD}/applications"
NOTE = "example.org/contract"


def read_list(api: KubeApi, path: str, **query: str) -> dict[str, Any]:
    reply = api.get(path, query)
    assert reply.status == 200, reply
    document: dict[str, Any] = reply.document
    return document


def names(document: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in document["items"]]


def test_a_list_comes_in_pages(place: Place) -> None:
    """All pages are of one version and hold each object once; without a selector, a page says how many remain."""
    whole = read_list(place.edge, PODS, limit="500")
    assert (whole["kind"], whole["apiVersion"]) == ("PodList", "v1")
    assert "continue" not in whole["metadata"]
    first = read_list(place.edge, PODS, limit="1")
    assert first["metadata"]["remainingItemCount"] == len(whole["items"]) - 1
    rest = read_list(place.edge, PODS, limit="500", **{"continue": first["metadata"]["continue"]})
    assert names(first) + names(rest) == names(whole)
    assert "continue" not in rest["metadata"]
    assert first["metadata"]["resourceVersion"] == rest["metadata"]["resourceVersion"]


def test_a_selected_list_may_end_with_an_empty_page(place: Place) -> None:
    """A full page has a token while any object is left, selected or not, and does not say how many remain."""
    pages, token = [], ""
    while True:
        query = {"labelSelector": "app=steady", "limit": "1"} | ({"continue": token} if token else {})
        page = read_list(place.edge, PODS, **query)
        assert "remainingItemCount" not in page["metadata"]
        pages.append(names(page))
        token = page["metadata"].get("continue", "")
        if not token:
            break
    # `steady` is not the last of the namespace's pods by name.
    assert [len(page) for page in pages] == [1, 1, 0]
    assert len({name for page in pages for name in page}) == 2


def test_services_are_listed(place: Place) -> None:
    """The adapter reads those of the namespace; a namespace without any has an empty list, and no error."""
    assert place.cluster.services(NAMESPACE) == ()


def test_an_empty_list_is_no_error(place: Place) -> None:
    """The list of a namespace that does not exist, or of a selector that matches nothing, has no items."""
    assert read_list(place.edge, PODS, labelSelector="app=nobody")["items"] == []
    assert read_list(place.edge, "/api/v1/namespaces/nowhere/pods")["items"] == []


def test_only_items_of_custom_resources_state_their_kind(place: Place) -> None:
    """Items of Kubernetes's own lists leave out `kind` and `apiVersion`; those of custom resources have them."""
    assert {"kind", "apiVersion"}.isdisjoint(read_list(place.edge, PODS)["items"][0])
    assert {item["kind"] for item in read_list(place.gcp, APPLICATIONS)["items"]} == {"Application"}


def test_nodes_state_their_processor_and_whether_they_are_ready(place: Place) -> None:
    """Each node has the label that schedulers read, and the condition Ready."""
    nodes = place.cluster.nodes()
    assert nodes
    assert {node.architecture for node in nodes} <= {"amd64", "arm64"}
    assert all(node.ready for node in nodes)


def test_a_watch_reports_each_change_since_a_version(place: Place) -> None:
    """Each change after the version of a list is a MODIFIED event with the object as it was then."""
    version = version_of(place.gcp, APPLICATIONS)
    for value in ("1", None):
        patch = {"metadata": {"annotations": {NOTE: value}}}
        place.gcp.send("PATCH", application_path(), patch, MERGE)
    query = {"resourceVersion": version, "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
    events = list(watch(place.kubeconfig, "gcp", APPLICATIONS, query))
    steady = [item for event, item in events if event == "MODIFIED" and item["metadata"]["name"] == STEADY]
    assert [NOTE in item["metadata"].get("annotations", {}) for item in steady[:2]] == [True, False]
    assert steady[0]["kind"] == "Application"
    # The server sends bookmarks when it likes; each has a kind and a version.
    for bookmark in [item for event, item in events if event == "BOOKMARK"]:
        assert bookmark["kind"] == "Application"
        assert int(bookmark["metadata"]["resourceVersion"]) >= int(steady[1]["metadata"]["resourceVersion"])


def test_a_watch_from_version_0_begins_with_what_exists(place: Place) -> None:
    """Before anything else, each existing object is reported as ADDED."""
    events = list(watch(place.kubeconfig, "gcp", APPLICATIONS, {"resourceVersion": "0", "timeoutSeconds": "1"}))
    assert {STEADY, TROUBLED} <= {item["metadata"]["name"] for event, item in events if event == "ADDED"}


def test_a_watch_from_too_old_a_version_ends_with_410(place: Place) -> None:
    """The answer is 200, and its only event is an ERROR with a Status that tells the client to list again."""
    ((event, status),) = watch(place.kubeconfig, "gcp", APPLICATIONS, {"resourceVersion": "1", "timeoutSeconds": "1"})
    assert (event, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
    assert status["message"].startswith("too old resource version: 1 (")


def test_a_watch_selects_as_a_list_does(place: Place) -> None:
    """A watch reports only the objects that its selector matches."""
    query = {"resourceVersion": "0", "timeoutSeconds": "1", "labelSelector": "app=steady"}
    watched = {pod["metadata"]["name"] for _, pod in watch(place.kubeconfig, "edge", PODS, query)}
    assert watched == set(names(read_list(place.edge, PODS, labelSelector="app=steady")))
