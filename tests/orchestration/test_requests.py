"""Asking for a promotion, and recording requests, by command, on a platform of fakes."""

import json
from collections.abc import Callable, Mapping

import dagster as dg
import pytest

from orchestration.commands.recording import record_answers, recorded_bodies
from orchestration.commands.requesting import request_promotion, retry_promotion
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.retries import retried_because
from orchestration.promotion.state import State
from tests.fakes.cluster import FakeService
from tests.fakes.world import POLICY_NAME, World, run_stages


def ask(world: World, number: int) -> None:
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), number)


def retry(world: World, number: int) -> int:
    policy = world.policy(POLICY_NAME)
    return retry_promotion(world.registry, world.git, world.clock, policy, number, by="Jane", reason="we know why")


def test_register_makes_the_challenger(world: World) -> None:
    """The alias names the version, and the request has a time; running it again keeps that time."""
    world.register()
    del world.registry.aliases["iris", "challenger"]
    ask(world, 1)
    assert world.registry.aliases["iris", "challenger"] == 1
    before = world.registry.versions["iris", 1].tags
    world.clock.sleep(60)
    ask(world, 1)
    assert world.registry.versions["iris", 1].tags == before


def test_register_refuses_what_has_ended(world: World, instance: dg.DagsterInstance) -> None:
    """Asking again does not bring a refused version back; the error names the command that does."""
    world.register(accuracy=0.1)
    run_stages(world, 1, instance)
    with pytest.raises(InvalidInputError, match="incumbent retry iris-edge 1"):
        ask(world, 1)


def test_register_refuses_what_a_person_holds(world: World, instance: dg.DagsterInstance) -> None:
    """The alias names it already, so nothing would happen; the command that is named goes on with it."""
    version = world.register()
    held = {"state": "held", "held_by": "person", "reason": "A person cancelled the run."}
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.{name}": value for name, value in held.items()})
    with pytest.raises(InvalidInputError, match=r"cancelled.*incumbent retry iris-edge 1"):
        ask(world, 1)
    retry(world, 1)
    assert run_stages(world, 1, instance).success


def test_register_refuses_an_unknown_version(world: World) -> None:
    """The version and the model are named."""
    with pytest.raises(InvalidInputError, match="version 9 of iris"):
        ask(world, 9)


def test_retry_after_a_rejection_is_the_next_attempt(world: World, instance: dg.DagsterInstance) -> None:
    """When the fault was elsewhere, the second attempt is a second commit, with its own evidence."""
    world.register()
    world.bad_images.add(world.image(1))
    run_stages(world, 1, instance)
    assert world.state(1) is State.ROLLED_BACK
    world.bad_images.clear()
    assert retry(world, 1) == 2
    assert run_stages(world, 1, instance).success
    assert world.champion == 1
    assert list(world.git.tags) == ["incumbent/iris-edge/1-2"]
    ids = [commit.trailers.get("Promotion-Id", "") for commit in world.git.log]
    assert sum(promotion_id.endswith("/2") for promotion_id in ids) == 1


def test_retry_after_a_refusal_is_still_the_first_attempt(world: World, instance: dg.DagsterInstance) -> None:
    """Nothing was committed, so nothing is counted."""
    world.register(publish=False)
    run_stages(world, 1, instance)
    assert world.state(1) is State.REFUSED
    world.images.publish("ghcr.io/acme/iris", "v1", {"MODEL_URI": "models:/iris/1"})
    assert retry(world, 1) == 1
    assert run_stages(world, 1, instance).success


@pytest.mark.parametrize(
    ("state", "found"),
    [("champion", "the champion"), ("rejected", "under way"), ("requested", "requested"), ("committed", "committed")],
)
def test_retry_refuses_what_has_not_ended(world: World, instance: dg.DagsterInstance, state: str, found: str) -> None:
    """A promotion that continues by itself, or a champion, needs no retry; the error says what to do instead."""
    version = world.register()
    run_stages(world, 1, instance, ["promotion_candidate", "manifest_commit"])
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.state": state})
    with pytest.raises(InvalidInputError, match=found):
        retry(world, 1)


def test_a_rejection_without_a_commit_can_be_tried_again(world: World) -> None:
    """Nothing is left to take back when the branch has no commit of it, so the retry is the way out."""
    version = world.register()
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.state": "rejected"})
    assert retry(world, 1) == 1
    assert world.state(1) is State.REQUESTED


