"""Reads and writes CSV: every cell is text with a physical line, and spreadsheets take no cell for a formula.

The guard is an apostrophe before a cell that a spreadsheet would take for a formula; reading removes one again. So
`+2348012345678` is written as `'+2348012345678` and read as before, and so is a cell `'+234…`. A spreadsheet with
semicolons as list separators splits our cells at semicolons, tabs and ends of lines, also inside quotes; the part after
each of these is guarded in the same way.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final, TextIO

import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.bulk.input.cells import Batch, Cells
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.errors import ConfigError, InputError, Problem

# Characters that Excel, LibreOffice or Google Sheets may take for the start of a formula, in half and full width.
_STARTS: Final = "=+\\-@\\t\\r\\n\\x00\uff1d\uff0b\uff0d\uff20"
_NEEDS_GUARD: Final = re.compile(f"'*[{_STARTS}]")
_GUARDED: Final = f"^'+[{_STARTS}]"
_CUT: Final = '([;\\t\\r\\n]"*)'
_NEEDS_INNER_GUARD: Final = re.compile(f"{_CUT}(?='*[{_STARTS}])")
_INNER_GUARD: Final = re.compile(f"{_CUT}'(?='*[{_STARTS}])")
_GUARDED_INSIDE: Final = f"{_CUT}'+[{_STARTS}]"
_DELIMITERS: Final = ",;\t|"
_NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_CHUNK: Final = 1 << 20
# The line `sep=;` before the header, which Excel reads. Spreadsheets save it quoted, or with empty cells behind it.
_DECLARED: Final = re.compile(r'"?sep=(.)"?\1*\s*', re.IGNORECASE)
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ROWS: Final = 50_000
MAX_CELL: Final = 1_000_000


def guard_formula(text: str) -> str:
    """The cell with an apostrophe in front if a spreadsheet might take it for a formula."""
    inside = _NEEDS_INNER_GUARD.sub(r"\1'", text)
    return "'" + inside if _NEEDS_GUARD.match(text) else inside


def unguard(column: pa.Array) -> pa.Array:
    """Undo `guard_formula` for all cells."""
    if not pc.any(pc.match_substring(column, "'")).as_py():
        return column
    guarded = pc.match_substring_regex(column, _GUARDED)
    column = pc.if_else(guarded, pc.utf8_slice_codeunits(column, 1), column)
    inside = pc.match_substring_regex(column, _GUARDED_INSIDE)
    if not pc.any(inside).as_py():
        return column
    plain = [_INNER_GUARD.sub(r"\1", text) for text in column.filter(inside).to_pylist()]
    return pc.replace_with_mask(column, inside, pa.array(plain, pa.string()))


def _find_encoding(snapshot: FileSnapshot) -> tuple[str, str]:
    """The file's encoding (from its byte order mark, else UTF-8, else Windows-1252), and a warning or ""."""
    name = snapshot.path.name
    with snapshot.open() as file:
        head = file.read(1024)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, ""
    if head.count(0) > len(head) // 8:
        raise InputError([Problem(None, "", "looks like UTF-16 without a mark; save it as UTF-8")], name=name)
    # Windows-1252 leaves some bytes undefined; Latin-1 gives them a (control) meaning instead of failing.
    encoding = next(e for e in ("utf-8", "cp1252", "latin-1") if _can_read(snapshot, e))
    warning = (
        f"{name} is not UTF-8; it was read as Windows-1252. Check the accents, or save it as UTF-8. "
        "If Excel on a Mac wrote it: --encoding mac_roman."
    )
    return encoding, "" if encoding == "utf-8" else warning


def _can_read(snapshot: FileSnapshot, encoding: str) -> bool:
    with snapshot.open() as file:
        try:
            for _ in codecs.iterdecode(iter(lambda: file.read(_CHUNK), b""), encoding):
                pass
        except UnicodeDecodeError:
            return False
    return True


