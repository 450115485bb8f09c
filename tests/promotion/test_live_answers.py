"""What the answers of the version that serves now say about how it is asked."""

import pytest

from orchestration.promotion.evaluation import AnswerFault, RecordedRound
from orchestration.promotion.live_answers import difference_before, few_of, look_at_answers
from orchestration.promotion.looks import Bearing, Look
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import RecordedAnswer, RecordedRequest, Recording
from tests.fakes.world import POLICY_TEXT

POLICY = parse_policy("iris-edge", POLICY_TEXT)
POD, SERVICE = "pod iris-1, recorded request 1 of 2", "http://edge:30808/predict, recorded request 1 of 2"


def wrong(asked: str, status: int) -> RecordedRound:
    """A round whose first answer has another status than the recorded one."""
    return RecordedRound(4, 4, wrong=(AnswerFault(asked, f"expected status 200, found {status}: x", status),))


def silent(asked: str, reason: str) -> RecordedRound:
    """A round that ended at the first request, without an answer."""
    return RecordedRound(4, 1, unanswered=(AnswerFault(asked, reason),))


@pytest.mark.parametrize(
    ("recorded", "bearing"),
    [
        (RecordedRound(4, 4), Bearing.FITS),
        *((wrong(POD, status), Bearing.REFUSED) for status in (401, 403, 404, 405, 406, 415, 421)),
        (wrong(SERVICE, 404), Bearing.REFUSED),
        *((wrong(POD, status), Bearing.WAITS) for status in (408, 429, 500, 502, 503, 504)),
        *((wrong(POD, status), Bearing.NOTED) for status in (200, 201, 400, 422)),
        (silent(POD, "the API server answered 503 itself: dial tcp 10.42.0.9:81: Connection refused"), Bearing.REFUSED),
        (silent(POD, "the API server answered 504 itself: context deadline exceeded"), Bearing.WAITS),
        (silent(SERVICE, "no answer: ConnectError: [Errno 111] Connection refused"), Bearing.WAITS),
        (RecordedRound(4, 2), Bearing.WAITS),
    ],
)
def test_each_answer_tells_whose_fault_it_is(recorded: RecordedRound, bearing: Bearing) -> None:
    """A wrong path or port is refused, silence is waited for, and another answer stands in nobody's way."""
    found = look_at_answers(POLICY, 3, recorded, [])
    assert found.bearing is bearing
    if bearing is Bearing.REFUSED:
        assert found.problem is not None
        assert "service (url, path, port, headers, protocol) in iris-edge.yaml" in found.problem.next_step


def test_a_silent_dependency_is_named() -> None:
    """What kept the pods from being asked is the problem, rather than that they were not."""
    problem = Problem("the cluster", "an answer", "a 403", "Grant the right.")
    assert look_at_answers(POLICY, 3, RecordedRound(4, 2), [problem]).problem is problem


def test_a_long_recording_is_asked_in_part() -> None:
    """What is looked for shows in a few requests, however many there are."""
    request = RecordedRequest(request={"features": [1]}, response=RecordedAnswer(body={"prediction": 1}))
    assert len(few_of(Recording(requests=(request,) * 40)).requests) == 3
    assert len(few_of(Recording(requests=(request,))).requests) == 1


def found_before(recorded: RecordedRound, *, is_well: bool = False) -> Bearing | str:
    found = difference_before(POLICY, 4, recorded, [], is_well=is_well)
    return found.bearing if isinstance(found, Look) else found


@pytest.mark.parametrize("is_well", [False, True])
@pytest.mark.parametrize(
    ("recorded", "bearing"),
    [
        *((wrong(POD, status), Bearing.WAITS) for status in (408, 429, 500, 503)),
        (wrong(SERVICE, 503), ""),
        (wrong(SERVICE, 200), ""),
        (wrong(POD, 404), Bearing.REFUSED),
        (silent(POD, "no answer: timed out"), Bearing.WAITS),
        (RecordedRound(4, 4), ""),
    ],
)
def test_what_is_no_other_answer_of_a_pod_tells_nothing_apart(
    recorded: RecordedRound, bearing: Bearing | str, is_well: bool
) -> None:
    """What fails may answer as the version does a moment later, and the service may lead to something else."""
    assert found_before(recorded, is_well=is_well) == bearing


def test_a_refused_request_tells_apart_what_is_well_otherwise() -> None:
    """MLflow's server answers 400 to an exception, too: only for a model that works it says that its inputs differ."""
    assert "found 400" in str(found_before(wrong(POD, 400), is_well=True))
    assert found_before(wrong(POD, 400)) is Bearing.REFUSED
    assert "found 200" in str(found_before(wrong(POD, 200)))
