"""What happens before a run reads anything, at every door: the command, and any `pipeline.run` of a source of ours.

Who else writes is waited for, what was interrupted is finished, what is wrong in the dataset is mended. dlt tells us
that a run begins and ends through `TRACKING_MODULES`, where it takes modules that want to know. dlt only logs an error
that such a module raises, so the error is kept, and `customers` raises it when it begins to extract: `insist`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common import logger
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.pipeline import trace

from paystack_source.warehouse.destinations import is_lake, mend, reading
from paystack_source.warehouse.history import HISTORY, begin_history
from paystack_source.warehouse.interrupted_loads import begin_anew, is_ours, schema_of
from paystack_source.warehouse.repair import hints_of, loads_noted, repair
from paystack_source.warehouse.single_writer import (
    enter,
    insist_on_locks,
    leave,
    lock_dataset,
    lock_folder,
    run_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlt.pipeline.pipeline import Pipeline


SCHEMA = "paystack"
"""What dlt calls the schema of a source that was not cloned under another name."""


def prepare(pipeline: Pipeline, before_pending: Callable[[], None] = lambda: None) -> None:
    """Finish what was interrupted, and mend what is wrong; call it while the locks are held.

    `before_pending` is called before a load that was interrupted goes on.
    """
    leave_nothing_behind(pipeline)
    if _overtaken(pipeline):
        pipeline.drop()  # its rows are older than those loaded since; dlt restores its state from the destination
    adopt(pipeline)
    mend(pipeline)
    if pipeline.has_pending_data:  # `run` would wipe it if it was the first one
        pipeline.normalize()
        begin_anew(pipeline)
        before_pending()
        pipeline.load()
    for schema in list(_ours(pipeline)):
        repair(pipeline, schema)
        if HISTORY in schema.tables:
            begin_history(pipeline, hints_of(schema, "customers"), only_if_behind=True, name=schema.name)


def insist(pipeline: Pipeline) -> None:
    """When a source begins to extract: raise what went wrong when the run was prepared.

    With `enable_runtime_trace=false` dlt does not tell that a run begins. There nothing was prepared and nobody else is
    kept out; a warning says so.
    """
    run = run_of(pipeline)
    if run is None:
        logger.warning(
            "enable_runtime_trace is off: this run holds no lock, and does not mend what earlier loads left."
        )
    elif run.error is not None:
        raise run.error
    else:
        lock_dataset(pipeline)
        insist_on_locks(pipeline)
    leave_nothing_behind(pipeline)


def leave_nothing_behind(pipeline: Pipeline) -> None:
    """Let no customer stay in dlt's folder or in the staging dataset once a load is done, nor those of older loads.

    dlt keeps both unless told otherwise. What its configuration says of it, for all pipelines or for this one, wins.
    """
    name, keeps = pipeline.pipeline_name, "load.delete_completed_jobs"
    for setting in (keeps, "load.truncate_staging_dataset"):
        if all(dlt.config.get(path) is None for path in (setting, f"{name}.{setting}")):
            dlt.config[f"{name}.{setting}"] = True
    said = dlt.config.get(f"{name}.{keeps}", bool)
    if dlt.config.get(keeps, bool) if said is None else said:
        # dlt itself never looks at older packages again, nor at the failed jobs of one that was given up.
        for package in {
            job.parent.parent for job in Path(pipeline.working_dir).glob("load/loaded/*/*_jobs/*")
        }:
            shutil.rmtree(package, ignore_errors=True)


def _ours(pipeline: Pipeline) -> Iterator[Schema]:
    return (schema for schema in pipeline.schemas.values() if is_ours(schema) and "ledger" in schema.tables)


def _overtaken(pipeline: Pipeline) -> bool:
    """Whether another machine has loaded since a load of ours was interrupted here."""
    packages = [
        (load, schema_of(Path(pipeline.get_load_package_info(load).package_path)))
        for load in pipeline.list_normalized_load_packages()
    ]
    if not packages or not all(is_ours(schema) for _, schema in packages):
        return False
    oldest, schema = packages[0]
    if is_lake(pipeline):
        return any(load > oldest for load in loads_noted(pipeline, schema.loads_table_name, schema.name))
    try:
        with reading(pipeline) as client:
            loads = client.make_qualified_table_name(schema.loads_table_name)
            names = {name: client.escape_column_name(name) for name in ("load_id", "schema_name")}
            question = (
                f"SELECT COUNT(*) FROM {loads} WHERE {names['load_id']} > '{oldest}'"  # names, quoted
                f" AND {names['schema_name']} = '{schema.name}'"
            )
            with client.execute_query(question) as cursor:
                return bool(cursor.fetchall()[0][0])
    except (DatabaseUndefinedRelation, DestinationUndefinedEntity):
        return False


class Watch:
    """Tells dlt's runs apart: those of ours are prepared and locked. dlt logs what fails here, and goes on."""

    sources_made = False
    """Whether a source of ours was made in this process."""

    def on_start_trace(self, _trace: object, step: str, pipeline: Pipeline) -> None:
        """The outermost call of a pipeline begins."""
        outermost = enter(pipeline)
        if outermost and pipeline.destination and (self.sources_made or any(_ours(pipeline))):
            try:
                self._begin(step, pipeline)
            except Exception as error:
                if run := run_of(pipeline):
                    run.error = error
                raise

    @staticmethod
    def _begin(step: str, pipeline: Pipeline) -> None:
        lock_folder(pipeline)
        if step == "run":
            pipeline.activate()
        # What a new pipeline is for is not known yet: it may be ours, and it learns what is there once it is alone.
        may_be_ours = not pipeline.schemas or any(_ours(pipeline))
        if step in {"run", "load"} and may_be_ours:
            lock_dataset(pipeline)
        if step == "run" and may_be_ours:
            if pipeline.config.restore_from_destination and not pipeline.dev_mode:
                adopt(pipeline)
            if any(_ours(pipeline)):
                prepare(pipeline)

    def on_start_trace_step(self, _trace: object, step: str, pipeline: Pipeline) -> None:
        """A stage begins."""
        if step == "load" and pipeline.destination:
            begin_anew(pipeline)

    def on_end_trace_step(self, *_: object) -> None:
        """A stage is over."""

    def on_end_trace(self, _trace: object, pipeline: Pipeline, *_: object) -> None:
        """The outermost call is over."""
        leave(pipeline)


def adopt(pipeline: Pipeline) -> None:
    """On a machine that is new to the dataset: learn what is in it, be it of a load that was never completed."""
    if not pipeline.schemas:
        pipeline.sync_destination()
    if not pipeline.schemas:
        with pipeline.destination_client() as client:
            stored = client.get_stored_schema(SCHEMA) if client.is_storage_initialized() else None  # type: ignore[attr-defined]
        # With a load that was completed there is a state, and a pipeline that does not find it is somebody else's.
        if stored is not None and not loads_noted(pipeline, "_dlt_loads", SCHEMA):
            pipeline._inject_schema(Schema.from_stored_schema(json.loads(stored.schema)))  # noqa: SLF001


WATCH: Any = Watch()
if WATCH not in trace.TRACKING_MODULES:
    trace.TRACKING_MODULES.append(WATCH)
