"""Asking for a promotion by hand: promote this version, or try it again after its promotion has ended."""

from orchestration.promotion.branch_standing import committed_promotions
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.model_version import ModelVersion, not_registered, policy_tags
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, GitOpsRepository, Registry
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.sensor_rules import is_new, request_tags
from orchestration.promotion.state import State
from orchestration.promotion.summary import summary_tag


def request_promotion(registry: Registry, clock: Clock, policy: Policy, number: int) -> None:
    """Make a version the challenger, and record when that was requested.

    A version that has been requested before keeps the time of that request.

    Raises:
        InvalidInputError: there is no such version, or its promotion has ended and only `incumbent retry` begins
            another.
    """
    version = _existing(registry, policy, number)
    state = version.state(policy.name)
    if state in (State.REFUSED, State.REJECTED, State.ROLLED_BACK):
        reason = version.tag(policy.name, "reason") or "no recorded reason"
        raise InvalidInputError(
            Problem(
                str(version),
                "a version whose promotion has not ended",
                f"{state} ({reason})",
                how_to_retry(policy.name, number),
            )
        )
    if is_new(version, policy.name):
        _write(registry, clock, policy, version, request_tags(clock.now()))
    registry.set_alias(version, policy.challenger_alias)


def retry_promotion(
    registry: Registry, git: GitOpsRepository, clock: Clock, policy: Policy, number: int, reason: str
) -> int:
    """Try a version once more after its promotion has ended; the reason is kept on the version.

    Returns:
        The number of the attempt, from 1.

    Raises:
        InvalidInputError: there is no such version, or its promotion has not ended: it continues by itself, or the
            version is champion.
    """
    version = _existing(registry, policy, number)
    state = version.state(policy.name)
    if state not in (State.REFUSED, State.SUPERSEDED, State.ROLLED_BACK, State.HELD):
        next_step = {
            None: f"Request its promotion first: incumbent register {policy.name} {number}.",
            State.CHAMPION: "No action needed.",
            State.REJECTED: "Its rollback has not finished: materialize its partition, then retry.",
        }.get(state, "No action needed: the promotion continues by itself.")
        raise InvalidInputError(
            Problem(
                str(version),
                "a version whose promotion has ended",
                str(state or "a version that was never requested"),
                next_step,
            )
        )
    committed = committed_promotions(git.history(git.fetch(), policy.name), policy.name)
    attempts = [promotion for promotion in committed if promotion.identity.version == number]
    under_way = bool(attempts) and attempts[0].rollback is None and state is State.HELD
    tags = request_tags(clock.now())
    tags["state"] = str(State.COMMITTED if under_way else State.REQUESTED)
    attempt = len(attempts) + (not under_way)
    tags |= {"reason": f"retried: {reason}", "held_by": "", "attempt": str(attempt)}
    _write(registry, clock, policy, version, tags)
    registry.set_alias(version, policy.challenger_alias)
    return attempt


def _existing(registry: Registry, policy: Policy, number: int) -> ModelVersion:
    version = registry.version(policy.model, number)
    if version is None:
        raise InvalidInputError(not_registered(policy.model, number))
    return version


def _write(registry: Registry, clock: Clock, policy: Policy, version: ModelVersion, tags: dict[str, str]) -> None:
    reason, commit = tags.get("reason", ""), version.tag(policy.name, "commit")
    summary = summary_tag(version, policy.name, State(tags["state"]), clock.now(), reason=reason, commit=commit)
    registry.write_tags(version, {**summary, **policy_tags(policy.name, tags)})
