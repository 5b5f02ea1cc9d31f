"""How each destination stores a table: merged by key, or with every version of a row.

Databases and Delta tables merge rows, so there is one row per customer. Plain Parquet files cannot be merged, and
merging Iceberg tables costs more the larger the table is (docs/decisions/iceberg-or-delta.md). There every load adds
rows, and readers take the newest row of each customer.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.destination.utils import resolve_replace_strategy
from dlt.common.libs import is_pandas_frame
from dlt.common.schema.typing import TSchemaContractDict, TTableFormat, TTableSchema, TWriteDispositionConfig
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
from dlt.extract import DltResource, DltSource

from paystack_source.customer import CUSTOMERS
from paystack_source.errors import ConfigError
from paystack_source.tables import Table
from paystack_source.warehouse.dlt_quirks import (
    active_pipeline,
    current_load,
    exclusive_dlt_context,
    is_loaded,
    schema_of,
    silence_type_warnings,
    table_of,
)
from paystack_source.warehouse.locations import destination_is, is_lake
from paystack_source.warehouse.queries import Warehouse
from paystack_source.warehouse.single_writer import sql_client

MERGED: TWriteDispositionConfig = {"disposition": "merge", "strategy": "delete-insert"}
"""The write disposition of a table with a primary key; `apply_destination_hints` adapts it to the destination."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """How one destination stores a table with a primary key. Made by `table_layout`."""

    write_disposition: TWriteDispositionConfig
    """dlt's: merge by the best strategy of the destination, or append if it has none."""
    table_format: TTableFormat | None
    """dlt's: `delta`, `iceberg`, or `None` for plain files and databases."""
    file_format: Literal["parquet"] | None
    """dlt's: `parquet` if the destination takes it, else `None`, and dlt chooses."""
    every_version: bool
    """Whether a key can have several rows; then readers take the newest one."""


def merged(table: Table) -> dict[str, Any]:
    """The arguments of `dlt.resource` for this table; `apply_destination_hints` adapts them to the destination."""
    return {
        "name": table.name,
        "primary_key": table.key,
        "write_disposition": MERGED,
        "columns": table.hints,
    }


def source_of(name: str, *resources: DltResource) -> DltSource:
    """A source of these resources. dlt stores the state of earlier runs under its name."""

    @dlt.source(name=name, section="paystack")
    def source() -> Any:  # noqa: ANN401  # dlt wants resources
        return resources

    return source()


@contextmanager
def own_settings(pipeline: dlt.Pipeline) -> Iterator[None]:
    """In this context dlt loads without two settings of the user's own run.

    `refresh` of the pipeline would drop the tables again. And dlt's signal handler delays a Ctrl-C while dlt loads, and
    forgets it if the load then ends, so the run would go on.
    """
    runtime = pipeline.runtime_config
    refresh, pipeline.refresh = pipeline.refresh, None
    intercepts, runtime.intercept_signals = runtime.intercept_signals, False
    try:
        yield
    finally:
        pipeline.refresh, runtime.intercept_signals = refresh, intercepts


def load(pipeline: dlt.Pipeline, data: DltSource | DltResource | list[DltResource]) -> None:
    """Load data with `pipeline.run`."""
    with own_settings(pipeline):
        pipeline.run(data)


def table_resource(table: Table, rows: Iterable[pa.Table | None]) -> DltResource:
    """A resource that loads rows into a table."""

    @dlt.resource(**merged(table))
    def filled() -> Iterator[pa.Table | None]:
        apply_destination_hints(table)
        yield from map(rows_to_load, rows)

    return filled


