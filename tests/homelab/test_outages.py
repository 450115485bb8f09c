"""Parts of the platform that go away and come back: nothing is committed blindly, and what is committed is finished."""

import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from testbeds.common.processes import wait_until
from testbeds.homelab.settings import EDGE, GCP
from tests.homelab.disturb import frozen_api, on_that_node_alone, shorter, without_argocds, without_node
from tests.homelab.lab import SETTLE_SECONDS, Lab

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("soaking", [False, True], ids=["in mid-rollout", "in mid-soak"])
def test_a_node_that_goes_away_and_comes_back_only_delays(lab: Lab, soaking: bool) -> None:
    """A node loses its power and its containers with it: nobody is blamed, and the champion is made when it is back."""
    with on_that_node_alone(lab) if soaking else nullcontext():
        asked = lab.ask()
        asked.reach("committed")
        if soaking:
            lab.wait_until_rolled_out(asked.version)
    went = time.time()
    with without_node(lab):
        assert asked.state() in ("committed", "held")
    # Routes lead to the lost node's pods until the cluster has noticed, and again when it is back.
    asked.becomes_champion(forgiven=(went, lab.wait_until_steady()))


def test_nothing_is_committed_while_the_edge_api_is_frozen(lab: Lab) -> None:
    """An API that takes connections and answers none is no place to deploy to; back again, the promotion goes on."""
    went = time.time()
    with frozen_api(lab, EDGE):
        asked = lab.ask()
        wait_until(lambda: asked.failed_runs() > 0, SETTLE_SECONDS, "a run has found that edge does not answer")
        assert asked.state() in ("requested", "waiting")
        assert lab.commits_of(asked.version) == 0
    # Nodes that could not renew their leases count as lost when the API is back, and their pods as not ready.
    asked.becomes_champion(forgiven=(went, lab.wait_until_steady()))


def test_an_edge_api_that_freezes_after_the_commit_holds_the_promotion(lab: Lab) -> None:
    """Held at the deadline, with the incumbent serving and no rollback; it goes on by itself when the API answers."""
    with shorter(lab, rollout="30s"):
        asked = lab.ask()
        asked.reach("committed")
        went = time.time()
        with frozen_api(lab, EDGE):
            reason = asked.reach("held")
            assert "edge" in reason
            assert lab.champion() == asked.incumbent
    asked.becomes_champion(forgiven=(went, lab.wait_until_steady()))


@pytest.mark.parametrize("workload", ["statefulset/argocd-application-controller", "deployment/argocd-repo-server"])
def test_a_part_of_argocd_that_is_stopped_in_mid_promotion_only_delays(lab: Lab, workload: str) -> None:
    """Without it the commit is not rolled out and nobody is blamed; when it is back, the promotion goes on."""
    with without_argocds(lab, workload):
        asked = lab.ask()
        asked.reach("committed")
        assert lab.champion() == asked.incumbent
    asked.becomes_champion()


def test_an_api_server_of_argocd_that_freezes_in_mid_promotion_only_delays(lab: Lab) -> None:
    """The control plane's API is where Argo CD is asked; while it is silent nothing is decided."""
    asked = lab.ask()
    asked.reach("committed")
    with frozen_api(lab, GCP):
        _stays(lambda: asked.state() == "committed", 20.0)
    asked.becomes_champion()


def _stays(condition: Callable[[], bool], seconds: float) -> None:
    """Assert that something holds for a while."""
    until = time.monotonic() + seconds

    def over() -> bool:
        assert condition()
        return time.monotonic() >= until

    wait_until(over, seconds + SETTLE_SECONDS, f"it stays so for {seconds:g} s")
