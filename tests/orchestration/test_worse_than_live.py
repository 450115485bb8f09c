"""SLOs that are compared with the pods that served before, through whole promotions."""

import json
from typing import Any

import pytest

from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.live_before import LIVE_BEFORE
from orchestration.promotion.state import State
from tests.fakes.runs import Killed, resume, run_until
from tests.fakes.world import POLICY_TEXT, World

RELATIVE = POLICY_TEXT.replace("at_least: 0.99", "at_least: 0.5, no_worse_than_live: 10%")


def serving_world() -> World:
    """A champion that answers everything well, to enough real requests."""
    world = World(RELATIVE)
    world.register()
    run_until(world, 1)
    assert world.champion == 1
    world.metrics.script['source=~"real"}['] = 100.0
    return world


def test_a_version_that_is_worse_than_what_served_is_rolled_back() -> None:
    """It keeps the absolute bound; the commit has what it was compared with, and so has the evidence."""
    world = serving_world()
    world.register()
    world.bad_images.add(world.image(2))  # 0.8
    run_until(world, 2)
    assert world.state(2) is State.ROLLED_BACK
    assert "0.8 is not >= 0.9 (1 before)" in world.reason(2)
    (commit,) = [commit for commit in world.git.log if LIVE_BEFORE in commit.trailers]
    assert json.loads(commit.trailers[LIVE_BEFORE]) == {"success_ratio": 1.0}
    evidence = json.loads(world.registry.artifacts["run2", "incumbent/iris-edge/2-1.json"])
    assert evidence["evaluations"][-1]["slos"][0]["live_before"] == 1.0


def test_the_value_before_survives_a_run_that_is_killed_after_the_commit() -> None:
    """The old pods are gone when the next run judges, and their value is still what the new ones are compared with."""
    world = serving_world()
    world.register()
    world.bad_images.add(world.image(2))
    write = world.git.push_edit

    def killed(*arguments: object) -> object:
        write(*arguments)  # type: ignore[arg-type]
        raise Killed

    world.git.push_edit = killed  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        run_until(world, 2)
    world.git.push_edit = write  # type: ignore[method-assign]
    resume(world, 2)
    assert world.state(2) is State.ROLLED_BACK
    assert "0.8 is not >= 0.9 (1 before)" in world.reason(2)


def test_without_a_value_before_the_absolute_bound_counts_alone() -> None:
    """At night what serves gets no requests, and the very first version has nothing before it."""
    world = serving_world()
    world.metrics.script['source=~"real"}['] = 0.0
    world.register()
    world.bad_images.add(world.image(2))
    run_until(world, 2)
    assert world.champion == 2
    assert not any(LIVE_BEFORE in commit.trailers for commit in world.git.log)


def test_what_serves_is_read_once_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is measured by and what is looked at before the commit are one reading of the workload."""
    world = serving_world()
    world.register()
    reads, before_the_commit = [], []
    workload, push = world.cluster.workload, world.git.push_edit

    def read(kind: str, namespace: str, name: str) -> WorkloadStatus | None:
        reads.append(name)
        return workload(kind, namespace, name)

    def pushed(*arguments: Any) -> object:
        before_the_commit.extend(reads)
        return push(*arguments)

    monkeypatch.setattr(world.cluster, "workload", read)
    monkeypatch.setattr(world.git, "push_edit", pushed)
    run_until(world, 2)
    assert world.champion == 2
    assert before_the_commit == ["iris"]
