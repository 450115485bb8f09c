"""Asking for a promotion, and recording requests, by command, on a platform of fakes."""

import json
from collections.abc import Mapping

import dagster as dg
import pytest

from orchestration.commands.recording import record_answers, recorded_bodies
from orchestration.commands.requesting import request_promotion, retry_promotion
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.state import State
from tests.fakes.cluster import FakeService
from tests.fakes.world import POLICY_NAME, World, run_stages


def ask(world: World, number: int) -> None:
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), number)


def retry(world: World, number: int) -> int:
    policy = world.policy(POLICY_NAME)
    return retry_promotion(world.registry, world.git, world.clock, policy, number, "we know why")


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


@pytest.mark.parametrize("state", ["champion", "rejected", "requested", "committed"])
def test_retry_refuses_what_has_not_ended(world: World, state: str) -> None:
    """A promotion that continues by itself, or a champion, needs no retry; the error says what to do instead."""
    version = world.register()
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.state": state})
    with pytest.raises(InvalidInputError, match=state):
        retry(world, 1)


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
