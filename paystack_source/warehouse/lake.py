"""Reads a copy in files: Parquet, Delta or Iceberg tables, in a folder or a bucket.

The library of each format opens the files as Arrow, and a DuckDB in memory queries them. dlt's own reader is not used:
for Delta, Iceberg and S3 it downloads DuckDB extensions.

In Parquet and Iceberg tables every load adds rows (see `paystack_source.warehouse.destinations`). This reader returns
only the newest row of each primary key.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self, TypeAlias, cast

import dlt
import duckdb
import pyarrow as pa
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema.utils import get_columns_names_with_prop
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient

from paystack_source.errors import ConfigError
from paystack_source.values import quoted_name
from paystack_source.warehouse.dlt_quirks import schema_of
from paystack_source.warehouse.scratch import scratch_database

ArrowRows: TypeAlias = Any
"""A pyarrow dataset or table; pyarrow has no type hints."""

_AGE = {
    "_valid_to": "_valid_to nulls last",  # a version with an end is newer than the same version without
    "_changed_at": "_changed_at desc nulls last",  # grows with each change, also if a clock was ahead before
    "_last_seen_at": "greatest(_last_seen_at, _missing_since) desc nulls last",
    "_dlt_load_id": "try_cast(_dlt_load_id as double) desc nulls last",
    "updated_at": "updated_at desc nulls last",
    "rows_held_after": "rows_held_after desc nulls last",  # an entry of the ledger is completed after the load
}
"""By column, the SQL order that puts the newest row of a key first: by its last change, last read and load."""


def newest_per_key(keys: Sequence[str], columns: Collection[str]) -> str:
    """The QUALIFY clause for DuckDB that keeps only the newest row of each key of a table with these columns."""
    order = ", ".join(age for column, age in _AGE.items() if column in columns) or "1"
    key = ", ".join(map(quoted_name, keys))
    return f" QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {order}) = 1"


class LakeReader:
    """The methods of a dlt SQL client that `queries` needs, for files. Naming a table opens it.

    Use one reader for many queries: dlt takes 25 ms to read the settings of a destination.
    """

    def __init__(self, pipeline: dlt.Pipeline) -> None:
        self._pipeline = pipeline
        self._clients: dict[str, FilesystemClient] = {}
        self._stack = ExitStack()
        self.capabilities = DestinationCapabilitiesContext.generic_capabilities()

    def __enter__(self) -> Self:
        self._memory = self._stack.enter_context(scratch_database())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    escape_column_name = staticmethod(quoted_name)

    def make_qualified_table_name(self, table: str) -> str:
        """Create a view of the table and return its name. Raises `DestinationUndefinedEntity` for a missing table."""
        client = self._client_of(table)
        merged = client.is_open_table("delta", table)
        if merged:
            rows = client.load_open_table("delta", table).to_pyarrow_dataset()
        elif client.is_open_table("iceberg", table):
            # A client caches the table as it was when first opened.
            with self._pipeline.destination_client(client.schema.name) as fresh:
                rows = _iceberg(cast("FilesystemClient", fresh), table)
        else:
            rows = _parquet(client, table)
        name, every = quoted_name(table), quoted_name(f"every version of {table}")
        self._memory.register(f"every version of {table}", rows)
        texts = []
        if merged:
            # With `||` DuckDB compares the texts itself. Delta's merge writes Arrow's `string_view`, which pyarrow 26
            # cannot compare with a `string`, so a query for one customer code would fail.
            names = [quoted_name(field.name) for field in rows.schema if str(field.type).endswith("string")]
            texts = [f"{text} || '' as {text}" for text in names]
        columns = f"* replace ({', '.join(texts)})" if texts else "*"
        view = f"create or replace temp view {name} as select {columns} from {every}"  # names, quoted
        keys = [] if merged else get_columns_names_with_prop(client.schema.tables[table], "primary_key")
        if keys:
            view += newest_per_key(keys, rows.schema.names)
        self._memory.execute(view)
        return name

    def _client_of(self, table: str) -> FilesystemClient:
        """A client with the schema that has this table. Raises `DestinationUndefinedEntity` if none has it."""
        schema = schema_of(self._pipeline, table)
        if schema is None:
            raise DestinationUndefinedEntity(table)
        if schema.name not in self._clients:
            with self._pipeline.destination_client(schema.name) as client:
                self._clients[schema.name] = cast("FilesystemClient", client)
        return self._clients[schema.name]

    @contextmanager
    def execute_query(self, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """Query tables that `make_qualified_table_name` opened."""
        yield self._memory.execute(sql)


def columns_in_files(pipeline: dlt.Pipeline, table: str) -> set[str] | None:
    """The columns of a table that dlt may not know, from its files; None if there are no files."""
    from pyarrow import parquet  # noqa: PLC0415  # slow, and only here

    with pipeline.destination_client() as opened:
        client = cast("FilesystemClient", opened)
        storage = client.fs_client
        files = storage.find(client.get_table_dir(table))
        rows = next((file for file in files if file.endswith(".parquet")), None)
        if rows is None:
            return set() if files else None
        with storage.open(rows) as opened_file:
            return {name.lower() for name in parquet.read_schema(opened_file).names}


def _parquet(client: FilesystemClient, table: str) -> ArrowRows:
    from dlt.common.libs.pyarrow import columns_to_arrow  # noqa: PLC0415  # slow, and only here

    files = client.list_table_files(table)
    if not files:
        raise DestinationUndefinedEntity(table)
    # Older files lack columns that were added later. So the schema is dlt's, not that of the first file.
    columns = client.schema.tables[table]["columns"]
    return _files(client, files, columns_to_arrow(columns, client.capabilities, "UTC"))


def _iceberg(client: FilesystemClient, table: str) -> ArrowRows:
    """Raises `ConfigError` for a table that was moved or copied: loads would write into the former folder."""
    opened = client.load_open_table("iceberg", table)
    here, made = client.get_table_dir(table, remote=True), opened.location()
    if len({os.path.realpath(client.fs_client._strip_protocol(each)) for each in (here, made)}) > 1:  # noqa: SLF001
        raise ConfigError(
            f"The Iceberg table {table} in {here} was moved or copied from {made}",
            advice="Iceberg tables name their files by full paths: put it back where it was, or load into another "
            "folder or dataset.",
        )
    scan = opened.scan()
    parts = list(scan.plan_files())
    if not parts or any(part.delete_files for part in parts):
        return scan.to_arrow()
    # DuckDB reads plain files only as far as a query needs; the library would read all of them into memory.
    return _files(client, [part.file.file_path for part in parts], scan.projection().as_arrow())


def _files(client: FilesystemClient, files: list[str], schema: pa.Schema) -> ArrowRows:
    from pyarrow import dataset  # noqa: PLC0415  # slow, and only here

    bare = [str(client.fs_client._strip_protocol(file)) for file in files]  # noqa: SLF001  # fsspec has no other
    return dataset.dataset(bare, schema=schema, format="parquet", filesystem=client.fs_client)
