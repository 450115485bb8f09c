"""Replicas that are not in Git: an autoscaler sets the number in the cluster, even during rollouts."""

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
    """A stand-in whose Deployment has an autoscaler and states no replicas in Git."""
    platform.write("manifests/iris/autoscaler.yaml", _AUTOSCALER)
    commit = platform.set_image(f"{REPOSITORY}:v1", **UNSTATED)
    mirrors = {"ghcr.io": platform.images.url}
    with start_cluster(platform.state, platform.bare.as_uri(), oci_mirrors=mirrors, pod_command=POD_COMMAND) as cluster:
        running = Running(cluster, platform)
        cluster.wait_for("a first rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v1"))
        yield running


def _replicas(running: Running) -> int:
    return int(running.deployment["spec"]["replicas"])


def test_an_autoscalers_replicas_are_not_a_difference_from_git(scaled: Running) -> None:
    """The autoscaler keeps its minimum and undoes scaling by hand, while Argo CD reports Synced throughout."""
    assert _replicas(scaled) == 2
    scaled.cluster.patch(DEPLOYMENT, {"spec": {"replicas": 4}}).raise_for_status()
    sync_statuses: list[Any] = []

    def scaled_in() -> bool:
        status = scaled.application["status"]
        sync_statuses.append(status["sync"]["status"])
        return _replicas(scaled) == 2 and len(scaled.pods) == 2 and status["health"]["status"] == "Healthy"

    scaled.cluster.wait_for("two pods again", scaled_in)
    assert set(sync_statuses) == {"Synced"}


def test_a_rollout_keeps_the_live_replicas(scaled: Running) -> None:
    """Applying another image does not reset the scaled number of replicas to the default."""
    scaled.platform.images.publish("v2")
    scaled.cluster.patch(DEPLOYMENT, {"spec": {"replicas": 4}}).raise_for_status()
    commit = scaled.platform.set_image(f"{REPOSITORY}:v2", **UNSTATED)
    scaled.refresh()
    replicas: list[int] = []

    def rolled_out() -> bool:
        replicas.append(_replicas(scaled))
        return scaled.rolled_out(commit, f"{REPOSITORY}:v2")

    scaled.cluster.wait_for("the rollout", rolled_out)
    assert set(replicas) <= {2, 4}
    assert replicas[-1] == 2


def test_replicas_that_leave_git_fall_to_the_default_once(running: Running) -> None:
    """As with `kubectl apply`, a field that Git no longer states is removed, and one replica is the default."""
    running.platform.set_image(f"{REPOSITORY}:v1", **UNSTATED)
    running.refresh()
    running.cluster.wait_for("one replica", lambda: _replicas(running) == 1)


@pytest.mark.parametrize(
    ("sizes", "most_before", "most", "after"),
    [
        ([2, 1], 3, 5, [3, 2]),  # out from 2 to 4, surge 1: old pods are added as well
        ([3, 2], 5, 3, [2, 1]),  # and in again
        ([4, 1], 5, 3, [2, 1]),
        ([2, 1], 3, 3, [2, 1]),
        ([10, 5], 15, 16, [11, 5]),
    ],
)
def test_a_rollout_is_scaled_in_proportion(sizes: list[int], most_before: int, most: int, after: list[int]) -> None:
    """Old and new pods keep their proportion, and together they are as many as allowed."""
    assert spread(sizes, most_before, most) == after
