"""Parts of dashboards, each as small as the schema allows."""

from testbeds.dashboards.schema import Annotation, DataSource, Query, Table, Variable

_SOURCE = {"type": "prometheus", "uid": "prometheus"}


def query(expression: str, *, instant: bool = False, table: bool = False, legend: str = "") -> Query:
    source = DataSource.model_validate(_SOURCE)
    return Query(
        refId="A",
        datasource=source,
        expr=expression,
        legendFormat=legend,
        instant=instant,
        range=not instant,
        format="table" if table else "time_series",
    )


def variable(name: str) -> Variable:
    content = {
        "type": "query",
        "name": name,
        "label": name,
        "datasource": _SOURCE,
        "query": {"query": f"label_values(up, {name})", "refId": "A"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
        "skipUrlSync": False,
        "options": [],
    }
    return Variable.model_validate(content)


def annotation(expression: str) -> Annotation:
    content = {
        "name": "ends",
        "datasource": _SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "expr": expression,
        "titleFormat": "{{end}}",
        "textFormat": "{{reason}}",
        "tagKeys": "end",
        "useValueForTime": True,
        "step": "60s",
    }
    return Annotation.model_validate(content)


def table(w: int) -> Table:
    content = {
        "id": 1,
        "type": "table",
        "title": "a table",
        "datasource": _SOURCE,
        "gridPos": {"x": 0, "y": 0, "w": w, "h": 5},
        "fieldConfig": {"defaults": {"unit": "short"}, "overrides": []},
        "targets": [{"refId": "A", "datasource": _SOURCE, "expr": "up", "legendFormat": ""}],
        "options": {"showHeader": True, "cellHeight": "sm", "frameIndex": 0},
        "transformations": [],
    }
    return Table.model_validate(content)
