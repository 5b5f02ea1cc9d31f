"""The journal of a run: an append-only SQLite file.

Rows are only added to `events` (triggers refuse anything else), and each event has the hash of the one before it, so
that later edits are found. The state of a row is the fold of its events (`states.step`), which an index finds. One
`append` is one transaction and one fsync for any number of rows: the runner collects events while requests are sent,
so the journal does not limit the speed.

Events have row numbers, times, Paystack's status, code and redacted message: no personal data, keys or secrets. The
sessions of the run are events of row 0, which no plan has. Two more tables hold customers: `customers` the code and id
that Paystack returned for a row, and `returned` the whole customer, until the warehouse has it.
"""

from __future__ import annotations

import functools
import getpass
import hashlib
import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from paystack_source.bulk.run.states import (
    PLANNED,
    SESSION_EVENTS,
    EventKind,
    IllegalEventError,
    JournalEvent,
    RowState,
    step,
)
from paystack_source.errors import EditedJournalError, JournalError

JOURNAL_FORMAT: Final = 3
_OLD_FORMATS: Final = (1, 2)
_SESSIONS: Final = 0  # the row of the events about sessions

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, row INTEGER NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL,
    http_status INTEGER, code TEXT, message TEXT, chain BLOB NOT NULL
);
CREATE TABLE returned (row INTEGER PRIMARY KEY, customer TEXT NOT NULL);
CREATE TRIGGER events_stay BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER events_last BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""

# Parts that journals of earlier formats lack. The sessions of format 1 are in another table, which is only read.
_ADDED: Final = """
CREATE TABLE IF NOT EXISTS customers (row INTEGER PRIMARY KEY, customer_code TEXT, customer_id INTEGER);
CREATE INDEX IF NOT EXISTS events_of_rows ON events (row);
"""
_SESSIONS_OF_1: Final = "SELECT * FROM sessions ORDER BY number"
_OF_THE_DISK: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }
)
_EVENT: Final = "row, kind, at, http_status, code, message"


class SessionNote(NamedTuple):
    """One process that worked on the run. Times are since 1970; `ended` is None if it was killed, or still works."""

    started: float
    ended: float | None
    who: str
    host: str
    stopped: str | None
    requests: int
    os_user: str = ""
    """The owner of the process by the operating system; `who` is from the environment, which anybody can set."""


