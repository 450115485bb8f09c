"""Asking for a promotion, and recording requests, by command, on a platform of fakes."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, cycle
from typing import Any

import pytest

from orchestration.commands.recording import (
    Asking,
    Comparing,
    choose_asking,
    record_answers,
    record_version,
    recorded_bodies,
)
from orchestration.commands.requesting import request_promotion, retry_promotion
from orchestration.commands.serving import return_to_champion
from orchestration.promotion.answer_comparison import Tolerance
from orchestration.promotion.decided import Decided
from orchestration.promotion.ports import Answer, Headers
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.recorded_requests import (
    RECORDING_PATH,
    Recording,
    compare,
    dump_recording,
    parse_recording,
)
from orchestration.promotion.retries import retried_because
from orchestration.promotion.state import State
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeService
from tests.fakes.runs import promote, run_stages
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, World, WorldPlatform

SERVICE = "service: {url: http://edge:30808, protocol: features}"


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


def test_register_leaves_the_champion_what_it_is(world: World) -> None:
    """There is nothing to promote, so another challenger keeps its alias."""
    world.register()
    assert run_stages(world, 1).success
    world.register()
    ask(world, 2)
    assert request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), 1) is False
    assert world.registry.aliases["iris", "challenger"] == 2
    assert world.state(1) is State.CHAMPION


def test_register_refuses_what_has_ended(world: World) -> None:
    """Asking again does not bring a refused version back; the error names the command that does."""
    world.register(accuracy=0.1)
    run_stages(world, 1)
    with pytest.raises(InvalidInputError, match="incumbent retry iris-edge 1"):
        ask(world, 1)


def test_register_says_who_went_back_from_a_version_and_why(world: World) -> None:
    """The error is one sentence, with no bracket within another, and the next step after it."""
    for number in (1, 2):
        world.register()
        assert promote(world, number, f"run {number}")
    why = Decided("ana@team", "complaints since noon")
    return_to_champion(WorldPlatform(world), POLICY_NAME, 1, why, "rollback by ana", world.said.append)
    with pytest.raises(InvalidInputError) as refused:
        ask(world, 2)
    assert str(refused.value) == (
        "version 2 of iris: expected a version whose promotion goes on, found rolled back to version 1 by ana@team "
        "(complaints since noon). To try the version again: incumbent retry iris-edge 2 --reason '...'."
    )


def test_register_refuses_what_a_person_holds(world: World) -> None:
    """The alias names it already, so nothing would happen; the command that is named goes on with it."""
    version = world.register()
    held = {"state": "held", "held_by": "person", "reason": "A person cancelled the run."}
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.{name}": value for name, value in held.items()})
    with pytest.raises(InvalidInputError, match=r"cancelled.*incumbent retry iris-edge 1"):
        ask(world, 1)
    retry(world, 1)
    assert run_stages(world, 1).success


def test_register_refuses_an_unknown_version(world: World) -> None:
    """The version and the model are named."""
    with pytest.raises(InvalidInputError, match="version 9 of iris"):
        ask(world, 9)


def test_retry_after_a_rejection_is_the_next_attempt(world: World) -> None:
    """When the fault was elsewhere, the second attempt is a second commit, with its own evidence."""
    world.register()
    world.bad_images.add(world.image(1))
    run_stages(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    world.bad_images.clear()
    assert retry(world, 1) == 2
    assert run_stages(world, 1).success
    assert world.champion == 1
    assert list(world.git.tags) == ["incumbent/iris-edge/1-2"]
    ids = [commit.trailers.get("Promotion-Id", "") for commit in world.git.log]
    assert sum(promotion_id.endswith("/2") for promotion_id in ids) == 1


def test_retry_after_a_refusal_is_still_the_first_attempt(world: World) -> None:
    """Nothing was committed, so nothing is counted."""
    world.register(publish=False)
    run_stages(world, 1)
    assert world.state(1) is State.REFUSED
    world.images.publish("ghcr.io/acme/iris", "v1", {"MODEL_URI": "models:/iris/1"})
    assert retry(world, 1) == 1
    assert run_stages(world, 1).success


@pytest.mark.parametrize(
    ("state", "found"),
    [("champion", "the champion"), ("rejected", "under way"), ("requested", "requested"), ("committed", "committed")],
)
def test_retry_refuses_what_has_not_ended(world: World, state: str, found: str) -> None:
    """A promotion that continues by itself, or a champion, needs no retry; the error says what to do instead."""
    version = world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.state": state})
    with pytest.raises(InvalidInputError, match=found):
        retry(world, 1)


def test_a_rejection_without_a_commit_can_be_tried_again(world: World) -> None:
    """Nothing is left to take back when the branch has no commit of it, so the retry is the way out."""
    version = world.register()
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.state": "rejected"})
    assert retry(world, 1) == 1
    assert world.state(1) is State.REQUESTED


def test_each_retry_keeps_its_reason(world: World) -> None:
    """Who asked and why stays on the version whatever the run writes, and stands in the promotion's commit."""
    world.register(publish=False)
    for _ in range(2):
        run_stages(world, 1)
        assert world.state(1) is State.REFUSED
        retry(world, 1)
        world.clock.sleep(60)
    world.images.publish("ghcr.io/acme/iris", "v1", {"MODEL_URI": "models:/iris/1"})
    assert run_stages(world, 1).success
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
def test_a_former_champion_is_refused(world: World, command: Callable[[World, int], object]) -> None:
    """Neither command leads back to it; the error names the one that does, and nothing is changed."""
    for number in (1, 2):
        world.register()
        run_stages(world, number)
    assert world.champion == 2
    before = dict(world.registry.aliases), world.registry.versions["iris", 1].tags
    with pytest.raises(InvalidInputError, match="incumbent rollback iris-edge 1 --reason"):
        command(world, 1)
    assert (world.registry.aliases, world.registry.versions["iris", 1].tags) == before


