"""One writer per dataset and per working folder: everybody else waits until it is done.

A file lock guards dlt's working folder, which is for one process. A lock in the destination guards the dataset,
whose staging tables all machines share: in PostgreSQL a lock of a transaction that stays open, in a folder a file
lock, in a bucket an object that its owner renews and that expires when nobody does. DuckDB's file takes one process
anyway. Other databases have no such lock: there two machines that race are found and healed by the next run
(`paystack_source.warehouse.repair`). All of them but the last end with the process, however it ends.
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
from typing import TYPE_CHECKING, Any, Self, cast

from dlt.common import logger
from dlt.destinations.exceptions import DatabaseException

from paystack_source.errors import AlreadyRunningError
from paystack_source.warehouse.destinations import is_lake

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

REFUSED = 5
"""So often a bucket may refuse to create an object that is not there; then it is not because of another writer."""

CLOCKS_DIFFER = timedelta(minutes=20)
"""More than clocks differ: S3 refuses requests whose time is 15 minutes off."""


@dataclass(slots=True)
class _Run:
    """A run under way in this process: how deep its calls are nested, and what it holds."""

    pipeline: Pipeline
    depth: int = 0
    folder: bool = False
    dataset: bool = False
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    still_held: Callable[[], bool] = lambda: True
    error: Exception | None = None
    """Why it could not be prepared."""


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


def run_of(pipeline: Pipeline) -> _Run | None:
    """The run that is under way."""
    return _RUNS.get(id(pipeline))


def insist_on_locks(pipeline: Pipeline) -> None:
    """Raise `AlreadyRunningError` if somebody else may write into the dataset by now."""
    run = run_of(pipeline)
    if run is not None and not run.still_held():
        raise AlreadyRunningError(
            f"The lock of the dataset {pipeline.dataset_name} was lost, and another run may write into it.",
            "Run again: what was loaded is kept.",
        )


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
            run.still_held = _lock_schema(run.held, pipeline)
        elif is_lake(pipeline):
            run.still_held = _lock_files(run.held, pipeline)
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


def _lock_schema(stack: contextlib.ExitStack, pipeline: Pipeline) -> Callable[[], bool]:
    client: SqlClientBase[Any] = pipeline.sql_client()
    stack.enter_context(client)  # type: ignore[arg-type]  # dlt: one, though not typed as one
    # Of a transaction rather than of a session: poolers hand sessions on, and with them their locks.
    stack.enter_context(_transaction(client))
    client.execute_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    name = f"paystack-source {pipeline.dataset_name}"

    def free() -> bool:
        rows = client.execute_sql("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", name)
        return bool(rows and rows[0][0])

    def still_held() -> bool:
        with contextlib.suppress(DatabaseException):  # the connection was lost, and the lock with it
            return bool(client.execute_sql("SELECT 1"))
        return False

    _until(free, f"the dataset {pipeline.dataset_name}")
    return still_held


@contextlib.contextmanager
def _transaction(client: SqlClientBase[Any]) -> Iterator[None]:
    """A transaction that nothing was written in: however it ends, that is no error of the run."""
    with contextlib.suppress(Exception), client.begin_transaction():
        yield


def _lock_files(stack: contextlib.ExitStack, pipeline: Pipeline) -> Callable[[], bool]:
    with pipeline.destination_client() as opened:
        client = cast("FilesystemClient", opened)
    where = f"the dataset {pipeline.dataset_name}"
    # Beside the dataset's folder: dlt wants to make that one itself.
    folder, _, name = client.dataset_path.rstrip("/").rpartition("/")
    path = f"{folder}/.{name}.paystack-source.lock"
    if client.config.is_local_filesystem:
        _lock_file(stack, Path(path), where)
        return lambda: True
    return stack.enter_context(_Lease(client.fs_client, path, where)).still_held


class _Lease:
    """An object in a bucket: whoever created it writes, and renews it meanwhile."""

    def __init__(self, files: Any, path: str, where: str) -> None:  # noqa: ANN401  # fsspec has no types
        self._files, self._path, self._where = files, path, where
        self._owner = uuid.uuid4().hex.encode()
        self._other = b""
        self._other_since = 0.0
        self._refused = 0
        self._renewed = 0.0
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        _until(self._free, self._where)
        self._renewed = time.monotonic()
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._renewing.join()
        with contextlib.suppress(Exception):  # it expires
            if self._is_ours():
                self._files.rm_file(self._path)

    def still_held(self) -> bool:
        """Whether nobody else may take it for expired yet."""
        return time.monotonic() - self._renewed < LEASE_SECONDS

    def _free(self) -> bool:
        try:
            self._files.pipe_file(self._path, self._owner, mode="create")
        except OSError:  # for "it is there already" each store has its own
            self._refused += 1
            lease = self._there()
            if lease is None and self._refused > REFUSED:
                raise
        else:
            return True
        if lease is not None:
            self._refused = 0
            self._expire(*lease)
        return False

    def _expire(self, owner: bytes, renewed: datetime) -> None:
        """Clocks differ, so what counts is that nobody renews it while we look; except for a very old one."""
        mark = owner + str(renewed).encode()
        if mark != self._other:
            self._other, self._other_since = mark, time.monotonic()
        unchanged = time.monotonic() - self._other_since > LEASE_SECONDS
        if unchanged or datetime.now(UTC) - renewed > CLOCKS_DIFFER:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path)

    def _there(self) -> tuple[bytes, datetime] | None:
        self._files.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return self._files.cat_file(self._path), self._files.modified(self._path)
        return None

    def _is_ours(self) -> bool:
        lease = self._there()
        return lease is not None and lease[0] == self._owner

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / 4):
            with contextlib.suppress(Exception):  # tried again before it expires
                asked = time.monotonic()
                if not self._is_ours():
                    self._renewed = -LEASE_SECONDS
                    logger.error(
                        f"Another run took the lock of {self._where}: this one was silent for too long."
                    )
                    return
                self._files.pipe_file(self._path, self._owner)
                self._renewed = asked
