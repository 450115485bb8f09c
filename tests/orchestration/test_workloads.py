"""Promotions of workloads that are not Deployments, or do not roll out by themselves."""

from dataclasses import replace

import pytest

from orchestration.promotion.cluster_status import GivenUp
from orchestration.promotion.state import State
from orchestration.promotion.workload_kinds import JUDGED
from tests.fakes.runs import run_stages
from tests.fakes.world import MANIFEST, POLICY_NAME, POLICY_TEXT, REPOSITORY, World

BEFORE = f"{REPOSITORY}:before"


def world_of(kind: str, **on_new_image: object) -> World:
    """A world whose workload is of that kind; `on_new_image` is what it says of any image but the one before."""
    world = World()
    world.policies[POLICY_NAME] = POLICY_TEXT.replace("manifest: {", f"manifest: {{kind: {kind}, ")
    manifest = MANIFEST.replace("Deployment", kind)
    if kind == "InferenceService":
        manifest = manifest.replace("template:\n    spec:\n      containers", "predictor:\n    containers")
        manifest = manifest.replace("        - name", "      - name").replace("          image", "        image")
    world.git.commit("Bring the workload", {"apps/iris.yaml": manifest.format(image=BEFORE).encode()})

    def reconcile() -> None:
        World.reconcile(world)
        assert world.cluster.status is not None
        changes = {} if world.live_image == BEFORE else on_new_image
        world.cluster.status = replace(world.cluster.status, kind=kind, **changes)  # type: ignore[arg-type]

    world.argocd.on_refresh = lambda _: reconcile()
    reconcile()
    return world


@pytest.mark.parametrize("kind", JUDGED)
def test_a_version_becomes_champion_on_each_kind(kind: str) -> None:
    """The manifest's kind decides where the image is edited and which workload is judged, and nothing else."""
    world = world_of(kind)
    world.register()
    assert run_stages(world, 1).success
    assert (world.state(1), world.champion) == (State.CHAMPION, 1)
    assert world.live_image == world.image(1)


def test_a_workload_that_never_rolls_out_by_itself_is_refused_before_the_commit() -> None:
    """A StatefulSet with OnDelete would keep its old pods until the deadline of each promotion."""
    world = world_of("StatefulSet")
    world.register()
    assert world.cluster.status is not None
    world.cluster.status = replace(world.cluster.status, never_rolls_out="updateStrategy: OnDelete")
    assert not run_stages(world, 1).success
    assert world.state(1) is State.REFUSED
    assert "found updateStrategy: OnDelete" in world.reason(1)
    assert world.subjects == ["Bring the workload"]


def test_an_aborted_rollout_is_taken_back() -> None:
    """Argo Rollouts' own analysis decided against the version, so Git follows it, and the version is rejected."""
    reason = 'the Rollout was aborted: Metric "p95" assessed Failed'
    world = world_of("Rollout", given_up=GivenUp(True, reason))
    world.register()
    run_stages(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    assert reason in world.reason(1)
    assert world.live_image == BEFORE


def test_a_paused_rollout_is_held_at_the_deadline_and_says_who_goes_on() -> None:
    """A pause without an end is a person's decision, which says nothing about the model."""
    world = world_of("Rollout", unfinished="the Rollout is paused (CanaryPauseStep)")
    world.register()
    run_stages(world, 1)
    assert world.state(1) is State.HELD
    assert "the Rollout is paused (CanaryPauseStep)" in world.reason(1)
    assert "kubectl argo rollouts promote" in world.reason(1)
    assert world.live_image == world.image(1)
