"""How a promotion is named: its id, its commits' subjects and trailers, its evidence, its Dagster partition."""

import re
from dataclasses import dataclass

from orchestration.promotion.images import ImageRef
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.retries import retried_because
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
    """The first 12 hexadecimal digits of the image's sha256."""
    attempt: int

    def __str__(self) -> str:
        return f"{self.policy}/{self.version}/{self.digest}/{self.attempt}"

    @property
    def evidence_tag(self) -> str:
        """The annotated Git tag that says this promotion was verified."""
        return f"incumbent/{self.policy}/{self.version}-{self.attempt}"

    @property
    def evidence_path(self) -> str:
        """The artifact of the training run that holds every measurement of this promotion's gate."""
        return f"incumbent/{self.policy}/{self.version}-{self.attempt}.json"


def promotion_id(policy: str, version: int, image: ImageRef, attempt: int) -> PromotionId:
    """Name the promotion of an image, which must be pinned by digest."""
    assert image.digest is not None, "a promotion's image is always pinned by digest"
    return PromotionId(policy, version, image.digest.removeprefix("sha256:")[:12], attempt)


def parse_promotion_id(text: str) -> PromotionId | None:
    """Parse `text` as a promotion id; None unless all of it matches."""
    match = _PROMOTION_ID.fullmatch(text)
    if match is None:
        return None
    return PromotionId(match["policy"], int(match["version"]), match["digest"], int(match["attempt"]))


def promotion_subject(identity: PromotionId) -> str:
    """The subject line of a promotion's commit."""
    return f"Promote {identity.policy} to version {identity.version}"


def promotion_trailers(identity: PromotionId, version: ModelVersion, image: ImageRef) -> dict[str, str]:
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
        "Image-Digest": image.digest or "none",
        **requested,
        **({"Retried-Because": one_line(why)} if why else {}),
    }


def rollback_subject(identity: PromotionId, target: str) -> str:
    """The subject line of a rollback's commit; `target` is what it restores, such as `version 2`."""
    return f"Roll back {identity.policy} from version {identity.version} to {target}"


def rollback_trailers(identity: PromotionId, verdict: str, image: str, reason: str) -> dict[str, str]:
    """The trailers of a rollback's commit; `verdict` is `Failed` or `Error`, `image` the image that it restores."""
    return {"Rollback-Of": str(identity), "Verdict": verdict, "Image": image, "Reason": one_line(reason)}


def how_to_retry(policy: str, version: int) -> str:
    """The next step for a version that has ended: only this command lets it be promoted again."""
    return f"To try the version again: incumbent retry {policy} {version} --reason '...'."


def how_to_return(policy: str, version: int) -> str:
    """The next step for a version that was the champion before: its evidence is kept, and this command uses it."""
    return f"To go back to it: incumbent rollback {policy} {version} --reason '...'."


def partition_key(policy: str, version: int) -> str:
    """The Dagster partition of one version under one policy, such as `iris-classifier-edge@7`."""
    return f"{policy}@{version}"


def parse_partition_key(key: str) -> tuple[str, int] | None:
    """Parse a partition key into policy and version; None unless all of it matches."""
    match = re.fullmatch(r"([a-z0-9][-a-z0-9]{0,62})@([1-9][0-9]{0,17})", key)
    return (match[1], int(match[2])) if match else None


def one_line(text: str) -> str:
    """Put a text on one line, so that none of its lines can pass for a trailer."""
    return " ".join(text.split())
