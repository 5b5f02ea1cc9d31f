"""Finds the customer of each row of an input, among the copy's and the live customers, in DuckDB.

Tables, in the order in which they are created:

    input       the checked rows (see `checks.Checker.check`)
    odd_cells   cells that are wrong, or valid only if Paystack has exactly that value
    base        the copy's customers that rows may refer to
    live        customers that were read from Paystack, one row for each requested key
    current     the live customer, or the one in base if there is no live one
    matched     row -> the customer's code, and an identity that duplicates share
    duplicates  row -> the first row for the same customer, and whether both set the same values
    problems    the problems of rows, between rows, and between rows and customers
    left_out    rows of the input that are not planned, because they have problems
"""

# ruff: noqa: S608  # names and conditions are constants of this file; values are bound or come from tables

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from paystack_source.api.workers import FetchedCustomer
from paystack_source.bulk.input.checks import ODD_CELLS
from paystack_source.bulk.operations import IDENTIFIERS, BulkOperation
from paystack_source.customer import COLUMNS, LOCKED_NAMES
from paystack_source.errors import Problem
from paystack_source.interrupts import closed_at_end
from paystack_source.private_files import stored_path
from paystack_source.values import as_text, json_text, masked, quoted_text

_BATCH: Final = 50_000
_FIELDS: Final = tuple(column.name for column in COLUMNS if column.writable)
_OF_THE_COPY: Final = ("_last_seen_at", "_missing_since")  # columns that live customers lack
_TYPES: Final = {pa.int64(): "BIGINT", pa.string(): "VARCHAR", pa.bool_(): "BOOLEAN"}
_LIVE: Final = pa.schema(
    [
        *((name, pa.int64() if name == "id" else pa.string()) for name in ("asked", *IDENTIFIERS, *_FIELDS)),
        ("identified", pa.bool_()),
    ]
)

# `blank` is `values.is_blank` of a text (RE2's \s lacks some characters that Python strips). `alike` is true for two
# blank texts, and for texts of the same letters in either form of Unicode. `plain` is JSON without spaces and quotes.
_MACROS: Final = r"""
CREATE MACRO blank(x) AS
  x IS NULL OR regexp_full_match(x, '[\s\pZ\x0b\x1c-\x1f\x{85}]*(\{\})?[\s\pZ\x0b\x1c-\x1f\x{85}]*');
CREATE MACRO alike(x, y) AS CASE WHEN x = y THEN true
  ELSE blank(x) AND blank(y) OR coalesce(nfc_normalize(x) = nfc_normalize(y), false) END;
CREATE MACRO plain(x) AS regexp_replace(coalesce(x, ''), '[\s"\\]', '', 'g');
CREATE MACRO as_json(x) AS coalesce(CAST(to_json(x) AS VARCHAR), 'null');
"""

_CURRENT: Final = """
CREATE OR REPLACE TABLE current AS
SELECT {columns}, true AS is_live FROM live WHERE customer_code IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY customer_code) = 1
UNION ALL BY NAME
SELECT {columns}, false AS is_live FROM base
ANTI JOIN live USING (customer_code)
"""

