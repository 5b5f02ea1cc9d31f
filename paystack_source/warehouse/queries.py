"""Queries a dataset in SQL through dlt; implements `extract.held.HeldCustomers`.

dlt qualifies and quotes names, and formats times for each destination, so the same queries work on every
destination that dlt can query. Files are queried in SQL too (`paystack_source.warehouse.lake`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.dataset import DBApiCursor
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema.typing import TColumnSchema
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase
from dlt.pipeline.pipeline import Pipeline

from paystack_source.extract.arrow import SCHEMA
from paystack_source.extract.windows import BEGIN, END, Window
from paystack_source.tables import TIME
from paystack_source.values import batches, parse_time, whole_number
from paystack_source.warehouse.dlt_quirks import customers_table, exclusive_dlt_context
from paystack_source.warehouse.lake import LakeReader, columns_in_files
from paystack_source.warehouse.locations import destination_is, is_lake
from paystack_source.warehouse.single_writer import sql_client

_GENERIC = DestinationCapabilitiesContext.generic_capabilities()
_BATCH = 1000  # ids in one query


class Warehouse:
    """One table of a pipeline's dataset, by default the table of the customers.

    A table that does not exist is empty, and so is a warehouse without a pipeline.
    """

    def __init__(self, pipeline: Pipeline | None, table: str | None = None) -> None:
        self._pipeline = pipeline
        self._table = customers_table(pipeline) if pipeline and table is None else table or ""
        self._client: Any = None

    # -- `HeldCustomers` ------------------------------------------------------------------------------------------

    def count(self, windows: Sequence[Window]) -> list[int]:
        counts: list[int] = []
        for some in batches(windows, 100):
            rows = self.query(
                lambda sql, some=some: (  # type: ignore[misc]
                    "SELECT "
                    + ", ".join(f"SUM(CASE WHEN {sql.inside(window)} THEN 1 ELSE 0 END)" for window in some)
                    + f" FROM {sql.table} WHERE {sql.present}"
                )
            )
            counts += [int(number or 0) for number in (rows[0] if rows else [0] * len(some))]
        return counts

    def held_among(self, ids: Collection[int]) -> set[int]:
        found: set[int] = set()
        for some in batches(sorted(ids), _BATCH):
            rows = self.query(
                lambda sql, some=some: (  # type: ignore[misc]
                    f"SELECT {sql.col('id')} FROM {sql.table} WHERE {sql.present} AND {sql.among(some)}"
                )
            )
            found.update(int(row[0]) for row in rows)
        return found

    def ids(self, window: Window) -> set[int]:
        table = self.arrow(
            lambda sql: (
                f"SELECT {sql.col('id')} FROM {sql.table} WHERE {sql.present} AND {sql.inside(window)}"
            )
        )
        return set() if table is None else set(table.column(0).to_pylist())

    def rows(self, ids: Collection[int]) -> pa.Table:
        tables = [
            self.arrow(lambda sql, some=some: f"SELECT * FROM {sql.table} WHERE {sql.among(some)}")  # type: ignore[misc]
            for some in batches(sorted(ids), _BATCH)
        ]
        there = [table for table in tables if table is not None]
        return pa.concat_tables(there) if there else SCHEMA.empty_table()

    def cuts(self, window: Window, rows: int) -> list[datetime]:
        found = self.query(
            lambda sql: (
                f"SELECT {sql.col('created_at')} FROM (SELECT {sql.col('created_at')}, ROW_NUMBER() OVER (ORDER BY"
                f" {sql.col('created_at')}) AS row_nr FROM {sql.table} WHERE {sql.present} AND {sql.inside(window)})"
                f" AS numbered WHERE MOD(row_nr, {rows}) = 0 ORDER BY row_nr"
            )
        )
        return [parse_time(row[0]) for row in found]

    def most_at_once(self) -> int:
        found = self.query(
            lambda sql: (
                f"SELECT MAX(alike) FROM (SELECT COUNT(*) AS alike FROM {sql.table} WHERE {sql.present}"
                f" AND {sql.col('created_at')} IS NOT NULL GROUP BY {sql.col('created_at')}) AS counted"
            )
        )
        return int(found[0][0] or 0) if found else 0

    def oldest(self) -> datetime | None:
        found = self.query(
            lambda sql: f"SELECT MIN({sql.col('created_at')}) FROM {sql.table} WHERE {sql.present}"
        )
        return parse_time(found[0][0]) if found and found[0][0] else None

    def replaced(self, window: Window) -> set[int]:  # noqa: ARG002  # none: `EmptiedWarehouse` has some
        return set()

    def accounts(self) -> set[tuple[str | None, int | None]]:
        return {
            (row[0], whole_number(row[1]))  # the user may have made it a text
            for row in self.query(
                lambda sql: f"SELECT DISTINCT {sql.col('domain')}, {sql.col('integration')} FROM {sql.table}"
            )
        }

    def exists(self) -> bool:
        """Whether the table exists; it may be empty."""
        return bool(self.query(lambda sql: f"SELECT COUNT(*) FROM {sql.table}"))

    def column_names(self) -> set[str] | None:
        """The columns in the destination, in lower case, also if dlt does not know the table. None: no such table."""
        if self._pipeline and is_lake(self._pipeline):
            return columns_in_files(self._pipeline, self._table)
        found = self._query(
            lambda sql: f"SELECT * FROM {sql.table} WHERE 1 = 0", lambda cursor: cursor.description
        )
        return None if found is None else {column[0].lower() for column in found}

    # -- any other query ------------------------------------------------------------------------------------------

    def query(self, statement: Callable[[SqlNames], str]) -> list[tuple[Any, ...]]:
        """The rows of a query of this table; none if the table does not exist."""
        return self._query(statement, lambda cursor: list(cursor.fetchall())) or []

    def arrow(self, statement: Callable[[SqlNames], str], *, as_stored: bool = False) -> pa.Table | None:
        """The result of a query of this table as Arrow; `None` if the table does not exist.

        It has our types, and neither dlt's columns nor those that somebody added to the table, unless
        `as_stored`. Rows with a column that the database computes could not be loaded again.
        """
        found = self._query(statement, lambda cursor: _as_arrow(cursor, self._columns()))
        if found is None or as_stored:
            return found
        ours = self._columns() or found.column_names
        return in_our_types(found.select([name for name in found.column_names if name in ours]))

    def _columns(self) -> Mapping[str, TColumnSchema]:
        return columns_of(self._pipeline, self._table) if self._pipeline else {}

    def _query(self, statement: Callable[[SqlNames], str], take: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        if self._pipeline is None:
            return None
        try:
            with exclusive_dlt_context():
                self._client = self._client or _client_of(self._pipeline)
                with self._client as client:
                    if destination_is(self._pipeline, "postgres"):
                        _return_json_as_text(client.native_connection)
                    names = SqlNames(client, self._table)
                    with client.execute_query(statement(names)) as cursor:
                        return take(cursor)
        except (DatabaseUndefinedRelation, DestinationUndefinedEntity):
            return None


class EmptiedWarehouse(Warehouse):
    """An empty table, for a load that replaces the table. The old rows still show accounts and newest customers."""

    def __init__(self, before: Warehouse) -> None:
        super().__init__(None)
        self._accounts = before.accounts()
        self.replaced, self.rows = before.ids, before.rows  # type: ignore[method-assign]

    def accounts(self) -> set[tuple[str | None, int | None]]:
        return self._accounts


class SqlNames:
    """Names, times and conditions in the SQL of one destination."""

    def __init__(self, client: SqlClientBase[Any] | LakeReader, table: str) -> None:
        self._client = client
        self.table = client.make_qualified_table_name(table)
        self.present = f"{self.col('_missing_since')} IS NULL"

    def named(self, table: str) -> str:
        """The name of another table of the dataset."""
        return self._client.make_qualified_table_name(table)

    def col(self, column: str) -> str:
        """A column, quoted."""
        return self._client.escape_column_name(column)

    def among(self, ids: Iterable[int]) -> str:
        """The condition that the row is one of these customers."""
        return f"{self.col('id')} IN ({', '.join(str(int(number)) for number in ids) or 'NULL'})"

    def inside(self, window: Window) -> str:
        """The condition that the customer was created in the window."""
        parts = ["1 = 1"]
        if window.lo > BEGIN:
            parts.append(f"{self.col('created_at')} >= {self._time(window.lo)}")
        if window.hi < END:
            parts.append(f"{self.col('created_at')} < {self._time(window.hi)}")
        return " AND ".join(parts)

    def _time(self, value: datetime) -> str:
        caps = self._client.capabilities
        write: Callable[..., str] | None = caps.format_datetime_literal
        return str((write or _GENERIC.format_datetime_literal)(value, 6, not caps.supports_tz_aware_datetime))


def columns_of(pipeline: Pipeline, table: str) -> Mapping[str, TColumnSchema]:
    """The columns of a table in dlt's schemas; none if they lack the table."""
    with exclusive_dlt_context():
        found = [schema.tables[table] for schema in pipeline.schemas.values() if table in schema.tables]
    return {name: column for table_schema in found for name, column in table_schema["columns"].items()}


