"""A dry run of an apply, which only a real API server does: what it says, and that it keeps nothing."""

from typing import Any

import pytest

from orchestration.promotion.problems import DependencyError
from tests.contract.place import NAMESPACE, Place


def steady(place: Place, **spec: Any) -> dict[str, Any]:
    """The manifest of `steady` as it is applied, with other fields in its spec."""
    live = place.deployment_json("steady")
    names = {"name": "steady", "namespace": NAMESPACE}
    kept = {field: live["spec"][field] for field in ("replicas", "selector", "template")}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": names, "spec": {**kept, **spec}}


def test_what_would_be_applied_is_not_kept(place: Place) -> None:
    """The answer to a good one is None, and the live object stays as it is."""
    before = place.deployment_json("steady")
    assert place.cluster.try_to_apply("deployments", steady(place, replicas=5), strict=True) is None
    after = place.deployment_json("steady")
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])


def test_what_is_invalid_is_refused_in_words(place: Place) -> None:
    """What no schema tells: that the selector must match the template, and that it cannot change."""
    said = place.cluster.try_to_apply("deployments", steady(place, selector={"matchLabels": {"a": "b"}}), strict=True)
    assert said is not None
    assert "`selector` does not match template `labels`" in said
    assert "field is immutable" in said


def test_what_cannot_be_decoded_is_answered_with_500(place: Place) -> None:
    """As if the server were at fault; so the schema is asked then."""
    with pytest.raises(DependencyError, match=r"HTTP 500: .*\.spec\.replica: field not declared in schema"):
        place.cluster.try_to_apply("deployments", steady(place, replica=5), strict=True)


def test_an_api_that_is_not_there_is_refused(place: Place) -> None:
    """In the API server's words."""
    old = {**steady(place), "apiVersion": "apps/v1beta1"}
    said = place.cluster.try_to_apply("deployments", old, strict=True)
    assert said == "the server could not find the requested resource"
