"""The warehouse copy of the customers, as the planner looks at it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb

from paystack_source.bulk.plan_file import CopyInfo


class CustomerCopy(Protocol):
    """Something that can show the copy to DuckDB. Build one with `duckdb_copy` or `arrow_copy`."""

    def attach(self, con: duckdb.DuckDBPyConnection, mode: str | None) -> CopyInfo:
        """Makes the view `held` (see `HELD`) in `con`, only customers of key `mode`; says what the copy is."""


def duckdb_copy(path: str | Path, *, dataset: str = "paystack", table: str = "customers") -> CustomerCopy:
    """The copy in a DuckDB file, opened read-only. Raises `ConfigError` if the file or table is not there."""
    raise NotImplementedError


def arrow_copy(
    table: Any, *, as_of: datetime | None = None, destination: str = "dataframe"
) -> CustomerCopy:
    """The copy as anything that Arrow can read (a table, a reader, pandas, polars)."""
    raise NotImplementedError
