"""Returning to a former champion: one forward commit to its verified digest, or address, made for a person.

Only Git and the image registry are needed for it, so that a model registry that is down keeps no bad model serving.
Where addresses are deployed, the registry is asked whether the model is still there, and its silence stops nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.promotion.branch_standing import CommittedPromotion, is_image_of, live_promotion
from orchestration.promotion.branch_view import BranchView, parse_acts, version_of_image
from orchestration.promotion.decided import Decided
from orchestration.promotion.deployed import Deployed, ModelAddress, parse_address
from orchestration.promotion.identity import PromotionId, committed_digest, promotion_id
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.merge_wait import return_of
from orchestration.promotion.model_version import ModelVersion, not_registered, unread_version
from orchestration.promotion.ports import FileEdit, Pushed
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.reigns import Champion, fold_history
from orchestration.promotion.returns import is_return, return_subject, return_trailers
from orchestration.promotion.rollout_assessment import ModelFailed, NotJudged, RolledOut
from orchestration.promotion.state import State
from orchestration.promotion.texts import one_line
from orchestration.promotion.timestamps import format_time
from orchestration.stages.await_rollout import Undone, undone_problem, wait_rolled_out
from orchestration.stages.by_hand import promotion_by_hand, read_if_possible, recognise_if_possible, under_way
from orchestration.stages.expectation import expect
from orchestration.stages.judge_rollout import failed_return, platform_fault_after_all
from orchestration.stages.pull_request import rolls_back_by_request
from orchestration.stages.return_request import advance_return, end_return, superseded_return
from orchestration.stages.stage import Promotion, promotion_of


@dataclass(frozen=True)
class Returned:
    """A former champion whose image the branch has again."""

    version: int
    image: str
    commit: str
    is_done: bool = False
    """Whether it serves and is champion already, so that there is nothing to do."""
    is_recorded: bool = True
    """Whether the registry knows of it; False while it does not answer."""


def commit_return(desk: Promotion, number: int | None, decided: Decided) -> Returned:
    """Put a former champion's image back by a commit, under the lease; safe to run again at any point.

    Args:
        desk: The ports, the policy and the lease; its version has no part in this.
        number: The version to return to; None for the newest champion that neither serves nor was left by a person.
        decided: Who returns, and why.

    Raises:
        InvalidInputError: refused, and nothing was changed.
        StageEnded: it is proposed, and waits for the merge of its request; that ended it; the lease was lost; or the
            manifest cannot be read for this policy.
        DependencyError: Git, the image registry, or a Git host whose requests are needed, does not answer.
    """
    recognise_if_possible(desk)
    view = desk.look()
    open_promotion = under_way(desk, view)
    if open_promotion is not None:
        if not is_return(open_promotion) or number not in (None, open_promotion.identity.version):
            raise _under_way(desk, open_promotion)
        desk.say(f"going on with commit {open_promotion.commit.commit[:12]}, which brings it back")
        return _record(desk, open_promotion, view.image)
    proposed = return_of(desk.clients.git, desk.policy.name) if desk.clients.requests is not None else None
    goes_on = proposed is not None and number in (None, proposed[1].version) and rolls_back_by_request(desk.policy)
    if proposed is not None and goes_on:
        advance_return(promotion_by_hand(desk, proposed[1].version), *proposed)
    known, serving = _champions_and_what_serves(desk, view)
    champion = _choose(desk, known, number, serving, _left_by_hand(view, serving))
    if champion.version == serving:
        return _serves_already(desk, view, champion)
    deployed = _deployed(desk, champion)
    version = read_if_possible(desk, champion.version)
    if version is None:
        raise InvalidInputError(not_registered(desk.policy.model, champion.version))
    if isinstance(deployed, ModelAddress) and isinstance(version, ModelVersion):
        _require_files(desk, version)
    if proposed is not None:
        other = promotion_by_hand(desk, proposed[1].version)
        end_return(other, proposed[0], superseded_return(other, champion.version, decided))
    committed = _push(desk, view, champion, deployed, str(serving or view.image), decided)
    return _record(desk, committed, str(deployed))


def _champions_and_what_serves(desk: Promotion, view: BranchView) -> tuple[tuple[Champion, ...], int | None]:
    """Read who was proved a champion, newest first, and the version whose image the manifest has, if it is known."""
    git, policy = desk.clients.git, desk.policy
    tags = git.tags_below(f"incumbent/{policy.name}/")
    made = parse_acts(tags)
    history = fold_history(git.history(view.head, policy.name), (), tags, made)
    return history.champions, version_of_image(view.promotions, view.image, made)


def _left_by_hand(view: BranchView, serving: int | None) -> int | None:
    """Return the version that a person's own commit left when it put a former champion back."""
    live = live_promotion(view.promotions)
    is_left = serving is not None and live is not None and not is_image_of(live.identity, view.image)
    return live.identity.version if live is not None and is_left else None


