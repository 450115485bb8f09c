"""Grafana's dashboards: of its schema, laid out without overlap, and each query one that Prometheus understands."""

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
from tests.manifests.dashboard_schema import Dashboard, Place
from tests.manifests.dashboards import FILES, GRAFANA, dashboard, expressions
from tests.platform.programs import PROMTOOLS, says

RULES = CHECKOUT / "manifests/platform/monitoring/rules"


def test_the_dashboards_are_those_that_were_promised() -> None:
    """Models, promotions and clusters."""
    assert set(FILES) == {"models", "promotions", "clusters"}


@pytest.mark.parametrize("name", FILES)
def test_a_dashboard_has_grafanas_schema(name: str) -> None:
    """Each field is one that Grafana knows, and panels are told apart and do not overlap."""
    panels = dashboard(name).panels
    assert len({panel.id for panel in panels}) == len(panels)
    assert not [pair for pair in combinations([panel.gridPos for panel in panels], 2) if _overlap(*pair)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: one.update(schemaVersions=39),
        lambda one: one["panels"][0].update(type="graph"),
        lambda one: one["panels"][0]["gridPos"].update(w=25),
        lambda one: one["panels"][0]["targets"][0].pop("expr"),
    ],
    ids=["unknown field", "panel of old", "too wide", "no query"],
)
def test_the_schema_finds_mistakes(spoil: Callable[[dict[str, Any]], None]) -> None:
    """What Grafana would ignore in silence, or show as an empty panel, is an error here."""
    content = json.loads(FILES["models"].read_text(encoding="utf-8"))
    spoil(content)
    with pytest.raises(ValidationError):
        Dashboard.model_validate(content)


@pytest.mark.parametrize("promtool", PROMTOOLS)
@pytest.mark.parametrize("name", FILES)
def test_each_query_is_understood(name: str, promtool: Callable[[], Path], tmp_path: Path) -> None:
    """Prometheus 2 and 3 take each query of a dashboard, its variables replaced."""
    asked = expressions(dashboard(name))
    records = [{"record": f"query:{number}", "expr": expression} for number, expression in enumerate(asked)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": name, "rules": records}]}), encoding="utf-8")
    says(promtool(), "check", "rules", file)


def test_each_record_that_is_shown_is_recorded() -> None:
    """A dashboard names no recording rule that is not there."""
    text = "".join(path.read_text(encoding="utf-8") for path in RULES.glob("*.yml"))
    recorded = set(re.findall(r"record: (\S+)", text))
    shown = {each for name in FILES for one in expressions(dashboard(name)) for each in re.findall(r"\w+:[\w:]+", one)}
    assert shown
    assert shown <= recorded


def test_the_data_source_is_the_one_that_the_panels_name() -> None:
    """The provisioned source has the panels' uid, and Prometheus's own address in the namespace."""
    (source,) = YAML(typ="safe").load(GRAFANA / "config/datasource.yml")["datasources"]
    assert (source["uid"], source["type"], source["url"]) == ("prometheus", "prometheus", "http://prometheus:9090")


def test_no_password_is_written_down() -> None:
    """Password and key are read from files; Grafana's defaults for both are known to everybody."""
    settings = configparser.ConfigParser()
    settings.read(GRAFANA / "config/grafana.ini", encoding="utf-8")
    for name in ("admin_password", "secret_key"):
        assert settings.get("security", name, raw=True).startswith("$__file{/etc/grafana/secret/")


def _overlap(one: Place, other: Place) -> bool:
    beside = one.x + one.w <= other.x or other.x + other.w <= one.x
    above = one.y + one.h <= other.y or other.y + other.h <= one.y
    return not beside and not above
