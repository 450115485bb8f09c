"""Prometheus rules about what a policy's pods do after their promotion, by the bounds of the policy itself.

`incumbent rules` writes them. The queries are those of the gate, asked about every pod of the workload and about real
traffic alone, where the counters tell it apart. An objective for the share of requests that succeed is watched by the
rate at which its error budget is spent, in a long window and, so that the alert ends soon after its cause, a short one.
"""

import io
import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from orchestration.promotion.metrics_presets import DEFAULT_MIN_REQUESTS, SUCCESS_RATIO
from orchestration.promotion.policy import Policy, Slo
from orchestration.promotion.promql import fill_in, pods_of

Rule = Mapping[str, Any]

_HEADER = """\
# Made by `incumbent rules` from the policies: change a policy and run it again. docs/monitoring.md explains the alerts.
"""
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}
_REAL = "real"
_SMALLEST_BUDGET = 0.001
"""An objective of 100 % leaves no budget whose spending could be watched; it alerts like one of 99.9 %."""
_SLACK_SECONDS = 300.0
"""How long a promotion's commits, answers and the exporter's looks may take on top of its deadlines."""


@dataclass(frozen=True)
class _Burn:
    """One pair of windows, and how fast the budget of 30 days must be spent in both of them."""

    alert: str
    severity: str
    long: str
    short: str
    factor: float
    lasting: str
    """The alert's `for`."""


_BURNS = (
    _Burn("ModelErrorBudgetBurnsFast", "critical", "1h", "5m", 14.4, "2m"),
    _Burn("ModelErrorBudgetBurnsFast", "critical", "6h", "30m", 6.0, "15m"),
    _Burn("ModelErrorBudgetBurnsSlowly", "warning", "3d", "6h", 1.0, "1h"),
)
"""As the SRE workbook proposes them: 2 % of the budget in an hour, 5 % in six hours, 10 % in three days."""
_BREACH = ("1h", "5m")
"""The windows in which an objective that has no error budget must both be missed."""
_WINDOWS = {"slos": ("5m", "30m", "1h"), "slos-long": ("6h", "3d")}
"""The windows of each group of rules; long ones are costly and move slowly, so they are evaluated every two minutes."""
_INTERVALS = {"slos-long": "2m"}


def alert_rules(policies: Sequence[Policy]) -> str:
    """Return a rule file for Prometheus with the records and alerts of these policies, as YAML.

    The same policies always give the same text.
    """
    groups: list[dict[str, Any]] = []
    for name, windows in _WINDOWS.items():
        interval = {"interval": _INTERVALS[name]} if name in _INTERVALS else {}
        rules = [rule for policy in policies for rule in _measured(policy, windows)]
        groups += [{"name": name, **interval, "rules": rules}] if rules else []
    alerts = [rule for policy in policies for rule in (*_bounds(policy), *_alerts(policy))]
    groups += [{"name": "policies", "rules": alerts}] if alerts else []
    yaml, stream = YAML(), io.StringIO()
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump({"groups": groups}, stream)
    return _HEADER + stream.getvalue()


def _measured(policy: Policy, windows: Sequence[str]) -> Iterator[Rule]:
    """Record what the policy's pods did in these windows: requests, the share of errors, and the other values."""
    for window in windows:
        slos = [slo for slo in _watched(policy) if slo.name == SUCCESS_RATIO or window in _BREACH]
        if slos:
            requests = _indented(_ask(policy, policy.gate.requests, window))
            yield _record(policy, f"policy:requests:increase{window}", f"sum(\n{requests}\n)")
        for slo in slos:
            query = _ask(policy, slo.query or "", window)
            if slo.name == SUCCESS_RATIO:
                # No ratio while requests are counted means that none of them succeeded.
                errors = f"1 - (\n  min(\n{_indented(query, 4)}\n  )\n  or vector(0)\n)"
                counted = f'and on () policy:requests:increase{window}{{policy="{policy.name}"}} > 0'
                yield _record(policy, f"policy:request_errors:ratio{window}", f"{errors}\n{counted}")
            else:
                worst = "min" if slo.higher_is_better else "max"
                value = f"{worst}(\n{_indented(query)}\n)"
                yield _record(policy, f"policy:slo:value{window}", value, slo=slo.name)


