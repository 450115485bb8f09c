"""Who was champion from when to when, told from the commits, the tags and the acts of a policy."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.identity import PromotionId
from orchestration.promotion.ports import BranchCommit, FileChange, TagRecord
from orchestration.promotion.reigns import Began, End, History, ImageChange, fold_history
from orchestration.promotion.timestamps import format_time

POLICY = "iris-edge"
REPOSITORY = "ghcr.io/acme/iris"
BEFORE = f"{REPOSITORY}:before"


def digest_of(number: int) -> str:
    return f"sha256:{number:012x}{'0' * 52}"


def image_of(number: int) -> str:
    return f"{REPOSITORY}:v{number}@{digest_of(number)}"


@dataclass
class Told:
    """A story as it is written into Git, one event each 100 s; the manifest starts with an image of a person."""

    now: float = 1000.0
    history: list[BranchCommit] = field(default_factory=list)
    changes: list[ImageChange] = field(default_factory=list)
    tags: list[TagRecord] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    image: str = ""
    attempts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_hand(BEFORE)

    def _wait(self) -> float:
        self.now += 100.0
        return self.now

    def by_hand(self, image: str, author: str = "ana", at: float | None = None) -> None:
        at = self._wait() if at is None else at
        self.changes.insert(0, ImageChange(FileChange(f"hand-{len(self.changes)}", author, "By hand", at), image))
        self.image = image

    def unreadable(self) -> None:
        change = FileChange(f"hand-{len(self.changes)}", "ana", "Break the file", self._wait())
        self.changes.insert(0, ImageChange(change, None))

    def commit(self, number: int, **trailers: str) -> PromotionId:
        self.attempts[number] = self.attempts.get(number, 0) + 1
        identity = PromotionId(POLICY, number, f"{number:012x}", self.attempts[number])
        known = {
            "Promotion-Id": str(identity),
            "Image-Digest": digest_of(number),
            "Requested-At": format_time(self.now),
            **{name.replace("_", "-"): value for name, value in trailers.items()},
        }
        self._own(BranchCommit(f"promote-{identity}", "parent", "Promote", self._wait(), known))
        self.before, self.image = self.image, image_of(number)
        return identity

    def _own(self, commit: BranchCommit) -> None:
        self.history.insert(0, commit)
        change = FileChange(commit.commit, "incumbent", commit.subject, commit.committed_at)
        self.changes.insert(0, ImageChange(change, None))

    def verify(self, identity: PromotionId) -> None:
        self.tags.append(TagRecord(identity.evidence_tag, f"promote-{identity}", "Passed", self._wait()))

    def take_back(self, identity: PromotionId, **trailers: str) -> None:
        known = {"Rollback-Of": str(identity), "Verdict": "Failed", "Image": self.before, **trailers}
        self._own(BranchCommit(f"rollback-{identity}", "parent", "Roll back", self._wait(), known))
        self.image = self.before

    def promote(self, number: int) -> None:
        self.verify(self.commit(number))

    def act(self, kind: ActKind, **values: object) -> None:
        self.acts.insert(0, Act(POLICY, kind, self._wait(), "bob", "he knows why", **values))  # type: ignore[arg-type]

    def fold(self) -> History:
        return fold_history(self.history, self.changes, self.tags, self.acts)


def reigns(told: Told) -> list[tuple[int | None, Began]]:
    return [(reign.version, reign.began) for reign in told.fold().reigns]


def ends(told: Told) -> list[tuple[int, End]]:
    return [(attempt.identity.version, attempt.end) for attempt in told.fold().attempts]


def test_promotions_a_rollback_and_a_return_by_hand() -> None:
    """1, 2, a rejected 3 that does not interrupt 2, back to 1 by hand, and 4: each from when to when, without a gap."""
    told = Told()
    told.promote(1)
    told.promote(2)
    told.take_back(told.commit(3))
    told.by_hand(image_of(1), "ana")
    told.promote(4)
    assert reigns(told) == [
        (None, Began.BY_HAND),
        (1, Began.PROMOTION),
        (2, Began.PROMOTION),
        (1, Began.RETURN_BY_HAND),
        (4, Began.PROMOTION),
    ]
    assert ends(told) == [(1, End.CHAMPION), (2, End.CHAMPION), (3, End.ROLLED_BACK), (4, End.CHAMPION)]
    returned = told.fold().reigns[3]
    assert (returned.by, returned.why, returned.ended_by) == ("ana", "By hand", "version 4 (promotion)")
    first, second, fourth = (tag.at for tag in told.tags)
    by_hand = next(changed.change.committed_at for changed in told.changes if changed.image == image_of(1))
    assert [reign.since for reign in told.fold().reigns[1:]] == [first, second, by_hand, fourth]


def test_an_image_that_no_promotion_committed_reigns_without_a_version() -> None:
    """Whoever put it there is named; a promotion after it ends that reign."""
    told = Told()
    told.promote(1)
    told.by_hand(f"{REPOSITORY}:hotfix", "eve")
    told.promote(2)
    hotfix = told.fold().reigns[2]
    assert (hotfix.version, hotfix.began, hotfix.by, hotfix.image) == (
        None,
        Began.BY_HAND,
        "eve",
        f"{REPOSITORY}:hotfix",
    )
    assert hotfix.described == "an image that no promotion committed"
    assert reigns(told)[-1] == (2, Began.PROMOTION)


def test_a_rejected_image_put_back_by_hand_is_no_return() -> None:
    """The version is known by its digest, but it was never verified."""
    told = Told()
    told.promote(1)
    told.take_back(told.commit(2))
    told.by_hand(image_of(2))
    assert reigns(told)[-1] == (2, Began.BY_HAND)


def test_a_person_who_puts_the_champion_back_ends_the_attempt_alone() -> None:
    """The attempt was replaced, by whom is known before the pipeline says so; the champion's reign goes on."""
    told = Told()
    told.promote(1)
    identity = told.commit(2)
    told.by_hand(image_of(1), "ana")
    assert reigns(told) == [(None, Began.BY_HAND), (1, Began.PROMOTION)]
    attempt = told.fold().attempts[-1]
    assert (attempt.end, attempt.ended_by, attempt.verdict) == (End.REPLACED, "ana", "")
    told.act(ActKind.ENDED, version=2, promotion=identity, verdict="Failed")
    attempt = told.fold().attempts[-1]
    assert (attempt.end, attempt.ended_by, attempt.verdict) == (End.REPLACED, "ana", "Failed")
    assert attempt.ended_at == told.changes[0].change.committed_at


