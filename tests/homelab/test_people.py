"""People who do something else meanwhile: their changes are neither overwritten nor believed."""

import pytest

from testbeds.common.processes import wait_until
from testbeds.story.expectation import evidence_document, promotion_commits
from testbeds.story.seen import Seen, seconds_of
from testbeds.story.stories import expected
from tests.homelab.another_model import another_model
from tests.homelab.disturb import auto_sync_off, somebody_commits_all_the_time
from tests.homelab.lab import SETTLE_SECONDS, Asked, Lab

pytestmark = pytest.mark.timeout(900)


def test_an_edit_of_the_live_deployment_is_undone_and_fools_nobody(lab: Lab) -> None:
    """An image put on the Deployment by hand in mid-promotion is put back by Argo CD; Git's image is the champion."""
    before = lab.live_image()
    asked = lab.ask()
    asked.reach("committed")
    lab.wait_until_rolled_out(asked.version)
    lab.set_live_image(before)
    wait_until(lambda: lab.live_image() != before, SETTLE_SECONDS, "Argo CD has put the image back")
    asked.becomes_champion()


def test_auto_sync_that_is_off_before_the_commit_keeps_the_branch_as_it_is(lab: Lab) -> None:
    """The promotion waits and says why; switched on again, it goes on by itself."""
    with auto_sync_off(lab):
        asked = lab.ask()
        assert "automated sync" in asked.reach("waiting")
        assert lab.commits_of(asked.version) == 0
    asked.becomes_champion()


def test_a_second_committer_neither_stops_nor_doubles_a_promotion(lab: Lab) -> None:
    """Somebody pushes other files each second: one commit of ours, judged by revisions that are not ours."""
    with somebody_commits_all_the_time(lab) as pushes:
        asked = lab.ask()
        seen = asked.becomes_champion()
    assert pushes[0] > 10
    notes = [one for one in seen.commits if one.subject.startswith("Note ") and one.at >= asked.asked_at]
    assert len(notes) > 5


def test_two_models_are_promoted_at_once(lab: Lab) -> None:
    """Each has its own lease, commit, rollout and gate: both are committed before either is champion."""
    with another_model(lab) as other:
        first = lab.ask()
        second = other.ask()
        at_work = [_at_work(one, one.becomes_champion()) for one in (first, second)]
    assert max(committed for committed, _ in at_work) < min(judged for _, judged in at_work)


def _at_work(asked: Asked, seen: Seen) -> tuple[float, float]:
    """When a promotion was committed, and when its verdict was reached."""
    story = expected(asked.lab.environment, (), asked.version)
    document = evidence_document(seen, story, asked.version) or {}
    judged = seconds_of(document.get("soak_ended"))
    assert judged is not None
    return promotion_commits(seen, story, asked.version)[0].at, judged
