"""Another model serves than the one that is promoted: seen in the manifest before the commit, afterwards in pods."""

from dataclasses import replace

import pytest

from orchestration.promotion.model_version import unread_version
from orchestration.promotion.originals import with_originals
from orchestration.promotion.ports import QueryResult, Sample
from orchestration.promotion.state import State
from tests.fakes.runs import run_stages
from tests.fakes.world import REPOSITORY, World, make_pods_serve_another


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


@pytest.mark.parametrize("uri", ["models:/iris/9", "models:/wine/1", "models:/iris@production"])
def test_a_manifest_that_names_another_model_is_refused_before_the_commit(world: World, uri: str) -> None:
    """An image that states nothing, and a manifest that states another version, would make the wrong one champion."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1")
    set_in_manifest(world, "- name: MODEL_URI", f"  value: {uri}")
    assert not run_stages(world, 1).success
    assert (world.state(1), world.champion) == (State.REFUSED, None)
    assert world.subjects == ["Set the model by hand"]
    assert "apps/iris.yaml, line 12, at" in world.reason(1)
    assert "incumbent retry iris-edge 1" in world.reason(1)


def test_the_manifests_value_takes_precedence_over_the_images(world: World) -> None:
    """A manifest that names this version is right even with an image that names another, and that is shown."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/9"})
    set_in_manifest(world, "- {name: MODEL_URI, value: 'models:/iris/1'}")
    result = run_stages(world, 1)
    assert result.success
    (row,) = result.check("image_published").rows
    assert (row["serves"], row["stated by"]) == ("models:/iris/1", "the Kubernetes manifest")


def test_a_value_that_comes_from_elsewhere_is_judged_in_the_pods(world: World) -> None:
    """A manifest with `valueFrom` passes before the commit; the server's own word then takes the version back."""
    world.register()
    set_in_manifest(world, "- name: MODEL_URI", "  valueFrom: {configMapKeyRef: {name: m, key: uri}}")
    serve_another(world, model="iris", version="9")
    result = run_stages(world, 1)
    assert not result.success
    assert (world.state(1), world.champion) == (State.ROLLED_BACK, None)
    assert world.subjects[1:] == ["Promote iris-edge to version 1", world.subjects[-1]]
    assert "found version 9 of iris, as its server says in model_info" in world.reason(1)
    check = result.check("served_model")
    assert not check.passed
    assert check.rows[0]["server says"] == "version 9 of iris"


def test_a_value_that_a_webhook_put_into_the_pods_takes_the_version_back(world: World) -> None:
    """Neither image nor manifest has it, and the server says nothing; the pods' spec does."""
    world.register()

    def inject() -> None:
        world.reconcile()
        make_pods_serve_another(world)

    world.argocd.on_refresh = lambda _: inject()
    assert not run_stages(world, 1).success
    assert world.state(1) is State.ROLLED_BACK
    assert "MODEL_URI='models:/iris/9' in place of the image's" in world.reason(1)


def test_what_nobody_states_is_shown_and_does_not_fail(world: World) -> None:
    """A server without the metric and an image without the variable are promoted as before."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1")
    result = run_stages(world, 1)
    assert result.success
    check = result.check("served_model")
    assert check.summary.startswith("0 of 2 new pods say that they serve this version")
    assert {(row["server says"], row["pod's spec says"]) for row in check.rows} == {("not stated", "not stated")}


def test_an_image_of_the_version_that_was_copied_is_promoted(world: World) -> None:
    """Versions that go from stage to stage by `copy_model_version` keep their image; the chain is followed."""
    world.register(publish=False)
    world.registry.add_version("dev.iris", "run1", model_id="m-0a1b", source="models:/m-0a1b")
    world.registry.add_version("staging.iris", "run1", source="models:/dev.iris/1")
    copy = replace(world.registry.versions["iris", 1], source="models:/staging.iris/1")
    world.registry.versions["iris", 1] = copy
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/m-0a1b"})
    serve_another(world, model="dev.iris", version="1")
    result = run_stages(world, 1)
    assert result.success
    assert result.check("served_model").summary.startswith("2 of 2 new pods say that they serve this version")


def test_a_copy_is_followed_no_further_than_needed(world: World) -> None:
    """A circle ends after a few steps, and an original that cannot be read is known by its name."""
    one = world.registry.add_version("one", source="models:/two/1")
    world.registry.add_version("two", source="models:/one/1")
    assert len(with_originals(world.registry, one).originals) == 5
    (gone,) = with_originals(world.registry, replace(one, source="models:/nowhere/4")).originals
    assert (gone.model, gone.version) == ("nowhere", 4)
    world.registry.down = True
    assert with_originals(world.registry, one).originals == (unread_version("two", 1),)


def test_a_path_in_the_image_is_shown_as_not_stated(world: World) -> None:
    """An image with its model inside says no version, and fails nothing."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "/opt/ml/model"})
    result = run_stages(world, 1)
    assert result.success
    (row,) = result.check("image_published").rows
    assert row["serves"] == "not stated (MODEL_URI=/opt/ml/model names no version)"