def test_an_end_that_no_commit_shows_is_told_by_its_act() -> None:
    """An attempt whose image still stands in the file ends with the act, too."""
    told = Told()
    told.act(ActKind.ENDED, version=1, promotion=told.commit(1), verdict="Error")
    (attempt,) = told.fold().attempts
    assert (attempt.end, attempt.ended_by, attempt.verdict, attempt.why) == (
        End.REPLACED,
        "bob",
        "Error",
        "he knows why",
    )


def test_a_return_by_command_and_an_abort_say_who_and_why() -> None:
    """Trailers of the commits that `incumbent rollback` and `incumbent abort` make are shown as such."""
    told = Told()
    told.promote(1)
    told.promote(2)
    told.take_back(told.commit(3), Verdict="Aborted", By="ana", Reason="it smells")
    told.verify(told.commit(1, Returns_From="2", By="bob", Reason="2 was slow"))
    assert reigns(told)[-1] == (1, Began.RETURN)
    latest = told.fold().reigns[-1]
    assert (latest.by, latest.why) == ("bob", "2 was slow")
    third, again = told.fold().attempts[2:]
    assert (third.end, third.ended_by, third.why) == (End.ABORTED, "ana", "it smells")
    assert (again.identity.attempt, again.returns_from, again.by, again.reason) == (2, "2", "bob", "2 was slow")


