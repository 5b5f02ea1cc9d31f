"""Keeps other runs, and other writers of the same DuckDB file, out while a copy is being made."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow.parquet as pq
from dlt.destinations.exceptions import DatabaseException

from paystack_source.errors import AlreadyRunningError
from paystack_source.warehouse.single_writer import enter, leave, lock_dataset, lock_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from dlt.destinations.sql_client import SqlClientBase
    from dlt.pipeline.pipeline import Pipeline

DUCKDB_MEMORY = 120_000_000
"""Bytes that DuckDB may hold; left alone it would take four fifths of the machine as cache."""

_VECTORS = 12 * 2048  # rows that a merge has in its hands at once, over all columns (measured)
_COPIES = 6  # it never needed more than so many times the load (measured)


class Alone:
    """A context manager around a run.

    It holds the locks of `single_writer`; an open connection is DuckDB's own lock, and keeps out everybody else who
    would write into the file between two loads.

    Raises:
        AlreadyRunningError: There is another run with this working folder.

    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lock = contextlib.ExitStack()
        self._connection = contextlib.ExitStack()
        self._client: SqlClientBase[Any] | None = None
        self._settings: list[tuple[str, Any]] = []  # as they were

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            enter(self._pipeline)
            stack.callback(leave, self._pipeline)
            try:
                lock_folder(self._pipeline, wait=False)
            except BlockingIOError:
                advice = _advice(Path(self._pipeline.pipelines_dir))
                raise AlreadyRunningError("Another run of this pipeline is under way.", advice) from None
            lock_dataset(self._pipeline)
            self._connect()
            self._lock = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):  # a database that broke; what broke it is what is to be told
            for name, value in self._settings:
                self._set(name, value)
        self._connection.close()
        self._lock.close()

    def breathe(self) -> None:
        """Between two loads: let DuckDB give its memory back, which it does only when the last connection is gone."""
        if self._client is not None:
            # Closing would do the same work, but hold Python's lock meanwhile, so that nobody reads. Where it cannot
            # be done now, the file's log keeps the rows.
            with contextlib.suppress(DatabaseException):
                self._client.execute_sql("CHECKPOINT")
        self._connection.close()
        self._connect()

    def make_room(self, rows: int, size: int) -> None:
        """Before a load of so many rows and bytes: DuckDB merges in memory, and long metadata needs more of it."""
        self._limit(DUCKDB_MEMORY + _room(rows, size))

    def make_room_for_pending(self) -> None:
        """The same before a load that another run left behind."""
        if self._client is not None:
            self._limit(DUCKDB_MEMORY + max((_room(*load) for load in _pending(self._pipeline)), default=0))

    def _connect(self) -> None:
        destination = self._pipeline.destination
        if destination and destination.destination_name == "duckdb":
            self._client = self._pipeline.sql_client()
            self._connection.enter_context(self._client)  # type: ignore[arg-type]  # dlt: one, though not typed as one
            # They are the whole process's: somebody else's connection to this file has them as well.
            self._settings = self._settings or [
                (name, self._client.execute_sql(f"SELECT current_setting('{name}')")[0][0])  # type: ignore[index]
                for name in ("threads", "memory_limit")
            ]
            self._set("threads", 1)  # each needs a share of the memory; the reader has the others
            self._limit(DUCKDB_MEMORY)

    def _limit(self, size: int) -> None:
        self._set("memory_limit", f"{size}B")

    def _set(self, name: str, value: Any) -> None:  # noqa: ANN401  # as the setting wants it
        if self._client is not None:
            self._client.execute_sql(f"SET {name} = '{value}'")


def _advice(folder: Path) -> str:
    return (
        "Wait for it to end; if it fills the same database, it loads what this one would have loaded. "
        f"If it fills another one, give each a DLT_DATA_DIR of its own: both use {folder} now."
    )


def _room(rows: int, size: int) -> int:
    return min(_VECTORS * size // max(rows, 1), _COPIES * size)


def _pending(pipeline: Pipeline) -> Iterator[tuple[int, int]]:
    """Rows and bytes, as Arrow counts them, of each table that waits in a package."""
    for package in pipeline.list_normalized_load_packages():
        rows: Counter[str] = Counter()
        size: Counter[str] = Counter()
        jobs = pipeline.get_load_package_info(package).jobs
        for job in (job for state in jobs.values() for job in state if job.file_path.endswith(".parquet")):
            # Read, since the files themselves are compressed and hold what is repeated once.
            for batch in pq.ParquetFile(job.file_path).iter_batches(2048):
                rows[job.job_file_info.table_name] += batch.num_rows
                size[job.job_file_info.table_name] += batch.nbytes
        yield from ((rows[table], size[table]) for table in rows)
