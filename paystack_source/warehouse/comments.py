"""Writes the descriptions in dlt's schema into DuckDB and PostgreSQL, as comments on tables and columns.

At the end of each run one query compares them, and those that differ are written; in PostgreSQL only of tables that the
role owns, because only the owner may. dlt itself writes them in BigQuery, Databricks and Snowflake. Files have no
comments.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from dlt.common.schema import Schema
from dlt.destinations.sql_client import SqlClientBase
from dlt.pipeline.pipeline import Pipeline

from paystack_source.failures import raise_interrupt
from paystack_source.values import quoted_name, quoted_text
from paystack_source.warehouse.locations import destination_is
from paystack_source.warehouse.single_writer import sql_client

log = logging.getLogger("paystack_source")
_DUCKDB = """
SELECT table_name, NULL, comment FROM duckdb_tables()
WHERE schema_name = {dataset} AND database_name = current_database()
UNION ALL SELECT table_name, column_name, comment FROM duckdb_columns()
WHERE schema_name = {dataset} AND database_name = current_database()
"""
_POSTGRES = """
SELECT c.relname, a.attname, CASE WHEN a.attname IS NULL THEN obj_description(c.oid, 'pg_class')
                             ELSE col_description(c.oid, a.attnum) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT NULL AS attname, 0 AS attnum UNION ALL
                    SELECT attname, attnum FROM pg_attribute
                    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a
WHERE n.nspname = {dataset} AND c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')
"""
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"
"""PostgreSQL cannot comment on a table while it is being vacuumed."""


def write_comments(pipeline: Pipeline, schemas: Iterable[Schema]) -> None:
    """Write the descriptions of these schemas' tables. An error is logged as a warning and does not fail the run."""
    postgres = destination_is(pipeline, "postgres")
    if not destination_is(pipeline, "postgres", "duckdb"):
        return
    try:
        with sql_client(pipeline) as client:
            query = (_POSTGRES if postgres else _DUCKDB).format(dataset=quoted_text(client.dataset_name))
            rows = client.execute_sql(query) or ()
            there = {(table, column): text or "" for table, column, text in rows}
            new = [
                f"COMMENT ON {named} IS {quoted_text(text)}"
                for schema in schemas
                for table, column, named, text in _descriptions(client, schema)
                if text and there.get((table, column), text) != text
            ]
            if new:
                with client.begin_transaction():
                    client.execute_many([_LOCK_TIMEOUT, *new] if postgres else new)
    except Exception as error:  # noqa: BLE001  # the rows are loaded already
        raise_interrupt(error)
        log.warning(
            "The descriptions of tables and columns could not be written into %s: %s",
            pipeline.dataset_name,
            (str(error).strip() or type(error).__name__).splitlines()[0],
        )


def _descriptions(client: SqlClientBase[Any], schema: Schema) -> Iterator[tuple[str, str | None, str, str]]:
    """Table, column (None for the table itself), its name in SQL, and its description."""
    for table in schema.data_tables(seen_data_only=True):
        name = str(table["name"])
        qualified = client.make_qualified_table_name(name)
        yield name, None, f"TABLE {qualified}", table.get("description") or ""
        for column, hints in table["columns"].items():
            yield name, column, f"COLUMN {qualified}.{quoted_name(column)}", hints.get("description") or ""
