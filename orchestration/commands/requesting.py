"""Asking for a promotion by hand: promote this version, or try it again after its promotion has ended."""

from orchestration.promotion.branch_standing import committed_promotions, live_attempt
from orchestration.promotion.identity import how_to_retry, how_to_return
from orchestration.promotion.model_version import ModelVersion, not_registered, policy_tags
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, GitOpsRepository, Registry
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.retries import retry_tags
from orchestration.promotion.sensor_rules import is_held_by_person, is_new, request_tags
from orchestration.promotion.state import State
from orchestration.promotion.summary import state_and_reason, summary_tag

_MAY_BE_RETRIED = (State.REFUSED, State.SUPERSEDED, State.ROLLED_BACK, State.HELD)


def request_promotion(registry: Registry, clock: Clock, policy: Policy, number: int) -> bool:
    """Make a version the challenger, and record when that was requested.

    A version that has been requested before keeps the time of that request.

    Returns:
        Whether it is the challenger; False when it is the champion already, which stays what it is.

    Raises:
        InvalidInputError: there is no such version, or its promotion has ended, and the alias alone begins no other.
    """
    version = _existing(registry, policy, number)
    state = version.state(policy.name)
    _refuse_former_champion(registry, policy, version)
    if state is State.CHAMPION and _is_named_champion(registry, policy, version):
        return False
    is_held = is_held_by_person(version, policy.name)
    if state is not None and (state in (State.REFUSED, State.ROLLED_BACK, State.REJECTED) or is_held):
        next_step = _how_to_try_again(policy, version)
        found = state_and_reason(state, version.tag(policy.name, "reason"))
        raise InvalidInputError(Problem(str(version), "a version whose promotion goes on", found, next_step))
    if is_new(version, policy.name):
        _write(registry, clock, policy, version, request_tags(clock.now()))
    registry.set_alias(version, policy.challenger_alias)
    return True


def retry_promotion(
    registry: Registry, git: GitOpsRepository, clock: Clock, policy: Policy, number: int, *, by: str, reason: str
) -> int:
    """Try a version once more after its promotion has ended.

    Who asked, and why, is kept on the version for each retry, and goes into the promotion's commit.

    Returns:
        The number of the attempt, from 1.

    Raises:
        InvalidInputError: there is no such version, or its promotion has not ended: it continues by itself, or the
            version is or was the champion.
    """
    version = _existing(registry, policy, number)
    state = version.state(policy.name)
    _refuse_former_champion(registry, policy, version)
    committed = committed_promotions(git.history(git.fetch(), policy.name), policy.name)
    attempts = [promotion for promotion in committed if promotion.identity.version == number]
    is_under_way = live_attempt(version, policy.name, committed) is not None
    if state not in _MAY_BE_RETRIED and not (state is State.REJECTED and not is_under_way):
        raise InvalidInputError(_nothing_to_retry(policy, version))
    goes_on = is_under_way and state is State.HELD
    attempt = len(attempts) + (not goes_on)
    tags = request_tags(clock.now())
    tags |= retry_tags(tags["requested_at"], attempt, by, reason)
    tags["state"] = str(State.COMMITTED if goes_on else State.REQUESTED)
    tags |= {"reason": f"Tried again by {by}: {reason}", "held_by": "", "attempt": str(attempt)}
    _write(registry, clock, policy, version, tags)
    registry.set_alias(version, policy.challenger_alias)
    return attempt


def _nothing_to_retry(policy: Policy, version: ModelVersion) -> Problem:
    state = version.state(policy.name)
    found, next_step = {
        None: (
            "a version that was never requested",
            f"Request its promotion first: incumbent register {policy.name} {version.version}.",
        ),
        State.CHAMPION: ("the champion", "No action needed."),
        State.REJECTED: ("a version whose rollback is under way", _how_to_try_again(policy, version)),
    }.get(state, (f"a version that is {state}", "No action needed: the promotion continues by itself."))
    return Problem(str(version), "a version whose promotion has ended", found, next_step)


def _how_to_try_again(policy: Policy, version: ModelVersion) -> str:
    retry = how_to_retry(policy.name, version.version)
    if version.state(policy.name) is State.REJECTED:
        return f"The sensor finishes its rollback, and so does materializing its partition. {retry}"
    return retry


def _refuse_former_champion(registry: Registry, policy: Policy, version: ModelVersion) -> None:
    """Refuse a version that was the champion: what serves is newer, and only a rollback leads back to it.

    Raises:
        InvalidInputError: the version was the champion and is not now.
    """
    state = version.state(policy.name)
    if state not in (State.CHAMPION, State.FORMER_CHAMPION):
        return
    champion = registry.version_by_alias(policy.model, policy.champion_alias)
    if champion is not None and champion.version == version.version:
        return
    if champion is None and state is State.CHAMPION:  # someone removed the alias of what serves
        return
    successor = f"version {champion.version}" if champion is not None else "another version"
    found = f"a former champion, which {successor} has replaced"
    expected = "a version that has not been the champion yet"
    raise InvalidInputError(Problem(str(version), expected, found, how_to_return(policy.name, version.version)))


def _is_named_champion(registry: Registry, policy: Policy, version: ModelVersion) -> bool:
    named = registry.version_by_alias(policy.model, policy.champion_alias)
    return named is not None and named.version == version.version


def _existing(registry: Registry, policy: Policy, number: int) -> ModelVersion:
    version = registry.version(policy.model, number)
    if version is None:
        raise InvalidInputError(not_registered(policy.model, number))
    return version


def _write(registry: Registry, clock: Clock, policy: Policy, version: ModelVersion, tags: dict[str, str]) -> None:
    reason, commit = tags.get("reason", ""), version.tag(policy.name, "commit")
    summary = summary_tag(version, policy.name, State(tags["state"]), clock.now(), reason=reason, commit=commit)
    registry.write_tags(version, {**summary, **policy_tags(policy.name, tags)})
