"""Another model serves than the one that is promoted: seen in the manifest before the commit, afterwards in pods."""

from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from orchestration.promotion.cluster_status import ContainerSpec
from orchestration.promotion.ports import QueryResult, Sample
from orchestration.promotion.state import State
from tests.fakes.world import REPOSITORY, World, run_stages


def set_in_manifest(world: World, *entry: str) -> None:
    """Commit an `env` for the container, as a person does."""
    manifest = world.git.commits[world.git.head].files["apps/iris.yaml"].decode()
    lines = "".join(f"            {line}\n" for line in entry)
    world.git.commit("Set the model by hand", {"apps/iris.yaml": f"{manifest}          env:\n{lines}".encode()})


def serve_another(world: World, **labels: str) -> None:
    """Let each pod's server say that it serves these."""
    reconcile = world.reconcile

    def and_say() -> None:
        reconcile()
        assert world.cluster.status is not None
        names = [pod.name for pod in world.cluster.status.pods]
        world.metrics.script["model_info"] = lambda _: QueryResult(
            tuple(Sample({"pod": name, **labels}, 1.0, world.clock.now()) for name in names)
        )

    world.argocd.on_refresh = lambda _: and_say()


def check_of(result: dg.ExecuteInProcessResult, name: str) -> tuple[dg.AssetCheckEvaluation, list[dict[str, Any]]]:
    """A check of a run, with the rows of its table."""
    check = next(check for check in result.get_asset_check_evaluations() if check.check_name == name)
    details = check.metadata["details"]
    assert isinstance(details, dg.TableMetadataValue)
    return check, [dict(record.data) for record in details.records]


@pytest.mark.parametrize("uri", ["models:/iris/9", "models:/wine/1", "models:/iris@production"])
def test_a_manifest_that_names_another_model_is_refused_before_the_commit(
    world: World, instance: dg.DagsterInstance, uri: str
) -> None:
    """An image that states nothing, and a manifest that states another version, would make the wrong one champion."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1")
    set_in_manifest(world, "- name: MODEL_URI", f"  value: {uri}")
    assert not run_stages(world, 1, instance).success
    assert (world.state(1), world.champion) == (State.REFUSED, None)
    assert world.subjects == ["Set the model by hand"]
    assert "apps/iris.yaml, line 12, at" in world.reason(1)
    assert "incumbent retry iris-edge 1" in world.reason(1)


def test_the_manifests_value_takes_precedence_over_the_images(world: World, instance: dg.DagsterInstance) -> None:
    """A manifest that names this version is right even with an image that names another, and that is shown."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/9"})
    set_in_manifest(world, "- {name: MODEL_URI, value: 'models:/iris/1'}")
    result = run_stages(world, 1, instance)
    assert result.success
    _, (row,) = check_of(result, "image_published")
    assert (row["serves"], row["stated by"]) == ("models:/iris/1", "the Kubernetes manifest")


def test_a_value_that_comes_from_elsewhere_is_judged_in_the_pods(world: World, instance: dg.DagsterInstance) -> None:
    """A manifest with `valueFrom` passes before the commit; the server's own word then takes the version back."""
    world.register()
    set_in_manifest(world, "- name: MODEL_URI", "  valueFrom: {configMapKeyRef: {name: m, key: uri}}")
    serve_another(world, model="iris", version="9")
    result = run_stages(world, 1, instance)
    assert not result.success
    assert (world.state(1), world.champion) == (State.ROLLED_BACK, None)
    assert world.subjects[1:] == ["Promote iris-edge to version 1", world.subjects[-1]]
    assert "found version 9 of iris, as its server says in model_info" in world.reason(1)
    check, rows = check_of(result, "served_model")
    assert not check.passed
    assert rows[0]["server says"] == "version 9 of iris"


def test_a_value_that_a_webhook_put_into_the_pods_takes_the_version_back(
    world: World, instance: dg.DagsterInstance
) -> None:
    """Neither image nor manifest has it, and the server says nothing; the pods' spec does."""
    world.register()
    reconcile = world.reconcile
    spec = ContainerSpec("model-server", {"MODEL_URI": "models:/iris/9"})

    def inject() -> None:
        reconcile()
        status = world.cluster.status
        assert status is not None
        world.cluster.status = replace(status, pods=tuple(replace(pod, specs=(spec,)) for pod in status.pods))

    world.argocd.on_refresh = lambda _: inject()
    assert not run_stages(world, 1, instance).success
    assert world.state(1) is State.ROLLED_BACK
    assert "MODEL_URI='models:/iris/9' in place of the image's" in world.reason(1)


def test_what_nobody_states_is_shown_and_does_not_fail(world: World, instance: dg.DagsterInstance) -> None:
    """A server without the metric and an image without the variable are promoted as before."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1")
    result = run_stages(world, 1, instance)
    assert result.success
    check, rows = check_of(result, "served_model")
    assert (check.description or "").startswith("0 of 2 new pods say that they serve this version")
    assert {(row["server says"], row["pod's spec says"]) for row in rows} == {("not stated", "not stated")}
