"""Approving a version: an act in Git that names the digest of its image, so that no other image can be committed."""

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.approvals import Approvals, count_approvals
from orchestration.promotion.images import choose_image
from orchestration.promotion.model_version import ModelVersion, not_registered
from orchestration.promotion.permission import read_approvals
from orchestration.promotion.policy import ApprovalPolicy, Policy
from orchestration.promotion.ports import Clock, GitOpsRepository, ImageRegistry, Registry, Sign
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.quality import run_problem


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
    """Approve the image that a version has now.

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
    digest = _digest(registry, images, policy, version)
    before = _approvals(git, policy, rule, version, digest)
    name = next((name for name in before.given if name.casefold() == by.casefold()), None)
    if name is not None:
        return f"{name} has approved the image {digest} of {version} already: {_progress(before)}"
    act = git.record_act(Act(policy.name, ActKind.APPROVE, clock.now(), by, reason, number, digest), sign)
    after = _approvals(git, policy, rule, version, digest)
    name = next((name for name, counted in after.given.items() if counted.tag == act.tag), None)
    if name is None:
        raise InvalidInputError(_not_counted(policy, act, after))
    return f"{name} approved the image {digest} of {version}: {_progress(after)}"


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


def _digest(registry: Registry, images: ImageRegistry, policy: Policy, version: ModelVersion) -> str:
    """Resolve the image that the version names, as the pipeline does before it commits."""
    run = registry.run(version.run_id) if version.run_id else None
    problem = run_problem(version, run)
    if run is None or problem is not None:
        assert problem is not None, "a version without a run has a problem"
        raise InvalidInputError(problem)
    chosen = choose_image(version, run, policy.image.repository)
    if isinstance(chosen, Problem):
        raise InvalidInputError(chosen)
    image = images.resolve(chosen)
    if image is None:
        found, next_step = "no such image in the registry", "Push it first: an approval is of one image."
        raise InvalidInputError(Problem(f"image {chosen}", "a published image", found, next_step))
    return image.digest


def _approvals(
    git: GitOpsRepository, policy: Policy, rule: ApprovalPolicy, version: ModelVersion, digest: str
) -> Approvals:
    acts, signers = read_approvals(git, policy, version.version)
    return count_approvals(rule, acts, version.version, digest, signers)


def _progress(approvals: Approvals) -> str:
    count = f"{len(approvals.given)} of {approvals.rule.count} approvals"
    if approvals.are_enough:
        return f"{count}, so that it may be committed."
    missing = [approver.name for approver in approvals.rule.by if approver.name not in approvals.given]
    return f"{count}; still to approve: {approvals.rule.count - len(approvals.given)} of {', '.join(missing)}."


def _not_counted(policy: Policy, act: Act, approvals: Approvals) -> Problem:
    return Problem(
        f"the approval {act.tag}",
        approvals.wanted,
        approvals.found,
        f"It is kept and does not count. Sign with the key that {policy.name}.yaml names for you.",
    )
