"""A look of the sensor at one policy: which version is the challenger, and which runs to request and to resume."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from orchestration.promotion.branch_standing import committed_promotions, is_image_of
from orchestration.promotion.branch_view import image_at, other_under_way
from orchestration.promotion.merge_wait import (
    identity_of,
    recognise_merges,
    return_waits,
    returned_by,
    rollback_waits,
    still_after_return,
    still_unmerged,
    taken_back_by,
)
from orchestration.promotion.model_version import ModelVersion, policy_tags, tag_key
from orchestration.promotion.permission import DIGEST_TAG, Blocked, is_said, still_blocked
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, GitOpsRepository, ImageRegistry, LeaseRecord, Proposal, Registry
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.pull_requests import MERGE_TAG, MergeOf, PullRequests
from orchestration.promotion.returns import unfinished_return
from orchestration.promotion.sensor_rules import (
    FIRST_LOOK_SECONDS,
    FIRST_SIGN_SECONDS,
    IDLE_LOOK_SECONDS,
    IMAGE_LOOK_SECONDS,
    LONGEST_START_SECONDS,
    LOOK_AGAIN_SECONDS,
    REQUEST_LOOK_SECONDS,
    Memory,
    Request,
    answer_to_move,
    is_alive,
    is_cancelled,
    is_held_by_person,
    is_new,
    is_to_go_on,
    is_unfinished,
    looked_at,
    may_look,
    pause_after,
    request_tags,
)
from orchestration.promotion.state import State
from orchestration.promotion.summary import summary_tag
from orchestration.promotion.version_image import version_deployed
from orchestration.stages.settle import hold_by_person
from orchestration.stages.version_record import record_without_lease


class Runs(Protocol):
    """The runs that were requested so far, as whatever starts them remembers; by the tag of their request."""

    def cancelled(self, request: str) -> str | None:
        """Return the id of a request's newest run if a person cancelled it, or is about to have it cancelled."""

    def count(self, request: str) -> int:
        """Return how many runs of a request there were; none of them is ever started twice."""

    def is_young(self, request: str, *, created_after: float, started_after: float) -> bool:
        """Return whether a run of a request has no process and was created after a time, or got one after another.

        Args:
            request: The tag of the request.
            created_after: In seconds since the epoch.
            started_after: In seconds since the epoch.
        """


@dataclass(frozen=True)
class Look:
    """What a tick at one policy asks."""

    runs: Runs
    registry: Registry
    git: GitOpsRepository
    head: Callable[[], str]
    """Fetches the branch, unless that was done just now for another policy; raises what that raised."""
    clock: Clock
    pull_requests: Callable[[Policy], PullRequests | None]
    images: Callable[[], ImageRegistry]
    """Makes a client of the image registries, which few looks need."""


@dataclass(frozen=True)
class Named:
    """Which version the challenger alias named at a time."""

    version: ModelVersion | None
    at: float
    """After the question, in seconds since the epoch, so that no request is dated before its alias."""


def ask_alias(registry: Registry, clock: Clock, policy: Policy) -> Named:
    """Ask which version is the challenger."""
    version = registry.version_by_alias(policy.model, policy.challenger_alias)
    return Named(version, clock.now())


def look_at_policy(look: Look, policy: Policy, memory: Memory | None, answer: Named) -> tuple[list[Request], Memory]:
    """Decide what to run for one policy now, and what to remember.

    Args:
        look: What is asked.
        policy: The policy.
        memory: What is remembered of it.
        answer: Which version the challenger alias names.
    """
    requests, kept = _watch(look, policy, memory, answer)
    return requests, replace(kept, asked_at=answer.at)


