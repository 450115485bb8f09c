"""Holding a policy and letting it go on: a hold keeps new versions from being committed, and stops nothing else."""

from orchestration.promotion.acts import Act, ActKind, current_hold
from orchestration.promotion.branch_standing import committed_promotions
from orchestration.promotion.branch_view import acts, unfinished
from orchestration.promotion.permission import describe
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, GitOpsRepository


def hold_policy(git: GitOpsRepository, clock: Clock, policy: Policy, by: str, reason: str) -> str:
    """Hold a policy: nothing new is committed until it is resumed. Only Git is needed.

    Returns:
        What was done, and what is under way nevertheless, for a person.

    Raises:
        DependencyError: the Git server does not answer.
    """
    made = acts(git, policy.name)
    held = current_hold(made)
    under_way = _under_way(git, policy, made)
    if held is None:
        git.record_act(Act(policy.name, ActKind.HOLD, clock.now(), by, reason))
    done = f"{policy.name} is held already {describe(held)}" if held is not None else f"{policy.name} is held"
    return f"{done}: nothing new is committed until `incumbent resume {policy.name} --reason '...'`.{under_way}"


def resume_policy(git: GitOpsRepository, clock: Clock, policy: Policy, by: str, reason: str) -> str:
    """Let a held policy go on.

    Returns:
        What was done, for a person.

    Raises:
        DependencyError: the Git server does not answer.
    """
    held = current_hold(acts(git, policy.name))
    if held is None:
        return f"{policy.name} is not held."
    git.record_act(Act(policy.name, ActKind.RESUME, clock.now(), by, reason))
    return f"{policy.name} is resumed; it was held {describe(held)}. What waited goes on by itself."


def _under_way(git: GitOpsRepository, policy: Policy, made: tuple[Act, ...]) -> str:
    """Say which committed promotion a hold does not stop, and what does, in a sentence; empty when there is none."""
    live = unfinished(git, committed_promotions(git.history(git.fetch(), policy.name), policy.name), made)
    if live is None:
        return ""
    return (
        f" Version {live.identity.version} is committed and is finished first; to stop it: "
        f"incumbent abort {policy.name} --reason '...'."
    )
