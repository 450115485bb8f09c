"""Grafana's dashboards as they lie in Git, and what they ask of Prometheus."""

import json
import re

from testbeds.common.tools import CHECKOUT
from tests.manifests.dashboard_schema import Dashboard

GRAFANA = CHECKOUT / "manifests/platform/grafana"
FILES = {path.stem: path for path in sorted((GRAFANA / "dashboards").glob("*.json"))}


def dashboard(name: str) -> Dashboard:
    return Dashboard.model_validate(json.loads(FILES[name].read_text(encoding="utf-8")))


def expressions(one: Dashboard) -> list[str]:
    """All queries, with Grafana's variables replaced as it replaces them."""
    values = {"__rate_interval": "1m", "__range": "6h"} | {each.name: each.allValue for each in one.templating.list}
    found = [query.expr for panel in one.panels for query in panel.targets]
    found += [re.sub(r"^label_values\((.*), \w+\)$", r"\1", each.query.query) for each in one.templating.list]
    return [re.sub(r"\$(\w+)", lambda match: values[match[1]], each) for each in found]
