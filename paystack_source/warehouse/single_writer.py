"""One writer per dataset and per working folder: other runs wait until the writer has ended.

A file lock protects dlt's working folder, which only one process may use. A lock in the destination protects the
dataset, whose staging tables all machines share:

    PostgreSQL         an advisory lock of a transaction that stays open
    a local folder     a file lock beside the dataset
    a bucket           an object that its owner renews (`paystack_source.warehouse.bucket_lease`)
    DuckDB             a connection that stays open: only one process can write the file
    other databases    none; the next run repairs duplicate rows of two machines

All locks except the one in a bucket end with the process, also after a kill. A run that lost its lock stops before the
next job of its load.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dlt.common.pipeline import get_dlt_pipelines_dir
from dlt.destinations.exceptions import DatabaseException
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
from dlt.destinations.sql_client import SqlClientBase
from dlt.pipeline.pipeline import Pipeline

from paystack_source.errors import AlreadyRunningError, ConfigError
from paystack_source.file_lock import try_lock, unlocked_at_end
from paystack_source.private_files import open_private
from paystack_source.warehouse.bucket_lease import BucketLease
from paystack_source.warehouse.dlt_quirks import (
    CheckedCollector,
    delete_folder,
    drop_foreign_state,
    has_database_without_state,
    has_schema,
    is_of_another_location,
    repair_folder,
    require_no_other_rows,
)
from paystack_source.warehouse.duckdb_file import DuckDbFile
from paystack_source.warehouse.locations import (
    destination_is,
    is_lake,
    location_of,
    restore_database,
    set_database_aside,
)

log = logging.getLogger("paystack_source")  # commands show its warnings, but not dlt's log
POLL_SECONDS = 0.5
"""Seconds between two attempts to take a lock."""
_NO_TIMEOUT = """SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"""


@dataclass(slots=True)
class ActiveRun:
    """A run in this process: how deep its calls are nested, and the locks that it holds."""

    pipeline: Pipeline
    depth: int = 0
    awaits_end: bool = False
    """Whether dlt began it and has to tell us that it ended."""
    folder: bool = False
    dataset: bool = False
    client: SqlClientBase[Any] | None = None
    duckdb: DuckDbFile | None = None
    locks: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    target: tuple[Any, ...] = ()
    location: str = ""
    """Where the locked dataset is, see `location_of`."""
    state_is_foreign: bool = False
    """Whether dlt's local state belongs to another location."""
    read_for: str | None = None
    """The dataset for which customers were read in this run."""
    still_held: Callable[[], bool] = lambda: True
    prepared: bool = False
    error: Exception | None = None
    """The error of the run's preparation, if it failed."""
    copied: Any = None
    """The `Copying` of a plain `pipeline.run`, for the count at its end."""

    def lock_folder(self, *, wait: bool = True) -> None:
        """Lock the working folder until the run ends. Without `wait`, raises `AlreadyRunningError` if it is locked."""
        if not self.folder:
            folder = Path(self.pipeline.pipelines_dir)
            _check_folder(folder, duckdb=destination_is(self.pipeline, "duckdb"))
            _lock_folder(self.locks, folder / self.pipeline.pipeline_name, wait=wait)
            repair_folder(self.pipeline)
            self.folder = True

    def lock_dataset(self) -> None:
        """Lock the dataset until the run ends; waits while another run holds the lock.

        An argument of `pipeline.run` may have changed the destination since the run began, or the dataset. Then the new
        one is locked as well. Nothing was prepared there.
        """
        destination = self.pipeline.destination
        target = destination, destination.config_params.get("credentials"), self.pipeline.dataset_name
        if self.dataset and target == self.target:
            return
        self.target, before, self.location = target, self.location, location_of(self.pipeline)
        if self.dataset and self.location == before:
            return
        self.state_is_foreign = is_of_another_location(self.pipeline, self.location)
        if self.dataset:
            self.client, self.prepared = None, False
        if destination_is(self.pipeline, "duckdb"):
            self.duckdb = self.locks.enter_context(DuckDbFile(self.pipeline, sql_client(self.pipeline)))
        elif destination_is(self.pipeline, "postgres"):
            self.still_held = _lock_schema(self.locks, self.pipeline)
        elif is_lake(self.pipeline):
            self.still_held = _lock_files(self.locks, self.pipeline)
        collector = self.pipeline.collector
        self.pipeline.collector = cast("Any", CheckedCollector(collector, self.require_dataset))
        self.locks.callback(setattr, self.pipeline, "collector", collector)
        self.dataset = True

    def require_dataset(self) -> None:
        """Raise `AlreadyRunningError` if the lock was lost: then another run may write into the dataset.

        Raises the error of the preparation, if it failed: dlt would load what is pending. Raises `ConfigError` if
        `pipeline.run` got another dataset: dlt extracts for the former one.
        """
        if self.error is not None:
            raise self.error
        if self.read_for not in {None, self.pipeline.dataset_name}:
            raise ConfigError(
                f"These customers were read for the dataset {self.read_for}, not for {self.pipeline.dataset_name}",
                advice="Give the dataset to dlt.pipeline, not to pipeline.run, and run again.",
            )
        if not self.still_held():
            raise AlreadyRunningError(
                f"The lock of the dataset {self.pipeline.dataset_name} was lost, and another run may write into it.",
                "Run again: rows that are loaded are kept.",
            )


