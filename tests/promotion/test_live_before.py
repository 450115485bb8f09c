"""What was learned of the pods that served before, as a trailer of the promotion's commit."""

import pytest

from orchestration.promotion.live_before import ToldApart, dump_live, dump_told_apart, parse_live, parse_told_apart


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


def test_what_tells_a_version_apart_survives_the_trailer() -> None:
    """On one line, with quotes and line ends as servers write them."""
    told = ToldApart('pod "a": expected 1,\nfound 2', "sha256:1", "")
    assert "\n" not in dump_told_apart(told)
    assert parse_told_apart(dump_told_apart(told)) == told


@pytest.mark.parametrize(
    "text", ["", "yes", "true", "{}", '{"difference": 1, "requests": "", "image": ""}', "[" * 10**5]
)
def test_another_text_tells_nothing_apart(text: str) -> None:
    """Anyone may write a commit, and only what was found out before it counts."""
    assert parse_told_apart(text) is None
