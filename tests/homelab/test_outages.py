"""Outages of parts of the platform: nothing is committed blindly, and what was committed is finished afterwards."""

import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from testbeds.common.processes import wait_until
from testbeds.homelab.settings import EDGE, GCP
from tests.homelab.disturb import (
    frozen_api,
    new_pods_on_that_node,
    shorter_deadlines,
    without_argocd_part,
    without_node,
)
from tests.homelab.lab import SETTLE_SECONDS, Lab

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("soaking", [False, True], ids=["in mid-rollout", "in mid-soak"])
def test_a_node_that_fails_and_comes_back_only_delays(lab: Lab, soaking: bool) -> None:
    """A node is killed with all its containers: the model is not blamed, and is champion once the node is back."""
    with new_pods_on_that_node(lab) if soaking else nullcontext():
        promotion = lab.promote()
        promotion.reach("committed")
        if soaking:
            lab.wait_until_rolled_out(promotion.version)
    lost_at = time.time()
    with without_node(lab):
        assert promotion.state() in ("committed", "held")
    # Requests are routed to the lost node's pods until the cluster has noticed, and again when the node is back.
    promotion.becomes_champion(forgiven=(lost_at, lab.wait_until_steady()))


def test_nothing_is_committed_while_the_edge_api_is_frozen(lab: Lab) -> None:
    """Nothing is committed for a cluster whose API does not answer; when it answers again, the promotion goes on."""
    frozen_at = time.time()
    with frozen_api(lab, EDGE):
        promotion = lab.promote()
        wait_until(lambda: promotion.ended_runs() > 0, SETTLE_SECONDS, "a run has ended because edge does not answer")
        assert promotion.state() in ("requested", "waiting")
        assert lab.commits_of(promotion.version) == 0
    # Nodes that could not renew their leases count as lost when the API is back, and their pods as not ready.
    promotion.becomes_champion(forgiven=(frozen_at, lab.wait_until_steady()))


def test_an_edge_api_that_freezes_after_the_commit_holds_the_promotion(lab: Lab) -> None:
    """At the deadline the promotion is held, not rolled back, and it goes on by itself when the API answers again."""
    with shorter_deadlines(lab, rollout="30s"):
        promotion = lab.promote()
        promotion.reach("committed")
        frozen_at = time.time()
        with frozen_api(lab, EDGE):
            reason = promotion.reach("held")
            assert "edge" in reason
            assert lab.champion() == promotion.incumbent
    promotion.becomes_champion(forgiven=(frozen_at, lab.wait_until_steady()))


@pytest.mark.parametrize("workload", ["statefulset/argocd-application-controller", "deployment/argocd-repo-server"])
def test_a_part_of_argocd_that_is_stopped_in_mid_promotion_only_delays(lab: Lab, workload: str) -> None:
    """The commit is not rolled out meanwhile, for which the model is not blamed; then the promotion goes on."""
    with without_argocd_part(lab, workload):
        promotion = lab.promote()
        promotion.reach("committed")
        assert lab.champion() == promotion.incumbent
    promotion.becomes_champion()


def test_a_control_plane_api_that_freezes_in_mid_promotion_only_delays(lab: Lab) -> None:
    """The pipeline reads Applications from the control plane's API, and decides nothing while it is frozen."""
    promotion = lab.promote()
    promotion.reach("committed")
    with frozen_api(lab, GCP):
        _stays(lambda: promotion.state() == "committed", 20.0)
    promotion.becomes_champion()


def _stays(condition: Callable[[], bool], seconds: float) -> None:
    """Assert that a condition holds for that many seconds."""
    until = time.monotonic() + seconds

    def over() -> bool:
        assert condition()
        return time.monotonic() >= until

    wait_until(over, seconds + SETTLE_SECONDS, f"{seconds:g} s are over")
