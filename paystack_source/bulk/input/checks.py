"""Checks an input, a batch of columns at a time, and hands on what the planner compares: pure, no request.

Every bad cell is noted with its line, column and reason; nothing stops at the first. Secret cells leave here
as a hash under a key that lives as long as the planning (so that duplicates are seen) and a masked hint.
"""

# ruff: noqa: ANN401  # masks are NumPy arrays, cells Arrow arrays; neither has useful types

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.bulk.input.headers import either
from paystack_source.bulk.masking import masked
from paystack_source.bulk.operations import CLEAR, Column, Operation
from paystack_source.errors import Problem
from paystack_source.values import json_text

if TYPE_CHECKING:
    from paystack_source.bulk.input.files import Table, TextBatch
    from paystack_source.bulk.input.headers import Match

KEPT: Final = 100_000
"""How many problems are kept in words; beyond that they are only counted."""

_CONTROL: Final = r"[\x00-\x1f\x7f]"
_ATOM: Final = r'[^\s\pZ\pC@<>()\[\],;:\\"]'
_NUMBERS: Final = (
    (
        r"^[+-]?[0-9]+([.,][0-9]+)?[eE][+]?[0-9]+$",
        "was shortened by a spreadsheet, digits are lost; store it as text",
    ),
    (  # pandas writes a column of numbers with a gap in it like this
        r"^[+-]?[0-9]+\.0{1,2}$",
        "was read as a number and got a .0, zeros in front may be lost; read the column as text (dtype=str)",
    ),
)
"""Identifiers that went through a number on their way here."""

_SHAPES: Final[dict[str, tuple[str, str]]] = {
    "code": (r"^CUS_[a-z0-9]+$", "is not a customer code (CUS_ and lower-case letters and digits)"),
    "auth_code": (r"^AUTH_[A-Za-z0-9]+$", "is not an authorization code (AUTH_ and letters and digits)"),
    "email": (rf"^{_ATOM}+@{_ATOM}+\.{_ATOM}+$", "is not an email address"),
    "id": (r"^0*[1-9][0-9]*$", "is not a customer id (a whole number)"),
    "phone": (r"^\+?[0-9 ().\-/]+$", "is not a phone number (digits, with + in front, spaces and - ( ) . /)"),
    "digits": (r"^[0-9]+$", "holds something else than digits"),
    "country": (r"^[A-Za-z]{2}$", "is not a country of two letters, e.g. NG"),
}
_PLACEHOLDERS: Final = ("null", "none", "nan", "n/a", "#n/a", "undefined", "-")
_NUBAN: Final = 10


