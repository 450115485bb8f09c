"""The outbox in SQLite: an alert is on disk before Alertmanager is told so, whatever kills the process afterwards."""

import fcntl
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from orchestration.dispatcher.notification import Alert, Status
from orchestration.dispatcher.outbox import Entry, OutboxDamagedError, OutboxUnusableError, State, Totals
from orchestration.promotion.problems import InvalidInputError, Problem

FILE = "outbox.db"
_ASIDE = f"{FILE}.corrupt-"
_BESIDE = ("-wal", "-shm", "")
"""What SQLite has beside the file, and last the file itself: a move that is cut off before it begins again."""
_LOCK = "lock"
_BUSY_SECONDS = 10.0
"""How long to wait for `incumbent alerts`, which may write to the same file for a moment."""
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    starts_at TEXT NOT NULL,
    status TEXT NOT NULL,
    labels TEXT NOT NULL,
    annotations TEXT NOT NULL,
    state TEXT NOT NULL,
    received_at REAL NOT NULL,
    due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    ended_at REAL,
    answer TEXT NOT NULL DEFAULT '',
    UNIQUE (fingerprint, starts_at, status)
) STRICT;
CREATE INDEX alerts_due ON alerts (state, due_at);
CREATE INDEX alerts_received ON alerts (state, received_at);
CREATE INDEX alerts_name ON alerts (name, state);
CREATE INDEX alerts_ended ON alerts (ended_at);
PRAGMA user_version = {_VERSION};
"""
_COLUMNS = "id, fingerprint, starts_at, status, labels, annotations, state, received_at, attempts, ended_at, answer"


class SqliteOutbox:
    """Implements the `Outbox` port in one file; any thread may call it."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock: IO[bytes] | None = None) -> None:
        self._connection, self._folder, self._lock = connection, folder, lock
        self._using = threading.Lock()

    @property
    def damaged_files(self) -> int:
        """How many damaged outboxes lie in the folder, waiting for a person."""
        names = [path.name for path in self._folder.glob(f"{_ASIDE}*")]
        return len({name.removesuffix("-wal").removesuffix("-shm") for name in names})

    def accept(self, alerts: Sequence[tuple[Alert, State]], now: float) -> int:
        """Insert alerts in one transaction; those that are known already stay as they are."""
        rows = [
            {
                "name": alert.name,
                "fingerprint": alert.fingerprint,
                "starts_at": alert.starts_at,
                "status": alert.status,
                "labels": json.dumps(dict(alert.labels)),
                "annotations": json.dumps(dict(alert.annotations)),
                "state": state,
                "now": now,
                "ended_at": None if state is State.WAITING else now,
            }
            for alert, state in alerts
        ]
        with self._transaction() as connection:
            before = connection.total_changes
            connection.executemany(
                "INSERT INTO alerts (name, fingerprint, starts_at, status, labels, annotations, state, received_at, "
                "due_at, ended_at) VALUES (:name, :fingerprint, :starts_at, :status, :labels, :annotations, :state, "
                ":now, :now, :ended_at) ON CONFLICT DO NOTHING",
                rows,
            )
            return connection.total_changes - before

    def next_due(self, now: float, longest_wait: float) -> Entry | None:
        """Return the waiting alert with the earliest time, or one whose time a wrong clock set."""
        return next(
            self._entries(
                "WHERE state = ? AND (due_at <= ? OR due_at > ?) ORDER BY due_at, id LIMIT 1",
                State.WAITING, now, now + longest_wait,
            ),
            None,
        )  # fmt: skip

    def next_due_at(self) -> float | None:
        """Return the earliest time of a waiting alert."""
        due_at = self._value("SELECT min(due_at) FROM alerts WHERE state = ?", State.WAITING)
        return None if due_at is None else float(due_at)

    def begin_attempt(self, entry: Entry) -> None:
        """Count the attempt."""
        self._change("UPDATE alerts SET attempts = attempts + 1 WHERE id = ?", entry.id)

    def retry(self, entry: Entry, due_at: float, answer: str) -> None:
        """Set when the alert is due again."""
        self._change("UPDATE alerts SET due_at = ?, answer = ? WHERE id = ?", due_at, answer, entry.id)

    def end(self, entry: Entry, state: State, now: float, answer: str) -> None:
        """Set the last state."""
        self._change("UPDATE alerts SET state = ?, ended_at = ?, answer = ? WHERE id = ?", state, now, answer, entry.id)

    def keep_back(self, name: str, now: float, reason: str) -> int:
        """Limit all waiting alerts of a name in one transaction."""
        return self._change(
            "UPDATE alerts SET state = ?, ended_at = ?, answer = ? WHERE name = ? AND state = ?",
            State.LIMITED, now, reason, name, State.WAITING,
        )  # fmt: skip

    def ended_since(self, since: float, until: float, name: str | None = None) -> int:
        """Count what GitHub acknowledged or refused."""
        return int(
            self._value(
                "SELECT count(*) FROM alerts WHERE state IN (?, ?) AND ended_at > ? AND ended_at <= ? "
                "AND name = coalesce(?, name)",
                State.DISPATCHED, State.DEAD, since, until, name,
            )
        )  # fmt: skip

    def kept_back_since_last(self, name: str) -> int:
        """Count by the order of arrival, which no clock disturbs."""
        return int(
            self._value(
                "SELECT count(*) FROM alerts WHERE name = ? AND state = ? AND id > "
                "(SELECT coalesce(max(id), 0) FROM alerts WHERE name = ? AND state = ?)",
                name, State.LIMITED, name, State.DISPATCHED,
            )
        )  # fmt: skip

    def totals(self) -> Totals:
        """Count by state."""
        with self._use() as connection:
            counted = dict(connection.execute("SELECT state, count(*) FROM alerts GROUP BY state").fetchall())
            (oldest,) = connection.execute(
                "SELECT min(received_at) FROM alerts WHERE state = ?", (State.WAITING,)
            ).fetchone()
        return Totals({state: counted.get(state, 0) for state in State}, oldest)

    def entries(self, states: Sequence[State], most: int) -> Iterator[Entry]:
        """Yield the newest first."""
        wanted = ", ".join("?" * len(states))
        return self._entries(f"WHERE state IN ({wanted}) ORDER BY id DESC LIMIT ?", *states, most)

    def move_dead(self, state: State, now: float) -> int:
        """Move every dead alert, so that it waits again or is put aside for good."""
        ended_at = None if state is State.WAITING else now
        return self._change(
            "UPDATE alerts SET state = ?, due_at = ?, received_at = ?, ended_at = ? WHERE state = ?",
            state, now, now, ended_at, State.DEAD,
        )  # fmt: skip

    def remove_old(self, before: float, now: float) -> None:
        """Delete what ended long ago; what waited as long becomes a dead letter."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM alerts WHERE ended_at < ?", (before,))
            connection.execute(
                "UPDATE alerts SET state = ?, ended_at = ?, answer = 'it waited too long (keep); ' || answer "
                "WHERE state = ? AND received_at < ?",
                (State.DEAD, now, State.WAITING, before),
            )

    def close(self) -> None:
        """Close the file and let another process have the outbox."""
        with self._using:
            self._connection.close()
            if self._lock is not None:
                self._lock.close()

    def _entries(self, where: str, *values: object) -> Iterator[Entry]:
        with self._use() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM alerts {where}", values).fetchall()  # noqa: S608 - no value
            return iter([_entry(row) for row in rows])

    def _value(self, query: str, *values: object) -> Any:
        with self._use() as connection:
            return connection.execute(query, values).fetchone()[0]

    def _change(self, statement: str, *values: object) -> int:
        with self._transaction() as connection:
            return connection.execute(statement, values).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        with self._using:
            try:
                yield self._connection
            except (sqlite3.Error, _UnreadableRowError) as error:
                kind = OutboxDamagedError if _is_damage(error) else OutboxUnusableError
                raise kind(f"outbox: {error}") from error


class _UnreadableRowError(Exception):
    """A row that is not what was written: SQLite has no checksum that notices a changed byte of a value."""


def _is_damage(error: Exception) -> bool:
    """Whether an error is the file's fault, and not that of a lock, of the disk or of a missing right."""
    if isinstance(error, sqlite3.OperationalError):
        # Of our own statements, a fault of the statement itself can only mean that a table is missing.
        return bool(getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR)
    # SQLite's own class for a malformed file; those below it are about a statement, a lock or the disk.
    return type(error) in (sqlite3.DatabaseError, _UnreadableRowError)


