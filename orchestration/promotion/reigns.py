"""Who was champion from when to when, who was proved a champion, and how each attempt ended: told from Git alone.

Git has all of it: the commits of promotions and rollbacks, the tags of the evidence, the acts, and what people changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.deployed import image_key, parse_address
from orchestration.promotion.identity import (
    ABORTED,
    MODEL_ADDRESS,
    PromotionId,
    committed_digest,
    parse_promotion_id,
    restored,
)
from orchestration.promotion.images import is_digest
from orchestration.promotion.ports import BranchCommit, FileChange, TagRecord
from orchestration.promotion.returns import RETURNS_FROM
from orchestration.promotion.texts import one_line
from orchestration.promotion.timestamps import parse_time


class Began(StrEnum):
    """How a reign began."""

    PROMOTION = "promotion"
    RETURN = "return"
    """`incumbent rollback` went back to a former champion, and it was verified again."""
    ROLLBACK = "rollback"
    """A rollback put another image back than the one that reigned."""
    ADOPTED = "adopted"
    RETURN_BY_HAND = "return by hand"
    """A person's commit put the image of a former champion back."""
    BY_HAND = "by hand"
    """A person's commit put an image there that was never verified; most often one that no promotion committed."""


class End(StrEnum):
    """How a committed attempt ended."""

    CHAMPION = "champion"
    ROLLED_BACK = "rolled back"
    ABORTED = "aborted"
    REPLACED = "replaced"
    """Another image was put there before the attempt was judged."""
    UNDER_WAY = "under way"


@dataclass(frozen=True)
class ImageChange:
    """A commit that changed the manifest, with the image since then; None when it was not read, or cannot be."""

    change: FileChange
    image: str | None


@dataclass(frozen=True)
class Reign:
    """What served as the champion for a while; times are seconds since the epoch."""

    version: int | None
    """None when no promotion committed the image."""
    image: str
    """A whole reference where a person wrote it, or else the digest that was committed; or an address."""
    began: Began
    by: str
    why: str
    since: float
    until: float | None = None
    """None while it lasts."""
    ended_by: str = ""

    @property
    def described(self) -> str:
        """What reigned: `version 7`, or an image, or address, that no promotion committed."""
        if self.version is not None:
            return f"version {self.version}"
        what = "an image" if parse_address(self.image) is None else "an address"
        return f"{what} that no promotion committed"


@dataclass(frozen=True)
class Attempt:
    """One committed attempt to promote a version, and its end; times are seconds since the epoch."""

    identity: PromotionId
    commit: str
    digest: str
    requested_at: float | None
    committed_at: float
    address: str = ""
    """The address that was committed; empty for an image, which its digest names."""
    returns_from: str = ""
    """What `incumbent rollback` left with this attempt; empty for a promotion."""
    by: str = ""
    reason: str = ""
    end: End = End.UNDER_WAY
    ended_at: float | None = None
    ended_by: str = ""
    verdict: str = ""
    why: str = ""


@dataclass(frozen=True)
class Champion:
    """A version that was proved to serve well: by an attempt that was verified and stands, or because it was adopted.

    A reign is when it served: one champion may have had several, by hand, and one whose image was not there none.
    """

    version: int
    digest: str
    """The digest of its image, or of its address's text, `sha256:<64 digits>`."""
    commit: str
    """A commit at which the manifest had its image."""
    at: float
    """When it was committed or adopted, in seconds since the epoch."""
    attempt: PromotionId | None
    """The attempt; None for a version that was adopted."""
    left: bool = False
    """Whether a person has gone back from it to another version since, by `incumbent rollback`."""


@dataclass(frozen=True)
class History:
    """Reigns and attempts, oldest first; champions, newest first, and a version may be among them repeatedly."""

    reigns: tuple[Reign, ...]
    attempts: tuple[Attempt, ...]
    champions: tuple[Champion, ...]


def fold_history(
    history: Sequence[BranchCommit],
    changes: Sequence[ImageChange],
    tags: Sequence[TagRecord],
    acts: Sequence[Act],
) -> History:
    """Tell who was champion from when to when.

    A reign begins when an attempt is verified, not when it is committed, or with a commit that puts an image there
    without an attempt. What was tried and taken back in between does not interrupt it.

    Args:
        history: The policy's promotion and rollback commits, newest first.
        changes: All commits that changed the manifest, newest first. Those of `history` need no image: their trailers
            say it. Without them, the champions are the same, and the reigns lack what people put there by hand.
        tags: The policy's annotated tags, in any order.
        acts: The policy's acts, in any order.
    """
    fold = _Fold({(tag.name, tag.commit): tag.at for tag in tags})
    waiting = sorted(acts, key=lambda act: act.at)
    events = [(_id(event), at, event) for at, event in _in_order(history, changes)]
    known, done = {commit for commit, _, _ in events}, set[str]()
    for commit, at, event in events:
        # An act never comes before the commit that it was recorded on, whatever the clocks say.
        ready = [act for act in waiting if act.at <= at and (act.commit not in known or act.commit in done)]
        waiting = [act for act in waiting if act not in ready]
        for act in ready:
            fold.act(act)
        fold.commit(event, at)
        done.add(commit)
    for act in waiting:
        fold.act(act)
    attempts = tuple(fold.attempts.values())
    return History(tuple(fold.reigns), attempts, tuple(_champions(attempts, fold.adopted)))


