"""Replicas that nobody wrote in Git: an autoscaler's number lives in the cluster, in the midst of rollouts too."""

from collections.abc import Iterator
from typing import Any

import pytest

from testbeds.sandbox.cluster.handle import start_cluster
from testbeds.sandbox.cluster.scaling import spread
from tests.sandbox.cluster.conftest import DEPLOYMENT, POD_COMMAND, REPOSITORY, Platform, Running

UNSTATED = {"  replicas: 2\n": ""}
_AUTOSCALER = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: iris}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: iris}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
"""


@pytest.fixture
def scaled(platform: Platform) -> Iterator[Running]:
    """A stand-in whose Deployment has an autoscaler, and no replicas in Git."""
    platform.write("manifests/iris/autoscaler.yaml", _AUTOSCALER)
    commit = platform.set_image(f"{REPOSITORY}:v1", **UNSTATED)
    mirrors = {"ghcr.io": platform.images.url}
    with start_cluster(platform.state, platform.bare.as_uri(), oci_mirrors=mirrors, pod_command=POD_COMMAND) as cluster:
        running = Running(cluster, platform)
        cluster.wait_for("a first rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v1"))
        yield running


def _wanted(running: Running) -> int:
    return int(running.deployment["spec"]["replicas"])


def test_an_autoscalers_number_is_no_difference_from_git(scaled: Running) -> None:
    """It brings one replica to its minimum and takes back what a person scaled; Argo CD says Synced throughout."""
    assert _wanted(scaled) == 2
    scaled.cluster.patch(DEPLOYMENT, {"spec": {"replicas": 4}}).raise_for_status()
    said: list[Any] = []

    def taken_back() -> bool:
        status = scaled.application["status"]
        said.append(status["sync"]["status"])
        return _wanted(scaled) == 2 and len(scaled.pods) == 2 and status["health"]["status"] == "Healthy"

    scaled.cluster.wait_for("two pods again", taken_back)
    assert set(said) == {"Synced"}


def test_a_rollout_keeps_the_live_number(scaled: Running) -> None:
    """Applying another image puts no default in place of what was scaled, and pods are taken of both templates."""
    scaled.platform.images.publish("v2")
    scaled.cluster.patch(DEPLOYMENT, {"spec": {"replicas": 4}}).raise_for_status()
    commit = scaled.platform.set_image(f"{REPOSITORY}:v2", **UNSTATED)
    scaled.refresh()
    seen: list[int] = []

    def rolled_out() -> bool:
        seen.append(_wanted(scaled))
        return scaled.rolled_out(commit, f"{REPOSITORY}:v2")

    scaled.cluster.wait_for("the rollout", rolled_out)
    assert set(seen) <= {2, 4}
    assert seen[-1] == 2


def test_a_number_that_leaves_git_falls_to_the_default_once(running: Running) -> None:
    """As with `kubectl apply`: what was applied and is stated no more is removed, and one replica is the default."""
    running.platform.set_image(f"{REPOSITORY}:v1", **UNSTATED)
    running.refresh()
    running.cluster.wait_for("one replica", lambda: _wanted(running) == 1)


@pytest.mark.parametrize(
    ("sizes", "most_before", "most", "after"),
    [
        ([2, 1], 3, 5, [3, 2]),  # out from 2 to 4, surge 1: old pods come as well
        ([3, 2], 5, 3, [2, 1]),  # and in again
        ([4, 1], 5, 3, [2, 1]),
        ([2, 1], 3, 3, [2, 1]),
        ([10, 5], 15, 16, [11, 5]),
    ],
)
def test_a_rollout_is_scaled_in_proportion(sizes: list[int], most_before: int, most: int, after: list[int]) -> None:
    """Old and new pods keep their shares, and their sum is what there may be."""
    assert spread(sizes, most_before, most) == after
