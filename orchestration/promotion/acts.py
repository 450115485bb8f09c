"""Acts: what people decided, and ends that no commit shows, as annotated tags that are only ever added.

An act is the tag `incumbent/<policy>/acts/<time>-<kind>[-<version>]`. Its name alone says what was done and when, so a
message that cannot be read never lifts a hold.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from orchestration.promotion.deployed import image_key, parse_address
from orchestration.promotion.identity import MODEL_ADDRESS, PromotionId, committed_digest, parse_promotion_id, restored
from orchestration.promotion.images import is_digest
from orchestration.promotion.texts import one_line, read_trailers


class ActKind(StrEnum):
    """What was decided or ended."""

    HOLD = "hold"
    """No new commit of the policy until it is resumed."""
    RESUME = "resume"
    APPROVE = "approve"
    """A version, by the digest of its image, may be committed."""
    ADOPT = "adopt"
    """What ran already was declared the champion."""
    ABORT = "abort"
    """A person ended a promotion before its commit."""
    ENDED = "ended"
    """A committed promotion ended without a rollback commit: someone had put another image there."""


@dataclass(frozen=True)
class Act:
    """One act under a policy: who did it, when and why, and what it is about."""

    policy: str
    kind: ActKind
    at: float
    """Seconds since the epoch, exact to the millisecond."""
    by: str
    reason: str
    version: int | None = None
    digest: str | None = None
    """The image that an approval or adoption is bound to, `sha256:<64 digits>`; of an address, its text's sha256."""
    image: str = ""
    """The image that the manifest had when it was adopted, as it stood there; empty in acts of other kinds.

    Of a policy that deploys addresses, the address that was approved or adopted.
    """
    promotion: PromotionId | None = None
    """The committed promotion that ended."""
    verdict: str = ""
    """How that promotion ended: `Failed`, `Error` or `Aborted`."""
    commit: str = ""
    """The head of the branch that the act was recorded on."""

    @property
    def tag(self) -> str:
        """The name of the act's tag."""
        about = f"-{self.version}" if self.version is not None else ""
        return f"{acts_prefix(self.policy)}{_stamp(self.at)}-{self.kind}{about}"

    @property
    def message(self) -> str:
        """The message of the act's tag: a subject line, and trailers of one line each."""
        about = f" version {self.version}" if self.version is not None else ""
        trailers = {
            "Version": str(self.version) if self.version is not None else "",
            **self._named,
            "Promotion-Id": str(self.promotion) if self.promotion is not None else "",
            "Verdict": self.verdict,
            "By": self.by,
            "Reason": self.reason,
        }
        lines = [f"{key}: {one_line(value)}" for key, value in trailers.items() if value]
        return f"{self.policy}: {self.kind}{about}\n\n" + "\n".join(lines) + "\n"

    @property
    def _named(self) -> dict[str, str]:
        """The trailers that name the image or the address."""
        if parse_address(self.image) is not None:
            return {MODEL_ADDRESS: self.image}
        return {"Image-Digest": self.digest or "", "Image": self.image}


def acts_prefix(policy: str) -> str:
    """The beginning of the names of a policy's acts."""
    return f"incumbent/{policy}/acts/"


_NAME = re.compile(
    r"incumbent/(?P<policy>[a-z0-9][-a-z0-9]{0,62})/acts/(?P<at>[0-9]{8}T[0-9]{6}\.[0-9]{3}Z)-(?P<kind>[a-z]+)"
    r"(?:-(?P<version>[1-9][0-9]{0,17}))?"
)


def parse_act(tag: str, message: str, commit: str) -> Act | None:
    """Read an act from its tag; None when the name is not an act's.

    Args:
        tag: The tag's name.
        message: The tag's message, without a signature. What it does not say is left empty.
        commit: The commit that the tag is on.
    """
    match = _NAME.fullmatch(tag)
    if match is None or match["kind"] not in set(ActKind):
        return None
    try:
        at = datetime.strptime(match["at"], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()
    except ValueError:  # the 30th of February
        return None
    said = read_trailers(message)
    digest = committed_digest(said)
    return Act(
        policy=match["policy"],
        kind=ActKind(match["kind"]),
        at=at,
        by=said.get("By", ""),
        reason=said.get("Reason", ""),
        version=int(match["version"]) if match["version"] else None,
        digest=digest if is_digest(digest) else None,
        image=restored(said),
        promotion=parse_promotion_id(said.get("Promotion-Id", "")),
        verdict=said.get("Verdict", ""),
        commit=commit,
    )


def newest_first(acts: Iterable[Act]) -> tuple[Act, ...]:
    """Sort acts by their time, the newest first."""
    return tuple(sorted(acts, key=lambda act: (act.at, act.tag), reverse=True))


def current_hold(acts: Sequence[Act]) -> Act | None:
    """Return the hold under which the policy is now; None when there is none, or it was resumed.

    Args:
        acts: The policy's acts, newest first.
    """
    latest = next((act for act in acts if act.kind in (ActKind.HOLD, ActKind.RESUME)), None)
    return latest if latest is not None and latest.kind is ActKind.HOLD else None


def _stamp(at: float) -> str:
    moment = datetime.fromtimestamp(round(at, 3), UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"


def is_adoption_of(act: Act, image: str) -> bool:
    """Whether an act declared an image the champion: by its digest, or as it stood in the manifest, as by a tag alone.

    Args:
        act: The act, of any kind.
        image: The image, as a manifest or a workload has it.
    """
    adopted = {image_key(known) for known in (act.digest, act.image) if known}
    return act.kind is ActKind.ADOPT and image_key(image) in adopted


def adopted_version(image: str, acts: Iterable[Act]) -> int | None:
    """Return the version that was adopted last with an image; None when it never was.

    Args:
        image: The image, as a manifest or a workload has it.
        acts: The policy's acts, newest first.
    """
    return next((act.version for act in acts if is_adoption_of(act, image)), None)
