"""Prometheus's targets: which pods are scraped, and by what names their series are told apart."""

from tests.contract.place import Place

NAMED = {"namespace", "pod", "container", "app"}
FIXED = {"cluster": "edge", "environment": "production", "location": "edge"}


def test_each_pod_is_a_target_of_its_own_behind_the_api_server(place: Place) -> None:
    """Its labels are the pod's and the fixed ones, and no others: a query that uses another finds nothing."""
    targets = place.wait("two targets", lambda: found if len(found := place.targets()) >= 2 else None)
    assert len({labels["pod"] for labels in targets}) == len(targets)
    for labels in targets:
        assert labels.keys() == NAMED | FIXED.keys()
        assert FIXED.items() <= labels.items()
        assert labels["container"] == "model-server"
        assert labels["pod"].startswith(f"{labels['app']}-")
