"""Delivering a promotion's commit by a pull request: opened once, waited for, and closed when it is not to be merged.

Nothing here waits by itself. A run that finds a request open ends as waiting, and the sensor looks at the request.
"""

from collections.abc import Callable
from typing import TypeVar

from orchestration.analysis.markdown import code
from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.identity import PromotionId
from orchestration.promotion.merge_wait import (
    identity_of,
    is_merged_as_proposed,
    is_overdue,
    must_be_rebuilt,
    overdue,
    proposed_of,
    recognise_merges,
    request_of,
    rollback_of,
    unmerged,
)
from orchestration.promotion.permission import BLOCKED_TAG, DIGEST_TAG
from orchestration.promotion.policy import Policy, PullRequestPolicy
from orchestration.promotion.ports import FileEdit, Proposal, Pushed, proposal_branch
from orchestration.promotion.problems import Problem
from orchestration.promotion.pull_requests import (
    MERGE_TAG,
    MergeOf,
    PullRequest,
    PullRequests,
    RequestState,
    RequestText,
    asked_of,
    request_body,
)
from orchestration.promotion.retries import retried_because
from orchestration.promotion.state import State
from orchestration.stages.results import Check, Checklist, StageEnded
from orchestration.stages.stage import Promotion
from orchestration.stages.version_record import VersionRecord

Decision = TypeVar("Decision")
_PENDING = (None, State.REQUESTED, State.WAITING)
_SOMEONE = "someone on the Git host"
_ITS_ROLLBACK = " Its rollback is "
"""What follows a version's reason while its rollback waits for a merge."""


def request_text(promotion: Promotion, identity: PromotionId, deployed: str, checks: tuple[Check, ...]) -> RequestText:
    """Compose what people read before they merge: what changes, and the evidence so far."""
    policy, version = promotion.policy, promotion.version
    facts = {
        "model": f"{version.model} version {version.version}",
        "page": promotion.clients.registry.version_url(version),
        "training run": version.run_id or "none",
        policy.slot.noun: deployed,
        "file": policy.manifest.path,
        "retried because": retried_because(version, policy.name) or "",
    }
    intro = f"Puts version {version.version} into place under policy {code(policy.name)}."
    proved = [(check.name, check.summary) for check in checks if check.passed]
    title = f"Promote {policy.name} to version {version.version}"
    return RequestText(title, request_body(MergeOf.PROMOTION, intro, facts, proved, code, str(identity)))


def deliver_by_request(
    promotion: Promotion,
    identity: PromotionId,
    digest: str,
    decide: Callable[[str], FileEdit | Decision],
    text: RequestText,
    checklist: Checklist,
) -> Pushed | Decision:
    """Open the request of a promotion, or find it, and end the stage as waiting for its merge.

    A request is looked for before one is opened, so that a run that died never leads to a second one. What cannot be
    merged any more as it is, or has another image than the candidate has now, is made anew on the newest head.

    Returns:
        What `decide` returned instead of an edit, when it was asked; never a push, because that is waited for.

    Raises:
        StageEnded: the request is open, and waited for; or its time is over.
        DependencyError: Git or the host does not answer.
    """
    rule, requests = rule_of(promotion), requests_of(promotion)
    proposal = proposed_of(promotion.clients.git, promotion.policy.name, promotion.version.version)
    if proposal is not None and identity_of(proposal) != identity:
        withdraw(promotion, proposal, f"Closed: the version has another {promotion.policy.slot.noun} now.")
        proposal = None
    request = request_of(requests, proposal) if proposal is not None else None
    _require_not_ended(promotion, request, State.WAITING)
    head = proposal.commit.commit if proposal is not None else ""
    if proposal is None or is_stale(proposal, request):
        pushed: Pushed | Decision = promotion.lease.propose(identity.proposal, decide)
        if not isinstance(pushed, Pushed):
            return pushed
        head, request = pushed.commit, None
    if request is None:
        request = requests.open(proposal_branch(identity.proposal), text)
        promotion.say(f"waiting for the merge of {request}")
    if is_overdue(rule, request, promotion.clients.clock.now()):
        late = overdue(promotion.version, "the merge of its pull request", rule, request)
        raise checklist.failed("one_commit", late.then(promotion.how_to_retry))
    if rule.auto_merge is not None:
        requests.merge_when_ready(request.number, head, rule.auto_merge)
    problem = unmerged(rule, promotion.version, request)
    facts = {DIGEST_TAG: digest, BLOCKED_TAG: problem.fingerprint, "seen_at": ""}
    facts |= asked_of(MergeOf.PROMOTION, request)
    raise checklist.failed("one_commit", problem, State.WAITING, facts=facts)


def rolls_back_by_request(policy: Policy) -> bool:
    """Whether a policy's rollbacks, and returns to former champions, are delivered by pull requests, too."""
    rule = policy.delivery.pull_request
    return rule is not None and rule.rollbacks == "pull_request"


