"""YAML as values of JSON, resolved as go-yaml's second version does, which Argo CD reads manifests with."""

from typing import Any

import pytest

from orchestration.promotion.yaml_text import RefusedError, read_stream
from orchestration.promotion.yaml_values import value_of


def read(text: str) -> Any:
    (document,) = read_stream(text.encode()).documents
    return value_of(document.root)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("true", "True", "yes", "YES", "on", "y", "Y")),
        *((word, False) for word in ("false", "FALSE", "no", "Off", "n")),
        *((word, None) for word in ("~", "null", "Null", "")),
        *(
            (word, word)
            for word in ("tRUE", "nULL", "models:/iris/7", "1:30", "1.2.3", "2026-11-27", "0x", "08x", "--1")
        ),
        ("0", 0),
        ("007", 7),
        ("0644", 0o644),
        ("0o17", 0o17),
        ("0x1F", 31),
        ("0b101", 5),
        ("-12", -12),
        ("+1_000", 1000),
        ("08", 8),  # no octal number, so a float, which JSON writes without a fraction
        ("2.0", 2),
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("1e3", 1000),
        ("12e34567", float("inf")),
        (".inf", float("inf")),
        ("'1'", "1"),
        ('"yes"', "yes"),
        ("!!str 1", "1"),
    ],
)
def test_a_scalar_is_resolved_as_argo_cd_does(text: str, value: object) -> None:
    """YAML 1.1 without base 60; dates and what stands in quotes are texts."""
    found = read(f"a: {text}\n")["a"]
    assert (found, type(found)) == (value, type(value))


def test_own_keys_go_before_merged_ones() -> None:
    """Of several merged mappings the first one counts, and an alias stands for what it names."""
    text = "x: &x {a: 1, b: 1}\ny: &y {a: 2, c: 2}\nz:\n  <<: [*x, *y]\n  b: 3\nw: [*x, {<<: *y}]\n"
    found = read(text)
    assert found["z"] == {"a": 1, "b": 3, "c": 2}
    assert found["w"] == [{"a": 1, "b": 1}, {"a": 2, "c": 2}]


def test_aliases_to_aliases_have_an_end() -> None:
    """A file that would unfold to a billion values, and one that holds itself, are refused."""
    lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30))]
    for text in ("\n".join(lines), "a: &a [*a]"):
        with pytest.raises(RefusedError, match="aliases"):
            read(text)
