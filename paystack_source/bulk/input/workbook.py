"""Reads one sheet of an Excel or similar workbook: its cells with types, and warnings about hidden cells.

Another process reads it (`workbook_process`), because a workbook of a few kilobytes may need any amount of memory.
"""

# ruff: noqa: ANN401  # a cell may be anything

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Final

import msgspec

from paystack_source.bulk.input import workbook_process
from paystack_source.bulk.input.cells import SPREADSHEET_EXACT, Batch, Cells, cells_of
from paystack_source.bulk.input.csv_file import unguard
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.errors import InputError, Problem
from paystack_source.values import counted

FAILED_FORMULA: Final = (
    "holds an error of the spreadsheet, such as #N/A, or a formula that was never calculated; open the file in a "
    "spreadsheet and save it, or type the value itself"
)
_ROWS: Final = 65_536
_SHOWN: Final = 5
_PARSERS: Final = {
    "date": date.fromisoformat, "datetime": datetime.fromisoformat, "time": time.fromisoformat,
}  # fmt: skip


def read_workbook(
    snapshot: FileSnapshot, wanted: str | None
) -> tuple[str, list[str], list[Batch], list[str]]:
    """Read the sheet `wanted`, or the first visible one: its name, columns and batches, and warnings.

    Raises `InputError` if it is unreadable or too large.
    """
    lines = _read(snapshot, wanted)
    about: dict[str, Any] = next(lines)
    top, header = next(lines, (0, []))
    columns: list[str] = _cells(header).text.to_pylist()
    while columns and not columns[-1]:
        columns.pop()
    if not columns:
        reason = f"sheet {about['sheet']!r} is empty; it needs a header row"
        advice = _advice(about["others"]) or None
        raise InputError([Problem(None, "", reason)], name=snapshot.path.name, advice=advice)
    batches: list[Batch] = []
    numbers: list[int] = []
    while part := list(itertools.islice(lines, _ROWS)):
        cells = [
            _cells([row[column] if column < len(row) else "" for _, row in part])
            for column in range(len(columns))
        ]
        batches.append(Batch(len(numbers) + 1, len(part), cells, [number for number, _ in part]))
        numbers += [number for number, _ in part]
    warnings = _warnings(snapshot.path.name, about, columns, [top, *numbers], several=wanted is None)
    return about["sheet"], columns, batches, list(warnings)


def _warnings(
    name: str, about: dict[str, Any], columns: list[str], numbers: list[int], *, several: bool
) -> Iterator[str]:
    """Warnings about other sheets, hidden and merged cells; `numbers` are those of the header and of the rows."""
    if several and (others := about["others"]):
        yield f"{name} has {len(others) + 1} sheets; only {about['sheet']!r} was read. {_advice(others)}"
    if not about.get("seen"):
        yield f"Hidden rows and failed formulas cannot be found in {name}; in an .xlsx file they can."
    rows = len(numbers) - 1
    if hidden := sorted({*numbers[1:]}.intersection(about.get("hidden", ()))):
        yield (
            f"{len(hidden):,} of {counted(rows, 'row')} {'is' if len(hidden) == 1 else 'are'} hidden in the "
            f"sheet, by a filter or by hand ({_first('row', hidden)}); hidden rows count like all others."
        )
    for column in about.get("columns", ()):
        if column < len(columns) and columns[column]:
            yield f"The column {columns[column]!r} is hidden in the sheet; it counts like all others."
    if merged := sorted({*numbers}.intersection(about["merged"])):
        yield f"Some cells are merged ({_first('row', merged)}); only the first of them holds the value."


def _advice(others: list[str]) -> str:
    names = ", ".join(map(repr, others[:_SHOWN])) + (", …" if len(others) > _SHOWN else "")
    return f"Another sheet is read with --sheet: {names}." if others else ""


def _first(what: str, numbers: list[int]) -> str:
    more = ", …" if len(numbers) > _SHOWN else ""
    return f"{what} {', '.join(map(str, numbers[:_SHOWN]))}{more}"


def _cells(values: list[Any]) -> Cells:
    """The cells of one column; a failed formula is a blank cell with a problem.

    A spreadsheet keeps the apostrophes of our result files, even if it saves them as a workbook.
    """
    found = cells_of(
        [_value(*cell) if isinstance(cell, list) else cell for cell in values], SPREADSHEET_EXACT
    )
    found.text = unguard(found.text)
    found.bad |= {position: FAILED_FORMULA for position, cell in enumerate(values) if cell is None}
    return found


def _value(kind: str, text: str) -> Any:
    """A date or a time. Durations and other types become bytes, which are reported as not text."""
    return _PARSERS[kind](text) if kind in _PARSERS else b""


def _read(snapshot: FileSnapshot, wanted: str | None) -> Iterator[Any]:
    """Run the other process and decode its lines, which `workbook_process` describes."""
    command = [sys.executable, "-P", workbook_process.__file__, *([wanted] if wanted else [])]
    with snapshot.open() as file:
        data = file.read()
    try:
        done = subprocess.run(  # noqa: S603  # our own script
            command, input=data, capture_output=True, check=False, timeout=2 * workbook_process.SECONDS
        )
        code, out, why = done.returncode, done.stdout, done.stderr.decode(errors="replace")
    except subprocess.TimeoutExpired:
        code, out, why = -1, b"", ""
    if code == workbook_process.UNREADABLE:
        raise InputError(
            [Problem(None, "", f"is not readable: {why}")],
            name=snapshot.path.name,
            advice="Name a sheet that it has, or save it again as .xlsx or CSV, without a password.",
        )
    if code:
        raise InputError(
            [Problem(None, "", "is too large for a workbook, or has a cell far away from the others")],
            name=snapshot.path.name,
            advice="Delete the empty rows and columns around the table, or save the sheet as CSV (UTF-8).",
        )
    return map(msgspec.json.decode, out.splitlines())