def _choose(
    desk: Promotion, known: Sequence[Champion], number: int | None, serving: int | None, left_by_hand: int | None
) -> Champion:
    """Return the champion of that number, or else the newest that neither serves nor was left by a person."""
    policy = desk.policy
    if number is not None:
        named = next((champion for champion in known if champion.version == number), None)
        if named is not None:
            return named
        subject, expected = f"version {number} of {policy.model}", f"a version that was verified under {policy.name}"
    else:
        excluded = (serving, left_by_hand)
        earlier = (champion for champion in known if champion.version not in excluded and not champion.left)
        last = next(earlier, None)
        if last is not None:
            return last
        subject, expected = f"policy {policy.name}", "a former champion to return to"
    others = dict.fromkeys(str(champion.version) for champion in known if champion.version != serving)
    finding = "no other version that was ever verified"
    if others:
        what = "one that never was" if number is not None else "none that nobody left"
        finding = f"{what}; verified were: {', '.join(others)}"
    promote = f"Promote one: incumbent register {policy.name} {number or 'VERSION'}."
    next_step = "Name one of those." if others else promote
    raise InvalidInputError(Problem(subject, expected, finding, next_step))


def _under_way(desk: Promotion, committed: CommittedPromotion) -> InvalidInputError:
    number, name = committed.identity.version, desk.policy.name
    found = f"that of version {number} (commit {committed.commit.commit[:12]})"
    next_step = f"End it, which takes its image back: incumbent abort {name} --reason '...'."
    return InvalidInputError(Problem(f"policy {name}", "no other promotion under way", found, next_step))


def _serves_already(desk: Promotion, view: BranchView, champion: Champion) -> Returned:
    """Decide about a version whose image the manifest has: it is champion, becomes it now, or is to be adopted."""
    policy, number = desk.policy, champion.version
    named = desk.clients.registry.version_by_alias(policy.model, policy.champion_alias)
    returned = Returned(number, view.image, champion.commit)
    if named is not None and named.version == number and named.state(policy.name) is State.CHAMPION:
        return Returned(number, view.image, champion.commit, is_done=True)
    live = live_promotion(view.promotions)
    if live is not None and live.identity == champion.attempt:
        return returned  # verified, and its run died before the alias
    raise InvalidInputError(
        Problem(
            f"version {number} of {policy.model}",
            "another image in the manifest",
            f"its own, which someone put there without making it {policy.champion_alias}",
            f"Make it the champion: incumbent adopt {policy.name} {number} --reason '...'.",
        )
    )


def _require_files(desk: Promotion, version: ModelVersion) -> None:
    """Refuse a version whose model is gone from the registry, so that no server could load it."""
    try:
        location = desk.clients.registry.model_location(version)
    except DependencyError as error:
        desk.say(f"going on without the registry: {error}")
        return
    if location is None:
        next_step = f"Name another version: incumbent rollback {desk.policy.name} VERSION --reason '...'."
        raise InvalidInputError(Problem(str(version), "a model whose files are in the registry", "no files", next_step))


def _deployed(desk: Promotion, champion: Champion) -> Deployed:
    """Return the verified image, which must still be there to be pulled, or the verified address."""
    policy = desk.policy
    if policy.slot.holds_address:
        address = parse_address(desk.image_at(champion.commit) or "")
        if address is not None and address.digest == champion.digest:
            return address
        subject, next_step = f"version {champion.version} of {policy.model}", "Promote it again as a new version."
        found = "no such address in the manifest of its commit"
        raise InvalidInputError(Problem(subject, "the address that was verified", found, next_step))
    image = _pinned_image(desk, champion)
    if image is not None and desk.clients.images.resolve(image) is not None:
        return image
    raise InvalidInputError(
        Problem(
            f"image {image or champion.digest} of version {champion.version}",
            "the image that was verified, in its registry",
            "no such image",
            f"Push it again, or name another version: incumbent rollback {policy.name} VERSION --reason '...'.",
        )
    )


