"""What happens to a committed promotion that could not be judged: it is held, or taken back without being rejected."""

from orchestration.promotion.branch_standing import CommittedPromotion
from orchestration.promotion.problems import Problem
from orchestration.promotion.returns import is_return
from orchestration.promotion.state import State
from orchestration.stages.results import StageEnded
from orchestration.stages.rollback import roll_back
from orchestration.stages.stage import Promotion


def not_judged(promotion: Promotion, committed: CommittedPromotion, ended: StageEnded) -> StageEnded:
    """Do what the policy prescribes for a promotion that could not be judged (design rule 6).

    A champion that is looked at again was judged before, and stays what it is. A return is held whatever the policy
    says: a person left what served before.

    Returns:
        The exception to raise: held as given, or rolled back.
    """
    if promotion.record.state is State.CHAMPION:
        return ended
    if promotion.policy.gate.when_unjudged == "hold" or is_return(committed):
        hold(promotion, ended.problem)
        return ended
    roll_back(promotion, committed, ended.problem, reject=False)
    return StageEnded(State.ROLLED_BACK, ended.problem, ended.checks)


def hold(promotion: Promotion, problem: Problem) -> None:
    """Leave the commit as it is, and write why the promotion is held and how to leave that state."""
    way_out = (
        "Held: it goes on by itself when the cause ends (or materialize rollout and serving_model); "
        f"to give it up: incumbent abort {promotion.policy.name} --reason '...'."
    )
    promotion.record.write(State.HELD, f"{problem} {way_out}")