def test_an_adopted_image_reigns_as_the_version_that_it_is() -> None:
    """What ran already is the champion since the act; an adoption of what does not run any more changes nothing."""
    told = Told()
    told.by_hand(image_of(5))
    told.act(ActKind.ADOPT, version=5, digest=digest_of(5))
    assert reigns(told)[-1] == (5, Began.ADOPTED)
    told.act(ActKind.ADOPT, version=4, digest=digest_of(4))
    assert reigns(told)[-1] == (5, Began.ADOPTED)
    told.promote(6)
    told.act(ActKind.ADOPT, version=5, digest=digest_of(5))
    assert reigns(told)[-1] == (6, Began.PROMOTION)
    told.by_hand(image_of(5))
    assert reigns(told)[-1] == (5, Began.RETURN_BY_HAND)


def test_an_image_that_was_adopted_by_its_tag_reigns_as_the_version_that_it_is() -> None:
    """A promotion that was taken back does not interrupt it, and the same tag is a return; pushed anew, it is another.

    An act that does not say what the manifest had is one of a digest.
    """
    told, tag = Told(), f"{REPOSITORY}:v5"
    told.by_hand(tag)
    told.act(ActKind.ADOPT, version=5, digest=digest_of(5))
    assert reigns(told)[-1] == (None, Began.BY_HAND)
    told.act(ActKind.ADOPT, version=5, digest=digest_of(5), image=tag)
    for image in (tag, image_of(5)):
        told.take_back(told.commit(6), Image=image)
    assert reigns(told)[1:] == [(None, Began.BY_HAND), (5, Began.ADOPTED)]
    told.promote(7)
    told.by_hand(tag)
    told.act(ActKind.ADOPT, version=8, digest=digest_of(8), image=tag)
    assert reigns(told)[3:] == [(7, Began.PROMOTION), (5, Began.RETURN_BY_HAND), (8, Began.ADOPTED)]


def champions(told: Told) -> list[tuple[int, bool]]:
    return [(champion.version, champion.left) for champion in told.fold().champions]


def test_champions_are_what_was_verified_or_adopted_and_not_taken_back() -> None:
    """The newest first; an adoption counts whatever runs now, an attempt that failed or is under way does not."""
    told = Told()
    told.promote(1)
    told.act(ActKind.ADOPT, version=9, digest=digest_of(9))
    identity = told.commit(2)
    told.verify(identity)
    told.take_back(told.commit(3))
    told.commit(4)
    assert champions(told) == [(2, False), (9, False), (1, False)]
    newest, adopted, _ = told.fold().champions
    assert (newest.attempt, newest.commit, newest.digest) == (identity, f"promote-{identity}", digest_of(2))
    assert (adopted.attempt, adopted.digest) == (None, digest_of(9))


def test_a_champion_that_a_person_went_back_from_is_left_until_it_is_proved_again() -> None:
    """A return that was taken back left nothing, and a champion that is proved later is not the one that was left."""
    told = Told()
    told.promote(1)
    told.promote(2)
    told.take_back(told.commit(1, Returns_From="2"), Verdict="Aborted")
    assert champions(told) == [(2, False), (1, False)]
    told.verify(told.commit(1, Returns_From="2"))
    assert champions(told) == [(1, False), (2, True), (1, False)]
    told.promote(2)
    assert champions(told) == [(2, False), (1, False), (2, True), (1, False)]


def test_a_rollback_to_another_image_than_the_champions_begins_a_reign() -> None:
    """What a rollback put back is what reigns, also when it is not what reigned before."""
    told = Told()
    told.promote(1)
    told.promote(2)
    told.take_back(told.commit(3), Image=image_of(1))
    assert reigns(told)[-1] == (1, Began.ROLLBACK)


def test_changes_of_other_lines_and_broken_files_are_no_events() -> None:
    """A commit that keeps the image, and a file that nobody can read, change nothing that runs."""
    told = Told()
    told.promote(1)
    told.by_hand(image_of(1))
    told.unreadable()
    told.by_hand(image_of(1))
    assert reigns(told) == [(None, Began.BY_HAND), (1, Began.PROMOTION)]


