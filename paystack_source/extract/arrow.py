"""Turns pages of customers into Arrow tables: fast for documented keys, and without loss for any other page.

The documented keys (`paystack_source.customer`) are decoded in C into structs and become columns of fixed types. A
page with anything else (a new key, a number instead of a text) takes the slow path below, which keeps every value:

- a new key becomes a text column of its own, named in snake case; what is not text is written as JSON;
- in it, credentials are left out, and numbers of people and accounts are masked (`extract.secrets`);
- text columns take any scalar as text, identifiers take digits written as text;
- a value that no column can hold (`integration: "n/a"`, an invalid time, a creation time before 1970, the table's 51st
  new key) goes into the JSON column `extra`, under its own name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import astuple

from paystack_source.customer import CHANGES, COLUMNS, DOCUMENTED
from paystack_source.extract.secrets import is_credential, snake_case, without_secrets
from paystack_source.extract.windows import ALWAYS, Edges, Window
from paystack_source.tables import ARROW_TYPES, TIME, arrow_schema
from paystack_source.values import as_text, json_text, read_time

SCHEMA = arrow_schema(COLUMNS)
"""The columns that every batch has; it may have more."""

EXTRA = "extra"
MAX_NEW_COLUMNS = 50
MAX_NAME = 60

_COLUMN_OF = {key: column.name for key, column in DOCUMENTED.items()}
_COLUMN_OF |= {column.name: column.name for column in DOCUMENTED.values()}
_CHANGE_COLUMNS = {column.name for column in CHANGES}
_KIND_OF = {column.name: column.kind for column in DOCUMENTED.values()}
_NULL = msgspec.Raw(b"null")
_MAX_ID = 2**63 - 1

_DECODED_AS: Mapping[str, tuple[Any, object]] = {
    "bigint": (int | None, None),
    "text": (str | None, None),
    "timestamp": (str | None, None),  # Arrow reads times faster
    "json": (msgspec.Raw, _NULL),
}
"""The type of a field of `_Customer`, and its default."""

_Customer: Any = msgspec.defstruct(
    "_Customer",
    [
        # A customer without an id takes the slow path.
        ("id", int) if key == "id" else (key, *_DECODED_AS[column.kind])
        for key, column in DOCUMENTED.items()
    ],
    gc=False,
    forbid_unknown_fields=True,
)


_decode = msgspec.json.Decoder(list[_Customer]).decode
# A number that is too large for a float stays text. Otherwise one customer would make the whole page unreadable.
_decode_any = msgspec.json.Decoder(
    float_hook=lambda text: text if math.isinf(float(text)) else float(text)
).decode


class Parsed(NamedTuple):
    """The customers of some pages, the number of other entries (those without a usable id), and the page lengths."""

    table: pa.Table
    unreadable: int
    lengths: list[int]


def parse(
    pages: Iterable[bytes | memoryview | msgspec.Raw], seen_at: datetime, existing: set[str] | None = None
) -> Parsed:
    """Turn pages into one table.

    Args:
        pages: The `data` array of each page, as JSON text. About ten at a time is fastest.
        seen_at: The value of `_last_seen_at`.
        existing: The new columns that the table has already. The new columns of these pages are added to it.

    Returns:
        A table with the columns of `SCHEMA`, followed by a text column for each new key.

    """
    customers: list[Any] = []
    whole: list[bytes | memoryview | msgspec.Raw] = []
    odd: list[dict[str, Any]] = []
    unreadable = 0
    lengths = []
    for page in pages:
        try:
            decoded = _decode(page)
            customers += decoded
            whole.append(page)
            lengths.append(len(decoded))
        except (msgspec.DecodeError, UnicodeDecodeError):
            rows, bad = _odd_rows(page)
            odd += rows
            unreadable += bad
            lengths.append(len(rows) + bad)
    tables = [SCHEMA.empty_table()]
    try:
        if customers:
            tables = [_from_structs(customers, seen_at)]
    except (pa.ArrowInvalid, OverflowError, UnicodeDecodeError):
        for page in whole:
            rows, bad = _odd_rows(page)
            odd += rows
            unreadable += bad
    if odd:
        tables.append(_from_dicts(odd, seen_at, set() if existing is None else existing))
    return Parsed(pa.concat_tables(tables, promote_options="default"), unreadable, lengths)


def _from_structs(customers: list[Any], seen_at: datetime) -> pa.Table:
    columns: list[pa.Array] = []
    values: Sequence[Any]
    for values, kind in zip(zip(*map(astuple, customers), strict=True), _KIND_OF.values(), strict=True):
        if kind == "json":
            texts = [None if text == b"null" else text for text in map(bytes, values)]
            columns.append(pa.array(texts, pa.binary()).cast(pa.string()))
        elif kind == "timestamp":
            columns.append(pa.array(values, pa.string()).cast(TIME))
        else:
            columns.append(pa.array(values, ARROW_TYPES[kind]))
    table = pa.table([*columns, *_bookkeeping(len(customers), seen_at)], schema=SCHEMA)
    if not pc.all(_inside(table, ALWAYS)).as_py():
        raise OverflowError  # a creation time outside of all windows
    return table


def _bookkeeping(rows: int, seen_at: datetime) -> list[pa.Array]:
    return [pa.repeat(pa.scalar(seen_at, TIME), rows), pa.nulls(rows, TIME)]


def _odd_rows(page: bytes | memoryview | msgspec.Raw) -> tuple[list[dict[str, Any]], int]:
    """The customers of a page of any shape, and the number of entries without a usable id."""
    text = bytes(page).decode("utf-8", "replace")
    data = _decode_any(text) if text.strip() else []
    rows = list(data.values()) if isinstance(data, dict) else data or []
    kept = []
    for row in rows:
        number = _whole_number(row.get("id")) if isinstance(row, dict) else None
        if number is not None:
            kept.append({**row, "id": number})
    return kept, len(rows) - len(kept)


def _from_dicts(rows: list[dict[str, Any]], seen_at: datetime, existing: set[str]) -> pa.Table:
    new_columns: dict[str, str] = {}  # their key -> our column
    shaped = [_shape(row, new_columns, existing) for row in rows]
    arrays = [
        pa.array([row.get(name) for row in shaped], ARROW_TYPES[kind]) for name, kind in _KIND_OF.items()
    ]
    names = list(SCHEMA.names)
    arrays += _bookkeeping(len(shaped), seen_at)
    for column in [*new_columns.values(), EXTRA]:
        values = [row.get(column) for row in shaped]
        if column != EXTRA or any(value is not None for value in values):
            names.append(column)
            arrays.append(pa.array(values, pa.string()))
    return pa.table(arrays, names=names)


def _shape(row: dict[str, Any], new_columns: dict[str, str], existing: set[str]) -> dict[str, Any]:
    """A customer as values by column. Adds the new columns it needs to `new_columns` and `existing`."""
    out: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in row.items():
        column = _COLUMN_OF.get(key)
        if column is None:
            if is_credential(key):
                continue
            value = without_secrets(value, key=key)  # noqa: PLW2901
            column = _new_column(key, new_columns, existing)
            if column is None:
                extra[key] = value
            else:
                out[column] = as_text(value)
            continue
        fitted = _fit(column, value)
        if column in out and out[column] is not None:
            if fitted != out[column]:
                extra[key] = value  # createdAt and created_at that differ
        else:
            out[column] = fitted
            if fitted is None and value is not None:
                extra[key] = value
    if extra:
        out[EXTRA] = json_text(extra)
    return out


def _fit(column: str, value: object) -> object:
    """The value converted to the column's type; `None` if that is not possible."""
    if value is None:
        return None
    match _KIND_OF[column]:
        case "json":
            return json_text(value)
        case "timestamp":
            time = read_time(value)  # in JSON a time is always a text
            return None if time and column == "created_at" and time not in ALWAYS else time
        case "bigint":
            return _whole_number(value)
        case _:
            return as_text(value)


