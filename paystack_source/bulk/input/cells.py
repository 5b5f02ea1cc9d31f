"""Converts any cell to text, without guessing: phones keep zeros and plus signs, whole floats lose their `.0`.

A number with more digits than its type can hold has lost digits. It is reported, not repaired.
"""

# ruff: noqa: ANN401  # a cell may be anything

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LOST_DIGITS: Final = (
    "a number with more digits than its column type can hold: digits are lost; store it as text"
)
NOT_TEXT: Final = "holds bytes or another value that is not text"
NO_JSON: Final = (
    "holds NaN, infinity, bytes or another value that JSON does not have; leave the key out, or give None"
)

# The errors of Arrow for a value that Python cannot represent.
_NOT_IN_PYTHON: Final = (ValueError, OverflowError, LookupError, pa.ArrowException)

# By the bits of a float, the limit up to which whole numbers are exact. Spreadsheets keep 15 digits.
_EXACT: Final = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}
SPREADSHEET_EXACT: Final = 1e15
_MOST_BITS: Final = (
    1_000  # of a number; Python refuses to write very long ones, and needs minutes for `1E+999999999`
)


@dataclass(slots=True)
class Cells:
    """Cells of one column as text without nulls (blank is "")."""

    text: pa.Array
    bad: dict[int, str] = field(default_factory=dict)  # position -> the problem of the cell
    numbers: bool = False  # some cells were numbers, so leading zeros may be lost
    others: list[int] = field(default_factory=list)  # positions of dates, times, booleans, lists and objects


