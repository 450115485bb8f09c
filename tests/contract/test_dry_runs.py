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
    for server_side in (False, True):
        tried = steady(place, replicas=5)
        assert place.cluster.try_to_apply("deployments", tried, server_side=server_side) is None
    after = place.deployment_json("steady")
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])


def test_what_is_invalid_is_refused_in_words(place: Place) -> None:
    """What no schema tells: that the selector must match the template, and that it cannot change."""
    changed = steady(place, selector={"matchLabels": {"a": "b"}})
    said = place.cluster.try_to_apply("deployments", changed, server_side=False)
    assert said is not None
    assert "`selector` does not match template `labels`" in said
    assert "field is immutable" in said


def test_a_server_side_apply_that_cannot_be_decoded_is_answered_with_500(place: Place) -> None:
    """As if the server were at fault; so the schema is asked then."""
    with pytest.raises(DependencyError, match=r"HTTP 500: .*\.spec\.replica: field not declared in schema"):
        place.cluster.try_to_apply("deployments", steady(place, replica=5), server_side=True)


def test_a_patch_drops_what_a_server_side_apply_refuses(place: Place) -> None:
    """Unknown fields, and a variable that is set twice, which Argo CD applies by default."""
    document = steady(place, replica=5)
    document["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}] * 2
    assert place.cluster.try_to_apply("deployments", document, server_side=False) is None


def test_an_object_in_a_refusal_is_not_repeated(place: Place) -> None:
    """The API server quotes all of what is live when it cannot decode a patch."""
    said = place.cluster.try_to_apply("deployments", steady(place, replicas="five"), server_side=False)
    assert said is not None
    assert "Invalid value: {...}: json: cannot unmarshal string" in said


def test_an_api_that_is_not_there_is_refused(place: Place) -> None:
    """In the API server's words."""
    old = {**steady(place), "apiVersion": "apps/v1beta1"}
    said = place.cluster.try_to_apply("deployments", old, server_side=False)
    assert said == "the server could not find the requested resource"