def _bounds(policy: Policy) -> Iterator[Rule]:
    """Record the policy's bounds, for dashboards, and that there are alerts for it."""
    yield _record(policy, "policy:promotion:longest_seconds", f"vector({policy.longest_on_branch})")
    for slo in policy.gate.slos:
        bound = slo.limit(None)
        if bound is not None:
            yield _record(policy, "policy:slo:bound", f"vector({bound})", slo=slo.name)


def _alerts(policy: Policy) -> Iterator[Rule]:
    yield _unavailable(policy)
    yield _not_champion(policy)
    for slo in _watched(policy):
        if slo.name == SUCCESS_RATIO:
            yield from (_burning(policy, slo, burn) for burn in _BURNS)
        else:
            yield _broken(policy, slo)


def _watched(policy: Policy) -> list[Slo]:
    """The objectives about requests that have a bound of their own.

    The others measure the pods themselves, for which there are alerts that need no policy.
    """
    return [slo for slo in policy.gate.slos if _is_about_requests(slo) and slo.limit(None) is not None]


def _is_about_requests(slo: Slo) -> bool:
    if slo.query is None:
        return False
    if slo.name == SUCCESS_RATIO:
        return slo.at_least is not None and 0 < slo.at_least <= 1
    return slo.min_requests > 0


def _burning(policy: Policy, slo: Slo, burn: _Burn) -> Rule:
    budget = max(1 - (slo.at_least or 0), _SMALLEST_BUDGET)
    # A large budget cannot be spent 14.4 times as fast, so the bound never lies beyond half of what may still fail.
    bound = min(burn.factor * budget, (1 + budget) / 2)
    # One failed request at night is no outage: enough requests for a single one to stay within the bound.
    requests = max(slo.min_requests or DEFAULT_MIN_REQUESTS, math.ceil(1 / bound))
    of_policy = f'{{policy="{policy.name}"}}'
    expression = (
        f"policy:request_errors:ratio{burn.long}{of_policy} > {bound:.6g}\n"
        f"and policy:request_errors:ratio{burn.short}{of_policy} > {bound:.6g}\n"
        f"and policy:requests:increase{burn.long}{of_policy} >= {requests}"
    )
    return _alert(
        policy,
        burn.alert,
        expression,
        lasting=burn.lasting,
        labels={"severity": burn.severity, "window": burn.long},
        summary="{{ $value | humanizePercentage }} of the requests to "
        f"{_literally(policy.model)} failed in the last {burn.long}",
        description=f"The policy {policy.name} allows {100 * budget:.4g} % of them to fail. {_go_back(policy)}",
    )


def _broken(policy: Policy, slo: Slo) -> Rule:
    sign = "<" if slo.higher_is_better else ">"
    of_slo = f'{{policy="{policy.name}",slo="{slo.name}"}}'
    bound = slo.limit(None)
    long, short = _BREACH
    expression = (
        f"policy:slo:value{long}{of_slo} {sign} {bound}\n"
        f"and policy:slo:value{short}{of_slo} {sign} {bound}\n"
        f'and on () policy:requests:increase{long}{{policy="{policy.name}"}} >= {slo.min_requests}'
    )
    return _alert(
        policy,
        "ModelMissesSLO",
        expression,
        lasting="10m",  # a single bad request stays in the short window for half as long
        labels={"severity": "warning", "slo": slo.name},
        summary=f"{slo.name} of {_literally(policy.model)} has been {{{{ $value | humanize }}}} in the last {long}",
        description=f"The policy {policy.name} asks for {slo.sign} {bound}. {_go_back(policy)}",
    )


