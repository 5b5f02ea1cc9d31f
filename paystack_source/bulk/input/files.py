"""Reads any input as text columns in row order, and writes result files that can be fed straight back in.

Files: CSV, Parquet, Excel. Frames: pandas, Arrow, polars, DuckDB relations, lists of dictionaries, anything
that speaks the Arrow C stream interface. Nothing is guessed: see `cells.py` for values and `csvio.py` for
CSV. A file is read once, into a snapshot, and a frame is copied: what changes later changes no table.
"""

# ruff: noqa: ANN401  # a frame may be of any library

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paystack_source.bulk.input import csv_file as csvio
from paystack_source.bulk.input.cells import SPREADSHEET_EXACT, Bad, column_text, values_text
from paystack_source.bulk.input.snapshot import Snapshot
from paystack_source.errors import ConfigError, InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_ROWS: Final = 65_536
Format = Literal["csv", "parquet", "excel", "frame"]


@dataclass(slots=True)
class TextBatch:
    """Some consecutive rows. `columns` are text without nulls (blank is ""), in the order of `Table.columns`.

    `lines` is where each row starts in the file (None for frames and Parquet); `bad` names cells that arrived
    damaged, by column and position; `numbers` are the columns whose cells were numbers and not text.
    """

    first_row: int
    size: int
    columns: list[pa.Array]
    lines: list[int] | None = None
    bad: dict[int, Bad] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """An input as it was when it was opened. `batches()` can be called as often as one likes.

    `sha256()` differs whenever any cell does.
    """

    name: str
    format: Format
    columns: list[str]
    batches: Callable[[], Iterator[TextBatch]]
    """The rows in order, a batch in memory at a time. Raises `InputError` for a file that cannot be cut into rows."""
    sha256: Callable[[], str]
    """Hash of the file's bytes, or of a frame's columns and text."""
    path: Path | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    warnings: list[str] = field(default_factory=list)
    frame: Any = field(default=None, repr=False)
    """The copy of the frame that was given: pandas, Arrow, or a list of dictionaries."""

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows as tuples of text, for writing them out again."""
        for batch in self.batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def open_table(
    source: Any,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    keep: bool = True,
) -> Table:
    """Opens a path, a snapshot or a frame.

    `encoding`, `delimiter` (CSV) and `sheet` (Excel) override what is found. `keep` False: the frame is not
    copied, because it is read only once.

    Raises `InputError` if the content cannot be a table, `ConfigError` if the source is of no known kind, and
    `FileNotFoundError`.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, str | os.PathLike):
        source = Snapshot.of(Path(source))
    if isinstance(source, Snapshot):
        kind = _kind(source)
        if kind == "parquet":
            return _open_parquet(source)
        if kind == "excel":
            return _open_excel(source, sheet)
        return _open_csv(source, encoding, delimiter)
    return _open_frame(_own(source) if keep else source)


@contextlib.contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """A file that only its owner can read, and that appears complete, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Writes text rows as CSV (formula guard on, BOM so that Excel sees UTF-8) or, by suffix, Parquet.

    Returns how many rows, in a `private_file`.
    `open_table` reads back exactly what was written.
    """
    path = Path(path)
    with private_file(path) as file:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _write_parquet(file, columns, rows)
        return write_csv(file, columns, rows)


