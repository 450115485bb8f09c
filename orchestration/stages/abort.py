"""Ending a promotion that is under way, for a person: its image is taken back, or it is refused before its commit."""

from dataclasses import dataclass

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.branch_standing import CommittedPromotion
from orchestration.promotion.branch_view import acts
from orchestration.promotion.decided import Decided
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import parse_time
from orchestration.stages.by_hand import promotion_of, read_if_possible, under_way, unread_version
from orchestration.stages.results import Checklist
from orchestration.stages.rollback import ABORTED, take_back
from orchestration.stages.stage import Promotion

_NOT_COMMITTED = (None, State.SUPERSEDED, State.REQUESTED, State.WAITING, State.HELD)
"""States of a challenger that goes on by itself although nothing of it is committed, or that a person may resume."""


@dataclass(frozen=True)
class UnderWay:
    """What an abort ends: a committed promotion, or else a challenger that is not committed yet."""

    committed: CommittedPromotion | None
    challenger: ModelVersion | None


def find_under_way(desk: Promotion) -> UnderWay:
    """Find what is under way now.

    Raises:
        InvalidInputError: it was verified already, and only the alias is missing.
        StageEnded: the manifest cannot be read for this policy.
        DependencyError: Git does not answer; or the registry does not, while nothing is committed.
    """
    view = desk.look()
    committed = under_way(desk, view)
    if committed is not None:
        return UnderWay(committed, None)
    policy = desk.policy
    version = desk.clients.registry.version_by_alias(policy.model, policy.challenger_alias)
    if version is None:
        return UnderWay(None, None)
    live = [made for made in view.promotions if made.identity.version == version.version and made.rollback is None]
    state = version.state(policy.name)
    if live and state is not None and state.is_under_way_on_branch:
        found = f"a version that was verified already (Git tag {live[0].identity.evidence_tag})"
        next_step = f"Leave it as a champion: incumbent rollback {policy.name} --reason '...'."
        raise InvalidInputError(Problem(str(version), "a promotion that is not verified yet", found, next_step))
    is_pending = state in _NOT_COMMITTED and not (live and version.attempt(policy.name) <= live[0].identity.attempt)
    return UnderWay(None, version if is_pending else None)


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
    if found.challenger is not None:
        return _refuse(desk, found.challenger, decided)
    return "It ended by itself in the meantime: nothing to abort."


def _take_back(desk: Promotion, committed: CommittedPromotion, decided: Decided) -> str:
    number = committed.identity.version
    read = read_if_possible(desk, number)
    known = read if isinstance(read, ModelVersion) else unread_version(desk.policy, number)
    promotion = promotion_of(desk.clients, desk.policy, known, desk.lease, desk.say)
    note = take_back(promotion, committed, f"Aborted by {decided}.", ABORTED, decided)
    return f"version {number} of {desk.policy.model} was aborted: {note}"


def _refuse(desk: Promotion, version: ModelVersion, decided: Decided) -> str:
    """Record the act in Git, and refuse the version."""
    policy, now = desk.policy, desk.clients.clock.now()
    desk.clients.git.record_act(
        Act(policy.name, ActKind.ABORT, now, decided.by, decided.reason, version.version, verdict=ABORTED)
    )
    record = promotion_of(desk.clients, policy, version, desk.lease, desk.say).record
    record.write(State.REFUSED, f"Aborted by {decided}. Nothing was committed.")
    return f"version {version.version} of {policy.model} was aborted before its commit."


def require_not_aborted(promotion: Promotion, checklist: Checklist) -> None:
    """End a stage whose version a person aborted after it was requested, while this run judged it without the lease.

    Raises:
        StageEnded: it was aborted.
    """
    policy, version = promotion.policy, promotion.version
    requested_at = parse_time(version.tag(policy.name, "requested_at")) or 0.0
    made = (act for act in acts(promotion.clients.git, policy.name) if act.kind is ActKind.ABORT)
    act = next((act for act in made if act.version == version.version), None)
    if act is not None and act.at >= requested_at:
        found = f"aborted by {Decided(act.by, act.reason)}"
        problem = Problem(str(version), "a promotion to go on with", found, how_to_retry(policy.name, version.version))
        raise checklist.failed("one_commit", problem)
