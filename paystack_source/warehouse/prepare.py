"""Prepares a dataset before a run reads: for the command, `copy_customers`, and any plain `pipeline.run`.

It finishes interrupted loads, and repairs a dataset that interrupted or concurrent loads damaged. The run holds the
locks of `paystack_source.warehouse.single_writer` while this works.

*Duplicate keys.* A table has two rows with one key. The newest row is kept.
*Lost loads.* dlt never recorded a load as complete, because the machine that began it stopped for good. The load's
customers are neither in the history nor in the ledger. They are loaded again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import dlt
import pyarrow as pa
from dlt.common.destination.client import WithStagingDataset, WithStateSync
from dlt.common.exceptions import TerminalException
from dlt.common.schema import Schema, TTableSchema
from dlt.common.schema.utils import get_columns_names_with_prop
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import WithSqlClient
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from paystack_source.customer import CUSTOMERS
from paystack_source.errors import ConfigError
from paystack_source.extract.details import AUTHORIZATIONS, DETAILS
from paystack_source.extract.ledger import LEDGER
from paystack_source.failures import explain, raise_interrupt
from paystack_source.tables import Table
from paystack_source.values import batches, quoted_text
from paystack_source.warehouse.destinations import (
    MERGED,
    apply_destination_hints,
    load,
    own_settings,
    rows_to_load,
    source_of,
    table_layout,
)
from paystack_source.warehouse.dlt_quirks import (
    add_schema,
    customers_table,
    delete_loaded_files,
    drop_local_state,
    has_schema,
    is_aborting,
    pending_packages,
    restart_interrupted_loads,
    stored_schema,
    would_delete_database,
)
from paystack_source.warehouse.history import HISTORY, complete_history, history_resource
from paystack_source.warehouse.lake import newest_per_key
from paystack_source.warehouse.locations import destination_is, is_lake
from paystack_source.warehouse.queries import SqlNames, Warehouse
from paystack_source.warehouse.scratch import scratch_database
from paystack_source.warehouse.single_writer import current_run, sql_client

log = logging.getLogger("paystack_source")
SCHEMA_NAME = "paystack"
"""dlt's name of the source's schema, unless `clone` gave the source another name."""

AT_ONCE = 50_000
"""The most keys that one load repairs."""
_FEW = 1_000
_COMPARED = {"bigint": "bigint", "timestamp": "timestamp with time zone"}
"""By dlt's type, the type in PostgreSQL of columns whose values are compared."""


def prepare(pipeline: Pipeline) -> None:
    """Finish interrupted loads, and repair the dataset. Call it while the run holds its locks."""
    delete_loaded_files(pipeline)
    run = current_run(pipeline)
    if run and run.state_is_foreign:  # dlt restores it from the destination, where it is stored with the rows
        drop_local_state(pipeline)
    if others_loaded_since(pipeline):  # the interrupted load is older, and dlt restores the newer state
        drop_local_state(pipeline)
        log.warning(
            "Another machine has loaded since a load was interrupted here; its customers are read again."
        )
    restore_schema(pipeline)
    repair_schema(pipeline)
    if pipeline.has_pending_data:  # a first `run` would delete it
        try:
            with own_settings(pipeline):
                pipeline.normalize()
                restart_interrupted_loads(pipeline, is_ours)
                pipeline.load()
        except PipelineStepFailed as error:
            _drop_unloadable(pipeline, error)
    _check_types(pipeline)
    for schema in our_schemas(pipeline):
        _repair(pipeline, schema)
    if run:
        run.prepared = True


def _check_types(pipeline: Pipeline) -> None:
    """Refuse a copy in PostgreSQL with a changed column type: ids and times could not be compared."""
    if not destination_is(pipeline, "postgres"):
        return
    columns = Warehouse(pipeline).query(
        lambda _sql: (
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = {quoted_text(sql_client(pipeline).dataset_name)}"
        )
    )
    for schema in our_schemas(pipeline):
        ours = _our_tables(pipeline, schema)
        for table, column, kind in columns:
            if table not in ours or column not in ours[table].hints:
                continue  # a column that the user added
            hints: Mapping[str, Any] = schema.tables.get(table, {}).get("columns", {}).get(column, {})
            wanted = _COMPARED.get(str(hints.get("data_type")), kind)
            if kind != wanted and hints.get("timezone", True):
                raise ConfigError(
                    f"The column {column} of {table} was made {kind}; the copy needs {wanted}",
                    advice="Change it back, or drop the table: the next run reads it again.",
                )


