"""Whose approvals of a version count: of people in the policy's list, for exactly this image, each person once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.deployed import parse_address
from orchestration.promotion.policy import ApprovalPolicy

_MOST_REMARKS = 5


@dataclass(frozen=True)
class Approvals:
    """The approvals that a version has."""

    rule: ApprovalPolicy
    given: Mapping[str, Act]
    """The act that counts, by the approver's name as the policy has it."""
    remarks: tuple[str, ...]
    """Why other approvals do not count, one statement each."""

    @property
    def are_enough(self) -> bool:
        """Whether as many people have approved as the policy asks for."""
        return len(self.given) >= self.rule.count

    @property
    def wanted(self) -> str:
        """What the policy asks for, as a noun phrase."""
        signed = "signed approval" if self.rule.signed else "approval"
        return f"{signed} by {self.rule.count} of {', '.join(approver.name for approver in self.rule.by)}"

    @property
    def found(self) -> str:
        """What there is, with the remarks."""
        names = ", ".join(self.given)
        given = f"approval by {names}{'' if self.are_enough else ' alone'}" if names else "no approval yet"
        return "; ".join((given, *self.remarks))


def count_approvals(
    rule: ApprovalPolicy, acts: Sequence[Act], version: int, digest: str, signers: Mapping[str, str]
) -> Approvals:
    """Count the approvals of one version's image.

    Args:
        rule: What the policy asks for.
        acts: The policy's acts, newest first.
        version: The version to commit.
        digest: The digest of its image as it would be committed.
        signers: By a tag's name, the approver whose key signed it; only used when the policy asks for signatures.
    """
    approvals = [act for act in acts if act.kind is ActKind.APPROVE]
    listed = {approver.name.casefold(): approver.name for approver in rule.by}
    given: dict[str, Act] = {}
    faults: dict[str, str] = {}
    for act in reversed(approvals):  # the first that counts is kept, and the last fault
        claimed = listed.get(act.by.casefold())
        name = signers.get(act.tag) if rule.signed else claimed
        who = name or claimed or act.by or "someone without a name"
        fault = _fault(act, version, digest, None if name else _not_theirs(rule, claimed))
        if name is not None and fault is None:
            if name in given:
                faults[name] = f"{name} approved it more than once, which counts once"
            else:
                given[name] = act
                faults.pop(name, None)
        elif who not in given and fault is not None and (who in listed.values() or act.version == version):
            faults[who] = f"{who} {fault}"
    return Approvals(rule, given, tuple(faults.values())[-_MOST_REMARKS:])


def _not_theirs(rule: ApprovalPolicy, claimed: str | None) -> str:
    if claimed is None:
        return "approved it and is not in the policy's list" + (" by the signature" if rule.signed else "")
    return "is named by an approval that the key in the policy did not sign"


def _fault(act: Act, version: int, digest: str, not_theirs: str | None) -> str | None:
    """Say why an approval does not count, after the name of who made it; None when it does."""
    if act.version != version:
        return f"approved version {act.version} last" if act.version is not None else "approved no version"
    if not_theirs is not None:
        return not_theirs
    if act.digest != digest:
        if parse_address(act.image) is not None:
            return f"approved the address {act.image}, and it has another one now"
        return f"approved the image {_short(act.digest)}, and the image is {_short(digest)} now"
    return None


def _short(digest: str | None) -> str:
    return digest[:19] if digest is not None else "without a digest"