class Checker:
    """Checks batch after batch; `problems`, `count` and `warnings` say what was found so far.

    `as_held`: names and phones are what Paystack held before (an undo), so they are taken as they are.
    """

    def __init__(  # noqa: PLR0913  # what is checked, against what
        self,
        operation: Operation,
        table: Table,
        match: Match,
        defaults: dict[str, str],
        key: bytes,
        *,
        as_held: bool = False,
    ) -> None:
        self._as_held = as_held
        self.operation = operation
        self.table = table
        self.match = match
        self.defaults = {c.name: c.default for c in operation.columns if c.default} | defaults
        self._given = defaults
        self.problems: list[Problem] = []
        self.count = 0
        self.rows = 0
        self._key = key
        self._numeric: set[str] = set()
        self._placeholders = 0
        self._wrong: set[int] = set()  # positions in the batch at hand
        self._objects = msgspec.json.Decoder(dict[str, Any])

    @property
    def warnings(self) -> list[str]:
        """What the plan should say about the input, though nothing is wrong."""
        said = [
            f"Column {name!r} holds numbers, not text: zeros at the start may be gone already."
            for name in sorted(self._numeric)
        ]
        if self._placeholders:
            said.append(
                f"{self._placeholders:,} cells hold a word like NULL, nan or N/A and would be sent as text; "
                "leave a cell blank to leave the field as it is."
            )
        return said

    @property
    def schema(self) -> pa.Schema:
        """The columns of what `check` returns."""
        fields = [("row", pa.int64()), ("line", pa.int64()), ("blank", pa.bool_())]
        for column in self.operation.columns:
            fields += [(name, pa.int64() if name == "id" else pa.string()) for name in self._staged(column)]
        return pa.schema(fields)

    def _staged(self, column: Column) -> tuple[str, ...]:
        """What a column is called from here on."""
        if column.secret:
            return f"s_{column.name}", f"h_{column.name}"
        if column.name in self.operation.identifiers:
            return ("code" if column.kind == "code" else column.name,)
        return (f"f_{column.name}",)

    def check(self, batch: TextBatch) -> pa.RecordBatch:
        """The sound rows of the batch as the planner wants them.

        They have row, line, blank, identifiers, fields (`f_…`: null = leave, "" = clear), and for secrets a
        hash (`s_…`) and a hint (`h_…`).
        """
        cells = [pc.utf8_trim_whitespace(column) for column in batch.columns]
        empty = _all_blank(cells, batch.size)
        self.problems += batch.problems[: max(0, KEPT - len(self.problems))]
        self.count += len(batch.problems)
        staged: dict[str, pa.Array] = {
            "row": pa.array(range(batch.first_row, batch.first_row + batch.size), pa.int64()),
            "line": pa.array(self._lines(batch), pa.int64()),
            "blank": empty,
        }
        skip = empty.to_numpy(zero_copy_only=False)
        uneven = np.isin(np.array(batch.lines or []), [problem.line or 0 for problem in batch.problems])
        if uneven.any():
            skip = skip | uneven
            self._wrong.update(np.flatnonzero(uneven).tolist())
        for column in self.operation.columns:
            self._column(column, batch, cells, skip, staged)
        self._across(batch, staged, skip)
        self.rows += batch.size
        rows = pa.RecordBatch.from_pydict(staged, schema=self.schema)
        if self._wrong:  # what is wrong with them is said; comparing them would only say it again
            sound = np.full(batch.size, True)
            sound[list(self._wrong)] = False
            rows = rows.filter(pa.array(sound))
            self._wrong.clear()
        return rows

    def _lines(self, batch: TextBatch) -> Any:
        return (
            batch.lines if batch.lines is not None else range(batch.first_row, batch.first_row + batch.size)
        )

    def _column(
        self, column: Column, batch: TextBatch, cells: list[pa.Array], skip: Any, staged: dict[str, pa.Array]
    ) -> None:
        """Checks one column and adds what becomes of it to `staged`."""
        index = self.match.columns.get(column.name)
        if index is None:
            text = pa.array(np.full(batch.size, ""), pa.string())
        else:
            # What Paystack held may begin or end with a space; an undo puts that back too.
            exact = self._as_held and column.kind in ("phone", "name")
            text = batch.columns[index] if exact else cells[index]
            for position, reason in batch.bad.get(index, {}).items():
                self._add(batch, [position], column, reason, text)
            if index in batch.numbers and column.kind in ("phone", "digits", "text"):
                self._numeric.add(self.table.columns[index])
        blank = pc.equal(text, "")
        if index is not None and column.name in self._given:
            other = pc.not_equal(pc.utf8_lower(text), self._given[column.name])
            said = f"is not the {self._given[column.name]!r} given for all rows; leave the column or the option out"
            self._bad(batch, column, pc.and_(other, pc.invert(blank)), skip, said, text)
        default = self.defaults.get(column.name)
        if default is not None:
            text, blank = pc.if_else(blank, default, text), pa.array(np.full(batch.size, False))
        cleared = pc.equal(pc.utf8_lower(text), CLEAR)
        judged = ~(blank.to_numpy(zero_copy_only=False) | cleared.to_numpy(zero_copy_only=False) | skip)
        if not column.clearable:
            self._bad(batch, column, cleared, skip, "cannot be cleared", text)
        if column.required:
            self._bad(batch, column, blank, skip, "is blank, and is required", text)
        text = self._value(column, batch, text, judged)
        value = pc.if_else(cleared, "", pc.if_else(blank, pa.scalar(None, pa.string()), text))
        if column.secret:
            values: tuple[pa.Array, ...] = self._hidden(value)
        elif column.kind == "id":
            values = (self._ids(value),)
        else:
            values = (value,)
        staged.update(zip(self._staged(column), values, strict=True))

    def _ids(self, texts: pa.Array) -> pa.Array:
        fits = pc.match_substring_regex(texts, "^[0-9]{1,18}$")
        return pc.if_else(fits, texts, pa.scalar(None, pa.string())).cast(pa.int64())

    def _value(self, column: Column, batch: TextBatch, text: pa.Array, judged: Any) -> pa.Array:
        """Notes what is wrong with the cells of `judged`; returns the cells as they will be sent."""
        kind = column.kind
        if kind == "json":
            return self._json(column, batch, text, judged)
        if kind == "enum":
            text = pc.utf8_lower(text)
            bad = pc.invert(pc.is_in(text, pa.array(column.choices)))
            self._bad(batch, column, bad, ~judged, f"is none of {', '.join(column.choices)}", text)
            return text
        if self._as_held and kind in ("phone", "name"):
            return text
        rest = ~judged
        if column.secret:
            hidden = pc.starts_with(text, "…")
            self._bad(
                batch, column, hidden, rest, "is masked, as result files are; type the value itself", text
            )
            rest = rest | hidden.to_numpy(zero_copy_only=False)
        if kind in ("phone", "digits", "id") or column.name == "bank_code":
            for pattern, reason in _NUMBERS:
                damaged = pc.match_substring_regex(text, pattern)
                self._bad(batch, column, damaged, rest, reason, text)
                rest = rest | damaged.to_numpy(zero_copy_only=False)
        if kind in _SHAPES:
            pattern, reason = _SHAPES[kind]
            bad = pc.invert(pc.match_substring_regex(text, pattern))
        else:
            bad, reason = (
                pc.match_substring_regex(text, _CONTROL),
                "holds a line break or another control character",
            )
            words = pc.is_in(pc.utf8_lower(text), pa.array(_PLACEHOLDERS))
            self._placeholders += int((words.to_numpy(zero_copy_only=False) & judged).sum())
        self._bad(batch, column, bad, rest, reason, text)
        rest = rest | bad.to_numpy(zero_copy_only=False)
        self._length(column, batch, text, rest)
        return pc.utf8_upper(text) if kind == "country" else text

    def _length(self, column: Column, batch: TextBatch, text: pa.Array, rest: Any) -> None:
        least, most = column.length
        digits = column.kind in ("phone", "digits")
        counted = pc.replace_substring_regex(text, r"[^0-9]", "") if column.kind == "phone" else text
        size = pc.utf8_length(counted)
        unit = "digits" if digits else "characters"
        wanted = f"{least} {unit}" if least == most else f"{least} to {most} {unit}"
        bad = pc.or_(pc.less(size, least), pc.greater(size, most))
        self._bad(batch, column, bad, rest, f"must have {wanted}", text)

    def _json(self, column: Column, batch: TextBatch, text: pa.Array, judged: Any) -> pa.Array:
        """Metadata must be a JSON object.

        Paystack refuses text and lists. Written anew with its keys in order.
        """
        values = text.to_pylist()
        for position in np.flatnonzero(judged).tolist():
            try:
                values[position] = json_text(self._objects.decode(values[position]), ordered=True)
            except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
                why = (
                    "is JSON, but no object"
                    if isinstance(error, msgspec.ValidationError)
                    else "is not valid JSON"
                )
                self._add(batch, [position], column, f'{why}; write it as {{"key": "value"}}', text)
        objects = pa.array(values, pa.string())
        self._length(column, batch, objects, ~judged)
        return objects

    def _hidden(self, value: pa.Array) -> tuple[pa.Array, pa.Array]:
        values = value.to_pylist()
        hashes = [
            None if v is None else hashlib.blake2b(v.encode(), key=self._key, digest_size=16).hexdigest()
            for v in values
        ]
        hints = [None if v is None else masked(v, secret=True) for v in values]
        return pa.array(hashes, pa.string()), pa.array(hints, pa.string())

    def _across(self, batch: TextBatch, staged: dict[str, pa.Array], skip: Any) -> None:
        """Checks that need two columns."""
        if self.operation.identifier_required:
            none = np.full(batch.size, True)
            for name in ("code", "email", "id"):
                if name in staged:
                    none &= staged[name].is_null().to_numpy(zero_copy_only=False)
            given = [n for n in self.operation.identifiers if n in self.match.columns]
            if not any(self.operation.by_column[n].required for n in given):
                where = np.flatnonzero(none & ~skip).tolist()
                self._add(batch, where, None, f"names no customer: {either(given)} is blank")
        index = self.match.columns.get("account_number")
        if index is not None and "f_country" in staged:
            text = pc.utf8_trim_whitespace(batch.columns[index])
            nigerian = pc.fill_null(pc.equal(staged["f_country"], "NG"), False)
            right_shape = pc.match_substring_regex(text, "^[0-9]{5,20}$")
            wrong = pc.and_(pc.and_(nigerian, right_shape), pc.not_equal(pc.utf8_length(text), _NUBAN))
            column = self.operation.by_column["account_number"]
            self._bad(batch, column, wrong, skip, f"must have {_NUBAN} digits in Nigeria", text)

    def _bad(  # noqa: PLR0913, PLR0917  # what, where, except where, why
        self, batch: TextBatch, column: Column, mask: pa.Array, skip: Any, reason: str, text: pa.Array
    ) -> None:
        """Notes `reason` for the cells of `mask` that are not in `skip`."""
        where = np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False) & ~skip)
        if len(where):
            self._add(batch, where.tolist(), column, reason, text)

    def _add(  # where, what, why
        self,
        batch: TextBatch,
        where: list[int],
        column: Column | None,
        reason: str,
        text: pa.Array | None = None,
    ) -> None:
        """Notes `reason` for cells of a column, or for whole rows."""
        self._wrong.update(where)
        self.count += len(where)
        index = None if column is None else self.match.columns.get(column.name)
        name = self.table.columns[index] if index is not None else column.name if column is not None else ""
        for position in where[: max(0, KEPT - len(self.problems))]:
            value = "" if text is None else text[position].as_py()
            if column is not None:
                hidden = column.personal or column.secret
                value = masked(value, secret=column.secret) if hidden else value[:40]
            line = None if batch.lines is None else batch.lines[position]
            self.problems.append(Problem(line, name, reason, value, batch.first_row + position))


def _all_blank(cells: list[pa.Array], size: int) -> pa.Array:
    blank = pa.array(np.full(size, True))
    for column in cells:
        blank = pc.and_(blank, pc.equal(column, ""))
    return blank
