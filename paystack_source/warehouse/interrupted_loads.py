"""Loads that an interrupted run left behind: each is begun again at its beginning.

dlt would go on where it stopped. It empties its staging tables only when it begins a load, so a job that was killed
after its rows were there, and before dlt had noted it, would bring them a second time. From the beginning all jobs
come to the same as if nothing had happened: merged and replaced tables because their staging tables are emptied,
appended tables (dlt's own state is one) because the rows of this load are deleted first. What can be neither stays
as dlt left it. Measured with dlt 1.31, whose names of files and folders these are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlt.common.schema import Schema
from dlt.common.schema.utils import get_columns_names_with_prop, get_nested_tables, get_root_table
from dlt.common.storages.load_package import PackageStorage, ParsedLoadJobFileName
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlt.destinations.sql_client import SqlClientBase
    from dlt.pipeline.pipeline import Pipeline

_MADE_BY_JOBS = {".sql", ".reference"}
"""Jobs that dlt makes once others are done."""

_LOAD_ID = "_dlt_load_id"


def is_ours(schema: Schema) -> bool:
    """Whether loads of this schema write customers, however it is called: `clone` gives a source other names."""
    return "_last_seen_at" in schema.tables.get("customers", {}).get("columns", {})


def begin_anew(pipeline: Pipeline) -> None:
    """Put what was begun to be loaded back to where its load begins; for destinations that are databases."""
    for load in pipeline.list_normalized_load_packages():
        package = Path(pipeline.get_load_package_info(load).package_path)
        schema = schema_of(package)
        if not is_ours(schema) or not _was_begun(package):
            continue
        with pipeline.destination_client(schema.name) as client:
            if isinstance(client, SqlJobClientBase):
                _put_back(package, schema, load, client.sql_client)


def _put_back(package: Path, schema: Schema, load: str, client: SqlClientBase[Any]) -> None:
    jobs = [job for job in package.glob("*_jobs/*") if job.parent.name != PackageStorage.FAILED_JOBS_FOLDER]
    roots = {job: str(get_root_table(schema.tables, _table(job))["name"]) for job in jobs}
    appended = {root for root in roots.values() if _appended(schema, root)}
    deletable = {root for root in appended if _rows_have_their_load(schema, root)}
    _delete(client, [*((table, _LOAD_ID) for table in deletable), (schema.loads_table_name, "load_id")], load)
    done = package / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME
    if done.exists():
        done.replace(package / PackageStorage.SCHEMA_UPDATES_FILE_NAME)  # what dlt begins a load by
    for job, root in roots.items():
        if root in appended - deletable:
            continue
        for note in package.glob(f"{PackageStorage.PENDING_TRANSITIONS_FOLDER}/{job.name}*"):
            note.unlink()
        if job.suffix in _MADE_BY_JOBS:
            job.unlink()
        else:
            job.replace(package / PackageStorage.NEW_JOBS_FOLDER / job.name)


def _was_begun(package: Path) -> bool:
    return (package / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME).exists() or any(
        job.parent.name in {PackageStorage.STARTED_JOBS_FOLDER, PackageStorage.COMPLETED_JOBS_FOLDER}
        for job in package.glob("*_jobs/*")
    )


def schema_of(package: Path) -> Schema:
    """The schema of a package that waits to be loaded."""
    return Schema.from_stored_schema(
        json.loads((package / PackageStorage.SCHEMA_FILE_NAME).read_text(encoding="utf-8"))
    )


def _table(job: Path) -> str:
    return ParsedLoadJobFileName.parse(job.name).table_name


def _appended(schema: Schema, root: str) -> bool:
    table = schema.tables[root]
    keys = [get_columns_names_with_prop(table, key) for key in ("primary_key", "merge_key")]
    return table.get("write_disposition") == "append" or (
        table.get("write_disposition") == "merge" and not any(keys)  # dlt appends then
    )


def _rows_have_their_load(schema: Schema, root: str) -> bool:
    alone = len(get_nested_tables(schema.tables, root)) == 1
    return alone and _LOAD_ID in schema.tables[root]["columns"]


def _delete(client: SqlClientBase[Any], tables: Iterable[tuple[str, str]], load: str) -> None:
    for table, column in tables:
        try:
            client.execute_sql(
                f"DELETE FROM {client.make_qualified_table_name(table)}"  # names, quoted
                f" WHERE {client.escape_column_name(column)} = %s",
                load,
            )
        except DatabaseUndefinedRelation:
            continue
