"""What the dataset holds, asked in SQL through dlt: the answering side of `extract.ledger.HeldCustomers`.

Times are written the way each destination wants them, names are qualified and quoted by dlt, so that the same few
questions work on every destination that dlt can query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from paystack_source.extract.arrow import SCHEMA
from paystack_source.extract.windows import BEGIN, END
from paystack_source.values import batches, parse_time
from paystack_source.warehouse.destinations import as_arrow, client_of, columns_of, reading
from paystack_source.warehouse.dlt_quirks import customers_table, dlts_context_is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from dlt.destinations.sql_client import SqlClientBase
    from dlt.pipeline.pipeline import Pipeline

    from paystack_source.extract.windows import Coverage, Window
    from paystack_source.warehouse.lake import LakeReader

_GENERIC = DestinationCapabilitiesContext.generic_capabilities()
_BATCH = 1000  # ids or windows in one question


class Warehouse:
    """The customers of one pipeline's dataset. A dataset or table that does not exist yet holds nobody."""

    def __init__(self, pipeline: Pipeline, table: str | None = None) -> None:
        self._pipeline = pipeline
        self._table = customers_table(pipeline) if table is None else table
        self._client: SqlClientBase[Any] | None = None

    # -- the questions of a run -----------------------------------------------------------------------------------

    def total(self) -> int:
        return self._number(lambda sql: f"SELECT COUNT(*) FROM {sql.table} WHERE {sql.present}")

    def count(self, windows: Sequence[Window]) -> list[int]:
        counts: list[int] = []
        for some in batches(windows, 100):
            rows = self.ask(
                lambda sql, some=some: (  # type: ignore[misc]
                    "SELECT "
                    + ", ".join(f"SUM(CASE WHEN {sql.inside(window)} THEN 1 ELSE 0 END)" for window in some)
                    + f" FROM {sql.table} WHERE {sql.present}"
                )
            )
            counts += [int(number or 0) for number in (rows[0] if rows else [0] * len(some))]
        return counts

    def known(self, ids: Collection[int]) -> set[int]:
        found: set[int] = set()
        for some in batches(sorted(ids), _BATCH):
            rows = self.ask(
                lambda sql, some=some: (  # type: ignore[misc]
                    f"SELECT {sql.col('id')} FROM {sql.table} WHERE {sql.present} AND {sql.among(some)}"
                )
            )
            found.update(int(row[0]) for row in rows)
        return found

    def ids(self, window: Window) -> set[int]:
        table = self._ask(
            lambda sql: (
                f"SELECT {sql.col('id')} FROM {sql.table} WHERE {sql.present} AND {sql.inside(window)}"
            ),
            lambda cursor: as_arrow(cursor, {"id": {"data_type": "bigint"}}),
        )
        return set() if table is None else set(table.column(0).to_pylist())

    def rows(self, ids: Collection[int]) -> pa.Table:
        tables = []
        for some in batches(sorted(ids), _BATCH):
            table = self.arrow(
                lambda sql, some=some: f"SELECT * FROM {sql.table} WHERE {sql.among(some)}"  # type: ignore[misc]
            )
            if table is not None:
                tables.append(table.drop_columns([n for n in table.column_names if n.startswith("_dlt")]))
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def cuts(self, window: Window, rows: int) -> list[datetime]:
        found = self.ask(
            lambda sql: (
                f"SELECT {sql.col('created_at')} FROM (SELECT {sql.col('created_at')}, ROW_NUMBER() OVER (ORDER BY"
                f" {sql.col('created_at')}) AS row_nr FROM {sql.table} WHERE {sql.present} AND {sql.inside(window)})"
                f" AS numbered WHERE MOD(row_nr, {rows}) = 0 ORDER BY row_nr"
            )
        )
        return [parse_time(row[0]) for row in found]

    def most_at_once(self) -> int:
        return self._number(
            lambda sql: (
                f"SELECT MAX(alike) FROM (SELECT COUNT(*) AS alike FROM {sql.table} WHERE {sql.present}"
                f" AND {sql.col('created_at')} IS NOT NULL GROUP BY {sql.col('created_at')}) AS counted"
            )
        )

    def oldest(self) -> datetime | None:
        found = self.ask(
            lambda sql: f"SELECT MIN({sql.col('created_at')}) FROM {sql.table} WHERE {sql.present}"
        )
        return parse_time(found[0][0]) if found and found[0][0] else None

    def accounts(self) -> set[tuple[str | None, int | None]]:
        return {
            (row[0], row[1])
            for row in self.ask(
                lambda sql: f"SELECT DISTINCT {sql.col('domain')}, {sql.col('integration')} FROM {sql.table}"
            )
        }

    def exists(self) -> bool:
        """Whether the table is there, be it empty."""
        return (
            self._ask(lambda sql: f"SELECT COUNT(*) FROM {sql.table}", lambda cursor: cursor.fetchall())
            is not None
        )

    # -- any other question ---------------------------------------------------------------------------------------

    def ask(self, question: Callable[[SqlNames], str]) -> list[tuple[Any, ...]]:
        """The rows of any question about this table; none if it is not there."""
        return self._ask(question, lambda cursor: list(cursor.fetchall())) or []

    def _number(self, question: Callable[[SqlNames], str]) -> int:
        rows = self.ask(question)
        return int(rows[0][0] or 0) if rows else 0

    def arrow(self, question: Callable[[SqlNames], str]) -> pa.Table | None:
        """The answer to any question about this table as Arrow; `None` if the table is not there."""
        return self._ask(question, lambda cursor: as_arrow(cursor, columns_of(self._pipeline, self._table)))

    def _ask(self, question: Callable[[SqlNames], str], take: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        try:
            with dlts_context_is_ours():
                self._client = self._client or client_of(self._pipeline)
                with reading(self._pipeline, self._client) as client:
                    names = SqlNames(client, self._table)
                    with client.execute_query(question(names)) as cursor:
                        return take(cursor)
        except (DatabaseUndefinedRelation, DestinationUndefinedEntity):
            return None


class SqlNames:
    """Names and times as one destination writes them."""

    def __init__(self, client: SqlClientBase[Any] | LakeReader, table: str) -> None:
        self._client = client
        self.table = client.make_qualified_table_name(table)
        self.present = f"{self.col('_missing_since')} IS NULL"

    def named(self, table: str) -> str:
        """Another table of the dataset."""
        return self._client.make_qualified_table_name(table)

    def col(self, column: str) -> str:
        """A column, quoted."""
        return self._client.escape_column_name(column)

    def among(self, ids: Iterable[int]) -> str:
        """Whether the row is of one of these customers."""
        return f"{self.col('id')} IN ({', '.join(str(int(number)) for number in ids) or 'NULL'})"

    def inside(self, window: Window) -> str:
        """Whether the row was created in the window."""
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


class CountsOnly:
    """Stands in where the warehouse cannot be asked, or is about to be emptied: nobody is known by name.

    It knows how many customers were recorded per window, and whose customers are held.
    """

    def __init__(
        self, coverage: Coverage | None = None, accounts: Collection[tuple[str | None, int | None]] = ()
    ) -> None:
        self._rows = {
            item.window: item.rows for item in coverage or ()
        }  # the coverage itself goes on changing
        self._accounts = set(accounts)

    def total(self) -> int:
        return sum(self._rows.values())

    def count(self, windows: Sequence[Window]) -> list[int]:
        return [self._rows.get(window, 0) for window in windows]

    def known(self, ids: Collection[int]) -> set[int]:
        del ids
        return set()

    def ids(self, window: Window) -> set[int]:
        del window
        return set()

    def rows(self, ids: Collection[int]) -> pa.Table:
        del ids
        return SCHEMA.empty_table()

    def cuts(self, window: Window, rows: int) -> list[datetime]:
        del window, rows
        return []

    def most_at_once(self) -> int:
        return 0

    def oldest(self) -> datetime | None:
        return None

    def accounts(self) -> set[tuple[str | None, int | None]]:
        return self._accounts
