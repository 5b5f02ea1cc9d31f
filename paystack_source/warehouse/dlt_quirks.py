"""All uses of dlt's private names, files and switches are in this module.

They work with dlt 1.31.0. After an update of dlt look here first: each docstring describes what dlt does and why that
has to be changed.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import dlt
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
from dlt.common.pipeline import LoadInfo, PipelineContext
from dlt.common.schema import Schema
from dlt.common.schema.utils import get_columns_names_with_prop, get_nested_tables, get_root_table
from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.common.storages.load_package import PackageStorage, ParsedLoadJobFileName
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase
from dlt.extract import DltResource
from dlt.extract.exceptions import CurrentSourceNotAvailable
from dlt.extract.pipe_iterator import ManagedPipeIterator, PipeIterator
from dlt.pipeline import trace
from dlt.pipeline.pipeline import Pipeline

from paystack_source.customer import CUSTOMERS
from paystack_source.errors import ConfigError
from paystack_source.settings import delete_after_load
from paystack_source.tables import NAMES
from paystack_source.warehouse.locations import set_database_aside

TABLE_STATE_KEY = "table"
"""The key in the resource's state that has the name of its table, if a hint renamed it."""

# -- the active pipeline, load and resource ---------------------------------------------------------------------------


def active_pipeline() -> Pipeline | None:
    """The active pipeline, if it has a destination. `dlt.current.pipeline()` would make one if there is none."""
    context = Container()[PipelineContext]
    pipeline = cast("Pipeline", context.pipeline()) if context.is_active() else None
    return pipeline if pipeline is not None and cast("Any", pipeline.destination) else None


@contextmanager
def exclusive_dlt_context() -> Iterator[None]:
    """Prevent other threads from changing dlt's context. Every query of the destination needs it while dlt extracts.

    The threads in which dlt runs `parallelize`d resources share one context. A client puts its settings into it and
    takes them out later; dlt locks each of these two steps, but not the time between them.
    """
    _, lock = Container()._thread_context(ConfigSectionContext)  # noqa: SLF001
    with lock:
        yield


def current_section() -> tuple[str, str | None]:
    """The configuration section of the source that is being made, and the pipeline's name. `clone` can change both."""
    context = Container()[ConfigSectionContext]
    return ".".join(context.sections[:2]), context.pipeline_name


def current_load() -> str | None:
    """The id of the load that is being extracted; None outside of one, and where the user's code iterates over ours.

    A resource of the user's may do that: dlt's context is then that of the user's load.
    """
    frame = inspect.currentframe()
    while frame and frame.f_code is not PipeIterator.__next__.__code__:
        frame = frame.f_back
    if frame and frame.f_back and frame.f_back.f_code is ManagedPipeIterator.__next__.__code__:
        return None
    try:
        return str(dlt.current.load_package_state()["load_id"])
    except CurrentLoadPackageStateNotAvailable:
        return None


def current_resource(name: str) -> DltResource | None:
    """A resource of the source that is being extracted, with the user's hints; None outside of an extraction."""
    try:
        return dlt.current.source().resources.get(name)
    except CurrentSourceNotAvailable:
        return None


def table_of(name: str) -> str:
    """The table of this resource in the load that is being extracted: a hint may have renamed it."""
    resource = current_resource(name)
    if resource is None:
        return name
    table: object = resource.table_name
    if not isinstance(table, str):
        raise ConfigError(
            f"The hint table_name of {name} is no text", advice="All customers are in one table."
        )
    return dlt.current.source_schema().naming.normalize_table_identifier(table)


def customers_table(pipeline: Pipeline, schema_name: str | None = None) -> str:
    """The table of the resource `customers` in the load that is being extracted, or else in the last load."""
    if schema_name is None and current_resource(CUSTOMERS.name) is not None:
        return table_of(CUSTOMERS.name)
    sources = pipeline.state.get("sources", {})
    some = sources.values() if schema_name is None else [sources.get(schema_name, {})]
    states = (source.get("resources", {}).get(CUSTOMERS.name, {}) for source in some)
    return str(next((state[TABLE_STATE_KEY] for state in states if TABLE_STATE_KEY in state), CUSTOMERS.name))


def is_selected(name: str) -> bool:
    """Whether the load that is being extracted includes the resource of this name: the user may have deselected it."""
    try:
        return name in dlt.current.source().resources.selected
    except CurrentSourceNotAvailable:
        return True


def is_limited(name: str) -> bool:
    """Whether the user limited this resource by `add_limit`."""
    resource = current_resource(name)
    return resource is not None and resource.limit is not None


