"""Checks every cell of an input, a batch of columns at a time. Pure.

It finds every bad cell, with line, column and reason. A value that Paystack has already is never wrong, even if it is
unusual. So a bad cell that may have such a value is only a doubt, and `plan.matching` decides. A secret cell becomes a
masked hint and a keyed hash, which finds duplicates; the key exists only while the plan is made.
"""

# ruff: noqa: ANN401  # masks are NumPy arrays, cells Arrow arrays; neither has useful types

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.bulk.input.cells import Batch, Cells
from paystack_source.bulk.input.files import InputTable
from paystack_source.bulk.input.header import ColumnMapping, either
from paystack_source.bulk.input.patterns import DAMAGE, HIDDEN, NOTHING_VISIBLE, SHAPES
from paystack_source.bulk.operations import CLEAR, BulkOperation, InputColumn
from paystack_source.values import json_text, masked

LOOKS_LIKE: Final = {
    "customer_code": ("^CUS_[^@]*$", "a customer code (CUS_…)"),
    "email": ("@", "an email address"),
    "id": ("^[0-9]+$", "a customer id"),
}
"""By identifier, the pattern of its cells in a column that mixes identifiers, and what to call it."""
_TEXTS: Final = ("field", "name", "reason", "shown", "text")
ODD_CELLS: Final = pa.schema(
    [("row", pa.int64()), ("line", pa.int64()), *((name, pa.string()) for name in _TEXTS)]
)
"""The problems of cells, or of a whole row (then `name` is "").

With a `field` it is a doubt: the cell is valid if Paystack has exactly this `text` in the field. Without a `reason`
only the spaces around the value are odd. `shown` is the masked value.
"""
_EXAMPLES: Final = 5
# Column, the pattern of unusual numbers (a spreadsheet removes leading zeros), and the usual number of digits.
_NIGERIAN_LENGTHS: Final = (
    ("account_number", "^([0-9]{5,9}|[0-9]{11,20})$", 10),
    ("bank_code", "^[0-9]{2}$", 3),
)