class Journal:
    """One run's journal. It is not thread-safe: only the runner's thread uses it."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """Open an existing journal. `durable=False` skips fsync, for simulations. Raises `JournalError`.

        If the disk is the cause, `sqlite3.OperationalError` is raised, here and where lines are read.
        """
        if not path.is_file():
            raise JournalError(f"there is no journal at {path.name}")
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
            self._db.execute("PRAGMA secure_delete=ON")
            lines = self._db.execute("SELECT key, value FROM meta")
            self.meta: dict[str, Any] = {key: json.loads(value) for key, value in lines}
            """The metadata from `create`: run, plan, operation, account, key mode, host."""
            found = self.meta.get("format")
            readable = found in (*_OLD_FORMATS, JOURNAL_FORMAT)
            query = "SELECT chain FROM events ORDER BY seq DESC LIMIT 1"
            last = self._db.execute(query).fetchone() if readable else None
            if found in _OLD_FORMATS:
                self._db.executescript(_ADDED)
        except (sqlite3.DatabaseError, ValueError) as error:
            if _is_of_the_disk(error):
                raise
            raise JournalError(
                f"{path.name} cannot be opened, or is no journal of a bulk run ({error})"
            ) from None
        if not readable:
            raise JournalError(f"{path.name} has journal format {found}, this version reads {JOURNAL_FORMAT}")
        self._format = found
        self._chain: bytes = last[0] if last else self._seed()

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any], *, durable: bool = True) -> Self:
        """Create a journal, readable by its owner only. `meta` describes the run and its plan, and never changes."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with sqlite3.connect(path) as database:
            database.executescript(_SCHEMA + _ADDED)
            rows = [(key, json.dumps(value)) for key, value in {**meta, "format": JOURNAL_FORMAT}.items()]
            database.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        database.close()
        return cls(path, durable=durable)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading

    def state(self, row: int) -> RowState:
        """The state of one row; a row without events is planned. Raises `EditedJournalError`, as `states` does."""
        return next((state for _, state in self._read_states("row = ?", row)), PLANNED)

    def states(self) -> Iterator[tuple[int, RowState]]:
        """The state of every row that has events, in row order, as a stream."""
        return self._read_states("row > ?", _SESSIONS)

    def _read_states(self, where: str, row: int) -> Iterator[tuple[int, RowState]]:
        query = f"SELECT {_EVENT} FROM events WHERE {where} ORDER BY row, seq"  # noqa: S608
        try:
            for number, events in itertools.groupby(self._lines(query, (row,)), key=itemgetter(0)):
                yield number, functools.reduce(step, map(_event, events), PLANNED)
        except (IllegalEventError, ValueError):  # no such order or kind
            raise _damaged("in the events of a row") from None

    def _lines(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The result of a query, as a stream. Raises `EditedJournalError` if a page of the file is damaged."""
        try:
            for line in self._db.execute(query, values):  # noqa: UP028
                yield line  # `yield from` would close the cursor early, and that may raise
        except sqlite3.DatabaseError as error:
            if _is_of_the_disk(error):
                raise
            raise _damaged("on a page of its file") from None

    def _line(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first line of the result."""
        return next(self._lines(query, values), None)

    def verify(self) -> None:
        """Check the hash chain. Raises `EditedJournalError` at the first event whose hash is wrong.

        It reads a snapshot of the journal, also while another process writes.
        """
        chain, seq = self._seed(), 0
        try:
            for *values, written, seq in self._lines(
                f"SELECT {_EVENT}, chain, seq FROM events ORDER BY seq"  # noqa: S608
            ):
                event = _event(values)
                if (event.row == _SESSIONS) != (event.kind in SESSION_EVENTS):
                    raise _damaged(f"at or after its line {seq}")
                chain = _link(chain, event)
                if chain != written:
                    raise EditedJournalError(f"The journal was edited at or before its line {seq}.")
        except ValueError:
            raise _damaged(f"at or after its line {seq}") from None

    def chain_at(self, seq: int) -> str | None:
        """The hash of an event and all events before it; None if the journal does not have the event."""
        found = self._line("SELECT chain FROM events WHERE seq = ?", (seq,))
        return None if found is None else bytes(found[0]).hex()

    # --- writing

    def append(
        self, events: Sequence[JournalEvent], returned: Iterable[tuple[int, Mapping[str, Any]]] = ()
    ) -> dict[int, RowState]:
        """Write events in one transaction: all of them are on disk when this returns, or none if it raises.

        `returned` are customers in Paystack's answers, by row. Returns the new states of the events' rows.
        """
        customers = list(returned)
        kept = [(row, json.dumps(customer)) for row, customer in customers]
        if not events and not kept:
            return {}
        chain, states, lines = self._chain, dict[int, RowState](), []
        for event in events:
            if event.row != _SESSIONS:
                states[event.row] = step(states.get(event.row) or self.state(event.row), event)
            chain = _link(chain, event)
            lines.append(
                (event.row, event.kind, event.at, event.http_status, event.code, event.message, chain)
            )
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:  # commits, or rolls back on any exception
            self._db.executemany(
                "INSERT INTO events (row, kind, at, http_status, code, message, chain)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                lines,
            )
            if kept:
                self._db.executemany("INSERT OR REPLACE INTO returned VALUES (?, ?)", kept)
                named = [
                    (row, customer.get("customer_code"), customer.get("id")) for row, customer in customers
                ]
                self._db.executemany("INSERT OR REPLACE INTO customers VALUES (?, ?, ?)", named)
        self._chain = chain
        return states

    def reopen(self, now: float) -> int:
        """Turn intents without an outcome into doubts; returns their number. No other process may write meanwhile."""
        last = "SELECT max(seq) FROM events WHERE row > 0 GROUP BY row"
        cut_off = f"SELECT row FROM events WHERE seq IN ({last}) AND kind = ?"  # noqa: S608
        rows = [row for (row,) in self._lines(cut_off, (EventKind.INTENT,))]
        self.append([JournalEvent(row, EventKind.LOST, now) for row in rows])
        return len(rows)

    def begin_session(self, started: float, *, who: str, host: str, os_user: str = "") -> None:
        """Record the beginning of a session. `started` is in seconds since 1970."""
        text = json.dumps([who, host, os_user])
        self.append([JournalEvent(_SESSIONS, EventKind.BEGUN, started, message=text)])

    def end_session(self, ended: float, *, requests: int, stopped: str | None) -> None:
        """Record the end of the last session. A session without an end was killed."""
        text = json.dumps([requests, stopped])
        self.append([JournalEvent(_SESSIONS, EventKind.ENDED, ended, message=text)])

    def sessions(self) -> list[SessionNote]:
        found = [SessionNote(*v[1:]) for v in self._lines(_SESSIONS_OF_1)] if self._format == 1 else []
        query = "SELECT kind, at, message FROM events WHERE row = 0 ORDER BY seq"
        try:
            for kind, at, text in self._lines(query):
                if kind == EventKind.BEGUN:
                    who, host, os_user = json.loads(text)
                    found.append(SessionNote(at, None, who, host, None, 0, os_user))
                else:
                    # An earlier version wrote the session's number too.
                    requests, stopped = json.loads(text)[-2:]
                    found[-1] = found[-1]._replace(ended=at, requests=requests, stopped=stopped)
        except (ValueError, TypeError, IndexError):
            raise EditedJournalError("The journal was edited: its sessions cannot be read.") from None
        return found

    def answer_of(self, row: int) -> dict[str, Any]:
        """The customer that Paystack returned for a row; empty if there was none, or if the warehouse has it."""
        found = self._line("SELECT customer FROM returned WHERE row = ?", (row,))
        answer: dict[str, Any] = json.loads(found[0]) if found else {}
        return answer

    def customer_of(self, row: int) -> tuple[str | None, int | None]:
        """Code and id of the customer that Paystack returned for a row. They are kept when `returned` is erased."""
        query = "SELECT customer_code, customer_id FROM customers WHERE row = ?"
        code, number = self._line(query, (row,)) or (None, None)
        return code, number if isinstance(number, int) else None

    @property
    def last_seq(self) -> int:
        """The number of the last event; 0 if there is none."""
        line = self._line("SELECT coalesce(max(seq), 0) FROM events")
        return int(line[0]) if line else 0

    def erase_returned(self, seq: int) -> None:
        """Erase `returned`, because the warehouse has it up to event `seq`. If there are later events, it is kept."""
        if seq >= self.last_seq:
            self._db.execute("DELETE FROM returned")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _seed(self) -> bytes:
        """The start of the hash chain: a hash of `meta`, so that events of another run do not match."""
        return hashlib.blake2b(json.dumps(self.meta, sort_keys=True).encode(), digest_size=16).digest()


def _is_of_the_disk(error: Exception) -> bool:
    """Whether the disk or the memory is full or fails, or another process has the lock. The file may be right."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_DISK  # the primary code


def _damaged(where: str) -> EditedJournalError:
    return EditedJournalError(f"The journal was edited or damaged {where}.")


def _event(values: Sequence[Any]) -> JournalEvent:
    row, kind, *rest = values
    return JournalEvent(row, EventKind(kind), *rest)


def _link(chain: bytes, event: JournalEvent) -> bytes:
    line = json.dumps([event.row, event.kind, event.at, event.http_status, event.code, event.message])
    return hashlib.blake2b(line.encode(), key=chain, digest_size=16).digest()


def user() -> str:
    """The user's name from the environment (`LOGNAME` and others), which anybody can set."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container user without a name
        return "unknown"


def os_user() -> str:
    """The owner of this process by the operating system, as name and number. On Windows it is `user`."""
    if os.name == "nt":
        return user()
    import pwd  # noqa: PLC0415  # Windows does not have it

    number = os.geteuid()
    try:
        return f"{pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:  # a container user without a name
        return str(number)
