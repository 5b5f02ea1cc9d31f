"""Opens any input as a table of text columns, and writes CSV files that are inputs again.

Files: CSV, Parquet, Excel. Frames: pandas, Arrow, polars, DuckDB relations, lists of dictionaries, and anything with
the Arrow C stream interface. `cells` converts values to text, `csv_file` reads CSV. A file is read once, into
a snapshot, and a frame is copied, so later changes do not reach the table.
"""

# ruff: noqa: ANN401  # a frame may be of any library

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paystack_source.bulk.input.cells import Batch, Cells, cells_of, column_cells
from paystack_source.bulk.input.csv_file import CsvFile, csv_writer
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.bulk.input.workbook import read_workbook
from paystack_source.errors import ConfigError, InputError, Problem
from paystack_source.failures import raise_interrupt
from paystack_source.private_files import check_output, private_file
from paystack_source.values import masked

if TYPE_CHECKING:
    import pandas as pd

_ROWS: Final = 65_536
MOST_ROWS: Final = 5_000_000
"""Six days of requests at the quota of a live key."""
MOST_COLUMNS: Final = 1_000
MOST_CELLS: Final = 40_000_000
Format = Literal["csv", "parquet", "excel", "frame"]


@dataclass(slots=True)
class InputTable:
    """An input as it was when it was opened. `batches()` may be called many times.

    `sha256()` changes if any cell changes.
    """

    name: str
    format: Format
    columns: list[str]
    batches: Callable[[], Iterator[Batch]]
    """The rows in order, one batch in memory at a time. Raises `InputError` if the file cannot be split into rows."""
    sha256: Callable[[], str]
    """Hash of the file's bytes, or of a frame's columns and text."""
    path: Path | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    warnings: list[str] = field(default_factory=list)
    unread: str = ""
    """What of a frame was not read, for the advice if a column is missing."""
    frame: Any = field(default=None, repr=False)
    """The copy of the user's frame, in pandas or Arrow."""

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows as tuples of text, for writing them out again."""
        for batch in self.batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def open_table(  # noqa: PLR0913  # options for each kind of source
    source: Any,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    keep: bool = True,
    expected: Sequence[str] = (),
) -> InputTable:
    """Open a path, a snapshot or a frame. An `InputTable` is returned unchanged.

    `encoding`, `delimiter` (CSV) and `sheet` (Excel) override the detected ones. `keep` False: the frame is not copied,
    because it is read only once. `expected`: the columns of an empty list, or of a frame without columns and rows.

    Raises `InputError` if the content is not a table, and `ConfigError` for an unknown kind of source, or no file.
    """
    if isinstance(source, InputTable):
        return source
    if isinstance(source, str | os.PathLike):
        source = _snapshot(source)
    if isinstance(source, FileSnapshot):
        kind = _kind(source)
        if kind == "parquet":
            return _open_parquet(source)
        if kind == "excel":
            return _open_excel(source, sheet)
        return _open_csv(source, encoding, delimiter)
    frame = _frame(source)
    _check_size("the frame", *frame.shape)
    if keep:
        frame = _copied(frame)
    levels, unread = _index_levels(frame) if _is_pandas(frame) else ([], "")
    _check_size("the frame", frame.shape[0], frame.shape[1] + len(levels))
    if frame.shape == (0, 0):
        frame, levels = pa.table({name: pa.array([], pa.string()) for name in expected}), []
    names = frame.columns if _is_pandas(frame) else frame.column_names
    columns = [*(str(level.name) for level in levels), *map(str, names)]

    def read() -> Iterator[Batch]:
        return _frame_batches(frame, levels)

    def sha256() -> str:
        return _frame_hash(columns, read())

    return InputTable("the frame", "frame", columns, read, sha256, unread=unread, frame=frame)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows of text as CSV into a `private_file`. `open_table` reads the same cells."""
    with private_file(path) as file, csv_writer(file, columns) as write:
        for row in rows:
            write(row)