_RUNS: dict[int, ActiveRun] = {}


def begin_run(pipeline: Pipeline) -> ActiveRun:
    """Begin a run of this pipeline. Runs of one pipeline may be nested."""
    run = _RUNS.get(id(pipeline))
    # dlt begins no run before the end of another one, but a Ctrl-C can keep it from telling us the end.
    if run and run.awaits_end:
        end_run(pipeline, depth=1)
    run = _RUNS.setdefault(id(pipeline), ActiveRun(pipeline))
    run.depth += 1
    return run


def end_run(pipeline: Pipeline, *, depth: int | None = None) -> None:
    """End a run; the outermost one releases its locks. `depth` is its own, if runs inside of it may not have ended."""
    run = _RUNS[id(pipeline)]
    run.depth = (depth or run.depth) - 1
    if not run.depth:
        del _RUNS[id(pipeline)]
        run.locks.close()


def current_run(pipeline: Pipeline) -> ActiveRun | None:
    """The present run of this pipeline in this process."""
    return _RUNS.get(id(pipeline))


def sql_client(pipeline: Pipeline) -> SqlClientBase[Any]:
    """A client for queries; open it with `with`. Those of a run share their settings: dlt needs 30 ms to find them."""
    run = current_run(pipeline)
    client: SqlClientBase[Any] = run.client if run and run.client else pipeline.sql_client()
    if run and has_schema(pipeline):  # whose naming convention decides the name of the dataset
        run.client = client
    duplicate = object.__new__(type(client))  # `copy.copy` would call the client's `__getattr__` without end
    vars(duplicate).update(vars(client))
    return duplicate


@contextlib.contextmanager
def exclusive_run(pipeline: Pipeline, *, wait: bool = True, dataset: bool = True) -> Iterator[ActiveRun]:
    """A run that holds the locks of folder and dataset; without `dataset`, only that of the folder.

    dlt's state of another working folder is dropped (`drop_foreign_state`). Raises `AlreadyRunningError` without `wait`
    if another run has locked the folder.
    """
    run = begin_run(pipeline)
    depth = run.depth
    try:
        run.lock_folder(wait=wait)
        drop_foreign_state(pipeline)
        if dataset:
            run.lock_dataset()
        yield run
    finally:
        end_run(pipeline, depth=depth)


def _check_folder(folder: Path, *, duckdb: bool) -> None:
    """Raise `ConfigError` for a folder from which dlt cannot load: it misreads some characters in the path."""
    path = str(folder.absolute())
    if "%" in path or (duckdb and ("'" in path or re.search(r"[^/\\]=", path))):
        raise ConfigError(
            f"dlt cannot load from a working folder with %, ' or = in its path: {folder}.",
            advice="Set DLT_DATA_DIR to another folder.",
        )


def _wait_until(free: Callable[[], bool], where: str) -> None:
    warned = False
    while not free():
        if not warned:
            log.warning("Another run writes into %s. This run waits until it is done.", where)
            warned = True
        time.sleep(POLL_SECONDS)


