"""The process that reads a workbook: bytes on standard input, lines of JSON on standard output.

`workbook` starts it as a plain script, with the limits `MEMORY` and `SECONDS`: a file of a few kilobytes can need any
amount of memory, and without enough memory the library ends its process. The lines are:

    {"sheet": its name, "others": [names of the other sheets], "hidden": [rows], "columns": [hidden columns],
     "merged": [rows], "seen": whether hidden rows and failed formulas can be seen in this kind of file}
    [number of a row, its cells]     for each row that is not empty

A formula that failed or was never calculated is null, a date or time [its type, ISO 8601]. Rows count from 1,
columns from 0.
"""

# ruff: noqa: ANN401  # a cell may be anything

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from string import digits
from typing import Any, Final, NoReturn
from xml.etree import ElementTree as ET

import msgspec
import python_calamine

MEMORY: Final = 640 << 20
SECONDS: Final = 60
MAX_UNPACKED: Final = 300 << 20
"""The most bytes that the parts of an archive may have unpacked, by its directory."""
UNREADABLE: Final = 3
"""The exit code for an unreadable workbook; standard error has the reason. Any other code but 0: it is too large."""
TOO_LARGE: Final = 4
_ODS: Final = "content.xml"
_TABLE: Final = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_KIND: Final = "{urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0}value-type"


