"""Copies customers again and again, each time killed at another step, until a run ends; prints how each one ended.

One process that has imported everything forks a fresh child for each run, so that a kill costs no start-up.
A step is a page that came in, a statement that was sent to the database, or a stage of dlt begun or ended.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any

from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.load import Load
from dlt.pipeline.pipeline import Pipeline

from paystack_source.api.client import PaystackClient
from paystack_source.warehouse.copying import Limits
from paystack_source.warehouse.sync import copy_customers, open_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable


def count_steps(deadly: int | str) -> None:
    """Die at step number `deadly`, or after the first statement with that in it."""
    steps, lock = itertools.count(1), threading.Lock()

    def step() -> None:
        with lock:
            if next(steps) == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    def dying(client: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        answer = execute(client, query, *args, **kwargs)
        if isinstance(deadly, str) and deadly in str(query):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    def with_steps(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def stepping(*args: Any, **kwargs: Any) -> Any:
            step()
            answer = function(*args, **kwargs)
            step()
            return answer

        return stepping

    def counted(owner: Any, name: str) -> None:
        setattr(owner, name, with_steps(getattr(owner, name)))

    execute = DuckDbSqlClient.execute_sql
    DuckDbSqlClient.execute_sql = dying  # type: ignore[method-assign]
    counted(PaystackClient, "list")
    counted(DuckDbSqlClient, "execute_query")
    counted(Load, "complete_package")
    for stage in ("extract", "normalize", "load"):
        counted(Pipeline, stage)


def run(key: str, url: str, deadly: int | str) -> None:
    count_steps(deadly)
    with PaystackClient(key, base_url=url, quota=0, read_only=True) as client:
        pipeline = open_pipeline("duckdb", "paystack")
        limits = Limits(rows=400, slow_rows=400)
        report = copy_customers(pipeline, client, limits=limits, refresh_budget=0, history=True)
    os._exit(0 if report.complete else 5)


def main() -> None:
    key, url, *deadly = sys.argv[1:]
    ends = []
    for number in [*(int(step) if step.isdigit() else step for step in deadly), sys.maxsize]:
        child = os.fork()
        if not child:
            try:
                run(key, url, number)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        ends.append(os.waitstatus_to_exitcode(status))
    sys.stdout.write(json.dumps(ends) + "\n")


if __name__ == "__main__":
    main()
