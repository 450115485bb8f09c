"""Where a version stands, told from the branch, the manifest and the tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.branch_standing import (
    Ended,
    MayCommit,
    OnBranch,
    Overtaken,
    Reverted,
    TakenBack,
    committed_promotions,
    live_attempt,
    standing_on_branch,
)
from orchestration.promotion.identity import PromotionId
from orchestration.promotion.model_version import ModelVersion, tag_key
from orchestration.promotion.ports import BranchCommit
from orchestration.promotion.state import State

POLICY = "iris-classifier-edge"
REPOSITORY = "ghcr.io/acme/iris"


def version(number: int, **tags: str) -> ModelVersion:
    keyed = {tag_key(POLICY, name): value for name, value in tags.items()}
    return ModelVersion("iris-classifier", number, "run", None, keyed)


def stand(number: int, history: list[BranchCommit], head_image: str, **tags: str) -> object:
    """`history` is oldest first, as a story is told."""
    return standing_on_branch(version(number, **tags), POLICY, committed_promotions(history[::-1], POLICY), head_image)


def image_of(number: int) -> str:
    return f"{REPOSITORY}:v{number}@sha256:{number:012x}{'0' * 52}"


def promotion_of(number: int, attempt: int = 1) -> BranchCommit:
    trailers = {"Promotion-Id": str(PromotionId(POLICY, number, f"{number:012x}", attempt))}
    return BranchCommit(f"promote-{number}-{attempt}", "parent", "Promote", 0.0, trailers)


def rollback_of(number: int, attempt: int = 1) -> BranchCommit:
    trailers = {"Rollback-Of": str(PromotionId(POLICY, number, f"{number:012x}", attempt)), "Verdict": "Failed"}
    return BranchCommit(f"rollback-{number}-{attempt}", "parent", "Roll back", 0.0, trailers)


CASES = [
    ("a version that nobody committed may be committed", 1, [], "old:1", {}, MayCommit(1)),
    ("another version's promotion is no obstacle here", 2, [promotion_of(1)], image_of(1), {}, MayCommit(1)),
    ("a refused version has ended", 1, [], "old:1", {"state": "refused"}, Ended(State.REFUSED)),
    ("a former champion has ended", 1, [], "old:1", {"state": "former_champion"}, Ended(State.FORMER_CHAMPION)),
    ("a superseded version that is requested again may go on", 1, [], "old:1", {"state": "requested"}, MayCommit(1)),
    (
        "a version that was taken back stays so, whatever tags were lost",
        1,
        [promotion_of(1), rollback_of(1)],
        "old:1",
        {},
        TakenBack,
    ),
    (
        "a retry asks for the next attempt, and gets it",
        1,
        [promotion_of(1), rollback_of(1)],
        "old:1",
        {"state": "requested", "attempt": "2"},
        MayCommit(2),
    ),
    (
        "a poisoned attempt tag asks for nothing",
        1,
        [promotion_of(1), rollback_of(1)],
        "old:1",
        {"attempt": "9" * 40},
        TakenBack,
    ),
    ("a committed version whose image is at HEAD goes on", 1, [promotion_of(1)], image_of(1), {}, OnBranch),
    ("somebody else's image at HEAD is a revert", 1, [promotion_of(1)], "old:1", {}, Reverted),
    ("an older version is overtaken", 1, [promotion_of(1), promotion_of(2)], image_of(2), {}, Overtaken),
    (
        "a champion serves again when its successor was taken back",
        1,
        [promotion_of(1), promotion_of(2), rollback_of(2)],
        image_of(1),
        {},
        OnBranch,
    ),
    (
        "a second attempt stands for itself",
        1,
        [promotion_of(1), rollback_of(1), promotion_of(1, 2)],
        image_of(1),
        {"attempt": "2"},
        OnBranch,
    ),
]


@pytest.mark.parametrize(
    ("number", "history", "head_image", "tags", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_standing(
    number: int, history: list[BranchCommit], head_image: str, tags: dict[str, str], expected: object
) -> None:
    """Each case's own name says what it shows."""
    found = stand(number, history, head_image, **tags)
    assert isinstance(found, expected) if isinstance(expected, type) else found == expected


@pytest.mark.parametrize(
    ("history", "tags", "under_way"),
    [
        ([promotion_of(1)], {}, True),
        ([promotion_of(1)], {"attempt": "2"}, False),
        ([promotion_of(1), rollback_of(1)], {}, False),
        ([promotion_of(1), promotion_of(2)], {}, False),
        ([promotion_of(1), promotion_of(2), rollback_of(2)], {}, True),
        ([], {}, False),
    ],
    ids=["committed", "retried", "taken back", "overtaken", "its successor taken back", "never committed"],
)
def test_the_live_attempt_of_a_version(history: list[BranchCommit], tags: dict[str, str], *, under_way: bool) -> None:
    """It is told without the manifest, so also when that cannot be read."""
    found = live_attempt(version(1, **tags), POLICY, committed_promotions(history[::-1], POLICY))
    assert (found is not None) is under_way


def test_foreign_trailers_are_ignored() -> None:
    """A trailer that is no promotion id, or another policy's, makes no promotion of ours."""
    forged = BranchCommit("c", "p", "s", 0.0, {"Promotion-Id": "iris-classifier-edge/1/../x/1"})
    other = BranchCommit("d", "p", "s", 0.0, {"Promotion-Id": "wine/1/000000000001/1"})
    assert committed_promotions([forged, other], POLICY) == ()


EVENTS = st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12)
"""What happened on the branch: a version was promoted, and (True) taken back before the next event."""


def told(events: list[tuple[int, bool]]) -> tuple[list[BranchCommit], str]:
    """The commits that those events make, oldest first, and the image that HEAD has afterwards."""
    history, image, attempts = [], "old:1", {1: 0, 2: 0, 3: 0}
    for number, failed in events:
        attempts[number] += 1
        history.append(promotion_of(number, attempts[number]))
        if failed:
            history.append(rollback_of(number, attempts[number]))
        else:
            image = image_of(number)
    return history, image


@given(EVENTS, st.integers(1, 3), st.integers(0, 20))
def test_no_history_commits_an_attempt_twice(events: list[tuple[int, bool]], number: int, asked: int) -> None:
    """A commit may only be made as the attempt after all that there were, and a taken back version only when asked."""
    history, image = told(events)
    found = stand(number, history, image, attempt=str(asked))
    attempts = [failed for version, failed in events if version == number]
    if isinstance(found, MayCommit):
        assert found.attempt == len(attempts) + 1
        assert not attempts or asked > len(attempts)
    elif asked <= len(attempts):
        assert isinstance(found, TakenBack) == attempts[-1]


@given(EVENTS)
def test_exactly_the_live_version_is_on_the_branch(events: list[tuple[int, bool]]) -> None:
    """Of all versions at most one goes on from where the branch stands: the one whose image HEAD has."""
    history, image = told(events)
    standings = {number: stand(number, history, image) for number in (1, 2, 3)}
    going_on = [number for number, found in standings.items() if isinstance(found, OnBranch)]
    live = [number for number in (1, 2, 3) if image == image_of(number)]
    assert set(going_on) <= set(live)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "\u00b2", "\u0663", "9" * 6, "9" * 5000])
def test_what_is_no_small_number_asks_for_no_attempt(text: str) -> None:
    """Whoever may write tags can neither break a run with one, nor ask for an attempt beyond all others."""
    version = ModelVersion("iris", 7, "run", None, {"incumbent.iris-edge.attempt": text})
    assert version.attempt("iris-edge") == 1
