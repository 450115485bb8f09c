"""Whether the live workload is the one that is meant, and has the image of its file."""

from dataclasses import replace

import pytest

from orchestration.promotion.live_target import look_at_container, look_at_live_image, look_at_workload
from orchestration.promotion.looks import Bearing
from orchestration.promotion.policy import parse_policy
from tests.fakes.cluster import a_deployment, a_pod, an_application
from tests.fakes.world import POLICY_TEXT

POLICY = parse_policy("iris-edge", POLICY_TEXT)
IMAGE = f"ghcr.io/acme/iris:v1@sha256:{'a' * 64}"
WORKLOAD = a_deployment(IMAGE, (a_pod("iris-1", IMAGE),), namespace="ml-apps", name="iris")
APPLICATION = replace(an_application("a" * 40, name="iris"), resources=(("Deployment", "ml-apps", "iris"),))


def test_a_workload_that_serves_fits() -> None:
    """It is named with how many of its pods are ready."""
    found = look_at_workload(POLICY, APPLICATION, WORKLOAD)
    assert (found.bearing, found.finding) == (Bearing.FITS, "Deployment ml-apps/iris has 1 of 1 pods ready")
    assert look_at_container(POLICY, WORKLOAD).bearing is Bearing.FITS


@pytest.mark.parametrize(
    ("changes", "bearing", "said"),
    [
        ({"resources": ()}, Bearing.WAITS, "for the first time"),
        ({"sync_status": "OutOfSync", "operation_phase": "Failed"}, Bearing.WAITS, "its last sync Failed"),
        ({"destination": "cloud"}, Bearing.WAITS, "while Argo CD has it in cloud"),
        (
            {"resources": (("Deployment", "ml-apps", "redis"), ("Deployment", "prod", "prod-iris-v2"))},
            Bearing.REFUSED,
            "set manifest.name: prod-iris-v2 and manifest.namespace: prod",
        ),
        ({"resources": (("StatefulSet", "ml-apps", "iris"),)}, Bearing.REFUSED, "only StatefulSet"),
    ],
)
def test_a_missing_workload_is_told_by_its_application(changes: dict[str, object], bearing: Bearing, said: str) -> None:
    """One that Argo CD has yet to make is waited for; of another name, the likeliest is proposed."""
    application = replace(APPLICATION, **changes)  # type: ignore[arg-type]  # the fields are named right above
    found = look_at_workload(POLICY, application, None)
    assert found.bearing is bearing
    assert said in str(found.problem)


def test_a_missing_workload_without_an_application_is_the_policys_fault() -> None:
    """While Argo CD is silent, all that can be said is that there is none."""
    assert look_at_workload(POLICY, None, None).bearing is Bearing.REFUSED


@pytest.mark.parametrize(("changes", "said"), [({"wanted": 0}, "no wanted replicas"), ({"paused": True}, "paused")])
def test_a_workload_that_cannot_roll_out_is_waited_for(changes: dict[str, object], said: str) -> None:
    """Without replicas there is nothing to judge, and a paused rollout ends nowhere."""
    found = look_at_workload(POLICY, APPLICATION, replace(WORKLOAD, **changes))  # type: ignore[arg-type]
    assert found.bearing is Bearing.WAITS
    assert said in found.finding


def test_a_container_by_another_name_is_refused() -> None:
    """The containers that there are stand in the finding."""
    found = look_at_container(POLICY, replace(WORKLOAD, images={"server": IMAGE}))
    assert (found.bearing, found.finding) == (Bearing.REFUSED, "only server")


@pytest.mark.parametrize(
    "in_file",
    [IMAGE, f"ghcr.io/acme/iris@sha256:{'a' * 64}", f"ghcr.io/acme/iris:x@sha256:{'a' * 64}", "v1@sha256:" + "a" * 64],
)
def test_the_live_image_of_the_file_fits(in_file: str) -> None:
    """A digest decides, and a file that has the tag alone is compared by it."""
    assert look_at_live_image(POLICY, APPLICATION, WORKLOAD, in_file).bearing is Bearing.FITS


@pytest.mark.parametrize(
    "in_file", ["ghcr.io/acme/iris:v1", f"ghcr.io/acme/iris:v1@sha256:{'b' * 64}", "ghcr.io/a/b:v1"]
)
def test_another_live_image_is_waited_for(in_file: str) -> None:
    """Where Argo CD is in sync and another image is live, a commit to the file would change nothing."""
    found = look_at_live_image(POLICY, APPLICATION, WORKLOAD, in_file)
    assert found.bearing is Bearing.WAITS
    assert found.problem is not None
    assert in_file in found.problem.expected
    out_of_sync = replace(APPLICATION, sync_status="OutOfSync")
    assert look_at_live_image(POLICY, out_of_sync, WORKLOAD, in_file).bearing is Bearing.FITS
    assert look_at_live_image(POLICY, APPLICATION, WORKLOAD, None).bearing is Bearing.FITS
