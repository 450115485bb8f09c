"""The time a promotion takes compared to `kubectl set image` on the same Deployment, measured in the same run."""

import time

import pytest

from testbeds.story.versions import image_tag, register_again
from tests.homelab.disturb import auto_sync_off
from tests.homelab.lab import Lab
from tests.homelab.report import report_at_end
from tests.homelab.timing import good_promotions, table

pytestmark = pytest.mark.timeout(900)
_ROLLOUT_SECONDS = 150.0


def test_a_promotion_is_timed_against_kubectl_set_image(lab: Lab, pytestconfig: pytest.Config) -> None:
    """The stages end in their order; reported is the time from commit to rollout, and its ratio to a bare rollout's."""
    promotion = lab.promote()
    promotion.becomes_champion()
    rows = good_promotions(lab.environment)
    row = next(row for row in rows if row.version == promotion.version)
    bare = _by_hand(lab)
    ratio = row.rolled_out / bare
    report_at_end(pytestconfig, "Good promotions, in seconds since the commit", table(rows))
    control = f"kubectl set image and rollout status, same Deployment: {bare:.1f} s"
    promoted = f"version {row.version}, commit to rolled out: {row.rolled_out:.1f} s, {ratio:.2f} times the control"
    report_at_end(pytestconfig, "The control", [control, promoted])
    assert bare > 0
    assert row.revision <= row.synced <= row.rolled_out < row.verdict < row.champion


def _by_hand(lab: Lab) -> float:
    """Return the seconds from `kubectl set image` to the end of `kubectl rollout status`, for an image new to nodes."""
    environment, target = lab.environment, lab.homelab.policy.manifest
    version = register_again(environment, of=2)
    digest = lab.client.get_model_version(environment.model, str(version)).tags["image_digest"]
    image = f"{environment.image_repository}:{image_tag(environment, version)}@{digest}"
    with auto_sync_off(lab):
        began = time.monotonic()
        lab.set_live_image(image)
        wait = ("rollout", "status", f"deployment/{target.name}", f"--namespace={target.namespace}")
        lab.homelab.edge.run(*wait, seconds=_ROLLOUT_SECONDS)
        return time.monotonic() - began
