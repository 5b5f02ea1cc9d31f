"""Compares checked rows with the copy and live customers, in DuckDB: who is meant, what differs.

Tables, in the order in which they are made:

    input     the checked rows (see `checks.Checker.check`)
    base      the copy's customers that the rows may mean
    live      customers that were read from Paystack (at most one row per key that was asked for)
    current   live where there is one, else base
    who       row -> the customer's code, what the request names it by, and an identity that doubles share
    folded    row -> the first row that says the same
    merged    row -> metadata before and after
"""

# ruff: noqa: S608  # every name and condition is made here; values are bound or come from tables

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import duckdb
import pyarrow as pa

from paystack_source.bulk.masking import masked
from paystack_source.bulk.plan import changes as metadata
from paystack_source.bulk.plan import diff_sql
from paystack_source.bulk.run.readback import canonical
from paystack_source.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from paystack_source.bulk.operations import Operation

TEXTS: Final = ("first_name", "last_name", "phone", "risk_action")
_BATCH: Final = 50_000
_OF_THE_COPY: Final = ("seen_at", "missing_since")  # what only the copy can know
_LIVE: Final = pa.schema(
    [
        ("asked", pa.string()),
        ("customer_code", pa.string()),
        ("email", pa.string()),
        ("id", pa.int64()),
        ("first_name", pa.string()),
        ("last_name", pa.string()),
        ("phone", pa.string()),
        ("metadata", pa.string()),
        ("risk_action", pa.string()),
    ]
)
_MERGED: Final = pa.schema(
    [
        ("row", pa.int64()),
        ("before", pa.string()),
        ("after", pa.string()),
        ("same", pa.bool_()),
        ("drifted", pa.bool_()),
    ]
)


def open_database(folder: Path, *, memory: str = "400MB") -> DuckDBPyConnection:
    """A DuckDB in memory that spills to `folder` and stays inside a bound."""
    con = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "memory_limit": memory,
            "temp_directory": str(folder),
            "preserve_insertion_order": "false",
        },
    )
    con.execute("SET TimeZone = 'UTC'")
    return con