def open_outbox(folder: Path) -> SqliteOutbox:
    """Open a folder's outbox for the one process that serves it; make it if there is none.

    A damaged file is moved aside, never deleted: what was in it is for a person to look at.

    Raises:
        InvalidInputError: another process has it, or the folder cannot be used.
    """
    try:
        lock = (folder / _LOCK).open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        found, next_step = "another process at work on it", "End that process, or give this one a folder of its own."
        raise InvalidInputError(Problem(f"outbox {folder}", "no other process", found, next_step)) from None
    except OSError as error:
        raise _unusable(folder, error.strerror or type(error).__name__) from error
    try:
        connection = _open_or_make(folder / FILE)
    except (sqlite3.Error, OSError) as error:
        raise _unusable(folder, str(error)) from error
    return SqliteOutbox(connection, folder, lock)


def look_into_outbox(folder: Path) -> SqliteOutbox:
    """Open a folder's outbox beside the process that serves it.

    Raises:
        InvalidInputError: there is none, or it is damaged.
    """
    if not (folder / FILE).is_file():
        next_step = "Correct the field outbox, or start the dispatcher, which makes it."
        raise InvalidInputError(Problem(f"outbox {folder}", f"a file {FILE}", "no such file", next_step))
    try:
        return SqliteOutbox(_connect(folder / FILE), folder)
    except (sqlite3.Error, _UnreadableRowError) as error:
        raise _unusable(folder, str(error)) from error