def test_a_wrong_clock_changes_times_and_not_the_order() -> None:
    """A person's commit dated long before its parent still follows it; a tag never comes before its own commit."""
    told = Told()
    told.promote(1)
    told.promote(2)
    told.by_hand(image_of(1), at=1.0)
    told.tags[0] = TagRecord(told.tags[0].name, told.tags[0].commit, "Passed", 2.0)
    assert [version for version, _ in reigns(told)][1:] == [1, 2, 1]
    since = [reign.since for reign in told.fold().reigns]
    assert since == sorted(since)


def test_promotions_that_a_merge_brought_in_count_by_their_time() -> None:
    """They are not on the branch's own line, and the merge itself changed nothing that they did not say."""
    told = Told()
    told.promote(1)
    told.promote(2)
    side = {commit.commit for commit in told.history}
    told.changes = [changed for changed in told.changes if changed.change.commit not in side]
    told.by_hand(image_of(2))
    told.promote(3)
    assert [version for version, _ in reigns(told)] == [None, 1, 2, 3]


def test_a_promotion_that_was_merged_late_begins_with_its_merge() -> None:
    """Other lines of the manifest changed while its request was open: that did not replace what was not there yet."""
    told = Told()
    told.by_hand(BEFORE)
    told.promote(1)
    told.changes = [changed for changed in told.changes if changed.change.commit != told.history[-1].commit]
    told.by_hand(BEFORE)
    told.by_hand(image_of(1))
    assert [version for version, _ in reigns(told)] == [None, 1]
    assert ends(told) == [(1, End.CHAMPION)]


def test_tags_of_another_commit_verify_nothing() -> None:
    """An evidence tag that is on another commit than its promotion's is no evidence."""
    told = Told()
    identity = told.commit(1)
    told.tags.append(TagRecord(identity.evidence_tag, "hand-0", "Passed", told.now))
    told.tags.append(TagRecord("incumbent/iris-edge/7-1", f"promote-{identity}", "Passed", told.now))
    assert ends(told) == [(1, End.UNDER_WAY)]


STEPS = st.lists(
    st.tuples(st.sampled_from(["pass", "fail", "abort", "leave", "hand", "other", "adopt"]), st.integers(1, 4)),
    max_size=12,
)


@given(STEPS)
def test_whatever_happened_reigns_join_and_the_last_one_serves(steps: list[tuple[str, int]]) -> None:
    """Reigns follow each other without gap or overlap, and every attempt but the last has an end.

    Unless an attempt is under way, the last reign's image is the one that the branch has. Who was proved a champion is
    known without the changes that people made.
    """
    told, under_way = Told(), False
    for kind, number in steps:
        if kind in ("pass", "fail", "abort", "leave") and told.image != image_of(number):
            identity = told.commit(number)
            under_way = kind == "leave"
            if kind == "pass":
                told.verify(identity)
            elif not under_way:
                told.take_back(identity, Verdict="Failed" if kind == "fail" else "Aborted")
        elif kind in ("hand", "other"):
            image = image_of(number) if kind == "hand" else f"{REPOSITORY}:hotfix{number}"
            under_way = under_way and image == told.image
            told.by_hand(image)
        elif kind == "adopt":
            told.act(ActKind.ADOPT, version=number, digest=digest_of(number))
    folded = told.fold()
    assert fold_history(told.history, (), told.tags, told.acts).champions == folded.champions
    for before, after in zip(folded.reigns, folded.reigns[1:], strict=False):
        assert before.until == after.since >= before.since
        assert before.ended_by
    assert folded.reigns[-1].until is None
    assert all(attempt.end is not End.UNDER_WAY for attempt in folded.attempts[:-1])
    adopted = folded.reigns[-1].began is Began.ADOPTED
    if not under_way:
        assert folded.reigns[-1].image in (told.image, told.image.partition("@")[2]), (adopted, folded.reigns)
