"""Delivering a return to a former champion by a pull request: proposed once, waited for, closed when it is over.

The proposal's commit is the whole record of what a person decided, so that any run can go on with it.
"""

from typing import NoReturn

from orchestration.analysis.markdown import code
from orchestration.promotion.branch_view import image_at
from orchestration.promotion.decided import Decided, decided_in
from orchestration.promotion.identity import PromotionId
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.merge_wait import (
    abort_of_return,
    identity_of,
    is_overdue,
    leaves_what_serves,
    overdue,
    request_of,
    return_of,
    until,
)
from orchestration.promotion.model_version import not_registered
from orchestration.promotion.ports import FileEdit, Proposal, Pushed
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.pull_requests import (
    MergeOf,
    PullRequest,
    RequestText,
    asked_of,
    request_body,
    unmerged_return,
)
from orchestration.promotion.returns import RETURNS_FROM, return_subject
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import show_time
from orchestration.stages.pull_request import is_stale, persons_refusal, requests_of, rule_of, withdraw
from orchestration.stages.results import StageEnded
from orchestration.stages.stage import Promotion


def finish_proposed_return(promotion: Promotion) -> None:
    """Go on with a return to this version that waits for its merge, whatever the version's tags say.

    Raises:
        StageEnded: there was one.
        DependencyError: Git or the host does not answer.
    """
    returning = return_of(promotion.clients.git, promotion.policy.name) if promotion.clients.requests else None
    if returning is None or returning[1].version != promotion.version.version:
        return
    if not promotion.lease.is_held:
        promotion.lease.acquire()
    advance_return(promotion, *returning)


def advance_return(promotion: Promotion, proposal: Proposal, identity: PromotionId) -> NoReturn:
    """Open the request of a return, or find it, and end the stage until it is merged; or end the return.

    The requests of promotions are closed first: what is merged meanwhile would be what the return was not to leave.
    It has the deadline of a promotion's request: no version is promoted meanwhile, and it may have been forgotten.

    Raises:
        StageEnded: always: waiting for the merge, or refused.
        DependencyError: Git or the host does not answer.
    """
    rule, requests = rule_of(promotion), requests_of(promotion)
    request = request_of(requests, proposal)
    problem = _over(promotion, proposal, identity, request)
    if problem is not None:
        raise end_return(promotion, proposal, problem)
    if request is not None and is_overdue(rule, request, promotion.clients.clock.now()):
        late = overdue(promotion.version, "the merge of its return", rule, request).then(_again(promotion, identity))
        raise end_return(promotion, proposal, late, **unmerged_return(request))
    head = proposal.commit.commit
    if is_stale(proposal, request):
        head, request = _propose_again(promotion, proposal), None
    if request is None:
        _withdraw_promotions(promotion, identity)
        request = requests.open(proposal.branch, _text(promotion, proposal, identity))
    if rule.auto_merge is not None:
        requests.merge_when_ready(request.number, head, rule.auto_merge)
    decided = decided_in(proposal.commit.trailers)
    asked = asked_of(MergeOf.RETURN, request)
    if any(promotion.version.tag(promotion.policy.name, name) != value for name, value in asked.items()):
        waits = f"{request.as_it_is}, which is open until {show_time(until(rule, request))}"
        _note(promotion, f"To be brought back by {decided} with the merge of {waits}.", **asked)
    next_step = "Merge it, and the return goes on by itself (without a sensor: give the command again). "
    next_step += "Close it to keep what serves."
    raise StageEnded(
        State.WAITING, Problem(str(promotion.version), "the merge of its return", request.as_it_is, next_step)
    )


def end_return(promotion: Promotion, proposal: Proposal, problem: Problem, **facts: str) -> StageEnded:
    """Close the request of a return that is over before its merge, and return how the stage ends.

    Args:
        promotion: The version that would have come back.
        proposal: The return's proposal.
        problem: Why it is over.
        facts: Further version tags.

    Raises:
        StageEnded: it was merged in the meantime, and is finished.
        DependencyError: Git or the host does not answer.
    """
    withdraw(promotion, proposal, f"Closed: {code(problem)}")
    _note(promotion, f"Was not brought back: {problem.found}.", **facts)
    return StageEnded(State.REFUSED, problem)


