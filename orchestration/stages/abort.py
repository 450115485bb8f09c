"""Ending a promotion that is under way, for a person: its image is taken back, or it is refused before its commit.

So is a return to a former champion that waits for the merge of its request.
"""

from dataclasses import dataclass

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.branch_standing import CommittedPromotion, committed_promotions
from orchestration.promotion.branch_view import acts
from orchestration.promotion.decided import Decided, decided_in
from orchestration.promotion.identity import ABORTED, PromotionId, how_to_retry, how_to_return
from orchestration.promotion.merge_wait import abort_of, return_of
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.ports import Proposal
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.state import State
from orchestration.stages.by_hand import promotion_by_hand, recognise_if_possible, under_way
from orchestration.stages.pull_request import end_request
from orchestration.stages.results import Checklist, StageEnded
from orchestration.stages.return_request import end_return
from orchestration.stages.rollback import take_back
from orchestration.stages.stage import Promotion, promotion_of

_NOT_COMMITTED = (None, State.SUPERSEDED, State.REQUESTED, State.WAITING, State.HELD)
"""States of a challenger that goes on by itself although nothing of it is committed, or that a person may resume."""


@dataclass(frozen=True)
class UnderWay:
    """What an abort ends: a committed promotion, a return that is not merged, or a challenger that is not committed."""

    committed: CommittedPromotion | None = None
    returning: tuple[Proposal, PromotionId] | None = None
    challenger: ModelVersion | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to end."""
        return self.committed is None and self.returning is None and self.challenger is None


def find_under_way(desk: Promotion) -> UnderWay:
    """Find what is under way now.

    Raises:
        InvalidInputError: it was verified already, and only the alias is missing.
        StageEnded: the manifest cannot be read for this policy.
        DependencyError: Git does not answer; or the registry does not, while nothing is committed.
    """
    recognise_if_possible(desk)  # whatever the host says later, the act in Git keeps the version from a new request
    view = desk.look()
    committed = under_way(desk, view)
    if committed is not None:
        return UnderWay(committed)
    policy = desk.policy
    returning = return_of(desk.clients.git, policy.name) if desk.clients.requests is not None else None
    if returning is not None:
        return UnderWay(returning=returning)
    version = desk.clients.registry.version_by_alias(policy.model, policy.challenger_alias)
    if version is None:
        return UnderWay()
    live = [made for made in view.promotions if made.identity.version == version.version and made.rollback is None]
    state = version.state(policy.name)
    if live and state is not None and state.is_under_way_on_branch:
        found = f"a version that was verified already (Git tag {live[0].identity.evidence_tag})"
        next_step = f"Leave it as a champion: incumbent rollback {policy.name} --reason '...'."
        raise InvalidInputError(Problem(str(version), "a promotion that is not verified yet", found, next_step))
    is_pending = state in _NOT_COMMITTED and not (live and version.attempt(policy.name) <= live[0].identity.attempt)
    return UnderWay(challenger=version if is_pending else None)


def abort(desk: Promotion, decided: Decided) -> str:
    """End what is under way, under a lease that was taken over from its run; return what was done, in words.

    The first thing that is written is what the others follow from (the rollback commit, or the act in Git), so that an
    abort that dies in between is finished by the next run of the promotion.

    Raises:
        InvalidInputError: it was verified in the meantime; nothing was changed.
        StageEnded: someone took the lease over, or the target of the rollback does not serve by its deadline.
        DependencyError: a dependency does not answer; the next run finishes what was begun.
    """
    found = find_under_way(desk)
    if found.committed is not None:
        return _take_back(desk, found.committed, decided)
    if found.returning is not None:
        return _keep_what_serves(desk, *found.returning, decided)
    if found.challenger is not None:
        return _refuse(desk, found.challenger, decided)
    return ended_already(desk)


def ended_already(desk: Promotion) -> str:
    """Say that there is nothing left to abort, and whose abort ended it, as Git has it now."""
    by = _ended_by(desk)
    return f"the promotion of {desk.policy.name} has ended already{f', by {by}' if by is not None else ''}."


def _ended_by(desk: Promotion) -> Decided | None:
    """Return who ended the policy's last promotion by an abort, as Git has it now; None when nobody did."""
    git, policy = desk.clients.git, desk.policy.name
    promotions = committed_promotions(git.history(git.fetch(), policy), policy)
    rollback = promotions[0].rollback if promotions else None
    act = next((act for act in acts(git, policy) if act.kind is ActKind.ABORT), None)
    if act is not None and (rollback is None or act.at >= rollback.committed_at):
        return Decided(act.by, act.reason)
    is_abort = rollback is not None and rollback.trailers.get("Verdict") == ABORTED
    return decided_in(rollback.trailers) if rollback is not None and is_abort else None


def _take_back(desk: Promotion, committed: CommittedPromotion, decided: Decided) -> str:
    number = committed.identity.version
    promotion = promotion_by_hand(desk, number)
    note = take_back(promotion, committed, f"Aborted by {decided}.", ABORTED, decided)
    return f"version {number} of {desk.policy.model} was aborted: {note}"


def _keep_what_serves(desk: Promotion, proposal: Proposal, identity: PromotionId, decided: Decided) -> str:
    """Record the act in Git, and close the request of a return."""
    number, policy = identity.version, desk.policy
    _record_abort(desk, number, decided)
    promotion = promotion_by_hand(desk, number)
    found, next_step = f"an abort by {decided}", how_to_return(policy.name, number)
    end_return(promotion, proposal, Problem(str(promotion.version), "the merge of its return", found, next_step))
    return f"the return to version {number} of {policy.model} was aborted before its merge."


def _record_abort(desk: Promotion, number: int, decided: Decided) -> None:
    now = desk.clients.clock.now()
    desk.clients.git.record_act(
        Act(desk.policy.name, ActKind.ABORT, now, decided.by, decided.reason, number, verdict=ABORTED)
    )


def _refuse(desk: Promotion, version: ModelVersion, decided: Decided) -> str:
    """Record the act in Git, close the request if there is one, and refuse the version."""
    policy = desk.policy
    _record_abort(desk, version.version, decided)
    promotion = promotion_of(desk.clients, policy, version, desk.lease, desk.say)
    end_request(promotion, StageEnded(State.REFUSED, _aborted_before_commit(version, decided)))
    promotion.record.write(State.REFUSED, f"Aborted by {decided}. Nothing was committed.")
    return f"version {version.version} of {policy.model} was aborted before its commit."


def _aborted_before_commit(version: ModelVersion, decided: Decided) -> Problem:
    return Problem(str(version), "to be promoted", f"aborted by {decided}", "Nothing was committed.")


def require_not_aborted(promotion: Promotion, checklist: Checklist) -> None:
    """End a stage whose version a person aborted after it was requested, while this run judged it without the lease.

    Raises:
        StageEnded: it was aborted.
    """
    policy, version = promotion.policy, promotion.version
    act = abort_of(promotion.acts, version, policy.name)
    if act is not None:
        found = f"aborted by {Decided(act.by, act.reason)}"
        problem = Problem(str(version), "a promotion to go on with", found, how_to_retry(policy.name, version.version))
        raise checklist.failed("one_commit", problem)
