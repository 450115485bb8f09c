"""Prometheus's targets: which pods are scraped, and which labels tell their series apart."""

from tests.contract.place import Place

NAMED = {"namespace", "pod", "container", "app"}
FIXED = {"cluster": "edge", "environment": "production", "location": "edge"}


def test_each_pod_is_a_target_of_its_own_behind_the_api_server(place: Place) -> None:
    """A target has the pod's labels and the fixed ones and no others, so a query that uses another finds nothing."""
    targets = place.wait("two targets", lambda: targets if len(targets := place.targets()) >= 2 else None)
    assert len({labels["pod"] for labels in targets}) == len(targets)
    for labels in targets:
        assert labels.keys() == NAMED | FIXED.keys()
        assert FIXED.items() <= labels.items()
        assert labels["container"] == "model-server"
        assert labels["pod"].startswith(f"{labels['app']}-")