def _lock_folder(stack: contextlib.ExitStack, folder: Path, *, wait: bool) -> None:
    """Lock dlt's folder of a pipeline, and move in the database that a killed process left beside it."""
    parent = folder.parent
    if not _lock_file(stack, parent / f"{folder.name}.lock", f"the working folder {parent}", wait=wait):
        raise AlreadyRunningError(
            "Another run of this pipeline is under way.",
            "Wait for it to end; if it fills the same database, it loads what this one would have loaded. If "
            f"it fills another one, give each a DLT_DATA_DIR of its own: both use {parent} now.",
        )
    restore_database(folder)


def make_pipeline(name: str, make: Callable[[], Pipeline]) -> Pipeline:
    """Make a pipeline. Damaged local files are deleted first; dlt restores state and schemas from the destination.

    A DuckDB file in the folder is kept. dlt would delete it with the folder if its state is missing.
    """
    damaged = json.JSONDecodeError, UnicodeDecodeError  # after a power cut
    folder = Path(get_dlt_pipelines_dir(), name)
    with contextlib.suppress(*damaged):
        if not has_database_without_state(folder):
            return make()
    with contextlib.ExitStack() as locks:
        _lock_folder(locks, folder, wait=False)
        with contextlib.suppress(*damaged):  # another process has deleted them
            if not has_database_without_state(folder):
                return make()
        require_no_other_rows(folder)
        with set_database_aside(folder):
            delete_folder(folder)
            return make()


def _lock_file(
    stack: contextlib.ExitStack, path: Path, where: str, *, wait: bool = True, mode: int = 0o600
) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = stack.enter_context(unlocked_at_end(open_private(path, mode=mode)))
    if wait:
        _wait_until(lambda: try_lock(handle), where)
    return wait or try_lock(handle)


def _lock_schema(stack: contextlib.ExitStack, pipeline: Pipeline) -> Callable[[], bool]:
    client = sql_client(pipeline)
    stack.enter_context(client)  # type: ignore[arg-type]  # dlt: one, though not typed as one
    _check_encodings(client)
    # The lock is a transaction's, not a session's: a pooler gives sessions to other clients, with their locks.
    stack.enter_context(contextlib.suppress(Exception))  # the transaction writes nothing, so its end may fail
    stack.enter_context(client.begin_transaction())
    client.execute_sql(_NO_TIMEOUT)
    name = f"paystack-source {client.dataset_name}"  # as dlt writes it: MyData may be my_data

    def free() -> bool:
        rows = client.execute_sql("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", name)
        return bool(rows and rows[0][0])

    def still_held() -> bool:
        with contextlib.suppress(DatabaseException):  # the lock was lost with the connection
            return bool(client.execute_sql("SELECT 1"))
        return False

    _wait_until(free, f"the dataset {pipeline.dataset_name}")
    return still_held


def _check_encodings(client: SqlClientBase[Any]) -> None:
    """Refuse a database, or a connection, in which names would become other characters: dlt loads UTF-8."""
    names = "server_encoding", "client_encoding"
    ((server, connection),) = (
        client.execute_sql(f"SELECT {', '.join(f'current_setting({n!r})' for n in names)}") or ()
    )
    if server not in {"UTF8", "SQL_ASCII"}:
        raise ConfigError(
            f"The database's encoding is {server}, in which names would become other characters",
            advice="Use a database with the encoding UTF8: create database … encoding 'UTF8' template template0.",
        )
    if connection != "UTF8":
        raise ConfigError(
            f"The setting client_encoding is {connection}, by which names would become other characters",
            advice="Set client_encoding to utf8 in dlt's credentials of the destination. It may come from settings of "
            "the user or the database, or from the environment variable PGCLIENTENCODING.",
        )


def _lock_files(stack: contextlib.ExitStack, pipeline: Pipeline) -> Callable[[], bool]:
    with pipeline.destination_client() as opened:
        client = cast("FilesystemClient", opened)
    where = f"the dataset {pipeline.dataset_name}"
    # Beside the dataset's folder, because dlt must create that folder itself.
    if client.config.is_local_filesystem:
        dataset = Path(client.dataset_path)
        # An empty file. Several users may write the dataset, as the umask of each allows.
        _lock_file(stack, dataset.with_name(f".{dataset.name}.paystack-source.lock"), where, mode=0o666)
        return lambda: True
    folder, _, name = client.dataset_path.rstrip("/").rpartition("/")
    lease = BucketLease(client.fs_client, f"{folder}/.{name}.paystack-source.lock")
    _wait_until(lease.take, where)
    return stack.enter_context(lease).still_held
