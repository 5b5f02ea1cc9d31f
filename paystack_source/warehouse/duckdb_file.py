"""The DuckDB file of a run: an open connection keeps other processes out, and says how much memory DuckDB may use."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import duckdb
from dlt.destinations.exceptions import DatabaseException, DestinationConnectionError

from paystack_source.errors import ConfigError

if TYPE_CHECKING:
    from dlt.destinations.sql_client import SqlClientBase
    from dlt.pipeline.pipeline import Pipeline

LOAD_BYTES: Final = 100_000_000
"""A load ends at so many bytes: DuckDB merges in memory, and never needed more than six times the load (measured)."""

MEMORY_LIMIT: Final = 750_000_000
"""Bytes that DuckDB may hold: six times a load, and what it needs for itself.

A full refresh is one load of any size. It fits as long as a customer has less than 25 kB on average: a merge has
about 25,000 rows in its hands at once (measured).
"""

MAGIC: Final = b"DUCK"
"""The bytes 8 to 11 of every DuckDB file."""


class DuckDbFile:
    """A context manager around a run: the file is open meanwhile.

    DuckDB lets one process write into a file. Without this, another process could come between two loads.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._connection = contextlib.ExitStack()
        self._client: SqlClientBase[Any]
        self._user_settings: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # a database that broke; what broke it is what is to be told
            self._set(self._user_settings)
        self._connection.close()

    def limit_memory(self) -> None:
        """Use one thread and `MEMORY_LIMIT` until the run ends.

        DuckDB alone would take four fifths of the machine as a cache. Each thread needs memory of its own, and the
        reader uses the other cores. The settings are the whole process's: another connection to this file has them
        as well, so at the end they become again what they were.
        """
        limits = {"threads": 1, "memory_limit": f"{MEMORY_LIMIT}B"}
        self._user_settings = self._user_settings or {
            name: self._execute(f"SELECT current_setting('{name}')")[0][0] for name in limits
        }
        self._set(limits)

    def release_memory(self) -> None:
        """Between two loads: DuckDB gives its memory back only when the last connection is closed."""
        # Closing would do the same work, but hold Python's lock meanwhile, so that nobody reads. Where it cannot be
        # done now, the file's log keeps the rows.
        with contextlib.suppress(DatabaseException):
            self._execute("CHECKPOINT")
        self._connection.close()
        self._connect()
        if self._user_settings:
            self.limit_memory()

    def _connect(self) -> None:
        self._client = self._pipeline.sql_client()
        _check_file(self._client)
        self._connection.enter_context(self._client)  # type: ignore[arg-type]  # dlt: one, though not typed as one

    def _set(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            self._execute(f"SET {name} = '{value}'")

    def _execute(self, sql: str) -> Any:  # noqa: ANN401  # rows, if it has any
        return self._client.execute_sql(sql)


def _check_file(client: SqlClientBase[Any]) -> None:
    """Raise an error if DuckDB would take the file for something else than a database, or could not write it.

    A CSV or a Parquet file it opens as a view in memory: all that is loaded then is gone with the run, which succeeds.
    """
    path = Path(str(getattr(client.credentials, "database", "")))
    if "?" in str(path):  # DuckDB would put its log elsewhere
        raise ConfigError(
            f"DuckDB cannot keep a file with a question mark in its path: {path}.",
            advice="DESTINATION__DUCKDB__CREDENTIALS names another.",
        )
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(12)
    if start[8:] != MAGIC:
        reason = f'"{path}" is no DuckDB file'
        raise DestinationConnectionError(
            type(client).__name__, client.dataset_name, reason, duckdb.IOException(reason)
        )
