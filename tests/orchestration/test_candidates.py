"""What keeps a version from becoming a candidate, and what its run says while it waits to become one."""

from orchestration.promotion.model_version import Signature, TensorInput
from orchestration.promotion.recorded_requests import RECORDING_PATH, dump_recording
from orchestration.promotion.state import State
from tests.fakes.runs import promote, run_until
from tests.fakes.world import POLICY_NAME, RECORDING, REPOSITORY, World


def test_an_image_for_other_nodes_is_refused(world: World) -> None:
    """An image without a platform of the cluster's nodes would be committed and never run."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1"}, ("arm64",))
    assert promote(world, 1, "run")
    assert (world.state(1), world.subjects) == (State.REFUSED, [])
    assert "expected a platform of cluster edge's nodes (amd64), found arm64" in world.reason(1)


def test_a_candidate_that_does_not_take_the_champions_requests_is_refused(world: World) -> None:
    """Clients ask as they ask the champion, so its recorded requests must fit the candidate's signature as well."""
    world.register()
    assert promote(world, 1, "first")
    wider = world.register(0.95)
    two_inputs = tuple(
        recorded.model_copy(update={"request": {"features": [n, n]}}) for n, recorded in enumerate(RECORDING.requests)
    )
    recording = RECORDING.model_copy(update={"requests": two_inputs})
    world.registry.artifacts["run2", RECORDING_PATH] = dump_recording(recording)
    world.registry.signatures["iris", wider.version] = Signature((TensorInput(None, "float64", (-1, 2)),))
    run_until(world, 2, "promotion_candidate", run="second")
    assert (world.state(2), world.champion) == (State.REFUSED, 1)
    assert "candidate's signature" in world.reason(2)


def test_a_run_that_waits_for_an_image_keeps_giving_signs_of_life(world: World) -> None:
    """By them the sensor knows that the run is alive, although it holds no lease."""
    world.policies = {name: text.replace("deadline: 30s", "deadline: 90s") for name, text in world.policies.items()}
    world.register(publish=False)
    seen: list[str | None] = []
    for seconds in (1, 61):
        world.clock.after(seconds, lambda: seen.append(world.registry.versions["iris", 1].tag(POLICY_NAME, "seen_at")))
    assert promote(world, 1, "run")
    assert len(set(seen)) == 2


def test_a_look_at_a_version_that_has_ended_keeps_its_reason(world: World) -> None:
    """Its run says how it ended; what the version says of itself is not written anew."""
    world.register()
    world.bad_images.add(world.image(1))
    assert promote(world, 1, "first")
    reason = world.reason(1)
    assert world.state(1) is State.ROLLED_BACK
    assert promote(world, 1, "again")
    assert (world.state(1), world.reason(1)) == (State.ROLLED_BACK, reason)
