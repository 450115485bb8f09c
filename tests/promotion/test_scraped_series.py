"""What a preset's queries select is found in what its server exports, without a Prometheus."""

from pathlib import Path

import pytest

from orchestration.promotion.metrics_presets import LATENCY_P95, PRESETS
from orchestration.promotion.scraped_series import Scraped, Selector, read_series, selectors_of

EXPOSITIONS = Path(__file__).parents[1] / "expositions"
EXPORTED = sorted(PRESETS.keys() - {"incumbent"})
"""Those of which a page is kept; that of this project's own server is checked on the server."""


def gained(name: str, query: str, **labels: str) -> float:
    before, after = (
        read_series((EXPOSITIONS / f"{name}-{phase}.prom").read_text(encoding="utf-8")) for phase in ("before", "after")
    )
    selectors = selectors_of(query)
    return after.total(selectors, **labels) - before.total(selectors, **labels)


@pytest.mark.parametrize("name", EXPORTED)
def test_a_presets_series_gain_what_was_answered(name: str) -> None:
    """24 were answered well; 8 of the model's faults count, too, and 8 of clients' where none can tell."""
    preset = PRESETS[name]
    assert gained(name, preset.well) == 24
    assert gained(name, preset.requests) == (40 if name in ("kserve", "mlflow-fastapi") else 32)
    assert gained(name, preset.slos[LATENCY_P95], le="+Inf") >= 24


def test_a_query_selects_by_what_the_server_itself_says() -> None:
    """Labels that Prometheus adds, and the traffic that is chosen later, are left out."""
    query = 'sum(a_total{namespace="$namespace",pod=~"$pods",job="j",source=~"$source",code!~"4..",p="/p"}) / b{x="1"}'
    assert selectors_of(query) == {
        Selector("a_total", (("code", "!~", "4.."), ("p", "=", "/p"))),
        Selector("b", (("x", "=", "1"),)),
    }


@pytest.mark.parametrize(
    ("operator", "value", "selected"),
    [
        ("=", "ok", ["ok"]),
        ("!=", "ok", ["bad", "okay", None]),
        ("=~", "ok|bad", ["ok", "bad"]),
        ("!~", "ok.*", ["bad", None]),
        ("=", "", [None]),
    ],
)
def test_matchers_mean_what_they_mean_in_promql(operator: str, value: str, selected: list[str | None]) -> None:
    """Regular expressions match the whole value, and a label that is missing is empty."""
    selector = Selector("n", (("outcome", operator, value),))
    values: tuple[str | None, ...] = ("ok", "bad", "okay", None)
    found = [each for each in values if selector.selects("n", {} if each is None else {"outcome": each})]
    assert found == selected
    assert not selector.selects("other", {"outcome": "ok"})


def test_series_that_two_selectors_select_count_once() -> None:
    """A query names the same counter several times."""
    scraped = Scraped((("n", {"a": "1"}, 2.0), ("n", {"a": "2"}, 3.0)))
    assert scraped.total([Selector("n", ()), Selector("n", (("a", "=", "1"),))]) == 5
    assert scraped.total([Selector("n", ())], a="2") == 3


def test_other_text_is_no_exposition() -> None:
    """A page for people is refused."""
    with pytest.raises(ValueError, match=r".*"):
        read_series("<html><body>metrics</body></html>")