def apply_destination_hints(*tables: Table) -> None:
    """Adapt the resources of these tables to the destination of the active pipeline.

    The first resource of a load calls it. A write disposition or a table format that the user sets by
    `apply_hints` or `pipeline.run` is kept.
    """
    silence_type_warnings(*(table.name for table in tables))
    pipeline = active_pipeline()
    if pipeline is None:
        return
    resources = dlt.current.source().resources
    for declared in tables:
        name, description = declared.name, declared.description
        resource = resources.get(name)
        if resource is None:
            continue
        hints = resource.compute_table_schema()
        description = hints.get("description") or description
        if hints.get("x-merge-strategy") == "scd2":
            raise ConfigError(
                f"The hint scd2 on {name} would end the versions of all customers who are not in a load",
                advice="Leave the hint out, and keep every version in customers_history: "
                "paystack_source(history=True).",
            )
        table = table_of(name)
        contract = dlt.current.source_schema().resolve_contract_settings_for_table(table, hints)
        _check_hints(declared, hints, contract, text_fits=not destination_is(pipeline, "postgres"))
        if table != name != CUSTOMERS.name:
            raise ConfigError(
                f"The table {name} cannot have another name", advice="Leave out its hint table_name."
            )
        require_own_table(pipeline, declared, table)
        with exclusive_dlt_context():
            layout = table_layout(pipeline, table, lake_format=hints.get("table_format"))
            if hints["write_disposition"] == "replace":
                _check_replacement(pipeline, {**hints, "table_format": layout.table_format})
        resource.apply_hints(
            write_disposition=layout.write_disposition if resource.write_disposition == MERGED else None,
            table_format=layout.table_format,
            file_format=layout.file_format,
            additional_table_hints={"description": description} if description else None,
        )


_MARKS = frozenset({"_last_seen_at", "fetched_at"})
"""Columns that show that a table is ours, beside its key."""


def require_own_table(pipeline: dlt.Pipeline, declared: Table, table: str) -> None:
    """Refuse a table of the same name that somebody else made: a load would change their rows, or replace them."""
    marks = {*declared.key, *(_MARKS & {column.name for column in declared.columns})}
    with exclusive_dlt_context():
        known = [
            schema.tables[table]["columns"] for schema in pipeline.schemas.values() if table in schema.tables
        ]
    if any(marks <= set(columns) for columns in known):
        return
    found = Warehouse(pipeline, table).column_names()
    if found is not None and not marks <= found:
        raise ConfigError(
            f"The dataset {pipeline.dataset_name} has a table {table} of somebody else's",
            advice="Load into another dataset: --dataset NAME; in Python dlt.pipeline(..., dataset_name=NAME).",
        )


def _check_replacement(pipeline: dlt.Pipeline, hints: Any) -> None:  # noqa: ANN401  # dlt's own type
    """Refuse a setting by which dlt cannot replace this table. dlt would notice it only when it loads."""
    strategy = getattr(pipeline.destination_client().config, "replace_strategy", None)
    if strategy and not resolve_replace_strategy(hints, strategy, pipeline.destination.capabilities()):
        raise ConfigError(
            f"This destination cannot replace a table by the replace_strategy {strategy}",
            advice="Set another replace_strategy of the destination, or leave the setting out.",
        )


def _check_hints(
    table: Table, hints: TTableSchema, contract: TSchemaContractDict, *, text_fits: bool
) -> None:
    """Refuse user hints that would store rows of this table twice, wrongly or not at all.

    Any column may be text, but PostgreSQL neither loads nor compares numbers and times as text (`text_fits`).
    """
    columns, ours = hints["columns"], table.hints
    keys = {name for name, column in columns.items() if column.get("primary_key")}
    as_text = {name for name, column in ours.items() if text_fits or column["data_type"] == "json"}
    wrong = [
        f"data_type of {name}"
        for name, column in columns.items()
        if name in ours
        and column.get("data_type")
        not in {None, ours[name]["data_type"], "text" if name in as_text else None}
    ]
    # A customer's code is unique too.
    if keys not in ([{"customer_code"}] if table is CUSTOMERS else []) + [set(table.key)]:
        wrong.append("primary_key")
    # dlt's `incremental` filters out older customers, also those that were read again.
    wrong += [
        hint for hint in ("merge_key", "incremental") if any(column.get(hint) for column in columns.values())
    ]
    if hints.get("write_disposition") == "skip" or hints.get("x-merge-strategy") == "insert-only":
        wrong.append("write_disposition")
    # dlt does not report what it discards. `freeze` fails the run; a column that nobody has yet may be left out.
    wrong += [
        f"schema_contract {mode} for {entity}"
        for entity, mode in contract.items()
        if mode == "discard_row" or (mode == "discard_value" and entity != "columns")
    ]
    if wrong:
        raise ConfigError(
            f"With the hint {wrong[0]} the table {table.name} could not be kept up to date",
            advice="Leave this hint out of apply_hints and pipeline.run.",
        )


