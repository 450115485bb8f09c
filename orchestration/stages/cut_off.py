"""Finishing what an earlier run could not: a rollback that was cut off, and a promotion that others ended."""

from orchestration.promotion.branch_standing import CommittedPromotion, OnBranch, Overtaken, Reverted, TakenBack
from orchestration.promotion.branch_view import BranchView, is_verified, was_ended
from orchestration.promotion.decided import Decided, decided_in
from orchestration.promotion.identity import ABORTED, how_to_retry
from orchestration.promotion.merge_wait import taken_back_by
from orchestration.promotion.model_version import not_registered
from orchestration.promotion.problems import Problem
from orchestration.promotion.state import State
from orchestration.stages.await_rollout import undone_problem
from orchestration.stages.pull_request import end_request, rolls_back_by_request
from orchestration.stages.results import StageEnded
from orchestration.stages.return_request import finish_proposed_return
from orchestration.stages.rollback import OURS, record_ended, roll_back, take_back
from orchestration.stages.stage import Promotion


def finish_cut_off(promotion: Promotion, view: BranchView) -> None:
    """Finish what the branch or the tags say has ended, and the other does not say yet; every stage begins with this.

    A rollback may have its tag `rejected` without its commit, or its commit without the tag of its end. Someone may
    have replaced our image, or another version may have been promoted over it. A person may have asked for a return to
    this version, whose request waits for its merge.

    Raises:
        StageEnded: there was something. It is finished now, and the promotion stays ended.
    """
    finish_proposed_return(promotion)
    if promotion.record.is_gone:
        take_back_deleted(promotion, view)
    _finish_proposed_rollback(promotion, view)
    state = promotion.record.state
    if state is State.REJECTED:
        _finish_rollback(promotion, view, reject=True)
    if state is not None and state.is_end:
        return
    match view.standing:
        case TakenBack():
            _finish_rollback(promotion, view, reject=False)
        case Reverted(committed, image) if state is not None or not is_verified(promotion.clients.git, committed):
            _take_lease(promotion)
            problem = undone_problem(promotion, committed.commit.commit, image)
            roll_back(promotion, committed, problem, reject=True)
            raise StageEnded(State.ROLLED_BACK, problem)
        case Overtaken(committed, by) if state is not None:
            _end_overtaken(promotion, committed, by)


def _finish_proposed_rollback(promotion: Promotion, view: BranchView) -> None:
    """Go on with a rollback that waits for the merge of its request, whatever the version's tags say.

    A person's abort has no other record until then.

    Raises:
        StageEnded: there was one.
    """
    policy = promotion.policy
    known = {str(committed.identity): committed for committed in view.promotions}
    for proposal in promotion.clients.git.proposals(policy.name) if rolls_back_by_request(policy) else ():
        identity = taken_back_by(proposal)
        committed = known.get(str(identity))
        if committed is None or identity is None or identity.version != promotion.version.version:
            continue
        _take_lease(promotion)
        trailers = proposal.commit.trailers
        decided = Decided(trailers.get("By") or OURS, trailers.get("Reason") or "")
        verdict = trailers.get("Verdict") or "Error"
        reason = f"Aborted by {decided}." if verdict == ABORTED else promotion.version.tag(policy.name, "reason")
        promotion.say(take_back(promotion, committed, reason or decided.reason, verdict, decided))
        expected = "a version that was not taken back"
        raise StageEnded(
            State.ROLLED_BACK, Problem(str(promotion.version), expected, decided.reason, promotion.how_to_retry)
        )


def take_back_deleted(promotion: Promotion, view: BranchView) -> None:
    """Take the promotion of a version back that was deleted from the registry: it can never be judged or crowned.

    Its tags cannot be written, so the reason is in the rollback's commit alone.

    Raises:
        StageEnded: always.
    """
    problem = not_registered(promotion.policy.model, promotion.version.version)
    match view.standing:
        case OnBranch(committed) | Reverted(committed) if not _is_over(promotion, committed):
            end_by_rollback(promotion, committed, problem)
        case TakenBack():
            raise StageEnded(State.ROLLED_BACK, problem)
        case _:
            ended = StageEnded(State.REFUSED, problem)
            end_request(promotion, ended)
            raise ended


def _is_over(promotion: Promotion, committed: CommittedPromotion) -> bool:
    return is_verified(promotion.clients.git, committed) or was_ended(promotion.clients.git, committed.identity)


def end_by_rollback(promotion: Promotion, committed: CommittedPromotion, problem: Problem) -> None:
    """Take a promotion back without rejecting its version, unless it is rejected already.

    Raises:
        StageEnded: always, after the rollback.
    """
    _take_lease(promotion)
    roll_back(promotion, committed, problem, reject=promotion.record.state is State.REJECTED)
    raise StageEnded(State.ROLLED_BACK, problem)


def _finish_rollback(promotion: Promotion, view: BranchView, *, reject: bool) -> None:
    policy, version = promotion.policy, promotion.version
    attempts = [committed for committed in view.promotions if committed.identity.version == version.version]
    reason = version.tag(policy.name, "reason") or "taken back, for a reason that is not recorded"
    next_step = how_to_retry(policy.name, version.version)
    problem = Problem(str(version), "a version that was not taken back", reason, next_step)
    _take_lease(promotion)
    rollback = attempts[0].rollback if attempts else None
    if rollback is not None and rollback.trailers.get("Verdict") == ABORTED:
        decided = decided_in(rollback.trailers)
        reason = f"Aborted by {decided}."
        promotion.say(take_back(promotion, attempts[0], reason, ABORTED, decided))
        raise StageEnded(State.ROLLED_BACK, Problem(problem.subject, problem.expected, reason, next_step))
    if attempts:
        roll_back(promotion, attempts[0], problem, reject=reject)
    else:  # a copy of a rejected version has its tags, and never had a commit
        promotion.record.write(State.ROLLED_BACK, f"{reason} The branch has no commit of it.")
    raise StageEnded(State.ROLLED_BACK, problem)


def _end_overtaken(promotion: Promotion, committed: CommittedPromotion, by: CommittedPromotion) -> None:
    _take_lease(promotion)
    version, other = promotion.version, by.identity.version
    found = f"version {other} promoted after it (commit {by.commit.commit[:12]})"
    problem = Problem(str(version), "the newest promotion", found, "Promote a newer version.")
    if is_verified(promotion.clients.git, committed):
        promotion.record.write(State.FORMER_CHAMPION, f"Verified, and then replaced by version {other}.")
        raise StageEnded(State.FORMER_CHAMPION, problem)
    record_ended(promotion, committed, "Error", Decided(OURS, str(problem)))
    promotion.record.write(State.ROLLED_BACK, str(problem))
    raise StageEnded(State.ROLLED_BACK, problem)


def _take_lease(promotion: Promotion) -> None:
    if not promotion.lease.is_held:
        promotion.lease.acquire()