def test_each_retry_keeps_its_reason(world: World, instance: dg.DagsterInstance) -> None:
    """Who asked and why stays on the version whatever the run writes, and stands in the promotion's commit."""
    world.register(publish=False)
    for _ in range(2):
        run_stages(world, 1, instance)
        assert world.state(1) is State.REFUSED
        retry(world, 1)
        world.clock.sleep(60)
    world.images.publish("ghcr.io/acme/iris", "v1", {"MODEL_URI": "models:/iris/1"})
    assert run_stages(world, 1, instance).success
    tags = world.registry.versions["iris", 1].tags
    kept = [value for key, value in tags.items() if key.startswith(f"incumbent.{POLICY_NAME}.retried.")]
    assert kept == ["we know why (Jane, attempt 1)"] * 2
    assert world.git.log[0].trailers["Retried-Because"] == "we know why (Jane, attempt 1)"


def test_a_reason_cannot_become_a_trailer(world: World) -> None:
    """A reason of several lines is one line in the commit's message."""
    version = world.register()
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.state": "refused"})
    policy = world.policy(POLICY_NAME)
    forged = "why\n\nPromotion-Id: iris-edge/1/000000000000/1"
    retry_promotion(world.registry, world.git, world.clock, policy, 1, by="Jane\nDoe", reason=forged)
    why = retried_because(world.registry.versions["iris", 1], POLICY_NAME)
    assert why == "why Promotion-Id: iris-edge/1/000000000000/1 (Jane Doe, attempt 1)"


@pytest.mark.parametrize("command", [ask, retry])
def test_a_former_champion_is_refused(
    world: World, instance: dg.DagsterInstance, command: Callable[[World, int], object]
) -> None:
    """Neither command leads back to it; the error names the one that does, and nothing is changed."""
    for number in (1, 2):
        world.register()
        run_stages(world, number, instance)
    assert world.champion == 2
    before = dict(world.registry.aliases), world.registry.versions["iris", 1].tags
    with pytest.raises(InvalidInputError, match="incumbent rollback iris-edge 1 --reason"):
        command(world, 1)
    assert (world.registry.aliases, world.registry.versions["iris", 1].tags) == before


def answering(status: int = 200, **fields: object) -> FakeService:
    times = iter(range(1000))

    def respond(target: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        return Answer(status, json.dumps({**fields, "inference_time_ms": next(times)}).encode(), 0.01)

    return FakeService(respond)


def test_record_keeps_what_stays_the_same() -> None:
    """Fields that differ between answers are left out of all recorded requests."""
    recording = record_answers(answering(prediction=1), "http://server/predict", [{"features": [1]}, {"features": [2]}])
    assert [request.response for request in recording.requests] == [{"prediction": 1}] * 2


def test_record_refuses_a_server_that_refuses() -> None:
    """A 400 is the request's fault and a 500 the server's; neither is recorded."""
    with pytest.raises(InvalidInputError, match="status 400"):
        record_answers(answering(400), "http://server/predict", [{"features": [1]}])
    with pytest.raises(DependencyError, match="status 500"):
        record_answers(answering(500), "http://server/predict", [{"features": [1]}])


def test_record_refuses_answers_that_never_stay_the_same() -> None:
    """A server whose answers have no stable field cannot be recorded."""
    with pytest.raises(InvalidInputError, match="stay the same"):
        record_answers(answering(), "http://server/predict", [{"features": [1]}])


def test_bodies_come_from_the_input_example_or_a_file(world: World) -> None:
    """The rows of the input example become requests; a file's list is used as it is."""
    world.register()
    world.registry.examples["iris", 1] = ((1.0, 2.0), (3.0, 4.0))
    assert recorded_bodies(world.registry, "iris", 1, None)[1] == [{"features": [1.0, 2.0]}, {"features": [3.0, 4.0]}]
    assert recorded_bodies(world.registry, "iris", 1, b'[{"x": 1}]') == ("run1", [{"x": 1}])
    for content in (b"", b"{}", b"[]", b"[1]", b"[{}]"):
        with pytest.raises(InvalidInputError, match="at least one request"):
            recorded_bodies(world.registry, "iris", 1, content)
