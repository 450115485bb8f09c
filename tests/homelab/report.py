"""Lines that the homelab's tests have for whoever reads the end of the output."""

import pytest

_SECTIONS = pytest.StashKey[list[tuple[str, list[str]]]]()


def say_at_the_end(config: pytest.Config, title: str, lines: list[str]) -> None:
    """Print a section after all tests."""
    config.stash.setdefault(_SECTIONS, []).append((title, lines))


def sections(config: pytest.Config) -> list[tuple[str, list[str]]]:
    return config.stash.get(_SECTIONS, [])