def _champions(attempts: Sequence[Attempt], adopted: Sequence[Champion]) -> Iterator[Champion]:
    """List who was proved a champion, newest first."""
    promoted = [
        Champion(attempt.identity.version, attempt.digest, attempt.commit, attempt.committed_at, attempt.identity)
        for attempt in reversed(attempts)
        if attempt.end is End.CHAMPION
    ]
    returns = [attempt for attempt in attempts if attempt.end not in (End.ROLLED_BACK, End.ABORTED)]
    for champion in sorted((*promoted, *adopted), key=lambda champion: champion.at, reverse=True):
        later = (attempt for attempt in returns if attempt.committed_at >= champion.at)
        yield replace(champion, left=any(attempt.returns_from == str(champion.version) for attempt in later))


def _id(event: BranchCommit | ImageChange) -> str:
    return event.commit if isinstance(event, BranchCommit) else event.change.commit


def _in_order(
    history: Sequence[BranchCommit], changes: Sequence[ImageChange]
) -> Iterator[tuple[float, BranchCommit | ImageChange]]:
    """List all commits, oldest first, in the order of the branch; what a merge brought in comes right before it.

    A commit that is dated before an older one counts as of that one's time.
    """
    ours = {commit.commit: commit for commit in history}
    line = list(reversed(changes))
    on_line = {change.change.commit for change in line}
    merged_in = [commit for commit in reversed(history) if commit.commit not in on_line]
    brought_in = sorted(((_brought_in_by(commit, line), commit) for commit in merged_in), key=lambda entry: entry[0])
    latest = 0.0
    for number, changed in enumerate(line):
        while brought_in and brought_in[0][0] <= number:
            _, earlier = brought_in.pop(0)
            yield max(latest, earlier.committed_at), earlier
        latest = max(latest, changed.change.committed_at)
        yield latest, ours.get(changed.change.commit, changed)
    for _, later in brought_in:
        latest = max(latest, later.committed_at)
        yield latest, later


def _brought_in_by(commit: BranchCommit, line: Sequence[ImageChange]) -> int:
    """Return the place on the branch of the merge of a commit: the first later change with its image, or else by time.

    A request may be merged long after its commit was made, and after other changes of the manifest.
    """
    later = [place for place, change in enumerate(line) if change.change.committed_at >= commit.committed_at]
    identity = parse_promotion_id(commit.trailers.get("Promotion-Id", ""))
    key = identity.digest if identity is not None else image_key(restored(commit.trailers))
    images = ((place, line[place].image) for place in later)
    return next(
        (place for place, image in images if image and image_key(image) == key), later[0] if later else len(line)
    )


