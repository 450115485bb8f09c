"""The demo's last page: the table of promotions and the summary of the client."""

import re

from testbeds.story.stages import Stages
from testbeds.story.stories import Outcome
from testbeds.story.table import WIDTH, client_summary, story_table, wrapped
from tests.story.true_story import STORY, requested_at, true_story

STATES = {1: "champion", 2: "champion", 3: "rolled_back", 4: "refused", 5: "refused"}
OUTCOMES = [
    Outcome(
        version,
        requested_at(version),
        state,
        "" if state == "champion" else f"reason {version}",
        requested_at(version) + 25,
    )
    for version, state in STATES.items()
]


def test_the_table_has_one_row_per_promotion() -> None:
    """A row shows when each stage was reached, in seconds since the event, and a dash for a stage that was not."""
    stages = {1: Stages(requested_at(1) + 6.25, requested_at(1) + 7, requested_at(1) + 9, requested_at(1) + 24)}
    table = story_table(STORY, OUTCOMES, true_story(), stages)
    rows = [line.split() for line in table.splitlines() if re.match(r"[1-5] ", line)]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0][2:] == [
        true_story().commits[1].commit[:8], "+5", "+6.2", "+9.0", "Passed", "+16.0", "+24.0", "champion",
    ]  # fmt: skip
    assert rows[2][6:] == ["Failed", "+16.0", "-", "rolled", "back", "+25.0"]
    assert rows[3][2:] == ["-", "-", "-", "-", "-", "refused", "+25.0"]
    assert "version 4: reason 4" in table
    assert f"version 3 (taken back by {true_story().commits[4].commit[:8]}): reason 3" in table
    assert max(map(len, table.splitlines())) <= WIDTH


def test_the_clients_summary_counts_harm_separately() -> None:
    """The summary counts requests during good promotions separately from those that the bad version answered."""
    text = client_summary(STORY, true_story())
    assert "sent 660 requests" in text
    assert re.search(r"versions 1 and 2: \d+ sent, 0 failed", text)
    assert "harmed by version 3: 30 of the 30 that it answered (6 failed, 24 took longer" in text


def test_long_lines_are_wrapped_and_digests_shortened() -> None:
    """A long reason is wrapped to the terminal's width, and a digest in it is shortened to eight digits."""
    text = wrapped(f"image host/model@sha256:{'ab' * 32} " + "not found " * 20, "12.0 s  ", "        ")
    assert "@sha256:abababab not" in text
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert all(line.startswith("        ") for line in text.splitlines()[1:])
