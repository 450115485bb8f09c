"""The stand-in's small rules, each shown by a table of examples."""

from typing import Any

import pytest

from testbeds.sandbox.cluster.apply import differs
from testbeds.sandbox.cluster.containers import hook_seconds
from testbeds.sandbox.cluster.gitsource import SourceError, parse_manifests
from testbeds.sandbox.cluster.health import application_health, object_health
from testbeds.sandbox.cluster.lists import select_labels
from testbeds.sandbox.cluster.nodes import quantity
from testbeds.sandbox.cluster.objects import ApiError, Store, merge
from testbeds.sandbox.cluster.targets import scrape_targets


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("256Mi", 256 * 2**20), ("1.5", 1.5), (2, 2), ("1G", 1e9), ("0", 0)]
)
def test_quantities_are_numbers(text: object, number: float) -> None:
    """Quantities with Kubernetes's suffixes and plain numbers are read as numbers."""
    assert quantity(text) == number


def test_an_invalid_quantity_is_refused() -> None:
    """`10 apples` is refused, because it is not a quantity."""
    with pytest.raises(ValueError, match="apples"):
        quantity("10 apples")


@pytest.mark.parametrize(
    ("hook", "seconds"),
    [
        ({"sleep": {"seconds": 5}}, 5),
        ({"exec": {"command": ["sleep", "2"]}}, 2),
        ({"exec": {"command": ["/bin/sh", "-c", "sleep 0.5"]}}, 0.5),
        ({"exec": {"command": ["/bin/sh", "-c", "sync"]}}, None),
        ({"httpGet": {"path": "/bye"}}, None),
    ],
)
def test_a_pre_stop_hook_sleeps(hook: dict[str, Any], seconds: float | None) -> None:
    """A sleep is recognized in each way that people write it; other hooks are not."""
    assert hook_seconds(hook) == seconds


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": 1, "b": 2}, {"b": None}, {"a": 1}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": None}}, {"a": {}}),
    ],
)
def test_merge_patches_follow_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    """A merge patch merges objects, deletes where it has null, and otherwise replaces."""
    assert merge(target, patch) == result


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("", "abc"),
        ("app=x", "ab"),
        ("app==x,tier=web", "a"),
        ("app!=x", "c"),
        ("tier", "a"),
        ("!tier", "bc"),
        ("app in (x, y)", "abc"),
        ("app notin (x)", "c"),
    ],
)
def test_label_selectors_choose(selector: str, chosen: str) -> None:
    """Each operator of Kubernetes's label selectors selects the right objects."""
    labels = {"a": {"app": "x", "tier": "web"}, "b": {"app": "x"}, "c": {"app": "y"}}
    items = [{"metadata": {"name": name, "labels": of_item}} for name, of_item in labels.items()]
    assert "".join(item["metadata"]["name"] for item in select_labels(items, selector)) == chosen


def test_an_invalid_selector_is_a_bad_request() -> None:
    """A selector that cannot be parsed leads to the same error as in Kubernetes."""
    with pytest.raises(ApiError, match="unable to parse"):
        select_labels([], "app=(x")


@pytest.mark.parametrize(
    ("wanted", "live", "different"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"a": 2}, True),
        ({"cpu": "0.5"}, {"cpu": "500m"}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, False),
        ({"a": [1]}, {"a": [1, 2]}, True),
        ({"a": {}}, {}, False),
    ],
)
def test_only_what_git_states_is_compared(wanted: Any, live: Any, different: bool) -> None:
    """Fields that only the cluster has do not count as differences, nor do other spellings of the same quantity."""
    assert differs(wanted, live) is different


@pytest.mark.parametrize("text", ["a: [", "- 1", "kind: Pod", "{apiVersion: v1, kind: Pod, metadata: {}}"])
def test_a_file_without_objects_is_refused(text: str) -> None:
    """A file that is not YAML or contains no Kubernetes object is refused with an error that names it."""
    with pytest.raises(SourceError, match=r"file\.yaml"):
        parse_manifests("file.yaml", text)


def _deployment(**status: int) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "d", "generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2} | status,
    }


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ({}, "Healthy"),
        ({"observedGeneration": 1}, "Progressing"),
        ({"updatedReplicas": 1}, "Progressing"),
        ({"replicas": 3}, "Progressing"),
        ({"availableReplicas": 1}, "Progressing"),
    ],
)
def test_a_deployment_is_healthy_when_its_rollout_is_over(status: dict[str, int], health: str) -> None:
    """Each count in gitops-engine's rule by itself keeps a Deployment from being Healthy."""
    rated = object_health("Deployment", _deployment(**status))
    assert rated is not None
    assert rated["status"] == health
    assert application_health([{"health": {"status": "Healthy"}}, {"health": rated}, {}]) == health


@pytest.mark.parametrize(
    ("annotations", "scraped"),
    [
        ({"prometheus.io/scrape": "true"}, ["8080"]),
        ({"prometheus.io/scrape": "true", "prometheus.io/port": "8082"}, ["8082"]),
        ({"prometheus.io/scrape": "false", "prometheus.io/port": "8082"}, []),
        ({}, []),
    ],
)
def test_a_pod_is_scraped_at_one_port(annotations: dict[str, str], scraped: list[str]) -> None:
    """It is the port of the name http, or the one that the pod's annotation names, as in scrape-models.yml."""
    store = Store()
    ports = [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 8082}]
    store.create(
        {
            "kind": "Pod",
            "metadata": {"name": "iris-1", "namespace": "ml", "annotations": annotations},
            "spec": {"containers": [{"name": "server", "ports": ports}]},
            "status": {"phase": "Running"},
        }
    )
    paths = [group["labels"]["__metrics_path__"] for group in scrape_targets(store, "edge:6550")]
    assert paths == [f"/api/v1/namespaces/ml/pods/iris-1:{port}/proxy/metrics" for port in scraped]
