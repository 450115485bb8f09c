"""Promotions whose image stands in the values of a Helm chart, in one field of the version or in two."""

import pytest

from orchestration.promotion.state import State
from tests.fakes.runs import run_stages
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, REPOSITORY, World


def world_of(yaml_path: str, values: str) -> World:
    """A world whose policy edits these values; `{digest}` in them is that of the image before."""
    world = World()
    target = "manifest: {path: apps/iris.yaml,"
    world.policies[POLICY_NAME] = POLICY_TEXT.replace(target, f"{target} yaml_path: {yaml_path},")
    content = values.format(digest=world.images.tags[REPOSITORY, "before"]).encode()
    world.git.commit("Keep the image in values", {"apps/iris.yaml": content})
    world.reconcile()
    return world


@pytest.mark.parametrize(
    ("yaml_path", "values"),
    [
        ("imageTag", "imageTag: before # by hand\nreplicas: 2\n"),
        ("image.tag", "image:\n  repository: ghcr.io/acme/iris\n  tag: before\n  digest: {digest}\n"),
        ("image.digest", 'image:\n  repository: ghcr.io/acme/iris\n  tag: ""\n  digest: {digest}\n'),
    ],
)
def test_a_version_in_values_is_promoted_and_taken_back_exactly(yaml_path: str, values: str) -> None:
    """The version becomes champion by one commit; a bad one is taken back, to the very bytes before."""
    world = world_of(yaml_path, values)
    before = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.register()
    world.bad_images = {world.image(1), f"{REPOSITORY}@{world.image(1).rpartition('@')[2]}"}
    run_stages(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    assert world.git.commits[world.git.head].files["apps/iris.yaml"] == before
    world.register()
    assert run_stages(world, 2).success
    assert (world.state(2), world.champion) == (State.CHAMPION, 2)
    assert world.image(2).rpartition("@")[2].encode() in world.git.commits[world.git.head].files["apps/iris.yaml"]
