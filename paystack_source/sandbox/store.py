"""The state of the sandbox: a SQLite file with one rendered list row per customer, and their order in memory.

Reading a page costs one range scan and no JSON work, whatever the page's number: the order is an array of
`created << 32 | id`, so a rank is an index and a time bound is a bisection. One process at a time: SQLite's
exclusive lock is held while a store is open. Commits are not fsynced: a killed process loses nothing, but after a
power cut the file may be broken. A sandbox is faster that way.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from paystack_source.sandbox.people import FIRST_ID, INTEGRATION, Made, People, times

FORMAT = 1
_CHUNK = 2_000
_ID_BITS = 32
_ID_MASK = (1 << _ID_BITS) - 1
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, created INTEGER NOT NULL, code TEXT NOT NULL, email_key TEXT NOT NULL,
    row BLOB NOT NULL
);
CREATE TABLE verdicts (customer_id INTEGER PRIMARY KEY, due REAL, fetches INTEGER, good INTEGER, body TEXT);
CREATE TABLE dead_authorizations (code TEXT PRIMARY KEY, at REAL) WITHOUT ROWID;
CREATE TABLE writes (
    n INTEGER PRIMARY KEY, at REAL NOT NULL, endpoint TEXT NOT NULL, customer_code TEXT, changes TEXT NOT NULL
);
"""
# Made when a file is opened, since files of earlier versions lack it.
_IDENTITIES = """
CREATE TABLE IF NOT EXISTS identities (
    customer_id INTEGER, validated INTEGER, credentials TEXT NOT NULL, first_name TEXT, last_name TEXT,
    PRIMARY KEY (customer_id, validated)
) WITHOUT ROWID
"""
_INDEXES = """
CREATE UNIQUE INDEX customers_code ON customers (code);
CREATE UNIQUE INDEX customers_email ON customers (email_key);
"""


class StateUnusableError(RuntimeError):
    """The state file is in use by another sandbox, or is not a sandbox's state."""