@dataclass(slots=True)
class Batch:
    """Consecutive rows of an input, by column.

    `lines` has the line of the file on which each row starts (None for frames and Parquet). `uneven` has the positions
    of rows with too few or too many cells, with messages.
    """

    first_row: int
    size: int
    cells: list[Cells]
    lines: list[int] | None = None
    uneven: dict[int, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[pa.Array]:
        return [cells.text for cells in self.cells]


def column_cells(values: pa.Array | pa.ChunkedArray) -> Cells:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ExtensionArray):
        cells = column_cells(array.storage)
        if not _is_text(array.storage.type):  # pandas stores a period as a number
            cells.bad = dict.fromkeys(np.flatnonzero(array.is_valid()).tolist(), NOT_TEXT)
        return cells
    kind = array.type
    if pa.types.is_dictionary(kind):
        views = pa.types.is_string_view(kind.value_type)  # polars' categories; Arrow has no `take` for views
        names = array.dictionary.cast(pa.string()) if views else array.dictionary
        return column_cells(names.take(array.indices))
    if pa.types.is_floating(kind):
        return cells_of(array.to_pylist(), _EXACT[kind.bit_width])
    text = _is_text(kind)
    broken = text and not _is_utf8(array)
    if not broken and (text or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        return Cells(pc.fill_null(array.cast(pa.string()), ""), numbers=pa.types.is_integer(kind))
    return cells_of(python_values(array))


def python_values(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values in Python, structs without the nulls that they have for fields of other rows."""
    try:
        found = array.to_pylist(maps_as_pydicts="strict")
    except _NOT_IN_PYTHON:
        found = [_python_value(scalar) for scalar in array]
    is_struct = pa.types.is_nested(array.type) and not pa.types.is_map(array.type)
    return [_without_nulls(value) for value in found] if is_struct else found


def _is_text(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(one(kind) for one in kinds)


def _is_utf8(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _python_value(scalar: pa.Scalar) -> Any:
    """The value in Python; bytes if Python cannot represent it, e.g. a date after the year 9999, or a key twice."""
    try:
        return scalar.as_py(maps_as_pydicts="strict")
    except _NOT_IN_PYTHON:
        return b""


def for_pandas(table: pa.Table) -> pa.Table:
    """The table, with the text of columns that pandas cannot hold, e.g. of DuckDB's dates without an end."""
    for index, column in enumerate(table.columns):
        try:
            column.to_pandas()
        except _NOT_IN_PYTHON:
            table = table.set_column(index, table.column_names[index], column_cells(column).text)
    return table


def _without_nulls(value: Any) -> Any:
    """The value without null fields, at any depth."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def cells_of(values: Sequence[Any], exact: float = _EXACT[64]) -> Cells:
    """The cells of Python values of any types. A whole float of `exact` or more may have lost digits."""
    cells, texts = Cells(pa.nulls(0)), []
    for position, value in enumerate(values):
        text, reason = _cell_text(value, exact)
        texts.append(text)
        if reason:
            cells.bad[position] = reason
        if isinstance(value, _OTHERS) and text:
            cells.others.append(position)
        elif isinstance(value, _NUMBERS) and text:
            cells.numbers = True
    cells.text = pa.array(texts, pa.string())
    return cells


def _cell_text(value: Any, exact: float) -> tuple[str, str]:
    """A cell's text, and its problem or "". The text of any missing value is ""."""
    if value is None or isinstance(value, str):
        return _utf8(value or "")
    for kinds, convert in _BY_TYPE:
        if isinstance(value, kinds):
            return convert(value, exact)
    if hasattr(value, "as_py"):  # a pyarrow scalar
        return _cell_text(_python_value(value), exact)
    return "", "" if type(value).__name__ in ("NAType", "NaTType") else NOT_TEXT


def _utf8(text: str) -> tuple[str, str]:
    """`text`, or a problem if UTF-8 cannot encode it: a lone surrogate cannot be sent or stored."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "", NOT_TEXT
    return text, ""


def _number(value: Any, exact: float) -> tuple[str, str]:
    if isinstance(value, int | np.integer):
        return (str(int(value)), "") if int(value).bit_length() < _MOST_BITS else ("", NOT_TEXT)
    decimal = isinstance(value, Decimal)
    if value.is_nan() if decimal else math.isnan(value):
        return "", ""
    if not (value.is_finite() and value.adjusted() < _MOST_BITS if decimal else math.isfinite(value)):
        return "", NOT_TEXT
    if value != int(value):
        return f"{value:f}" if decimal else repr(float(value)), ""
    if isinstance(value, np.floating):  # in a list of values it may be shorter than Python's
        exact = min(exact, _EXACT.get(8 * value.itemsize, exact))
    return str(int(value)), "" if decimal or abs(value) < exact else LOST_DIGITS


def _json(value: Any, _exact: float) -> tuple[str, str]:
    try:
        if not _fits_json(value):
            return "", NO_JSON
        return _utf8(_TO_JSON.encode(value).decode())
    except (TypeError, ValueError, OverflowError, RecursionError):
        return "", NO_JSON


def _fits_json(value: Any) -> bool:
    """Whether JSON can represent the value: JSON has no bytes, and NaN would be written as null."""
    if isinstance(value, float | np.floating | Decimal):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_fits_json, value.values()))
    if isinstance(value, np.ndarray):
        return _fits_json(value.tolist())
    return all(map(_fits_json, value)) if isinstance(value, list | tuple) else not isinstance(value, bytes)


def _plain(value: Any) -> Any:
    """A value of NumPy or pandas inside of an object as a Python value."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, datetime) and value == value:  # noqa: PLR0124  # pandas' NaT is not itself
        return value.isoformat()
    raise TypeError


_TO_JSON: Final = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number")


def _time(value: Any, _exact: float) -> tuple[str, str]:
    return "" if value != value else value.isoformat(), ""  # noqa: PLR0124  # pandas' NaT is not itself


_OTHERS: Final = (bool, np.bool_, datetime, date, time, dict, list, tuple, np.ndarray)
_NUMBERS: Final = (int, float, Decimal, np.number)
_BY_TYPE: Final[tuple[tuple[Any, Callable[[Any, float], tuple[str, str]]], ...]] = (
    (np.timedelta64, lambda _value, _exact: ("", NOT_TEXT)),  # NumPy counts it among the numbers
    ((bool, np.bool_), lambda value, _: (str(bool(value)).lower(), "")),
    (_NUMBERS, _number),
    ((datetime, date, time), _time),
    ((dict, list, tuple, np.ndarray), _json),
)