def _snapshot(source: str | os.PathLike[str]) -> FileSnapshot:
    path = os.path.expanduser(source)  # noqa: PTH111  # pathlib fails for ~backup.csv, and for ~$book.xlsx of Excel
    if isinstance(source, str) and _holds_rows(path):  # an error would quote them
        raise ConfigError(
            "There is no file of this name, and a text with rows is not a table",
            advice="Save it as a file, and give its path.",
        )
    try:
        return FileSnapshot.of(Path(path))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no file {source}.", advice="Give a CSV, Parquet or Excel file."
        ) from None


def _holds_rows(text: str) -> bool:
    """Whether a text is the rows of a table, not a file name."""
    if text.startswith(("[{", '{"')) or len(text.splitlines()) > 1:
        return True
    return bool(re.search(r"[,;|@\t\0]|\bCUS_|[^/]{256}", text)) and not os.path.lexists(text)


_PROBLEM_COLUMNS: Final = ("line", "row", "column", "reason", "value")


def write_problems(error: InputError, path: Path) -> None:
    """Write the problems of an input as CSV, with masked values. Raises `ConfigError` as `check_output` does."""
    check_output(path, "list of problems", lists_problems)
    rows = ([p.line, p.row, p.column, p.reason, p.value] for p in error.problems)
    write_table(path, _PROBLEM_COLUMNS, ([str("" if cell is None else cell) for cell in row] for row in rows))


def lists_problems(path: Path) -> bool:
    """Whether `write_problems` wrote the file."""
    try:
        return open_table(path, keep=False).columns == list(_PROBLEM_COLUMNS)
    except (OSError, ConfigError):
        return False


LEFT_OUT_COLUMNS: Final = ("_line", "_problem")


def write_left_out(
    table: InputTable, problems: Sequence[Problem], plan_file: Path, secret: Collection[str]
) -> Path:
    """Write the rows of the input that have problems into a new file beside the plan; returns its path.

    It has the input's own columns, the line, and the problems of each row. It can be corrected and planned, because
    columns whose names begin with `_` are never read. The columns in `secret` are masked. U+FFFD is added to a cell of
    a wrong type, or in a row with too few or too many cells: its text alone might be valid, and U+FFFD is refused.
    """
    why: dict[int, dict[str, None]] = {}
    for problem in problems:
        reason = f"{problem.column}: {problem.reason}" if problem.column else problem.reason
        why.setdefault(problem.row or 0, {})[reason] = None
    kept = [(index, name) for index, name in enumerate(table.columns) if name not in LEFT_OUT_COLUMNS]

    def rows() -> Iterator[list[str]]:
        for batch in table.batches():
            for position in range(batch.size):
                row = batch.first_row + position
                if row in why:
                    cells = [(name, _doubted(batch, index, position)) for index, name in kept]
                    shown = [masked(cell, secret=True) if name in secret else cell for name, cell in cells]
                    yield [*shown, str(batch.lines[position] if batch.lines else row), "; ".join(why[row])]

    names = (f"{plan_file.stem}.left_out{f'_{n}' if n > 1 else ''}.csv" for n in itertools.count(1))
    path = next(path for name in names if not (path := plan_file.with_name(name)).exists())
    write_table(path, [*(name for _, name in kept), *LEFT_OUT_COLUMNS], rows())
    return path


def _doubted(batch: Batch, index: int, position: int) -> str:
    """The text of a cell, with U+FFFD if the cell's type or its row was wrong."""
    text: str = batch.columns[index][position].as_py()
    wrong = position in batch.cells[index].bad or (text and position in batch.uneven)
    return f"{text}\ufffd" if wrong else text


def _kind(snapshot: FileSnapshot) -> Format:
    """The format of a file, by its first bytes. Raises `ConfigError` if its suffix contradicts them."""
    path = snapshot.path
    with snapshot.open() as file:
        head = file.read(8)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return "excel"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd")):
        raise ConfigError(f"{path.name} is compressed", advice="Unpack it first.")
    if re.match(rb"(\xef\xbb\xbf)?\s*(\[\s*)?\{(?!\\rtf)", head):
        raise ConfigError(
            f"{path.name} is JSON", advice="Save it as CSV, or give its records to a helper in Python."
        )
    if path.suffix.lower() in (".parquet", ".pq", ".xlsx", ".xls", ".xlsb", ".ods") and head:
        raise ConfigError(
            f"{path.name} is not what its name says", advice="Save it again as CSV, Parquet or Excel."
        )
    return "csv"


