"""The rules of every preset, evaluated by promtool on what the servers' exporters say."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestration.promotion.alert_rules import alert_rules
from orchestration.promotion.metrics_presets import PRESETS
from tests.adapters.test_metrics_presets import EXPOSITIONS, JUDGED, answer_more, own_metrics
from tests.platform.programs import PROMTOOLS, output_of
from tests.promotion.test_alert_rules import LATENCY, RATIO, a_policy

Samples = Mapping[tuple[str, str], float]


def samples(text: str) -> Samples:
    """Read an exposition: the value of each name and labels. (A library would add `_total` to counters without it.)"""
    lines = re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
    return {(name, labels): float(value) for name, labels, value in lines}


def before_and_after(preset: str) -> tuple[Samples, Samples]:
    """What a server says before and after 24 good requests and 8 that the model got wrong, among others."""
    if preset == "incumbent":
        own = own_metrics()
        before = own.text().decode()
        answer_more(own)
        return samples(before), samples(own.text().decode())
    first, second = (EXPOSITIONS / f"{preset}-{phase}.prom" for phase in ("before", "after"))
    return samples(first.read_text(encoding="utf-8")), samples(second.read_text(encoding="utf-8"))


def input_series(preset: str) -> Iterator[dict[str, str]]:
    """The same as promtool's input, in the pod of a Deployment named after the preset."""
    before, after = before_and_after(preset)
    pod = f'namespace="ml-apps",pod="{preset}-5d8f7c6b9-bcd4f"'
    for name, labels in sorted(after):
        began = before.get((name, labels))
        values = f"{'_' if began is None else f'{began:g}'}x48 {after[name, labels]:g}x12"
        yield {"series": f"{name}{{{labels}{',' if labels else ''}{pod}}}", "values": values}


def policy_of(preset: str) -> Any:
    manifest = {"path": "m.yaml", "namespace": "ml-apps", "name": preset, "container": "server"}
    return a_policy(RATIO, LATENCY, manifest=manifest, gate={"metrics": preset}).model_copy(update={"name": preset})


@pytest.mark.parametrize("promtool", PROMTOOLS)
def test_each_presets_errors_are_recorded_and_alert(promtool: Callable[[], Path], tmp_path: Path) -> None:
    """The share of errors is what the server answered, its latency has a value, and a quarter of errors alerts."""
    presets = sorted(PRESETS)
    (tmp_path / "slos.yml").write_text(alert_rules([policy_of(preset) for preset in presets]), encoding="utf-8")
    errors = {preset: 1 - 24 / JUDGED[preset] for preset in presets}
    expected: list[dict[str, Any]] = [
        {
            "expr": f'abs(policy:request_errors:ratio5m{{policy="{preset}"}} - {share}) < bool 0.05',
            "eval_time": "13m",
            "exp_samples": [{"labels": _labels(preset), "value": 1}],
        }
        for preset, share in errors.items()
    ]
    expected += [
        {
            "expr": f'policy:slo:value5m{{policy="{preset}",slo="latency_p95_seconds"}} > bool 0',
            "eval_time": "13m",
            "exp_samples": [{"labels": _labels(preset)[:-1] + ',slo="latency_p95_seconds"}', "value": 1}],
        }
        for preset in presets
    ]
    fires = 'count by (policy) (ALERTS{alertname="ModelErrorBudgetBurnsFast",alertstate="firing"})'
    firing = [{"labels": f'{{policy="{preset}"}}', "value": 1} for preset in presets]
    expected.append({"expr": fires, "eval_time": "15m", "exp_samples": firing})
    test = {
        "interval": "15s",
        "input_series": [series for preset in presets for series in input_series(preset)],
        "promql_expr_test": expected,
    }
    file = tmp_path / "slos.test.yml"
    file.write_text(json.dumps({"rule_files": ["slos.yml"], "evaluation_interval": "30s", "tests": [test]}))
    output_of(promtool(), "test", "rules", file)


def _labels(preset: str) -> str:
    return f'{{cluster="edge",model="iris",namespace="ml-apps",policy="{preset}"}}'