class Store:
    """Customers and everything else that is kept after the process. Not thread-safe: the caller holds a lock."""

    def __init__(  # noqa: PLR0913  # what a new file is filled with
        self,
        path: Path | None,
        *,
        customers: int,
        seed: int,
        domain: str,
        until: float,
        integration: int = INTEGRATION,
    ) -> None:
        """Open `path`, or fill it with `customers` invented ones if there is none yet.

        Without a path a temporary file is used and removed by `close`. Raises `StateUnusableError`.
        """
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="paystack-sandbox-")
            path = Path(self._temporary.name) / "state.sqlite"
        self.path = path
        if not path.exists():
            new = {"format": FORMAT, "seed": seed, "domain": domain, "until": int(until)}
            _generate(path, customers, new | {"integration": integration})
        self._db = _open(path)
        about = dict(self._db.execute("SELECT name, value FROM about"))
        self.domain: str = about["domain"]
        if self.domain != domain:
            self.close()
            raise StateUnusableError(
                f"{path} holds {self.domain} customers; name another file for the other mode"
            )
        self.seed = int(about["seed"])
        integration = int(about.get("integration", INTEGRATION))  # files of earlier versions do not say
        self._order = array("q")
        for created, number in self._db.execute("SELECT created, id FROM customers ORDER BY created, id"):
            self._order.append(created << _ID_BITS | number)
        self._last_id = self._db.execute("SELECT max(id) FROM customers").fetchone()[0] or FIRST_ID
        self._changed: dict[int, tuple[float, bytes | None]] = {}
        self._people = People(f"{self.seed}:{self._last_id}", self.domain, self._last_id, integration)
        self._db.execute(_IDENTITIES)
        undecided = self._db.execute("SELECT customer_id FROM identities WHERE NOT validated")
        self._undecided = {number for (number,) in undecided}

    def close(self) -> None:
        """Write everything and close the file."""
        self._db.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __len__(self) -> int:
        return len(self._order)

    # --- order ---------------------------------------------------------------------------------------

    def span(self, begin: int | None, end: int | None) -> tuple[int, int]:
        """Ranks (oldest first) of the customers created in `begin <= created < end`, whole seconds."""
        low = 0 if begin is None else bisect_left(self._order, begin << _ID_BITS)
        high = len(self._order) if end is None else bisect_left(self._order, end << _ID_BITS)
        return low, max(low, high)

    def rank_of(self, number: int) -> int | None:
        """The rank of the customer with this id."""
        found = self._db.execute("SELECT created FROM customers WHERE id = ?", (number,)).fetchone()
        return None if found is None else bisect_left(self._order, found[0] << _ID_BITS | number)

    def id_at(self, rank: int) -> int:
        return self._order[rank] & _ID_MASK

    def rows(self, low: int, high: int) -> list[bytes]:
        """Rendered rows of the ranks `low <= rank < high`, newest first."""
        if low >= high:
            return []
        ids = [key & _ID_MASK for key in self._order[low:high]]
        if ids == sorted(ids):  # nearly always: ids rise with time, and one range scan gives these rows
            found = self._db.execute(
                "SELECT row FROM customers WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?",
                (ids[0], ids[-1], len(ids) + 1),
            ).fetchall()
            if len(found) == len(ids):
                return [row for (row,) in found]
        one = "SELECT row FROM customers WHERE id = ?"
        return [self._db.execute(one, (number,)).fetchone()[0] for number in reversed(ids)]

    # --- customers -----------------------------------------------------------------------------------

    def find(
        self, *, code: str | None = None, email: str | None = None, number: int | None = None
    ) -> int | None:
        """The id of the customer with this code, this email (any case) or this id."""
        if code is not None:
            found = self._db.execute("SELECT id FROM customers WHERE code = ?", (code,)).fetchone()
        elif email is not None:
            found = self._db.execute(
                "SELECT id FROM customers WHERE email_key = ?", (email.lower(),)
            ).fetchone()
        elif number is not None and 0 <= number <= _ID_MASK:
            found = self._db.execute("SELECT id FROM customers WHERE id = ?", (number,)).fetchone()
        else:
            found = None
        return None if found is None else int(found[0])

    def record(self, number: int) -> dict[str, Any]:
        """The list row of a customer that exists."""
        row = self._db.execute("SELECT row FROM customers WHERE id = ?", (number,)).fetchone()[0]
        record: dict[str, Any] = json.loads(row)
        return record

    def records_after(self, last: int) -> list[dict[str, Any]]:
        """The next few thousand customers with an id above `last`, read past the order in memory."""
        found = self._db.execute("SELECT row FROM customers WHERE id > ? ORDER BY id LIMIT ?", (last, _CHUNK))
        return [json.loads(row) for (row,) in found]

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Many changes in one transaction, for speed."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:  # an error half way keeps what was done, as separate changes would
            self._db.execute("COMMIT")

    def add(self, created: int, now: int, fields: Mapping[str, Any] | None = None) -> int:
        """Add a customer; `fields` replace invented values. The id is the highest so far."""
        made = self._people.make(created, max(created, now) if fields is None else created)
        if fields is not None:
            record = json.loads(made.row) | dict(fields)
            made = Made(made.id, created, record["customer_code"], record["email"].lower(), dump(record))
        self._db.execute("INSERT INTO customers VALUES (?, ?, ?, ?, ?)", _columns(made))
        key = created << _ID_BITS | made.id
        if not self._order or key > self._order[-1]:
            self._order.append(key)
        else:
            insort(self._order, key)
        return made.id

    def iso(self, second: int) -> str:
        """A time as lists show it."""
        return self._people.iso(second)

    def change(self, number: int, changes: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Set fields of a customer and its `updatedAt`; gives the new record."""
        record = self.record(number) | {"updatedAt": self.iso(int(now))} | dict(changes)
        self._db.execute(
            "UPDATE customers SET row = ?, email_key = ? WHERE id = ?",
            (dump(record), record["email"].lower(), number),
        )
        return record

    # --- reads that lag behind writes -----------------------------------------------------------------

    def remember(self, number: int, now: float, *, fresh: bool) -> None:
        """Keep the row as it is before a write at `now`, or that there was none."""
        self._changed[number] = (now, None if fresh else dump(self.record(number)))

    def earlier(self, row: bytes, since: float) -> bytes:
        """The row, or what it was if it was written after `since`. A new customer's row has no before."""
        if not self._changed:
            return row
        at, before = self._changed.get(json.loads(row)["id"], (since, None))
        return before if at > since and before is not None else row

    def record_earlier(self, number: int, since: float) -> dict[str, Any] | None:
        """The record, or what it was if it was written after `since`; `None` if it was not there yet."""
        at, before = self._changed.get(number, (since, None))
        if at <= since:
            return self.record(number)
        return None if before is None else dict(json.loads(before))

    # --- the rest ------------------------------------------------------------------------------------

    def ask_verdict(
        self, number: int, due: float, fetches: int, body: Mapping[str, Any], *, good: bool
    ) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)",
            (number, due, fetches, good, json.dumps(body)),
        )

    def verdict(self, number: int) -> tuple[float, int, bool, dict[str, Any]] | None:
        """When an identification is decided, after how many fetches, whether it is good, and its text."""
        found = self._db.execute(
            "SELECT due, fetches, good, body FROM verdicts WHERE customer_id = ?", (number,)
        ).fetchone()
        return None if found is None else (found[0], found[1], bool(found[2]), json.loads(found[3]))

    def count_fetch(self, number: int) -> None:
        self._db.execute("UPDATE verdicts SET fetches = fetches - 1 WHERE customer_id = ?", (number,))

    def identify(self, number: int, credentials: str, first_name: str, last_name: str) -> None:
        """Keep the values of an identity check until its verdict is due."""
        self._db.execute(
            "INSERT OR REPLACE INTO identities VALUES (?, 0, ?, ?, ?)",
            (number, credentials, first_name, last_name),
        )
        self._undecided.add(number)

    def settle(self, now: float) -> None:
        """Apply the verdicts that are due: a validated customer permanently gets the names of the check."""
        for number in sorted(self._undecided):
            due, fetches, good, _ = self.verdict(number) or (now, 0, False, {})
            if now < due or fetches > 0:
                continue
            self._undecided.discard(number)
            self._db.execute(
                "DELETE FROM identities WHERE customer_id = ? AND validated = ?", (number, int(good))
            )
            if good:
                self._db.execute("UPDATE identities SET validated = 1 WHERE customer_id = ?", (number,))
                names = self._db.execute(
                    "SELECT first_name, last_name FROM identities WHERE customer_id = ?", (number,)
                ).fetchone()
                self.change(number, dict(zip(("first_name", "last_name"), names, strict=True)), due)

    def validated_with(self, number: int) -> str | None:
        """The credentials that a customer was validated with; None if that has not happened."""
        found = self._db.execute(
            "SELECT credentials FROM identities WHERE customer_id = ? AND validated", (number,)
        ).fetchone()
        return None if found is None else str(found[0])

    def is_deactivated(self, authorization_code: str) -> bool:
        query = "SELECT 1 FROM dead_authorizations WHERE code = ?"
        return self._db.execute(query, (authorization_code,)).fetchone() is not None

    def deactivate(self, authorization_code: str, now: float) -> None:
        self._db.execute("INSERT INTO dead_authorizations VALUES (?, ?)", (authorization_code, now))

    def log_write(self, at: float, endpoint: str, code: str | None, changes: Mapping[str, Any]) -> None:
        self._db.execute(
            "INSERT INTO writes (at, endpoint, customer_code, changes) VALUES (?, ?, ?, ?)",
            (at, endpoint, code, json.dumps(changes)),
        )

    def write_log(self) -> list[tuple[float, str, str | None, dict[str, Any]]]:
        """Every write that took effect, in order: time, endpoint, customer code, what was set."""
        found = self._db.execute("SELECT at, endpoint, customer_code, changes FROM writes ORDER BY n")
        return [(at, endpoint, code, json.loads(changes)) for at, endpoint, code, changes in found]