def answering(*bodies: object, status: int = 200) -> FakeService:
    """A server that gives each of the answers in turn, again and again; a function makes one of the request."""
    given = cycle(bodies)

    def respond(target: str, path: str, body: bytes, headers: Headers) -> Answer:
        answer = next(given)
        said = answer(json.loads(body)) if callable(answer) else answer
        return Answer(status, said if isinstance(said, bytes) else json.dumps(said).encode(), 0.01)

    return FakeService(respond)


def timed(request: dict[str, list[int]]) -> object:
    """What a server with a clock answers: its prediction, and how long that took."""
    return {"prediction": request["features"][0], "meta": {"model": "m", "took_ms": next(_TIMES)}}


_TIMES = iter(range(1, 1000))
REQUESTS = [{"features": [1]}, {"features": [2]}]
ASKING = Asking("http://server/predict", "features")


def recorded(service: FakeService, requests: Sequence[object] = REQUESTS, **comparing: Any) -> Recording:
    return record_answers(service, FakeClock(), ASKING, requests, Comparing(**comparing))


def test_record_keeps_all_but_what_varies() -> None:
    """A time deep in the answer is not compared, and everything beside it is."""
    recording = recorded(answering(timed))
    assert recording.ignore == ("$.meta.took_ms",)
    assert [request.request for request in recording.requests] == REQUESTS
    right, wrong = ({"prediction": n, "meta": {"model": "m", "took_ms": 0}} for n in (1, 99))
    rules = recording.rules()
    assert compare(recording.requests[0], Answer(200, json.dumps(right).encode(), 0.1), rules) is None
    assert "prediction 1, found 99" in (
        compare(recording.requests[0], Answer(200, json.dumps(wrong).encode(), 0.1), rules) or ""
    )


def test_record_takes_a_number_that_varies_a_little_for_stable() -> None:
    """The last digits of a float may differ each time; what a person says of the tolerance is recorded."""
    jitter = ({"model": "price", "predictions": [p]} for p in (0.12345678, 0.1234568, 0.12345674))
    assert recorded(answering(*jitter), REQUESTS[:1]).ignore == ()
    wide = Tolerance(relative=0.5, absolute=0.0)
    recording = recorded(answering({"p": [1.0]}, {"p": [1.2]}), REQUESTS[:1], tolerances={"$.p": wide})
    assert (recording.ignore, recording.tolerances) == ((), {"$.p": wide})


def test_record_leaves_out_what_comes_from_a_clock() -> None:
    """The time of the answer moves by less than the tolerance, or by nothing, and would be wrong tomorrow."""
    clock = FakeClock()
    now = iter(clock.now() + step / 100 for step in range(100))

    def dated(request: dict[str, list[int]]) -> object:
        at = next(now)
        label = {"label": request["features"][0], "ts": at}
        return {"result": [label], "created": int(at), "served": 10_000_000 + at / 1000}

    recording = record_answers(answering(dated), clock, ASKING, REQUESTS, Comparing())
    assert recording.ignore == ("$.result[0].ts", "$.created", "$.served")


