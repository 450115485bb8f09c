"""Queries about exactly the new pods, and answers that are believed only if they are one fresh finite number."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.promotion.placeholders import PLACEHOLDER
from orchestration.promotion.ports import QueryRejected, QueryResult, Sample
from orchestration.promotion.workload_kinds import JUDGED, NUMBERED

_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

_LONGEST_PREFIX = 58
"""Characters of a generated name before its random suffix; Kubernetes cuts off a longer one."""
_LONGEST_HASH = 10


@dataclass(frozen=True)
class Unusable:
    """An answer that proves nothing."""

    reason: str
    platform_fault: bool
    """Whether that is the platform's fault; otherwise there is too little data yet."""
    empty: bool = False
    """Whether there was no data at all."""


def up_of_pods(job: str | None) -> str:
    """The series `up` of the new pods: of one scrape job, or of all that scrape them.

    `up` is the only series that a failed scrape writes too.
    """
    only = "" if job is None else f',job="{job}"'
    return f'up{{namespace="$namespace",pod=~"$pods"{only}}}'


def expand(query: str, *, pods: Sequence[str], window: float, namespace: str, source: str) -> str:
    """Fill in a query's placeholders, which `policy.Slo` describes.

    Args:
        query: as the policy has it.
        pods: the names of the pods to ask about.
        window: seconds to look back, rounded down to a whole second (but to one at least): never further than asked.
        namespace: the pods' namespace.
        source: a regular expression for the traffic to count.

    Raises:
        ValueError: there are no pods, or a name is not a Kubernetes name. An empty `$pods` would match every series
            without that label, and so judge other workloads.
    """
    for name in (*pods, namespace):
        if not _OBJECT_NAME.fullmatch(name):
            raise ValueError(f"expected a Kubernetes name, found {name!r}")
    if not pods:
        raise ValueError("expected at least one pod to ask about")
    pattern = "|".join(_exactly(name) for name in sorted(pods))
    return fill_in(query, pods=pattern, window=window, namespace=namespace, source=source)


def fill_in(query: str, *, pods: str, window: float, namespace: str, source: str) -> str:
    """Fill in a query's placeholders, where the pods are given by a regular expression that matches their names."""
    seconds = f"{max(1, math.floor(window))}s"
    values = {"pods": pods, "window": seconds, "namespace": namespace, "source": source}
    return PLACEHOLDER.sub(lambda placeholder: values[placeholder[1]], query)


def pods_of(kind: str, name: str) -> str:
    """Return a regular expression for the names of a workload's pods, whatever template they are made of.

    A name so long that Kubernetes cuts it off in its pods' names may also match those of a workload that begins alike.

    Args:
        kind: one of `workload_kinds.JUDGED`.
        name: the workload's name.
    """
    judged = JUDGED[kind]
    full = name + judged.deployment_suffix
    if judged.pod_suffix != NUMBERED and len(f"{full}--") + _LONGEST_HASH > _LONGEST_PREFIX:
        return _exactly(full[:_LONGEST_PREFIX]) + "[-a-z0-9]+"
    return _exactly(full) + judged.pod_suffix


def _exactly(name: str) -> str:
    return name.replace(".", "[.]")  # a backslash would mean something else in each of PromQL's three quotes


def read_scalar(answer: QueryResult | QueryRejected, *, now: float, tolerance: float) -> float | Unusable:
    """Read the one number in an answer.

    It must have been evaluated within `tolerance` seconds of `now`; otherwise a cache in front of Prometheus, or a
    wrong clock, could present old evidence as new.
    """
    unusable = _unusable(answer)
    if unusable is not None:
        return unusable
    assert isinstance(answer, QueryResult), "a rejected query is unusable"
    if len(answer.samples) > 1:
        return Unusable(
            f"{len(answer.samples)} results instead of one (aggregate with sum or max)", platform_fault=True
        )
    sample = answer.samples[0]
    if abs(now - sample.at) > tolerance:
        return Unusable(f"evaluated {now - sample.at:.0f} s ago by our clock", platform_fault=True)
    if not math.isfinite(sample.value):
        return Unusable(f"{sample.value} is not a measurement", platform_fault=False)
    return sample.value


def read_by_pod(
    answer: QueryResult | QueryRejected, *, now: float, tolerance: float
) -> Mapping[str, Sequence[Sample]] | Unusable:
    """Read the samples of each `pod` label, with the checks of `read_scalar`; one job gives one for each pod."""
    unusable = _unusable(answer)
    if unusable is not None:
        return unusable
    assert isinstance(answer, QueryResult), "a rejected query is unusable"
    samples: dict[str, list[Sample]] = {}
    for sample in answer.samples:
        number = read_scalar(QueryResult((sample,)), now=now, tolerance=tolerance)
        if isinstance(number, Unusable):
            return number
        samples.setdefault(sample.labels.get("pod", ""), []).append(sample)
    return samples


def _unusable(answer: QueryResult | QueryRejected) -> Unusable | None:
    if isinstance(answer, QueryRejected):
        return Unusable(f"Prometheus refuses the query: {answer.message}", platform_fault=True)
    if answer.warnings:  # Prometheus marks a partial answer by a warning
        return Unusable(f"answer with warnings: {'; '.join(answer.warnings)}", platform_fault=True)
    if not answer.samples:
        return Unusable("no data", platform_fault=False, empty=True)
    return None
