"""Prepares a dataset before a run reads: for the command, `copy_customers`, and any plain `pipeline.run`.

It finishes interrupted loads, and repairs a dataset that interrupted or concurrent loads damaged. The locks are held
meanwhile (`paystack_source.warehouse.single_writer`).

*Doubled keys.* A table has two rows of one key: the newest row stays.
*Lost loads.* dlt never recorded a load as done, because the machine that began it is gone. Its customers are neither in
the history nor in the ledger. They are loaded again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import dlt
from dlt.common.destination.client import WithStateSync
from dlt.common.exceptions import TerminalException
from dlt.common.schema.utils import get_columns_names_with_prop
from dlt.pipeline.exceptions import PipelineStepFailed

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
from paystack_source.warehouse.locations import destination_is, is_lake
from paystack_source.warehouse.queries import Warehouse
from paystack_source.warehouse.scratch import scratch_database
from paystack_source.warehouse.single_writer import current_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from dlt.common.schema import Schema
    from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
    from dlt.pipeline.pipeline import Pipeline

    from paystack_source.warehouse.queries import SqlNames

log = logging.getLogger("paystack_source")
SCHEMA_NAME = "paystack"
"""dlt's name of the schema of a source that was not cloned under another name."""

AT_ONCE = 50_000
"""How many keys one load repairs."""
_FEW = 1_000
_COMPARED = {"bigint": "bigint", "timestamp": "timestamp with time zone"}
"""The types of PostgreSQL for the types of dlt whose values the copy compares."""


def prepare(pipeline: Pipeline) -> None:
    """Finish interrupted loads, and repair the dataset; call it while the locks are held."""
    delete_loaded_files(pipeline)
    if others_loaded_since(pipeline):  # the interrupted load is older, and dlt restores the newer state
        log.warning(
            "Another machine has loaded since a load was interrupted here; its customers are read again."
        )
        drop_local_state(pipeline)
    restore_schema(pipeline)
    repair_schema(pipeline)
    if pipeline.has_pending_data:  # a first `run` would delete it
        try:
            pipeline.normalize()
            restart_interrupted_loads(pipeline, is_ours)
            pipeline.load()
        except PipelineStepFailed as error:
            _drop_unloadable(pipeline, error)
    _check_types(pipeline)
    for schema in our_schemas(pipeline):
        _repair(pipeline, schema)
    if run := current_run(pipeline):
        run.prepared = True


def _check_types(pipeline: Pipeline) -> None:
    """Refuse a copy in PostgreSQL with a column whose type was changed: ids and times could not be compared."""
    if not destination_is(pipeline, "postgres"):
        return
    columns = Warehouse(pipeline).ask(
        lambda _sql: (
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = {quoted_text(pipeline.dataset_name)}"
        )
    )
    for schema in our_schemas(pipeline):
        ours = _our_tables(pipeline, schema)
        for table, column, kind in columns:
            if table not in ours or column not in ours[table].hints:
                continue  # a column of the user's may have any type
            known: Mapping[str, Any] = schema.tables.get(table, {}).get("columns", {}).get(column, {})
            wanted = _COMPARED.get(str(known.get("data_type")), kind)
            if kind != wanted and known.get("timezone", True):
                raise ConfigError(
                    f"The column {column} of {table} was made {kind}; the copy needs {wanted}",
                    advice="Change it back, or drop the table: the next run reads it again.",
                )


def _drop_unloadable(pipeline: Pipeline, error: PipelineStepFailed) -> None:
    """Drop a pending load that can never be loaded, as with a hint that does not fit; its customers are read again.

    Raises the error if a further attempt may succeed, as after a full disk or a lost permission. What a resource of
    the user's gave may never come again: such a load is theirs to drop.
    """
    raise_interrupt(error)
    failure = explain(error)
    terminal = error.step == "normalize" or isinstance(error.exception, TerminalException)
    only_ours = all(
        is_ours(schema)
        and all(
            str(table["name"]) in _our_tables(pipeline, schema)
            for table in schema.data_tables(include_incomplete=True)
        )
        for schema in pipeline.schemas.values()
    )
    if failure.is_known or not (terminal and only_ours):
        raise error
    log.warning(
        "A load that was interrupted cannot be loaded (%s); its customers are read again.", failure.error
    )
    drop_local_state(pipeline)
    restore_schema(pipeline)
    repair_schema(pipeline)


def restore_schema(pipeline: Pipeline) -> None:
    """On a new machine: get the schema from the destination, also one of a first load that was never completed."""
    if not pipeline.schemas:
        pipeline.sync_destination()
    if not pipeline.schemas and issubclass(pipeline.destination.client_class, WithStateSync):
        stored = stored_schema(pipeline, SCHEMA_NAME)
        # A completed load stored a state as well. A pipeline that does not find that state is another user's.
        if stored is not None and not _loads_noted(pipeline, stored.loads_table_name, SCHEMA_NAME):
            add_schema(pipeline, stored)


def complete_histories(pipeline: Pipeline, *, begin: bool = False) -> None:
    """Add the versions that each history lacks; with `begin` also make a history for a copy that has none."""
    for schema in our_schemas(pipeline):
        if begin or HISTORY.name in schema.tables:
            complete_history(pipeline, schema.name, _hints_of(schema, customers_table(pipeline, schema.name)))


def require_prepared(pipeline: Pipeline) -> None:
    """Called when a source begins to extract: raise the error of the run's preparation, if it failed.

    With `enable_runtime_trace=false` dlt does not tell that a run begins, and if the destination is an argument of
    `pipeline.run`, dlt does not know it yet. Then nothing was prepared, and a repair cannot be loaded inside of a load.
    So a dataset that needs repair is refused: a doubled row would be counted as another customer.
    """
    run = current_run(pipeline)
    if run is None:
        log.warning("enable_runtime_trace is off: no lock keeps other runs out of this dataset.")
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
    """Whether loads of this schema write customers. Its name does not tell: `clone` gives a source another one."""
    return any(
        "_last_seen_at" in table["columns"]
        for name, table in schema.tables.items()
        if table.get("resource", name) == CUSTOMERS.name
    )