def test_record_leaves_out_what_it_is_told() -> None:
    """A path of a person's stays in the recording, beside what was found to vary."""
    recording = recorded(answering(timed), ignore=["$.meta.model"])
    assert recording.ignore == ("$.meta.model", "$.meta.took_ms")


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        (b'{"model":"m","predictions":[NaN,1.0]}', 1),
        ([3], 1),
        (3, 1),
        ("positive", 1),
        ([{"label": "POSITIVE", "score": 0.9998}], 1),
        (b"\x89PNG\r\n", 1),
        (b'{"y": %d}' % 10**400, 1),
        (b"a text", 1),
    ],
)
def test_record_takes_any_content(answer: object, requests: int) -> None:
    """Lists, bare values, NaN as Python writes it, text and images are answers; the recording can be read again."""
    recording = recorded(answering(answer), REQUESTS[:requests])
    assert len(recording.requests) == requests
    assert isinstance(parse_recording(dump_recording(recording)), Recording)


@pytest.mark.parametrize(
    ("answers", "requests", "found"),
    [
        ([{"status": "success", "t": 1}, {"status": "success", "t": 2}], 1, "what changes is $.t"),
        ([{"status": "success"}], 2, "nothing that looks like a prediction in $.status"),
        ([{"p": 1, "s": "ok"}, {"p": 2, "s": "ok"}, {"p": 3, "s": "ok"}], 2, "the same answer to every request"),
        ([{"p": 1}, {"p": 2}, {"p": 3}], 1, "nothing that stays the same; what changes is $.p"),
        ([{"p": [1, 2]}, {"p": [1, 3]}], 1, "some that change by more than the tolerance"),
        ([b"one", b"two"], 1, "other answers each time"),
        ([b"one", {"p": 1}], 1, "other answers each time"),
    ],
)
def test_record_refuses_what_may_not_have_the_prediction(answers: list[object], requests: int, found: str) -> None:
    """Nothing is recorded that would take a wrong prediction for right, and the error names the options that help."""
    with pytest.raises(InvalidInputError) as caught:
        recorded(answering(*answers), REQUESTS[:requests])
    assert found in caught.value.problem.found
    assert "--requests" in caught.value.problem.next_step or "--tolerance '$.p=" in caught.value.problem.next_step


def test_record_refuses_a_prediction_that_varies_beside_what_repeats_the_request() -> None:
    """What differs between the answers is the input alone, whatever the place of the prediction is called."""
    numbers = count()

    def echo(request: dict[str, Any]) -> object:
        return {"input": request["features"], "result": next(numbers) % 5}

    with pytest.raises(InvalidInputError, match="and what repeats the request; what changes is"):
        recorded(answering(echo))


def odd(beside: Callable[[float, float], object]) -> Callable[[dict[str, Any]], object]:
    """A server whose answer is made of a number that depends on the request, and one that changes each time."""
    noise = cycle([0.31, 0.77, 0.52, 0.18])
    return lambda request: beside(float(request["features"][0]), next(noise))


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, noise: {"price": 100 * x + noise, "sum": x * 3},
        lambda x, noise: {"id": str(noise), "result": f"{noise}", "usage": {"prompt_tokens": x * 3}},
        lambda x, noise: {"choices": [{"message": {"content": f"yes {noise}"}}], "usage": {"total_tokens": x * 3}},
        lambda x, noise: {"requestId": f"{noise}", "generated": f"{noise}", "promptTokens": x * 3},
        lambda x, noise: {"y": f"{x + noise / 1e9:.12f}", "rows": x * 3},
        lambda x, noise: {"body": json.dumps({"prediction": x * 3, "id": noise}), "rows": x * 3},
        lambda x, noise: {"top": [{"k": "a", "p": x * 3}, {"k": "b", "p": 1}][:: 1 if noise > 0.5 else -1], "n": x * 3},
        lambda x, noise: {"r": {f"k{noise}": x * 3}, "n": x * 3},
        lambda x, noise: {"n": x * 3, **({"setosa": 1} if noise > 0.5 else {"virginica": 1})},
        lambda x, noise: {"asked": f"features {x}", "y": noise},
        lambda x, noise: {"predictions": [{"x": x, "y": noise}]},
        lambda x, noise: {"eta": "1970-01-13", "zone": x * 3},
        lambda x, noise: {"error": f"no feature {x * 3}", "status": "failed"},
        lambda x, noise: {"predictions": None, "rows": x * 3},
        lambda x, noise: b"OK",
    ],
)
def test_record_never_loses_the_prediction_beside_what_also_depends_on_the_request(
    answer: Callable[[float, float], object],
) -> None:
    """Whatever it is called, what changes may be the prediction, unless one that is known as such is compared."""
    asking = Asking("http://server/invocations", "mlflow")
    requests = [{"features": [n]} for n in (1, 2, 3)]
    with pytest.raises(InvalidInputError) as caught:
        record_answers(answering(odd(answer)), FakeClock(), asking, requests, Comparing())
    assert "--requests" in caught.value.problem.next_step


