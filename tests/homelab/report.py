"""What the homelab's tests report at the end of the output."""

import pytest

_SECTIONS = pytest.StashKey[list[tuple[str, list[str]]]]()


def report_at_end(config: pytest.Config, title: str, lines: list[str]) -> None:
    """Have a section printed after all tests."""
    config.stash.setdefault(_SECTIONS, []).append((title, lines))


def sections(config: pytest.Config) -> list[tuple[str, list[str]]]:
    return config.stash.get(_SECTIONS, [])
