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

DUCKDB_MEMORY = "150MB"
"""What DuckDB may hold; left alone it would take four fifths of the machine as cache. A merge needs less."""


class AlreadyRunningError(Exception):
    """Another run works on the same pipeline."""

    exit_code = 1
    message = "Another run of this pipeline is under way."
    advice = "Wait for it to end; it loads what this one would have loaded."


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

    def __enter__(self) -> Self:
        folder = Path(self._pipeline.pipelines_dir)
        folder.mkdir(parents=True, exist_ok=True)
        file = self._lock.enter_context((folder / f"{self._pipeline.pipeline_name}.lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise AlreadyRunningError from None
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

    def _connect(self) -> None:
        destination = self._pipeline.destination
        if destination and destination.destination_name == "duckdb":
            client: SqlClientBase[Any] = self._pipeline.sql_client()
            self._connection.enter_context(client)  # type: ignore[arg-type]  # dlt: one, though not typed as one
            client.execute_sql(f"SET memory_limit = '{DUCKDB_MEMORY}'")
            client.execute_sql("SET threads = 1")  # each thread needs a share of that memory