def _check_size(name: str, rows: int, columns: int) -> None:
    """Raise `InputError` if the input is too large to be planned."""
    reason = ""
    if columns > MOST_COLUMNS:
        reason = f"has {columns:,} columns; at most {MOST_COLUMNS:,} can be read"
    elif rows > MOST_ROWS:
        reason = f"has more than {MOST_ROWS:,} rows; that is more than can be planned at once"
    elif rows * columns > MOST_CELLS:
        reason = f"has {rows:,} rows of {columns:,} columns; at most {MOST_CELLS:,} cells can be read"
    if reason:
        advice = "Leave out the columns that are not needed, or cut it into several files."
        raise InputError([Problem(None, "", reason)], name=name, advice=advice)


def _open_csv(snapshot: FileSnapshot, encoding: str | None, delimiter: str | None) -> InputTable:
    file = CsvFile(snapshot, encoding, delimiter)
    table = _of_file(snapshot, "csv", file.columns, file.lines(), file.batches)
    table.encoding, table.delimiter = file.encoding, file.delimiter
    table.warnings = [file.warning] if file.warning else []
    return table


@contextlib.contextmanager
def _readable_parquet(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:  # an OSError for a damaged page
        reason = f"is not readable Parquet: {error}"
        raise InputError([Problem(None, "", reason)], name=name) from None


def _open_parquet(snapshot: FileSnapshot) -> InputTable:
    with _readable_parquet(snapshot.path.name):
        about = pq.read_metadata(snapshot.open())
        columns = about.schema.to_arrow_schema().names
    if b"plan_seal" in (about.metadata or {}):
        raise ConfigError(
            f"{snapshot.path.name} is a plan, not an input",
            advice="Apply it, or give the file that was planned.",
        )

    def read() -> Iterator[Batch]:
        with _readable_parquet(snapshot.path.name), pq.ParquetFile(snapshot.open()) as file:
            yield from _arrow_batches(file.iter_batches(batch_size=_ROWS))

    return _of_file(snapshot, "parquet", columns, about.num_rows, read)


def _open_excel(snapshot: FileSnapshot, sheet: str | None) -> InputTable:
    name, columns, batches, warnings = read_workbook(snapshot, sheet)
    rows = sum(batch.size for batch in batches)
    table = _of_file(snapshot, "excel", columns, rows, lambda: iter(batches))
    table.sheet, table.warnings = name, warnings
    return table


def _of_file(
    snapshot: FileSnapshot,
    kind: Format,
    columns: list[str],
    rows: int,
    batches: Callable[[], Iterator[Batch]],
) -> InputTable:
    """The table of a file with about `rows` rows. Raises `InputError` if it is too large."""
    name = snapshot.path.name
    _check_size(name, rows, len(columns))
    return InputTable(name, kind, columns, batches, lambda: snapshot.sha256, path=snapshot.path)


# -- frames --------------------------------------------------------------------------------------------------


def _frame(source: Any) -> pd.DataFrame | pa.Table:
    """The source as a pandas or Arrow frame. Raises `ConfigError` if it is not a table."""
    if isinstance(source, pa.Table) or _is_pandas(source):
        return source
    try:
        if isinstance(source, list) and all(isinstance(row, dict) for row in source):
            import pandas as pd  # noqa: PLC0415  # slow to load, and files do without it

            return pd.DataFrame(source, dtype=object)  # a number next to a gap stays a whole number
        if isinstance(source, pa.RecordBatchReader):
            return _read_stream(source)
        if hasattr(source, "__arrow_c_stream__"):
            return _read_stream(pa.RecordBatchReader.from_stream(source))
        if hasattr(source, "__arrow_c_array__"):
            return pa.table(source)
    except (pa.ArrowException, TypeError, ValueError):  # one column without a name: a Series, an Arrow array
        pass
    except Exception as error:
        if "duckdb" not in type(error).__module__:
            raise
        raise_interrupt(error)
        raise ConfigError(  # DuckDB's message quotes values
            f"The query of the {type(source).__name__} failed: {type(error).__name__}",
            advice="Run the query alone, and give a frame of its result.",
        ) from None
    raise ConfigError(
        f"A {type(source).__name__} is not a table",
        advice='Give a frame with named columns, e.g. frame[["customer_code"]] or series.to_frame(), or a path; '
        "cast types that Arrow lacks, such as polars' Int128.",
    )


def _read_stream(stream: pa.RecordBatchReader) -> pa.Table:
    """All batches of a stream. The size is checked while it is read."""
    batches, rows = [], 0
    for batch in stream:
        rows += batch.num_rows
        _check_size("the frame", rows, batch.num_columns)
        batches.append(batch)
    return pa.Table.from_batches(batches, stream.schema)


def _is_pandas(source: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)


def _copied(frame: pd.DataFrame | pa.Table) -> pd.DataFrame | pa.Table:
    """A deep copy of the frame."""
    if isinstance(frame, pa.Table):  # it may share memory with NumPy arrays
        with pa.BufferOutputStream() as sink:
            with pa.ipc.new_stream(sink, frame.schema) as writer:
                writer.write_table(frame)
            return pa.ipc.open_stream(sink.getvalue()).read_all()
    frame = frame.copy()
    for index in range(frame.shape[1]):
        series = frame.iloc[:, index]
        if series.dtype == object:
            cells = [_copied_cell(c) if isinstance(c, dict | list | np.ndarray) else c for c in series]
            copied: Any = type(series)(cells, frame.index, dtype=object)
            frame.isetitem(index, copied)
    return frame


def _copied_cell(value: Any) -> Any:
    """A deep copy of the value; bytes, which are reported, if it cannot be copied, e.g. because it has an open file."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  # objects inside of it may raise anything
        return b""


def _index_levels(frame: pd.DataFrame) -> tuple[list[pd.Index[Any]], str]:
    """A copy of each level of the index that has a name and is no column; and a hint if a level has no name."""
    index, columns = frame.index, set(map(str, frame.columns))
    levels = [
        index.get_level_values(level).copy(deep=True)
        for level, name in enumerate(index.names)
        if name is not None and str(name) not in columns
    ]
    if None not in index.names or type(index).__name__ == "RangeIndex":
        return levels, ""
    return levels, 'The index has no name and was not read: name it, e.g. frame.rename_axis("customer_code").'


def _frame_batches(frame: pd.DataFrame | pa.Table, levels: Sequence[pd.Index[Any]]) -> Iterator[Batch]:
    if isinstance(frame, pa.Table):
        yield from _arrow_batches(frame.to_batches(max_chunksize=_ROWS))
        return
    for begin in range(0, len(frame), _ROWS):
        part = frame.iloc[begin : begin + _ROWS]
        values = [
            *(level[begin : begin + _ROWS] for level in levels),
            *(part.iloc[:, i] for i in range(part.shape[1])),
        ]
        yield Batch(begin + 1, len(part), list(map(_series_cells, values)))


def _arrow_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[Batch]:
    row = 1
    for source in batches:
        for begin in range(0, source.num_rows, _ROWS):
            part = source.slice(begin, _ROWS)
            yield Batch(row, part.num_rows, [column_cells(column) for column in part.columns])
            row += part.num_rows


def _series_cells(series: pd.Series | pd.Index[Any]) -> Cells:
    # Object columns may mix anything; Arrow would give all dictionaries the keys of all others.
    if series.dtype != object:
        with contextlib.suppress(pa.ArrowException, UnicodeError):
            return column_cells(pa.array(series, from_pandas=True))
    return cells_of(series.tolist())


def _frame_hash(columns: list[str], batches: Iterator[Batch]) -> str:
    """SHA-256 of names and cells. It does not depend on the size of batches."""
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
