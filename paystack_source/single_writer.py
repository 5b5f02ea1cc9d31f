"""One writer per dataset and per working folder: everybody else waits until it is done.

A file lock guards dlt's working folder, which is for one process. A lock in the destination guards the dataset,
whose staging tables all machines share: in PostgreSQL a lock of a transaction that stays open, in a folder a file
lock, in a bucket an object that its owner renews and that expires when nobody does. DuckDB's file takes one process
anyway. Other databases have no such lock: there two machines that race are found and healed by the next run
(`paystack_source.repair`). All of them but the last end with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dlt.common import logger

from paystack_source.destinations import is_lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
    from dlt.destinations.sql_client import SqlClientBase
    from dlt.pipeline.pipeline import Pipeline

ASK_AGAIN = 0.5
"""Seconds between two looks whether a lock is free."""

LEASE_SECONDS = 60.0
"""How long an object in a bucket stands for a writer that does not renew it any more."""


@dataclass(slots=True)
class _Run:
    """A run under way in this process: how deep its calls are nested, and what it holds."""

    pipeline: Pipeline
    depth: int = 0
    folder: bool = False
    dataset: bool = False
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


_RUNS: dict[int, _Run] = {}


def enter(pipeline: Pipeline) -> bool:
    """Note that a run of this pipeline begins; whether it is the outermost one."""
    run = _RUNS.setdefault(id(pipeline), _Run(pipeline))
    run.depth += 1
    return run.depth == 1


def leave(pipeline: Pipeline) -> None:
    """The run ends: with the outermost one goes what it holds."""
    run = _RUNS[id(pipeline)]
    run.depth -= 1
    if not run.depth:
        del _RUNS[id(pipeline)]
        run.held.close()


def lock_folder(pipeline: Pipeline, *, wait: bool = True) -> None:
    """Hold the working folder until the run that is under way ends; outside of a run nobody would let it go.

    Raises `BlockingIOError` if it is another run's and this one does not want to wait.
    """
    run = _RUNS.get(id(pipeline))
    if run is not None and not run.folder:
        file = Path(pipeline.pipelines_dir, f"{pipeline.pipeline_name}.lock")
        _lock_file(run.held, file, f"the working folder {pipeline.pipelines_dir}" if wait else None)
        run.folder = True


def lock_dataset(pipeline: Pipeline) -> None:
    """Hold the dataset until the run that is under way ends."""
    run = _RUNS.get(id(pipeline))
    if run is not None and not run.dataset:
        if destination_is(pipeline, "postgres"):
            _lock_schema(run.held, pipeline)
        elif is_lake(pipeline):
            _lock_files(run.held, pipeline)
        run.dataset = True


@contextlib.contextmanager
def writing(pipeline: Pipeline) -> Iterator[None]:
    """Hold folder and dataset meanwhile."""
    enter(pipeline)
    try:
        lock_folder(pipeline)
        lock_dataset(pipeline)
        yield
    finally:
        leave(pipeline)


def destination_is(pipeline: Pipeline, kind: str) -> bool:
    """Whether the pipeline's destination is of this type."""
    return pipeline.destination.destination_type.rpartition(".")[2] == kind


def _until(free: Callable[[], bool], where: str) -> None:
    told = False
    while not free():
        if not told:
            logger.warning(f"Another run writes into {where}. This run waits until it is done.")
            told = True
        time.sleep(ASK_AGAIN)


def _lock_file(stack: contextlib.ExitStack, path: Path, where: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = stack.enter_context(path.open("w"))
    if where is None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        _until(lambda: _locked(file), where)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_schema(stack: contextlib.ExitStack, pipeline: Pipeline) -> None:
    client: SqlClientBase[Any] = pipeline.sql_client()
    stack.enter_context(client)  # type: ignore[arg-type]  # dlt: one, though not typed as one
    # Of a transaction rather than of a session: poolers hand sessions on, and with them their locks.
    stack.enter_context(client.begin_transaction())
    client.execute_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    name = f"paystack-source {pipeline.dataset_name}"

    def free() -> bool:
        rows = client.execute_sql("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", name)
        return bool(rows and rows[0][0])

    _until(free, f"the dataset {pipeline.dataset_name}")


def _lock_files(stack: contextlib.ExitStack, pipeline: Pipeline) -> None:
    with pipeline.destination_client() as opened:
        client = cast("FilesystemClient", opened)
    where = f"the dataset {pipeline.dataset_name}"
    # Beside the dataset's folder: dlt wants to make that one itself.
    folder, _, name = client.dataset_path.rstrip("/").rpartition("/")
    path = f"{folder}/.{name}.paystack-source.lock"
    if client.config.is_local_filesystem:
        _lock_file(stack, Path(path), where)
    else:
        stack.enter_context(_lease(client.fs_client, path, where))


@contextlib.contextmanager
def _lease(files: Any, path: str, where: str) -> Iterator[None]:  # noqa: ANN401  # fsspec has no types
    owner, ended = uuid.uuid4().hex.encode(), threading.Event()

    def free() -> bool:
        try:
            files.pipe_file(path, owner, mode="create")
        except FileExistsError:
            files.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):  # its owner was done in between
                if datetime.now(UTC) - files.modified(path) > timedelta(seconds=LEASE_SECONDS):
                    files.rm_file(path)
            return False
        return True

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 4):
            with contextlib.suppress(Exception):  # tried again before it expires
                files.pipe_file(path, owner)

    _until(free, where)
    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with contextlib.suppress(Exception):  # it expires
            files.rm_file(path)
