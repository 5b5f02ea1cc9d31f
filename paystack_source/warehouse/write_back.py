"""The copy for bulk changes: finds it, reads which runs were loaded into it, and loads runs into it.

Nothing outside of the copy stores which runs it has. The copy has a run if its `write_back_runs` has the run with as
many `events` as the run's journal, from a load that dlt recorded as complete, and if no customer in the copy is older
than the run. So the answer is right also for a copy that was deleted, renamed, restored or overwritten, or that is one
of several.

Another pipeline than the extract's, `paystack_writeback`, loads into the dataset of the copy, so their states and
pending loads never mix. Every table is merged by key, so loading twice is harmless. The extract's pipeline is opened as
well: only its schema and state have all columns of the customers, and the name of their table.

A dataset holds one account's customers. A run of another account or key mode is not loaded into it.

Paystack's answers to writes are partial (an update's has no risk action, a create's no names). So a row keeps the
copy's values for fields that the answer lacks.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from dlt.pipeline.pipeline import Pipeline

from paystack_source.customer import COLUMNS, CUSTOMERS
from paystack_source.errors import ConfigError
from paystack_source.extract.windows import ALWAYS
from paystack_source.file_lock import DUCKDB_FILES
from paystack_source.interrupts import closed_at_end
from paystack_source.tables import LOAD_ID, SETS_CUSTOMERS, WRITE_BACK_ROWS, WRITE_BACK_RUNS
from paystack_source.values import as_text, batches, in_utc, quoted_name, quoted_text
from paystack_source.warehouse.changes import Changes
from paystack_source.warehouse.comments import write_comments
from paystack_source.warehouse.destinations import cached_capabilities, load, read_table, table_resource
from paystack_source.warehouse.dlt_quirks import delete_loaded_files
from paystack_source.warehouse.locations import DUCKDB, duckdb_file
from paystack_source.warehouse.prepare import completed_loads, repair_schema
from paystack_source.warehouse.queries import Warehouse, columns_of
from paystack_source.warehouse.single_writer import exclusive_run
from paystack_source.warehouse.sync import open_pipeline

WRITE_BACK_PIPELINE: Final = "paystack_writeback"
BATCH: Final = 10_000


@dataclass(frozen=True, slots=True)
class WriteBack:
    """The copy in one dataset of one destination. It may not exist yet."""

    destination: str = "duckdb"
    dataset: str = "paystack"

    def find_copy(self) -> Path | pa.Table | None:
        """The customers of the copy: the path of its DuckDB file, or a table from another destination.

        None if there is no copy yet.
        """
        if self.destination in DUCKDB:
            there = self._query("customers", lambda named: f"SELECT COUNT(*) FROM {named('customers')}")
            return duckdb_file(self.destination) if there else None
        pipeline, columns = self._extract_pipeline(), [column.name for column in COLUMNS]
        if not any(Warehouse(pipeline).count([ALWAYS])):
            return None
        found = read_table(pipeline, "customers", columns)
        identified = self._query(
            "customer_details",
            lambda named: f"SELECT customer_code FROM {named('customer_details')} WHERE identified",
        )
        # Only single fetches show which customers passed an identity check.
        codes = pa.array([code for (code,) in identified], pa.string())
        return found.append_column(
            "identified", pc.is_in(found["customer_code"].cast(pa.string()), value_set=codes)
        )

    def oldest_read(self) -> datetime | None:
        """The oldest `_last_seen_at` of the copy; None if a customer has none."""
        lines = self._query(
            "customers",
            lambda named: (
                f"SELECT MIN(_last_seen_at), COUNT(*) - COUNT(_last_seen_at) FROM {named('customers')}"
                " WHERE _missing_since IS NULL"
            ),
        )
        if not lines or lines[0][0] is None or lines[0][1]:
            return None
        return in_utc(lines[0][0])

    def applied_by(self, plan_id: str, key_mode: str, account: int | None) -> str | None:
        """The run that applied this plan to this account, if the warehouse has that run."""
        lines = self._query("write_back_runs", _applied_by(plan_id, key_mode, account))
        return str(lines[0][0]) if lines else None

    def loaded_runs(self) -> dict[str, int]:
        """By run, how many events its journal had when it was loaded; without runs whose changes were overwritten."""
        lines = self._query(
            "write_back_runs",
            lambda named: f"SELECT run_id, events, _dlt_load_id FROM {named('write_back_runs')}",
        )
        if not lines:
            return {}
        lost, complete = self._overwritten(), self._completed_loads()
        return {
            str(run): int(events)
            for run, events, load_id in lines
            if events is not None and run not in lost and load_id in complete
        }

    def _completed_loads(self) -> set[str]:
        """The loads that dlt recorded as complete; it does so after all their tables."""
        if self.destination in DUCKDB:
            lines = self._query("_dlt_loads", lambda named: f"SELECT load_id FROM {named('_dlt_loads')}")
            return {load_id for (load_id,) in lines}
        pipeline = self._writeback_pipeline()
        return completed_loads(pipeline, pipeline.default_schema.loads_table_name)

    def _overwritten(self) -> set[str]:
        """The runs that changed a customer of which the copy has an older version.

        A page that was requested before a run, and loaded after it, restores the old values.
        """
        lines = self._query(
            "write_back_rows",
            lambda named: " UNION ".join(
                f"SELECT r.run_id FROM {named('write_back_rows')} r"
                f" JOIN {named('customers')} c ON c.{ours} = r.{theirs}"
                f" WHERE r.outcome = 'applied' AND r.operation IN ({', '.join(map(quoted_text, SETS_CUSTOMERS))})"
                " AND (r.code IS NULL OR r.code <> 'exists') AND c._last_seen_at < r.finished_at"
                for ours, theirs in (("id", "customer_id"), ("customer_code", "customer_code"))
            ),
        )
        return {str(line[0]) for line in lines}

    def _query(self, table: str, statement: Callable[[Callable[[str], str]], str]) -> list[tuple[Any, ...]]:
        """Query this table, and perhaps others. `statement` gets a function that qualifies their names.

        Returns nothing if one of them does not exist, or lacks a column. A DuckDB file is queried directly: that works
        while others read the file, and is faster than a pipeline.
        """
        if self.destination not in DUCKDB:
            if table.startswith("write_back"):
                pipeline = self._writeback_pipeline()
                with exclusive_run(pipeline, dataset=False):
                    pipeline.sync_destination()
                if not {"events", LOAD_ID.name} <= columns_of(pipeline, WRITE_BACK_RUNS.name).keys():
                    return []
            else:
                pipeline = self._extract_pipeline()
            return Warehouse(pipeline, table).query(lambda sql: statement(sql.named))
        path, dataset = duckdb_file(self.destination), quoted_name(self.dataset)
        if path.is_file():
            with (
                _read_connection(path) as connection,
                contextlib.suppress(duckdb.CatalogException, duckdb.BinderException),
            ):
                return connection.execute(statement(lambda name: f"{dataset}.{name}")).fetchall()
        return []

    def _writeback_pipeline(self) -> Pipeline:
        """The write-back's own pipeline, in the dataset of the copy."""
        return open_pipeline(self.destination, self.dataset, name=WRITE_BACK_PIPELINE)

    def _extract_pipeline(self) -> Pipeline:
        """The extract's pipeline, for reading the copy: its schema has the types of the columns."""
        pipeline = open_pipeline(self.destination, self.dataset)
        pipeline.sync_destination()
        return pipeline

    def load(
        self,
        run: pa.Table,
        rows: Iterable[pa.Table],
        customers: Mapping[int, Mapping[str, Any]],
        *,
        first: bool = False,
    ) -> str | None:
        """Load one run: its `rows`, the columns that it set by customer id, and its row in `write_back_runs`.

        With `first` nothing is loaded if another run applied the plan; its id is returned, and otherwise None.

        Raises `ConfigError` if the dataset holds customers of another account or key mode; then nothing is loaded.
        """
        key_mode, account = (run[name][0].as_py() for name in ("key_mode", "account"))
        pipeline = self._writeback_pipeline()
        with cached_capabilities(pipeline), exclusive_run(pipeline):
            held = Warehouse(self._extract_pipeline())
            accounts = held.accounts()
            if accounts and not _may_be_among(accounts, key_mode, account):
                raise ConfigError(
                    f"the dataset {self.dataset} holds the customers of another Paystack account or key mode.",
                    advice="Name another dataset for this account.",
                )
            if first and accounts and account is None:
                return None  # the account of the customers is unknown
            if first:
                pipeline.sync_destination()
                statement = _applied_by(run["plan_id"][0].as_py(), key_mode, account)
                lines = Warehouse(pipeline, WRITE_BACK_RUNS.name).query(lambda sql: statement(sql.named))
                if others := {str(line[0]) for line in lines} - set(run["run_id"].to_pylist()):
                    return min(others)
            is_same = len(accounts) == 1 and (account is None or (key_mode, account) in accounts)
            changed = _changed_customers(held, customers) if is_same else []
            if pipeline.has_pending_data:
                pipeline.abort_packages()  # of a load that failed, so it was not recorded as complete
            delete_loaded_files(pipeline)
            repair_schema(pipeline)
            tables = [(WRITE_BACK_ROWS, rows), (CUSTOMERS, changed), (WRITE_BACK_RUNS, [run])]
            load(pipeline, [table_resource(table, made) for table, made in tables if made])
            write_comments(pipeline, pipeline.schemas.values())
        return None