class _Fold:
    """What is known after the events so far."""

    def __init__(self, verified_at: Mapping[tuple[str, str], float]) -> None:
        """Begin with nothing but the times of the annotated tags, by name and commit."""
        self._verified_at = verified_at
        self.reigns: list[Reign] = []
        self.attempts: dict[PromotionId, Attempt] = {}
        self.adopted: list[Champion] = []
        self._live = ""
        """The key of the image that the manifest has."""
        self._adopted_keys: dict[str, str] = {}
        """The key of the digest that was adopted, by the key of the image as it stood in the manifest."""
        self._under_way: PromotionId | None = None
        self._verified: dict[str, int] = {}
        """The version that was last verified with an image, by the image's key."""

    def commit(self, event: BranchCommit | ImageChange, at: float) -> None:
        if isinstance(event, ImageChange):
            if event.image is not None:  # what cannot be read changes nothing that runs
                self._put_by_hand(event.image, event.change.author, event.change.subject, at)
            return
        taken_back = parse_promotion_id(event.trailers.get("Rollback-Of", ""))
        identity = parse_promotion_id(event.trailers.get("Promotion-Id", ""))
        if taken_back is not None:
            self._take_back(taken_back, event, at)
        elif identity is not None and identity not in self.attempts:
            self._begin_attempt(identity, event, at)
        elif identity is not None:  # the same commit again, picked by a person: one id has one commit
            self._put_by_hand(self.attempts[identity].digest, "a person", event.subject, at)

    def act(self, act: Act) -> None:
        if act.kind is ActKind.ENDED:
            self._end_without_commit(act)
        elif act.kind is ActKind.ADOPT and act.version is not None and act.digest is not None:
            self._adopt(act, act.version, act.digest)

    def _begin_attempt(self, identity: PromotionId, commit: BranchCommit, at: float) -> None:
        self._replace(f"promotion {identity}", commit.subject, at)
        digest = committed_digest(commit.trailers)
        self.attempts[identity] = Attempt(
            identity,
            commit.commit,
            digest if is_digest(digest) else f"sha256:{identity.digest}",
            parse_time(commit.trailers.get("Requested-At")),
            at,
            address=commit.trailers.get(MODEL_ADDRESS, ""),
            returns_from=commit.trailers.get(RETURNS_FROM, ""),
            by=commit.trailers.get("By", ""),
            reason=commit.trailers.get("Reason", ""),
        )
        self._under_way, self._live = identity, identity.digest
        verified_at = self._verified_at.get((identity.evidence_tag, commit.commit))
        if verified_at is not None:
            self._verify(self.attempts[identity], verified_at)

    def _take_back(self, identity: PromotionId, commit: BranchCommit, at: float) -> None:
        attempt, trailers = self.attempts.get(identity), commit.trailers
        verdict, by, why = (trailers.get(name, "") for name in ("Verdict", "By", "Reason"))
        if attempt is not None:
            end = End.ABORTED if verdict == ABORTED else End.ROLLED_BACK
            self.attempts[identity] = replace(attempt, end=end, ended_at=at, ended_by=by, verdict=verdict, why=why)
        if self._under_way == identity:
            self._under_way = None
        image = restored(trailers)
        self._live = self._key(image)
        if not self.reigns or self._key(self.reigns[-1].image) != self._live:
            version = self._version_of(self._live)
            self._begin_reign(Reign(version, image, Began.ROLLBACK, by or "incumbent", commit.subject, at))

    def _put_by_hand(self, image: str, author: str, subject: str, at: float) -> None:
        key = self._key(image)
        if key == self._live:
            return
        self._live = key
        self._replace(one_line(author), one_line(subject), at)
        if self.reigns and self._key(self.reigns[-1].image) == key:  # the champion again, in place of an attempt
            return
        began = Began.RETURN_BY_HAND if key in self._verified else Began.BY_HAND
        self._begin_reign(Reign(self._version_of(key), image, began, one_line(author), one_line(subject), at))

    def _verify(self, attempt: Attempt, verified_at: float) -> None:
        """Make the attempt under way the champion.

        This is told right after its commit, because nothing is verified whose image is not there any more.
        """
        identity, at = attempt.identity, max(verified_at, attempt.committed_at)
        self._verified[identity.digest] = identity.version
        self.attempts[identity] = replace(attempt, end=End.CHAMPION, ended_at=at, verdict="Passed")
        self._under_way = None
        began = Began.RETURN if attempt.returns_from else Began.PROMOTION
        by = attempt.by or "incumbent"
        self._begin_reign(Reign(identity.version, attempt.address or attempt.digest, began, by, attempt.reason, at))

    def _adopt(self, act: Act, version: int, digest: str) -> None:
        self.adopted.append(Champion(version, digest, act.commit, act.at, None))
        key, as_it_stood = image_key(digest), act.image or digest
        if self._live in (key, self._key(as_it_stood)):
            self._adopted_keys[image_key(as_it_stood)] = self._live = key
            self._verified[key] = version
            named = as_it_stood if parse_address(as_it_stood) is not None else digest
            self._begin_reign(Reign(version, named, Began.ADOPTED, act.by, act.reason, act.at))

    def _key(self, image: str) -> str:
        """Return an image's key; a tag that was adopted counts as the digest that it named then."""
        key = image_key(image)
        return self._adopted_keys.get(key, key)

    def _end_without_commit(self, act: Act) -> None:
        attempt = self.attempts.get(act.promotion) if act.promotion is not None else None
        if attempt is None or attempt.end not in (End.UNDER_WAY, End.REPLACED):
            return
        if attempt.end is End.UNDER_WAY:
            attempt = replace(attempt, ended_at=max(act.at, attempt.committed_at), ended_by=act.by)
        self.attempts[attempt.identity] = replace(attempt, end=End.REPLACED, verdict=act.verdict, why=act.reason)
        if self._under_way == attempt.identity:
            self._under_way = None

    def _replace(self, by: str, why: str, at: float) -> None:
        """Note that the attempt under way, if any, was replaced."""
        if self._under_way is not None:
            attempt = self.attempts[self._under_way]
            self.attempts[self._under_way] = replace(attempt, end=End.REPLACED, ended_at=at, ended_by=by, why=why)
            self._under_way = None

    def _begin_reign(self, reign: Reign) -> None:
        if self.reigns:
            before = self.reigns[-1]
            reign = replace(reign, since=max(reign.since, before.since))
            self.reigns[-1] = replace(before, until=reign.since, ended_by=f"{reign.described} ({reign.began})")
        self.reigns.append(reign)

    def _version_of(self, key: str) -> int | None:
        """Return the version that was verified with an image, or else the one that was committed with it last."""
        committed = (known.version for known in reversed(self.attempts) if known.digest == key)
        return self._verified.get(key, next(committed, None))