class CsvFile:
    """One CSV file: its header as `columns`, its rows in batches, and a `warning` about its encoding or ""."""

    def __init__(
        self, snapshot: FileSnapshot, encoding: str | None = None, delimiter: str | None = None
    ) -> None:
        """Read the header. If encoding or delimiter is None, it is detected.

        Raises `ConfigError` for an invalid encoding or delimiter, and `InputError` for an unreadable file.
        """
        self._snapshot = snapshot
        self.name = snapshot.path.name
        self.encoding, self.warning = _find_encoding(snapshot) if encoding is None else (encoding, "")
        try:
            "".encode(self.encoding)  # refuses codecs that are not for text, such as hex and zip
        except (LookupError, ValueError):
            raise ConfigError(
                f"There is no text encoding {encoding!r}",
                advice="Try utf-8, utf-16, cp1252 or latin-1, or leave it out: then it is detected.",
            ) from None
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
            raise ConfigError(
                f"{delimiter!r} cannot separate cells",
                advice="Give one, e.g. ; or a tab ($'\\t' in a shell), or leave it out: then it is detected.",
            )
        declared = None
        with contextlib.suppress(UnicodeError), self._open() as file:  # `_records` reports the error
            declared = _DECLARED.fullmatch(file.readline())
        self._before = 1 if declared else 0
        self.delimiter = delimiter or (declared[1] if declared else self._sniff())
        _, header = next(self._records(), (0, None))
        if header is None:
            raise InputError([Problem(None, "", "the file is empty; it needs a header line")], name=self.name)
        self.columns: list[str] = unguard(pa.array(header, pa.string())).to_pylist()

    def lines(self) -> int:
        """An upper limit for the number of rows: the number of ends of lines."""
        ends = [0, 0]
        with self._snapshot.open() as file:
            while data := file.read(_CHUNK):
                ends = [ends[0] + data.count(b"\n"), ends[1] + data.count(b"\r")]
        return max(ends)

    def batches(self) -> Iterator[Batch]:
        """The rows after the header. Raises `InputError` for broken quotes, because later cells would be wrong."""
        width = len(self.columns)
        records = itertools.islice(self._records(), 1, None)
        row = 1
        while True:
            # Lists of rows are not kept: Python's garbage collector would visit all of them repeatedly.
            lines: list[int] = []
            texts: list[str] = []
            uneven: dict[int, str] = {}
            for line, record in itertools.islice(records, _ROWS):
                if len(record) != width:
                    uneven[len(lines)] = self._uneven(len(record))
                lines.append(line)
                texts += record if len(record) == width else self._evened(record)
            if not lines:
                return
            cells = [Cells(unguard(pa.array(texts[index::width], pa.string()))) for index in range(width)]
            yield Batch(row, len(lines), cells, lines, uneven)
            row += len(lines)

    def _evened(self, record: list[str]) -> list[str]:
        """The cells of an uneven row: extra cells are joined, missing ones are blank."""
        last = len(self.columns) - 1
        if len(record) > last:
            return [*record[:last], self.delimiter.join(record[last:])]
        return record + [""] * (last + 1 - len(record))

    def _uneven(self, cells: int) -> str:
        if cells < len(self.columns):
            hint = "if Excel left blank cells at the end out, save it as a workbook"
            return f"has too few cells: {cells} where the header has {len(self.columns)}; {hint}"
        quote = f"quote cells with {_NAMES.get(self.delimiter, repr(self.delimiter))} in them"
        return f"has too many cells: {cells} where the header has {len(self.columns)}; {quote}"

    def _open(self) -> TextIO:
        return io.TextIOWrapper(self._snapshot.open(), self.encoding, "strict", newline="")

    def _sniff(self) -> str:
        """The separator that splits the header into the most cells. Separators inside quotes do not count."""
        cells = dict.fromkeys(_DELIMITERS, 1)
        for self.delimiter in _DELIMITERS:
            with contextlib.suppress(InputError):
                cells[self.delimiter] = len(next(self._records(), (0, []))[1])
        return max(cells, key=lambda candidate: cells[candidate])

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """All records that are not empty lines, each with the physical line on which it starts (from 1)."""
        csv.field_size_limit(MAX_CELL)
        width = 0
        with self._open() as file:
            for _ in range(self._before):
                file.readline()
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            start = 1
            try:
                for record in reader:
                    # A line of spaces is not a row, and DOS's end-of-file character is not one.
                    if len(record) > 1 or (record and (width == 1 or record[0].strip(" \t\x1a"))):
                        width = width or len(record)
                        yield self._before + start, record
                    start = reader.line_num + 1
            except csv.Error as error:
                raise InputError(
                    [Problem(self._before + start, "", f"is not valid CSV: {error}")], name=self.name
                ) from None
            except UnicodeError:
                raise InputError(
                    [Problem(None, "", f"is not {self.encoding} throughout; save the file as UTF-8")],
                    name=self.name,
                ) from None


def row_writer(text: TextIO, columns: Sequence[str]) -> Callable[[Sequence[str]], object]:
    """Write the header, and return a function that writes a row. Cells are guarded. Open `text` with `newline=""`."""
    # The header is quoted so that a separator inside a name is not taken for the file's separator.
    csv.writer(text, quoting=csv.QUOTE_ALL).writerow([guard_formula(name) for name in columns])
    writer = csv.writer(text)
    return lambda row: writer.writerow([guard_formula(cell) for cell in row])


@contextlib.contextmanager
def csv_writer(file: BinaryIO, columns: Sequence[str]) -> Iterator[Callable[[Sequence[str]], object]]:
    """`row_writer` for a file, which is not closed. A byte order mark tells Excel that it is UTF-8."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield row_writer(text, columns)
    finally:
        text.detach()  # flushes
