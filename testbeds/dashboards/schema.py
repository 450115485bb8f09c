"""A schema of dashboards, taken from Grafana 11.3.0's dashboard kind (npm's `@grafana/schema` of that version).

The kind allows far more. This is the part that the dashboards here use and that the pictures show, and it is strict: an
unknown field, which Grafana would silently ignore, is an error, and so is a value that nothing here draws.
"""

# ruff: noqa: N815  # the fields have Grafana's names

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DataSource(Strict):
    type: Literal["prometheus"]
    uid: Literal["prometheus"]


class Query(Strict):
    refId: Annotated[str, Field(pattern="^[A-Z]$")]
    datasource: DataSource
    expr: str
    legendFormat: str
    instant: bool = False
    range: bool = True
    format: Literal["time_series", "table"] = "time_series"

    @model_validator(mode="after")
    def _asks_once(self) -> "Query":
        if self.instant == self.range:
            raise ValueError("a query is asked either for one moment (instant) or over time (range)")
        return self


class Place(Strict):
    h: Annotated[int, Field(gt=0)]
    w: Annotated[int, Field(gt=0, le=24)]
    x: Annotated[int, Field(ge=0, lt=24)]
    y: Annotated[int, Field(ge=0)]


class Threshold(Strict):
    value: float | int | None
    color: str


class Thresholds(Strict):
    mode: Literal["absolute", "percentage"]
    steps: list[Threshold]


class Color(Strict):
    mode: Literal["thresholds", "palette-classic"]


Unit = Literal["bool_yes_no", "bytes", "dateTimeAsIso", "percentunit", "reqps", "s", "short"]


class Defaults(Strict):
    unit: Unit
    decimals: int | None = None
    noValue: str | None = None
    """Shown where there is nothing; the panel says `No data` otherwise."""
    min: float | int | None = None
    max: float | int | None = None
    thresholds: Thresholds | None = None
    color: Color | None = None


class Matcher(Strict):
    id: Literal["byName", "byRegexp"]
    options: str


class FixedColor(Strict):
    mode: Literal["fixed"]
    fixedColor: str


class Dash(Strict):
    fill: Literal["dash"]
    dash: list[int]


class Cell(Strict):
    type: Literal["auto"]
    wrapText: bool


class UnitProperty(Strict):
    id: Literal["unit"]
    value: Unit


class ColorProperty(Strict):
    id: Literal["color"]
    value: FixedColor


class WidthProperty(Strict):
    id: Literal["custom.width"]
    value: int


class CellProperty(Strict):
    id: Literal["custom.cellOptions"]
    value: Cell


class LineProperty(Strict):
    id: Literal["custom.lineStyle"]
    value: Dash


class NoValueProperty(Strict):
    id: Literal["noValue"]
    value: str


class ThresholdsProperty(Strict):
    id: Literal["thresholds"]
    value: Thresholds


Property = (
    UnitProperty | NoValueProperty | ColorProperty | ThresholdsProperty | WidthProperty | CellProperty | LineProperty
)


class Override(Strict):
    matcher: Matcher
    properties: list[Annotated[Property, Field(discriminator="id")]]


class Fields(Strict):
    defaults: Defaults
    overrides: list[Override]


class PanelBase(Strict):
    id: int
    title: str
    description: str = ""
    datasource: DataSource
    gridPos: Place
    fieldConfig: Fields
    targets: Annotated[list[Query], Field(min_length=1)]


class Legend(Strict):
    displayMode: Literal["list", "table"]
    placement: Literal["bottom", "right"]
    showLegend: bool
    calcs: list[str]


class Tooltip(Strict):
    mode: Literal["single", "multi", "none"]
    sort: Literal["asc", "desc", "none"]


class TimeSeriesOptions(Strict):
    legend: Legend
    tooltip: Tooltip


class TimeSeries(PanelBase):
    type: Literal["timeseries"]
    options: TimeSeriesOptions


class Reduce(Strict):
    calcs: list[Literal["lastNotNull"]]
    values: bool


class StatOptions(Strict):
    reduceOptions: Reduce
    textMode: Literal["auto", "value", "value_and_name", "name", "none"]
    colorMode: Literal["value", "background", "background_solid", "none"]
    graphMode: Literal["none"]
    justifyMode: Literal["auto", "center"]
    orientation: Literal["auto", "vertical", "horizontal"]
    wideLayout: bool
    showPercentChange: Literal[False]
    percentChangeColorMode: Literal["standard"]


class Stat(PanelBase):
    type: Literal["stat"]
    options: StatOptions


class SortBy(Strict):
    displayName: str
    desc: bool


class TableOptions(Strict):
    showHeader: bool
    cellHeight: Literal["sm", "md", "lg"]
    frameIndex: int
    sortBy: list[SortBy] = []


class Organize(Strict):
    excludeByName: dict[str, bool]
    indexByName: dict[str, int]
    renameByName: dict[str, str]


class Transformation(Strict):
    id: Literal["organize"]
    options: Organize


class Table(PanelBase):
    type: Literal["table"]
    options: TableOptions
    transformations: list[Transformation]


Panel = TimeSeries | Stat | Table


class VariableQuery(Strict):
    query: str
    refId: str


class Current(Strict):
    text: str
    value: str


class Variable(Strict):
    type: Literal["query"]
    name: str
    label: str
    datasource: DataSource
    query: VariableQuery
    refresh: Literal[0, 1, 2]
    sort: Literal[0, 1, 2, 3, 4, 5, 6, 7, 8]
    multi: bool
    includeAll: bool
    allValue: str
    current: Current
    hide: Literal[0, 1, 2]
    skipUrlSync: bool
    options: list[Any]


class Variables(Strict):
    list: list[Variable]


class Annotation(Strict):
    """A query whose samples are marks in every panel over time; the fields after `iconColor` are Prometheus's own."""

    name: str
    datasource: DataSource
    enable: Literal[True]
    hide: Literal[False]
    iconColor: str
    expr: str
    titleFormat: str
    textFormat: str
    tagKeys: str
    useValueForTime: Literal[True]
    """Whether a sample's value, in milliseconds, is the time of the mark."""
    step: Annotated[str, Field(pattern="^[0-9]+[smhd]$")]


class Annotations(Strict):
    list: list[Annotation]


class Link(Strict):
    title: str
    type: Literal["link", "dashboards"]
    tags: list[str]
    icon: str
    tooltip: str
    url: str
    asDropdown: bool
    targetBlank: bool
    includeVars: bool
    keepTime: bool


class Span(Strict):
    from_: Annotated[str, Field(alias="from")]
    to: str


class Dashboard(Strict):
    uid: Annotated[str, Field(min_length=8, max_length=40)]
    title: str
    description: str
    tags: list[str]
    editable: bool
    graphTooltip: Literal[0, 1, 2]
    schemaVersion: Literal[39]
    version: int
    timezone: Literal["browser", "utc"]
    refresh: str
    time: Span
    templating: Variables
    annotations: Annotations
    links: list[Link]
    panels: list[Annotated[Panel, Field(discriminator="type")]]