def _drop_unloadable(pipeline: Pipeline, error: PipelineStepFailed) -> None:
    """Drop a pending load that can never succeed, e.g. because of a wrong hint; its customers are read again.

    Raises the error if another attempt may succeed, e.g. after a full disk or a lost permission. It is also raised if
    the load has data of the user's resources, because we cannot read these again.
    """
    raise_interrupt(error)
    failure = explain(error)
    if failure.is_known or not (error.step == "normalize" or isinstance(error.exception, TerminalException)):
        raise error
    try:
        drop_local_state(pipeline)
    except ConfigError:
        raise error from None
    log.warning(
        "A load that was interrupted cannot be loaded (%s); its customers are read again.", failure.error
    )
    restore_schema(pipeline)
    repair_schema(pipeline)


def restore_schema(pipeline: Pipeline) -> None:
    """On a new machine: get the schema from the destination, even that of a first load that never completed."""
    if would_delete_database(pipeline):
        drop_local_state(pipeline)
    if not pipeline.schemas:
        pipeline.sync_destination()
    if not pipeline.schemas and issubclass(pipeline.destination.client_class, WithStateSync):
        with pipeline.destination_client() as client:
            stored = stored_schema(client, SCHEMA_NAME)
        # A completed load also stored a state. If this pipeline does not find it, it is a pipeline of the user's.
        if stored is not None and not completed_loads(pipeline, stored.loads_table_name, SCHEMA_NAME):
            add_schema(pipeline, stored)


def repair_schema(pipeline: Pipeline) -> None:
    """Restore the pipeline's schemas from the destination, and create dropped tables and columns there again.

    dlt does not check whether tables and columns that it created still exist, so each load would fail.
    """
    if not has_schema(pipeline):
        pipeline.sync_destination()
    for schema in pipeline.schemas.values():
        with pipeline.destination_client(schema.name) as client:
            if not isinstance(client, SqlJobClientBase):
                continue
            if client.is_storage_initialized() and _lacks_some(client, schema, *schema.dlt_tables()):
                client.update_stored_schema(force=True)
            if isinstance(client, WithStagingDataset):
                with client.with_staging_dataset():
                    staged = stored_schema(client, schema.name)
                    if staged and _lacks_some(client, staged):  # a load that finds no version creates them
                        client.sql_client.drop_tables(schema.version_table_name)


def _lacks_some(client: SqlJobClientBase, schema: Schema, *tables: TTableSchema) -> bool:
    """Whether the dataset lacks columns of the schema's tables, or of these."""
    wanted = {
        str(table["name"]): {name for name, column in table["columns"].items() if "data_type" in column}
        for table in (*schema.data_tables(seen_data_only=True), *tables)
    }
    return any(wanted[name] - columns.keys() for name, columns in client.get_storage_tables(wanted))


def complete_histories(pipeline: Pipeline, *, begin: bool = False) -> None:
    """Add the versions that each history lacks; with `begin` also create the history of a copy that has none."""
    for schema in our_schemas(pipeline):
        if begin or HISTORY.name in schema.tables:
            complete_history(pipeline, schema.name, _hints_of(schema, customers_table(pipeline, schema.name)))


def require_prepared(pipeline: Pipeline) -> None:
    """Called when a source begins to extract: raises the error of the run's preparation, if it failed.

    With `enable_runtime_trace=false` dlt does not call us when a run begins, and if the destination is an argument of
    `pipeline.run`, dlt does not know it yet. Then nothing was prepared, and a repair cannot be loaded inside of a load.
    So a dataset that needs repair is refused: a duplicate row would count as another customer.
    """
    if not issubclass(pipeline.destination.client_class, WithSqlClient):
        raise ConfigError(
            f"The destination {pipeline.destination.destination_name} cannot be queried, so no copy in it could be"
            " proven complete",
            advice="Load into another one, such as duckdb, and pass the rows on from there.",
        )
    schema = dlt.current.source_schema().name
    if not pipeline.config.use_single_dataset and pipeline.default_schema_name not in {None, schema}:
        raise ConfigError(
            "With use_single_dataset=false the copy would not be in the dataset of the pipeline",
            advice="Give the Paystack source a pipeline of its own.",
        )
    run = current_run(pipeline)
    if run is None:
        log.warning(
            "enable_runtime_trace is off: no lock prevents other runs from writing into this dataset."
        )
    elif run.error is not None:
        raise run.error
    else:
        run.lock_dataset()
        run.read_for = pipeline.dataset_name
    if (run is None or not run.prepared) and any(
        _is_damaged(pipeline, schema) for schema in our_schemas(pipeline)
    ):
        raise ConfigError(
            f"The dataset {pipeline.dataset_name} needs repair, and this run cannot repair it",
            advice="Run once by pipeline.run with dlt's runtime trace, and give the destination to dlt.pipeline.",
        )
    delete_loaded_files(pipeline)