@dataclass
class Checker:
    """Checks batch after batch. `warnings` are about valid cells so far."""

    operation: BulkOperation
    table: InputTable
    mapping: ColumnMapping
    given: dict[str, str]
    is_undo: bool = False
    """Whether names and phones are values that Paystack had before, so that they are not checked."""
    rows: int = 0

    def __post_init__(self) -> None:
        operation, mapping = self.operation, self.mapping
        self._defaults = {c.name: c.default for c in operation.columns if c.default} | self.given
        self._key = secrets.token_bytes(32)
        self._columns = mapping.columns | (
            {} if mapping.mixed is None else dict.fromkeys(operation.identifiers, mapping.mixed)
        )
        self.identifiers = {name for name in operation.identifiers if name in mapping.columns}
        """The identifiers that the input uses."""
        self._numeric: set[str] = set()
        # By column and usual length: the number of cells of another length, and the lines of the first ones. They are
        # sent: the only bank details that Paystack takes with a test key have a BVN of 12 digits, real ones 11.
        self._unusual: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self._objects = msgspec.json.Decoder(dict[str, Any])
        self._batch: Batch  # the batch that is being checked
        self._row_labels: Sequence[int] = ()  # the line or number of each of its rows
        self._skip: Any = None  # the mask of rows that are blank or uneven
        self._wrong: set[int] = set()
        self._odd: list[tuple[int, int, str, str, str, str, str]] = []  # rows of `ODD_CELLS`

    @property
    def warnings(self) -> list[str]:
        found = [
            f"Column {name!r} holds numbers, not text: zeros at the start may be gone already."
            for name in sorted(self._numeric)
        ]
        for (column, usual), (count, first) in self._unusual.items():
            more = f" and {count - len(first):,} more" if count > len(first) else ""
            found.append(
                f"{column!r} has not the usual {usual} in {', '.join(first)}{more}. "
                "Such numbers are sent unchanged: Paystack decides about them."
            )
        return found

    @property
    def schema(self) -> pa.Schema:
        """The columns of what `check` returns."""
        fields = [("row", pa.int64()), ("line", pa.int64()), ("blank", pa.bool_())]
        for column in self.operation.columns:
            fields += [(name, pa.int64() if name == "id" else pa.string()) for name in self._staged(column)]
        return pa.schema(fields)

    def _staged(self, column: InputColumn) -> tuple[str, ...]:
        """The names of a column in the result of `check`."""
        if column.secret:
            return f"s_{column.name}", f"h_{column.name}"
        if column.name in self.operation.identifiers:
            return ("code" if column.kind == "code" else column.name,)
        return (f"f_{column.name}",)

    def check(self, batch: Batch) -> tuple[pa.RecordBatch, pa.Table]:
        """Check a batch; returns its rows that have no certain problem, and its `ODD_CELLS`.

        The rows have row, line, blank, identifiers, fields and secrets. Fields are `f_…` (null = leave, "" = clear); a
        secret is a hash (`s_…`) and a hint (`h_…`).
        """
        self._batch, self._odd, self._wrong = batch, [], set()
        numbers = range(batch.first_row, batch.first_row + batch.size)
        self._row_labels = batch.lines or numbers
        cells = [
            pc.replace_substring_regex(pc.utf8_trim_whitespace(c), NOTHING_VISIBLE, "") for c in batch.columns
        ]
        blank = np.all([_mask(pc.equal(column, "")) for column in cells], axis=0)
        self._skip = blank
        for position, reason in batch.uneven.items():
            self._add([position], None, reason)
            self._skip[position] = True
        staged: dict[str, Any] = {"row": numbers, "line": self._row_labels, "blank": blank}
        for column in self.operation.columns:
            staged |= zip(self._staged(column), self._column(column, cells), strict=True)
        self._check_across_columns(cells, staged)
        self.rows += batch.size
        rows = pa.RecordBatch.from_pydict(staged, schema=self.schema)
        if self._wrong:  # a comparison would report these rows a second time
            sound = np.full(batch.size, fill_value=True)
            sound[list(self._wrong)] = False
            rows = rows.filter(pa.array(sound))
        odd = [dict(zip(ODD_CELLS.names, cell, strict=True)) for cell in self._odd]
        return rows, pa.Table.from_pylist(odd, schema=ODD_CELLS)

    def _column(self, column: InputColumn, cells: list[pa.Array]) -> tuple[pa.Array, ...]:
        """Check one column; returns its columns of the result."""
        index = self._columns.get(column.name)
        text = self._text(column, index, cells)
        blank = pc.equal(text, "")
        rest = ~self._skip
        if index is not None:
            rest[list(self._batch.cells[index].bad)] = False  # these were reported already
        if index is not None and (wanted := self.given.get(column.name)):
            other = pc.and_not(pc.not_equal(pc.utf8_lower(text), wanted), blank)
            why = f"is not the {wanted!r} given for all rows; leave the column or the option out"
            self._bad(column, other, rest, why, text, certain=True)
        default = self._defaults.get(column.name)
        if default is not None:
            text, blank = pc.if_else(blank, default, text), pc.and_(blank, False)
        cleared = pc.equal(pc.utf8_lower(text), CLEAR)
        if not column.clearable:
            self._bad(column, cleared, rest, "cannot be cleared", text, certain=True)
        if column.required:
            self._bad(column, blank, rest, "is blank, and is required", text, certain=True)
        asked = text
        text = self._value(column, text, rest & ~_mask(blank) & ~_mask(cleared))
        value = pc.if_else(cleared, "", pc.if_else(blank, pa.scalar(None, pa.string()), text))
        if column.name not in self.operation.identifiers and self._may_be_unchanged(column):
            value = self._leave_doubtful(column, value, asked, rest & ~_mask(blank))
        if column.kind == "id":
            fits = pc.match_substring_regex(value, "^[0-9]{1,18}$")
            value = pc.if_else(fits, value, None).cast(pa.int64())
        return self._hidden(value) if column.secret else (value,)

    def _text(self, column: InputColumn, index: int | None, cells: list[pa.Array]) -> pa.Array:
        """The column's cells as text. Problems of the cells' types are reported here, because the text has no type."""
        if index is None:
            return pa.array(np.full(self._batch.size, ""), pa.string())
        if index == self.mapping.mixed:
            text = self._of_identifier(column.name, cells[index])
        else:
            # A value at Paystack may begin or end with a space, which an undo restores.
            exact = self.is_undo and column.kind in ("phone", "name")
            text = self._batch.columns[index] if exact else cells[index]
        if column.name in self.mapping.columns:
            self._types(column, self._batch.cells[index], text)
        return text

    def _of_identifier(self, name: str, cells: pa.Array) -> pa.Array:
        """The cells of the mixed column that look like this identifier; other cells are blank.

        A cell that looks like no identifier counts as the identifier in the column's name.
        """
        own = name in self.mapping.columns
        others = [other for other in LOOKS_LIKE if other not in self.mapping.columns]
        looks = [pc.match_substring_regex(cells, LOOKS_LIKE[one][0]) for one in (others if own else [name])]
        here = np.any([_mask(one) for one in looks], axis=0) ^ own
        text = pc.if_else(pa.array(here), cells, "")
        if pc.any(pc.not_equal(text, "")).as_py():
            self.identifiers.add(name)
        return text

    def _types(self, column: InputColumn, cells: Cells, text: pa.Array) -> None:
        """Report problems of the cells' types, which cannot be seen in their text."""
        for position, reason in cells.bad.items():
            self._add([position], column, reason, text)
        if column.kind in ("name", "phone", "digits", "text") and cells.others:
            self._add(
                [position for position in cells.others if position not in cells.bad],
                column,
                "is a date, a time, a yes/no, a list or an object; store it as text",
                text,
            )
        if column.kind in ("phone", "digits", "text") and cells.numbers:
            self._numeric.add(self.table.columns[self.mapping.columns[column.name]])

    def _value(self, column: InputColumn, text: pa.Array, rest: Any) -> pa.Array:
        """Report bad cells of `rest`, with one reason each; returns the cells as they will be sent."""
        kind = column.kind
        if kind == "json":
            return self._json(column, text, rest)
        if self.is_undo and kind in ("phone", "name"):
            return text
        if column.secret:
            why = "is masked, as result files are; type the value itself"
            rest = self._bad(column, pc.starts_with(text, "…"), rest, why, text)
        for pattern, reason in DAMAGE.get(column.name) or DAMAGE.get(kind, HIDDEN):
            rest = self._bad(column, pc.match_substring_regex(text, pattern), rest, reason, text)
        if kind == "enum":
            text = pc.utf8_lower(text)
            other = pc.invert(pc.is_in(text, pa.array(column.choices)))
            self._bad(column, other, rest, f"is none of {', '.join(column.choices)}", text)
            return text
        if self.mapping.mixed is not None and self._columns.get(column.name) == self.mapping.mixed:
            *most, last = (LOOKS_LIKE[name][1] for name in self.operation.identifiers)
            other = pc.invert(pc.match_substring_regex(text, LOOKS_LIKE[column.name][0]))
            rest = self._bad(column, other, rest, f"is neither {', '.join(most)} nor {last}", text)
        if kind in SHAPES:
            pattern, reason = SHAPES[kind]
            rest = self._bad(column, pc.invert(pc.match_substring_regex(text, pattern)), rest, reason, text)
        self._length(column, text, rest)
        return pc.utf8_upper(text) if kind == "country" else text

    def _length(self, column: InputColumn, text: pa.Array, rest: Any) -> None:
        least, most = column.length
        unit = "digits" if column.kind in ("phone", "digits") else "characters"
        size = pc.utf8_length(
            pc.replace_substring_regex(text, "[^0-9]" if column.kind == "phone" else "^$", "")
        )
        wanted = f"{least} {unit}" if least == most else f"{least} to {most} {unit}"
        other = pc.or_(pc.less(size, least), pc.greater(size, most))
        if column.kind == "digits":
            self._note_length(column.name, wanted, _mask(other) & rest)
        else:
            self._bad(column, other, rest, f"must have {wanted}", text)

    def _note_length(self, column: str, usual: str, where: Any) -> None:
        """Count the cells in the mask `where` for the warnings, and keep the lines of the first ones."""
        positions = np.flatnonzero(where).tolist()
        if positions:
            unit = "row" if self._batch.lines is None else "line"
            count, first = self._unusual.get((column, usual), (0, []))
            first += [
                f"{unit} {self._row_labels[position]}" for position in positions[: _EXAMPLES - len(first)]
            ]
            self._unusual[column, usual] = count + len(positions), first

    def _json(self, column: InputColumn, text: pa.Array, rest: Any) -> pa.Array:
        """Metadata as JSON objects with sorted keys. Other JSON is reported: Paystack refuses text and lists."""
        values = text.to_pylist()
        for position in np.flatnonzero(rest).tolist():
            try:
                values[position] = json_text(self._objects.decode(values[position]), ordered=True)
                if _has_duplicate_key(text[position].as_py()):
                    self._add([position], column, "has a key twice; leave one of them", text)
            except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
                why = "is not valid JSON"
                if isinstance(error, msgspec.ValidationError):
                    large = "out of range" in str(error)
                    why = "holds a number that is too large" if large else "is JSON, but not an object"
                self._add([position], column, f'{why}; write it as {{"key": "value"}}', text, doubt=True)
        objects = pa.array(values, pa.string())
        self._length(column, objects, rest)
        return objects

    def _hidden(self, value: pa.Array) -> tuple[pa.Array, pa.Array]:
        hashes = [v and hashlib.blake2b(v.encode(), key=self._key).hexdigest() for v in value.to_pylist()]
        hints = [v and masked(v, secret=True) for v in value.to_pylist()]
        return pa.array(hashes, pa.string()), pa.array(hints, pa.string())

    def _check_across_columns(self, cells: list[pa.Array], staged: dict[str, Any]) -> None:
        if self.operation.identifier_required:
            named = [staged[name] for name in ("code", "email", "id") if name in staged]
            unnamed = np.all([_mask(pc.is_null(column)) for column in named], axis=0)
            given = [name for name in self.operation.identifiers if name in self._columns]
            if not any(self.operation.by_column[name].required for name in given):
                where = set(np.flatnonzero(unnamed & ~self._skip).tolist()) - self._wrong
                self._add(sorted(where), None, f"names no customer: {either(given)} is blank")
        for name, unusual, usual in _NIGERIAN_LENGTHS:
            index = self.mapping.columns.get(name)
            if index is not None and "f_country" in staged:
                other = pc.match_substring_regex(cells[index], unusual)
                odd = ~self._skip & _mask(pc.and_(other, pc.equal(staged["f_country"], "NG")))
                self._note_length(name, f"{usual} digits of Nigeria", odd)

    def _may_be_unchanged(self, column: InputColumn) -> bool:
        """Whether Paystack may have the cell's value already. Then the cell would change nothing."""
        if column.name in self.operation.identifiers:
            return self.operation.name != "create" and column.kind == "email"
        return self.operation.compared and column.name in self.mapping.columns

    def _leave_doubtful(self, column: InputColumn, value: pa.Array, trimmed: pa.Array, rest: Any) -> pa.Array:
        """Do not set a doubtful field. A value with spaces around it is a doubt too: Paystack may have the spaces."""
        doubted = [row for row, _, name, *_ in self._odd if name == column.name]
        left = np.isin(np.arange(self._batch.size) + self._batch.first_row, doubted)
        spaced = _mask(pc.not_equal(self._batch.columns[self._columns[column.name]], trimmed))
        self._add(np.flatnonzero(spaced & rest & ~left).tolist(), column, "", trimmed, doubt=True)
        return pc.if_else(pa.array(left), pa.scalar(None, pa.string()), value) if doubted else value

    def _bad(  # noqa: PLR0913  # what, where, and why
        self,
        column: InputColumn,
        mask: pa.Array,
        rest: Any,
        reason: str,
        text: pa.Array,
        *,
        certain: bool = False,
    ) -> Any:
        """Report `reason` for cells of `rest` in `mask`, as a doubt unless `certain`; returns the other cells."""
        bad = _mask(mask) & rest
        self._add(np.flatnonzero(bad).tolist(), column, reason, text, doubt=not certain)
        return rest & ~bad

    def _add(
        self,
        where: list[int],
        column: InputColumn | None,
        reason: str,
        text: pa.Array | None = None,
        *,
        doubt: bool = False,
    ) -> None:
        index = None if column is None else self._columns.get(column.name)
        name = self.table.columns[index] if index is not None else column.name if column is not None else ""
        field = column.name if doubt and column is not None and self._may_be_unchanged(column) else ""
        if not field:
            self._wrong.update(where)
        for position in where:
            shown = "" if text is None else text[position].as_py()
            if column is not None:
                # In a file whose columns are in another order, any column may hold a BVN or an email.
                is_word = column.kind == "enum" and shown.isalpha()
                shown = shown[:40] if is_word else masked(shown, secret=column.secret)
            raw = self._batch.columns[index][position].as_py() if field and index is not None else ""
            row = self._batch.first_row + position
            self._odd.append((row, self._row_labels[position], field, name, reason, shown, raw))


def _has_duplicate_key(text: str) -> bool:
    """Whether an object in this JSON has a key twice. Programs differ in which value they use."""
    found = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.append(len({name for name, _ in pairs}) < len(pairs))

    json.loads(text, object_pairs_hook=look)
    return any(found)


def _mask(values: pa.Array) -> Any:
    """A column of booleans as NumPy's; null is false."""
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)
