"""Any cell as text, without guessing: phones keep zeros and plus signs, whole floats lose their `.0`.

A number that has more digits than its type can hold was damaged before it came here; it is reported, never
repaired.
"""

# ruff: noqa: ANN401  # a cell may be anything

from __future__ import annotations

import math
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOST_DIGITS: Final = (
    "a number with more digits than its column type can hold: digits are lost; store it as text"
)
NOT_TEXT: Final = "holds bytes or another value that is not text"

# Whole numbers up to here are exact in a float of so many bits; spreadsheets keep 15 digits.
_EXACT: Final = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}
SPREADSHEET_EXACT: Final = 1e15

Bad = dict[int, str]
"""Position in the batch -> why the cell cannot be trusted."""


def column_text(  # noqa: PLR0911  # one way out per kind of type
    values: pa.Array | pa.ChunkedArray,
) -> tuple[pa.Array, Bad, bool]:
    """Text of an Arrow column (null as ""), the damaged cells, and whether the cells were numbers."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # more than one chunk was left over: too large for one
        array = pa.concat_arrays(array.chunks)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return column_text(array.dictionary_decode())
    if isinstance(array, pa.ExtensionArray):
        return column_text(array.storage)
    if pa.types.is_string(kind):
        return _filled(array), {}, False
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return _filled(array.cast(pa.string())), {}, False
    if pa.types.is_integer(kind):
        return _filled(array.cast(pa.string())), {}, True
    if pa.types.is_floating(kind):
        text, bad = _floats(array, kind.bit_width)
        return text, bad, True
    values = array.to_pylist()
    if pa.types.is_nested(kind):  # a struct has all the fields of its column: a null one was never there
        values = [without_nulls(value) for value in values]
    texts, bad = values_text(values)
    return texts, bad, pa.types.is_decimal(kind)


def without_nulls(value: Any) -> Any:
    """The objects in `value` without the names that hold nothing."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def values_text(values: Sequence[Any], exact: float = _EXACT[64]) -> tuple[pa.Array, Bad]:
    """Text of Python values of any mixture of types, and those that are damaged."""
    bad: Bad = {}
    texts: list[str] = []
    for position, value in enumerate(values):
        text, reason = cell_text(value, exact)
        if reason:
            bad[position] = reason
        texts.append(text)
    return pa.array(texts, pa.string()), bad


def cell_text(value: Any, exact: float = _EXACT[64]) -> tuple[str, str]:
    """One cell's text, and why it cannot be trusted ("" if it can). Missing values of every kind are ""."""
    if value is None or isinstance(value, str):
        return _clean(value or "")
    for kinds, convert in _BY_TYPE:
        if isinstance(value, kinds):
            return convert(value, exact)
    if hasattr(value, "isoformat"):  # pandas NaT says it is a datetime and writes "NaT"
        return ("", "") if value != value else (value.isoformat(), "")  # noqa: PLR0124
    if hasattr(value, "as_py"):  # a pyarrow scalar
        return cell_text(value.as_py(), exact)
    return ("", "") if type(value).__name__ in ("NAType", "NaTType") else ("", NOT_TEXT)


def _clean(text: str) -> tuple[str, str]:
    """`text` if UTF-8 can hold it: half of a surrogate pair cannot be sent nor stored."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "", NOT_TEXT
    return text, ""


def _bool(value: Any, _exact: float) -> tuple[str, str]:
    return ("true" if value else "false"), ""


def _int(value: Any, _exact: float) -> tuple[str, str]:
    return str(int(value)), ""


def _float(value: Any, exact: float) -> tuple[str, str]:
    number = float(value)
    if math.isnan(number):
        return "", ""
    if math.isinf(number):
        return "", NOT_TEXT
    if not number.is_integer():
        return repr(number), ""
    return str(int(number)), (LOST_DIGITS if abs(number) >= exact else "")


def _decimal(value: Any, _exact: float) -> tuple[str, str]:
    if value.is_nan():
        return "", ""
    if not value.is_finite():
        return "", NOT_TEXT
    return (str(int(value)) if value == value.to_integral_value() else f"{value:f}"), ""


def _time(value: Any, _exact: float) -> tuple[str, str]:
    return ("", "") if value != value else (value.isoformat(), "")  # noqa: PLR0124 - NaT is not itself


def _json(value: Any, _exact: float) -> tuple[str, str]:
    """Objects and lists as JSON."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, list) and value and all(isinstance(i, tuple) and len(i) == 2 for i in value):  # noqa: PLR2004
        value = dict(value)  # an Arrow map
    try:
        return _clean(msgspec.json.encode(value).decode())
    except (TypeError, ValueError):
        return "", NOT_TEXT


_BY_TYPE: Final[tuple[tuple[Any, Callable[[Any, float], tuple[str, str]]], ...]] = (
    ((bool, np.bool_), _bool),
    ((int, np.integer), _int),
    ((float, np.floating), _float),
    (Decimal, _decimal),
    ((datetime, date, time), _time),
    ((dict, list, tuple, np.ndarray), _json),
)


def _filled(array: pa.Array) -> pa.Array:
    return pc.fill_null(array, "") if array.null_count else array


def _floats(array: pa.Array, bits: int) -> tuple[pa.Array, Bad]:
    """Whole floats as integers; those beyond what the type holds exactly are damaged."""
    numbers = pc.fill_null(array.cast(pa.float64()), math.nan).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(numbers) & (np.floor(numbers) == numbers)
        safe = whole & (np.abs(numbers) < _EXACT[bits])
    integers = np.where(safe, numbers, 0).astype(np.int64)
    text = pa.array(integers).cast(pa.string())
    rest = np.flatnonzero(~safe)
    if not len(rest):
        return text, {}
    bad: Bad = {}
    texts = text.to_pylist()
    for position in rest.tolist():
        texts[position], reason = _float(numbers[position], _EXACT[bits])
        if reason:
            bad[position] = reason
    return pa.array(texts, pa.string()), bad
