"""The warehouse copy, found and asked: whether there is one, which runs it holds, and when it was read.

What a copy holds is asked of the copy itself, never remembered elsewhere: it holds a run if its `write_back_runs` has
the run with as many `events` as the run's journal, and if it shows no customer as they were before the run. A copy that
was deleted, renamed, restored, overwritten, or is one of several therefore never counts for more than it has.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.customer import COLUMNS
from paystack_source.values import in_utc, quoted_name, quoted_text
from paystack_source.warehouse.destinations import columns_of, read_table
from paystack_source.warehouse.dlt_quirks import drop_foreign_state
from paystack_source.warehouse.locations import DUCKDB, duckdb_file
from paystack_source.warehouse.queries import Warehouse
from paystack_source.warehouse.sync import open_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from dlt.pipeline.pipeline import Pipeline

WRITE_BACK_PIPELINE = "paystack_writeback"
_IDENTIFIED = "SELECT customer_code FROM {} WHERE identified"


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy in one dataset of one destination, be it there or not."""

    destination: str = "duckdb"
    dataset: str = "paystack"

    def find_copy(self) -> Path | pa.Table | None:
        """The customers that the copy holds: its DuckDB file where that can be joined in place, else a table.

        None if there is no copy yet.
        """
        if self.destination in DUCKDB:
            return self._find_in_file(duckdb_file(self.destination))
        pipeline = self.extract_pipeline()
        if not Warehouse(pipeline).total():
            return None
        table = read_table(pipeline, "customers", [column.name for column in COLUMNS])
        if not columns_of(pipeline, "customer_details"):
            return table
        details = Warehouse(pipeline, "customer_details")
        return _with_identified(table, details.ask(lambda sql: _IDENTIFIED.format(sql.table)))

    def _find_in_file(self, path: Path) -> Path | pa.Table | None:
        if not path.is_file():
            return None
        dataset = quoted_name(self.dataset)
        with _opened(path) as (connection, in_use):
            held = "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = 'customers'"
            if not connection.execute(held, [self.dataset]).fetchone():
                return None
            if not in_use:
                return path
            table = connection.table(f"{dataset}.customers").to_arrow_table()
        return _with_identified(table, self._ask_file(_IDENTIFIED.format(f"{dataset}.customer_details")))

    def read_since(self) -> datetime | None:
        """The time since which every customer of the copy was read from Paystack; None if it does not say."""
        lines = Warehouse(self.extract_pipeline()).ask(
            lambda sql: (
                f"SELECT MIN({sql.col('_last_seen_at')}), COUNT(*) - COUNT({sql.col('_last_seen_at')}) FROM {sql.table}"
                f" WHERE {sql.present}"
            )
        )
        if not lines or lines[0][0] is None or lines[0][1]:
            return None
        return in_utc(lines[0][0])

    def applied_by(self, plan_id: str, key_mode: str, account: int | None) -> str | None:
        """The run that applied this plan to this account, as far as the warehouse knows."""
        mine = "" if account is None else f" AND (account IS NULL OR account = {account:d})"
        where = f" WHERE plan_id = {quoted_text(plan_id)} AND key_mode = {quoted_text(key_mode)}{mine}"
        lines = self._ask_runs("run_id", where)
        return str(lines[0][0]) if lines else None

    def runs_held(self) -> dict[str, int]:
        """By run, how many events of its journal the copy holds; without runs that it held and that are overwritten."""
        lines = self._ask_runs("run_id, events", "")
        lost = self._overwritten() if lines else set()
        return {str(run): int(events) for run, events in lines if events is not None and run not in lost}

    def _overwritten(self) -> set[str]:
        """The runs that changed a customer whom the copy shows as they were before.

        A page that was asked for before a run, and loaded after the run was, puts the old values back.
        """

        def question(customers: str, rows: str) -> str:
            by_key = (
                f"SELECT r.run_id FROM {rows} r JOIN {customers} c ON c.{ours} = r.{theirs}"
                f" WHERE r.outcome = 'applied' AND r.operation IN ('risk-action', 'update', 'create')"
                " AND c._last_seen_at < r.finished_at"
                for ours, theirs in (("id", "customer_id"), ("customer_code", "customer_code"))
            )
            return " UNION ".join(by_key)

        if self.destination in DUCKDB:
            dataset = quoted_name(self.dataset)
            lines = self._ask_file(question(f"{dataset}.customers", f"{dataset}.write_back_rows"))
        else:
            lines = Warehouse(self.extract_pipeline()).ask(
                lambda sql: question(sql.table, sql.named("write_back_rows"))
            )
        return {str(line[0]) for line in lines}

    def writeback_pipeline(self) -> Pipeline:
        """The write-back's own pipeline, in the dataset of the copy."""
        pipeline = open_pipeline(self.destination, self.dataset, name=WRITE_BACK_PIPELINE)
        drop_foreign_state(pipeline)
        return pipeline

    def extract_pipeline(self) -> Pipeline:
        """The extract's pipeline, to read the copy with: it knows the types of the columns."""
        pipeline = open_pipeline(self.destination, self.dataset)
        pipeline.sync_destination()
        return pipeline

    def _ask_runs(self, columns: str, where: str) -> list[tuple[Any, ...]]:
        """Lines of `write_back_runs`; none if there is no such table, or one of an older version."""
        if self.destination in DUCKDB:
            return self._ask_file(f"SELECT {columns} FROM {quoted_name(self.dataset)}.write_back_runs{where}")
        pipeline = self.writeback_pipeline()
        pipeline.sync_destination()
        if "events" not in columns_of(pipeline, "write_back_runs"):
            return []
        return Warehouse(pipeline, "write_back_runs").ask(
            lambda sql: f"SELECT {columns} FROM {sql.table}{where}"
        )

    def _ask_file(self, query: str) -> list[tuple[Any, ...]]:
        """Ask DuckDB's file directly, since a pipeline takes its time to begin; nothing if a table is not there."""
        path = duckdb_file(self.destination)
        if not path.is_file():
            return []
        with (
            _opened(path) as (connection, _),
            contextlib.suppress(duckdb.CatalogException, duckdb.BinderException),
        ):
            return connection.execute(query).fetchall()
        return []


def _with_identified(customers: pa.Table, found: list[tuple[Any, ...]]) -> pa.Table:
    """The customers with a column that says who passed an identity check; only single fetches tell it."""
    codes = pa.array([code for (code,) in found], pa.string())
    identified = pc.is_in(customers["customer_code"].cast(pa.string()), value_set=codes)
    return customers.append_column("identified", identified)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, bool]]:
    """The file for reading, and whether this very process has it open for writing, e.g. a notebook."""
    try:
        connection, in_use = duckdb.connect(str(path), read_only=True), False
    except duckdb.ConnectionException:
        connection, in_use = duckdb.connect(str(path)), True
    with connection:
        yield connection, in_use
