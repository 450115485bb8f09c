"""People who change things during a promotion: their changes are neither overwritten nor mistaken for its result."""

import pytest

from testbeds.common.processes import wait_until
from testbeds.story.expectation import evidence_document, promotion_commits
from testbeds.story.seen import Seen, seconds_of
from testbeds.story.stories import expected
from tests.homelab.another_model import another_model
from tests.homelab.disturb import auto_sync_off, constant_commits
from tests.homelab.lab import SETTLE_SECONDS, Lab, Promotion

pytestmark = pytest.mark.timeout(900)


def test_an_edit_of_the_live_deployment_does_not_change_the_champion(lab: Lab) -> None:
    """Argo CD reverts an image that is set by hand in mid-promotion, and the version in Git becomes champion."""
    before = lab.live_image()
    promotion = lab.promote()
    promotion.reach("committed")
    lab.wait_until_rolled_out(promotion.version)
    lab.set_live_image(before)
    wait_until(lambda: lab.live_image() != before, SETTLE_SECONDS, "Argo CD has restored the image in Git")
    promotion.becomes_champion()


def test_nothing_is_committed_while_auto_sync_is_off(lab: Lab) -> None:
    """The promotion waits and says why; once auto-sync is on again, it goes on by itself."""
    with auto_sync_off(lab):
        promotion = lab.promote()
        assert "automated sync" in promotion.reach("waiting")
        assert lab.commits_of(promotion.version) == 0
    promotion.becomes_champion()


def test_a_second_committer_neither_stops_nor_doubles_a_promotion(lab: Lab) -> None:
    """While someone keeps pushing other files, the promotion makes one commit and is judged at later revisions."""
    with constant_commits(lab) as pushes:
        promotion = lab.promote()
        seen = promotion.becomes_champion()
    assert pushes[0] > 10
    since = promotion.requested_at
    notes = [commit for commit in seen.commits if commit.subject.startswith("Note ") and commit.at >= since]
    assert len(notes) > 5


def test_two_models_are_promoted_at_once(lab: Lab) -> None:
    """Each model has its own lease, commit, rollout and gate: both are committed before either is judged."""
    with another_model(lab) as other:
        first = lab.promote()
        second = other.promote()
        spans = [_span(promotion, promotion.becomes_champion()) for promotion in (first, second)]
    assert max(committed for committed, _ in spans) < min(judged for _, judged in spans)


def _span(promotion: Promotion, seen: Seen) -> tuple[float, float]:
    """Return when a promotion was committed and when it was judged."""
    story = expected(promotion.lab.environment, (), promotion.version)
    document = evidence_document(seen, story, promotion.version) or {}
    judged = seconds_of(document.get("soak_ended"))
    assert judged is not None
    return promotion_commits(seen, story, promotion.version)[0].at, judged