def _pinned_image(desk: Promotion, champion: Champion) -> ImageRef | None:
    """Return a champion's image by its verified digest; None when its commit does not have it."""
    text = desk.image_at(champion.commit)
    reference = parse_image(text) if text is not None else None
    if reference is None or reference.digest not in (None, champion.digest):
        return None
    return ImageRef(reference.repository, reference.tag, champion.digest)


def _push(
    desk: Promotion, first: BranchView, champion: Champion, deployed: Deployed, left: str, decided: Decided
) -> CommittedPromotion:
    """Push the commit, or propose it and end as waiting; one whose answer was lost is recognised."""
    policy, number = desk.policy, champion.version
    made = _found(first, champion.attempt)
    run = made.commit.trailers.get("MLflow-Run") if made is not None else None
    version = unread_version(policy.model, number, run)
    attempts = (known.identity.attempt for known in first.promotions if known.identity.version == number)
    identity = promotion_id(policy.name, number, deployed, 1 + max(attempts, default=0))
    trailers = return_trailers(identity, version, deployed, one_line(left), decided, desk.clients.clock.now())

    def decide(head: str) -> FileEdit | CommittedPromotion:
        view = desk.view_at(head)
        done = _found(view, identity)
        if done is not None:
            return done
        edit = set_image(view.content, policy, str(deployed), expected=first.image)
        if isinstance(edit, EditRefused):
            raise InvalidInputError(edit.problem)
        assert isinstance(edit, Edited), "the manifest has another version's image"
        return FileEdit(policy.manifest.path, edit.content, return_subject(identity), trailers)

    desk.say(f"committing {deployed} to {policy.manifest.path}")
    pushed: Pushed | CommittedPromotion
    if rolls_back_by_request(policy):
        pushed = desk.lease.propose(identity.return_proposal, decide)
    else:
        pushed = desk.lease.push_edit(decide)
    if isinstance(pushed, CommittedPromotion):
        return pushed
    proposed = return_of(desk.clients.git, policy.name) if rolls_back_by_request(policy) else None
    if proposed is not None:
        advance_return(promotion_by_hand(desk, number), *proposed)
    committed = _found(desk.view_at(pushed.commit), identity)
    assert committed is not None, "the pushed commit is on the branch"
    return committed


def _found(view: BranchView, identity: PromotionId | None) -> CommittedPromotion | None:
    return next((known for known in view.promotions if known.identity == identity), None)


def _record(desk: Promotion, committed: CommittedPromotion, image: str) -> Returned:
    """Write on the version that it is brought back, unless the registry does not answer or a run has done it."""
    number, policy, trailers = committed.identity.version, desk.policy.name, committed.commit.trailers
    returned = Returned(number, image, committed.commit.commit)
    version = read_if_possible(desk, number)
    if not isinstance(version, ModelVersion):
        return Returned(number, image, committed.commit.commit, is_recorded=False)
    state = version.state(policy)
    is_known = version.tag(policy, "commit") == committed.commit.commit
    if is_known and state is not None and state.is_under_way_on_branch:
        return returned
    try:
        promotion_of(desk.clients, desk.policy, version, desk.lease, desk.say).record.write(
            State.COMMITTED,
            commit=committed.commit.commit,
            digest=committed_digest(trailers),
            attempt=str(committed.identity.attempt),
            requested_at=trailers.get("Requested-At") or format_time(committed.commit.committed_at),
        )
    except DependencyError as error:
        desk.say(f"going on without the registry: {error}")
        return Returned(number, image, committed.commit.commit, is_recorded=False)
    return returned


def await_return(desk: Promotion, returned: Returned) -> Problem | None:
    """Wait until the image of a return serves, without the registry; return why it does not by the deadline."""
    expected = expect(desk, returned.commit, returned.image)
    if isinstance(expected, Problem):
        return expected
    waited = wait_rolled_out(desk, expected)
    match waited.outcome:
        case RolledOut():
            return None
        case NotJudged(problem):
            return problem
        case ModelFailed(problem) as failed:
            return platform_fault_after_all(desk, failed) or failed_return(desk.policy.name, problem)
        case Undone(image):
            return undone_problem(desk, returned.commit, image)