def is_ours(schema: Schema) -> bool:
    """Whether loads of this schema write customers. The name is not enough: `clone` may have changed it."""
    return any(
        "_last_seen_at" in table["columns"]
        for name, table in schema.tables.items()
        if table.get("resource", name) == CUSTOMERS.name
    )


def _our_tables(pipeline: Pipeline, schema: Schema) -> dict[str, Table]:
    """Our tables by their names in this schema; the table of customers is the first."""
    others = (LEDGER, HISTORY, DETAILS, AUTHORIZATIONS)
    return {customers_table(pipeline, schema.name): CUSTOMERS} | {table.name: table for table in others}


def our_schemas(pipeline: Pipeline) -> list[Schema]:
    """The schemas of the pipeline that have a copy of customers."""
    return [schema for schema in pipeline.schemas.values() if is_ours(schema) and "ledger" in schema.tables]


def others_loaded_since(pipeline: Pipeline) -> bool:
    """Whether another machine has loaded after a load was interrupted on this one."""
    pending = [(load, schema) for load, _, schema in pending_packages(pipeline) if is_ours(schema)]
    if not pending:
        return False
    oldest, schema = pending[0]
    return any(load > oldest for load in completed_loads(pipeline, schema.loads_table_name, schema.name))


def is_overtaken(pipeline: Pipeline) -> bool:
    """Whether a `load` would restore values that another machine has replaced since."""
    return others_loaded_since(pipeline) and not is_aborting(pipeline)


def raise_overtaken() -> bool:
    """The check at each step of a load that `is_overtaken` found, in place of the check of its lock."""
    raise ConfigError(
        "Another machine has loaded since these customers were read, so this load would restore old values",
        advice="Call pipeline.run: it drops this load and reads its customers again.",
    )


# -- repair ---------------------------------------------------------------------------------------------------------


def _repair(pipeline: Pipeline, schema: Schema) -> None:
    customers, *others = _our_tables(pipeline, schema)
    for table in others:
        _repair_duplicates(pipeline, schema, table)
    if customers in schema.tables:
        # Lost loads first: the repair of a duplicate customer would hide that its load was lost.
        for lost in batches(sorted(set(_lost_customers(pipeline, schema))), AT_ONCE):
            _load(pipeline, schema, customers, lost, keys=["id"], history=HISTORY.name in schema.tables)
        _repair_duplicates(pipeline, schema, customers)


def _is_damaged(pipeline: Pipeline, schema: Schema) -> bool:
    """Whether the dataset needs repair. Changes nothing."""
    duplicates = any(_duplicate_keys(pipeline, schema, table) for table in _our_tables(pipeline, schema))
    return duplicates or bool(_lost_customers(pipeline, schema))


def _repair_duplicates(pipeline: Pipeline, schema: Schema, table: str) -> None:
    left = None
    while (wrong := _duplicate_keys(pipeline, schema, table)) and (left is None or len(wrong) < left):
        left = len(wrong)
        delta = is_lake(pipeline) and table_layout(pipeline, table).table_format == "delta"
        (_overwrite if delta else _load)(pipeline, schema, table, sorted({key[0] for key in wrong[:AT_ONCE]}))


def _duplicate_keys(pipeline: Pipeline, schema: Schema, table: str) -> list[tuple[Any, ...]]:
    """The keys with two or more rows in this table; for the history also customers with two open versions."""
    keys = _keys(schema, table)
    if not keys:
        return []

    def statement(sql: SqlNames, keys: list[str] = keys, where: str = "") -> str:
        columns = ", ".join(map(sql.col, keys))
        return f"SELECT {columns} FROM {sql.table}{where} GROUP BY {columns} HAVING COUNT(*) > 1"

    held, found = Warehouse(pipeline, table), []
    # The schema has the write disposition of the last run, perhaps `append`; so the destination decides.
    if not table_layout(pipeline, table).every_version:  # else readers take the newest row of each key
        found = held.query(statement)
    if table == HISTORY.name:  # two concurrent loads left both versions open
        found += held.query(lambda sql: statement(sql, keys[:1], f" WHERE {sql.col('_valid_to')} IS NULL"))
    return found


