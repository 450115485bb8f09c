"""Lists and watches: pages, selectors, what items have, and how changes are told."""

from typing import Any

from orchestration.adapters.kube_api import KubeApi
from tests.contract.place import ARGOCD, PODS, STEADY, TROUBLED, Place, application_path
from tests.contract.test_answers import MERGE
from tests.contract.watching import version_of, watch

APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{ARGOCD}/applications"
NOTE = "example.org/contract"


def ask(api: KubeApi, path: str, **query: str) -> dict[str, Any]:
    reply = api.get(path, query)
    assert reply.status == 200, reply
    found: dict[str, Any] = reply.document
    return found


def names(document: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in document["items"]]


def test_a_list_comes_in_pages(place: Place) -> None:
    """All pages are of one version and hold each object once; what remains is said when nothing selects."""
    whole = ask(place.edge, PODS, limit="500")
    assert (whole["kind"], whole["apiVersion"]) == ("PodList", "v1")
    assert "continue" not in whole["metadata"]
    first = ask(place.edge, PODS, limit="1")
    assert first["metadata"]["remainingItemCount"] == len(whole["items"]) - 1
    rest = ask(place.edge, PODS, limit="500", **{"continue": first["metadata"]["continue"]})
    assert names(first) + names(rest) == names(whole)
    assert "continue" not in rest["metadata"]
    assert first["metadata"]["resourceVersion"] == rest["metadata"]["resourceVersion"]


def test_a_selected_list_may_end_with_an_empty_page(place: Place) -> None:
    """A full page has a token while any object is left, selected or not, and does not say how many remain."""
    found, following = [], ""
    while True:
        query = {"labelSelector": "app=steady", "limit": "1"} | ({"continue": following} if following else {})
        page = ask(place.edge, PODS, **query)
        assert "remainingItemCount" not in page["metadata"]
        found.append(names(page))
        following = page["metadata"].get("continue", "")
        if not following:
            break
    # `steady` is not the last of the namespace's pods by name.
    assert [len(one) for one in found] == [1, 1, 0]
    assert len({name for one in found for name in one}) == 2


def test_an_empty_list_is_one(place: Place) -> None:
    """A namespace that is not there, or a selector that nothing meets, has no items and is no error."""
    assert ask(place.edge, PODS, labelSelector="app=nobody")["items"] == []
    assert ask(place.edge, "/api/v1/namespaces/nowhere/pods")["items"] == []


def test_only_items_of_custom_resources_say_their_kind(place: Place) -> None:
    """Kubernetes's own lists imply it."""
    assert {"kind", "apiVersion"}.isdisjoint(ask(place.edge, PODS)["items"][0])
    assert {item["kind"] for item in ask(place.gcp, APPLICATIONS)["items"]} == {"Application"}


def test_nodes_say_their_processor_and_whether_they_are_ready(place: Place) -> None:
    """By the label that schedulers use, and the condition Ready."""
    nodes = place.cluster.nodes()
    assert nodes
    assert {node.architecture for node in nodes} <= {"amd64", "arm64"}
    assert all(node.ready for node in nodes)


def test_a_watch_tells_what_changed_since(place: Place) -> None:
    """MODIFIED for each change behind the version of a list, with the object as it was then."""
    version = version_of(place.gcp, APPLICATIONS)
    for value in ("1", None):
        patch = {"metadata": {"annotations": {NOTE: value}}}
        place.gcp.send("PATCH", application_path(), patch, MERGE)
    query = {"resourceVersion": version, "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
    events = list(watch(place.kubeconfig, "gcp", APPLICATIONS, query))
    mine = [one for event, one in events if event == "MODIFIED" and one["metadata"]["name"] == STEADY]
    assert [NOTE in one["metadata"].get("annotations", {}) for one in mine[:2]] == [True, False]
    assert mine[0]["kind"] == "Application"
    # A bookmark comes when the server finds the time for it, and has a kind and a version.
    for bookmark in [one for event, one in events if event == "BOOKMARK"]:
        assert bookmark["kind"] == "Application"
        assert int(bookmark["metadata"]["resourceVersion"]) >= int(mine[1]["metadata"]["resourceVersion"])


def test_a_watch_from_no_version_begins_with_what_is_there(place: Place) -> None:
    """ADDED for each object, before anything else."""
    events = list(watch(place.kubeconfig, "gcp", APPLICATIONS, {"resourceVersion": "0", "timeoutSeconds": "1"}))
    assert {STEADY, TROUBLED} <= {one["metadata"]["name"] for event, one in events if event == "ADDED"}


def test_a_watch_from_too_old_a_version_ends_with_410(place: Place) -> None:
    """The answer is 200, and its one event an ERROR with a Status: list anew."""
    ((event, status),) = watch(place.kubeconfig, "gcp", APPLICATIONS, {"resourceVersion": "1", "timeoutSeconds": "1"})
    assert (event, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
    assert status["message"].startswith("too old resource version: 1 (")


def test_a_watch_selects_as_a_list_does(place: Place) -> None:
    """Only what the selector lets through is told."""
    query = {"resourceVersion": "0", "timeoutSeconds": "1", "labelSelector": "app=steady"}
    seen = {one["metadata"]["name"] for _, one in watch(place.kubeconfig, "edge", PODS, query)}
    assert seen == set(names(ask(place.edge, PODS, labelSelector="app=steady")))