def _our_tables(pipeline: Pipeline, schema: Schema) -> dict[str, Table]:
    """Our tables by their names in this schema, the customers first."""
    beside = (LEDGER, HISTORY, DETAILS, AUTHORIZATIONS)
    return {customers_table(pipeline, schema.name): CUSTOMERS} | {table.name: table for table in beside}


def our_schemas(pipeline: Pipeline) -> list[Schema]:
    """The schemas of the pipeline that have a copy of customers."""
    return [schema for schema in pipeline.schemas.values() if is_ours(schema) and "ledger" in schema.tables]


def others_loaded_since(pipeline: Pipeline) -> bool:
    """Whether another machine has loaded since a load was interrupted on this one."""
    waiting = [(load, schema) for load, _, schema in packages(pipeline)]
    if not waiting or not all(is_ours(schema) for _, schema in waiting):
        return False
    oldest, schema = waiting[0]
    return any(load > oldest for load in _loads_noted(pipeline, schema.loads_table_name, schema.name))


def overtaken() -> bool:
    """Called at each step of such a load, as the check of its lock."""
    raise ConfigError(
        "Another machine has loaded since these customers were read: they would put old values back",
        advice="Call pipeline.run: it drops this load, and reads again.",
    )


# -- repair ---------------------------------------------------------------------------------------------------------


def _repair(pipeline: Pipeline, schema: Schema) -> None:
    customers, *beside = _our_tables(pipeline, schema)
    for table in beside:
        _repair_doubled(pipeline, schema, table)
    if customers in schema.tables:
        # Before the doubled ones: the repair of a doubled customer would hide that its load was lost.
        for lost in batches(sorted(set(_lost(pipeline, schema))), AT_ONCE):
            _load(pipeline, schema, customers, lost, keys=["id"], history=HISTORY.name in schema.tables)
        _repair_doubled(pipeline, schema, customers)


def _is_damaged(pipeline: Pipeline, schema: Schema) -> bool:
    """Whether there is something to repair. Changes nothing."""
    doubled = any(_doubled(pipeline, schema, table) for table in _our_tables(pipeline, schema))
    return doubled or bool(_lost(pipeline, schema))


def _repair_doubled(pipeline: Pipeline, schema: Schema, table: str) -> None:
    left = None
    while (wrong := _doubled(pipeline, schema, table)) and (left is None or len(wrong) < left):
        left = len(wrong)
        delta = is_lake(pipeline) and table_layout(pipeline, table).table_format == "delta"
        (_overwrite if delta else _load)(pipeline, schema, table, sorted({key[0] for key in wrong[:AT_ONCE]}))


def _doubled(pipeline: Pipeline, schema: Schema, table: str) -> list[tuple[Any, ...]]:
    """The keys of which this table has two rows or more; of the history also customers with two open versions."""
    keys = _keys(schema, table)
    if not keys:
        return []

    def question(sql: SqlNames, keys: list[str] = keys, where: str = "") -> str:
        columns = ", ".join(map(sql.col, keys))
        return f"SELECT {columns} FROM {sql.table}{where} GROUP BY {columns} HAVING COUNT(*) > 1"

    held, found = Warehouse(pipeline, table), []
    # By the destination, not by the schema: the schema has the write disposition of the last run, perhaps `append`.
    if not table_layout(pipeline, table).every_version:  # else every version is kept, and the newest counts
        found = held.ask(question)
    if table == HISTORY.name:  # two loads that did not see each other's versions left both open
        found += held.ask(lambda sql: question(sql, keys[:1], f" WHERE {sql.col('_valid_to')} IS NULL"))
    return found


def _lost(pipeline: Pipeline, schema: Schema) -> list[int]:
    """The ids of customers whose load dlt never recorded as done."""
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
    """The ids of loads that dlt recorded as done, of one schema or of all."""
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
    """Load the newest row of each key again: the merge deletes the others. `first` are the keys' first values."""
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


def _hints_of(schema: Schema, table: str) -> Any:  # noqa: ANN401  # dlt means its own type
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
    held = cast("pa.Table", found)  # it has doubled rows
    with scratch_database() as memory:
        memory.register("held", held)
        newest = f"SELECT * FROM held{newest_per_key(keys, held.column_names)}"  # names, quoted
        if table == HISTORY.name:
            ends = "coalesce(_valid_to, lead(_valid_from) OVER (PARTITION BY id ORDER BY _valid_from))"
            newest = f"SELECT * REPLACE ({ends} AS _valid_to) FROM ({newest})"
        return memory.execute(newest).to_arrow_table()


def _overwrite(pipeline: Pipeline, schema: Schema, table: str, first: Sequence[Any]) -> None:
    """Replace the rows of these keys by the newest ones, in one commit: Delta's merge would update both rows."""
    from deltalake import write_deltalake  # noqa: PLC0415  # there only with Delta

    with pipeline.destination_client() as opened:
        delta = cast("FilesystemClient", opened).load_open_table("delta", table)
    keys = _keys(schema, table)
    for some in batches(first, _FEW):
        newest = _newest(pipeline, table, keys, some, as_stored=True)
        columns = [field.name for field in delta.schema().fields]
        values = ", ".join(map(_literal, some))
        write_deltalake(delta, newest.select(columns), mode="overwrite", predicate=f"{keys[0]} IN ({values})")