def _lost_customers(pipeline: Pipeline, schema: Schema) -> list[int]:
    """The ids of customers whose load dlt never recorded as complete."""
    customers = Warehouse(pipeline, customers_table(pipeline, schema.name))
    loads = customers.query(lambda sql: f"SELECT DISTINCT {sql.col('_dlt_load_id')} FROM {sql.table}")
    open_ = {load for (load,) in loads if load} - completed_loads(pipeline, schema.loads_table_name)
    if not open_:
        return []
    ids = ", ".join(map(_literal, open_))
    lost = customers.query(
        lambda sql: f"SELECT {sql.col('id')} FROM {sql.table} WHERE {sql.col('_dlt_load_id')} IN ({ids})"
    )
    return [row[0] for row in lost]


def completed_loads(pipeline: Pipeline, table: str, schema: str = "") -> set[str]:
    """The ids of loads that dlt recorded as complete, of one schema or of all."""
    if is_lake(pipeline):
        with pipeline.destination_client() as opened:
            client = cast("FilesystemClient", opened)
            files = client.list_table_files(table) if client.is_storage_initialized() else []
        names = (file.rpartition("/")[2].partition(".jsonl")[0].rpartition("__") for file in files)
        completed = [(load, of) for of, _, load in names]
    else:
        completed = Warehouse(pipeline, table).query(
            lambda sql: f"SELECT {sql.col('load_id')}, {sql.col('schema_name')} FROM {sql.table}"
        )
    return {load for load, of in completed if schema in {"", of}}


def _load(  # noqa: PLR0913
    pipeline: Pipeline,
    schema: Schema,
    table: str,
    first: Sequence[Any],
    *,
    keys: list[str] | None = None,
    history: bool = False,
) -> None:
    """Load the newest row of each key again, so that the merge deletes the others. `first`: each key's first value."""
    keys = keys or _keys(schema, table)
    hints, resource = _hints_of(schema, table), str(schema.tables[table].get("resource", table))

    @dlt.resource(name=resource, table_name=table, primary_key=keys, write_disposition=MERGED, columns=hints)
    def again() -> Iterator[pa.Table]:
        apply_destination_hints(Table(resource, "", tuple(keys), ()), HISTORY)
        for some in batches(first, _FEW):
            yield rows_to_load(_newest(pipeline, table, keys, some))

    found = again()
    load(pipeline, source_of(schema.name, found, *([history_resource(found, hints)] if history else [])))


def _keys(schema: Schema, table: str) -> list[str]:
    return get_columns_names_with_prop(schema.tables[table], "primary_key") if table in schema.tables else []


def _hints_of(schema: Schema, table: str) -> Any:  # noqa: ANN401  # dlt's own type
    """The columns of an existing table, as a resource declares them."""
    return {
        name: {key: value for key, value in column.items() if key in {"data_type", "description", "nullable"}}
        for name, column in schema.tables[table]["columns"].items()
    }


def _literal(value: object) -> str:
    return str(int(value)) if isinstance(value, int) else quoted_text(str(value))


def _newest(
    pipeline: Pipeline, table: str, keys: list[str], first: Sequence[Any], *, as_stored: bool = False
) -> pa.Table:
    """The newest row of each key that begins with one of these values."""
    values = ", ".join(map(_literal, first))
    found = Warehouse(pipeline, table).arrow(
        lambda sql: f"SELECT * FROM {sql.table} WHERE {sql.col(keys[0])} IN ({values})", as_stored=as_stored
    )
    held = cast("pa.Table", found)  # the table exists
    with scratch_database() as memory:
        memory.register("held", held)
        newest = f"SELECT * FROM held{newest_per_key(keys, held.column_names)}"  # names, quoted
        if table == HISTORY.name:
            ends = "coalesce(_valid_to, lead(_valid_from) OVER (PARTITION BY id ORDER BY _valid_from))"
            newest = f"SELECT * REPLACE ({ends} AS _valid_to) FROM ({newest})"
        return memory.execute(newest).to_arrow_table()


def _overwrite(pipeline: Pipeline, schema: Schema, table: str, first: Sequence[Any]) -> None:
    """Replace the rows of these keys with the newest ones, in one commit. Delta's merge would update both rows."""
    from deltalake import write_deltalake  # noqa: PLC0415  # installed only with Delta

    with pipeline.destination_client(schema.name) as opened:
        delta = cast("FilesystemClient", opened).load_open_table("delta", table)
    keys = _keys(schema, table)
    for some in batches(first, _FEW):
        newest = _newest(pipeline, table, keys, some, as_stored=True)
        columns = [field.name for field in delta.schema().fields]
        values = ", ".join(map(_literal, some))
        write_deltalake(delta, newest.select(columns), mode="overwrite", predicate=f"{keys[0]} IN ({values})")