def _watch(look: Look, policy: Policy, memory: Memory | None, asked: Named) -> tuple[list[Request], Memory]:
    version, now = asked.version, asked.at
    named = _number(version)
    if version is not None and is_new(version, policy.name):
        version = _write_request(look, policy, version, now)
    goes_on = version if version is not None and is_to_go_on(memory, version, policy.name) else None
    if memory is not None and memory.named == named:
        if goes_on is None and memory.version == named:
            memory = replace(memory, version=0)
        is_asked_again = goes_on is not None and memory.version == 0
        if now < memory.look_at and not is_asked_again:
            return [], memory
    # Git is read only here: the alias has moved, a promotion is unfinished and due, or a minute has passed.
    host = look.pull_requests(policy)
    recognise_merges(look.git, host, policy)
    seen = looked_at(memory, named, now)
    answer = answer_to_move(memory, version, policy.name) if version is not None else None
    requests = [answer] if answer is not None else []
    after = still_after_return(look.git, host, policy, version) if version is not None else None
    unfinished = _committed_first(look, policy, version) or _proposed(look, host, policy, named) or goes_on
    if unfinished is None:
        return requests, Memory(named, seen.named_at, look_at=now + _look_again(host, IDLE_LOOK_SECONDS))
    if not may_look(memory, unfinished.version, now):
        return requests, seen
    if _is_held_now(look, policy, unfinished):
        return requests, replace(seen, version=unfinished.version, look_at=now + LOOK_AGAIN_SECONDS)
    if rollback_waits(look.git, host, policy, unfinished):
        return requests, replace(seen, version=unfinished.version, look_at=now + REQUEST_LOOK_SECONDS)
    blocked = after or _still_waits(look, host, policy, unfinished, now) if unfinished.version == named else None
    if blocked is not None and is_said(unfinished, policy.name, blocked):
        seen = replace(seen, version=unfinished.version, look_at=now + _look_again(host, LOOK_AGAIN_SECONDS))
        if after is not None or policy.approval is None or now < seen.resolved_at + IMAGE_LOOK_SECONDS:
            return requests, seen
        seen = replace(seen, resolved_at=now)
        if not _is_pushed_again(look, policy, unfinished):
            return requests, seen
    request, look_at = _request(look, policy, unfinished)
    if request is not None:
        requests.append(request)
    if blocked is not None:  # the run only says what blocks it now, so the next look need not wait longer each time
        look_at = min(look_at, now + FIRST_LOOK_SECONDS)
    return requests, replace(seen, version=unfinished.version, look_at=look_at)


def _still_waits(
    look: Look, host: PullRequests | None, policy: Policy, version: ModelVersion, now: float
) -> Blocked | None:
    """Return what a challenger waits for without a run: permission, or the merge of its request."""
    blocked = still_blocked(look.git, policy, version, now)
    return blocked if blocked is not None else still_unmerged(look.git, host, policy, version, now)


def _look_again(host: PullRequests | None, without: float) -> float:
    """Return how soon to look again: at what waits on a Git host, which counts what it is asked, or else as given."""
    return without if host is None else REQUEST_LOOK_SECONDS


def _proposed(look: Look, host: PullRequests | None, policy: Policy, named: int) -> ModelVersion | None:
    """Return a version with something to do about a request, although the alias may not name it: a run does it.

    A return is gone on with, a promotion that the alias does not name any more is closed, and a rollback that was
    merged is finished.
    """
    if host is None:
        return None
    proposals = look.git.proposals(policy.name)
    for proposal in proposals:
        returned, promoted = returned_by(proposal), identity_of(proposal)
        if returned is not None and not _is_left_alone(look, host, policy, proposal, returned.version):
            return _known(look, policy, returned.version)
        if promoted is not None and promoted.version != named:
            return _known(look, policy, promoted.version)
    open_ones = {back.version for back in map(taken_back_by, proposals) if back is not None}
    asked = look.registry.tagged(tag_key(policy.name, MERGE_TAG), MergeOf.ROLLBACK)
    return next((known for known in asked if known.model == policy.model and known.version not in open_ones), None)


def _known(look: Look, policy: Policy, number: int) -> ModelVersion:
    return look.registry.version(policy.model, number) or ModelVersion(policy.model, number, None, None, {})


def _is_left_alone(look: Look, host: PullRequests, policy: Policy, proposal: Proposal, number: int) -> bool:
    """Whether a return waits for people, or for the command that is at work on it; a deleted version does neither."""
    if _is_leased(look, policy):
        return True
    version = look.registry.version(policy.model, number)
    return version is not None and return_waits(look.git, host, policy, proposal, version, look.clock.now())


def _number(version: ModelVersion | None) -> int:
    """Return the number of the version that an alias names; 0 for none, so that a quiet policy is remembered, too."""
    return version.version if version is not None else 0


def _write_request(look: Look, policy: Policy, version: ModelVersion, now: float) -> ModelVersion:
    summary = summary_tag(version, policy.name, State.REQUESTED, now)
    tags = {**summary, **policy_tags(policy.name, request_tags(now))}
    look.registry.write_tags(version, tags)
    return replace(version, tags={**version.tags, **tags})


