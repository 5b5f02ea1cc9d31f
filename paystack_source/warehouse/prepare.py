"""What happens before a run reads anything, at every door: the command, `copy_customers`, and any plain `pipeline.run`.

Loads that were interrupted are finished, and what interrupted or racing loads left wrong in the dataset is repaired.
The locks are held meanwhile (`paystack_source.warehouse.single_writer`).

*Doubled.* A key that a table holds twice: of its rows the newest stays.
*Lost loads.* Customers of a load that dlt never noted as done, because the machine that began it is gone: neither the
history nor the ledger knows of them. They are loaded again, and so are known to both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import dlt
from dlt.common import logger
from dlt.common.schema.utils import get_columns_names_with_prop

from paystack_source.customer import CUSTOMERS
from paystack_source.errors import ConfigError
from paystack_source.extract.details import AUTHORIZATIONS, DETAILS
from paystack_source.extract.ledger import LEDGER
from paystack_source.tables import Table
from paystack_source.values import batches, quoted_text
from paystack_source.warehouse.destinations import (
    MERGED,
    apply_destination_hints,
    rows_to_load,
    source_of,
    table_layout,
)
from paystack_source.warehouse.dlt_quirks import (
    add_schema,
    customers_table,
    delete_loaded_files,
    drop_local_state,
    packages,
    repair_schema,
    restart_interrupted_loads,
    stored_schema,
)
from paystack_source.warehouse.history import HISTORY, complete_history, history_resource
from paystack_source.warehouse.lake import newest_per_key
from paystack_source.warehouse.locations import is_lake
from paystack_source.warehouse.queries import Warehouse
from paystack_source.warehouse.scratch import scratch_database
from paystack_source.warehouse.single_writer import current_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from dlt.common.schema import Schema
    from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
    from dlt.pipeline.pipeline import Pipeline

    from paystack_source.warehouse.queries import SqlNames

SCHEMA_NAME = "paystack"
"""What dlt calls the schema of a source that was not cloned under another name."""

MERGED_BESIDE = (LEDGER.name, HISTORY.name, DETAILS.name, AUTHORIZATIONS.name)
AT_ONCE = 50_000
"""Keys that are repaired by one load."""
_FEW = 1_000


def prepare(pipeline: Pipeline) -> None:
    """Finish what was interrupted, and repair what is wrong; call it while the locks are held."""
    delete_loaded_files(pipeline)
    if _others_loaded_since(pipeline):
        drop_local_state(
            pipeline
        )  # its rows are older than those loaded since; dlt restores its state from the destination
    restore_schema(pipeline)
    repair_schema(pipeline)
    if pipeline.has_pending_data:  # `run` would wipe it if it was the first one
        pipeline.normalize()
        restart_interrupted_loads(pipeline, is_ours)
        pipeline.load()
    for schema in our_schemas(pipeline):
        _repair(pipeline, schema)
    if run := current_run(pipeline):
        run.prepared = True


def restore_schema(pipeline: Pipeline) -> None:
    """On a machine that is new to the dataset: learn what is in it, be it of a load that was never completed."""
    if not pipeline.schemas:
        pipeline.sync_destination()
    if not pipeline.schemas:
        stored = stored_schema(pipeline, SCHEMA_NAME)
        # With a load that was completed there is a state, and a pipeline that does not find it is somebody else's.
        if stored is not None and not _loads_noted(pipeline, stored.loads_table_name, SCHEMA_NAME):
            add_schema(pipeline, stored)


def complete_histories(pipeline: Pipeline, *, begin: bool = False) -> None:
    """Give each history the versions that it lacks, and, with `begin`, a history to a copy that has none."""
    for schema in our_schemas(pipeline):
        if begin or HISTORY.name in schema.tables:
            complete_history(pipeline, schema.name, _hints_of(schema, customers_table(pipeline, schema.name)))


def require_prepared(pipeline: Pipeline) -> None:
    """When a source begins to extract: raise what went wrong when the run was prepared.

    dlt does not tell that a run begins with `enable_runtime_trace=false`, and it does not know the destination yet
    where that is an argument of `pipeline.run`. Nothing was prepared then, and nothing can be loaded now, inside of a
    load. So a dataset that needs repair is refused: rows that are there twice would count as customers who are not
    there.
    """
    run = current_run(pipeline)
    if run is None:
        logger.warning("enable_runtime_trace is off: no lock keeps other runs out of this dataset.")
    elif run.error is not None:
        raise run.error
    else:
        run.lock_dataset()
    if (run is None or not run.prepared) and any(
        _is_damaged(pipeline, schema) for schema in our_schemas(pipeline)
    ):
        raise ConfigError(
            f"The dataset {pipeline.dataset_name} needs repair, and this run cannot repair it",
            advice="Run once by pipeline.run with dlt's runtime trace, and give the destination to dlt.pipeline.",
        )
    delete_loaded_files(pipeline)


def is_ours(schema: Schema) -> bool:
    """Whether loads of this schema write customers, however it is called: `clone` gives a source other names."""
    return any(
        "_last_seen_at" in table["columns"]
        for name, table in schema.tables.items()
        if table.get("resource", name) == CUSTOMERS.name
    )


def our_schemas(pipeline: Pipeline) -> list[Schema]:
    """The schemas that hold a copy of ours."""
    return [schema for schema in pipeline.schemas.values() if is_ours(schema) and "ledger" in schema.tables]


def _others_loaded_since(pipeline: Pipeline) -> bool:
    """Whether another machine has loaded since a load of ours was interrupted here."""
    waiting = [(load, schema) for load, _, schema in packages(pipeline)]
    if not waiting or not all(is_ours(schema) for _, schema in waiting):
        return False
    oldest, schema = waiting[0]
    return any(load > oldest for load in _loads_noted(pipeline, schema.loads_table_name, schema.name))


# -- repair ---------------------------------------------------------------------------------------------------------


def _repair(pipeline: Pipeline, schema: Schema) -> None:
    """Repair what is wrong."""
    for table in MERGED_BESIDE:
        _repair_doubled(pipeline, schema, table)
    customers = customers_table(pipeline, schema.name)
    if customers in schema.tables:
        # Before the doubled ones: a repaired customer is of a load that is noted, and is not found as lost any more.
        for lost in batches(sorted(set(_lost(pipeline, schema))), AT_ONCE):
            _load(pipeline, schema, customers, lost, keys=["id"], history=HISTORY.name in schema.tables)
        _repair_doubled(pipeline, schema, customers)


def _is_damaged(pipeline: Pipeline, schema: Schema) -> bool:
    """Whether there is something to repair. Changes nothing."""
    tables = (*MERGED_BESIDE, customers_table(pipeline, schema.name))
    doubled = any(_doubled(pipeline, schema, table) for table in tables)
    return doubled or bool(_lost(pipeline, schema))


def _repair_doubled(pipeline: Pipeline, schema: Schema, table: str) -> None:
    left = None
    while (wrong := _doubled(pipeline, schema, table)) and (left is None or len(wrong) < left):
        left = len(wrong)
        delta = is_lake(pipeline) and table_layout(pipeline, table).table_format == "delta"
        (_overwrite if delta else _load)(pipeline, schema, table, sorted({key[0] for key in wrong[:AT_ONCE]}))


def _doubled(pipeline: Pipeline, schema: Schema, table: str) -> list[tuple[Any, ...]]:
    """The keys that this table holds twice."""
    keys = _keys(schema, table)
    # Asked of the destination: the schema says what the last run asked for, and one that appended has doubled.
    if not keys or table_layout(pipeline, table).every_version:
        return []  # every version is kept, and the newest counts

    def question(sql: SqlNames) -> str:
        columns = ", ".join(map(sql.col, keys))
        return f"SELECT {columns} FROM {sql.table} GROUP BY {columns} HAVING COUNT(*) > 1"

    return Warehouse(pipeline, table).ask(question)


def _lost(pipeline: Pipeline, schema: Schema) -> list[int]:
    """Customers whose load dlt never noted as done."""
    customers = Warehouse(pipeline, customers_table(pipeline, schema.name))
    loads = customers.ask(lambda sql: f"SELECT DISTINCT {sql.col('_dlt_load_id')} FROM {sql.table}")
    open_ = {load for (load,) in loads if load} - _loads_noted(pipeline, schema.loads_table_name)
    if not open_:
        return []
    of_them = ", ".join(map(_literal, open_))
    lost = customers.ask(
        lambda sql: f"SELECT {sql.col('id')} FROM {sql.table} WHERE {sql.col('_dlt_load_id')} IN ({of_them})"
    )
    return [row[0] for row in lost]


def _loads_noted(pipeline: Pipeline, table: str, schema: str = "") -> set[str]:
    """The loads that dlt noted as done, of one schema or of all."""
    if is_lake(pipeline):
        with pipeline.destination_client() as opened:
            client = cast("FilesystemClient", opened)
            files = client.list_table_files(table) if client.is_storage_initialized() else []
        names = (file.rpartition("/")[2].partition(".jsonl")[0].rpartition("__") for file in files)
        noted = [(load, of) for of, _, load in names]
    else:
        noted = Warehouse(pipeline, table).ask(
            lambda sql: f"SELECT {sql.col('load_id')}, {sql.col('schema_name')} FROM {sql.table}"
        )
    return {load for load, of in noted if schema in {"", of}}


def _load(  # noqa: PLR0913
    pipeline: Pipeline,
    schema: Schema,
    table: str,
    first: Sequence[Any],
    *,
    keys: list[str] | None = None,
    history: bool = False,
) -> None:
    """The newest rows again: what merges them deletes all that there are. `first` begins their keys."""
    keys = keys or _keys(schema, table)
    hints, resource = _hints_of(schema, table), str(schema.tables[table].get("resource", table))

    @dlt.resource(name=resource, table_name=table, primary_key=keys, write_disposition=MERGED, columns=hints)
    def again() -> Iterator[pa.Table]:
        apply_destination_hints(Table(resource, "", tuple(keys), ()), HISTORY)
        for some in batches(first, _FEW):
            yield rows_to_load(_newest(pipeline, table, keys, some))

    found = again()
    pipeline.run(source_of(schema.name, found, *([history_resource(found, hints)] if history else [])))


def _keys(schema: Schema, table: str) -> list[str]:
    return get_columns_names_with_prop(schema.tables[table], "primary_key") if table in schema.tables else []


def _hints_of(schema: Schema, table: str) -> Any:  # noqa: ANN401  # dlt means its own type
    """The columns of a table that is there, as a resource declares them."""
    return {
        name: {key: value for key, value in column.items() if key in {"data_type", "description", "nullable"}}
        for name, column in schema.tables[table]["columns"].items()
    }


def _literal(value: object) -> str:
    return str(int(value)) if isinstance(value, int) else quoted_text(str(value))


def _newest(
    pipeline: Pipeline, table: str, keys: list[str], first: Sequence[Any], *, as_stored: bool = False
) -> pa.Table:
    """One row of each key that begins with one of these values."""
    values = ", ".join(map(_literal, first))
    found = Warehouse(pipeline, table).arrow(
        lambda sql: f"SELECT * FROM {sql.table} WHERE {sql.col(keys[0])} IN ({values})", as_stored=as_stored
    )
    held = cast("pa.Table", found)  # it has doubled rows
    with scratch_database() as memory:
        memory.register("held", held)
        return memory.execute(
            f"SELECT * FROM held{newest_per_key(keys, held.column_names)}"  # names, quoted
        ).to_arrow_table()


def _overwrite(pipeline: Pipeline, schema: Schema, table: str, first: Sequence[Any]) -> None:
    """Delta's merge would update both rows; one commit puts the newest in the place of all."""
    from deltalake import write_deltalake  # noqa: PLC0415  # there only with Delta

    with pipeline.destination_client() as opened:
        delta = cast("FilesystemClient", opened).load_open_table("delta", table)
    keys = _keys(schema, table)
    for some in batches(first, _FEW):
        newest = _newest(pipeline, table, keys, some, as_stored=True)
        columns = [field.name for field in delta.schema().fields]
        values = ", ".join(map(_literal, some))
        write_deltalake(delta, newest.select(columns), mode="overwrite", predicate=f"{keys[0]} IN ({values})")