def _open_or_make(file: Path) -> sqlite3.Connection:
    if file.exists():
        try:
            return _connect(file)
        except (sqlite3.Error, _UnreadableRowError) as error:
            if not _is_damage(error):
                raise
            _move_aside(file)
    _make(file)
    return _connect(file)


def _make(file: Path) -> None:
    """Make an empty outbox and only then give it its name: whatever has that name and no schema is damaged."""
    unfinished = file.with_name(f"{file.name}.new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        unfinished.with_name(f"{unfinished.name}{suffix}").unlink(missing_ok=True)
    connection = sqlite3.connect(unfinished, isolation_level=None)
    try:
        connection.executescript(f"PRAGMA synchronous = FULL; BEGIN; {_SCHEMA} COMMIT;")
    finally:
        connection.close()
    unfinished.chmod(0o600)  # the labels of alerts are nobody else's business
    unfinished.rename(file)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.text_factory = _decoded
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:  # before anything is written: the bytes are a person's to look at
            raise sqlite3.DatabaseError("a file without a schema")
        if version != _VERSION:
            raise sqlite3.OperationalError(f"version {version} of the file, where this program knows {_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        for row in connection.execute(f"SELECT {_COLUMNS} FROM alerts"):  # noqa: S608 - no value
            _entry(row)
    except BaseException:
        connection.close()
        raise
    return connection


def _move_aside(file: Path) -> None:
    """Rename a damaged file, together with what SQLite keeps beside it."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    for suffix in _BESIDE:
        beside = file.with_name(f"{file.name}{suffix}")
        if beside.exists():
            beside.rename(file.with_name(f"{_ASIDE}{stamp}{suffix}"))


def _unusable(folder: Path, found: str) -> InvalidInputError:
    next_step = "Let this account write there and make room on the disk, or correct the field outbox."
    return InvalidInputError(Problem(f"outbox {folder}", "a folder that can be written to", found, next_step))


def _entry(row: tuple[Any, ...]) -> Entry:
    identity, fingerprint, starts_at, status, labels, annotations, state, received_at, attempts, ended_at, answer = row
    try:
        alert = Alert(fingerprint, starts_at, Status(status), _texts(labels), _texts(annotations))
        return Entry(identity, alert, State(state), received_at, attempts, ended_at, answer)
    except ValueError as error:
        raise _UnreadableRowError(f"alert {identity} cannot be read ({error})") from error


def _texts(stored: str) -> dict[str, str]:
    document = json.loads(stored)
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise ValueError("expected an object of texts")
    return document


def _decoded(stored: bytes) -> str:
    try:
        return stored.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _UnreadableRowError(f"a text that is not UTF-8 ({error.reason})") from error