def _committed_first(look: Look, policy: Policy, version: ModelVersion | None) -> ModelVersion | None:
    """Return another version that is committed and unfinished, which is finished before the challenger's turn.

    One that a person holds is left alone until its image was replaced. One that was deleted from the registry, or lost
    its tags, is known by its commit, and so is a return that a command began.
    """
    head = look.head()
    promotions = committed_promotions(look.git.history(head, policy.name), policy.name)
    returning = unfinished_return(look.git, promotions)
    if returning is not None:
        return _returning(look, policy, returning.identity.version)
    number = version.version if version is not None else None
    under_way = other_under_way(look.registry, look.git, policy, head, promotions, number)
    if under_way is None:
        return None
    committed, other = under_way
    if other is None or other.state(policy.name) is None:
        requested = {tag_key(policy.name, "requested_at"): committed.commit.trailers.get("Requested-At", "")}
        return ModelVersion(policy.model, committed.identity.version, None, None, requested)
    image = image_at(look.git, policy, head)
    replaced = image is not None and not is_image_of(committed.identity, image)
    return other if is_unfinished(other, policy.name) or replaced else None


def _returning(look: Look, policy: Policy, number: int) -> ModelVersion | None:
    """Return the version that a command began to bring back, unless someone is at work on it or a person holds it.

    Its state may be from before, because the registry did not answer, or the command died.
    """
    version = look.registry.version(policy.model, number)
    is_held = version is not None and is_held_by_person(version, policy.name)
    return None if is_held or _is_leased(look, policy) else version


def _is_pushed_again(look: Look, policy: Policy, version: ModelVersion) -> bool:
    """Return whether the image of a version that waits for approval is another one now, so that a run should say so.

    While nobody can tell, it is not: the run that would commit it resolves it again.
    """
    try:
        image = version_deployed(look.registry, look.images(), policy, version, "Push it.")
    except DependencyError:
        return False
    return isinstance(image, Problem) or image.digest != version.tag(policy.name, DIGEST_TAG)


def _is_held_now(look: Look, policy: Policy, version: ModelVersion) -> bool:
    """Hold a version whose last run a person cancelled before one of its stages could write that; say whether it is so.

    As long as that run still has the lease it is left to write it itself. A version that was deleted cannot be held.
    """
    cancelled = look.runs.cancelled(_first_request(policy, version).tag(policy.name))
    if cancelled is None or not is_cancelled(version, policy.name, cancelled):
        return False
    lease = _current_lease(look, policy)
    if lease is not None and lease.holder == cancelled:
        return True
    known = look.registry.version(policy.model, version.version)
    if known is None:
        return False
    record = record_without_lease(look.registry, look.git, look.clock, policy, known, cancelled)
    return hold_by_person(record, look.git, cancelled)


def _first_request(policy: Policy, version: ModelVersion) -> Request:
    return Request(version.version, version.tag(policy.name, "requested_at") or "by-hand", 0)


def _request(look: Look, policy: Policy, version: ModelVersion) -> tuple[Request | None, float]:
    """Request a run for an unfinished promotion, unless a run is at work on it; and say when to look again.

    A resume is numbered by the runs before it, because no run's key is ever started twice.
    """
    request = _first_request(policy, version)
    number = look.runs.count(request.tag(policy.name))
    if number > 0 and (_is_about_to_start(look, policy, request) or _is_worked_on(look, policy, version)):
        return None, look.clock.now() + LOOK_AGAIN_SECONDS
    return replace(request, number=number), look.clock.now() + pause_after(number)


def _is_worked_on(look: Look, policy: Policy, version: ModelVersion) -> bool:
    """Return whether a run holds the lease, or waits without one (for an image) and has just given a sign of life."""
    return _is_leased(look, policy) or is_alive(version, policy.name, look.clock.now())


def _is_leased(look: Look, policy: Policy) -> bool:
    return _current_lease(look, policy) is not None


def _current_lease(look: Look, policy: Policy) -> LeaseRecord | None:
    lease = look.git.lease(policy.argocd.application)
    return lease if lease is not None and lease.expires_at > look.clock.now() else None


def _is_about_to_start(look: Look, policy: Policy, request: Request) -> bool:
    """Return whether a run of this request is too young for a sign of life; another would only slow the machine down.

    After a while such a run is not believed, because a host that was killed leaves such runs behind.
    """
    now = look.clock.now()
    created_after, started_after = now - LONGEST_START_SECONDS, now - FIRST_SIGN_SECONDS
    return look.runs.is_young(request.tag(policy.name), created_after=created_after, started_after=started_after)
