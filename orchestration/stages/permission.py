"""Asking whether a candidate may be committed now; whoever commits for the first time asks, and no rollback does."""

from collections.abc import Sequence

from orchestration.promotion.permission import BLOCKED_TAG, DIGEST_TAG, ask_permission
from orchestration.promotion.ports import TagRecord
from orchestration.promotion.state import State
from orchestration.stages.results import Checklist
from orchestration.stages.stage import Promotion


def require_permission(promotion: Promotion, digest: str, records: Sequence[TagRecord], checklist: Checklist) -> None:
    """End the stage as waiting while a hold, a freeze or a missing approval keeps this image from being committed.

    Args:
        promotion: The promotion.
        digest: The digest of the image.
        records: The tags of the policy's acts: as this stage read them, or read anew.
        checklist: Gets the check `allowed`.

    Raises:
        StageEnded: it must wait. What the version is written tells the sensor what to look for without a run.
    """
    now = promotion.clients.clock.now()
    permission = ask_permission(promotion.clients.git, promotion.policy, promotion.version, digest, records, now)
    rows = [{"what": finding.what, "finding": finding.finding} for finding in permission.findings]
    blocked = permission.blocked
    if blocked is not None:
        # This run is over as soon as that is written, so its sign of life must not keep the next one waiting.
        facts = {DIGEST_TAG: digest, BLOCKED_TAG: blocked.problem.fingerprint, "seen_at": ""}
        raise checklist.failed("allowed", blocked.problem, State.WAITING, rows, facts=facts)
    checklist.passed(
        "allowed", "; ".join(f"{finding.what}: {finding.finding}" for finding in permission.findings), rows
    )
