"""What Renovate is told to look for is there to be found."""

import json
import re
from typing import Any

import pytest

from testbeds.common.tools import CHECKOUT

SETTINGS: Any = json.loads((CHECKOUT / "renovate.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("manager", SETTINGS["customManagers"], ids=lambda manager: manager["description"])
def test_each_pattern_finds_a_version(manager: dict[str, Any]) -> None:
    """In a file for each pattern of files; a version that moved would stay old without a word."""
    (pattern,) = manager["matchStrings"]
    in_python = re.compile(pattern.replace("(?<", "(?P<"))
    for files in manager["managerFilePatterns"]:
        texts = [path.read_text(encoding="utf-8") for path in CHECKOUT.glob(files)]
        assert any(in_python.search(text) for text in texts), files


def test_what_is_left_out_is_there() -> None:
    """Locks that one command writes as a whole."""
    assert all(next(CHECKOUT.glob(path.removesuffix("/**")), None) for path in SETTINGS["ignorePaths"])
