"""Images that are bad only where they really run: each is taken back, and nobody meets one that cannot serve."""

import pytest

from tests.homelab.disturb import shorter, without_argocds
from tests.homelab.lab import Lab
from tests.scenarios.people import image_tag, register_again

pytestmark = pytest.mark.timeout(600)
CONTROLLER = "statefulset/argocd-application-controller"


def test_an_image_that_crashes_is_taken_back(lab: Lab) -> None:
    """A container that exits at its start fails the rollout long before the deadline; the incumbent goes on serving."""
    asked = lab.ask({"FAULT_CRASH_AFTER": "0"})
    asked.is_taken_back(r"crashed with exit code 70", served=False)


def test_an_image_that_needs_more_memory_than_its_limit_is_taken_back(lab: Lab) -> None:
    """The kernel kills it at the manifest's own limit, and the reason says OOMKilled."""
    asked = lab.ask({"FAULT_ALLOCATE_AT_START_MB": "1024"})
    asked.is_taken_back(r"OOMKilled", served=False)


def test_an_image_that_never_becomes_ready_is_taken_back_at_the_deadline(lab: Lab) -> None:
    """It runs and is not ready, so no request ever reaches it; at the deadline that is the model's own fault."""
    with shorter(lab, rollout="40s"):
        asked = lab.ask({"FAULT_NEVER_READY": "1"})
        asked.is_taken_back(r"not ready", served=False)


def test_a_tag_that_is_moved_after_the_check_does_not_change_what_is_pulled(lab: Lab) -> None:
    """What was checked is committed by digest and runs, though its tag names a broken image when the node pulls it."""
    environment = lab.environment
    version = register_again(environment, of=2)
    # Argo CD waits, so that the tag moves between the check and the pull for certain.
    with without_argocds(lab, CONTROLLER):
        asked = lab.ask_for(version)
        asked.reach("committed")
        uri = f"models:/{environment.model}/{version}"
        moved_to = environment.publish(uri, image_tag(environment, version), FAULT_CRASH_AFTER="0")
    seen = asked.becomes_champion()
    assert all(moved_to not in one.image for one in seen.serving)


def test_one_bad_replica_of_two_is_enough_to_take_a_version_back(lab: Lab) -> None:
    """One of two pods fails each fifth real request from the soak on; both answer the recorded requests well."""
    asked = lab.ask({"FAULT_REMOTE": "1"})
    asked.reach("committed")
    lab.wait_until_rolled_out(asked.version)
    lab.spoil(lab.environment.serving()[0].pod, FAULT_FAIL_EVERY="5")
    asked.is_taken_back(r"success_ratio", served=True)
