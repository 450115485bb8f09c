"""The tag by which a person sees at a glance where a version stands."""

import pytest

from orchestration.promotion.model_version import ModelVersion, policy_tags, tag_key
from orchestration.promotion.problems import Problem
from orchestration.promotion.state import State
from orchestration.promotion.summary import SINCE_TAG, state_and_reason, summary_key, summary_tag

NOON = 1_769_860_800.0
PAGE = "https://git.test/acme/gitops/commit/" + "1a2b3c4d5e" * 4


def version(**tags: str) -> ModelVersion:
    return ModelVersion("iris", 7, "r7", None, policy_tags("edge", tags))


def text(before: ModelVersion, state: State, now: float, reason: str = "") -> str:
    written = summary_tag(before, "edge", state, now, reason=reason, commit=PAGE, run="r-1")
    assert set(written) == {summary_key("edge"), tag_key("edge", SINCE_TAG)}
    return written[summary_key("edge")]


def test_it_says_state_time_reason_commit_and_run() -> None:
    """In one line that begins with the state, with the whole address of the commit."""
    assert text(version(), State.CHAMPION, NOON) == (f"champion since 2026-01-31 12:00 UTC | commit {PAGE} | run r-1")
    assert text(version(), State.ROLLED_BACK, NOON, "success_ratio\nviolated") == (
        f"rolled back since 2026-01-31 12:00 UTC: success_ratio violated | commit {PAGE} | run r-1"
    )


def test_of_a_problem_it_says_what_was_found() -> None:
    """What was expected is in the tag `reason`; the page has room for one of the two."""
    problem = Problem("the new pods", "every SLO kept", "success_ratio violated", "Correct the model.")
    assert ": success_ratio violated. Correct the model. | commit" in text(
        version(), State.ROLLED_BACK, NOON, str(problem)
    )


@pytest.mark.parametrize("state", [State.REQUESTED, State.WAITING, State.REFUSED, State.SUPERSEDED])
def test_before_the_commit_no_commit_is_named(state: State) -> None:
    """A commit that the version still has in its tags is that of an earlier attempt."""
    assert "commit" not in text(version(), state, NOON)


def test_a_state_that_is_written_again_keeps_its_beginning() -> None:
    """A version that waits gives signs of life, and an end may be examined again; another state begins anew."""
    first = summary_tag(version(), "edge", State.WAITING, NOON)
    waiting = ModelVersion("iris", 7, "r7", None, {**first, tag_key("edge", "state"): "waiting"})
    assert text(waiting, State.WAITING, NOON + 3600).startswith("waiting since 2026-01-31 12:00 UTC")
    assert text(waiting, State.COMMITTED, NOON + 3600).startswith("committed since 2026-01-31 13:00 UTC")
    odd = ModelVersion("iris", 7, "r7", None, {tag_key("edge", SINCE_TAG): "mine", tag_key("edge", "state"): "waiting"})
    assert text(odd, State.WAITING, NOON).startswith("waiting since 2026-01-31 12:00 UTC")


def test_it_sorts_before_the_pipelines_other_tags_and_a_long_reason_is_cut() -> None:
    """MLflow shows the first tags by name, and a few lines of each."""
    assert min(summary_key("edge"), *version(attempt="1", state="champion").tags) == summary_key("edge")
    assert len(text(version(), State.REFUSED, NOON, "x" * 5000)) < 400


@pytest.mark.parametrize(
    "ways_out",
    [
        ["goes on by itself when the cause ends", "incumbent abort edge --reason '...'"],
        ["incumbent retry edge 7 --reason '...'"],
    ],
)
def test_a_long_reason_is_cut_before_its_ways_out(ways_out: list[str]) -> None:
    """What a person can do is read whole, within the same limit, and not what was found."""
    found = "the new pods answered 503 to most of the recorded requests, and 200 with another prediction to some"
    reason = f"{found}. Held: it {'; to leave that state: '.join(ways_out)}. {'Other words. ' * 5}"
    shown = text(version(), State.HELD, NOON, reason)
    assert shown.startswith("held since 2026-01-31 12:00 UTC: the new pods answered 503 to ")
    assert f"… Next: {', or '.join(ways_out)} | commit" in shown
    assert len(shown.partition(" | ")[0].partition("UTC: ")[2]) <= 140


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (State.REFUSED, None, "refused: no reason kept"),
        (State.REFUSED, "", "refused: no reason kept"),
        (
            State.ROLLED_BACK,
            "Rolled back to version 1 by ana (complaints).",
            "rolled back to version 1 by ana (complaints)",
        ),
        (
            State.REFUSED,
            "Aborted by ana (why).\nNothing was committed.",
            "refused: Aborted by ana (why). Nothing was committed",
        ),
        (State.REFUSED, str(Problem("it", "0.8", "0.1", "Train.")), "refused: 0.1. Train"),
    ],
)
def test_a_state_and_its_reason_are_one_phrase(state: State, reason: str | None, said: str) -> None:
    """It fits into a sentence: no nested brackets, no state named twice, and no full stop at the end."""
    assert state_and_reason(state, reason) == said
