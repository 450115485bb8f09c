"""What a promotion costs beside `kubectl set image` on the same Deployment, measured in the same run."""

import time

import pytest

from tests.homelab.disturb import auto_sync_off
from tests.homelab.lab import Lab
from tests.homelab.report import say_at_the_end
from tests.homelab.timing import good_promotions, table
from tests.scenarios.people import image_tag, register_again

pytestmark = pytest.mark.timeout(900)
_ROLLOUT_SECONDS = 150.0


def test_what_a_promotion_costs_beside_kubectl_set_image(lab: Lab, pytestconfig: pytest.Config) -> None:
    """From commit to rolled out, with Git, Argo CD and the proof of all five conditions, over the bare rollout."""
    asked = lab.ask()
    asked.becomes_champion()
    rows = good_promotions(lab.environment)
    ours = next(row for row in rows if row.version == asked.version)
    bare = _by_hand(lab)
    ratio = ours.rolled_out / bare
    say_at_the_end(pytestconfig, "Good promotions, in seconds since the commit", table(rows))
    control = f"kubectl set image and rollout status, same Deployment: {bare:.1f} s"
    ours_is = f"version {ours.version}, commit to rolled out: {ours.rolled_out:.1f} s, {ratio:.2f} times the control"
    say_at_the_end(pytestconfig, "The control", [control, ours_is])
    assert bare > 0
    assert ours.revision <= ours.synced <= ours.rolled_out < ours.verdict < ours.champion


def _by_hand(lab: Lab) -> float:
    """Seconds from `kubectl set image` to the end of `kubectl rollout status`, for an image that no node has yet."""
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