def is_being_replaced(table: str) -> bool:
    """Whether the load that is being extracted empties this table before it writes.

    The write disposition `replace` does that, and so does `pipeline.run(..., refresh=...)`, as the load package's state
    records. Until the load the table has its rows, so an extraction that counts them would read only new customers.
    """
    try:
        state = dlt.current.load_package_state()["state"]
    except CurrentLoadPackageStateNotAvailable:
        return False
    resource = current_resource(table)
    for emptied in (*state.get("dropped_tables", ()), *state.get("truncated_tables", ())):
        if emptied["name"] == table_of(table):
            return True
    return resource is not None and resource.compute_table_schema()["write_disposition"] == "replace"


# -- dlt's log, files and schemas -------------------------------------------------------------------------------------

_OUR_TABLES: set[str] = set()


def _is_unrelated(record: logging.LogRecord) -> bool:
    head, found, _ = record.getMessage().partition(", when merging arrow schema with dlt schema,")
    return not found or head.removeprefix("In resource: ") not in _OUR_TABLES


def silence_type_warnings(*tables: str) -> None:
    """Suppress dlt's warning, at each load, that the hints of these tables differ from their Arrow types.

    They have to differ: JSON is text in Arrow, and dlt forbids nulls in its own column `_dlt_load_id`. dlt has no
    setting for this warning.
    """
    _OUR_TABLES.update(tables)
    logging.getLogger("dlt").addFilter(_is_unrelated)  # adding it twice has no effect


def delete_loaded_files(pipeline: Pipeline) -> None:
    """Make dlt delete the customers of a finished load from its folder; delete those of older loads now."""
    name, deletes = pipeline.pipeline_name, "load.delete_completed_jobs"
    delete_after_load(name)
    for_this_one = dlt.config.get(f"{name}.{deletes}", bool)
    if dlt.config.get(deletes, bool) if for_this_one is None else for_this_one:
        # dlt does not delete older packages later, nor the failed jobs of an aborted package.
        jobs = Path(pipeline.working_dir).glob("load/loaded/*/*_jobs/*")
        for package in {job.parent.parent for job in jobs}:
            shutil.rmtree(package, ignore_errors=True)


def repair_folder(pipeline: Pipeline) -> None:
    """Delete what a killed process left in dlt's folder, and add what it had deleted: every later run would fail.

    Deleted are temporary files, without a suffix, which dlt renames when they are complete; and extracted packages that
    are normalized already, which dlt was about to delete, beginning with the schema file. If dlt's schema is missing,
    the whole state is dropped; dlt restores it from the destination.
    """
    folder, schema = Path(pipeline.working_dir), PackageStorage.SCHEMA_FILE_NAME
    shutil.rmtree(_deleted(folder), ignore_errors=True)
    if (folder / "load").exists():
        (folder / "load/normalized").mkdir(exist_ok=True)
    for place in ("normalize/extracted/*", "load/normalized/*", "load/normalized/*/*_jobs/*"):
        for file in folder.glob(place):
            if file.is_file() and not file.suffix:
                file.unlink()
    for package in folder.glob("normalize/extracted/*"):
        if (folder / "load/normalized" / package.name / schema).exists() or not (package / schema).exists():
            shutil.rmtree(package)
    if has_schema(pipeline) and str(pipeline.default_schema_name) not in pipeline.schemas:
        drop_local_state(pipeline)


def has_schema(pipeline: Pipeline) -> bool:
    """Whether the pipeline has a schema: by dlt's types always, but in fact not before its first load."""
    return bool(cast("str | None", pipeline.default_schema_name))


def schema_of(pipeline: Pipeline, table: str) -> Schema | None:
    """The schema with this table: the default one may be of another source."""
    # While dlt reads a schema from its file, other threads would get an incomplete one.
    with exclusive_dlt_context():
        return next((schema for schema in pipeline.schemas.values() if table in schema.tables), None)


def is_loaded(pipeline: Pipeline, table: str) -> bool:
    """Whether rows of this table were ever loaded, as dlt's normalizer records in the schema."""
    schema = schema_of(pipeline, table)
    return schema is not None and bool((schema.tables[table].get("x-normalizer") or {}).get("seen-data"))


def require_no_other_rows(folder: Path, customers: str = CUSTOMERS.name) -> None:
    """Raise `ConfigError` if rows of tables other than ours wait in a pipeline's folder that is about to be dropped."""
    jobs = (*folder.glob("normalize/extracted/*/*_jobs/*"), *folder.glob("load/normalized/*/*_jobs/*"))
    waiting = {ParsedLoadJobFileName.parse(job.name).table_name for job in jobs if job.suffix}
    theirs = sorted(name for name in waiting - NAMES - {customers} if not name.startswith("_dlt_"))
    if theirs:
        raise ConfigError(
            f"Rows of {', '.join(theirs)} wait in {folder}, in a load that has to be dropped, and may be nowhere else",
            advice="Save them if you need them, drop the load, and run again. This drops it: "
            f"dlt pipeline --pipelines-dir {shlex.quote(str(folder.parent))} {folder.name} abort-packages",
        )


