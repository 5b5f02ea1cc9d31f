"""The process that reads a workbook: bytes on standard input, lines of JSON on standard output.

It is started by `workbook` as a plain script, and it may take `MEMORY` and `SECONDS` and no more: a file of a few
kilobytes can unfold to any size, and the library ends its process where memory does not suffice. The lines are:

    {"sheet": its name, "sheets": how many, "hidden": [rows], "columns": [hidden columns], "merged": [rows],
     "seen": whether hidden rows and failed formulas can be seen in this kind of file}
    [number of a row, its cells]     for each row that holds something

A formula that failed or was never worked out is null, a date or time [its type, ISO 8601]. Rows count from 1,
columns from 0.
"""

# ruff: noqa: ANN401  # a cell may be anything

from __future__ import annotations

import re
import sys
import zipfile
from io import BytesIO
from typing import Any, Final, NoReturn
from xml.parsers import expat

import msgspec
import python_calamine

MEMORY: Final = 640 << 20
SECONDS: Final = 15
UNFOLDED: Final = 300 << 20
"""How many bytes an archive may say that it holds."""
UNREADABLE: Final = 3
"""Exit code: the file is no workbook that can be read; standard error says why. Any other but 0: it is too large."""
TOO_LARGE: Final = 4


def main(wanted: str | None) -> None:
    """Read the workbook's sheet `wanted`, or its first visible one."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  # only there

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold what the file holds
    data = BytesIO(sys.stdin.buffer.read())
    try:
        if zipfile.is_zipfile(data):
            with zipfile.ZipFile(data) as archive:
                if sum(part.file_size for part in archive.infolist()) > UNFOLDED:
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
        _refuse(str(error))
    around = _look_around(data, name)
    failed: dict[int, set[int]] = around.pop("failed", {})
    left = sheet.start[1] if sheet.start else 0
    merged = [row + 1 for (row, _), _ in sheet.merged_cell_ranges or ()]
    _write({"sheet": name, "sheets": len(book.sheet_names), "merged": merged, **around})
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
    """The cell as JSON can hold it without losing its type."""
    return cell if isinstance(cell, str | int | float) else [type(cell).__name__, str(cell)]


def _write(line: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")


def _look_around(data: BytesIO, sheet: str) -> dict[str, Any]:
    """What the library does not say: hidden rows and columns, and cells whose formula has failed."""
    try:
        with zipfile.ZipFile(data) as archive:
            names = {name.lower(): name for name in archive.namelist()}
            part = _part_of(archive, names, sheet)
            return {} if part is None else _read_sheet(archive, part)
    except (zipfile.BadZipFile, KeyError, ValueError, expat.ExpatError):
        return {}


def _part_of(archive: zipfile.ZipFile, names: dict[str, str], sheet: str) -> str | None:
    """The part of an .xlsx that holds the sheet."""
    relations: dict[str, str] = {}
    link: list[str] = []

    def relation(tag: str, attributes: dict[str, str]) -> None:
        if tag.endswith(" Relationship"):
            relations[attributes["Id"]] = attributes["Target"]

    def entry(tag: str, attributes: dict[str, str]) -> None:
        if tag.endswith(" sheet") and attributes["name"] == sheet:
            link.append(
                next(value for name, value in attributes.items() if name.endswith("relationships id"))
            )

    if "xl/workbook.xml" not in names:
        return None
    _parse(archive, names["xl/workbook.xml"], entry)
    _parse(archive, names["xl/_rels/workbook.xml.rels"], relation)
    target = relations[link[0]] if link else ""
    return names[(target.removeprefix("/") if target.startswith("/") else f"xl/{target}").lower()]


class _Sheet:
    """One part of an .xlsx, element by element."""

    def __init__(self, parser: Any) -> None:
        self.hidden: list[int] = []
        self.columns: list[int] = []
        self.failed: dict[int, set[int]] = {}
        self._parser = parser
        self._row = self._column = 0
        self._is_text = self._is_open = False  # the formula at hand: its result is text, and was not seen yet

    def element(self, tag: str, attributes: dict[str, str]) -> None:
        kind = tag.rpartition(" ")[2]
        if kind in {"c", "row"}:
            self.end_cell()
        if kind == "c":
            self._column = _column(attributes["r"]) if "r" in attributes else self._column + 1
            self._is_text = attributes.get("t") == "str"
            if attributes.get("t") == "e":
                self._fail()
        elif kind == "f":
            self._is_open = True
        elif kind == "v" and self._is_open:
            self._is_open = not self._is_text  # a text may be empty
            self._parser.CharacterDataHandler = self._result
        elif kind == "row":
            self._row, self._column = int(attributes.get("r", self._row + 1)), -1
            if _is_hidden(attributes, "ht"):
                self.hidden.append(self._row)
        elif kind == "col" and _is_hidden(attributes, "width"):
            self.columns.extend(range(int(attributes["min"]) - 1, min(int(attributes["max"]), 1 << 14)))

    def end_cell(self) -> None:
        if self._is_open:
            self._fail()
        self._is_open, self._parser.CharacterDataHandler = False, None

    def _result(self, text: str) -> None:
        self._is_open = self._is_open and not text.strip()

    def _fail(self) -> None:
        self.failed.setdefault(self._row, set()).add(self._column)


def _read_sheet(archive: zipfile.ZipFile, part: str) -> dict[str, Any]:
    parser = expat.ParserCreate(namespace_separator=" ")
    sheet = _Sheet(parser)
    _parse(archive, part, sheet.element, parser)
    sheet.end_cell()
    return {"hidden": sheet.hidden, "columns": sheet.columns, "failed": sheet.failed, "seen": True}


def _is_hidden(attributes: dict[str, str], size: str) -> bool:
    return attributes.get("hidden") in {"1", "true"} or attributes.get(size) in {"0", "0.0"}


def _column(reference: str) -> int:
    """`AB7` is column 27."""
    number = 0
    for letter in re.sub("[^A-Z]", "", reference.upper()):
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _parse(archive: zipfile.ZipFile, part: str, element: Any, parser: Any = None) -> None:
    parser = parser or expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = element
    with archive.open(part) as file:
        parser.ParseFile(file)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
