"""Images that fail only where they really run: each is rolled back, and no client reaches one that cannot serve."""

import pytest

from testbeds.story.versions import image_tag, register_again
from tests.homelab.disturb import shorter_deadlines, without_argocd_part
from tests.homelab.lab import Lab

pytestmark = pytest.mark.timeout(600)
CONTROLLER = "statefulset/argocd-application-controller"


def test_an_image_that_crashes_is_rolled_back(lab: Lab) -> None:
    """A container that exits at its start fails the rollout long before the deadline; the incumbent goes on serving."""
    promotion = lab.promote({"FAULT_CRASH_AFTER": "0"})
    promotion.is_rolled_back(r"crashed with exit code 70", served=False)


def test_an_image_that_needs_more_memory_than_its_limit_is_rolled_back(lab: Lab) -> None:
    """The kernel kills the container at the limit in the manifest, and the reason says OOMKilled."""
    promotion = lab.promote({"FAULT_ALLOCATE_AT_START_MB": "1024"})
    promotion.is_rolled_back(r"OOMKilled", served=False)


def test_an_image_that_never_becomes_ready_is_rolled_back_at_the_deadline(lab: Lab) -> None:
    """A container that runs unready gets no requests; at the deadline, the model is at fault."""
    with shorter_deadlines(lab, rollout="40s"):
        promotion = lab.promote({"FAULT_NEVER_READY": "1"})
        promotion.is_rolled_back(r"not ready", served=False)


def test_a_tag_that_is_moved_after_the_check_does_not_change_what_is_pulled(lab: Lab) -> None:
    """The checked image is committed by digest, so it runs even if its tag names a broken one when the node pulls."""
    environment = lab.environment
    version = register_again(environment, of=2)
    # Argo CD is stopped meanwhile, so that the tag certainly moves between the check and the pull.
    with without_argocd_part(lab, CONTROLLER):
        promotion = lab.promote_version(version)
        promotion.reach("committed")
        uri = f"models:/{environment.model}/{version}"
        moved_to = environment.publish(uri, image_tag(environment, version), FAULT_CRASH_AFTER="0")
    seen = promotion.becomes_champion()
    assert all(moved_to not in pod.image for pod in seen.serving)


def test_one_bad_replica_of_two_is_enough_for_a_rollback(lab: Lab) -> None:
    """A version is rolled back when one of two pods fails every fifth real request, though both pass the replay."""
    promotion = lab.promote({"FAULT_REMOTE": "1"})
    promotion.reach("committed")
    lab.wait_until_rolled_out(promotion.version)
    lab.spoil(lab.environment.serving()[0].pod, FAULT_FAIL_EVERY="5")
    promotion.is_rolled_back(r"success_ratio", served=True)
