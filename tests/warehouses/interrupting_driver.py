"""Runs the copy again and again at one door, each time interrupted at another step; told how on standard input.

One process that has imported everything forks a fresh child for each run, so that a run costs no start-up.
A line is `SIGNAL STEP DATASET MACHINE`, the answer how that run ended; before it `waits`, if it waits for another run. A step is a question to the database, a job
of a load, a stage of dlt or the note of a load, each before and after. The name of a table is a step as well: a job
has loaded its rows, and dlt has not noted it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import dlt
from dlt.common.destination.client import RunnableLoadJob
from dlt.common.storages.load_package import PackageStorage
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.destinations.impl.postgres.sql_client import Psycopg2SqlClient
from dlt.load import Load
from dlt.pipeline.pipeline import Pipeline

from paystack_source import PaystackClient, paystack_source
from paystack_source.warehouse import single_writer
from paystack_source.warehouse.copying import Limits
from paystack_source.warehouse.sync import copy_customers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def interrupt(deadly: str, kind: signal.Signals) -> None:
    """Send the signal to this process at the step `deadly`."""
    steps, lock = itertools.count(1), threading.Lock()

    def step(loaded: str = "") -> None:
        with lock:
            if deadly in {str(next(steps)), loaded}:
                os.kill(os.getpid(), kind)

    def asking(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        @contextmanager
        def with_steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
            step()
            with function(*args, **kwargs) as answer:
                step()
                yield answer

        return with_steps

    def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def with_steps(*args: Any, **kwargs: Any) -> Any:
            step()
            answer = function(*args, **kwargs)
            step()
            return answer

        return with_steps

    begin = RunnableLoadJob.run_managed

    def run_managed(job: Any, *args: Any) -> None:
        load = job.run

        def run() -> None:
            step()
            load()
            step(job.job_file_info().table_name)

        job.run = run
        begin(job, *args)

    RunnableLoadJob.run_managed = run_managed  # type: ignore[method-assign]
    for client in (DuckDbSqlClient, Psycopg2SqlClient):
        client.execute_query = asking(client.execute_query)  # type: ignore[method-assign]
    for owner, name in (
        (PackageStorage, "complete_job"),
        (Load, "complete_package"),
        (Pipeline, "extract"),
        (Pipeline, "normalize"),
        (Pipeline, "load"),
    ):
        setattr(owner, name, stepping(getattr(owner, name)))


def stop(_signal: int, _frame: Any) -> None:
    """What the command does on SIGTERM."""
    raise KeyboardInterrupt


def run(door: str, destination: str, key: str, url: str, dataset: str, machine: str) -> int:
    """One run; 0 if it ended well."""
    pipeline = dlt.pipeline(
        "paystack_customers", destination=destination, dataset_name=dataset, pipelines_dir=machine
    )
    if door == "plain":
        pipeline.run(paystack_source(key, url, quota=0, history=True, refresh_budget=2))
        return 0
    with PaystackClient(key, base_url=url, quota=0, read_only=True) as client:
        limits = Limits(rows=150, slow_rows=150)
        return (
            0
            if copy_customers(pipeline, client, limits=limits, refresh_budget=2, history=True).complete
            else 5
        )


def main() -> None:
    door, destination, key, url = sys.argv[1:]
    single_writer.POLL_SECONDS = 0.2  # whoever waits for another run
    single_writer.log = Mock(warning=lambda *_text: tell("waits"))
    for line in sys.stdin:
        kind, deadly, dataset, machine = line.split()
        child = os.fork()
        if not child:
            code = 1
            try:
                signal.signal(signal.SIGTERM, stop)
                interrupt(deadly, signal.Signals(int(kind)))
                code = run(door, destination, key, url, dataset, machine)
            except KeyboardInterrupt:
                code = 130
            except Exception:  # noqa: BLE001  # whatever it is, the parent is told
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        tell(str(os.waitstatus_to_exitcode(status)))


def tell(line: str) -> None:
    """Tell the test, which reads standard output."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