def dump(value: object) -> bytes:
    """JSON as Paystack writes it: compact, text as UTF-8."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate that came in as \\ud83d goes out as it came
        return json.dumps(value, separators=(",", ":")).encode()


def _columns(made: Made) -> tuple[int, int, str, str, bytes]:
    return made.id, made.created, made.code, made.email_key, made.row


def _open(path: Path) -> sqlite3.Connection:
    try:
        # Autocommit: each statement of a write is in the file when the answer leaves.
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.2)
    except sqlite3.OperationalError:
        raise StateUnusableError(f"{path} may not be opened by this user; name another file") from None
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        # Looked at before anything is set, so that a file of somebody else's stays as it is.
        found = db.execute("SELECT value FROM about WHERE name = 'format'").fetchone()
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-65536"):
            db.execute(f"PRAGMA {pragma}")
    except sqlite3.DatabaseError as error:
        db.close()
        if "locked" in str(error):
            raise StateUnusableError(
                f"{path} is in use by another sandbox; stop that one, or give this one another state file"
            ) from None
        if "readonly" in str(error):
            raise StateUnusableError(f"{path} may not be written by this user; name another file") from None
        raise StateUnusableError(
            f"{path} is not the state of a sandbox; move it away or name another file"
        ) from None
    if found is None or int(found[0]) != FORMAT:
        db.close()
        raise StateUnusableError(f"{path} was written by another version of the sandbox; name another file")
    return db


def _generate(path: Path, customers: int, about: Mapping[str, Any]) -> None:
    """Fill a new file beside `path` and move it there when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f"{path.name}.", suffix=".partial", delete=False
    ) as file:
        partial = Path(file.name)
    try:
        with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as db:
            for pragma in (
                "page_size=16384",
                "journal_mode=OFF",
                "synchronous=OFF",
                "locking_mode=EXCLUSIVE",
            ):
                db.execute(f"PRAGMA {pragma}")
            db.executescript(_SCHEMA)
            db.execute("BEGIN")
            db.executemany("INSERT INTO about VALUES (?, ?)", [(k, str(v)) for k, v in about.items()])
            db.executemany("INSERT INTO customers VALUES (?, ?, ?, ?, ?)", _invent(customers, about))
            db.execute("COMMIT")
            db.executescript(_INDEXES)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _invent(customers: int, about: Mapping[str, Any]) -> Iterable[tuple[int, int, str, str, bytes]]:
    seed, until = about["seed"], about["until"]
    people = People(seed, about["domain"], integration=about["integration"])
    return (_columns(people.make(created, until)) for created in times(customers, until, seed))
