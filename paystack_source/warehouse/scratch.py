"""A DuckDB in memory for queries of Arrow tables. It stores nothing."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from paystack_source.interrupts import closed_at_end


@contextmanager
def scratch_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A new connection, in UTC. Its registered tables and temporary views end with it.

    All connections share one database, because opening a database takes 25 ms.
    """
    with closed_at_end(_database(os.getpid()).cursor()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@functools.cache
def _database(_process: int) -> duckdb.DuckDBPyConnection:
    """One database per process: a forked process lacks the threads of its parent's database."""
    return duckdb.connect()