def superseded_return(promotion: Promotion, other: int, decided: Decided) -> Problem:
    """Say that a person now wants to go back to another version than a proposed return would."""
    found = f"a later return to version {other} by {decided}"
    return Problem(str(promotion.version), "the merge of its return", found, "No action needed.")


def _again(promotion: Promotion, identity: PromotionId) -> str:
    name, number = promotion.policy.name, identity.version
    return f"If it should serve all the same: incumbent rollback {name} {number} --reason '...'."


def _over(
    promotion: Promotion, proposal: Proposal, identity: PromotionId, request: PullRequest | None
) -> Problem | None:
    """Say why a return is over before its merge; None while it is to be merged.

    Raises:
        StageEnded: it was merged, and the next run goes on from the branch.
    """
    git, policy, expected = promotion.clients.git, promotion.policy, "the merge of its return"
    again = _again(promotion, identity)
    if promotion.record.is_gone:
        return not_registered(policy.model, identity.version)
    act = abort_of_return(git, proposal)
    if act is not None:
        return Problem(str(promotion.version), expected, f"an abort by {Decided(act.by, act.reason)}", again)
    refused = persons_refusal(promotion, proposal, request)
    if refused is not None:
        return Problem(str(promotion.version), expected, f"that {refused}", again)
    if leaves_what_serves(git, policy, proposal, git.fetch()):
        return None
    left = proposal.commit.trailers.get(RETURNS_FROM, "")
    found = f"{promotion.look().image} in {policy.manifest.path}, which is not what it was to leave ({left})"
    return Problem(str(promotion.version), expected, found, again)


def _propose_again(promotion: Promotion, proposal: Proposal) -> str:
    """Make the same change anew on the newest head, and return its commit.

    Raises:
        InvalidInputError: someone changed the image just now, so the next run ends the return.
    """
    git, policy = promotion.clients.git, promotion.policy
    before, after = image_at(git, policy, proposal.commit.parent), image_at(git, policy, proposal.commit.commit)
    assert before is not None, "what it leaves was read just now"
    assert after is not None, "it was proposed by this policy"

    def decide(head: str) -> FileEdit:
        edit = set_image(promotion.view_at(head).content, policy, after, expected=before)
        if isinstance(edit, EditRefused):
            raise InvalidInputError(edit.problem)
        assert isinstance(edit, Edited), "a return puts another image there"
        return FileEdit(policy.manifest.path, edit.content, proposal.commit.subject, proposal.commit.trailers)

    pushed: Pushed | None = promotion.lease.propose(proposal.name, decide)
    assert pushed is not None, "an edit is pushed"
    return pushed.commit


def _withdraw_promotions(promotion: Promotion, identity: PromotionId) -> None:
    """Close the requests of promotions, whose versions wait for the return; they are opened again after it.

    Raises:
        StageEnded: one of them was merged in the meantime, and is finished first.
    """
    for proposal in promotion.clients.git.proposals(promotion.policy.name):
        if identity_of(proposal) is not None:
            withdraw(promotion, proposal, f"Closed until it is decided about a return to version {identity.version}.")


def _text(promotion: Promotion, proposal: Proposal, identity: PromotionId) -> RequestText:
    policy, trailers = promotion.policy, proposal.commit.trailers
    facts = {
        "model": f"{policy.model} version {identity.version}",
        "page": promotion.clients.registry.version_url(promotion.version),
        policy.slot.noun: image_at(promotion.clients.git, policy, proposal.commit.commit) or "",
        "file": policy.manifest.path,
        "leaves": trailers.get(RETURNS_FROM, ""),
        "asked for by": trailers.get("By", ""),
        "reason": trailers.get("Reason", ""),
    }
    intro = f"Brings version {identity.version} back, which was verified under policy {code(policy.name)} before."
    return RequestText(return_subject(identity), request_body(MergeOf.RETURN, intro, facts, (), code, str(identity)))


def _note(promotion: Promotion, reason: str, **facts: str) -> None:
    """Write on the version what becomes of its return; a version that cannot be read or written stays as it is."""
    state = promotion.record.state
    if state is None:
        return
    try:
        promotion.record.write(state, reason, **facts)
    except DependencyError as error:
        promotion.say(f"going on without the registry: {error}")