def _go_back(policy: Policy) -> str:
    return (
        f"See what serves (incumbent status {policy.name}), and go back if it is the version's fault "
        f"(incumbent rollback {policy.name} --reason ...)."
    )


def _unavailable(policy: Policy) -> Rule:
    """No pod is ready, while kube-state-metrics of that cluster knows of ready pods at all."""
    target = policy.manifest
    ready = f'condition="true",cluster={json.dumps(policy.cluster, ensure_ascii=False)}'
    pods = f'namespace="{target.namespace}",pod=~"{pods_of(target.kind, target.name)}"'
    expression = (
        f"(\n  sum(kube_pod_status_ready{{{ready},{pods}}})\n  or vector(0)\n) < 1\n"
        f"and on () count(kube_pod_status_ready{{{ready}}}) > 0"
    )
    return _alert(
        policy,
        "ModelUnavailable",
        expression,
        lasting="2m",
        labels={"severity": "critical"},
        summary=f"No pod of {_literally(policy.model)} has been ready for 2 minutes",
        description=f"Nobody answers requests to {target.kind} {target.namespace}/{target.name} in cluster "
        f"{_literally(policy.cluster)}. See why its pods are not ready (kubectl --namespace={target.namespace} "
        f"get pods, and incumbent status {policy.name}).",
        kept="5m",
    )


def _not_champion(policy: Policy) -> Rule:
    minutes = math.ceil((policy.longest_on_branch + _SLACK_SECONDS) / 60)
    of_policy = f'{{policy="{policy.name}"}}'
    expression = (
        f"incumbent_live_is_champion{of_policy} == 0\n"
        f"and on (policy, model) incumbent_champion_info{of_policy}\n"
        f"unless on (policy, model) incumbent_promotions_held{of_policy} > 0"
    )
    return _alert(
        policy,
        "LiveModelIsNotChampion",
        expression,
        lasting=f"{minutes}m",
        labels={"severity": "critical"},
        summary=f"What {policy.name} serves is not the champion of {_literally(policy.model)}",
        description=f"It has been so for {minutes} minutes, longer than a promotion may take, and none is held. "
        f"Compare the two (incumbent status {policy.name}), find out who changed the image, and promote the version "
        "that should serve.",
        kept="10m",  # until PromotionMetricsSilent fires, should the metrics end
    )


def _labels(policy: Policy) -> dict[str, str]:
    target = policy.manifest
    return {"policy": policy.name, "model": policy.model, "cluster": policy.cluster, "namespace": target.namespace}


def _record(policy: Policy, name: str, expression: str, **labels: str) -> Rule:
    return {"record": name, "expr": _text(expression), "labels": {**_labels(policy), **labels}}


def _alert(
    policy: Policy,
    name: str,
    expression: str,
    *,
    lasting: str,
    labels: Mapping[str, str],
    summary: str,
    description: str,
    kept: str = "",
) -> Rule:
    own = {key: _literally(value) for key, value in _labels(policy).items()}
    return {
        "alert": name,
        "expr": _text(expression),
        "for": lasting,
        **({"keep_firing_for": kept} if kept else {}),
        "labels": {**own, **labels},
        "annotations": {
            "summary": summary,
            "description": description,
            "runbook_url": f"{{{{ $externalLabels.runbooks }}}}#{name.lower()}",
        },
    }


def _literally(text: str) -> str:
    """Let a text stand for itself in an alert's labels and annotations, which are templates.

    `$labels` would not do: it has the labels of the expression's result, and not those that the rule adds.
    """
    return text.replace("{{", '{{"{{"}}')


def _ask(policy: Policy, query: str, window: str) -> str:
    target = policy.manifest
    return fill_in(
        query,
        pods=pods_of(target.kind, target.name),
        window=float(window[:-1]) * _UNITS[window[-1]],
        namespace=target.namespace,
        source=_REAL,
    ).strip()


def _indented(query: str, by: int = 2) -> str:
    return textwrap.indent(query, " " * by)


def _text(expression: str) -> str:
    return LiteralScalarString(expression) if "\n" in expression else expression
