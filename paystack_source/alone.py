"""Keeps other runs, and other writers of the same DuckDB file, out while a copy is being made."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

    from dlt.destinations.sql_client import SqlClientBase
    from dlt.pipeline.pipeline import Pipeline

DUCKDB_MEMORY = 120_000_000
"""Bytes that DuckDB may hold; left alone it would take four fifths of the machine as cache."""

_VECTORS = 12 * 2048  # rows that a merge has in its hands at once, over all columns (measured)
_COPIES = 6  # it never needed more than so many times the load (measured)


class AlreadyRunningError(Exception):
    """Another run works on the same pipeline."""

    exit_code = 1
    message = "Another run of this pipeline is under way."

    def __init__(self, folder: Path) -> None:
        super().__init__(self.message)
        self.advice = (
            "Wait for it to end; if it fills the same database, it loads what this one would have loaded. "
            f"If it fills another one, give each a DLT_DATA_DIR of its own: both use {folder} now."
        )


class Alone:
    """A context manager around a run.

    A lock file in the pipeline's working folder keeps out other runs that share it; an open connection is DuckDB's own
    lock, and keeps out everybody else who would write into the file between two loads.

    Raises:
        AlreadyRunningError: There is another run with this working folder.

    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lock = contextlib.ExitStack()
        self._connection = contextlib.ExitStack()
        self._client: SqlClientBase[Any] | None = None

    def __enter__(self) -> Self:
        folder = Path(self._pipeline.pipelines_dir)
        folder.mkdir(parents=True, exist_ok=True)
        file = self._lock.enter_context((folder / f"{self._pipeline.pipeline_name}.lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise AlreadyRunningError(folder) from None
        try:
            self._connect()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._lock.close()

    def breathe(self) -> None:
        """Between two loads: let DuckDB give its memory back, which it does only when the last connection is gone."""
        self._connection.close()
        self._connect()

    def make_room(self, rows: int, size: int) -> None:
        """Before a load of so many rows and bytes: DuckDB merges in memory, and long metadata needs more of it."""
        self._limit(DUCKDB_MEMORY + min(_VECTORS * size // max(rows, 1), _COPIES * size))

    def _connect(self) -> None:
        destination = self._pipeline.destination
        if destination and destination.destination_name == "duckdb":
            self._client = self._pipeline.sql_client()
            self._connection.enter_context(self._client)  # type: ignore[arg-type]  # dlt: one, though not typed as one
            self._client.execute_sql(
                "SET threads = 1"
            )  # each needs a share of the memory; the reader has the others
            self._limit(DUCKDB_MEMORY)

    def _limit(self, size: int) -> None:
        if self._client is not None:
            self._client.execute_sql(f"SET memory_limit = '{size}B'")
