"""`--history`: every version of a customer that a run read, at the cost of no more requests.

`customers_history` has the columns of `customers` and, in UTC, `_valid_from` (when this version was first read) and
`_valid_to` (when another version was read; null for the newest). A new version begins when a value other than
`updated_at` differs, or when the customer is no longer listed. Paystack gives no reliable time of an edit: the rolling
re-read finds edits, so `_valid_from` is at most one refresh cycle late.

dlt's `scd2` is not used: it exists for databases only, and it compares values that a destination may store in another
form (JSON, times). Here the fingerprint is stored with each version, so any destination that can be queried works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.extract import DltResource

from paystack_source import customer
from paystack_source.extract.windows import ALWAYS, BEGIN, cut_at
from paystack_source.tables import TIME, Column, Table
from paystack_source.warehouse.changes import covering_condition, fingerprints_of
from paystack_source.warehouse.destinations import (
    apply_destination_hints,
    arrow_rows,
    load,
    merged,
    rows_to_load,
    source_of,
)
from paystack_source.warehouse.dlt_quirks import customers_table, is_being_replaced
from paystack_source.warehouse.duckdb_file import LOAD_BYTES
from paystack_source.warehouse.queries import SqlNames, Warehouse, in_our_types

HISTORY = Table(
    "customers_history",
    "Every version of a customer that was seen: one row each, with the time from and to which it was seen.",
    ("id", "_valid_from"),
    (
        # `_valid_from` has the time of `_changed_at`.
        *(column for column in customer.CUSTOMERS.columns if column.name != "_changed_at"),
        Column("_valid_from", "timestamp", "When this version was first seen, in UTC.", nullable=False),
        Column("_valid_to", "timestamp", "When another version was seen, in UTC; null for the newest."),
    ),
)

BASELINE_ROWS = 20_000
_BEHIND = "history_behind"


def history_resource(customers: DltResource, columns: Mapping[str, Any]) -> DltResource:
    """The resource that makes versions from the rows of `customers`; `columns` are the hints of that table."""

    def versions(rows: Any) -> Iterator[pa.Table]:  # noqa: ANN401  # whatever the resource yields
        table = arrow_rows(rows)
        if table is None or not table.num_rows:
            return
        found = versions_to_store(in_our_types(table), *_history_and_copy(dlt.current.pipeline()))
        if found.num_rows:
            yield rows_to_load(found)

    return customers | dlt.transformer(versions, **_hints(columns))


def complete_history(pipeline: dlt.Pipeline, schema_name: str, columns: Mapping[str, Any]) -> None:
    """Add versions that the copy has and the history lacks: those of customers that runs without a history loaded.

    `schema_name` is the source's name, which `clone` changes; `columns` are the hints of the copy.
    """
    customers = Warehouse(pipeline, customers_table(pipeline, schema_name))
    history = Warehouse(pipeline, HISTORY.name)
    if not customers.exists() or (history.exists() and not _is_behind(pipeline, schema_name)):
        return

    lacking, complete = _versions_held(customers, history), False

    @dlt.resource(**_hints(columns))
    def versions_of_the_copy() -> Iterator[pa.Table]:
        nonlocal complete
        apply_destination_hints(HISTORY)
        size = 0
        for versions in map(rows_to_load, lacking):
            size += versions.nbytes
            yield versions
            if size > LOAD_BYTES:
                return
        note_history(loaded=True)
        complete = True

    while not complete:
        load(pipeline, source_of(schema_name, versions_of_the_copy))


def _history_and_copy(pipeline: dlt.Pipeline) -> tuple[Warehouse, Warehouse | None]:
    """The history; and the copy, if it has versions that the history lacks."""
    history = Warehouse(pipeline, HISTORY.name)
    behind = (
        _is_behind(pipeline, dlt.current.source_schema().name)
        and not is_being_replaced(HISTORY.name)
        and not is_being_replaced("customers")
    )
    return history, Warehouse(pipeline) if behind else None


def note_history(*, loaded: bool) -> None:
    """Record in this load's state whether the history gets its rows; if not, the history is behind the copy."""
    state = dlt.current.resource_state("customers")
    if loaded:
        state.pop(_BEHIND, None)
    else:
        state[_BEHIND] = True


def _is_behind(pipeline: dlt.Pipeline, schema_name: str) -> bool:
    resources = pipeline.state.get("sources", {}).get(schema_name, {}).get("resources", {})
    return bool(resources.get("customers", {}).get(_BEHIND))


def _hints(columns: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: hints for name, hints in columns.items() if name != "_changed_at"}
    hints = merged(HISTORY)
    return {**hints, "columns": {**given, **hints["columns"]}}