@pytest.mark.parametrize(
    ("answer", "ignored"),
    [
        (lambda x, noise: {"y": x * 3, "took": noise, "pod": f"p{noise}", "requestId": f"{noise}"}, 3),
        (lambda x, noise: {"y": x * 3, "timings": {"model": noise, "queue": [noise]}}, 2),
        (lambda x, noise: {"prediction": x * 3, "confidence": noise}, 1),
        (lambda x, noise: {"y": x > 2, "id": str(noise)}, 1),
        (lambda x, noise: {"y": str(x * 3), "id": str(noise)}, 1),
        (lambda x, noise: {"arrives": f"1970-01-{12 + int(x * 7) % 3}", "id": str(noise)}, 1),
    ],
)
def test_record_leaves_out_what_surely_is_no_prediction(answer: Callable[[float, float], object], ignored: int) -> None:
    """Ids, durations and who answered need no word of a person, nor does what changes beside a known prediction."""
    recording = recorded(answering(odd(answer)), [{"features": [n]} for n in (1, 2, 3)])
    assert len(recording.ignore) == ignored
    wrong = Answer(200, json.dumps({"id": "x", "y": 99}).encode(), 0.1)
    assert all(compare(request, wrong, recording.rules()) is not None for request in recording.requests)


def test_record_refuses_a_prediction_that_varies_unless_it_is_told_that_it_is_none() -> None:
    """A score beside a label is left out by a person only."""
    scores = cycle([0.5, 0.25, 0.75])

    def scored(request: dict[str, Any]) -> object:
        return {"label": f"class {request['features'][0]}", "score": next(scores), "took_ms": next(scores)}

    with pytest.raises(InvalidInputError, match="one that changes by more than the tolerance") as caught:
        recorded(answering(scored))
    assert "--tolerance '$.score=0.001'" in caught.value.problem.next_step
    assert "--ignore '$.score'" in caught.value.problem.next_step
    assert recorded(answering(scored), ignore=["$.score"]).ignore == ("$.score", "$.took_ms")


def test_json_behind_a_byte_order_mark_is_json() -> None:
    """Some servers write one; what varies in such an answer is found, and it is right with or without the mark."""
    marked = b"\xef\xbb\xbf" + b'{"prediction": 3}'
    recording = recorded(answering(marked), REQUESTS[:1])
    assert recording.requests[0].response.body == {"prediction": 3}
    for body in (marked, b'{"prediction": 3.0}'):
        assert compare(recording.requests[0], Answer(200, body, 0.1), recording.rules()) is None


@pytest.mark.parametrize("status", [302, 400, 404])
def test_record_refuses_a_server_that_refuses(status: int) -> None:
    """A redirect or a 400 is the request's fault; the error names how it was asked."""
    with pytest.raises(InvalidInputError, match=f"status {status}") as caught:
        recorded(answering({"p": 1}, status=status))
    assert "--protocol" in caught.value.problem.next_step


def test_record_asks_again_later_for_a_server_that_fails() -> None:
    """A 500 or no answer is the server's fault."""
    for status in (0, 500):
        with pytest.raises(DependencyError):
            recorded(answering({"p": 1}, status=status))


@pytest.mark.parametrize("body", [b"", b"[" * 70 + b"]" * 70])
def test_record_refuses_what_a_recording_cannot_hold(body: bytes) -> None:
    """An empty answer has nothing to compare, and one that is nested too deeply could not be read again."""
    with pytest.raises(InvalidInputError):
        recorded(answering(body))


