"""Stage 1, `promotion_candidate`: decides whether a version may be promoted at all; nothing is committed here."""

from collections.abc import Mapping

from orchestration.promotion.branch_standing import MayCommit, OnBranch
from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.retries import retried_because
from orchestration.promotion.state import State
from orchestration.stages.judge_candidate import find_candidate, record_end
from orchestration.stages.results import Check, StageDone, StageEnded
from orchestration.stages.stage import Promotion, Stage


def examine(promotion: Promotion, view: BranchView) -> StageDone:
    """Decide whether the version is a candidate; one that is on the branch already passes, because it comes first.

    Raises:
        StageEnded: refused, superseded or waiting, with the checks that were judged until then. The state is written.
        DependencyError: a dependency does not answer; nothing was decided.
    """
    if isinstance(view.standing, OnBranch):
        committed = view.standing.promotion
        note = f"judged before commit {committed.commit.commit[:12]}; what is committed is finished first"
        facts = {
            promotion.policy.slot.noun: view.image,
            "attempt": committed.identity.attempt,
            "promotion_id": str(committed.identity),
        }
        checks = tuple(Check(name, True, note) for name in STAGE.checks)
        if _is_champion(promotion):
            already = f"Version {promotion.version.version} of {promotion.version.model} is the champion already."
            return StageDone(checks, facts, State.CHAMPION, already)
        return StageDone(checks, facts)
    if isinstance(view.standing, MayCommit):
        promotion.record.give_sign_of_life()
    try:
        candidate = find_candidate(promotion, view)
    except StageEnded as ended:
        record_end(promotion, ended)
        raise
    retried = retried_because(promotion.version, promotion.policy.name)
    facts = {
        promotion.policy.slot.noun: str(candidate.deployed),
        "attempt": candidate.attempt,
        "retried_because": retried,
    }
    return StageDone(candidate.checks, facts)


def _is_champion(promotion: Promotion) -> bool:
    if promotion.record.state is not State.CHAMPION:
        return False
    policy = promotion.policy
    named = promotion.clients.registry.version_by_alias(policy.model, policy.champion_alias)
    return named is not None and named.version == promotion.version.version


def _links(promotion: Promotion) -> Mapping[str, object]:
    version = promotion.version
    return {"version_url": promotion.clients.registry.version_url(version), "mlflow_run": version.run_id}


STAGE = Stage(
    name="promotion_candidate",
    description="A version that may be promoted: finished, good enough, no worse than the champion, and deployable.",
    kinds=frozenset({"mlflow"}),
    checks={
        "is_challenger": "The challenger alias names this version; it is newer than the champion and has not ended "
        "before.",
        "run_finished": "Its training run ended as FINISHED.",
        "quality": "Its metrics keep the policy's bounds and are no worse than the champion's, measured on the same "
        "data.",
        "recorded_requests_fit": "Its own recorded requests, and the champion's, fit its signature.",
        "image_published": "Its image is in the registry, by digest, for the nodes' architecture, and serves this "
        "version; or its model has an address, and the image that serves it is there.",
        "image_signed": "The image has a signature by the key or the identity that the policy names, if it names one.",
    },
    takes_lease=False,
    work=examine,
    links=_links,
)
