"""What a person asks for by command: promote this version, or try it again after it had ended."""

from orchestration.promotion.branch_standing import committed_promotions
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.model_version import ModelVersion, policy_tags
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, GitOpsRepository, Registry
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.sensor_rules import is_new, request_tags
from orchestration.promotion.state import State


def request_promotion(registry: Registry, clock: Clock, policy: Policy, number: int) -> ModelVersion:
    """Make a version the challenger, and write when that was asked for.

    Raises:
        InvalidInputError: no such version, or it has ended before (then only `incumbent retry` brings it back).
    """
    version = _existing(registry, policy, number)
    state = version.state(policy.name)
    if state in (State.REFUSED, State.REJECTED, State.ROLLED_BACK):
        reason = version.tag(policy.name, "reason") or "no reason kept"
        raise InvalidInputError(
            Problem(
                str(version),
                "a version that has not ended yet",
                f"{state} ({reason})",
                how_to_retry(policy.name, number),
            )
        )
    if is_new(version, policy.name):
        _write(registry, policy, version, request_tags(clock.now()))
    registry.set_alias(version, policy.challenger_alias)
    return version


def retry_promotion(
    registry: Registry, git: GitOpsRepository, clock: Clock, policy: Policy, number: int, reason: str
) -> int:
    """Let a version that has ended be tried once more; the reason is kept on the version.

    Returns:
        The attempt that it will be.

    Raises:
        InvalidInputError: no such version, or it has not ended: it goes on by itself, or is champion.
    """
    version = _existing(registry, policy, number)
    state = version.state(policy.name)
    if state not in (State.REFUSED, State.SUPERSEDED, State.ROLLED_BACK, State.HELD):
        next_step = {
            None: f"Ask for it first: incumbent register {policy.name} {number}.",
            State.CHAMPION: "Nothing to do.",
            State.REJECTED: "Its rollback is not finished yet: materialize its partition, then retry.",
        }.get(state, "Nothing to do: it goes on by itself.")
        raise InvalidInputError(
            Problem(str(version), "a version that has ended", str(state or "never requested"), next_step)
        )
    found = committed_promotions(git.history(git.fetch(), policy.name), policy.name)
    attempts = [one for one in found if one.identity.version == number]
    under_way = bool(attempts) and attempts[0].rollback is None and state is State.HELD
    tags = request_tags(clock.now())
    tags["state"] = str(State.COMMITTED if under_way else State.REQUESTED)
    attempt = len(attempts) + (not under_way)
    tags |= {"reason": f"retried: {reason}", "held_by": "", "attempt": str(attempt)}
    _write(registry, policy, version, tags)
    registry.set_alias(version, policy.challenger_alias)
    return attempt


def _existing(registry: Registry, policy: Policy, number: int) -> ModelVersion:
    version = registry.version(policy.model, number)
    if version is None:
        raise InvalidInputError(
            Problem(
                f"version {number} of {policy.model}",
                "a registered model version",
                "none in the registry",
                "Register it, or correct the number.",
            )
        )
    return version


def _write(registry: Registry, policy: Policy, version: ModelVersion, tags: dict[str, str]) -> None:
    registry.write_tags(version, policy_tags(policy.name, tags))
