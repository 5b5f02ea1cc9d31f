"""CSV in and out: everything is text, physical lines are known, no spreadsheet runs what is written.

The guard puts an apostrophe before a cell that a spreadsheet would take for a formula; reading takes one off
again. `+2348012345678` is written as `'+2348012345678` and read as it was; so is a cell that already was
`'+234…`.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO

import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.errors import ConfigError, InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from paystack_source.bulk.input.snapshot import Snapshot

# What Excel, LibreOffice or Google Sheets may take for the start of a formula, in half and full width.
_STARTS: Final = "=+\\-@\\t\\r\\n\\x00\uff1d\uff0b\uff0d\uff20"
_NEEDS_GUARD: Final = re.compile(f"'*[{_STARTS}]")
_GUARDED: Final = f"^'+[{_STARTS}]"
_DELIMITERS: Final = ",;\t|"
_CHUNK: Final = 1 << 20
# Windows-1252 leaves these undefined; Latin-1 gives them a (control) meaning instead of failing.
_UNDEFINED: Final = tuple(b"\x81\x8d\x8f\x90\x9d")
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ROWS: Final = 50_000
MAX_CELL: Final = 1_000_000


def guard(text: str) -> str:
    """The cell as it is written: with an apostrophe in front if a spreadsheet might run it."""
    return "'" + text if _NEEDS_GUARD.match(text) else text


def unguard(column: pa.Array) -> pa.Array:
    """The cells as they were before `guard`."""
    if not pc.any(pc.starts_with(column, "'")).as_py():
        return column
    guarded = pc.match_substring_regex(column, _GUARDED)
    return pc.if_else(guarded, pc.utf8_slice_codeunits(column, 1), column)


def find_encoding(snapshot: Snapshot) -> tuple[str, str]:
    """The file's encoding, and what to warn about: a byte order mark, else strict UTF-8, else Windows-1252."""
    utf8: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")("strict")
    undefined = False
    name = snapshot.path.name
    with snapshot.open() as file:
        data = file.read(_CHUNK)
        for mark, encoding in _MARKS:
            if data.startswith(mark):
                return encoding, ""
        if data[:1024].count(0) > len(data[:1024]) // 8:
            raise InputError(
                [Problem(None, "", "looks like UTF-16 without a mark; save it as UTF-8")], name=name
            )
        while data:
            if utf8 is not None:
                try:
                    utf8.decode(data)
                except UnicodeDecodeError:
                    utf8 = None
            undefined = undefined or any(byte in data for byte in _UNDEFINED)
            data = file.read(_CHUNK)
    if utf8 is not None and not utf8.getstate()[0]:
        return "utf-8", ""
    said = f"{name} is not UTF-8; it was read as Windows-1252. Check the accents, or save it as UTF-8."
    return "latin-1" if undefined else "cp1252", said


def check_encoding(encoding: str) -> None:
    """Raises `ConfigError` for an encoding that does not exist."""
    try:
        "".encode(encoding)  # knows hex and zip as well, but refuses them: they are not for text
    except (LookupError, ValueError):
        raise ConfigError(
            f"There is no text encoding {encoding!r}",
            advice="Try utf-8, utf-16, cp1252 or latin-1, or leave it out: it is found by itself.",
        ) from None


@dataclass(slots=True)
class Chunk:
    """Rows as Arrow text columns, the physical line on which each starts, and rows that are uneven."""

    lines: list[int]
    columns: list[pa.Array]
    problems: list[Problem]


class CsvFile:
    """One CSV: its header at once, its rows in chunks."""

    def __init__(self, snapshot: Snapshot, encoding: str, delimiter: str | None = None) -> None:
        self._snapshot = snapshot
        self.name = snapshot.path.name
        self.encoding = encoding
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
            raise ConfigError(
                f"{delimiter!r} cannot separate cells",
                advice="Give one, e.g. ; or a tab ($'\\t' in a shell), or leave it out: it is found by itself.",
            )
        self._skip: str | None = None
        with contextlib.suppress(UnicodeError), self._open() as file:  # reading the header says what is wrong
            self._skip = _declared(file.readline())
        self.delimiter = delimiter or self._skip or self._sniff()
        header = next(self._records(), None)
        if header is None:
            raise InputError([Problem(1, "", "the file is empty; it needs a header line")], name=self.name)
        self.columns: list[str] = unguard(pa.array(header[1], pa.string())).to_pylist()

    def chunks(self) -> Iterator[Chunk]:
        """The data rows. Raises `InputError` where quotes are broken: nothing after them can be trusted."""
        width = len(self.columns)
        records = self._records()
        next(records)
        rows: list[list[str]] = []
        lines: list[int] = []
        problems: list[Problem] = []
        for line, record in records:
            if len(record) != width:
                problems.append(self._uneven(line, len(record)))
                record = [""] * width  # noqa: PLW2901 - the row keeps its number
            rows.append(record)
            lines.append(line)
            if len(rows) == _ROWS:
                yield Chunk(lines, _columns(rows, width), problems)
                rows, lines, problems = [], [], []
        if rows:
            yield Chunk(lines, _columns(rows, width), problems)

    def _uneven(self, line: int, cells: int) -> Problem:
        names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
        inside = names.get(self.delimiter, repr(self.delimiter))
        return Problem(
            line,
            "",
            f"has {cells} cells where the header has {len(self.columns)}; quote cells with {inside} in them",
        )

    def _open(self) -> TextIO:
        return io.TextIOWrapper(self._snapshot.open(), self.encoding, "strict", newline="")

    def _sniff(self) -> str:
        """The separator that cuts the header into most cells; separators inside quotes do not count."""
        best, most = ",", 1
        for candidate in _DELIMITERS:
            self.delimiter = candidate
            try:
                header = next(self._records(), (0, []))[1]
            except InputError:
                continue
            if len(header) > most:
                best, most = candidate, len(header)
        return best

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Every record that is not an empty line, with the physical line on which it starts (from 1)."""
        csv.field_size_limit(MAX_CELL)
        with self._open() as file:
            before = 1 if self._skip else 0
            if self._skip:
                file.readline()
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            start = 1
            try:
                for record in reader:
                    if record:
                        yield before + start, record
                    start = reader.line_num + 1
            except csv.Error as error:
                raise InputError(
                    [Problem(before + start, "", f"is not valid CSV: {error}")], name=self.name
                ) from None
            except UnicodeError:
                raise InputError(
                    [Problem(None, "", f"is not {self.encoding} throughout; save the file as UTF-8")],
                    name=self.name,
                ) from None


def _declared(first: str) -> str | None:
    """The separator in a line `sep=;` as Excel writes it before the header."""
    match = re.fullmatch(r"sep=(.)\r?\n?", first)
    return match[1] if match else None


def _columns(rows: list[list[str]], width: int) -> list[pa.Array]:
    cells = zip(*rows, strict=True) if rows else [() for _ in range(width)]
    return [unguard(pa.array(column, pa.string())) for column in cells]


def write_rows(file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Writes a header and rows with the guard on.

    Returns how many rows. `file` must be opened with `newline=""`.
    """
    # The header is quoted so that a separator inside a name is not taken for the file's separator.
    csv.writer(file, quoting=csv.QUOTE_ALL).writerow([guard(name) for name in columns])
    writer = csv.writer(file)
    count = 0
    for row in rows:
        writer.writerow([guard(cell) for cell in row])
        count += 1
    return count
