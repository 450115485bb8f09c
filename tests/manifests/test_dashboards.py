"""Grafana's dashboards match its schema, their panels do not overlap, and Prometheus understands each query."""

import configparser
import json
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from testbeds.common.tools import CHECKOUT
from testbeds.dashboards.schema import Dashboard, Place
from tests.manifests.dashboards import FILES, GRAFANA, dashboard, expressions
from tests.platform.programs import PROMTOOLS, output_of

RULES = CHECKOUT / "manifests/platform/monitoring/rules"


def test_the_dashboards_are_those_that_were_promised() -> None:
    """There are dashboards of models, promotions and clusters, and one to begin with."""
    assert set(FILES) == {"home", "models", "promotions", "clusters"}


@pytest.mark.parametrize("name", FILES)
def test_a_dashboard_matches_grafanas_schema(name: str) -> None:
    """Grafana knows every field, the panels' ids are unique, and the panels do not overlap."""
    panels = dashboard(name).panels
    assert len({panel.id for panel in panels}) == len(panels)
    assert not [pair for pair in combinations([panel.gridPos for panel in panels], 2) if _overlap(*pair)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda dashboard: dashboard.update(schemaVersions=39),
        lambda dashboard: dashboard["panels"][0].update(type="graph"),
        lambda dashboard: dashboard["panels"][0]["gridPos"].update(w=25),
        lambda dashboard: dashboard["panels"][0]["targets"][0].pop("expr"),
    ],
    ids=["unknown field", "old panel type", "too wide", "no query"],
)
def test_the_schema_finds_mistakes(spoil: Callable[[dict[str, Any]], None]) -> None:
    """What Grafana would silently ignore or show as an empty panel is an error here."""
    content = json.loads(FILES["models"].read_text(encoding="utf-8"))
    spoil(content)
    with pytest.raises(ValidationError):
        Dashboard.model_validate(content)


@pytest.mark.parametrize("promtool", PROMTOOLS)
@pytest.mark.parametrize("name", FILES)
def test_each_query_is_understood(name: str, promtool: Callable[[], Path], tmp_path: Path) -> None:
    """Prometheus 2 and 3 accept each query of a dashboard, with its variables replaced."""
    queries = expressions(dashboard(name))
    records = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": name, "rules": records}]}), encoding="utf-8")
    output_of(promtool(), "check", "rules", file)


def test_each_record_that_is_shown_is_recorded() -> None:
    """Each record that a dashboard names has a recording rule."""
    text = "".join(path.read_text(encoding="utf-8") for path in RULES.glob("*.yml"))
    recorded = set(re.findall(r"record: (\S+)", text))
    queries = [query for name in FILES for query in expressions(dashboard(name))]
    shown = {record for query in queries for record in re.findall(r"\w+:[\w:]+", query)}
    assert shown
    assert shown <= recorded


def test_the_data_source_is_the_one_that_the_panels_name() -> None:
    """The provisioned data source has the uid that panels use, and Prometheus's address in the namespace."""
    (source,) = YAML(typ="safe").load(GRAFANA / "config/datasource.yml")["datasources"]
    assert (source["uid"], source["type"], source["url"]) == ("prometheus", "prometheus", "http://prometheus:9090")


def test_home_is_the_first_page() -> None:
    """Grafana opens with the dashboard that says what is live and what needs someone."""
    settings = configparser.ConfigParser()
    settings.read(GRAFANA / "config/grafana.ini", encoding="utf-8")
    (provider,) = YAML(typ="safe").load(GRAFANA / "config/dashboards.yml")["providers"]
    first = settings.get("dashboards", "default_home_dashboard_path")
    assert first == f"{provider['options']['path']}/{FILES['home'].name}"


@pytest.mark.parametrize("name", ["home", "promotions", "models"])
def test_the_ends_of_promotions_are_marked(name: str) -> None:
    """Each end is a mark at its own time, in the milliseconds that Grafana expects; new champions have their colour."""
    marks = dashboard(name).annotations.list
    assert all(mark.useValueForTime for mark in marks)
    ends = {re.sub(r'.*\{\w+=~"\$\w+",(end.*)\} \* 1000', r"\1", mark.expr): mark.iconColor for mark in marks}
    assert ends == {'end="champion"': "green", 'end!="champion"': "orange"}
    assert all(mark.expr.startswith("incumbent_promotion_ended_timestamp_seconds{") for mark in marks)


@pytest.mark.parametrize("name", FILES)
def test_a_date_is_the_unit_of_its_own_column(name: str) -> None:
    """Grafana reads every cell of a field with a date's unit as a date, and shows `NaN` for a name."""
    assert not [panel.title for panel in dashboard(name).panels if panel.fieldConfig.defaults.unit.startswith("date")]


@pytest.mark.parametrize("name", FILES)
def test_no_number_is_judged_by_grafanas_own_thresholds(name: str) -> None:
    """A number without thresholds would be green below 80 and red above, whatever it means."""
    stats = [panel for panel in dashboard(name).panels if panel.type == "stat"]
    assert stats
    judged = {panel.title for panel in stats if panel.options.colorMode != "none"}
    assert judged == {panel.title for panel in stats if panel.fieldConfig.defaults.thresholds is not None}


@pytest.mark.parametrize("name", FILES)
def test_what_nobody_knows_has_no_colour(name: str) -> None:
    """Grafana gives a number that is missing the colour of the lowest threshold, which is therefore that of text."""
    thresholds = [panel.fieldConfig.defaults.thresholds for panel in dashboard(name).panels]
    assert {each.steps[0].color for each in thresholds if each is not None} == {"text"}


@pytest.mark.parametrize("name", FILES)
def test_the_words_for_an_empty_table_are_not_those_of_an_empty_cell(name: str) -> None:
    """Grafana writes the text for no value into each empty cell, too, unless the fields have none."""
    tables = [panel for panel in dashboard(name).panels if panel.type == "table"]
    for table in tables:
        first = table.fieldConfig.overrides[0]
        assert table.fieldConfig.defaults.noValue
        assert (first.matcher.options, [each.value for each in first.properties]) == ("/./", [""])


def test_a_figure_is_the_same_on_two_dashboards() -> None:
    """Home repeats figures of the dashboard on promotions: with the same queries, units and colours."""
    here, there = ({panel.title: panel for panel in dashboard(name).panels} for name in ("home", "promotions"))
    shared = (here.keys() & there.keys()) - {"Live"}
    assert len(shared) == 6
    anywhere = {"id": 0, "gridPos": None}
    assert not [
        title for title in shared if here[title].model_copy(update=anywhere) != there[title].model_copy(update=anywhere)
    ]


def test_rare_events_are_not_shown_as_percentiles() -> None:
    """A quantile of a histogram with one promotion is the middle of a bucket, and the same for every policy."""
    assert not [query for query in expressions(dashboard("promotions")) if "histogram_quantile" in query]


def test_no_password_is_written_down() -> None:
    """Password and key are read from files and replace Grafana's defaults, which are public."""
    settings = configparser.ConfigParser()
    settings.read(GRAFANA / "config/grafana.ini", encoding="utf-8")
    for name in ("admin_password", "secret_key"):
        assert settings.get("security", name, raw=True).startswith("$__file{/etc/grafana/secret/")


def _overlap(one: Place, other: Place) -> bool:
    beside = one.x + one.w <= other.x or other.x + other.w <= one.x
    above = one.y + one.h <= other.y or other.y + other.h <= one.y
    return not beside and not above
