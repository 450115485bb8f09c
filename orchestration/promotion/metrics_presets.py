"""Queries for the metrics of well-known model servers: what a policy means by `gate.metrics`.

Another server is one more entry of `PRESETS`, with an exposition under `tests/expositions` that says what it is from.
Requests that the client got wrong (4xx) are not the model's fault and count nowhere, where the server tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SUCCESS_RATIO = "success_ratio"
LATENCY_P95 = "latency_p95_seconds"
HIGHER_IS_BETTER: Mapping[str, bool] = {SUCCESS_RATIO: True, LATENCY_P95: False}
"""Which direction is better, for the SLOs whose name alone says so."""
DEFAULT_MIN_REQUESTS = 20
"""How many requests a preset's SLO is based on unless the policy says otherwise."""

PODS = 'namespace="$namespace",pod=~"$pods"'
"""Selects the series of the new pods."""


@dataclass(frozen=True)
class Preset:
    """The queries of one kind of model server."""

    requests: str
    """How many requests were answered."""
    well: str
    """How many of them were answered well."""
    slos: Mapping[str, str]
    """The query of each SLO that it offers, by name."""


def gained(counter: str, selector: str, by: str = "") -> str:
    """Count what a counter gained within the window, and all of it where its series began within the window.

    Most libraries create a series with its first event, which `increase()` misses: the first errors would go unseen.

    Args:
        counter: the counter's name.
        selector: more of its labels than those of the pods; may be empty.
        by: keeps labels apart, such as ` by (le) `.
    """
    series = f"{counter}{{{PODS},{selector}}}" if selector else f"{counter}{{{PODS}}}"
    began = f"max_over_time({series}[$window]) unless last_over_time({series}[5m] offset $window)"
    return f"sum{by}(({began}) or increase({series}[$window]))"


def _preset(requests: str, well: str, latency: str) -> Preset:
    """Make a preset of three queries; none of the requests is well when no series of them exists."""
    return Preset(requests, well, {SUCCESS_RATIO: f"({well} or vector(0)) / {requests}", LATENCY_P95: latency})


def _p95(histogram: str, selector: str) -> str:
    return f"histogram_quantile(0.95, {gained(f'{histogram}_bucket', selector, ' by (le) ')})"


def _by_status(counter: str, histogram: str, selector: str, status: str, *, in_histogram: bool = True) -> Preset:
    """Make a preset of a counter and a histogram of seconds that have the HTTP status in a label.

    Args:
        counter: the counter's name.
        histogram: the histogram's name, without `_bucket`.
        selector: selects predictions; empty for all requests.
        status: the label's name.
        in_histogram: whether the histogram has that label, too.
    """
    and_ = f"{selector}," if selector else ""
    judged = f'{and_}{status}!~"4.."'
    return _preset(
        gained(counter, judged),
        gained(counter, f'{and_}{status}!~"[45].."'),
        _p95(histogram, judged if in_histogram else selector),
    )


_KSERVE_REQUESTS = gained("request_preprocess_seconds_count", "")
_TRITON_WELL = gained("nv_inference_request_success", "")
_SOURCE = f'{PODS},source=~"$source"'
_INCUMBENT_REQUESTS = f'sum(increase(model_predictions_total{{{_SOURCE},outcome=~"ok|error"}}[$window]))'

_MLFLOW_REQUESTS = 'method="POST",handler="/invocations"'