def has_database_without_state(folder: Path) -> bool:
    """Whether the folder of a pipeline has a DuckDB file and no state of dlt: dlt deletes such a folder."""
    return (folder / f"{folder.name}.duckdb").exists() and not (folder / dlt.Pipeline.STATE_FILE).exists()


def would_delete_database(pipeline: Pipeline) -> bool:
    """Whether dlt will delete its folder, and a DuckDB file in it: it has loaded before, and its dataset is gone."""
    if not Path(pipeline.working_dir, f"{pipeline.pipeline_name}.duckdb").exists() or not pipeline.has_data:
        return False
    with pipeline.destination_client() as client:
        return not client.is_storage_initialized()


def drop_local_state(pipeline: Pipeline) -> None:
    """Drop dlt's local files of this pipeline: its state and its pending load packages."""
    folder = Path(pipeline.working_dir)
    require_no_other_rows(folder, customers_table(pipeline))
    with set_database_aside(folder):
        delete_folder(folder)
        pipeline.drop()


def delete_folder(folder: Path) -> None:
    """Delete dlt's folder of a pipeline. A kill leaves all of it, or nothing under its name: dlt needs all of it."""
    shutil.rmtree(_deleted(folder), ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(_deleted(folder))
    shutil.rmtree(_deleted(folder), ignore_errors=True)


def _deleted(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.deleted")


def drop_foreign_state(pipeline: Pipeline) -> None:
    """Drop dlt's local state of this pipeline if it belongs to another working folder, or is damaged.

    `exclusive_run` calls this while it holds the lock of the folder.
    """
    folder = os.path.abspath(dlt.current.run_context().local_dir)  # noqa: PTH100  as dlt writes it
    former = pipeline.get_local_state_val("initial_cwd")
    if former != folder:
        if pipeline.destination.config_params.get("local_dir") == former:  # from dlt, which would keep it
            pipeline.destination.config_params["local_dir"] = folder
        drop_local_state(pipeline)


def is_of_another_location(pipeline: Pipeline, location: str) -> bool:
    """Whether dlt's local state of this pipeline belongs to another destination or dataset; then notes this one.

    dlt keeps one state per pipeline name and working folder, for all destinations. So the proven windows of one dataset
    would count as proven in another one, and what waits to be loaded into one would be loaded into the other.
    """
    note = Path(pipeline.pipelines_dir) / f"{pipeline.pipeline_name}.place"
    before = note.read_text(encoding="utf-8") if note.exists() else location
    note.write_text(location, encoding="utf-8")
    return before != location


def stored_schema(client: Any, name: str) -> Schema | None:  # noqa: ANN401  # of any destination that stores schemas
    """The schema that the client's dataset stores under this name; None if there is none.

    `sync_destination` finds it only if a state is stored: an interrupted first load leaves none.
    """
    stored = client.get_stored_schema(name) if client.is_storage_initialized() else None
    return None if stored is None else Schema.from_stored_schema(json.loads(stored.schema))


def add_schema(pipeline: Pipeline, schema: Schema) -> None:
    """Add a schema to a pipeline that has none, with a private method of dlt."""
    pipeline._inject_schema(schema)  # noqa: SLF001


# -- interrupted loads ------------------------------------------------------------------------------------------------
# dlt would continue an interrupted load. But dlt empties its staging tables only at the beginning of a load. So a job
# that was killed after it wrote its rows, and before dlt recorded this, would write them twice. Therefore the load is
# run again from its beginning. This is safe for merged and replaced tables, because their staging tables are emptied,
# and for appended tables, because the rows of this load are deleted first. Jobs of other tables are not run again.

_MADE_BY_JOBS = {".sql", ".reference"}
"""Suffixes of jobs that dlt creates after other jobs have ended."""
_LOAD_ID = "_dlt_load_id"


def pending_packages(pipeline: Pipeline) -> Iterator[tuple[str, Path, Schema]]:
    """The pending packages, extracted or normalized, oldest first: load id, folder and schema."""
    folder = Path(pipeline.working_dir)
    found = (*folder.glob("normalize/extracted/*"), *folder.glob("load/normalized/*"))
    for package in sorted(found, key=lambda each: each.name):
        text = (package / PackageStorage.SCHEMA_FILE_NAME).read_text(encoding="utf-8")
        yield package.name, package, Schema.from_stored_schema(json.loads(text))


def is_aborting(pipeline: Pipeline) -> bool:
    """Whether the next `load` only drops packages: `abort_packages` marks the oldest one, and then calls `load`."""
    marked = pipeline._get_load_storage().normalized_packages.has_abort_flag  # noqa: SLF001
    return any(map(marked, pipeline.list_normalized_load_packages()[:1]))


def restart_interrupted_loads(pipeline: Pipeline, is_ours: Callable[[Schema], bool]) -> None:
    """Reset interrupted load packages of a database, so that dlt runs them again from the beginning."""
    for load, package, schema in pending_packages(pipeline):
        if is_ours(schema) and _has_begun(package):
            with pipeline.destination_client(schema.name) as client:
                if isinstance(client, SqlJobClientBase):
                    _restart(package, schema, load, client.sql_client)


def _restart(package: Path, schema: Schema, load: str, client: SqlClientBase[Any]) -> None:
    jobs = [job for job in package.glob("*_jobs/*") if job.parent.name != PackageStorage.FAILED_JOBS_FOLDER]
    roots = {}
    for job in jobs:
        table = ParsedLoadJobFileName.parse(job.name).table_name
        roots[job] = str(get_root_table(schema.tables, table)["name"])
    appended = {root for root in roots.values() if _is_appended(schema, root)}
    deletable = {
        root
        for root in appended
        if len(get_nested_tables(schema.tables, root)) == 1 and _LOAD_ID in schema.tables[root]["columns"]
    }
    _delete(client, [*((table, _LOAD_ID) for table in deletable), (schema.loads_table_name, "load_id")], load)
    done = package / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME
    if done.exists():
        done.replace(package / PackageStorage.SCHEMA_UPDATES_FILE_NAME)  # dlt begins a load with this file
    for job, root in roots.items():
        if root in appended - deletable:
            continue
        for note in package.glob(f"{PackageStorage.PENDING_TRANSITIONS_FOLDER}/{job.name}*"):
            note.unlink()
        if job.suffix in _MADE_BY_JOBS:
            job.unlink()
        else:
            job.replace(package / PackageStorage.NEW_JOBS_FOLDER / job.name)


def _has_begun(package: Path) -> bool:
    return (package / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME).exists() or any(
        job.parent.name in {PackageStorage.STARTED_JOBS_FOLDER, PackageStorage.COMPLETED_JOBS_FOLDER}
        for job in package.glob("*_jobs/*")
    )


def _is_appended(schema: Schema, root: str) -> bool:
    table = schema.tables[root]
    keys = [get_columns_names_with_prop(table, key) for key in ("primary_key", "merge_key")]
    return table.get("write_disposition") == "append" or (
        table.get("write_disposition") == "merge" and not any(keys)  # in this case dlt appends
    )


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


# -- when a run begins and ends ---------------------------------------------------------------------------------------


def listen_to_runs(listener: object) -> None:
    """Make dlt call this object when a `run`, `extract` or `load`, or one of its steps, begins and ends.

    dlt calls the members of `TRACKING_MODULES`, an undocumented list, unless `enable_runtime_trace=false`. It logs an
    `Exception` that they raise, and goes on. It calls `on_start_trace` and `on_end_trace` for the outermost call only.
    """
    trace.TRACKING_MODULES.append(cast("Any", listener))


def has_loaded(pipeline: Pipeline, steps: list[trace.PipelineStepTrace]) -> bool:
    """Whether a call with these steps was a `run` that loaded its data. An interrupted run has no `LoadInfo`."""
    if not steps or steps[-1].step != "run" or steps[-1].step_exception is not None:
        return False
    return isinstance(steps[-1].step_info, LoadInfo) and not pipeline.has_pending_data


class CheckedCollector:
    """A pipeline's collector, which shows progress, with a check at each call.

    dlt calls a collector when a stage begins, after each item and after each job of a load, and does not catch its
    errors. dlt has no other way to stop a load before its next job, or before it is recorded as complete.
    """

    def __init__(self, collector: Any, check: Callable[[], None]) -> None:  # noqa: ANN401  # dlt's, or the user's
        self._collector = collector
        self._check = check

    def __call__(self, step: str) -> CheckedCollector:
        self._check()
        self._collector(step)
        return self

    def __enter__(self) -> Any:  # noqa: ANN401
        return self._collector.__enter__()

    def __exit__(self, *error: object) -> None:
        self._collector.__exit__(*error)

    def update(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        self._check()
        self._collector.update(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._collector, name)

    @staticmethod
    def unchecked(collector: Any) -> Any:  # noqa: ANN401
        """The collector without the check, for other threads: the check must query the destination in one thread."""
        return collector._collector if isinstance(collector, CheckedCollector) else collector  # noqa: SLF001
