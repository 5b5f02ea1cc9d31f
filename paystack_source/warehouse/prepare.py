"""What happens before a run reads anything, at every door: the command, `copy_customers`, and any plain `pipeline.run`.

Loads that were interrupted are finished, and what is wrong in the dataset is repaired. The locks are held meanwhile
(`paystack_source.warehouse.single_writer`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlt.common import logger

from paystack_source.customer import CUSTOMERS
from paystack_source.errors import ConfigError
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
from paystack_source.warehouse.history import HISTORY, complete_history
from paystack_source.warehouse.repair import hints_of, is_damaged, loads_noted, repair
from paystack_source.warehouse.single_writer import current_run

if TYPE_CHECKING:
    from dlt.common.schema import Schema
    from dlt.pipeline.pipeline import Pipeline


SCHEMA_NAME = "paystack"
"""What dlt calls the schema of a source that was not cloned under another name."""


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
        repair(pipeline, schema)
    if run := current_run(pipeline):
        run.prepared = True


def restore_schema(pipeline: Pipeline) -> None:
    """On a machine that is new to the dataset: learn what is in it, be it of a load that was never completed."""
    if not pipeline.schemas:
        pipeline.sync_destination()
    if not pipeline.schemas:
        stored = stored_schema(pipeline, SCHEMA_NAME)
        # With a load that was completed there is a state, and a pipeline that does not find it is somebody else's.
        if stored is not None and not loads_noted(pipeline, stored.loads_table_name, SCHEMA_NAME):
            add_schema(pipeline, stored)


def complete_histories(pipeline: Pipeline, *, begin: bool = False) -> None:
    """Give each history the versions that it lacks, and, with `begin`, a history to a copy that has none."""
    for schema in our_schemas(pipeline):
        if begin or HISTORY.name in schema.tables:
            complete_history(pipeline, schema.name, hints_of(schema, customers_table(pipeline, schema.name)))


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
        is_damaged(pipeline, schema) for schema in our_schemas(pipeline)
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
    return any(load > oldest for load in loads_noted(pipeline, schema.loads_table_name, schema.name))