def rows_to_load(rows: pa.Table) -> pa.Table:
    """The rows with the column `_dlt_load_id`, and with values that the destination can store.

    dlt adds the load id only if it is configured to; here every row has it. PostgreSQL cannot store U+0000 in a text:
    one such name would fail this load and every later one. It becomes U+FFFD, the replacement character. Values that
    are not tables, and tables outside of a load, are returned unchanged.
    """
    load_id = current_load()
    if not isinstance(rows, pa.Table) or load_id is None:
        return rows
    pipeline = active_pipeline()
    if pipeline is not None and destination_is(pipeline, "postgres", "redshift"):
        rows = _without_nul(rows)
    return rows.append_column("_dlt_load_id", pa.repeat(pa.scalar(load_id, pa.string()), rows.num_rows))


def arrow_rows(rows: Any) -> pa.Table | None:  # noqa: ANN401  # whatever a map returned
    """The rows of `customers` as Arrow, after the user's maps; None if there are none.

    dlt stores dictionaries in another way: with a column `_dlt_id` that is never null. So no Arrow table could be
    loaded after them.
    """
    if is_pandas_frame(rows):
        rows = rows.reset_index(drop=True)
    if hasattr(rows, "__arrow_c_stream__"):
        table = pa.table(rows)
        texts = {field.name: pa.string() for field in table.schema if "string" in str(field.type)}
        return table.cast(
            pa.schema([field.with_type(texts.get(field.name, field.type)) for field in table.schema])
        )
    if rows:
        raise ConfigError(
            "A map on customers made dictionaries of the table",
            advice="Let it return an Arrow table, or a pandas or polars frame.",
        )
    return None


def _without_nul(rows: pa.Table) -> pa.Table:
    for index, field in enumerate(rows.schema):
        if pa.types.is_string(field.type):
            column = rows.column(index)
            if pc.any(pc.match_substring(column, "\0")).as_py():
                rows = rows.set_column(index, field, pc.replace_substring(column, "\0", "\ufffd"))
    return rows


def table_layout(
    pipeline: dlt.Pipeline, table: str = "customers", *, lake_format: str | None = None
) -> TableLayout:
    """How the pipeline's destination stores `table`, which has a primary key. An existing table keeps its format.

    `lake_format` is `parquet`, `delta` or `iceberg`, for files only. None: `table_format` under `[destination.NAME]` or
    `[sources.paystack]` in dlt's configuration. Raises `ConfigError` if the format is unknown, contradicts the existing
    table, or needs a package that is not installed.
    """
    if is_lake(pipeline):
        return _layout_of_files(pipeline, table, lake_format)
    capabilities = pipeline.destination.capabilities()
    strategies = capabilities.supported_merge_strategies or ()
    parquet = "parquet" in (capabilities.supported_loader_file_formats or ())
    if parquet and destination_is(pipeline, "postgres"):
        parquet = _copies_parquet(pipeline, table)
    # If a key is staged twice, upsert keeps both rows, and delete-insert one (docs/decisions/merge-strategy.md).
    strategy: Literal["upsert", "delete-insert"] = (
        "delete-insert" if "delete-insert" in strategies else "upsert"
    )
    return TableLayout(
        {"disposition": "merge", "strategy": strategy},
        table_format=None,
        file_format="parquet" if parquet else None,
        every_version=False,
    )


@contextmanager
def cached_capabilities(pipeline: dlt.Pipeline) -> Iterator[None]:
    """In this context dlt computes the capabilities of the pipeline's destination once.

    dlt does it ten times a load, and reads all settings of the destination each time. Pipelines in several threads
    may share a destination: the first one that ends removes the cache, and the others go on without it.
    """
    destination = pipeline.destination
    compute = type(destination).capabilities
    cache: dict[Any, DestinationCapabilitiesContext] = {}

    def capabilities(config: Any = None, naming: Any = None) -> DestinationCapabilitiesContext:  # noqa: ANN401
        if config is not None:
            return compute(destination, config, naming)
        cache_key = type(naming), getattr(naming, "max_length", None)
        if cache_key not in cache:
            cache[cache_key] = compute(destination, None, naming)
        return copy.copy(cache[cache_key])

    destination.capabilities = capabilities  # type: ignore[method-assign]
    try:
        yield
    finally:
        vars(destination).pop("capabilities", None)