@contextlib.contextmanager
def _read_connection(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to read the file."""
    with DUCKDB_FILES:
        try:
            connection = duckdb.connect(str(path), read_only=True)
        except duckdb.ConnectionException:  # this process has it open for writing, e.g. a notebook
            connection = duckdb.connect(str(path))
        with closed_at_end(connection):
            yield connection


def _applied_by(plan_id: str, key_mode: str, account: int | None) -> Callable[[Callable[[str], str]], str]:
    """The query for the run that applied this plan to this account."""
    mine = "" if account is None else f" AND (account IS NULL OR account = {account:d})"
    where = f"plan_id = {quoted_text(plan_id)} AND key_mode = {quoted_text(key_mode)}{mine}"
    return lambda named: f"SELECT run_id FROM {named('write_back_runs')} WHERE {where}"


def _may_be_among(
    accounts: set[tuple[str | None, int | None]], key_mode: str | None, account: int | None
) -> bool:
    """Whether this may be one of the accounts. An unknown value on either side is not compared."""
    return any(
        (None in (domain, key_mode) or domain == key_mode)
        and (None in (number, account) or number == account)
        for domain, number in accounts
    )


def _changed_customers(held: Warehouse, changes: Mapping[int, Mapping[str, Any]]) -> list[pa.Table]:
    """The customers that a run changed, as whole rows: the rows of the copy with the changes."""
    tables, compared = [], Changes(held)
    for ids in batches(sorted(changes), BATCH):
        rows = held.rows(ids)
        if len(rows.column_names):
            changed = overlay(rows, {number: changes[number] for number in ids})
            tables.append(compared.with_change_columns(changed))
    return [table for table in tables if table.num_rows]


def overlay(held: pa.Table, changes: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """The changed rows of the copy, and new rows for customers that the copy lacks. Pure.

    Columns that the copy lacks are left out; the copy's columns and types do not change. A customer whom a run read
    after the change is not returned.
    """
    rows = {row["id"]: row for row in held.to_pylist()}
    changed = []
    for number, change in changes.items():
        row = rows.get(number)
        if row is None and not change.get("customer_code"):
            continue  # not in the copy, and the change is too little for a new row
        if row is not None and not _is_newer(change, row):
            continue
        merged = {"id": number} if row is None else row
        for name, value in change.items():
            if name in held.column_names:
                merged[name] = _fitted(value, held.schema.field(name).type, merged.get(name))
        changed.append(merged)
    return pa.Table.from_pylist(changed, schema=held.schema)


def _is_newer(change: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether the change is newer than the copy's row: by Paystack's time of update, else by our times.

    Our clock may have been set back since the row was read, or the clock of the machine that read it may be ahead.
    """
    ours, held = change.get("updated_at"), row.get("updated_at")
    if ours is not None and held is not None and in_utc(ours) > in_utc(held):
        return True
    ours, held = change.get("_last_seen_at"), row.get("_last_seen_at")
    return ours is None or held is None or bool(ours >= held)


def _fitted(value: object, kind: pa.DataType, before: object) -> object:
    """A value of an answer in the column's type; `before` if it cannot be converted."""
    if value is None:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return as_text(value)
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        text = value.strip() if isinstance(value, str) else ""
        return int(text) if pa.types.is_integer(kind) and re.fullmatch(r"-?\d{1,18}", text) else before
    return value
