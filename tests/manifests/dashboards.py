"""Grafana's dashboards in Git, and their queries to Prometheus."""

import json
import re

from testbeds.common.tools import CHECKOUT
from testbeds.dashboards.schema import Dashboard

GRAFANA = CHECKOUT / "manifests/platform/grafana"
FILES = {path.stem: path for path in sorted((GRAFANA / "dashboards").glob("*.json"))}


def dashboard(name: str) -> Dashboard:
    return Dashboard.model_validate(json.loads(FILES[name].read_text(encoding="utf-8")))


def expressions(dashboard: Dashboard) -> list[str]:
    """Return all queries of a dashboard, with Grafana's variables replaced as Grafana does it."""
    variables = dashboard.templating.list
    values = {"__rate_interval": "1m", "__range": "6h", "__range_s": "21600"} | {
        variable.name: variable.allValue for variable in variables
    }
    queries = [query.expr for panel in dashboard.panels for query in panel.targets]
    queries += [annotation.expr for annotation in dashboard.annotations.list]
    queries += [re.sub(r"^label_values\((.*), \w+\)$", r"\1", variable.query.query) for variable in variables]
    return [re.sub(r"\$(\w+)", lambda match: values[match[1]], query) for query in queries]
