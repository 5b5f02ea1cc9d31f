"""The DuckDB file of a run: an open connection locks the file, and DuckDB's memory is limited."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import duckdb
from dlt.destinations.exceptions import DatabaseException, DestinationConnectionError
from dlt.destinations.impl.duckdb.configuration import DuckDbConnectionPool
from dlt.destinations.sql_client import SqlClientBase
from dlt.pipeline.pipeline import Pipeline

from paystack_source.errors import ConfigError
from paystack_source.file_lock import DUCKDB_FILES
from paystack_source.interrupts import end_statement

LOAD_BYTES: Final = 100_000_000
"""A load ends at this size. DuckDB merges in memory, and needs at most six times the load's size (measured)."""

MEMORY_LIMIT: Final = 750_000_000
"""The most bytes that DuckDB may use: six times a load, and some for DuckDB itself.

A full refresh is one load of any size. It fits if a customer has less than 25 kB on average, because a merge works on
about 25,000 rows at a time (measured).
"""

MAGIC: Final = b"DUCK"
"""The bytes 8 to 11 of every DuckDB file."""


class DuckDbFile:
    """A context manager that keeps the file open, and so locked, during a run.

    Only one process can write a DuckDB file. Otherwise another process could open the file between two loads.
    """

    def __init__(self, pipeline: Pipeline, client: SqlClientBase[Any]) -> None:
        self._client = client
        folder = _path(self._client).parent
        if folder.parent == Path(pipeline.pipelines_dir):
            folder.mkdir(exist_ok=True)  # `:pipeline:` may be the folder of a pipeline that never ran
        self._connection = contextlib.ExitStack()
        self._user_settings: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # the database is broken; the first error is raised instead
            self._set(self._user_settings)
        self._connection.close()

    def limit_memory(self) -> None:
        """Use one thread and `MEMORY_LIMIT` until the run ends.

        By default DuckDB uses up to 80 % of the machine's memory as a cache. Each thread needs its own memory, and the
        reader uses the other cores. The settings apply to all connections of the process to this file, so they are
        restored at the end.
        """
        limits = {"threads": 1, "memory_limit": f"{MEMORY_LIMIT}B"}
        self._user_settings = self._user_settings or {
            name: self._execute(f"SELECT current_setting('{name}')")[0][0] for name in limits
        }
        self._set(limits)

    def release_memory(self) -> None:
        """Close and open the file before another load: DuckDB frees memory only when its last connection closes."""
        # Closing makes a checkpoint too, but holds Python's lock, so the reader would wait. If the checkpoint fails,
        # the rows stay in the file's log.
        with contextlib.suppress(DatabaseException):
            self._execute("CHECKPOINT")
        self._connection.close()
        self._connect()
        self.limit_memory()

    def _connect(self) -> None:
        _check_file(self._client)
        with DUCKDB_FILES:
            self._connection.enter_context(self._client)  # type: ignore[arg-type]  # dlt: one, though not typed as one

    def _set(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            self._execute(f"SET {name} = '{value}'")

    def _execute(self, sql: str) -> Any:  # noqa: ANN401  # rows, if it has any
        return self._client.execute_sql(sql)


def require_different_names(file: Path, dataset: str) -> None:
    """Refuse names that DuckDB cannot tell apart: of the dataset, of its staging dataset, and of databases.

    DuckDB names the database as its file, up to the first dot. It ignores case.
    """
    database = file.name.partition(".")[0].lower()
    if database in {dataset, f"{dataset}_staging"}:
        raise ConfigError(
            f"DuckDB cannot tell the dataset {database} from the file {file.name}: to it they have the same name",
            advice="Name another dataset (--dataset NAME, or dataset_name of dlt.pipeline), or another file.",
        )
    if reserved := {"information_schema", "pg_catalog", "system", "temp"} & {dataset}:
        raise ConfigError(
            f"DuckDB reserves the name {reserved.pop()}", advice="Give the dataset another name."
        )


def _path(client: SqlClientBase[Any]) -> Path:
    return Path(str(getattr(client.credentials, "database", "")))


def _check_file(client: SqlClientBase[Any]) -> None:
    """Raise an error if the file is not a DuckDB database, or has a name that DuckDB misreads.

    DuckDB opens a CSV or Parquet file as a view in memory: the run would succeed, and its rows would be lost.
    """
    path = _path(client)
    require_different_names(path, client.dataset_name)
    if "?" in str(path):  # DuckDB would write its log into another file
        raise ConfigError(
            f"DuckDB cannot keep a file with a question mark in its path: {path}.",
            advice="Name another file in DESTINATION__DUCKDB__CREDENTIALS.",
        )
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(12)
    if start[8:] != MAGIC:
        reason = f'"{path}" is not a DuckDB file'
        raise DestinationConnectionError(
            type(client).__name__, client.dataset_name, reason, duckdb.IOException(reason)
        )


def _end_statement_first(return_conn: Callable[..., int]) -> Callable[..., int]:
    """Let dlt end a statement that a Ctrl-C interrupted before it closes the connection, see `end_statement`."""

    @functools.wraps(return_conn)
    def returned(pool: DuckDbConnectionPool, connection: duckdb.DuckDBPyConnection) -> int:
        end_statement(connection)
        return return_conn(pool, connection)

    return returned


DuckDbConnectionPool.return_conn = _end_statement_first(DuckDbConnectionPool.return_conn)  # type: ignore[method-assign]