# A clash is a row whose code, email and id belong to different known customers.
_MEANT: Final = """
CREATE OR REPLACE TABLE matched AS
WITH by_email AS (
  SELECT lower(email) AS lowered, min(customer_code) AS code, min(id) AS id, count(*) AS customers
  FROM current WHERE {by_email} AND email IS NOT NULL GROUP BY ALL
), exact AS (
  SELECT email, min(customer_code) AS code, min(id) AS id FROM current
  WHERE lower(email) IN (SELECT lowered FROM by_email WHERE customers > 1) GROUP BY ALL
), linked AS (
  SELECT lower(email) AS lowered, min(code) AS code FROM input
  WHERE {by_email} AND code IS NOT NULL AND email IS NOT NULL GROUP BY ALL HAVING count(DISTINCT code) = 1
), named AS (
  SELECT i.*, lower(i.email) AS lowered, CASE WHEN m.customers = 1 THEN m.code ELSE x.code END AS email_code,
    coalesce(m.customers, 0) AS customers, d.customer_code AS id_code, lower(d.email) AS id_email,
    lower(g.email) AS code_email, l.code AS linked_code,
    g.id AS code_number, CASE WHEN m.customers = 1 THEN m.id ELSE x.id END AS email_number
  FROM input i
  LEFT JOIN by_email m ON m.lowered = lower(i.email)
  LEFT JOIN exact x ON x.email = i.email
  LEFT JOIN current d ON d.id = i.id
  LEFT JOIN current g ON g.customer_code = i.code
  LEFT JOIN linked l ON l.lowered = lower(i.email)
  WHERE NOT i.blank
), found AS (
  SELECT * REPLACE (coalesce(code, email_code, id_code, linked_code) AS code),
    customers > 1 AND email_code IS NULL AND code IS NULL AS ambiguous,
    coalesce(code <> email_code, false) OR coalesce(code <> id_code, false)
      OR coalesce(email_code <> id_code, false)
      OR coalesce(lowered <> code_email, false) OR coalesce(lowered <> id_email, false)
      OR coalesce(id <> code_number, false) OR coalesce(id <> email_number, false) AS clash
  FROM named
)
SELECT row, code, ambiguous, clash, {identity} AS identity FROM found
"""

_OF_CELLS: Final = """
FROM odd_cells d LEFT JOIN matched w USING (row) LEFT JOIN current c ON c.customer_code = w.code
WHERE d.reason <> '' AND {wrong}
"""

_OF_ROWS: Final = """
SELECT row, line, {column} AS name, {reason} AS reason, coalesce(i.code, i.email, i.id::VARCHAR, '') AS value
FROM input i JOIN matched w USING (row) LEFT JOIN current c ON c.customer_code = w.code WHERE {condition}
"""

_DUPLICATES: Final = """
CREATE OR REPLACE TABLE duplicates AS
WITH several AS (
  SELECT identity FROM matched WHERE identity IS NOT NULL GROUP BY ALL HAVING count(*) > 1
), named AS (
  SELECT row, i.line, identity, struct_pack({wants}) AS wants, matched.code, lower(i.email) AS email
  FROM matched JOIN several USING (identity) JOIN input i USING (row)
), paired AS (
  SELECT row, line, wants, min(row) OVER same AS first, arg_min(line, row) OVER same AS first_line,
    arg_min(wants, row) OVER same AS first_wants,
    coalesce(min(code) OVER same <> max(code) OVER same, false)
      OR coalesce(code IS NULL AND min(email) OVER same <> max(email) OVER same, false) AS of_others
  FROM named WINDOW same AS (PARTITION BY identity)
)
SELECT row, line, first, first_line, of_others OR wants IS DISTINCT FROM first_wants AS differs
FROM paired WHERE row <> first
"""

_CONTRADICTS: Final = "another row has other values for the same customer"
_NO_OBJECT: Final = (
    "the customer's present metadata is not an object, so nothing can be merged; use --metadata replace"
)


@contextlib.contextmanager
def planning_database(beside: Path) -> Iterator[DuckDBPyConnection]:
    """A DuckDB in memory with a memory limit. It spills into a private temporary folder in `beside`."""
    beside = beside.absolute()
    is_utf8 = stored_path(beside) == str(beside)  # else DuckDB cannot write there
    with tempfile.TemporaryDirectory(prefix=".planning-", dir=beside if is_utf8 else None) as folder:
        limits = {"memory_limit": "400MB", "temp_directory": folder, "preserve_insertion_order": "false"}
        connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False, **limits})
        with closed_at_end(connection) as con:
            con.execute("SET TimeZone = 'UTC'")
            con.execute(_MACROS)
            yield con


