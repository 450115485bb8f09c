"""The evidence of a promotion: one JSON document beside the version's training run, named by its digest in Git."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from orchestration.promotion.cluster_status import PodStatus
from orchestration.promotion.identity import PromotionId
from orchestration.stages.stage import Promotion


def put_evidence(promotion: Promotion, identity: PromotionId, document: Mapping[str, object]) -> str:
    """Put a document in the evidence's place under the lease, and return its digest, `sha256:<64 digits>`.

    Raises:
        StageEnded: the lease was lost, and nothing was written.
    """
    run_id = promotion.version.run_id
    assert run_id is not None, "what is kept beside a run needs the run"
    content = json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()
    promotion.lease.confirm()
    promotion.clients.registry.put_artifact(run_id, identity.evidence_path, content)
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def pods_as_record(pods: Sequence[PodStatus]) -> list[Mapping[str, object]]:
    """Write pods as plain values for the evidence."""
    return [{"name": pod.name, "uid": pod.uid, "node": pod.node} for pod in pods]