def versions_to_store(table: pa.Table, history: Warehouse, copy: Warehouse | None = None) -> pa.Table:
    """The versions to store: new ones of the customers in `table`, and stored ones that get an end because of them.

    `copy` is given if the history may lack versions of it: these are stored first.
    """
    read = _as_versions(table)
    ids = read.column("id").to_pylist()
    first = versions_to_store(copy.rows(ids), history) if copy is not None else read.slice(0, 0)
    open_ = first.filter(pc.is_null(first.column("_valid_to")))
    stored = _open_versions(history, covering_condition(read), ("id", "_fingerprint", "_valid_from"))
    begun, held = _by_id(open_, "_fingerprint"), _by_id(stored, "_fingerprint")
    latest = held | begun
    fresh = read.filter(
        pa.array(
            [
                latest.get(number) != fingerprint
                for number, fingerprint in _by_id(read, "_fingerprint").items()
            ],
            pa.bool_(),
        )
    )
    fresh = _later(fresh, _by_id(stored, "_valid_from") | _by_id(open_, "_valid_from"))
    begin = _by_id(fresh, "_valid_from")
    parts = [_with_end(first, begin), fresh]
    if replaced := begin.keys() & (held.keys() - begun.keys()):
        ended = _open_versions(history, lambda sql: sql.among(replaced))
        parts.insert(0, _with_end(ended, begin))
    return pa.concat_tables(parts, promote_options="permissive")


def _by_id(versions: pa.Table, column: str) -> dict[int, Any]:
    pairs = zip(versions.column("id").to_pylist(), versions.column(column).to_pylist(), strict=True)
    return dict(pairs)


def _later(versions: pa.Table, earlier: Mapping[int, datetime]) -> pa.Table:
    """The versions, each beginning later than the customer's earlier one, even if a clock was ahead before."""
    begins = [
        max(at, earlier[number] + timedelta(microseconds=1)) if number in earlier else at
        for number, at in _by_id(versions, "_valid_from").items()
    ]
    index = versions.column_names.index("_valid_from")
    return versions.set_column(index, "_valid_from", pa.array(begins, TIME))


def _with_end(versions: pa.Table, begin: Mapping[int, Any]) -> pa.Table:
    """The versions. An open version ends when the next one begins."""
    ids = versions.column("id").to_pylist()
    open_ = pc.is_null(versions.column("_valid_to"))
    ends = pa.array([begin.get(number) for number in ids], TIME)
    ends = pc.if_else(open_, ends, pa.scalar(None, TIME))
    for name in ("_valid_to", "_last_seen_at"):
        column = pc.coalesce(ends, versions.column(name).cast(TIME))
        versions = versions.set_column(versions.column_names.index(name), name, column)
    return versions


def _open_versions(
    history: Warehouse, where: Callable[[SqlNames], str], columns: Sequence[str] = ()
) -> pa.Table:
    """The stored versions without an end that match a condition, with these columns, or all if none are named."""
    if is_being_replaced(HISTORY.name):
        return _NO_VERSIONS
    found = history.arrow(
        lambda sql: (
            f"SELECT {', '.join(map(sql.col, columns)) or '*'} FROM {sql.table}"
            f" WHERE {sql.col('_valid_to')} IS NULL AND {where(sql)}"
        )
    )
    return _NO_VERSIONS if found is None else found


_NO_VERSIONS = pa.schema(
    [("id", pa.int64()), ("_fingerprint", pa.string()), ("_valid_from", TIME)]
).empty_table()


def _versions_held(customers: Warehouse, history: Warehouse) -> Iterator[pa.Table]:
    for window in cut_at(ALWAYS, customers.cuts(ALWAYS, BASELINE_ROWS)):
        # A customer without a creation time is in no window: take it with the first.
        held = customers.arrow(
            lambda sql, window=window: (  # type: ignore[misc]
                f"SELECT * FROM {sql.table} WHERE {sql.inside(window)}"
                + (f" OR {sql.col('created_at')} IS NULL" if window.lo == BEGIN else "")
            )
        )
        if held is not None and held.num_rows:
            versions = versions_to_store(held, history)
            if versions.num_rows:
                yield versions


def _as_versions(table: pa.Table) -> pa.Table:
    """The customers as versions that begin when they were read. In an older copy the fingerprint may be null."""
    fresh = "_fingerprint" in table.column_names and not table.column("_fingerprint").null_count
    fingerprints = table.column("_fingerprint") if fresh else fingerprints_of(table)
    begin = pc.coalesce(table.column("_missing_since"), table.column("_last_seen_at"))
    return (
        table.drop_columns([column.name for column in customer.CHANGES if column.name in table.column_names])
        .append_column("_valid_from", begin)
        .append_column("_valid_to", pa.nulls(table.num_rows, TIME))
        .append_column("_fingerprint", fingerprints)
    )