def write_csv(file: BinaryIO, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Writes text rows into an open file, as `write_table` does. Returns how many."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    count = csvio.write_rows(text, columns, rows)
    text.detach()  # flushes, and leaves the file open
    return count


def write_problems(error: InputError, path: Path) -> None:
    """What is wrong with an input, as CSV; the values in it are masked."""
    rows = ([p.line, p.row, p.column, p.reason, p.value] for p in error.problems)
    columns = ("line", "row", "column", "reason", "value")
    write_table(path, columns, ([str("" if cell is None else cell) for cell in row] for row in rows))


def _write_parquet(file: Any, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    schema = pa.schema([pa.field(name, pa.string()) for name in columns])
    count = 0
    held: list[Sequence[str]] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:

        def flush() -> None:
            cells = zip(*held, strict=True) if held else [() for _ in columns]
            writer.write_table(pa.Table.from_arrays([pa.array(c, pa.string()) for c in cells], schema=schema))
            held.clear()

        for row in rows:
            held.append(row)
            count += 1
            if len(held) == _ROWS:
                flush()
        flush()
    return count


def _kind(snapshot: Snapshot) -> Format:
    """By the first bytes, then by the suffix."""
    path = snapshot.path
    with snapshot.open() as file:
        head = file.read(8)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return "excel"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd")):
        raise ConfigError(f"{path.name} is compressed", advice="Unpack it first.")
    if path.suffix.lower() in (".parquet", ".pq", ".xlsx", ".xls", ".xlsb", ".ods") and head:
        raise ConfigError(
            f"{path.name} is not what its name says", advice="Save it again as CSV, Parquet or Excel."
        )
    return "csv"


def _open_csv(snapshot: Snapshot, encoding: str | None, delimiter: str | None) -> Table:
    warning = ""
    if encoding is None:
        encoding, warning = csvio.find_encoding(snapshot)
    else:
        csvio.check_encoding(encoding)
    file = csvio.CsvFile(snapshot, encoding, delimiter)

    def read() -> Iterator[TextBatch]:
        row = 1
        for chunk in file.chunks():
            yield TextBatch(row, len(chunk.lines), chunk.columns, chunk.lines, problems=chunk.problems)
            row += len(chunk.lines)

    return Table(
        file.name,
        "csv",
        file.columns,
        read,
        lambda: snapshot.sha256,
        path=snapshot.path,
        encoding=encoding,
        delimiter=file.delimiter,
        warnings=[warning] if warning else [],
    )


def _open_parquet(snapshot: Snapshot) -> Table:
    path = snapshot.path
    try:
        columns = pq.read_schema(snapshot.open()).names
    except pa.ArrowException as error:
        raise InputError([Problem(None, "", f"is not readable Parquet: {error}")], name=path.name) from None

    def read() -> Iterator[TextBatch]:
        with pq.ParquetFile(snapshot.open()) as file:
            yield from _text_batches(file.iter_batches(batch_size=_ROWS))

    return Table(path.name, "parquet", columns, read, lambda: snapshot.sha256, path=path)


def _open_excel(snapshot: Snapshot, sheet: str | None) -> Table:
    path = snapshot.path
    try:
        import python_calamine  # noqa: PLC0415 - optional
    except ImportError:
        raise ConfigError(
            "Reading Excel needs one more package",
            advice="pip install 'paystack-source[excel]', or save the sheet as CSV (UTF-8).",
        ) from None
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(snapshot.open())
        name = sheet or book.sheet_names[0]
        cells = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except (python_calamine.CalamineError, IndexError) as error:
        raise InputError([Problem(None, "", f"is not readable: {error}")], name=path.name) from None
    start = next((i for i, row in enumerate(cells) if any(cell != "" for cell in row)), None)
    if start is None:
        raise InputError([Problem(1, "", f"sheet {name} is empty; it needs a header row")], name=path.name)
    header, _ = values_text(cells[start])
    columns: list[str] = header.to_pylist()
    while columns and not columns[-1]:
        columns.pop()
    rows = [
        (i + 1, row[: len(columns)]) for i, row in enumerate(cells) if i > start and any(c != "" for c in row)
    ]

    def read() -> Iterator[TextBatch]:
        for begin in range(0, len(rows), _ROWS):
            part = rows[begin : begin + _ROWS]
            cells = (_sheet_text([row[index] for _, row in part]) for index in range(len(columns)))
            yield _batch(begin + 1, len(part), cells, [line for line, _ in part])

    table = Table(path.name, "excel", columns, read, lambda: snapshot.sha256, path=path, sheet=name)
    if sheet is None and len(book.sheet_names) > 1:
        table.warnings.append(f"{path.name} has {len(book.sheet_names)} sheets; only {name!r} was read.")
    return table


def _sheet_text(values: list[Any]) -> tuple[pa.Array, Bad, bool]:
    texts, bad = values_text(values, SPREADSHEET_EXACT)
    return texts, bad, any(isinstance(value, int | float) for value in values)


def _batch(
    first_row: int,
    size: int,
    cells: Iterable[tuple[pa.Array, Bad, bool]],
    lines: list[int] | None = None,
) -> TextBatch:
    """A batch of each column's text, damaged cells, and whether its cells were numbers."""
    batch = TextBatch(first_row, size, [], lines)
    for index, (texts, bad, numbers) in enumerate(cells):
        batch.columns.append(texts)
        if bad:
            batch.bad[index] = bad
        if numbers:
            batch.numbers.add(index)
    return batch


def _text_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[TextBatch]:
    row = 1
    for source in batches:
        for begin in range(0, source.num_rows, _ROWS):
            part = source.slice(begin, _ROWS)
            yield _batch(row, part.num_rows, map(column_text, part.columns))
            row += part.num_rows


def _open_frame(source: Any) -> Table:
    columns, read = _frame_reader(source)
    return Table("the frame", "frame", columns, read, lambda: _frame_hash(columns, read()), frame=source)


def _own(source: Any) -> Any:
    """A copy of the frame that nobody else can change, as pandas, Arrow or a list of dictionaries."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        frame = source.copy()
        for place in range(frame.shape[1]):
            series = frame.iloc[:, place]
            if series.dtype == object:
                cells = [_own_cell(cell) for cell in series]
                frame.isetitem(place, pandas.Series(cells, frame.index, dtype=object))
        return frame
    if isinstance(source, list) and all(isinstance(row, dict) for row in source):
        return [{name: _own_cell(cell) for name, cell in row.items()} for row in source]
    table = arrow_table(source)  # it may share its memory with a frame of NumPy arrays
    with pa.BufferOutputStream() as sink:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return pa.ipc.open_stream(sink.getvalue()).read_all()


def _own_cell(cell: Any) -> Any:
    return copy.deepcopy(cell) if isinstance(cell, dict | list | np.ndarray) else cell


def _frame_reader(source: Any) -> tuple[list[str], Callable[[], Iterator[TextBatch]]]:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return _pandas_reader(source)
    if isinstance(source, list) and all(isinstance(row, dict) for row in source):
        return _records_reader(source)
    table = arrow_table(source)
    return table.column_names, lambda: _text_batches(table.to_batches(max_chunksize=_ROWS))


def arrow_table(source: Any) -> pa.Table:
    """The Arrow table that `source` is or can be turned into. Raises `ConfigError` if it is none."""
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    if isinstance(source, pa.RecordBatchReader):
        return source.read_all()
    try:
        for method in ("__arrow_c_stream__", "__arrow_c_array__"):
            if hasattr(source, method):
                return pa.table(source)
    except (pa.ArrowException, TypeError, ValueError):  # one column without a name: a Series, an Arrow array
        pass
    raise ConfigError(
        f"A {type(source).__name__} is no table",
        advice='Give a frame with named columns, e.g. frame[["customer_code"]], or a path.',
    )


def _pandas_reader(frame: Any) -> tuple[list[str], Callable[[], Iterator[TextBatch]]]:
    columns = [str(name) for name in frame.columns]

    def read() -> Iterator[TextBatch]:
        for begin in range(0, len(frame), _ROWS):
            part = frame.iloc[begin : begin + _ROWS]
            cells = (_series_text(part.iloc[:, index]) for index in range(len(columns)))
            yield _batch(begin + 1, len(part), cells)

    return columns, read


def _series_text(series: Any) -> tuple[pa.Array, Bad, bool]:
    # Object columns may mix anything; Arrow would give all dictionaries the keys of all others.
    if series.dtype == object:
        values = series.tolist()
        texts, bad = values_text(values)
        return texts, bad, any(isinstance(v, int | float) and v == v for v in values)  # noqa: PLR0124
    try:
        return column_text(pa.array(series, from_pandas=True))
    except (pa.ArrowException, UnicodeError):
        texts, bad = values_text(series.tolist())
        return texts, bad, False


def _records_reader(records: list[dict[str, Any]]) -> tuple[list[str], Callable[[], Iterator[TextBatch]]]:
    columns = [str(name) for name in dict.fromkeys(name for record in records for name in record)]

    def read() -> Iterator[TextBatch]:
        for begin in range(0, len(records), _ROWS):
            part = records[begin : begin + _ROWS]
            cells = ((*values_text([record.get(name) for record in part]), False) for name in columns)
            yield _batch(begin + 1, len(part), cells)

    return columns, read


def _frame_hash(columns: list[str], batches: Iterator[TextBatch]) -> str:
    """SHA-256 over names and cells; how the rows are cut into batches does not matter."""
    lengths = [hashlib.sha256() for _ in columns]
    contents = [hashlib.sha256() for _ in columns]
    for batch in batches:
        for column, sizes, content in zip(batch.columns, lengths, contents, strict=True):
            _, offsets, data = column.buffers()
            ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
            sizes.update(np.diff(ends).tobytes())
            if data is not None:
                content.update(memoryview(data)[ends[0] : ends[-1]])
    whole = hashlib.sha256("\x1f".join(columns).encode())
    for part in (*lengths, *contents):
        whole.update(part.digest())
    return whole.hexdigest()
