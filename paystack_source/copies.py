"""The warehouse copy, found and asked: whether there is one, which runs it holds, and when it was read.

What a copy holds is asked of the copy itself, never remembered elsewhere: it holds a run if its `write_back_runs` has
the run with as many `events` as the run's journal. A copy that was deleted, renamed, restored, or is one of several
therefore never counts for more than it has.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from paystack_source.warehouse.locations import DUCKDB, duckdb_file, forget_other_places

if TYPE_CHECKING:
    from pathlib import Path

    from dlt.pipeline.pipeline import Pipeline

    from paystack_source.bulk.plan.copy import CustomerCopy
    from paystack_source.bulk.run.claims import Scope

PIPELINE = "paystack_writeback"


def find_copy(destination: str, dataset: str) -> CustomerCopy | None:
    """The warehouse copy for the planner, or None if there is none yet."""
    from paystack_source.bulk.plan.copy import arrow_copy, duckdb_copy  # noqa: PLC0415

    if destination in DUCKDB:
        path = duckdb_file(destination)
        if not path.is_file():
            return None
        try:
            there = _has_table(path, dataset, "customers", read_only=True)
        except duckdb.ConnectionException:  # this very process has it open for writing, e.g. a notebook
            with duckdb.connect(str(path)) as connection:
                if not _has_table(path, dataset, "customers", read_only=False):
                    return None
                return arrow_copy(connection.table(f'"{dataset}".customers').to_arrow_table())
        return duckdb_copy(path, dataset=dataset) if there else None
    from paystack_source.warehouse.copying import CUSTOMER_COLUMNS  # noqa: PLC0415
    from paystack_source.warehouse.destinations import read_table  # noqa: PLC0415
    from paystack_source.warehouse.queries import Warehouse  # noqa: PLC0415

    pipeline = extract_pipeline(destination, dataset)
    if not Warehouse(pipeline).total():
        return None
    held = read_table(pipeline, "customers", list(CUSTOMER_COLUMNS))
    return arrow_copy(held, destination=str(destination))


def read_since(destination: str, dataset: str) -> datetime | None:
    """The time since which every customer of the copy was read from Paystack; None if it does not say."""
    from paystack_source.warehouse.queries import Warehouse  # noqa: PLC0415

    lines = Warehouse(extract_pipeline(destination, dataset)).ask(
        lambda sql: (
            f"SELECT MIN({sql._last_seen_at}), COUNT(*) - COUNT({sql._last_seen_at}) FROM {sql.table}"  # noqa: S608, SLF001
            f" WHERE {sql.present}"
        )
    )
    if not lines or lines[0][0] is None or lines[0][1]:
        return None
    oldest: datetime = lines[0][0]
    return oldest.replace(tzinfo=UTC) if oldest.tzinfo is None else oldest


def applied_by(plan_id: str, scope: Scope, destination: str, dataset: str) -> str | None:
    """The run that applied this plan, as far as the warehouse knows."""
    account = "" if scope.account is None else f" AND (account IS NULL OR account = {scope.account:d})"
    text = plan_id.replace("'", "''")
    where = f" WHERE plan_id = '{text}' AND key_mode = '{scope.key_mode}'{account}"
    lines = _ask_runs("run_id", where, destination, dataset)
    return str(lines[0][0]) if lines else None


def runs_held(destination: str, dataset: str) -> dict[str, int]:
    """By run, how many events of its journal the copy holds."""
    return {
        str(run): int(events)
        for run, events in _ask_runs("run_id, events", "", destination, dataset)
        if events is not None
    }


def _ask_runs(columns: str, where: str, destination: str, dataset: str) -> list[tuple[Any, ...]]:
    """Lines of `write_back_runs`; none if there is no such table, or one of an older version."""
    if destination in DUCKDB:  # asked directly: dlt takes a second to begin
        path = duckdb_file(destination)
        query = f'SELECT {columns} FROM "{dataset}".write_back_runs{where}'  # noqa: S608
        try:
            return _ask_duckdb(path, query) if path.is_file() else []
        except (duckdb.CatalogException, duckdb.BinderException):
            return []
    from paystack_source.warehouse.destinations import columns_of  # noqa: PLC0415
    from paystack_source.warehouse.queries import Warehouse  # noqa: PLC0415

    pipeline = writeback_pipeline(destination, dataset)
    pipeline.sync_destination()
    if "events" not in columns_of(pipeline, "write_back_runs"):
        return []
    return Warehouse(pipeline, "write_back_runs").ask(lambda sql: f"SELECT {columns} FROM {sql.table}{where}")  # noqa: S608


def _ask_duckdb(path: Path, query: str) -> list[tuple[Any, ...]]:
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return connection.execute(query).fetchall()
    except duckdb.ConnectionException:  # this very process has it open for writing, e.g. a notebook
        with duckdb.connect(str(path)) as connection:
            return connection.execute(query).fetchall()


def writeback_pipeline(destination: str, dataset: str) -> Pipeline:
    """The write-back's own pipeline, in the dataset of the copy."""
    from paystack_source.warehouse.sync import open_pipeline  # noqa: PLC0415 - brings dlt, which takes a second

    pipeline = open_pipeline(destination, dataset, name=PIPELINE)
    forget_other_places(pipeline)
    return pipeline


def extract_pipeline(destination: str, dataset: str) -> Pipeline:
    """The extract's pipeline, to read the copy with: it knows the types of the columns."""
    from paystack_source.warehouse.sync import open_pipeline  # noqa: PLC0415

    pipeline = open_pipeline(destination, dataset)
    pipeline.sync_destination()
    return pipeline


def _has_table(path: Path, dataset: str, table: str, *, read_only: bool) -> bool:
    with duckdb.connect(str(path), read_only=read_only) as connection:
        found = connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [dataset, table]
        ).fetchone()
    return found is not None
