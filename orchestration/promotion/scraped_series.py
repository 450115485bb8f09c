"""Series as a server's own page of metrics has them, and which of them a preset's query selects."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}")
_MATCHER = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)(=~|!~|!=|=)"([^"]*)"')
_COMMENT = re.compile(r"^#.*\n?", re.MULTILINE)
_OF_PROMETHEUS = {"namespace", "pod", "job"}
"""Labels that Prometheus adds to what a server says."""


@dataclass(frozen=True)
class Selector:
    """The series of one name whose labels match."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    """Each label with an operator of PromQL and a value; a label that is missing is empty."""

    def selects(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a series is one of these."""
        return name == self.name and all(
            (operator in ("=", "=~")) is _matches(operator, labels.get(label, ""), value)
            for label, operator, value in self.matchers
        )


@dataclass(frozen=True)
class Scraped:
    """What a server said at one time."""

    series: tuple[tuple[str, Mapping[str, str], float], ...]

    def total(self, selectors: Iterable[Selector], **labels: str) -> float:
        """Add up all series that any selector selects and that have these labels, too; 0 when there are none."""
        wanted = tuple(selectors)
        return sum(
            value
            for name, has, value in self.series
            if labels.items() <= has.items() and any(selector.selects(name, has) for selector in wanted)
        )

    def labels_of(self, name: str) -> list[Mapping[str, str]]:
        """Return the labels of each series of that name."""
        return [has for each, has, _ in self.series if each == name]


def read_series(text: str) -> Scraped:
    """Read Prometheus's text format.

    Raises:
        ValueError: the text is something else.
    """
    bare = _COMMENT.sub("", text)  # of what is said to be a counter, the parser would change the name
    families = text_string_to_metric_families(bare)
    return Scraped(tuple((each.name, each.labels, each.value) for family in families for each in family.samples))


def selectors_of(query: str) -> frozenset[Selector]:
    """Return what a preset's query selects of the series that a server exports; traffic of every `$source`."""
    return frozenset(
        Selector(
            name,
            tuple(
                (label, operator, value)
                for label, operator, value in _MATCHER.findall(matchers)
                if label not in _OF_PROMETHEUS and not value.startswith("$")
            ),
        )
        for name, matchers in _SELECTOR.findall(query)
    )


def _matches(operator: str, found: str, value: str) -> bool:
    return re.fullmatch(value, found) is not None if operator.endswith("~") else found == value
