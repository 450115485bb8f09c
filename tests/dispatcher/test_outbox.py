"""The outbox in SQLite: what is kept, recognised, counted, removed, and what happens to a file that is damaged."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.adapters.outbox import FILE, SqliteOutbox, look_into_outbox, open_outbox
from orchestration.dispatcher.notification import Status
from orchestration.dispatcher.outbox import OutboxDamagedError, OutboxUnusableError, State
from orchestration.promotion.problems import InvalidInputError
from tests.fakes.dispatching import alert

NOW, HOUR, DAY = 1_000_000.0, 3600.0, 86400.0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[SqliteOutbox]:
    opened = open_outbox(tmp_path)
    yield opened
    opened.close()


def waiting(outbox: SqliteOutbox, *names: str, at: float = NOW) -> None:
    outbox.accept([(alert(name), State.WAITING) for name in names], at)


def test_it_is_written_safely(outbox: SqliteOutbox, tmp_path: Path) -> None:
    """The journal is a write-ahead log that is flushed at each commit, and nobody else may read the file."""
    assert outbox._value("PRAGMA journal_mode") == "wal"
    assert outbox._value("PRAGMA synchronous") == 2  # FULL
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    """Alerts, their states and their attempts are read back as they were."""
    first, sent = open_outbox(tmp_path), alert()
    assert first.accept([(sent, State.WAITING)], NOW) == 1
    entry = first.next_due(NOW, HOUR)
    assert entry is not None
    first.begin_attempt(entry)
    first.close()
    second = open_outbox(tmp_path)
    found = second.next_due(NOW, HOUR)
    assert found is not None
    assert (found.alert, found.attempts, found.received_at) == (sent, 1, NOW)
    second.close()


def test_a_repeated_alert_is_known(outbox: SqliteOutbox) -> None:
    """Fingerprint, start and status recognise it, in one notification or in several; each of the three tells apart."""
    sent = alert()
    again = type(sent)(sent.fingerprint, "2026-02-01T12:00:00Z", sent.status, sent.labels, {})
    over = type(sent)(sent.fingerprint, sent.starts_at, Status.RESOLVED, sent.labels, {})
    assert outbox.accept([(sent, State.WAITING), (sent, State.WAITING)], NOW) == 1
    assert outbox.accept([(sent, State.WAITING), (again, State.WAITING), (over, State.RECORDED)], NOW) == 2
    assert outbox.totals().by_state[State.WAITING] == 2


def test_a_notification_is_kept_as_a_whole_or_not_at_all(outbox: SqliteOutbox) -> None:
    """An alert that cannot be written takes the others of its notification with it."""
    broken = alert()
    object.__setattr__(broken, "fingerprint", None)
    with pytest.raises(OutboxUnusableError):
        outbox.accept([(alert(), State.WAITING), (broken, State.WAITING)], NOW)
    assert outbox.totals().by_state[State.WAITING] == 0


def test_the_oldest_due_alert_comes_first(outbox: SqliteOutbox) -> None:
    """One that waits for its next attempt lets others pass, and comes back when it is due."""
    waiting(outbox, "A", "B")
    first = outbox.next_due(NOW, HOUR)
    assert first is not None
    outbox.retry(first, NOW + 60, "HTTP 500")
    names = [entry.alert.name if (entry := outbox.next_due(NOW + later, HOUR)) else None for later in (0, 61)]
    assert names == ["B", "B"]
    second = outbox.next_due(NOW, HOUR)
    assert second is not None
    outbox.end(second, State.DISPATCHED, NOW, "")
    assert outbox.next_due(NOW, HOUR) is None
    assert outbox.next_due_at() == NOW + 60
    found = outbox.next_due(NOW + 61, HOUR)
    assert found is not None
    assert (found.alert.name, found.answer) == ("A", "HTTP 500")


def test_a_clock_that_was_set_back_holds_nothing(outbox: SqliteOutbox) -> None:
    """What is due later than anything may wait was written by a wrong clock, and is due now."""
    waiting(outbox, "A", at=NOW + 365 * DAY)
    assert outbox.next_due(NOW, HOUR) is not None


def test_a_limit_keeps_back_all_of_a_name(outbox: SqliteOutbox) -> None:
    """They are moved at once, counted until the next run of that name, and alerts of other names stay."""
    waiting(outbox, "A", "A", "A", "B")
    assert outbox.keep_back("A", NOW, "6 runs") == 3
    assert outbox.kept_back_since_last("A") == 3
    assert outbox.kept_back_since_last("B") == 0
    waiting(outbox, "A")
    entry = next(entry for entry in outbox.entries([State.WAITING], 9) if entry.alert.name == "A")
    outbox.end(entry, State.DISPATCHED, NOW, "")
    assert outbox.kept_back_since_last("A") == 0


def test_runs_are_counted_by_time_and_name(outbox: SqliteOutbox) -> None:
    """What was acknowledged or refused in the hour counts; what was kept back or comes from the future does not."""
    waiting(outbox, "A", "A", "A", "B", "A")
    ends = [(State.DISPATCHED, NOW), (State.DEAD, NOW - HOUR + 1), (State.DISPATCHED, NOW - HOUR - 1)]
    ends += [(State.DISPATCHED, NOW), (State.DISPATCHED, NOW + DAY)]
    for entry, (state, at) in zip(reversed(list(outbox.entries([State.WAITING], 9))), ends, strict=True):
        outbox.end(entry, state, at, "")
    assert outbox.ended_since(NOW - HOUR, NOW, "A") == 2
    assert outbox.ended_since(NOW - HOUR, NOW) == 3


def test_old_alerts_are_removed(outbox: SqliteOutbox) -> None:
    """What ended long ago goes; what has waited as long becomes a dead letter and is kept for a person."""
    waiting(outbox, "old", "late")
    old = outbox.next_due(NOW, HOUR)
    assert old is not None
    outbox.end(old, State.DISPATCHED, NOW, "")
    outbox.remove_old(NOW + 1, NOW + DAY)
    (left,) = outbox.entries(tuple(State), 9)
    assert (left.alert.name, left.state, left.ended_at) == ("late", State.DEAD, NOW + DAY)
    assert "waited too long" in left.answer


def test_dead_letters_come_back(outbox: SqliteOutbox) -> None:
    """A person sends them again, and they begin to wait anew."""
    waiting(outbox, "A")
    entry = outbox.next_due(NOW, HOUR)
    assert entry is not None
    outbox.end(entry, State.DEAD, NOW, "HTTP 404")
    assert outbox.move_dead(State.WAITING, NOW + DAY) == 1
    again = outbox.next_due(NOW + DAY, HOUR)
    assert again is not None
    assert (again.received_at, again.ended_at) == (NOW + DAY, None)


def test_a_second_process_is_refused(outbox: SqliteOutbox, tmp_path: Path) -> None:
    """The one line says what to do; a look from beside is allowed."""
    with pytest.raises(InvalidInputError, match="another process at work on it"):
        open_outbox(tmp_path)
    waiting(outbox, "A")
    beside = look_into_outbox(tmp_path)
    assert beside.totals().by_state[State.WAITING] == 1
    beside.close()


@pytest.mark.parametrize("damage", ["text", "zeros", "empty", "middle", "json", "utf-8"])
def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: str) -> None:
    """Its bytes are kept for a person, it is counted, and new alerts are accepted."""
    first = open_outbox(tmp_path)
    waiting(first, *(f"A{number}" for number in range(500)))
    first.close()
    file = tmp_path / FILE
    content = bytearray(file.read_bytes())
    match damage:
        case "text":
            content[:] = b"this is no database\n" * 100
        case "zeros":
            content[:] = bytes(len(content))
        case "empty":
            content.clear()
        case "json":  # no checksum notices one changed byte of a value, here of the oldest alert's
            at = content.rindex(b'{"alertname"')
            content[at : at + 1] = b"["
        case "utf-8":
            at = content.rindex(b"alertname")
            content[at : at + 1] = b"\xff"
        case _:
            content[4096 : len(content) // 2] = b"\xa5" * (len(content) // 2 - 4096)
    file.write_bytes(content)
    second = open_outbox(tmp_path)
    assert second.damaged_files == 1
    (aside,) = tmp_path.glob(f"{FILE}.corrupt-*")
    assert aside.read_bytes() == content
    waiting(second, "B")
    second.close()
    third = open_outbox(tmp_path)
    assert third.damaged_files == 1
    assert third.totals().by_state[State.WAITING] == 1
    third.close()


def test_damage_at_work_is_told_apart(outbox: SqliteOutbox, tmp_path: Path) -> None:
    """A damaged page is not a passing trouble such as a full disk: the process has to open the file anew."""
    waiting(outbox, *(f"A{number}" for number in range(500)))
    outbox._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = (tmp_path / FILE).read_bytes()
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (len(content) - 4096))
    outbox._connection.execute("PRAGMA cache_size = 0")
    with pytest.raises(OutboxDamagedError):
        list(outbox.entries(tuple(State), 1000))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE alerts SET labels = '[]'",
        "UPDATE alerts SET status = 'fireng'",
        "UPDATE alerts SET labels = CAST(x'7bff7d' AS TEXT)",
        "DROP TABLE alerts",
    ],
)
def test_a_row_that_cannot_be_read_is_damage(outbox: SqliteOutbox, tmp_path: Path, damage: str) -> None:
    """It would stop all sending for ever; the next process moves the file aside, and whoever only looks is told."""
    waiting(outbox, "A")
    outbox._connection.execute(damage)
    with pytest.raises(OutboxDamagedError):
        outbox.next_due(NOW, HOUR)
    outbox.close()
    with pytest.raises(InvalidInputError):
        look_into_outbox(tmp_path)
    again = open_outbox(tmp_path)
    assert (again.damaged_files, again.totals().by_state[State.WAITING]) == (1, 0)
    again.close()


def test_files_that_were_damaged_at_once_are_all_kept(tmp_path: Path) -> None:
    """None takes another's name, however fast the process is started again."""
    for number in range(3):
        (tmp_path / FILE).write_text(f"damage {number}", encoding="utf-8")
        open_outbox(tmp_path).close()
    contents = sorted(path.read_text(encoding="utf-8") for path in tmp_path.glob(f"{FILE}.corrupt-*"))
    assert contents == ["damage 0", "damage 1", "damage 2"]