@dataclass(slots=True)
class Matching:
    """The rows of one input and their customers. Call the methods in the order of this class."""

    con: DuckDBPyConnection
    operation: BulkOperation
    fields: list[str]  # columns of the input (or of an option) that are compared or sent
    secrets: list[str]
    has: set[str] = field(default_factory=set)  # the identifiers of the input: code, email, id
    metadata: Literal["merge", "replace"] = "merge"
    only_missing: bool = False
    copied: bool = False  # whether there is a copy
    counted_in: Literal["line", "row"] = "line"  # how messages name a row
    is_undo: bool = False  # the values are those that Paystack had before

    def open_input(self, schema: pa.Schema) -> None:
        """Create the table `input` for batches of this schema."""
        self.create("input", schema)
        self.create("odd_cells", ODD_CELLS)
        self.con.execute("CREATE TABLE left_out (row BIGINT, line BIGINT)")
        for name, kind in (("code", "VARCHAR"), ("email", "VARCHAR"), ("id", "BIGINT")):
            self.con.execute(f"ALTER TABLE input ADD COLUMN IF NOT EXISTS {name} {kind}")

    # -- the customer of each row ----------------------------------------------------------------------------

    def look_up(self) -> None:
        """Copy the customers that rows may refer to into `base`, and match the rows with them."""
        wanted = [
            f"{held} IN (SELECT {given} FROM input)"
            for name, held, given in (
                ("code", "customer_code", "code"),
                ("email", "lower(email)", "lower(email)"),
                ("id", "id", "id"),
            )
            if name in self.has
        ]
        columns = ", ".join((*self._needed(), *_OF_THE_COPY))
        self.con.execute(
            f"CREATE TABLE base AS SELECT {columns} FROM held WHERE {' OR '.join(wanted) or 'false'}"
        )
        if self.one("SELECT count(customer_code) - count(DISTINCT customer_code) FROM base")[0]:
            # A user's frame may have a customer twice.
            self.con.execute(
                "CREATE OR REPLACE TABLE base AS SELECT * FROM base "
                "QUALIFY row_number() OVER (PARTITION BY customer_code ORDER BY _last_seen_at DESC NULLS LAST) = 1"
            )
        self.create("live", _LIVE)
        self._identify()

    def _needed(self) -> list[str]:
        """The columns of a customer that this plan needs. Others are not read from the copy."""
        identified = ["identified"] if self.may_be_locked else []
        return [*IDENTIFIERS, *(name for name in _FIELDS if name in self.fields), *identified]

    @property
    def may_be_locked(self) -> list[str]:
        """The fields that Paystack does not change after the customer passed an identity check."""
        return [name for name in self.fields if name in LOCKED_NAMES] if self.operation.compared else []

    def _identify(self) -> None:
        self.con.execute(_CURRENT.format(columns=", ".join(self._needed())))
        self.con.execute(_MEANT.format(identity=self._identity(), by_email=str("email" in self.has)))

    def _identity(self) -> str:
        if self.operation.name == "create":
            return "'e:' || lowered"
        if self.operation.name == "deactivate-authorization":
            return "'a:' || s_authorization_code"
        return "coalesce('c:' || code, 'e:' || lowered, 'i:' || id)"

    # -- live ------------------------------------------------------------------------------------------------

    def to_read(
        self,
        which: Literal["all", "stale", "needed", "doubted"],
        *,
        stale_before: datetime | None = None,
        most: int | None = None,
    ) -> list[str]:
        """The codes or emails of the customers to read from Paystack, without repetition, at most `most`.

        "needed": customers whose present values the plan needs; "stale": also those that the copy lacks or last read
        before `stale_before`; "all": customers of all rows; "doubted": "needed", and
        customers that may have an odd cell's value already.
        """
        conditions = {
            "all": "true",
            "stale": "coalesce(b._last_seen_at, 'epoch'::TIMESTAMPTZ) < $1",
            "needed": "false",
            "doubted": "i.row IN (SELECT row FROM odd_cells WHERE reason <> '')",
        }
        query = (
            "SELECT DISTINCT coalesce(w.code, i.email) AS key FROM input i JOIN matched w USING (row) "
            "LEFT JOIN base b ON b.customer_code = w.code "
            f"WHERE NOT i.blank AND key IS NOT NULL AND ({conditions[which]} OR {self._needs_live()}) ORDER BY 1"
            + ("" if most is None else f" LIMIT {most:d}")
        )
        rows = self.con.execute(query, [stale_before] if which == "stale" else []).fetchall()
        return [row[0] for row in rows]

    def _needs_live(self) -> str:
        if self.operation.name != "update":
            return "false"
        need = ["w.code IS NULL"]
        if self.only_missing:
            need.append("b.customer_code IS NULL")
        if self.metadata == "merge" and "metadata" in self.fields:
            need.append("(b.customer_code IS NULL AND i.f_metadata <> '')")
        return " OR ".join(need)

    def add_live(self, found: Iterator[FetchedCustomer]) -> int:
        """Add customers that were read from Paystack, and match the rows again; returns the number of answers."""
        count = 0
        while part := list(islice(found, _BATCH)):
            self.append("live", pa.Table.from_pylist([_live_row(*item) for item in part], schema=_LIVE))
            count += len(part)
        self._identify()
        return count

    # -- odd cells: a cell with a field is valid if Paystack has exactly its value ---------------------------

    def _has_value(self) -> str:
        """The SQL condition that the customer `c` has exactly the value of the odd cell `d`."""
        names = [name for name in self._needed() if name not in ("id", "identified")]
        whens = " ".join(
            f"WHEN '{name}' THEN plain(c.metadata) = plain(d.text)"
            if name == "metadata"
            else f"WHEN '{name}' THEN lower(trim(c.email)) = lower(trim(d.text))"
            if name == "email"
            else f"WHEN '{name}' THEN c.{name} = d.text"
            for name in names
        )
        return f"coalesce(CASE d.field {whens} ELSE false END, false)"

    def _wrong_cells(self) -> str:
        """FROM and WHERE for odd cells that are known to be wrong; of unmatched rows only those without a field."""
        return _OF_CELLS.format(wrong=f"(d.field = '' OR w.row IS NOT NULL AND NOT {self._has_value()})")

    def wrong_cells(self, *, certainly: bool = False) -> int:
        """How many cells are known to be wrong; `certainly`: without those that a customer's value could make valid."""
        certain = " AND d.field = ''" if certainly else ""
        return int(self.one(f"SELECT count(*) {self._wrong_cells()}{certain}")[0])

    def drop_unchanged_fields(self) -> None:
        """Remove fields whose odd value the customer has already, because they change nothing."""
        if not self.one("SELECT count(*) FROM odd_cells WHERE field <> ''")[0]:
            return
        for name in self.fields:
            self.con.execute(
                f"UPDATE input SET f_{name} = NULL WHERE row IN (SELECT d.row FROM odd_cells d JOIN matched w USING "
                f"(row) JOIN current c ON c.customer_code = w.code WHERE d.field = '{name}' AND {self._has_value()})"
            )

    # -- problems --------------------------------------------------------------------------------------------

    def find_problems(self) -> int:
        """Find the problems of rows, between rows, and between rows and customers. Returns their number."""
        names = [f"f_{name}" for name in self.fields] + [f"s_{name}" for name in self.secrets]
        wants = ", ".join(f"{name} := i.{name}" for name in names) or "nothing := NULL"
        self.con.execute(_DUPLICATES.format(wants=wants))
        reason = f"has other values for the same customer than {self.counted_in} "
        if self.operation.name == "deactivate-authorization":
            reason = f"names another customer for the same authorization than {self.counted_in} "
        no_object = quoted_text(_NO_OBJECT)
        parts = [
            f"SELECT row, d.line, d.name, d.reason, d.shown, NULL AS value {self._wrong_cells()}",
            f"SELECT row, line, '' AS name, '{reason}' || first_line AS reason FROM duplicates WHERE differs",
            f"SELECT row, line, 'metadata' AS name, {no_object} AS reason FROM merged WHERE after IS NULL",
        ]
        parts += [
            _OF_ROWS.format(column=quoted_text(column), reason=quoted_text(reason), condition=condition)
            for column, reason, condition in self._rules()
        ]
        self.con.execute(f"CREATE OR REPLACE TABLE problems AS {' UNION ALL BY NAME '.join(parts)}")
        return int(self.one("SELECT count(*) FROM problems")[0])

    def problems(self, limit: int | None = None) -> list[Problem]:
        """The problems by row; at most `limit`."""
        some = "" if limit is None else f" LIMIT {limit:d}"
        found = self.con.execute(
            f"SELECT row, line, name, reason, shown, value FROM problems ORDER BY row, name, reason{some}"
        )
        return [
            Problem(
                line if self.counted_in == "line" else None,
                column,
                reason,
                masked(value) if shown is None else shown,
                row,
            )
            for row, line, column, reason, shown, value in found.fetchall()
        ]

    def _rules(self) -> Iterator[tuple[str, str, str]]:
        """Column, reason and SQL condition of each problem of a row."""
        if "id" in self.has:
            where = "is in the copy" if self.copied else "can be looked up, there is no copy"
            reason = f"no customer with this id {where}; give customer_code or email"
            yield "id", reason, "i.id IS NOT NULL AND i.code IS NULL AND i.email IS NULL AND w.code IS NULL"
        if len(self.has) > 1:
            yield "", "names two different customers: code, email and id do not belong together", "w.clash"
        if "email" in self.has:
            reason = "more than one customer has this email, in other upper or lower case; give customer_code"
            yield "email", reason, "w.ambiguous"
        if self.operation.name not in ("create", "deactivate-authorization"):
            absent = "coalesce(w.code, i.email) IN (SELECT asked FROM live WHERE customer_code IS NULL)"
            odd_email = "row IN (SELECT row FROM odd_cells WHERE field = 'email' AND reason <> '')"
            yield "", "Paystack has no such customer", f"{absent} AND NOT {odd_email}"
        if self.operation.name != "update":
            return
        reason = "an update needs the customer code, which is not known for this email; plan with the copy, "
        unknown = "w.code IS NULL AND i.email IS NOT NULL AND NOT w.ambiguous"
        yield "email", reason + "with --refresh live, or give customer_code", unknown
        if "phone" in self.fields and not (self.only_missing or self.is_undo):
            reason = "lost the zero in front that Paystack has, as in a spreadsheet; store it as text"
            yield "phone", reason, "trim(c.phone) = '0' || i.f_phone AND i.f_phone <> ''"
        unknown = "w.code IS NOT NULL AND c.customer_code IS NULL"
        if self.only_missing:
            reason = "--only-missing needs the present values; plan with the copy or with --refresh live"
            yield "", reason, unknown
        elif "metadata" in self.fields and self.metadata == "merge":
            reason = "merging needs the present metadata; use the copy, --refresh live, or --metadata replace"
            yield "metadata", reason, f"{unknown} AND i.f_metadata <> ''"

    def leave_out(self) -> list[Problem]:
        """Remove the rows with problems from the plan; returns the problems.

        If rows set different values for one customer, all of them are removed, because it is not known which is right.
        Removed rows become blank rows, so that the other rows keep their numbers.
        """
        several = "SELECT identity FROM matched JOIN duplicates USING (row) WHERE differs"
        self.con.execute(
            f"INSERT INTO problems BY NAME SELECT row, i.line, '' AS name, '{_CONTRADICTS}' AS reason "
            f"FROM matched JOIN input i USING (row) WHERE identity IN ({several})"
        )
        found = self.problems()
        self.con.execute("INSERT INTO left_out SELECT DISTINCT row, line FROM problems")
        self.con.execute("DELETE FROM input WHERE row IN (SELECT row FROM left_out)")
        self.con.execute("DELETE FROM odd_cells WHERE row IN (SELECT row FROM left_out)")
        self.con.execute("INSERT INTO input BY NAME SELECT row, line, true AS blank FROM left_out")
        self._identify()
        return found

    # -- also used by `changes` ------------------------------------------------------------------------------

    def create(self, table: str, schema: pa.Schema) -> None:
        columns = ", ".join(f"{field.name} {_TYPES[field.type]}" for field in schema)
        self.con.execute(f"CREATE OR REPLACE TABLE {table} ({columns})")

    def append(self, table: str, rows: pa.Table | pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        self.con.register("part", rows)
        self.con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM part")
        self.con.unregister("part")

    def one(self, query: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self.con.execute(query).fetchone() or ()
        return row


def _live_row(asked: str, customer: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"asked": asked}
    if customer is not None:
        row |= {name: as_text(customer.get(name)) for name in (*IDENTIFIERS, *_FIELDS)}
        number, metadata = customer.get("id"), customer.get("metadata")
        row["id"] = number if isinstance(number, int) else None
        row["identified"] = customer.get("identified") is True
        row["metadata"] = None if metadata is None else json_text(metadata, ordered=True)
    return row