def main(wanted: str | None) -> None:
    """Read the workbook's sheet `wanted`, or its first visible one."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would have the file's content
    data = BytesIO(sys.stdin.buffer.read())
    try:
        if zipfile.is_zipfile(data):
            with zipfile.ZipFile(data) as archive:
                if sum(part.file_size for part in archive.infolist()) > MAX_UNPACKED:
                    sys.exit(TOO_LARGE)
        data.seek(0)
        book = python_calamine.CalamineWorkbook.from_filelike(data)
        name = wanted or _first_visible(book)
        sheet = book.get_sheet_by_name(name)
    except python_calamine.WorksheetNotFound:
        _refuse(f"it has no sheet {wanted!r}; it has {', '.join(map(repr, book.sheet_names))}")
    except python_calamine.PasswordError:
        _refuse("it is protected by a password")
    except (python_calamine.CalamineError, zipfile.BadZipFile) as error:
        _refuse(re.split("[:'\"`]", str(error))[0].strip())  # behind it the library quotes cells
    around = _hidden_and_failed(data, name)
    failed: dict[int, list[int]] = around.pop("failed", {})
    left = sheet.start[1] if sheet.start else 0
    merged = [row + 1 for (row, _), _ in sheet.merged_cell_ranges or ()]
    others = [other for other in book.sheet_names if other != name]
    _write({"sheet": name, "others": others, "merged": merged, **around})
    for number, row in enumerate(sheet.iter_rows(), 1):
        cells = [""] * left + [_plain(cell) for cell in row]
        for column in sorted(failed.get(number, ())):
            cells += [""] * (column - len(cells))
            cells[column : column + 1] = [None]
        if any(cell != "" for cell in cells):
            _write([number, cells])


def _refuse(why: str) -> NoReturn:
    sys.stderr.write(why)
    sys.exit(UNREADABLE)


def _first_visible(book: python_calamine.CalamineWorkbook) -> str:
    for sheet in book.sheets_metadata:
        if (
            sheet.visible == python_calamine.SheetVisibleEnum.Visible
            and sheet.typ == python_calamine.SheetTypeEnum.WorkSheet
        ):
            return str(sheet.name)
    _refuse("it has no visible sheet of cells; name one with --sheet")


def _plain(cell: Any) -> Any:
    """The cell as a JSON value that keeps its type."""
    return cell if isinstance(cell, str | int | float) else [type(cell).__name__, str(cell)]


def _write(line: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")


def _hidden_and_failed(data: BytesIO, sheet: str) -> dict[str, Any]:
    """Hidden rows and columns, and cells with a failed formula, which the library does not report."""
    try:
        with zipfile.ZipFile(data) as archive:
            if _ODS in archive.namelist():
                return _read_ods(archive, sheet)
            part = _part_of(archive, sheet)
            return {} if part is None else _read_sheet(archive, part)
    except (zipfile.BadZipFile, KeyError, ValueError, ET.ParseError):
        return {}


def _elements(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[str, ET.Element]]:
    """The elements of an XML part with their names, each when it ends."""
    with archive.open(part) as file:
        for _, element in ET.iterparse(file):  # noqa: S314  # this process has limits
            yield element.tag.rpartition("}")[2], element


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """The part of an .xlsx that holds the sheet."""
    names = {name.lower(): name for name in archive.namelist()}
    if "xl/workbook.xml" not in names:
        return None
    links = {
        element.get("name"): value
        for kind, element in _elements(archive, names["xl/workbook.xml"])
        for name, value in element.items()
        if kind == "sheet" and name.endswith("relationships}id")
    }
    targets = {
        element.get("Id"): element.attrib["Target"]
        for kind, element in _elements(archive, names["xl/_rels/workbook.xml.rels"])
        if kind == "Relationship"
    }
    target = targets[links[sheet]]
    return names[(target.removeprefix("/") if target.startswith("/") else f"xl/{target}").lower()]


def _read_sheet(archive: zipfile.ZipFile, part: str) -> dict[str, Any]:
    hidden: list[int] = []
    columns: list[int] = []
    failed: dict[int, list[int]] = {}
    row = 0
    for kind, element in _elements(archive, part):
        if kind == "row":
            row = int(element.get("r", row + 1))
            if in_row := list(_failed(element)):
                failed[row] = in_row
            if _is_hidden(element, "ht"):
                hidden.append(row)
            element.clear()
        elif kind == "col" and _is_hidden(element, "width"):
            first, last = int(element.attrib["min"]), int(element.attrib["max"])
            columns.extend(range(first - 1, min(last, 1 << 14)))
    return {"hidden": hidden, "columns": columns, "failed": failed, "seen": True}


def _read_ods(archive: zipfile.ZipFile, sheet: str) -> dict[str, Any]:
    """The same for OpenDocument, where equal rows, cells and columns are written once, with their number."""
    hidden: list[int] = []
    columns: list[int] = []
    failed: dict[int, list[int]] = {}
    inside, row, column = False, 1, 0
    with archive.open(_ODS) as file:
        for event, element in ET.iterparse(file, ("start", "end")):  # noqa: S314  # as above
            if element.tag == f"{_TABLE}table":
                inside = event == "start" and element.get(f"{_TABLE}name") == sheet
            elif inside and event == "end" and element.tag == f"{_TABLE}table-column":
                width = int(element.get(f"{_TABLE}number-columns-repeated", 1))
                if f"{_TABLE}visibility" in element.attrib:
                    columns.extend(range(column, min(column + width, 1 << 14)))
                column += width
            elif inside and event == "end" and element.tag == f"{_TABLE}table-row":
                after = row + int(element.get(f"{_TABLE}number-rows-repeated", 1))
                if any(len(cell) or cell.get(_KIND) for cell in element):
                    shown = element.get(f"{_TABLE}visibility", "visible") == "visible"
                    hidden += [] if shown else range(row, after)
                    in_row = list(_failed_ods(element))
                    failed |= dict.fromkeys(range(row, after), in_row) if in_row else {}
                row = after
                element.clear()
    return {"hidden": hidden, "columns": columns, "failed": failed, "seen": True}


def _failed_ods(row: ET.Element) -> Iterator[int]:
    column = 0
    for cell in row:
        after = column + int(cell.get(f"{_TABLE}number-columns-repeated", 1))
        is_formula = f"{_TABLE}formula" in cell.attrib
        if is_formula and (cell.get(_KIND) == "error" or re.match("#[A-Z]|Err:", "".join(cell.itertext()))):
            yield from range(column, after)
        column = after


def _failed(row: ET.Element) -> Iterator[int]:
    """The columns of cells with an error, or a formula without a result. A result of type text may be empty."""
    column = -1
    for cell in row:
        column = _column(cell.attrib["r"].rstrip(digits)) if "r" in cell.attrib else column + 1
        kind = cell.get("t")
        if kind == "e":
            yield column
        elif any(part.tag.endswith("}f") for part in cell):
            result = next((part.text or "" for part in cell if part.tag.endswith("}v")), None)
            if result is None or (kind != "str" and not result.strip()):
                yield column


def _is_hidden(element: ET.Element, size: str) -> bool:
    """Whether it is hidden, or lower than a point, or narrower than a character, so that nobody sees its cells."""
    if element.get("hidden") in {"1", "true"}:
        return True
    try:
        return float(element.get(size, 1)) < 1
    except ValueError:
        return False


@cache  # there are many cells, and few columns
def _column(letters: str) -> int:
    """`AB` is column 27."""
    number = 0
    for letter in re.sub("[^A-Z]", "", letters.upper()):
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