def test_record_refuses_a_page() -> None:
    """An address that leads to a form for people is not where the model answers."""
    page = FakeService(lambda *_: Answer(200, b"<html>try me</html>", 0.01, content_type="text/html"))
    with pytest.raises(InvalidInputError, match=r"found status 200: a page \(text/html\)"):
        recorded(page)


def test_a_recorded_version_says_what_is_compared(world: World) -> None:
    """The command's answer names what must be equal and what is left out; the artifact is the run's."""
    world.register()
    said = record_version(
        world.registry, answering(timed), FakeClock(), "iris", 1, ASKING, json.dumps(REQUESTS).encode(), Comparing()
    )
    assert said.splitlines() == [
        "2 recorded requests are artifact incumbent/recorded_requests.json of run run1",
        "asked as features at http://server/predict",
        "numbers must be equal within 1e-05 of its value or 1e-06",
        "not compared: $.meta.took_ms",
    ]
    parsed = parse_recording(world.registry.artifacts["run1", RECORDING_PATH])
    assert isinstance(parsed, Recording)


def test_a_recording_that_is_too_large_is_refused(world: World) -> None:
    """It could not be read again, so the version would be refused later."""
    world.register()
    record = partial(record_version, world.registry, answering(timed), FakeClock(), "iris", 1, ASKING)
    many = json.dumps([{"features": [n]} for n in range(1001)]).encode()
    with pytest.raises(InvalidInputError, match=r"1000 at most.*found 1001 of them"):
        record(many, Comparing())
    large = json.dumps([{"features": [1], "text": "x" * 10_500_000}]).encode()
    with pytest.raises(InvalidInputError, match=r"the recording: expected .*bytes, more than"):
        record(large, Comparing())


def test_bodies_come_from_the_input_example_or_a_file(world: World) -> None:
    """The rows of the input example become requests of the protocol; a file's list is used as it is."""
    version = world.register()
    world.registry.examples["iris", 1] = {"inputs": [[1.0, 2.0], [3.0, 4.0]]}
    bodies = partial(recorded_bodies, world.registry, version)
    assert bodies("features", None) == [{"features": [1.0, 2.0]}, {"features": [3.0, 4.0]}]
    assert bodies("mlflow", None) == [{"inputs": [[1.0, 2.0]]}, {"inputs": [[3.0, 4.0]]}]
    assert bodies("features", b'[{"x": 1}, [1], "a"]') == [{"x": 1}, [1], "a"]
    for content in (b"", b"{}", b"[]", b"[null]", b"[{}]", b"[" * 100_000):
        with pytest.raises(InvalidInputError, match="at least one request"):
            bodies("features", content)
    world.registry.examples["iris", 1] = {"inputs": [[float(row)] for row in range(1000)]}
    assert len(bodies("mlflow", None)) == 100
    with pytest.raises(InvalidInputError, match="at least one request of protocol json"):
        bodies("json", None)
    with pytest.raises(InvalidInputError, match="version 9 of iris"):
        record_version(world.registry, answering(timed), FakeClock(), "iris", 9, ASKING, None, Comparing())


def test_a_server_is_asked_as_the_models_policy_says(world: World) -> None:
    """Protocol, path, headers and timeout are those of its only policy; options and a path in the address go first."""
    choose = partial(choose_asking, WorldPlatform(world), "iris")
    own = "service: {url: http://edge:30808, path: /p, protocol: v2, headers: {A: b}, timeout: 3s}"
    world.policies[POLICY_NAME] = POLICY_TEXT.replace(SERVICE, own)
    world.policies["broken"] = "model: iris"
    asking = choose("http://here:1", policy_name=None, protocol=None)
    assert asking == Asking("http://here:1/p", "v2", {"A": "b"}, 3.0)
    assert choose("http://here:1/x?y", policy_name=None, protocol=None).url == "http://here:1/x?y"
    assert choose("http://here:1/", policy_name=None, protocol="mlflow").url == "http://here:1/invocations"
    world.policies["iris-gcp"] = POLICY_TEXT
    with pytest.raises(InvalidInputError, match="--policy"):
        choose("http://here:1", policy_name=None, protocol=None)
    assert choose("http://here:1", policy_name="iris-gcp", protocol=None) == Asking("http://here:1/predict", "features")
    assert choose("http://here:1", policy_name=None, protocol="v1").url == "http://here:1/v1/models/iris:predict"
    world.policies.clear()
    assert choose("http://here:1", policy_name=None, protocol=None) == Asking("http://here:1/invocations", "mlflow")
