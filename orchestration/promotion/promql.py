"""Asking Prometheus about exactly the new pods, and believing only an answer that is one fresh finite number."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.promotion.ports import QueryRejected, QueryResult

_PLACE = re.compile(r"\$(pods|window|namespace|source)\b")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Unusable:
    """An answer that says nothing, and whether that is our side's fault or there is just too little data yet."""

    reason: str
    platform_fault: bool
    empty: bool = False


def expand(query: str, *, pods: Sequence[str], window: float, namespace: str, source: str) -> str:
    """The query about these pods over the last `window` seconds; what each place holds is in `policy.Slo`.

    Raises:
        ValueError: there are no pods, or a name is no Kubernetes name. An empty `$pods` would match every series
            without that label, and so judge somebody else's.
    """
    for name in (*pods, namespace):
        if not _OBJECT_NAME.fullmatch(name):
            raise ValueError(f"expected a Kubernetes name, found {name!r}")
    if not pods:
        raise ValueError("expected at least one pod to ask about")
    values = {
        # A class, not a backslash: it means the same in each of PromQL's three kinds of quotes.
        "pods": "|".join(name.replace(".", "[.]") for name in sorted(pods)),
        "window": f"{max(1, math.ceil(window))}s",
        "namespace": namespace,
        "source": source,
    }
    return _PLACE.sub(lambda place: values[place[1]], query)


def read_scalar(answer: QueryResult | QueryRejected, *, now: float, tolerance: float) -> float | Unusable:
    """The one number that an answer holds.

    It must have been evaluated within `tolerance` seconds of `now`: a cache in front of Prometheus, or a clock that
    is wrong, would otherwise pass old evidence for new.
    """
    unusable = _suspect(answer)
    if unusable is not None:
        return unusable
    assert isinstance(answer, QueryResult), "a rejected query is suspect"
    if len(answer.samples) > 1:
        return Unusable(
            f"{len(answer.samples)} results where one is wanted (aggregate with sum or max)", platform_fault=True
        )
    sample = answer.samples[0]
    if abs(now - sample.at) > tolerance:
        return Unusable(f"evaluated {now - sample.at:.0f} s ago by our clock", platform_fault=True)
    if not math.isfinite(sample.value):
        return Unusable(f"the result is {sample.value}, which is no measurement", platform_fault=False)
    return sample.value


def read_by_pod(answer: QueryResult | QueryRejected, *, now: float, tolerance: float) -> Mapping[str, float] | Unusable:
    """One number for each `pod` label; a pod with two series is refused, because nobody can say which is it."""
    unusable = _suspect(answer)
    if unusable is not None:
        return unusable
    assert isinstance(answer, QueryResult), "a rejected query is suspect"
    found: dict[str, float] = {}
    for sample in answer.samples:
        pod = sample.labels.get("pod", "")
        number = read_scalar(QueryResult((sample,)), now=now, tolerance=tolerance)
        if isinstance(number, Unusable):
            return number
        if pod in found:
            return Unusable(f"several series for pod {pod!r}: scrape each pod by one job", platform_fault=True)
        found[pod] = number
    return found


def _suspect(answer: QueryResult | QueryRejected) -> Unusable | None:
    if isinstance(answer, QueryRejected):
        return Unusable(f"Prometheus refuses the query: {answer.message}", platform_fault=True)
    if answer.warnings:  # a partial answer is one that came with a warning
        return Unusable(f"an answer with warnings: {'; '.join(answer.warnings)}", platform_fault=True)
    if not answer.samples:
        return Unusable("no data", platform_fault=False, empty=True)
    return None
