"""Whether a version may be committed: holds, freezes and approvals, and what the reason says."""

from dataclasses import replace

import pytest

from orchestration.promotion.acts import Act, ActKind, newest_first
from orchestration.promotion.approvals import count_approvals
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.permission import decide
from orchestration.promotion.policy import ApprovalPolicy, Policy, parse_policy
from tests.fakes.world import POLICY_TEXT

NOW = 1_800_000_000.0
DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
VERSION = ModelVersion("iris", 7, None, None)
HOLD = Act("iris-edge", ActKind.HOLD, NOW - 60, "ana", "the cluster moves")
APPROVAL = Act("iris-edge", ActKind.APPROVE, NOW - 30, "ana", "looks good", 7, DIGEST)
KEYS = {name: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{number:040}" for number, name in enumerate(("ana", "ben", "cleo"))}


def policy(more: str = "") -> Policy:
    return parse_policy("iris-edge", POLICY_TEXT + more)


def rule(count: int = 1, *, signed: bool = False) -> ApprovalPolicy:
    by = [{"name": name, "key": key} if signed else name for name, key in KEYS.items()]
    return ApprovalPolicy.model_validate({"by": by, "count": count, "signed": signed})


def found(acts: list[Act], count: int = 1, signers: dict[str, str] | None = None) -> str:
    approvals = count_approvals(rule(count, signed=signers is not None), newest_first(acts), 7, DIGEST, signers or {})
    return approvals.found


def test_nothing_blocks_where_nothing_is_asked_for() -> None:
    """Without acts and without fields, permission is given, and what was looked at is told."""
    permission = decide(policy(), VERSION, DIGEST, (), {}, NOW)
    assert permission.blocked is None
    assert [finding.what for finding in permission.findings] == ["hold", "freeze"]


def test_a_hold_blocks_until_it_is_resumed() -> None:
    """The reason names who, since when, why, and the command that ends it."""
    blocked = decide(policy(), VERSION, DIGEST, (HOLD,), {}, NOW).blocked
    assert blocked is not None
    assert str(blocked.problem) == (
        "version 7 of iris: expected no hold, found a hold by ana since 2027-01-15 07:59 UTC (the cluster moves). "
        "When it may go on: incumbent resume iris-edge --reason '...'."
    )
    resumed = replace(HOLD, kind=ActKind.RESUME, at=HOLD.at + 1)
    assert decide(policy(), VERSION, DIGEST, (resumed, HOLD), {}, NOW).blocked is None


def test_a_freeze_blocks_until_its_end() -> None:
    """The end is known, so that it can be told and waited for."""
    blocked = decide(
        policy("freeze: [{cron: '0 * * * *', for: 59m, reason: audit}]"), VERSION, DIGEST, (), {}, NOW
    ).blocked
    assert blocked is not None
    assert blocked.until == NOW + 59 * 60
    assert blocked.problem.found == "a freeze until 2027-01-15 08:59 UTC (audit)"


def test_a_freeze_without_an_end_says_how_it_is_left() -> None:
    """No end is known, and the next step is not to wait."""
    frozen = policy("freeze: [{cron: '0 0 * * *', for: 25h, reason: audit}]")
    blocked = decide(frozen, VERSION, DIGEST, (), {}, NOW).blocked
    assert blocked is not None
    assert blocked.until is None
    assert "Correct freeze in iris-edge.yaml" in blocked.problem.next_step


def test_all_that_blocks_is_told_at_once() -> None:
    """A person need not lift one thing to learn of the next; while several block, no end is known."""
    more = "freeze: [{cron: '0 * * * *', for: 59m, reason: audit}]\napproval: {by: [ana, ben]}"
    blocked = decide(policy(more), VERSION, DIGEST, (HOLD,), {}, NOW).blocked
    assert blocked is not None
    assert blocked.until is None
    assert blocked.problem.expected == "no hold and no freeze and approval by 1 of ana, ben"
    assert [part.split()[1] for part in blocked.problem.found.split("; ")] == ["hold", "freeze", "approval"]
    assert "incumbent approve iris-edge 7 --reason '...'" in blocked.problem.next_step
    assert "incumbent resume" in blocked.problem.next_step


def test_what_is_found_has_a_fingerprint() -> None:
    """The same findings have the same one, and a new act changes it."""
    asked = policy("approval: {by: [ana, ben], count: 2}")
    blocked = [decide(asked, VERSION, DIGEST, acts, {}, NOW).blocked for acts in ((), (), (APPROVAL,))]
    none, same, one = (block.problem.fingerprint for block in blocked if block is not None)
    assert none == same != one


def test_as_many_people_as_the_policy_asks_for() -> None:
    """Names are compared without regard to case, and each person counts once."""
    ben = replace(APPROVAL, by="Ben", at=NOW - 20)
    assert found([]) == "no approval yet"
    assert found([APPROVAL]) == "approval by ana"
    assert found([APPROVAL], 2) == "approval by ana alone"
    assert found([APPROVAL, ben], 2) == "approval by ana, ben"
    again = replace(APPROVAL, at=NOW - 10)
    assert found([APPROVAL, again], 2) == "approval by ana alone; ana approved it more than once, which counts once"


@pytest.mark.parametrize(
    ("act", "remark"),
    [
        (replace(APPROVAL, digest=OTHER), f"ana approved the image {OTHER[:19]}, and the image is {DIGEST[:19]} now"),
        (
            replace(APPROVAL, digest=None),
            "ana approved the image without a digest",
        ),
        (replace(APPROVAL, version=6), "ana approved version 6 last"),
        (replace(APPROVAL, by="eve"), "eve approved it and is not in the policy's list"),
        (replace(APPROVAL, by=""), "someone without a name approved it and is not in the policy's list"),
    ],
)
def test_an_approval_that_does_not_count_is_explained(act: Act, remark: str) -> None:
    """Of another image, of another version, or by someone else: none counts, and the reason says which it was."""
    assert found([act]).startswith(f"no approval yet; {remark}")


def test_other_peoples_approvals_of_other_versions_are_no_news() -> None:
    """A list of everything that was ever approved would hide what matters."""
    assert found([replace(APPROVAL, by="eve", version=6)]) == "no approval yet"
    many = [replace(APPROVAL, by=f"eve{number}") for number in range(50)]
    assert found(many).count("not in the policy's list") == 5


def test_where_signatures_are_asked_for_only_they_count() -> None:
    """A tag's word for who made it is worth nothing, and a signature counts for the owner of its key."""
    assert found([APPROVAL], signers={}) == (
        "no approval yet; ana is named by an approval that the key in the policy did not sign"
    )
    assert found([APPROVAL], signers={APPROVAL.tag: "ana"}) == "approval by ana"
    claimed = replace(APPROVAL, by="ben")
    assert found([claimed], signers={claimed.tag: "ana"}) == "approval by ana"


def test_the_newest_approval_does_not_undo_an_older_one() -> None:
    """Approving another version, or another image, takes nothing away from what was approved before."""
    later = [replace(APPROVAL, version=8, at=NOW - 1), replace(APPROVAL, digest=OTHER, at=NOW - 2)]
    assert found([*later, APPROVAL]) == "approval by ana"
