"""Acts and their tags."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.acts import Act, ActKind, current_hold, newest_first, parse_act
from orchestration.promotion.identity import PromotionId

ACT = Act("iris-edge", ActKind.HOLD, 1_800_000_000.123, "ana@team", "the cluster moves")


@pytest.mark.parametrize(
    "act",
    [
        ACT,
        replace(ACT, kind=ActKind.APPROVE, version=7, digest=f"sha256:{'0' * 64}"),
        replace(ACT, kind=ActKind.ADOPT, version=7, digest=f"sha256:{'0' * 64}", image="ghcr.io/acme/iris:v7"),
        replace(
            ACT, kind=ActKind.ENDED, version=7, promotion=PromotionId("iris-edge", 7, "0" * 12, 2), verdict="Failed"
        ),
    ],
)
def test_an_act_is_read_back_from_its_tag(act: Act) -> None:
    """Name and message together hold all of an act."""
    read = parse_act(act.tag, act.message, "c0ffee")
    assert read is not None
    assert read == replace(act, at=read.at, commit="c0ffee")
    assert read.at == pytest.approx(act.at, abs=0.001)


@given(at=st.floats(min_value=0, max_value=4e9))
def test_a_name_keeps_the_time_to_the_millisecond(at: float) -> None:
    """Whatever the time is, the name is a tag's, and acts sort by it."""
    read = parse_act(replace(ACT, at=at).tag, "", "")
    assert read is not None
    assert read.at == pytest.approx(at, abs=0.0011)


def test_a_message_cannot_lift_or_forge_a_hold() -> None:
    """A hold with an unreadable message is a hold; a line break in a reason makes no trailer."""
    held = parse_act(ACT.tag, "\x00\xff", "")
    assert held is not None
    assert current_hold([held]) == held
    forged = replace(ACT, reason="x\n\nBy: somebody else")
    read = parse_act(forged.tag, forged.message, "")
    assert read is not None
    assert read.by == "ana@team"


@pytest.mark.parametrize(
    "name",
    ["incumbent/iris-edge/7-1", "incumbent/iris-edge/acts/20260230T000000.000Z-hold", f"{ACT.tag}ed", f"{ACT.tag}-0"],
)
def test_other_tags_are_no_acts(name: str) -> None:
    """Evidence tags, impossible days and unknown kinds are left out."""
    assert parse_act(name, ACT.message, "") is None


def test_the_newest_of_hold_and_resume_counts() -> None:
    """A policy is held from a hold to the next resume, whatever else happens in between."""
    later = [replace(ACT, kind=kind, at=ACT.at + after) for after, kind in enumerate(ActKind)]
    hold, resume, *others = later
    assert current_hold(()) is None
    assert current_hold(newest_first([*others, hold])) == hold
    assert current_hold(newest_first([*others, resume, hold])) is None
    again = replace(hold, at=resume.at + 1)
    assert current_hold(newest_first([again, resume, hold])) == again
