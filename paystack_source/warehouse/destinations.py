"""What differs between destinations: how a copy is kept there, and how it is read back.

Everything else asks here and stays the same for all of them. Two things differ.

*Keeping.* A database merges: one row per customer. So do Delta tables. Plain Parquet files cannot be merged,
and Iceberg tables only at a price that grows with the table (docs/decisions/iceberg-or-delta.md); there every
load adds rows, and of the rows of one customer the newest counts.

*Reading.* A database is asked in SQL, and so are files (`paystack_source.warehouse.queries`).
"""

from __future__ import annotations

import copy
import importlib.util
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from paystack_source.customer import CUSTOMERS
from paystack_source.errors import ConfigError
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dlt.common.destination import DestinationCapabilitiesContext
    from dlt.common.schema.typing import (
        TLoaderReplaceStrategy,
        TTableFormat,
        TWriteDispositionConfig,
    )
    from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
    from dlt.extract import DltResource, DltSource

    from paystack_source.tables import Table

MERGED: TWriteDispositionConfig = {"disposition": "merge", "strategy": "delete-insert"}
"""What a table with a primary key declares; `apply_destination_hints` makes of it what the destination can do."""

FileFormat: TypeAlias = Literal["parquet"]


@dataclass(frozen=True, slots=True)
class TableLayout:
    """How one destination keeps one table that has a primary key. Made by `table_layout`."""

    write_disposition: TWriteDispositionConfig
    """For dlt: merge by the best strategy that the destination has, or append where it has none."""
    table_format: TTableFormat | None
    """For dlt: `delta`, `iceberg`, or `None` where the question does not arise."""
    file_format: FileFormat | None
    """For dlt: `parquet` where the destination takes it, else `None` and dlt chooses."""
    every_version: bool
    """Whether a key can have several rows, of which the newest counts."""


def merged(table: Table) -> dict[str, Any]:
    """What a resource declares that fills this table; `apply_destination_hints` does the rest."""
    return {
        "name": table.name,
        "primary_key": table.key,
        "write_disposition": MERGED,
        "columns": table.hints,
    }


def source_of(name: str, *resources: DltResource) -> DltSource:
    """A source of these resources. The name says which memory of earlier runs is its own."""

    @dlt.source(name=name, section="paystack")
    def source() -> Any:  # noqa: ANN401  # dlt wants resources
        return resources

    return source()


def table_resource(table: Table, rows: Iterable[pa.Table | None]) -> DltResource:
    """A resource that fills this table with rows that are there."""

    @dlt.resource(**merged(table))
    def filled() -> Iterator[pa.Table | None]:
        apply_destination_hints(table)
        yield from map(rows_to_load, rows)

    return filled


def apply_destination_hints(*tables: Table) -> None:
    """Fit the resources of these tables to the destination that they run into: one of them calls it as it begins.

    Who asks for another write disposition than `MERGED`, or for a table format, by `apply_hints` or
    `pipeline.run`, gets that.
    """
    silence_type_warnings(*(table.name for table in tables))
    pipeline = active_pipeline()
    if pipeline is None:
        return
    resources = dlt.current.source().resources
    for name, description, _, _ in tables:
        resource = resources.get(name)
        if resource is None:
            continue
        hints = resource.compute_table_schema()
        said = hints.get("description") or description
        if hints.get("x-merge-strategy") == "scd2":
            raise ConfigError(
                f"The hint scd2 on {name} would end the versions of customers who are not in a load",
                advice="Leave the hint out, and keep every version in customers_history: "
                "paystack_source(history=True).",
            )
        table = table_of(name)
        if table != name != CUSTOMERS.name:
            raise ConfigError(
                f"The table {name} cannot have another name", advice="Leave out its hint table_name."
            )
        with exclusive_dlt_context():
            layout = table_layout(pipeline, table, lake_format=hints.get("table_format"))
        resource.apply_hints(
            write_disposition=layout.write_disposition if resource.write_disposition == MERGED else None,
            table_format=layout.table_format,
            file_format=layout.file_format,
            additional_table_hints={"description": said} if said else None,
        )


