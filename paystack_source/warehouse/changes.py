"""Computes `_fingerprint` and `_changed_at` of each customer, for jobs that read only changes since their last run.

The fingerprint is a hash of all of a customer's values at Paystack except `updated_at`, and of whether Paystack still
lists the customer. `_changed_at` changes with the fingerprint. It is the time at which this copy loaded the change, and
later than every other `_changed_at` in the copy. So a job can store the latest value it read, and select later ones:
it misses no change, not even after a long load or on a machine whose clock is behind.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paystack_source import customer
from paystack_source.extract.windows import Window
from paystack_source.tables import TIME
from paystack_source.values import json_text, parse_time, quoted_name
from paystack_source.warehouse.queries import SqlNames, Warehouse
from paystack_source.warehouse.scratch import scratch_database

FEW = 1_000
"""Up to this many customers are queried by id, more of them by intervals of creation time."""

MOST_SPANS = 100
"""The most such intervals in one query."""

_JSON = {column.name for column in customer.COLUMNS if column.kind == "json"}
_KNOWN = ("id", "_fingerprint", "_changed_at")
_NOBODY = pa.schema([("id", pa.int64()), ("_fingerprint", pa.string()), ("_changed_at", TIME)]).empty_table()


class Changes:
    """Compares customers with those in the copy; one for each run."""

    def __init__(self, copy: Warehouse) -> None:
        self._copy = copy
        self._latest: datetime | None = None
        self._columns_there = False

    def with_change_columns(self, customers: pa.Table) -> pa.Table:
        """The customers with the columns `_fingerprint` and `_changed_at`. No customer may be in the table twice."""
        columns = [name for name in customers.column_names if name not in _KNOWN[1:]]
        customers = customers.select(columns)
        if not customers.num_rows:
            return customers
        held = self._held(customers)
        fingerprints = fingerprints_of(customers)
        at = pc.index_in(customers.column("id"), value_set=held.column("id"))
        same = pc.fill_null(pc.equal(held.column("_fingerprint").take(at), fingerprints), fill_value=False)
        now = pa.scalar(self._now(), TIME)
        changed_at = pc.if_else(same, held.column("_changed_at").take(at), now)
        return customers.append_column("_fingerprint", fingerprints).append_column("_changed_at", changed_at)

    def _now(self) -> datetime:
        """The present time, or a later one if the copy has a later `_changed_at`."""
        now = datetime.now(UTC)
        if self._latest is None and self._has_columns:
            latest = self._copy.query(lambda sql: f"SELECT MAX({sql.col('_changed_at')}) FROM {sql.table}")
            self._latest = parse_time(latest[0][0]) if latest and latest[0][0] else None
        if self._latest and self._latest >= now:
            now = self._latest + timedelta(microseconds=1)
        self._latest = now
        return now

    @property
    def _has_columns(self) -> bool:
        """Whether the copy has these columns. A copy made by an earlier version gets them with the next load."""
        if not self._columns_there:
            empty = self._copy.arrow(lambda sql: f"SELECT * FROM {sql.table} WHERE 1 = 0")
            self._columns_there = empty is not None and set(_KNOWN) <= set(empty.column_names)
        return self._columns_there

    def _held(self, customers: pa.Table) -> pa.Table:
        """`id`, `_fingerprint` and `_changed_at` of these customers in the copy, and perhaps of others."""
        where = covering_condition(customers)
        columns = _KNOWN if self._has_columns else ()
        held = self._copy.arrow(
            lambda sql: (
                f"SELECT {', '.join(map(sql.col, columns)) or '*'} FROM {sql.table} WHERE {where(sql)}"
            )
        )
        if held is None:
            return _NOBODY
        if not columns:
            return _without_change_columns(held)
        held = held.cast(_NOBODY.schema)
        with_fingerprint = held.filter(pc.is_valid(held.column("_fingerprint")))
        # Customers that an earlier version copied, and that no later run loaded again.
        older = held.filter(pc.is_null(held.column("_fingerprint"))).column("id").to_pylist()
        if not older:
            return with_fingerprint
        return pa.concat_tables([with_fingerprint, _without_change_columns(self._copy.rows(older))])


def covering_condition(customers: pa.Table) -> Callable[[SqlNames], str]:
    """An SQL condition that is true for these customers, and for few others."""
    created = customers.column("created_at")
    if customers.num_rows <= FEW:
        ids = customers.column("id").to_pylist()
        return lambda sql: sql.among(ids)
    if created.null_count:
        return lambda _sql: "1 = 1"
    spans = _spans(created)
    return lambda sql: f"({' OR '.join(f'({sql.inside(span)})' for span in spans)})"


def _spans(created: pa.ChunkedArray) -> list[Window]:
    """The intervals of these times: windows that were read side by side may lie years apart."""
    times = np.sort(created.cast(pa.int64()).to_numpy())
    gaps = np.flatnonzero(np.diff(times) > (times[-1] - times[0]) / MOST_SPANS)
    starts, ends = times[[0, *(gaps + 1)]], times[[*gaps, -1]]
    second = timedelta(seconds=1)
    return [
        Window(start, end + second)
        for start, end in zip(*(pa.array(each, TIME).to_pylist() for each in (starts, ends)), strict=True)
    ]


def _without_change_columns(held: pa.Table) -> pa.Table:
    """The same columns for customers that an earlier version copied; `_changed_at` is their `_last_seen_at`."""
    seen = held.column("_last_seen_at")
    return pa.table([held.column("id"), fingerprints_of(held), seen], schema=_NOBODY.schema)


def fingerprints_of(customers: pa.Table) -> pa.ChunkedArray:
    """The fingerprint of each row: an MD5 of its values. Equal values have one fingerprint on every destination."""
    names = sorted(
        name for name in customers.column_names if not name.startswith("_") and name != "updated_at"
    )
    parts = [f"'{name}=' || " + _sql_text(name, customers.schema.field(name).type) for name in names]
    with scratch_database() as memory:
        memory.register("customers", _normalized_json(customers))
        return (
            memory.execute(
                f"SELECT md5(concat_ws(chr(31), {', '.join(parts)}, 'missing=' || (_missing_since IS NOT NULL)))"
                " FROM customers"
            )
            .to_arrow_table()
            .column(0)
        )


def _normalized_json(table: pa.Table) -> pa.Table:
    """The customers with normalized JSON: PostgreSQL changes its spaces and the order of its keys."""
    for name in _JSON & set(table.column_names):
        texts = pc.dictionary_encode(table.column(name).combine_chunks())  # most accounts have few values
        spelled = pa.array(map(_normalized, texts.dictionary.to_pylist()), pa.string()).take(texts.indices)
        table = table.set_column(table.column_names.index(name), name, spelled)
    return table


def _normalized(text: str | None) -> str | None:
    try:
        return text and json_text(msgspec.json.decode(text), ordered=True)
    except msgspec.DecodeError:
        return text


def _sql_text(name: str, kind: pa.DataType) -> str:
    quoted = quoted_name(name)
    return f"epoch_us({quoted})::VARCHAR" if pa.types.is_timestamp(kind) else f"{quoted}::VARCHAR"
