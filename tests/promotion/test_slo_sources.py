"""The table of what an SLO can be judged by without a query."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration.promotion.policy import Slo
from orchestration.promotion.slo_sources import SLO_SOURCES, restarts
from tests.fakes.cluster import a_deployment, a_pod

IMAGE = "ghcr.io/o/model:v7@sha256:" + "a" * 64


def test_restarts_are_added_up_over_the_pods_of_the_current_template() -> None:
    """An evicted pod's crashes count; the incumbent's pods, other containers and a lost node do not."""
    evicted = replace(a_pod("evicted", IMAGE, restarts=2), phase="Failed", reason="Evicted")
    lost = a_pod("lost", IMAGE, restarts=1, last_terminated_reason="Unknown")
    incumbent = a_pod("incumbent", IMAGE, template_hash="old", restarts=5)
    workload = a_deployment(
        IMAGE, (a_pod("p1", IMAGE, restarts=1), evicted, lost, incumbent), namespace="ml-apps", name="iris"
    )
    assert restarts(workload, "model-server") == 3
    assert restarts(workload, "sidecar") == 0


def test_one_entry_of_the_table_is_enough_for_a_policy_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another value of a known source, and another source: nothing else lists what there is."""
    slo = {"name": "old_pods", "from": "pods", "at_most": 0}
    with pytest.raises(ValueError, match="SLO 'old_pods': only restarts can be read from pods"):
        Slo.model_validate(slo)
    monkeypatch.setitem(
        SLO_SOURCES, "pods", {**SLO_SOURCES["pods"], "old_pods": lambda workload, _: float(len(workload.old_pods))}
    )
    assert Slo.model_validate(slo).from_ == "pods"
    with pytest.raises(ValueError, match="only restarts, old_pods can be read from pods"):
        Slo.model_validate({**slo, "name": "latency"})
    with pytest.raises(ValueError, match="from must be one of pods, found 'nodes'"):
        Slo.model_validate({**slo, "from": "nodes"})
    monkeypatch.setitem(SLO_SOURCES, "nodes", {"old_pods": lambda *_: 0.0})
    assert Slo.model_validate({**slo, "from": "nodes"}).from_ == "nodes"


def test_every_source_and_value_is_documented() -> None:
    """The row that a person reads names what the table offers, and nothing else."""
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| `gate.slos[].query`")]
    meaning = row.split("|")[-2]
    assert set(re.findall(r"`([^`]+)`", meaning)) == {
        *SLO_SOURCES,
        *(value for of in SLO_SOURCES.values() for value in of),
    }
