"""What an account without any rights may ask of an API server about manifests: the schemas, and what it may do."""

from typing import Any

import pytest

from orchestration.adapters.clusters import KubernetesCluster
from orchestration.promotion.manifest_schema import faults, schema_name
from orchestration.promotion.rights import Right
from tests.contract.manifests import daemon_set, deployment, stateful_set
from tests.contract.place import NAMESPACE, Place


@pytest.fixture
def stranger(place: Place) -> KubernetesCluster:
    return KubernetesCluster(place.stranger, "edge")


def wrong(stranger: KubernetesCluster, document: dict[str, Any]) -> list[str]:
    schemas = stranger.schemas("apps/v1")
    assert schemas is not None
    name = schema_name(schemas, document["apiVersion"], document["kind"])
    assert name is not None
    return faults(document, schemas, name, strict=True)


def test_the_schemas_tell_what_is_valid(stranger: KubernetesCluster) -> None:
    """Of each kind that both have, and of each fault the field's path."""
    image = "ghcr.io/acme/iris:v1"
    for valid in (deployment("a", image), stateful_set("a", image, replicas=1), daemon_set("a", image)):
        assert wrong(stranger, valid) == []
    document = deployment("a", image, hostNetworks=True)
    document["spec"]["replicas"] = "2"
    del document["spec"]["selector"]
    document["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1 GB"}}
    assert sorted(wrong(stranger, document)) == [
        "spec.replicas: expected an integer, found '2'",
        "spec.template.spec.containers[0].resources.limits.memory: found '1 GB', which is none of what may stand there",
        "spec.template.spec: the field 'hostNetworks' is unknown",
        "spec: the field 'selector' is missing",
    ]


def test_an_api_that_is_not_there_has_no_schemas(stranger: KubernetesCluster) -> None:
    """`extensions/v1beta1` is the one that old manifests name."""
    assert stranger.schemas("extensions/v1beta1") is None


def test_an_account_is_told_what_it_may_not_do(stranger: KubernetesCluster) -> None:
    """Also one that may do nothing."""
    assert stranger.may(Right("patch", "deployments", "apps", namespace=NAMESPACE)) is False
    assert stranger.may(Right("get", "deployments", "apps", namespace=NAMESPACE)) is False