@dataclass(slots=True)
class Diff:
    """The comparison of one plan. The methods are called in the order in which they stand here."""

    con: DuckDBPyConnection
    operation: Operation
    fields: list[str]  # columns that the input (or an option) gives and that are compared or sent
    secrets: list[str]
    has: set[str]  # identifier columns of the input: code, email, id
    metadata: Literal["merge", "replace"] = "merge"
    only_missing: bool = False
    copied: bool = False  # there is a copy
    place: Literal["line", "row"] = "line"  # what a person finds a row by

    # -- loading ---------------------------------------------------------------------------------------------

    def create(self, schema: pa.Schema) -> None:
        """Makes the table `input` for batches of this schema."""
        self._create("input", schema)
        for name, kind in (("code", "VARCHAR"), ("email", "VARCHAR"), ("id", "BIGINT")):
            if name not in schema.names:
                self.con.execute(f"ALTER TABLE input ADD COLUMN {name} {kind}")

    def load(self, batch: pa.RecordBatch) -> None:
        """Adds checked rows."""
        self._append("input", batch)

    # -- who is meant ----------------------------------------------------------------------------------------

    def look_up(self) -> None:
        """Takes from the copy the customers that the rows may mean, and finds out who they are."""
        wanted = []
        if "code" in self.has:
            wanted.append("customer_code IN (SELECT code FROM input)")
        if "email" in self.has:
            wanted.append("lower(email) IN (SELECT lower(email) FROM input)")
        if "id" in self.has:
            wanted.append("id IN (SELECT id FROM input)")
        columns = ", ".join(self._needed())
        self.con.execute(
            f"CREATE TABLE base AS SELECT {columns} FROM held WHERE {' OR '.join(wanted) or 'false'}"
        )
        doubled = self._one("SELECT count(customer_code) - count(DISTINCT customer_code) FROM base")[0]
        if doubled:  # a copy that is no table of ours may hold a customer twice
            self.con.execute(
                "CREATE OR REPLACE TABLE base AS SELECT * FROM base "
                "QUALIFY row_number() OVER (PARTITION BY customer_code ORDER BY seen_at DESC NULLS LAST) = 1"
            )
        self._create("live", _LIVE)
        self._identify()

    def _needed(self) -> list[str]:
        """Columns of the copy that this plan looks at, so that the rest is never read."""
        fields = [name for name in (*TEXTS, "metadata") if name in self.fields]
        return ["customer_code", "email", "id", *fields, *_OF_THE_COPY]

    def _identify(self) -> None:
        columns = ", ".join(name for name in self._needed() if name not in _OF_THE_COPY)
        self.con.execute(diff_sql.CURRENT.format(columns=columns))
        self.con.execute(diff_sql.WHO.format(identity=self._identity(), by_email=str("email" in self.has)))

    def _identity(self) -> str:
        if self.operation.name == "create":
            return "'e:' || lower(i.email)"
        if self.operation.name == "deactivate-authorization":
            return "'a:' || i.s_authorization_code"
        return "coalesce('c:' || f.code, 'e:' || lower(i.email), 'i:' || i.id)"

    # -- live ------------------------------------------------------------------------------------------------

    def to_fetch(
        self,
        which: Literal["all", "stale", "needed"],
        *,
        stale_before: datetime | None = None,
        as_of: datetime | None = None,
        most: int | None = None,
    ) -> list[str]:
        """What to ask Paystack for, each customer once; `most` of them, if there are more.

        "needed": customers without whose present state the plan cannot be made; "stale": also those that the
        copy lacks or saw last before `stale_before` (rows that do not say when: `as_of`); "all": every
        customer that a row means.
        """
        conditions = {
            "all": "true",
            "stale": "b.customer_code IS NULL OR coalesce(b.seen_at, $2, 'epoch'::TIMESTAMPTZ) < $1",
            "needed": "false",
        }
        wanted = [f"({conditions[which]})", f"({self._need()})"]
        query = (
            "SELECT DISTINCT coalesce(w.code, i.email) AS key FROM input i JOIN who w USING (row) "
            "LEFT JOIN base b ON b.customer_code = w.code "
            f"WHERE NOT i.blank AND key IS NOT NULL AND ({' OR '.join(wanted)}) ORDER BY 1"
            + ("" if most is None else f" LIMIT {most:d}")
        )
        rows = self.con.execute(query, [stale_before, as_of] if which == "stale" else []).fetchall()
        return [row[0] for row in rows]

    def _need(self) -> str:
        need = ["false"]
        if self.operation.name == "update":
            need.append("w.code IS NULL")
            if self.only_missing:
                need.append("b.customer_code IS NULL")
            if self.metadata == "merge" and "metadata" in self.fields:
                need.append("(b.customer_code IS NULL AND i.f_metadata <> '')")
        return " OR ".join(need)

    def add_live(self, found: Iterator[tuple[str, dict[str, Any] | None]]) -> int:
        """Takes what Paystack answered (None: there is no such customer) and finds out again who is meant."""
        count = 0
        batch: list[dict[str, Any]] = []
        for asked, customer in found:
            batch.append(_live_row(asked, customer))
            count += 1
            if len(batch) >= _BATCH:
                self._insert_live(batch)
        self._insert_live(batch)
        self._identify()
        return count

    def _insert_live(self, batch: list[dict[str, Any]]) -> None:
        if batch:
            self._append("live", pa.Table.from_pylist(batch, schema=_LIVE))
            batch.clear()

    # -- problems --------------------------------------------------------------------------------------------

    def problems(self, limit: int) -> Iterator[tuple[int, list[Problem]]]:
        """What is wrong between rows and customers: how many, and up to `limit` of them in words."""
        for column, reason, condition in self._rules():
            query = diff_sql.BROKEN.format(condition=condition)
            count = self._one(f"SELECT count(*) {query}")[0]
            if not count:
                continue
            rows = self.con.execute(
                "SELECT row, line, coalesce(i.code, i.email, i.id::VARCHAR, '') "
                f"{query} ORDER BY row LIMIT {limit}"
            ).fetchall()
            yield (
                count,
                [self._problem(row, line, column, reason, masked(value)) for row, line, value in rows],
            )
        yield from self._contradictions(limit)

    def _rules(self) -> Iterator[tuple[str, str, str]]:
        """Column, reason, and the condition under which it is wrong."""
        advice = "plan with the copy, with --refresh live, or give customer_code"
        if "id" in self.has:
            where = "is in the copy" if self.copied else "can be looked up, there is no copy"
            yield (
                "id",
                f"no customer with this id {where}; give customer_code or email",
                ("i.id IS NOT NULL AND i.code IS NULL AND i.email IS NULL AND w.code IS NULL"),
            )
        if len(self.has) > 1:
            yield "", "names two different customers: code, email and id do not belong together", "w.clash"
        if "email" in self.has:
            yield (
                "email",
                "more than one customer has this email but for case; give customer_code",
                "w.ambiguous",
            )
        yield (
            "",
            "Paystack has no such customer",
            (
                "false"
                if self.operation.name in ("create", "deactivate-authorization")
                else "coalesce(w.code, i.email) IN (SELECT asked FROM live WHERE customer_code IS NULL)"
            ),
        )
        if self.operation.name != "update":
            return
        yield (
            "email",
            f"an update needs the customer code, which is not known for this email; {advice}",
            ("w.code IS NULL AND i.email IS NOT NULL AND NOT w.ambiguous"),
        )
        unknown = "w.code IS NOT NULL AND c.customer_code IS NULL"
        if self.only_missing:
            yield (
                "",
                "--only-missing must know what the customer has; plan with the copy or with --refresh live",
                unknown,
            )
        elif "metadata" in self.fields and self.metadata == "merge":
            yield (
                "metadata",
                "merging needs the present metadata; use the copy, --refresh live, or --metadata replace",
                f"{unknown} AND i.f_metadata <> ''",
            )

    def _contradictions(self, limit: int) -> Iterator[tuple[int, list[Problem]]]:
        """Folds doubles into the first row that says the same; the others contradict it."""
        names = [f"f_{name}" for name in self.fields] + [f"s_{name}" for name in self.secrets]
        wants = ", ".join(f"{name} := i.{name}" for name in names) or "nothing := NULL"
        self.con.execute(diff_sql.DOUBLES.format(wants=wants))
        self.con.execute(diff_sql.FOLDED)
        count = self._one("SELECT count(*) FROM folded WHERE differs")[0]
        if count:
            rows = self.con.execute(
                f"SELECT row, line, first_line FROM folded WHERE differs ORDER BY row LIMIT {limit}"
            ).fetchall()
            said = f"asks for something else for the same customer than {self.place}"
            yield count, [self._problem(row, line, "", f"{said} {first}") for row, line, first in rows]

    # -- the result ------------------------------------------------------------------------------------------

    def merge_metadata(self) -> Iterator[tuple[int, list[Problem]]]:
        """Works out the whole object that an update would leave.

        Yields rows whose metadata cannot be merged into.
        """
        self._create("merged", _MERGED)
        if "metadata" not in self.fields:
            return
        how = "replace" if self.operation.name != "update" else "fill" if self.only_missing else self.metadata
        reader = self.con.cursor().execute(diff_sql.METADATA).to_arrow_reader(_BATCH)
        count, problems = 0, []
        for batch in reader:
            out = []
            for row, line, asked, held, copied, is_live in zip(*(c.to_pylist() for c in batch), strict=True):
                try:
                    before, after, same = metadata.apply(asked, held, how)
                except metadata.NotAnObjectError:
                    count += 1
                    problems.append(self._problem(row, line, "metadata", metadata.ADVICE))
                    continue
                drifted = bool(is_live) and not metadata.equal(held, copied)
                out.append((row, before, after, same, drifted))
            columns = list(zip(*out, strict=True)) if out else [()] * len(_MERGED)
            arrays = [pa.array(c, field.type) for c, field in zip(columns, _MERGED, strict=True)]
            self._append("merged", pa.Table.from_arrays(arrays, schema=_MERGED))
        if count:
            yield count, problems

    def result(self) -> pa.RecordBatchReader:
        """The plan's rows in input order, and each field's wanted value (`f_…`) for counting."""
        return self.con.execute(diff_sql.result(self)).to_arrow_reader(_BATCH)

    def cleared(self) -> int:
        """How many cells clear a field."""
        cells = " + ".join(f"count(*) FILTER (f_{name} = '')" for name in self.fields)
        return int(self._one(f"SELECT {cells or 0} FROM input")[0])

    def filled(self) -> int:
        """How many rows are not blank."""
        return int(self._one("SELECT count(*) FROM input WHERE NOT blank")[0])

    def _problem(self, row: int, line: int, column: str, reason: str, value: str = "") -> Problem:
        return Problem(line if self.place == "line" else None, column, reason, value, row)

    def _create(self, table: str, schema: pa.Schema) -> None:
        self.con.register("part", schema.empty_table())
        self.con.execute(f"CREATE TABLE {table} AS SELECT * FROM part")
        self.con.unregister("part")

    def _append(self, table: str, rows: pa.Table | pa.RecordBatch) -> None:
        self.con.register("part", rows)
        self.con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM part")
        self.con.unregister("part")

    def _one(self, query: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self.con.execute(query).fetchone() or ()
        return row


def _live_row(asked: str, customer: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"asked": asked}
    if customer is None:
        return row
    for name in ("customer_code", "email", *TEXTS):
        value = customer.get(name)
        row[name] = value if value is None or isinstance(value, str) else str(value)
    row["id"] = customer.get("id") if isinstance(customer.get("id"), int) else None
    held = customer.get("metadata")
    row["metadata"] = None if held is None else canonical(held).decode()
    return row
