"""What became of the pull requests of a policy: which were merged, and whether a version still waits for its merge.

Git decides what it can: a request whose commit, or whose commit's trailers, the branch has was merged. Only of a commit
that lost its trailers, as squashing may do, does the host's word count, and only for the image that was proposed.
"""

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.branch_view import act_tags, image_at, parse_acts
from orchestration.promotion.decided import decided_in
from orchestration.promotion.identity import PromotionId, parse_promotion_id
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.permission import BLOCKED_TAG, Blocked
from orchestration.promotion.policy import Policy, PullRequestPolicy
from orchestration.promotion.ports import GitOpsRepository, Proposal
from orchestration.promotion.problems import Problem
from orchestration.promotion.pull_requests import MERGE_TAG, PullRequest, PullRequests, RequestState
from orchestration.promotion.returns import RETURNS_FROM
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import parse_time, show_time


def identity_of(proposal: Proposal) -> PromotionId | None:
    """Return the promotion that a proposal would bring to the branch; None for a return, which a person asked for."""
    return None if RETURNS_FROM in proposal.commit.trailers else _brings(proposal)


def returned_by(proposal: Proposal) -> PromotionId | None:
    """Return the promotion by which a proposal would bring a former champion back; None for any other."""
    return _brings(proposal) if RETURNS_FROM in proposal.commit.trailers else None


def _brings(proposal: Proposal) -> PromotionId | None:
    return parse_promotion_id(proposal.commit.trailers.get("Promotion-Id", ""))


def taken_back_by(proposal: Proposal) -> PromotionId | None:
    """Return the promotion that a proposal would take back; None for one that promotes."""
    return parse_promotion_id(proposal.commit.trailers.get("Rollback-Of", ""))


def rollback_of(git: GitOpsRepository, promotion: PromotionId) -> Proposal | None:
    """Return the proposal that would take a promotion back; None when there is none."""
    proposals = git.proposals(promotion.policy)
    return next((proposal for proposal in proposals if proposal.name == promotion.rollback_proposal), None)


def return_of(git: GitOpsRepository, policy: str) -> tuple[Proposal, PromotionId] | None:
    """Return the proposal that would bring a former champion back, and its promotion; None when there is none."""
    known = ((proposal, returned_by(proposal)) for proposal in git.proposals(policy))
    return next(((proposal, identity) for proposal, identity in known if identity is not None), None)


def proposed_of(git: GitOpsRepository, policy: str, version: int) -> Proposal | None:
    """Return what is proposed of a version, the newest attempt if there is more than one."""
    known = [(identity_of(proposal), proposal) for proposal in git.proposals(policy)]
    own = [(who.attempt, proposal) for who, proposal in known if who is not None and who.version == version]
    return max(own, key=lambda entry: entry[0])[1] if own else None


def request_of(requests: PullRequests, proposal: Proposal) -> PullRequest | None:
    """Return the request of a proposal; one that ended before the proposal was made is not its."""
    request = requests.find(proposal.branch)
    if request is None or request.ended_at is None or request.ended_at >= proposal.commit.committed_at:
        return request
    return None


def recognise_merges(
    git: GitOpsRepository, requests: PullRequests | None, policy: Policy, version: int | None = None
) -> None:
    """Take note in Git of what was merged, so that the branch's history has it from the next look on.

    Args:
        git: The repository.
        requests: The host's requests; None for a policy that opens none, of which nothing is asked.
        policy: The policy.
        version: The one version whose proposals matter; None for all.

    Raises:
        DependencyError: Git or the host does not answer, so that nobody knows.
    """
    if requests is None:
        return
    for proposal in git.proposals(policy.name):
        identity = _brings(proposal) or taken_back_by(proposal)
        if identity is None or version not in (None, identity.version):
            continue
        history = git.history(git.fetch(), policy.name)
        own = {name: proposal.commit.trailers.get(name) for name in ("Promotion-Id", "Rollback-Of")}
        if any(own == {name: commit.trailers.get(name) for name in own} for commit in history):
            git.conclude(proposal, None)
            continue
        request = request_of(requests, proposal)
        if request is not None and is_merged_as_proposed(git, policy, proposal, request):
            git.conclude(proposal, request.merge_commit)


def is_merged_as_proposed(git: GitOpsRepository, policy: Policy, proposal: Proposal, request: PullRequest) -> bool:
    """Whether a request's merge is on the branch, with exactly what was proposed in the manifest."""
    if request.state is not RequestState.MERGED or not git.is_ancestor(request.merge_commit, git.fetch()):
        return False
    proposed = image_at(git, policy, proposal.commit.commit)
    return proposed is not None and image_at(git, policy, request.merge_commit) == proposed


def until(rule: PullRequestPolicy, request: PullRequest) -> float:
    """Return when a request's time to be merged is over, in seconds since the epoch."""
    return request.opened_at + rule.merge_deadline


def is_overdue(rule: PullRequestPolicy, request: PullRequest, now: float) -> bool:
    """Whether a request is still open although its time is over."""
    return request.state is RequestState.OPEN and now >= until(rule, request)


def overdue(version: ModelVersion, expected: str, rule: PullRequestPolicy, request: PullRequest) -> Problem:
    """Say that nobody merged a request in its time."""
    found = f"{request}, which nobody merged until {show_time(until(rule, request))}"
    return Problem(str(version), expected, found, "To give it more time: delivery.pull_request.merge_deadline.")


def must_be_rebuilt(proposal: Proposal, request: PullRequest) -> bool:
    """Whether a request cannot be merged as it is, and nobody else has worked on its branch."""
    return request.has_conflict and request.head in ("", proposal.commit.commit)


