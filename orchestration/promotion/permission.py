"""What may keep a version from being committed although nothing is wrong with it: a hold, a freeze, no approval.

A rollback never asks for permission.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten

from orchestration.promotion.acts import Act, ActKind, current_hold
from orchestration.promotion.approvals import count_approvals
from orchestration.promotion.branch_view import act_tags, parse_acts
from orchestration.promotion.freeze import current_freeze
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import ApprovalPolicy, Policy
from orchestration.promotion.ports import GitOpsRepository, TagRecord
from orchestration.promotion.problems import Problem
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import show_time

_REASON_WIDTH = 200
DIGEST_TAG, BLOCKED_TAG = "digest", "blocked_by"
"""Version tags: the image that waits for permission, and the fingerprint of what the run that wrote them found."""


@dataclass(frozen=True)
class Blocked:
    """Why a version must wait, and until when (seconds since the epoch) if the time is known."""

    problem: Problem
    until: float | None


@dataclass(frozen=True)
class Finding:
    """One thing that permission depends on, and how it is."""

    what: str
    finding: str
    expected: str
    next_step: str | None = None
    """What a person should do now; None when this does not block."""
    until: float | None = None


@dataclass(frozen=True)
class Permission:
    """Whether a version may be committed now: what was looked at, and what blocks it, if anything."""

    findings: tuple[Finding, ...]
    blocked: Blocked | None


def ask_permission(
    git: GitOpsRepository,
    policy: Policy,
    version: ModelVersion,
    digest: str,
    records: Sequence[TagRecord],
    now: float,
) -> Permission:
    """Decide whether a version's image may be committed now.

    Args:
        git: The repository, which checks signatures.
        policy: The policy.
        version: The version.
        digest: The digest of its image as it would be committed.
        records: The tags of the policy's acts.
        now: Seconds since the epoch.

    Raises:
        DependencyError: a program to check signatures with is missing.
    """
    acts, signers = read_approvals(git, policy, version.version, records)
    return decide(policy, version, digest, acts, signers, now)


def read_approvals(
    git: GitOpsRepository, policy: Policy, version: int, records: Sequence[TagRecord]
) -> tuple[tuple[Act, ...], Mapping[str, str]]:
    """Read a policy's acts from their tags, newest first, and who signed the approvals of a version, by tag.

    Signatures are checked only where the policy asks for them.
    """
    acts = parse_acts(records)
    if policy.approval is None or not policy.approval.signed:
        return acts, {}
    approvals = {act.tag for act in acts if act.kind is ActKind.APPROVE and act.version == version}
    keys = {approver.name: approver.key for approver in policy.approval.by if approver.key is not None}
    return acts, git.signers([record for record in records if record.name in approvals], keys)


def decide(
    policy: Policy, version: ModelVersion, digest: str, acts: Sequence[Act], signers: Mapping[str, str], now: float
) -> Permission:
    """Decide whether a version's image may be committed.

    Args:
        policy: The policy.
        version: The version.
        digest: The digest of its image as it would be committed.
        acts: The policy's acts, newest first.
        signers: By the name of an act's tag, the approver whose key signed it.
        now: Seconds since the epoch.
    """
    findings = [_hold(policy, acts), _freeze(policy, now)]
    if policy.approval is not None:
        findings.append(_approval(policy, policy.approval, version, acts, digest, signers))
    blocking = [(finding, finding.next_step) for finding in findings if finding.next_step is not None]
    if not blocking:
        return Permission(tuple(findings), None)
    problem = Problem(
        str(version),
        " and ".join(finding.expected for finding, _ in blocking),
        "; ".join(finding.finding for finding, _ in blocking),
        " ".join(next_step for _, next_step in blocking),
    )
    return Permission(tuple(findings), Blocked(problem, blocking[0][0].until if len(blocking) == 1 else None))


def still_blocked(git: GitOpsRepository, policy: Policy, version: ModelVersion, now: float) -> Blocked | None:
    """Look again at a version of which a run has said that it waits for permission; None when it need not wait."""
    digest = version.tag(policy.name, DIGEST_TAG)
    if version.state(policy.name) is not State.WAITING or not version.tag(policy.name, BLOCKED_TAG) or not digest:
        return None
    return ask_permission(git, policy, version, digest, act_tags(git, policy.name), now).blocked


def is_said(version: ModelVersion, policy: str, blocked: Blocked) -> bool:
    """Return whether the last run said exactly this, so that another one would say nothing new."""
    return version.tag(policy, BLOCKED_TAG) == blocked.problem.fingerprint


def _hold(policy: Policy, acts: Sequence[Act]) -> Finding:
    hold = current_hold(acts)
    if hold is None:
        return Finding("hold", "not held", "no hold")
    return Finding(
        "hold",
        f"a hold {describe(hold)}",
        "no hold",
        f"When it may go on: incumbent resume {policy.name} --reason '...'.",
    )


def describe(act: Act) -> str:
    """Say who did it, when and why, on one line."""
    reason = shorten(act.reason, _REASON_WIDTH, placeholder=" ...") or "no reason given"
    return f"by {shorten(act.by, _REASON_WIDTH, placeholder=' ...') or 'someone'} since {show_time(act.at)} ({reason})"


def _freeze(policy: Policy, now: float) -> Finding:
    freeze = current_freeze(policy.freeze, now)
    if freeze is None:
        return Finding("freeze", "no freeze window is open" if policy.freeze else "none in the policy", "no freeze")
    next_step = "No action needed: it goes on by itself when the freeze ends."
    if freeze.until is None:
        next_step = f"Correct freeze in {policy.name}.yaml, so that the windows leave a gap."
    return Finding("freeze", str(freeze), "no freeze", next_step, freeze.until)


def _approval(
    policy: Policy,
    rule: ApprovalPolicy,
    version: ModelVersion,
    acts: Sequence[Act],
    digest: str,
    signers: Mapping[str, str],
) -> Finding:
    approvals = count_approvals(rule, acts, version.version, digest, signers)
    sign = " --sign KEY" if rule.signed else ""
    next_step = f"To approve it: incumbent approve {policy.name} {version.version} --reason '...'{sign}."
    return Finding("approval", approvals.found, approvals.wanted, None if approvals.are_enough else next_step)
