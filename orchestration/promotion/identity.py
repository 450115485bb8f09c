"""How a promotion is named: its id, its commits' subjects and trailers, its evidence, its Dagster partition."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.promotion.deployed import Deployed, ModelAddress, parse_address, pinned_digest
from orchestration.promotion.images import short_digest
from orchestration.promotion.live_before import TOLD_APART
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.retries import retried_because
from orchestration.promotion.state import State
from orchestration.promotion.texts import one_line
from orchestration.promotion.timestamps import format_time, parse_time

_PROMOTION_ID = re.compile(
    r"(?P<policy>[a-z0-9][-a-z0-9]{0,62})/(?P<version>[1-9][0-9]{0,17})"
    r"/(?P<digest>[0-9a-f]{12})/(?P<attempt>[1-9][0-9]{0,17})"
)


@dataclass(frozen=True)
class PromotionId:
    """A promotion's id, `<policy>/<version>/<12 digits of the digest>/<attempt>`; one id never has two commits."""

    policy: str
    version: int
    digest: str
    """The first 12 hexadecimal digits of the sha256 of the image, or of the address's text."""
    attempt: int

    def __str__(self) -> str:
        return f"{self.policy}/{self.version}/{self.digest}/{self.attempt}"

    @property
    def evidence_tag(self) -> str:
        """The annotated Git tag that says this promotion was verified."""
        return f"incumbent/{self.policy}/{self.version}-{self.attempt}"

    @property
    def proposal(self) -> str:
        """The name of the proposal by which this promotion waits for the merge of its pull request."""
        return f"{self.policy}/promote-{self.version}-{self.attempt}"

    @property
    def rollback_proposal(self) -> str:
        """The same of its rollback."""
        return f"{self.policy}/rollback-{self.version}-{self.attempt}"

    @property
    def return_proposal(self) -> str:
        """The same of a return to a former champion, whose commit has this id."""
        return f"{self.policy}/return-{self.version}-{self.attempt}"

    @property
    def evidence_path(self) -> str:
        """The artifact of the training run that holds every measurement of this promotion's gate."""
        return f"incumbent/{self.policy}/{self.version}-{self.attempt}.json"


def promotion_id(policy: str, version: int, deployed: Deployed, attempt: int) -> PromotionId:
    """Name the promotion of an image, which must be pinned by digest, or of an address."""
    return PromotionId(policy, version, short_digest(pinned_digest(deployed)), attempt)


def parse_promotion_id(text: str) -> PromotionId | None:
    """Parse `text` as a promotion id; None unless all of it matches."""
    match = _PROMOTION_ID.fullmatch(text)
    if match is None:
        return None
    return PromotionId(match["policy"], int(match["version"]), match["digest"], int(match["attempt"]))


def promotion_subject(identity: PromotionId) -> str:
    """The subject line of a promotion's commit."""
    return f"Promote {identity.policy} to version {identity.version}"


def promotion_trailers(identity: PromotionId, version: ModelVersion, deployed: Deployed) -> dict[str, str]:
    """The trailers that identify and explain a promotion's commit.

    Texts from the registry are put on one line, so that none of them can forge a trailer (design rule 9).
    """
    requested_at = parse_time(version.tag(identity.policy, "requested_at"))
    why = retried_because(version, identity.policy)
    requested = {} if requested_at is None else {"Requested-At": format_time(requested_at)}
    return {
        "Promotion-Id": str(identity),
        "Model": one_line(version.model),
        "Model-Version": str(version.version),
        "MLflow-Run": one_line(version.run_id or "") or "none",
        **_committed_trailer(deployed),
        **requested,
        **({"Retried-Because": one_line(why)} if why else {}),
    }


MODEL_ADDRESS = "Model-Address"
"""The trailer of the commits and acts of a policy that deploys addresses; images have `Image-Digest` and `Image`."""


def _committed_trailer(deployed: Deployed) -> dict[str, str]:
    if isinstance(deployed, ModelAddress):
        return {MODEL_ADDRESS: deployed.text}
    return {"Image-Digest": deployed.digest or "none"}


def committed_digest(trailers: Mapping[str, str]) -> str:
    """Return the digest of what a commit or an act names by its trailers; empty when they name nothing."""
    address = parse_address(trailers.get(MODEL_ADDRESS, ""))
    return address.digest if address is not None else trailers.get("Image-Digest", "")


def restored(trailers: Mapping[str, str]) -> str:
    """Return the image or the address that a rollback's commit put back, by its trailers; empty without any."""
    return trailers.get(MODEL_ADDRESS) or trailers.get("Image", "")


def committed_facts(trailers: Mapping[str, str]) -> dict[str, str | None]:
    """Return what a promotion's commit put there, as the evidence keeps it."""
    if MODEL_ADDRESS in trailers:
        told_apart = {"told_apart": trailers[TOLD_APART]} if TOLD_APART in trailers else {}
        return {"model_address": trailers[MODEL_ADDRESS], **told_apart}
    return {"image_digest": trailers.get("Image-Digest")}


def rollback_subject(identity: PromotionId, target: str) -> str:
    """The subject line of a rollback's commit; `target` is what it restores, such as `version 2`."""
    return f"Roll back {identity.policy} from version {identity.version} to {target}"


ABORTED = "Aborted"
"""The verdict of a rollback by which a person ended a promotion."""


def rollback_trailers(identity: PromotionId, verdict: str, restores: str, reason: str) -> dict[str, str]:
    """The trailers of a rollback's commit; `verdict` is `Failed`, `Error` or `Aborted`.

    `restores` is the image or the address that it puts back.
    """
    name = "Image" if parse_address(restores) is None else MODEL_ADDRESS
    return {"Rollback-Of": str(identity), "Verdict": verdict, name: restores, "Reason": one_line(reason)}


def how_to_retry(policy: str, version: int) -> str:
    """The next step for a version that has ended: only this command lets it be promoted again."""
    return f"To try the version again: incumbent retry {policy} {version} --reason '...'."


def how_to_return(policy: str, version: int) -> str:
    """The next step for a version that was the champion before: its evidence is kept, and this command uses it."""
    return f"To go back to it: incumbent rollback {policy} {version} --reason '...'."


def how_to_adopt(policy: str, version: int) -> str:
    """The next step for a version that may serve already without a promotion: this command proves it as it is."""
    return f"If it serves already, make it the champion as it is: incumbent adopt {policy} {version} --reason '...'."


def how_to_promote(policy: str, version: ModelVersion) -> str:
    """The command that makes a version serve which does not: none of the others would take it."""
    state, number = version.state(policy), version.version
    if state in (State.CHAMPION, State.FORMER_CHAMPION):
        return how_to_return(policy, number)
    if state in (State.REFUSED, State.ROLLED_BACK, State.REJECTED, State.HELD):
        return how_to_retry(policy, number)
    return f"To promote it: incumbent register {policy} {number}."


def partition_key(policy: str, version: int) -> str:
    """The Dagster partition of one version under one policy, such as `iris-classifier-edge@7`."""
    return f"{policy}@{version}"


def parse_partition_key(key: str) -> tuple[str, int] | None:
    """Parse a partition key into policy and version; None unless all of it matches."""
    match = re.fullmatch(r"([a-z0-9][-a-z0-9]{0,62})@([1-9][0-9]{0,17})", key)
    return (match[1], int(match[2])) if match else None