def in_our_types(table: pa.Table) -> pa.Table:
    """The table without dlt's columns, and with times in UTC and microseconds."""
    table = table.drop_columns([name for name in table.column_names if name.startswith("_dlt")])
    fields = [
        pa.field(field.name, TIME if pa.types.is_timestamp(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _client_of(pipeline: Pipeline) -> SqlClientBase[Any] | LakeReader:
    """A client for queries; open it with `with` for each query.

    A missing table raises `DestinationUndefinedEntity` when it is named or queried.
    """
    if not is_lake(pipeline):
        return sql_client(pipeline)
    return LakeReader(pipeline)


def _as_arrow(
    cursor: DBApiCursor | duckdb.DuckDBPyConnection, columns: Mapping[str, TColumnSchema]
) -> pa.Table:
    """The result of a query as Arrow, with the types of these columns; JSON is text."""
    if isinstance(cursor, duckdb.DuckDBPyConnection):
        return cursor.to_arrow_table()
    read_as: dict[str, TColumnSchema] = {}
    for name in cursor.columns_schema:
        read_as[name] = TColumnSchema(name=name, nullable=True)
        if kind := columns.get(name, {}).get("data_type"):
            read_as[name]["data_type"] = "text" if kind == "json" else kind
    cursor.columns_schema = read_as
    return cursor.arrow()


def _return_json_as_text(connection: Any) -> None:  # noqa: ANN401  # of psycopg2
    """Make the driver return JSON as text: decoding and encoding would change its spaces."""
    from psycopg2 import extras  # noqa: PLC0415  # there only with PostgreSQL

    for leave in (extras.register_default_json, extras.register_default_jsonb):
        leave(connection, loads=str)
