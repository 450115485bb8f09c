"""Stage 3, `rollout`: wait until the committed image is truly rolled out, or say why it cannot be."""

from collections.abc import Mapping

from orchestration.promotion.branch_view import BranchView
from orchestration.stages.judge_rollout import condition_rows, require_on_branch, wait_for
from orchestration.stages.results import Checklist, StageDone
from orchestration.stages.stage import Promotion, Stage


def roll_out(promotion: Promotion, view: BranchView) -> StageDone:
    """Wait for the rollout, and roll back in this run when it fails.

    Raises:
        StageEnded: rolled back (the model's fault), or held (it could not be judged).
    """
    committed = require_on_branch(promotion, view)
    checklist = Checklist()
    waited = wait_for(promotion, committed, view.image, checklist)
    seconds = {f"{name}_seconds": at - committed.commit.committed_at for name, at in waited.met_since.items()}
    pods = waited.workload.new_pods if waited.workload else ()
    checklist.passed("rolled_out", "all five conditions hold at once", condition_rows(waited), seconds)
    rows = [{"pod": pod.name, "node": pod.node or "", "ready": pod.ready} for pod in pods]
    template_hash = (waited.workload.template_hash or "") if waited.workload else ""
    return StageDone(tuple(checklist.checks), {"pods": rows, "template_hash": template_hash, **seconds})


def _links(promotion: Promotion) -> Mapping[str, object]:
    policy, target = promotion.policy, promotion.policy.manifest
    return {
        "argocd_application": f"{policy.argocd.namespace}/{policy.argocd.application}",
        "workload": f"{target.kind} {target.namespace}/{target.name} of cluster {policy.cluster}",
    }


STAGE = Stage(
    name="rollout",
    description="What was committed, live on every replica; or taken back when the model cannot come up.",
    kinds=frozenset({"argocd", "kubernetes"}),
    checks={
        "rolled_out": "Five conditions hold at once: revision, operation, live image, complete replicas, digests of "
        "their pods.",
    },
    takes_lease=True,
    work=roll_out,
    links=_links,
)