def replace_by_swap(pipeline: dlt.Pipeline) -> None:
    """Make dlt replace a table of this pipeline only after the new one is loaded. Plain files can only be deleted."""
    plain = is_lake(pipeline) and table_layout(pipeline).table_format is None
    strategy = "truncate-and-insert" if plain else "insert-from-staging"
    dlt.config[f"{pipeline.pipeline_name}.destination.replace_strategy"] = strategy


_LAKE_FORMATS = {
    "parquet": ("pyarrow", TableLayout("append", None, "parquet", every_version=True)),
    "delta": (
        "deltalake",
        TableLayout({"disposition": "merge", "strategy": "upsert"}, "delta", "parquet", every_version=False),
    ),
    "iceberg": ("pyiceberg", TableLayout("append", "iceberg", "parquet", every_version=True)),
}
"""By table format, the package that it needs, and the layout of its tables."""


def _layout_of_files(pipeline: dlt.Pipeline, table: str, requested: str | None) -> TableLayout:
    stored = _stored_format(pipeline, table)
    format_ = _requested_format(pipeline, requested) or stored or "parquet"
    if stored is not None and format_ != stored:
        raise ConfigError(
            f"The table {table} exists in the format {stored}, and {format_} was asked for",
            advice=f"Set table_format to {stored}, or use another --dataset.",
        )
    module, layout = _LAKE_FORMATS[format_]
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"The table format {format_} needs the package {module}",
            advice=f'Install it: pip install "paystack-source[{format_}]".',
        )
    url = str(getattr(pipeline.destination_client().config, "bucket_url", ""))
    if format_ == "iceberg" and "%" in url:  # pyiceberg takes the quoted name for the folder's own
        raise ConfigError(
            f"Iceberg tables cannot be in a folder with spaces or special characters in its path: {url}",
            advice="Use a folder with another path, or the table format delta.",
        )
    return layout


def _requested_format(pipeline: dlt.Pipeline, requested: str | None) -> str | None:
    found: object = requested
    for section in (f"destination.{pipeline.destination.destination_name}", "sources.paystack"):
        found = found or dlt.config.get(f"{section}.table_format")
    text = str(found or "").strip().lower()
    if found and text not in _LAKE_FORMATS:
        raise ConfigError(
            f"There is no table format {text[:20]!r}",
            advice=f"Set table_format to {', '.join(_LAKE_FORMATS)}.",
        )
    return text or None


def _stored_format(pipeline: dlt.Pipeline, table: str) -> str | None:
    """The format of an existing table, from dlt's schema or else from its files; `None` for a new table."""
    if (schema := schema_of(pipeline, table)) and is_loaded(pipeline, table):
        return schema.tables[table].get("table_format") or "parquet"
    with pipeline.destination_client() as opened:
        client = cast("FilesystemClient", opened)
        folder = client.get_table_dir(table)
        if client.fs_client.exists(folder + "_delta_log"):
            return "delta"
        if client.fs_client.exists(folder + "metadata"):
            return "iceberg"
        return "parquet" if client.fs_client.exists(folder) and client.list_table_files(table) else None


def _copies_parquet(pipeline: dlt.Pipeline, table: str) -> bool:
    """Whether dlt can load Parquet into PostgreSQL: with the ADBC driver, and if the table has no `jsonb` column.

    Without the driver dlt loads CSV and creates JSON columns as `jsonb`, which the driver cannot write. So a table that
    was created without the driver is loaded without it.
    """
    if not all(importlib.util.find_spec(name) for name in ("adbc_driver_manager", "adbc_driver_postgresql")):
        return False
    with sql_client(pipeline) as client:
        found = client.execute_sql(
            "select 1 from information_schema.columns"
            " where table_schema = %s and table_name = %s and data_type = 'jsonb' limit 1",
            client.dataset_name,
            table,
        )
    return not found


def read_table(pipeline: dlt.Pipeline, table: str = "customers", columns: Sequence[str] = ()) -> pa.Table:
    """Read a whole table into memory as Arrow, with one row per primary key on every destination.

    `columns` are the columns to read; if empty, all are read. JSON is text. On a new machine call
    `pipeline.sync_destination()` first. Raises `DestinationUndefinedEntity` if there is no such table.
    """
    found = Warehouse(pipeline, table).arrow(
        lambda sql: f"SELECT {', '.join(map(sql.col, columns)) or '*'} FROM {sql.table}", as_stored=True
    )
    if found is None:
        raise DestinationUndefinedEntity(table)
    return found