def rows_to_load(rows: pa.Table) -> pa.Table:
    """The rows as they are loaded: with the id of their load, and as the destination can hold them.

    dlt adds the load id only if it is so configured; here every row has it. PostgreSQL has no U+0000 in its
    texts: one such name would fail the whole load, and every later one. It becomes U+FFFD, which stands for such.
    Anything that is no table is returned as it is, and so is everything outside of a load.
    """
    load_id = current_load()
    if not isinstance(rows, pa.Table) or load_id is None:
        return rows
    pipeline = active_pipeline()
    if pipeline is not None and destination_is(pipeline, "postgres", "redshift"):
        rows = _without_nul(rows)
    return rows.append_column("_dlt_load_id", pa.repeat(pa.scalar(load_id, pa.string()), rows.num_rows))


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
    """How `table` is kept in the pipeline's destination.

    Args:
        pipeline: With its destination set; a table that it already knows stays in the format it was begun in.
        table: A table with a primary key.
        lake_format: `parquet`, `delta` or `iceberg`, for files only; else it is looked up as `table_format`
            under `[destination.NAME]` or `[sources.paystack]` in dlt's configuration.

    Raises:
        ConfigError: A format that there is not, or one that contradicts the table that is there.

    """
    if is_lake(pipeline):
        return _layout_of_files(pipeline, table, lake_format)
    capabilities = pipeline.destination.capabilities()
    strategies = capabilities.supported_merge_strategies or ()
    parquet = "parquet" in (capabilities.supported_loader_file_formats or ())
    if parquet and destination_is(pipeline, "postgres"):
        parquet = _copies_parquet(pipeline, table)
    # An upsert would keep what comes twice; delete-insert keeps one of each (docs/decisions/merge-strategy.md).
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
def capabilities_once(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Meanwhile dlt asks once what the pipeline's destination can do.

    It asks ten times a load, and looks up all settings of the destination each time. A destination may be that of
    several pipelines in several threads: whoever ends first takes this off, and the others ask as before.
    """
    destination = pipeline.destination
    ask = type(destination).capabilities
    told: dict[Any, DestinationCapabilitiesContext] = {}

    def capabilities(config: Any = None, naming: Any = None) -> DestinationCapabilitiesContext:  # noqa: ANN401
        if config is not None:
            return ask(destination, config, naming)
        asked_for = type(naming), getattr(naming, "max_length", None)
        if asked_for not in told:
            told[asked_for] = ask(destination, None, naming)
        return copy.copy(told[asked_for])

    destination.capabilities = capabilities  # type: ignore[method-assign]
    try:
        yield
    finally:
        vars(destination).pop("capabilities", None)


def replace_strategy(pipeline: dlt.Pipeline, table: str = "customers") -> TLoaderReplaceStrategy:
    """How dlt replaces a whole table: by a swap, except for plain files, which it can only delete and write anew."""
    plain = is_lake(pipeline) and table_layout(pipeline, table).table_format is None
    return "truncate-and-insert" if plain else "insert-from-staging"


_LAKE_FORMATS = {
    "parquet": ("pyarrow", TableLayout("append", None, "parquet", every_version=True)),
    "delta": (
        "deltalake",
        TableLayout({"disposition": "merge", "strategy": "upsert"}, "delta", "parquet", every_version=False),
    ),
    "iceberg": ("pyiceberg", TableLayout("append", "iceberg", "parquet", every_version=True)),
}
"""By the format of files, the package that it needs, and how tables are kept."""


def _layout_of_files(pipeline: dlt.Pipeline, table: str, asked: str | None) -> TableLayout:
    stored = _stored_format(pipeline, table)
    format_ = _asked_format(pipeline, asked) or stored or "parquet"
    if stored is not None and format_ != stored:
        raise ConfigError(
            f"The table {table} is there as {stored}, and {format_} is asked for",
            advice=f"Set table_format to {stored}, or begin anew with another --dataset.",
        )
    module, layout = _LAKE_FORMATS[format_]
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"The table format {format_} needs the package {module}",
            advice=f'Install it: pip install "paystack-source[{format_}]".',
        )
    return layout


def _asked_format(pipeline: dlt.Pipeline, asked: str | None) -> str | None:
    found: object = asked
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
    """The format of a table that is there, as the schema tells it or else the files; `None` for a new one."""
    if is_loaded(pipeline, table):
        return schema_of(pipeline).tables[table].get("table_format") or "parquet"
    with pipeline.destination_client() as opened:
        client = cast("FilesystemClient", opened)
        folder = client.get_table_dir(table)
        if client.fs_client.exists(folder + "_delta_log"):
            return "delta"
        if client.fs_client.exists(folder + "metadata"):
            return "iceberg"
        return "parquet" if client.fs_client.exists(folder) and client.list_table_files(table) else None


def _copies_parquet(pipeline: dlt.Pipeline, table: str) -> bool:
    """Whether PostgreSQL can take Parquet: the ADBC driver is there, and the table suits it.

    Without the driver dlt loads CSV and makes JSON columns `jsonb`, which the driver cannot write to; so a
    table that was begun without it goes on without it.
    """
    if not all(importlib.util.find_spec(name) for name in ("adbc_driver_manager", "adbc_driver_postgresql")):
        return False
    with pipeline.sql_client() as client:
        found = client.execute_sql(
            "select 1 from information_schema.columns"
            " where table_schema = %s and table_name = %s and data_type = 'jsonb' limit 1",
            pipeline.dataset_name,
            table,
        )
    return not found


def read_table(pipeline: dlt.Pipeline, table: str = "customers", columns: Sequence[str] = ()) -> pa.Table:
    """A whole table as Arrow, one row per customer where it is one of customers; all of it comes into memory.

    On a new machine call `pipeline.sync_destination()` first. Raises `DestinationUndefinedEntity` if there is
    no such table.
    """
    found = Warehouse(pipeline, table).arrow(
        lambda sql: f"SELECT {', '.join(map(sql.col, columns)) or '*'} FROM {sql.table}", as_stored=True
    )
    if found is None:
        raise DestinationUndefinedEntity(table)
    return found