def unmerged(rule: PullRequestPolicy, version: ModelVersion, request: PullRequest) -> Problem:
    """Say that a version waits for the merge of its request, and what people can do."""
    found = f"{request}, which is open until {show_time(until(rule, request))}"
    next_step = "Merge it, or close it to refuse the version; the promotion goes on by itself."
    if request.has_conflict:
        found += ", conflicts with the branch, and was changed by someone else"
        next_step = "Solve the conflict and merge it, or close it to refuse the version."
    return Problem(str(version), "the merge of its pull request", found, next_step)


def still_unmerged(
    git: GitOpsRepository, requests: PullRequests | None, policy: Policy, version: ModelVersion, now: float
) -> Blocked | None:
    """Look again at a version of which a run has said that it waits for a merge; None when a run has work to do.

    Raises:
        DependencyError: Git or the host does not answer.
    """
    rule = policy.delivery.pull_request
    is_waiting = version.state(policy.name) is State.WAITING and version.tag(policy.name, BLOCKED_TAG)
    if requests is None or rule is None or not is_waiting:
        return None
    proposal = proposed_of(git, policy.name, version.version)
    request = request_of(requests, proposal) if proposal is not None else None
    if proposal is None or request is None or request.state is not RequestState.OPEN:
        return None
    if must_be_rebuilt(proposal, request) or is_overdue(rule, request, now):
        return None
    if abort_of(parse_acts(act_tags(git, policy.name)), version, policy.name) is not None:
        return None
    return Blocked(unmerged(rule, version, request), None)


def rollback_waits(git: GitOpsRepository, requests: PullRequests | None, policy: Policy, version: ModelVersion) -> bool:
    """Whether the rollback of a version waits for the merge of its request, so that a run would do nothing.

    Raises:
        DependencyError: Git or the host does not answer.
    """
    if requests is None or version.state(policy.name) not in (State.REJECTED, State.HELD, State.COMMITTED):
        return False
    known = [(taken_back_by(proposal), proposal) for proposal in git.proposals(policy.name)]
    proposal = next((proposal for back, proposal in known if back and back.version == version.version), None)
    request = request_of(requests, proposal) if proposal is not None else None
    if proposal is None or request is None or request.state is not RequestState.OPEN:
        return False
    return request.url in (version.tag(policy.name, MERGE_TAG) or "") and not must_be_rebuilt(proposal, request)


def return_first(version: ModelVersion, returning: tuple[Proposal, PromotionId]) -> Problem:
    """Say that a version is not promoted before it is decided about a return that a person asked for."""
    proposal, identity = returning
    decided = decided_in(proposal.commit.trailers)
    found = f"a return to version {identity.version} by {decided}, whose request waits for its merge"
    next_step = "Merge or close that request, from branch " + proposal.branch + "; then this version goes on by itself."
    return Problem(str(version), "no other promotion under way", found, next_step)


def still_after_return(
    git: GitOpsRepository, requests: PullRequests | None, policy: Policy, version: ModelVersion
) -> Blocked | None:
    """Look again at a version that may wait for the end of a return; None when none is proposed.

    Raises:
        DependencyError: Git does not answer.
    """
    returning = return_of(git, policy.name) if requests is not None else None
    return Blocked(return_first(version, returning), None) if returning is not None else None


def return_waits(
    git: GitOpsRepository, requests: PullRequests, policy: Policy, proposal: Proposal, version: ModelVersion, now: float
) -> bool:
    """Whether a return waits for people to merge its request, so that a run would do nothing.

    Args:
        git: The repository, whose branch was fetched.
        requests: The host's requests.
        policy: The policy.
        proposal: The return's proposal.
        version: The version that it would bring back.
        now: The present.

    Raises:
        DependencyError: Git or the host does not answer.
    """
    rule, request = policy.delivery.pull_request, request_of(requests, proposal)
    if request is None or request.state is not RequestState.OPEN or must_be_rebuilt(proposal, request):
        return False
    if rule is not None and is_overdue(rule, request, now):
        return False
    is_said = version.state(policy.name) is None or request.url in (version.tag(policy.name, MERGE_TAG) or "")
    return is_said and leaves_what_serves(git, policy, proposal, git.fetch()) and abort_of_return(git, proposal) is None


def leaves_what_serves(git: GitOpsRepository, policy: Policy, proposal: Proposal, head: str) -> bool:
    """Whether the manifest at a head still has what a return was to leave when it was proposed."""
    before = image_at(git, policy, proposal.commit.parent)
    return before is not None and before == image_at(git, policy, head)


def abort_of_return(git: GitOpsRepository, proposal: Proposal) -> Act | None:
    """Return the act by which a person ended a return since it was asked for; None when nobody did."""
    identity = returned_by(proposal)
    if identity is None:
        return None
    made = parse_acts(act_tags(git, identity.policy))
    return _abort_since(made, identity.version, proposal.commit.trailers.get("Requested-At"))


def abort_of(made: tuple[Act, ...], version: ModelVersion, policy: str) -> Act | None:
    """Return the act by which a person ended a version's promotion since it was requested; None when nobody did.

    Args:
        made: The policy's acts, newest first.
        version: The version.
        policy: The policy's name.
    """
    return _abort_since(made, version.version, version.tag(policy, "requested_at"))


def _abort_since(made: tuple[Act, ...], version: int, requested_at: str | None) -> Act | None:
    """Return the newest abort of a version; one from before a request was made is not about that request."""
    act = next((act for act in made if act.kind is ActKind.ABORT and act.version == version), None)
    return act if act is not None and act.at >= (parse_time(requested_at) or 0.0) else None
