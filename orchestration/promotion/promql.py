"""Queries about exactly the new pods, and answers that are believed only if they are one fresh finite number."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.promotion.ports import QueryRejected, QueryResult

_PLACEHOLDER = re.compile(r"\$(pods|window|namespace|source)\b")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Unusable:
    """An answer that proves nothing."""

    reason: str
    platform_fault: bool
    """Whether that is the platform's fault; otherwise there is too little data yet."""
    empty: bool = False
    """Whether there was no data at all."""


def expand(query: str, *, pods: Sequence[str], window: float, namespace: str, source: str) -> str:
    """Fill in a query's placeholders, which `policy.Slo` describes.

    Args:
        query: as the policy has it.
        pods: the names of the pods to ask about.
        window: seconds to look back, rounded up to a whole second.
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
    values = {
        # A character class and not a backslash, because it means the same in all three of PromQL's quotes.
        "pods": "|".join(name.replace(".", "[.]") for name in sorted(pods)),
        "window": f"{max(1, math.ceil(window))}s",
        "namespace": namespace,
        "source": source,
    }
    return _PLACEHOLDER.sub(lambda placeholder: values[placeholder[1]], query)


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


def read_by_pod(answer: QueryResult | QueryRejected, *, now: float, tolerance: float) -> Mapping[str, float] | Unusable:
    """Read one number per `pod` label, with the checks of `read_scalar`; two series of one pod are ambiguous."""
    unusable = _unusable(answer)
    if unusable is not None:
        return unusable
    assert isinstance(answer, QueryResult), "a rejected query is unusable"
    numbers: dict[str, float] = {}
    for sample in answer.samples:
        pod = sample.labels.get("pod", "")
        number = read_scalar(QueryResult((sample,)), now=now, tolerance=tolerance)
        if isinstance(number, Unusable):
            return number
        if pod in numbers:
            return Unusable(f"several series for pod {pod!r}: scrape each pod by one job", platform_fault=True)
        numbers[pod] = number
    return numbers


def _unusable(answer: QueryResult | QueryRejected) -> Unusable | None:
    if isinstance(answer, QueryRejected):
        return Unusable(f"Prometheus refuses the query: {answer.message}", platform_fault=True)
    if answer.warnings:  # Prometheus marks a partial answer by a warning
        return Unusable(f"answer with warnings: {'; '.join(answer.warnings)}", platform_fault=True)
    if not answer.samples:
        return Unusable("no data", platform_fault=False, empty=True)
    return None