def deliver_rollback(
    promotion: Promotion,
    identity: PromotionId,
    decide: Callable[[str], FileEdit | Decision],
) -> Pushed | Decision:
    """Open the request that takes a promotion back, or find it, and end the stage until it is merged.

    Returns:
        What `decide` returns instead of an edit: the rollback is on the branch, or there is nothing to take back.
        Never a push, because that is waited for.

    Raises:
        StageEnded: the request is open; or a person closed it, and holds the version by that.
        DependencyError: Git or the host does not answer.
    """
    rule, requests, git = rule_of(promotion), requests_of(promotion), promotion.clients.git
    name = identity.rollback_proposal
    proposal = rollback_of(git, identity)
    decided = decide(git.fetch())
    if not isinstance(decided, FileEdit):
        if proposal is not None:
            withdraw(promotion, proposal, "Closed: the manifest has another image already.")
        return decided
    request = request_of(requests, proposal) if proposal is not None else None
    if request is not None and request.state is RequestState.CLOSED and not request.was_withdrawn:
        raise _rollback_refused(promotion, name, request)
    _require_not_ended(promotion, request, State.REJECTED)
    head = proposal.commit.commit if proposal is not None else ""
    if proposal is None or is_stale(proposal, request):
        pushed: Pushed | Decision = promotion.lease.propose(name, decide)
        if not isinstance(pushed, Pushed):
            return pushed
        head, request = pushed.commit, None
    if request is None:
        request = requests.open(proposal_branch(name), _rollback_text(identity, decided))
    if rule.auto_merge is not None:
        requests.merge_when_ready(request.number, head, rule.auto_merge)
    raise _wait_for_rollback(promotion, request)


def _rollback_text(identity: PromotionId, edit: FileEdit) -> RequestText:
    facts = {name: edit.trailers.get(name, "") for name in ("Verdict", "Image", "Model-Address", "By", "Reason")}
    intro = f"Takes version {identity.version} back, which serves now."
    return RequestText(edit.subject, request_body(MergeOf.ROLLBACK, intro, facts, (), code, str(identity)))


def _wait_for_rollback(promotion: Promotion, request: PullRequest) -> StageEnded:
    """Write on the version which request takes it back, once, and return how the stage ends."""
    known, name = promotion.record.state, promotion.policy.name
    state = known if known is not None and known.is_under_way_on_branch else State.COMMITTED
    reason = promotion.version.tag(name, "reason") or "Taken back."
    asked = asked_of(MergeOf.ROLLBACK, request)
    if asked[MERGE_TAG] != promotion.version.tag(name, MERGE_TAG):
        promotion.record.write(
            state, f"{reason.partition(_ITS_ROLLBACK)[0]}{_ITS_ROLLBACK}{request.as_it_is}.", **asked
        )
    next_step = "Merge it; the rollback then goes on by itself. Close it to let the version serve."
    problem = Problem(str(promotion.version), "the merge of its rollback", str(request), next_step)
    return StageEnded(State.REJECTED, problem)


def _rollback_refused(promotion: Promotion, name: str, request: PullRequest) -> StageEnded:
    """Hold the version by the person who closed its rollback's request, and return how the stage ends."""
    policy, by = promotion.policy.name, request.by or _SOMEONE
    next_step = f"It serves still. To take it back: incumbent abort {policy} --reason '...'."
    problem = Problem(str(promotion.version), "the merge of its rollback", f"that {by} closed {request}", next_step)
    promotion.record.write(State.HELD, str(problem), held_by="person")
    promotion.lease.withdraw(name)
    return StageEnded(State.HELD, problem)


def _require_not_ended(promotion: Promotion, request: PullRequest | None, state: State) -> None:
    """End a stage that finds its request merged or closed since it began: the next run finds out what that means.

    Raises:
        StageEnded: it was.
    """
    if request is not None and request.state is not RequestState.OPEN and not request.was_withdrawn:
        raise _just_ended(promotion, request, state)


def _just_ended(promotion: Promotion, request: PullRequest, state: State) -> StageEnded:
    next_step = "No action needed: the promotion goes on by itself when the branch has it."
    found = f"{request}, which was {request.state} just now"
    return StageEnded(state, Problem(str(promotion.version), "the merge of its pull request", found, next_step))


def is_stale(proposal: Proposal, request: PullRequest | None) -> bool:
    """Whether a proposal must be made anew before anyone can merge it."""
    return request is not None and (request.was_withdrawn or must_be_rebuilt(proposal, request))


