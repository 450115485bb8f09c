"""What an SLO can be judged by without a query: which sources there are, and which values each of them offers.

A policy names the source by the SLO's `from` and the value by the SLO's name. One more value, or one more source, is
one more entry of `SLO_SOURCES` with its test, and its name in the row `gate.slos[].from` of docs/policies.md.
"""

from collections.abc import Callable, Mapping

from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.pods import own_restarts

ReadValue = Callable[[WorkloadStatus, str], float]
"""Reads a value of a workload's container, named by the second argument."""


def restarts(workload: WorkloadStatus, container: str) -> float:
    """Count how often the container restarted by its own fault, in all pods of the current template.

    A pod that was evicted since counts too: its crashes happened.
    """
    statuses = (pod.container(container) for pod in workload.current_pods)
    return float(sum(own_restarts(status) for status in statuses if status is not None))


SLO_SOURCES: Mapping[str, Mapping[str, ReadValue]] = {"pods": {"restarts": restarts}}
"""The values that can be read from each source, by their names."""


def unreadable(source: str, value: str) -> str | None:
    """Why a value cannot be read from a source; None when the table has it."""
    if source not in SLO_SOURCES:
        return f"from must be one of {', '.join(SLO_SOURCES)}, found {source!r}"
    if value not in SLO_SOURCES[source]:
        return f"only {', '.join(SLO_SOURCES[source])} can be read from {source}"
    return None
