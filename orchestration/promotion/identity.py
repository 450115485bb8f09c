"""The names by which a promotion is found again: its id, its commits' subjects and trailers, its tag, its lease."""

import re
from dataclasses import dataclass

from orchestration.promotion.images import ImageRef
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.timestamps import format_time, parse_time

_PROMOTION_ID = re.compile(
    r"(?P<policy>[a-z0-9][-a-z0-9]{0,62})/(?P<version>[1-9][0-9]{0,17})"
    r"/(?P<digest>[0-9a-f]{12})/(?P<attempt>[1-9][0-9]{0,17})"
)


@dataclass(frozen=True)
class PromotionId:
    """`<policy>/<version>/<first 12 of the digest>/<attempt>`: the identity that makes a promotion one commit."""

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
    """The id of a promotion of an image that is pinned by digest."""
    assert image.digest is not None, "a promotion's image is always pinned by digest"
    return PromotionId(policy, version, image.digest.removeprefix("sha256:")[:12], attempt)


def parse_promotion_id(text: str) -> PromotionId | None:
    """The promotion id that `text` is, whole; None when it is none."""
    match = _PROMOTION_ID.fullmatch(text)
    if match is None:
        return None
    return PromotionId(match["policy"], int(match["version"]), match["digest"], int(match["attempt"]))


def promotion_subject(identity: PromotionId) -> str:
    return f"Promote {identity.policy} to version {identity.version}"


def promotion_trailers(identity: PromotionId, version: ModelVersion, image: ImageRef) -> dict[str, str]:
    """The trailers that a promotion's commit is found and explained by.

    What the registry says is put on one line, so that none of it can become a trailer of its own (design rule 9).
    """
    requested_at = parse_time(version.tag(identity.policy, "requested_at"))
    asked = {} if requested_at is None else {"Requested-At": format_time(requested_at)}
    return {
        "Promotion-Id": str(identity),
        "Model": _one_line(version.model),
        "Model-Version": str(version.version),
        "MLflow-Run": _one_line(version.run_id or "") or "none",
        "Image-Digest": image.digest or "none",
        **asked,
    }


def rollback_subject(identity: PromotionId, target: str) -> str:
    """`target` is what serves again, such as `version 2` or `the image before`."""
    return f"Roll back {identity.policy} from version {identity.version} to {target}"


def rollback_trailers(identity: PromotionId, verdict: str, image: str) -> dict[str, str]:
    """The trailers of the commit that takes a promotion back; `verdict` is `Failed` or `Error`."""
    return {"Rollback-Of": str(identity), "Verdict": verdict, "Image": image}


def how_to_retry(policy: str, version: int) -> str:
    """The only way back for a version that has ended, as a next step."""
    return f"To try it again on purpose: incumbent retry {policy} {version} --reason '...'."


def partition_key(policy: str, version: int) -> str:
    """The Dagster partition of one version under one policy: `iris-classifier-edge@7`."""
    return f"{policy}@{version}"


def parse_partition_key(key: str) -> tuple[str, int] | None:
    """Policy and version of a partition key; None when it is none."""
    match = re.fullmatch(r"([a-z0-9][-a-z0-9]{0,62})@([1-9][0-9]{0,17})", key)
    return (match[1], int(match[2])) if match else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
