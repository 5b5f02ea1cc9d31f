"""Creates the view `held`: the customers to compare with, from a DuckDB file or a frame.

The view has the columns of `customer.COLUMNS`. A column that the copy lacks is null.
"""

# ruff: noqa: S608  # names and texts are quoted

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from paystack_source.bulk.input.files import open_table
from paystack_source.bulk.plan.plan import CopyInfo
from paystack_source.customer import COLUMNS
from paystack_source.errors import ConfigError
from paystack_source.interrupts import closed_at_end
from paystack_source.values import quoted_name, quoted_text

_TYPES: Final = {"bigint": "BIGINT", "timestamp": "TIMESTAMPTZ"}
_HELD: Final = {column.name: _TYPES.get(column.kind, "VARCHAR") for column in COLUMNS} | {
    "identified": "BOOLEAN"  # from `customer_details`, because only single fetches show it
}

CustomerCopy: TypeAlias = Callable[[DuckDBPyConnection, str], CopyInfo]
"""A function that creates the view `held` of customers of a key mode, and returns a description of the copy."""


def no_copy(con: DuckDBPyConnection, _mode: str) -> None:
    """Create an empty view `held`."""
    columns = ", ".join(f"CAST(NULL AS {kind}) AS {column}" for column, kind in _HELD.items())
    con.execute(f"CREATE VIEW held AS SELECT {columns} WHERE false")


def release(con: DuckDBPyConnection) -> None:
    """Drop the view `held`, and close the copy's file, because an open file cannot be written by others."""
    con.execute("DROP VIEW held; DETACH DATABASE IF EXISTS copied")


def duckdb_copy(path: Path, *, dataset: str = "paystack") -> CustomerCopy:
    """The copy in the table `customers` of this dataset in a DuckDB file, which is opened read-only."""

    def attach(con: DuckDBPyConnection, mode: str) -> CopyInfo:
        schema = f"copied.{quoted_name(dataset)}"
        name = f"{schema}.customers"
        try:
            con.execute(f"ATTACH {quoted_text(str(path))} AS copied (READ_ONLY)")
        except duckdb.BinderException:  # this process has it open for writing, e.g. in another thread
            _attach_a_copy(con, path, dataset)
        columns = [row[0] for row in con.execute(f"DESCRIBE {name}").fetchall()]
        _check_columns(columns)
        details = f"{schema}.customer_details"
        try:
            con.execute(f"SELECT customer_code, identified FROM {details} LIMIT 0")
        except (duckdb.CatalogException, duckdb.BinderException):
            details = ""  # the copy was made without --details
        return _make_view(con, name, columns, mode, f"duckdb:{path.name}", details=details)

    return attach


def _attach_a_copy(con: DuckDBPyConnection, path: Path, dataset: str) -> None:
    """Attach a database in memory with the customers and details of the file."""
    con.execute(f"ATTACH ':memory:' AS copied; CREATE SCHEMA IF NOT EXISTS copied.{quoted_name(dataset)}")
    with closed_at_end(duckdb.connect(str(path))) as shared:
        for name in (f"{quoted_name(dataset)}.{table}" for table in ("customers", "customer_details")):
            with contextlib.suppress(duckdb.CatalogException):
                con.register("part", shared.table(name).to_arrow_table())
                con.execute(f"CREATE TABLE copied.{name} AS SELECT * FROM part")
                con.unregister("part")


def arrow_copy(table: Any, *, destination: str = "dataframe") -> CustomerCopy:  # noqa: ANN401
    """The copy as a pandas, Arrow, polars or DuckDB frame with Paystack's column names."""

    def attach(con: DuckDBPyConnection, mode: str) -> CopyInfo:
        frame = open_table(table, keep=False)
        _check_columns(frame.columns)
        wanted = [i for i, name in enumerate(frame.columns) if name in _HELD]
        names = [frame.columns[i] for i in wanted]
        schema = pa.schema([(name, pa.string()) for name in names])
        con.execute(f"CREATE TABLE copied ({', '.join(f'{quoted_name(name)} VARCHAR' for name in names)})")
        for batch in frame.batches():
            numbers = [frame.columns[i] for i in wanted if batch.cells[i].numbers]
            if texts := [name for name in numbers if _HELD[name] == "VARCHAR"]:  # an undo would restore these
                raise ConfigError(
                    f"The copy has numbers, not texts, as {' and '.join(texts)}: zeros at the start may be gone",
                    advice="Read it as text, in pandas with dtype=str, or give the path of its file.",
                )
            part = pa.RecordBatch.from_arrays([batch.columns[i] for i in wanted], schema=schema)
            con.register("part", part)
            con.execute("INSERT INTO copied SELECT * FROM part")
            con.unregister("part")
        return _make_view(con, "copied", names, mode, destination)

    return attach


def _check_columns(columns: Sequence[str]) -> None:
    if "customer_code" not in columns or "email" not in columns:
        raise ConfigError(
            "The copy has no columns customer_code and email",
            advice="Give the table `customers` of the extract.",
        )


def _make_view(  # noqa: PLR0913  # the properties of the copy
    con: DuckDBPyConnection,
    name: str,
    columns: Sequence[str],
    mode: str,
    destination: str,
    *,
    details: str = "",
) -> CopyInfo:
    def held(column: str) -> str:
        return f"NULLIF(CAST({quoted_name(column)} AS VARCHAR), '')" if column in columns else "NULL"

    values = {column: held(column) for column in _HELD}
    if details:
        values["identified"] = f"customer_code IN (SELECT customer_code FROM {details} WHERE identified)"
    picked = ", ".join(f"TRY_CAST({values[column]} AS {kind}) AS {column}" for column, kind in _HELD.items())
    where = f" WHERE domain IS NULL OR domain = {quoted_text(mode)}" if "domain" in columns else ""
    con.execute(f"CREATE VIEW held AS SELECT * FROM (SELECT {picked} FROM {name}){where}")
    count, accounts, account, last = con.execute(
        "SELECT count(*), count(DISTINCT integration), min(integration), max(_last_seen_at) FROM held"
    ).fetchall()[0]
    if accounts > 1:
        raise ConfigError(
            "The copy holds customers of more than one account",
            advice="Give a copy of one account, e.g. another dataset.",
        )
    return CopyInfo(
        destination=destination,
        as_of=None if last is None else last.astimezone(UTC),
        customers=count,
        account=account,
    )
