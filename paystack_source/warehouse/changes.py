"""Computes `_fingerprint` and `_changed_at` of each customer, for jobs that take only what changed since they last ran.

The fingerprint is a hash of all of a customer's values at Paystack except `updated_at`, and of whether Paystack still
lists the customer. `_changed_at` changes with the fingerprint. It is the time at which this copy loaded the change, and
later than every `_changed_at` in the copy. So a job that remembers the latest value it saw, and asks for later ones,
misses nothing, also after a long load and on a machine whose clock is behind.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from paystack_source import customer
from paystack_source.extract.windows import Window
from paystack_source.tables import TIME
from paystack_source.values import json_text, parse_time, quoted_name
from paystack_source.warehouse.scratch import scratch_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.warehouse.queries import SqlNames, Warehouse

FEW = 1_000
"""Up to so many customers are looked up by id, more of them by their interval of creation time."""

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
        """Return the customers, which come once each, with the columns `_fingerprint` and `_changed_at`."""
        columns = [name for name in customers.column_names if name not in _KNOWN[1:]]
        customers = customers.select(columns)
        if not customers.num_rows:
            return customers
        now_held = self._held(customers)
        fingerprints = fingerprints_of(customers)
        at = pc.index_in(customers.column("id"), value_set=now_held.column("id"))
        same = pc.fill_null(
            pc.equal(now_held.column("_fingerprint").take(at), fingerprints), fill_value=False
        )
        now = pa.scalar(self._now(), TIME)
        changed_at = pc.if_else(same, now_held.column("_changed_at").take(at), now)
        return customers.append_column("_fingerprint", fingerprints).append_column("_changed_at", changed_at)

    def _now(self) -> datetime:
        """The present time, or a later one if the copy has a later `_changed_at`."""
        now = datetime.now(UTC)
        if self._latest is None and self._has_columns:
            latest = self._copy.ask(lambda sql: f"SELECT MAX({sql.col('_changed_at')}) FROM {sql.table}")
            self._latest = parse_time(latest[0][0]) if latest and latest[0][0] else None
        if self._latest and self._latest >= now:
            now = self._latest + timedelta(microseconds=1)
        self._latest = now
        return now

    @property
    def _has_columns(self) -> bool:
        """Whether the copy has these columns; a copy of an earlier version gets them with the next load."""
        if not self._columns_there:
            empty = self._copy.arrow(lambda sql: f"SELECT * FROM {sql.table} WHERE 1 = 0")
            self._columns_there = empty is not None and set(_KNOWN) <= set(empty.column_names)
        return self._columns_there

    def _held(self, customers: pa.Table) -> pa.Table:
        """`id`, `_fingerprint` and `_changed_at` of held customers: of these customers and perhaps of more."""
        where = at_least(customers)
        columns = _KNOWN if self._has_columns else ()
        held = self._copy.arrow(
            lambda sql: (
                f"SELECT {', '.join(map(sql.col, columns)) or '*'} FROM {sql.table} WHERE {where(sql)}"
            )
        )
        if held is None:
            return _NOBODY
        if not columns:
            return _before_there_were_changes(held)
        held = held.cast(_NOBODY.schema)
        noted = held.filter(pc.is_valid(held.column("_fingerprint")))
        # Customers that an earlier version copied, and that were not loaded again since.
        older = held.filter(pc.is_null(held.column("_fingerprint"))).column("id").to_pylist()
        if not older:
            return noted
        return pa.concat_tables([noted, _before_there_were_changes(self._copy.rows(older))])


def at_least(customers: pa.Table) -> Callable[[SqlNames], str]:
    """An SQL condition that is true for these customers, and for few others."""
    if customers.num_rows <= FEW:
        ids = customers.column("id").to_pylist()
        return lambda sql: sql.among(ids)
    created = pc.min_max(customers.column("created_at")).as_py()
    if created["min"] is None or customers.column("created_at").null_count:
        return lambda _sql: "1 = 1"
    span = Window(created["min"], created["max"] + timedelta(seconds=1))
    return lambda sql: sql.inside(span)


def _before_there_were_changes(held: pa.Table) -> pa.Table:
    """The same columns of customers that an earlier version copied; their `_changed_at` is `_last_seen_at`."""
    seen = held.column("_last_seen_at")
    return pa.table([held.column("id"), fingerprints_of(held), seen], schema=_NOBODY.schema)


def fingerprints_of(customers: pa.Table) -> pa.ChunkedArray:
    """The fingerprint of each row: an MD5 of its values, the same for the same version on every destination."""
    names = sorted(
        name for name in customers.column_names if not name.startswith("_") and name != "updated_at"
    )
    parts = [f"'{name}=' || " + _sql_text(name, customers.schema.field(name).type) for name in names]
    with scratch_database() as memory:
        memory.register("customers", _spelled_alike(customers))
        return (
            memory.execute(
                f"SELECT md5(concat_ws(chr(31), {', '.join(parts)}, 'missing=' || (_missing_since IS NOT NULL)))"
                " FROM customers"
            )
            .to_arrow_table()
            .column(0)
        )


def _spelled_alike(table: pa.Table) -> pa.Table:
    """The customers with normalised JSON: PostgreSQL returns it with other spaces and another order of keys."""
    for name in _JSON & set(table.column_names):
        texts = pc.dictionary_encode(table.column(name).combine_chunks())  # most accounts repeat a few
        spelled = pa.array(map(_plain_json, texts.dictionary.to_pylist()), pa.string()).take(texts.indices)
        table = table.set_column(table.column_names.index(name), name, spelled)
    return table


def _plain_json(text: str | None) -> str | None:
    try:
        return text and json_text(msgspec.json.decode(text), ordered=True)
    except msgspec.DecodeError:
        return text


def _sql_text(name: str, kind: pa.DataType) -> str:
    quoted = quoted_name(name)
    return f"epoch_us({quoted})::VARCHAR" if pa.types.is_timestamp(kind) else f"{quoted}::VARCHAR"
