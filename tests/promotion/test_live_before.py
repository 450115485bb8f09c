"""What the pods that served before measured, as a trailer of the promotion's commit."""

import pytest

from orchestration.promotion.live_before import dump_live, parse_live


def test_values_survive_the_trailer() -> None:
    """On one line, as a trailer must be."""
    values = {"latency_p95_seconds": 0.1234, "success_ratio": 1.0}
    assert "\n" not in dump_live(values)
    assert parse_live(dump_live(values)) == values


@pytest.mark.parametrize(
    "text",
    ["", "fast", "[1]", '{"a": "1"}', '{"a": NaN}', '{"a": Infinity}', '{"a": true}', '{"a": null}', "[" * 10**5],
)
def test_what_is_no_value_is_left_out(text: str) -> None:
    """Anyone may write a commit; nothing in it may pass for a measurement."""
    assert parse_live(text) == {}
