"""Approving a version: an act in Git that names the digest of its image, so that no other image can be committed."""

from collections.abc import Mapping

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.approvals import Approvals, count_approvals
from orchestration.promotion.branch_view import act_tags
from orchestration.promotion.deployed import ModelAddress
from orchestration.promotion.model_version import ModelVersion, not_registered
from orchestration.promotion.permission import read_approvals
from orchestration.promotion.policy import ApprovalPolicy, Policy
from orchestration.promotion.ports import Clock, GitOpsRepository, ImageRegistry, Registry, Sign
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.version_image import version_deployed

_PUSH_FIRST = "Push it first: an approval is of one image."


def approve_version(
    registry: Registry,
    images: ImageRegistry,
    git: GitOpsRepository,
    clock: Clock,
    policy: Policy,
    number: int,
    by: str,
    reason: str,
    sign: Sign | None = None,
) -> str:
    """Approve the image, or the address, that a version has now.

    Args:
        registry: The model registry.
        images: The image registry.
        git: The repository that keeps the approval.
        clock: The time of the approval.
        policy: The policy, which says whose approvals count.
        number: The version.
        by: Who approves, as the policy's list has the name.
        reason: Why.
        sign: Signs the approval; needed where the policy asks for signatures.

    Returns:
        What was done, and what is missing still, for a person.

    Raises:
        DependencyError: a dependency does not answer.
        InvalidInputError: the policy asks for no approval, this one would not count, or the version has no image.
    """
    rule = _rule(policy, by, signed=sign is not None)
    version = registry.version(policy.model, number)
    if version is None:
        raise InvalidInputError(not_registered(policy.model, number))
    image = version_deployed(registry, images, policy, version, _PUSH_FIRST)
    if isinstance(image, Problem):
        raise InvalidInputError(image)
    address = image.text if isinstance(image, ModelAddress) else ""
    given = f"the address {address} of {version}" if address else f"the image {image.digest} of {version}"
    before, _ = _approvals(git, policy, rule, version, image.digest)
    name = _counted_as(before, by)
    if name is not None:
        return f"{name} has already approved {given}: {_progress(before)}"
    approval = Act(policy.name, ActKind.APPROVE, clock.now(), by, reason, number, image.digest, address)
    act = git.record_act(approval, sign)
    after, signers = _approvals(git, policy, rule, version, image.digest)
    name = _counted_as(after, signers.get(act.tag, "") if rule.signed else by)
    if name is None:
        raise InvalidInputError(_not_counted(policy, act, after))
    is_new = after.given[name].tag == act.tag  # or else it was given twice at the same time, and is counted once
    return f"{name} {'approved' if is_new else 'has already approved'} {given}: {_progress(after)}"


def _counted_as(approvals: Approvals, by: str) -> str | None:
    """Return the name under which someone's approval counts; None when none of theirs does."""
    return next((name for name in approvals.given if name.casefold() == by.casefold()), None)


def _rule(policy: Policy, by: str, *, signed: bool) -> ApprovalPolicy:
    rule = policy.approval
    if rule is None:
        found, next_step = "no such field", "No action needed: its versions are committed without an approval."
        raise InvalidInputError(Problem(f"policy {policy.name}", "the field approval", found, next_step))
    names = [approver.name for approver in rule.by]
    if rule.signed and not signed:
        next_step = "Give --sign with the file of an OpenSSH private key, or the id of a key of GnuPG."
        expected = "a signature, because the policy counts no other approval"
        raise InvalidInputError(Problem(f"the approval by {by}", expected, "no key to sign with", next_step))
    if not rule.signed and by.casefold() not in map(str.casefold, names):
        expected, next_step = f"one of {', '.join(names)}", "Let one of them approve, or give that name with --by."
        raise InvalidInputError(Problem("the approval's --by", expected, by, next_step))
    return rule


def _approvals(
    git: GitOpsRepository, policy: Policy, rule: ApprovalPolicy, version: ModelVersion, digest: str
) -> tuple[Approvals, Mapping[str, str]]:
    """Return the approvals that a version has now, and who signed which, by the name of its tag."""
    acts, signers = read_approvals(git, policy, version.version, act_tags(git, policy.name))
    return count_approvals(rule, acts, version.version, digest, signers), signers


def _progress(approvals: Approvals) -> str:
    count = f"{len(approvals.given)} of {approvals.rule.count} approvals"
    if approvals.are_enough:
        return f"{count}, so that it may be committed."
    missing = [approver.name for approver in approvals.rule.by if approver.name not in approvals.given]
    return f"{count}; still to approve: {approvals.rule.count - len(approvals.given)} of {', '.join(missing)}."


def _not_counted(policy: Policy, act: Act, approvals: Approvals) -> Problem:
    mend = "Give it again."
    if approvals.rule.signed:
        mend = f"Sign with the key that {policy.name}.yaml names for you."
    next_step = f"It is kept and does not count. {mend}"
    return Problem(f"the approval {act.tag}", approvals.wanted, approvals.found, next_step)