def require_not_refused(promotion: Promotion, checklist: Checklist) -> None:
    """End a stage whose version a person refused on the Git host: by closing its request, or merging something else.

    That is recorded in Git as an abort by that person, so that the version is not proposed again by itself.

    Raises:
        StageEnded: it was refused.
        DependencyError: Git or the host does not answer.
    """
    git, policy, requests = promotion.clients.git, promotion.policy, promotion.clients.requests
    proposal = proposed_of(git, policy.name, promotion.version.version) if requests is not None else None
    request = request_of(requests, proposal) if requests is not None and proposal is not None else None
    refused = persons_refusal(promotion, proposal, request) if proposal is not None else None
    if refused is not None:
        expected = "the merge of its pull request"
        problem = Problem(str(promotion.version), expected, f"that {refused}", promotion.how_to_retry)
        raise checklist.failed("one_commit", problem)


def persons_refusal(promotion: Promotion, proposal: Proposal, request: PullRequest | None) -> str | None:
    """Record in Git that a person refused a proposal on the Git host, and return who did what; None when nobody did.

    Raises:
        StageEnded: it was merged, and the next run goes on from the branch.
        DependencyError: Git does not answer.
    """
    git, policy = promotion.clients.git, promotion.policy
    if request is None or request.state is RequestState.OPEN or request.was_withdrawn:
        return None
    what = f"closed {request}"
    if request.state is RequestState.MERGED:
        is_there = git.is_ancestor(request.merge_commit, git.fetch())
        if not is_there or is_merged_as_proposed(git, policy, proposal, request):
            raise _just_ended(promotion, request, State.WAITING)
        what = f"merged {request} with another {policy.slot.noun} than was proposed"
    by = request.by or _SOMEONE
    promotion.lease.confirm()
    now = promotion.clients.clock.now()
    git.record_act(Act(policy.name, ActKind.ABORT, now, by, what, promotion.version.version))
    return f"{by} {what}"


def withdraw_others(promotion: Promotion) -> None:
    """Close the requests of other versions, which this one supersedes, and say so on these versions.

    Raises:
        StageEnded: one of them was merged in the meantime, and is finished first.
        DependencyError: Git or the host does not answer.
    """
    policy, clients = promotion.policy, promotion.clients
    if clients.requests is None:
        return
    for proposal in clients.git.proposals(policy.name):
        identity = identity_of(proposal)
        if identity is None or identity.version == promotion.version.version:
            continue
        why = f"superseded by version {promotion.version.version}, which alias {policy.challenger_alias} names now."
        withdraw(promotion, proposal, f"Closed: {why}")
        other = clients.registry.version(policy.model, identity.version)
        if other is not None and other.state(policy.name) in _PENDING:
            record = VersionRecord(clients.registry, clients.clock, policy, other, promotion.lease)
            record.write(State.SUPERSEDED, why.capitalize())


def end_request(promotion: Promotion, ended: StageEnded) -> None:
    """Close the request of a version whose promotion ended before its commit, or may not be committed now.

    Raises:
        StageEnded: it was merged in the meantime, so the promotion goes on; or another run holds the lease.
        DependencyError: Git or the host does not answer.
    """
    is_forbidden = any(check.name == "allowed" and not check.passed for check in ended.checks)
    if promotion.clients.requests is None or (ended.state is State.WAITING and not is_forbidden):
        return
    proposal = proposed_of(promotion.clients.git, promotion.policy.name, promotion.version.version)
    if proposal is not None:
        if not promotion.lease.is_held:
            promotion.lease.acquire()
        withdraw(promotion, proposal, f"Closed: {code(ended.problem)}")


def withdraw(promotion: Promotion, proposal: Proposal, why: str) -> None:
    """Close a proposal's request with a comment, then delete the proposal; safe to begin again at any point.

    Raises:
        StageEnded: it was merged as proposed in the meantime, so it is on the branch.
        DependencyError: Git or the host does not answer.
    """
    git, policy, requests = promotion.clients.git, promotion.policy, requests_of(promotion)
    request = request_of(requests, proposal)
    if request is not None and request.state is RequestState.OPEN:
        promotion.say(f"closing {request}: {why}")
        promotion.lease.confirm()
        request = requests.close(request.number, why)
    if request is not None and is_merged_as_proposed(git, policy, proposal, request):
        recognise_merges(git, requests, policy)
        next_step = "No action needed: what is on the branch is finished first, by itself."
        found = f"{request}, which was merged in the meantime"
        raise StageEnded(State.WAITING, Problem(str(promotion.version), "to close the request", found, next_step))
    promotion.lease.withdraw(proposal.name)


def requests_of(promotion: Promotion) -> PullRequests:
    """The Git host's requests, of a policy that delivers by them."""
    assert promotion.clients.requests is not None, "the policy delivers by pull requests"
    return promotion.clients.requests


def rule_of(promotion: Promotion) -> PullRequestPolicy:
    """How a policy delivers that does so by pull requests."""
    assert promotion.policy.delivery.pull_request is not None, "the policy delivers by pull requests"
    return promotion.policy.delivery.pull_request
