"""Notifications by apprise, beside what `tests/orchestration/test_notifications.py` shows through the sensor."""

import re
from pathlib import Path

import apprise
import pytest

from orchestration.adapters.notifier import read_destinations

PAGE = Path(__file__).parents[2] / "docs/notifications.md"


def examples() -> list[str]:
    """The addresses of the documentation's example of a file."""
    block = re.search(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return [line for line in block[1].splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("address", "service"), [*zip(examples(), ["Email", "Slack", "Ntfy", "Workflows", "JSON"], strict=True)]
)
def test_the_documented_addresses_are_usable(address: str, service: str) -> None:
    """Each is one that apprise knows as what the page calls it."""
    used = apprise.Apprise.instantiate(address)
    assert type(used).__name__ == f"Notify{service}"


def test_a_destination_shows_nothing_of_its_address(tmp_path: Path) -> None:
    """Neither its name nor its representation, and the file's lines count as an editor shows them."""
    file = tmp_path / "notify.txt"
    file.write_bytes(b"\xef\xbb\xbf# comment\r\n\r\n  json://me:s3cr3t@host  \r\njson://me:s3cr3t@host\r\n")
    (only,) = read_destinations(str(file), "json://me:s3cr3t@host")
    assert (only.name, only.address) == (f"line 3 of {file}", "json://me:s3cr3t@host")
    assert "s3cr3t" not in repr(only) + str(only)
