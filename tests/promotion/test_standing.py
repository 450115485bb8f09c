"""Where a version stands, told from the branch, the manifest and the tags."""

import pytest

from orchestration.promotion.identity import PromotionId
from orchestration.promotion.ports import BranchCommit
from orchestration.promotion.registered import ModelVersion, State, tag_key
from orchestration.promotion.standing import (
    Ended,
    MayCommit,
    OnBranch,
    Overtaken,
    Reverted,
    TakenBack,
    promotions,
    standing,
)

POLICY = "iris-classifier-edge"
REPOSITORY = "ghcr.io/acme/iris"


def version(number: int, **tags: str) -> ModelVersion:
    keyed = {tag_key(POLICY, name): value for name, value in tags.items()}
    return ModelVersion("iris-classifier", number, "run", None, keyed)


def stand(number: int, history: list[BranchCommit], head_image: str, **tags: str) -> object:
    """`history` is oldest first, as a story is told."""
    return standing(version(number, **tags), POLICY, promotions(history[::-1], POLICY), head_image)


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


def test_foreign_trailers_are_ignored() -> None:
    """A trailer that is no promotion id, or another policy's, makes no promotion of ours."""
    forged = BranchCommit("c", "p", "s", 0.0, {"Promotion-Id": "iris-classifier-edge/1/../x/1"})
    other = BranchCommit("d", "p", "s", 0.0, {"Promotion-Id": "wine/1/000000000001/1"})
    assert promotions([forged, other], POLICY) == ()