def _whole_number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,19}\s*", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -_MAX_ID <= value <= _MAX_ID else None


def _new_column(key: str, new_columns: dict[str, str], existing: set[str]) -> str | None:
    """The column of an undocumented key; `None` if the value has to go into `extra`."""
    if key in new_columns:
        return new_columns[key]
    name = snake_case(key)
    taken = name in SCHEMA.names or name == EXTRA or name in new_columns.values() or name.startswith("dlt_")
    if not name or name[0].isdigit() or len(name) > MAX_NAME or taken:
        return None
    if name not in existing and len(existing) >= MAX_NEW_COLUMNS:
        return None
    existing.add(name)
    new_columns[key] = name
    return name


def cut(table: pa.Table, window: Window) -> pa.Table:
    """The customers of `table` that were created inside `window`.

    A customer without a creation time is kept in every window, so that none is lost.
    """
    return table.filter(_inside(table, window))


def _inside(table: pa.Table, window: Window) -> pa.ChunkedArray:
    times = table.column("created_at")
    inside = pc.and_(
        pc.greater_equal(times, pa.scalar(window.lo, TIME)), pc.less(times, pa.scalar(window.hi, TIME))
    )
    return pc.fill_null(inside, fill_value=True)


def oldest(table: pa.Table) -> datetime | None:
    """The oldest creation time."""
    return oldest_and_newest(table)[0]


def oldest_and_newest(table: pa.Table) -> Edges:
    """The oldest and the newest creation time."""
    found = pc.min_max(table.column("created_at")).as_py()
    return found["min"], found["max"]


def undated(table: pa.Table) -> set[int]:
    """The ids of customers without a creation time."""
    times = table.column("created_at")
    return set(table.filter(times.is_null()).column("id").to_pylist()) if times.null_count else set()


def unseen(table: pa.Table, seen: set[int]) -> pa.Table:
    """The customers whose id is not in `seen`, each once. Adds their ids to `seen`."""
    ids = table.column("id").to_pylist()
    before = len(seen)
    if seen.isdisjoint(ids):
        seen.update(ids)
        if len(seen) == before + len(ids):
            return table
        seen.difference_update(ids)
    keep = []
    for number in ids:
        keep.append(number not in seen)
        seen.add(number)
    return table.filter(pa.array(keep, pa.bool_()))


def created(table: pa.Table) -> zip[tuple[int, datetime | None]]:
    """Pairs of the customer's id and creation time."""
    return zip(table.column("id").to_pylist(), table.column("created_at").to_pylist(), strict=True)


def missing_since(table: pa.Table, since: datetime) -> pa.Table:
    """Held customers with `_missing_since` set, because the API no longer lists them."""
    new = [name for name in table.column_names if name not in {*SCHEMA.names, *_CHANGE_COLUMNS}]
    schema = pa.schema([*SCHEMA, *((name, pa.string()) for name in new)])
    at = schema.get_field_index("_missing_since")
    return (
        table.select(schema.names)
        .cast(schema)
        .set_column(at, schema.field(at), pa.repeat(pa.scalar(since, TIME), table.num_rows))
    )