def test_a_file_that_cannot_be_moved_is_named(tmp_path: Path) -> None:
    """In one line, as every trouble with the folder."""
    (tmp_path / FILE).write_text("damage", encoding="utf-8")
    (tmp_path / f"{FILE}.new").mkdir()
    with pytest.raises(InvalidInputError, match="expected a folder that can be written to"):
        open_outbox(tmp_path)


def test_a_full_disk_refuses_and_forgets_nothing(outbox: SqliteOutbox) -> None:
    """Nothing of the refused alerts is kept, everything earlier is, and it works again once there is room."""
    waiting(outbox, "A")
    pages = outbox._value("PRAGMA page_count")
    outbox._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxUnusableError, match="full"):
        waiting(outbox, *(f"B{number}" for number in range(2000)))
    assert outbox.totals().by_state[State.WAITING] == 1
    outbox._connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    waiting(outbox, *(f"B{number}" for number in range(2000)))
    assert outbox.totals().by_state[State.WAITING] == 2001


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """It is refused, neither read wrongly nor moved aside."""
    open_outbox(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(InvalidInputError, match="version 9 of the file"):
        open_outbox(tmp_path)
    assert not list(tmp_path.glob("*corrupt*"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The error names the folder and the field."""
    with pytest.raises(InvalidInputError, match=r"outbox .*/none: expected a folder that can be written to"):
        open_outbox(tmp_path / "none")
    with pytest.raises(InvalidInputError, match=r"outbox .*/none: expected a file outbox\.db"):
        look_into_outbox(tmp_path / "none")