PRESETS: Mapping[str, Preset] = {
    # MLflow's scoring server with prometheus-fastapi-instrumentator. It answers 400 to a client's fault and to an
    # exception of the model alike, so a request is well only when it was answered with 2xx.
    "mlflow-fastapi": _preset(
        gained("http_requests_total", _MLFLOW_REQUESTS),
        gained("http_requests_total", f'{_MLFLOW_REQUESTS},status="2xx"'),
        _p95("http_request_duration_seconds", _MLFLOW_REQUESTS),
    ),
    # Another FastAPI server with the instrumentator's defaults; health checks are not posted. Only the
    # histogram with few buckets (0.1, 0.5 and 1 s) tells the method.
    "fastapi": _by_status(
        "http_requests_total", "http_request_duration_seconds", 'method="POST"', "status", in_histogram=False
    ),
    # KServe's Python server: a request that fails never comes to be postprocessed. It does not tell whose fault it was.
    "kserve": _preset(
        _KSERVE_REQUESTS,
        gained("request_postprocess_seconds_count", ""),
        _p95("request_predict_seconds", ""),
    ),
    # Its histogram is in milliseconds, and there only with --metrics-config histogram_latencies=true.
    "triton": _preset(
        f"({_TRITON_WELL} + {gained('nv_inference_request_failure', '')})",
        _TRITON_WELL,
        f"{_p95('nv_inference_first_response_histogram_ms', '')} / 1000",
    ),
    # Requests over REST; a probe of one model's readiness is not posted.
    "mlserver": _by_status(
        "rest_server_requests_total",
        "rest_server_request_duration_seconds",
        'method="POST",path=~"/v2/models/.*|/invocations"',
        "status_code",
    ),
    # Seldon Core 1, as its executor sees the requests over REST.
    "seldon": _by_status(
        "seldon_api_executor_server_requests_seconds_count",
        "seldon_api_executor_server_requests_seconds",
        'method="post"',
        "code",
    ),
    # BentoML since 1.2.
    "bentoml": _by_status(
        "bentoml_service_request_total",
        "bentoml_service_request_duration_seconds",
        'endpoint!~"/(livez|readyz|healthz|metrics)?"',
        "http_response_code",
    ),
    # As the pods' own proxies see it; their histogram is in milliseconds.
    "istio": _preset(
        gained("istio_requests_total", 'reporter="destination",response_code!~"4.."'),
        gained("istio_requests_total", 'reporter="destination",response_code!~"[045].*"'),
        f"""{_p95("istio_request_duration_milliseconds", 'reporter="destination",response_code!~"4.."')} / 1000""",
    ),
    # This project's own model server, which tells recorded requests from others and begins each series at zero.
    "incumbent": _preset(
        _INCUMBENT_REQUESTS,
        f'sum(increase(model_predictions_total{{{_SOURCE},outcome="ok"}}[$window]))',
        f"histogram_quantile(0.95, sum by (le) (rate(model_inference_duration_seconds_bucket{{{_SOURCE}}}[$window])))",
    ),
}

OF_NO_POD: Mapping[str, str] = {
    "ingress-nginx": "its counters name a Service and no pod, so they cannot tell the new pods' answers from those of "
    "old ones, or of a canary. Let Prometheus scrape the pods, and take the preset of their server, or istio where "
    "they have its proxies; without either, write gate.requests and the SLOs' queries about metrics of the pods",
}
"""Exporters that people ask for and that cannot judge new pods, with what to do (docs/policies.md has the reasons)."""


def fill_in(gate: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in the queries that a gate's preset has and its own fields do not state; anything else stays as it is.

    Args:
        gate: the fields of a policy's gate as a file has them, not validated yet.
    """
    name, job, slos = gate.get("metrics"), gate.get("job"), gate.get("slos")
    if name is None:
        return gate
    # One that does not exist is refused where it stands, and what it would have filled in is not to blame.
    preset = PRESETS.get(name if isinstance(name, str) else "", next(iter(PRESETS.values())))

    def of_job(query: str) -> str:
        return query.replace(PODS, f'{PODS},job="{job}"') if job is not None else query

    names = list(preset.slos)  # in a list, because a name may be anything that YAML can hold
    filled = {"requests": of_job(preset.requests), **gate}
    if isinstance(slos, list | tuple):
        filled["slos"] = [
            {"min_requests": DEFAULT_MIN_REQUESTS, **slo, "query": of_job(preset.slos[slo["name"]])}
            if isinstance(slo, Mapping) and not {"query", "from"} & slo.keys() and slo.get("name") in names
            else slo
            for slo in slos
        ]
    return filled
