"""Paths to values in JSON: written as they are read, and refused when they name no place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.json_paths import format_path, leaves, parse_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("$.data[0].score", ("data", 0, "score")),
        ("data.took_ms", ("data", "took_ms")),
        ("[0].label", (0, "label")),
        ("$.outputs[*].id", ("outputs", None, "id")),
        ("$.*.id", (None, "id")),
        ('$[\'a b\']["c\\"d"]', ("a b", 'c"d')),
        ("$.x-y", ("x-y",)),
    ],
)
def test_paths_are_read(text: str, path: tuple[object, ...]) -> None:
    """The dollar may be left out, a star stands for every member, and names with blanks are in quotes."""
    assert parse_path(text) == path


@pytest.mark.parametrize("text", ["", "$", "a..b", "a[", "a[-1]", "a b", "$a[x]", "[1:2]", "?(@.a)", "a\n"])
def test_what_names_no_place_is_refused(text: str) -> None:
    """Filters and slices are not supported, and the whole answer has no path."""
    with pytest.raises(ValueError, match=r"expected a path such as \$\.data"):
        parse_path(text)


@given(st.lists(st.text() | st.integers(min_value=0, max_value=10**8), min_size=1, max_size=4))
def test_a_path_is_read_as_it_is_written(path: list[str | int]) -> None:
    """Whatever the keys are."""
    assert parse_path(format_path(path)) == tuple(path)


def test_leaves_are_what_has_nothing_below() -> None:
    """An empty object or list is one, too."""
    assert dict(leaves({"a": [1, {"b": None}], "c": {}, "d": []})) == {
        ("a", 0): 1,
        ("a", 1, "b"): None,
        ("c",): {},
        ("d",): [],
    }
