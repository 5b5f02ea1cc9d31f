"""A dlt destination that changes customers: it sends the rows of a dlt pipeline as journaled bulk runs.

    from paystack_source.bulk.dlt_destination import paystack_customers

    pipeline = dlt.pipeline("whitelist", destination=paystack_customers("risk-action"))
    pipeline.run(rows, table_name="rows")  # a list, a frame or a resource with the operation's columns

dlt passes one file after the other, and the same file again after an error. Each file is one run, named after dlt's
load and the file's content. If a file is passed again, its run is resumed: rows that were sent are not sent twice, and
rows in doubt are read back. A rejected row raises no error, because dlt would retry its whole file five times and block
all later files; the run's results have the row. A run that was stopped raises `StoppedError`, and dlt may retry it.

A file with a problem (a wrong value, one customer twice) and a refused key fail the load; nothing of the file is sent,
or nothing more. dlt tries this load again in each later run, before all others; `pipeline.abort_packages()` drops it.

The rows pass through dlt's working folder. dlt is told to delete them when their load has ended, unless your own
setting `load.delete_completed_jobs` says otherwise.

The plain helpers (`bulk_set_risk_action` and so on) show a plan first and return results; prefer them. See
docs/decisions/write-back-destination.md.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

import dlt
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.common.runtime import signals

from paystack_source.api.arguments import flags, instance_of
from paystack_source.api.client import PaystackClient
from paystack_source.bulk.consent import unattended
from paystack_source.bulk.input.files import open_table
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.bulk.operations import operation as find_operation
from paystack_source.bulk.plan.planner import PlanOptions
from paystack_source.bulk.run.runs import Runs
from paystack_source.bulk.service import BulkService, client_operations
from paystack_source.errors import (
    AccessError,
    ConfigError,
    PaystackError,
    StoppedError,
    Unavailable,
)
from paystack_source.settings import delete_after_load

log = logging.getLogger("paystack_source")
_HASHED: Final = 12
_FILES: Final[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)
"""By dlt's name of a file, the lock that is held while it is sent.

After a Ctrl-C dlt returns while the thread of the interrupted job still ends its last rows. The next run waits for it.
"""
_PENDING: Final = "The next run of the pipeline tries this load again; pipeline.abort_packages() drops it."


def paystack_customers(  # noqa: PLR0913  # all have a default
    operation: str = "risk-action",
    *,
    client: PaystackClient | None = None,
    approved: bool = False,
    results_folder: str | Path | None = None,
    only_missing: bool = False,
    metadata: Literal["merge", "replace"] = "merge",
    risk_action: str | None = None,
) -> Destination[Any, Any]:
    """A dlt destination for one bulk operation.

    `client` None makes one with the key from the settings. With a live key, a file above the operation's thresholds is
    refused unless `approved`. Rows need the columns of the operation (docs/bulk-input.md); dlt's own columns are left
    out. `only_missing`, `metadata` and `risk_action` are those of the helpers.
    """
    name = find_operation(operation).name
    flags(approved=approved, only_missing=only_missing)
    if client is not None:
        instance_of("client", client, PaystackClient)
    planning = {"only_missing": only_missing, "metadata": metadata, "risk_action": risk_action}

    @dlt.destination(
        name="paystack_customers",
        batch_size=0,  # `items` is the path of a whole file
        loader_file_format="parquet",
        naming_convention="direct",
        skip_dlt_columns_and_tables=True,
        max_parallel_load_jobs=1,  # a run sends as many requests at once as the quota allows
    )
    def send(items: Any, table: Any, /) -> None:  # noqa: ANN401, ARG001  # dlt's: here a path, and a schema
        with _FILES[Path(items).name]:
            _send(Path(items), name, client, Runs(results_folder), planning, approved=approved)

    made: Destination[Any, Any] = cast("Any", send)()
    connect = made.client

    def client_of(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # dlt's
        # dlt reads its settings for the load after this. The files have the rows, and thereby numbers of people.
        delete_after_load(dlt.current.pipeline().pipeline_name)
        return connect(*arguments, **options)

    made.client = client_of  # type: ignore[method-assign]
    return made


def _send(  # noqa: PLR0913  # the arguments of the destination
    path: Path,
    operation: str,
    client: PaystackClient | None,
    runs: Runs,
    planning: dict[str, Any],
    *,
    approved: bool,
) -> None:
    """Start or resume the run of one file. Raises `StoppedError` if it was stopped."""
    connected = client or PaystackClient(operations=client_operations(operation))
    own = connected.until(_require_no_signal)
    try:
        snapshot = FileSnapshot.of(path)
        run_id = run_id_of(snapshot, operation)
        table = open_table(snapshot)
        console = unattended(lambda _question: approved, "Look at them first, then give approved=True.")
        service = BulkService(own, runs, console)
        run = next((found for found in runs.everywhere() if found.run_id == run_id), None)
        if run is not None:
            report = service.resume(run, source=table)
        else:
            out = runs.new_plan_file(operation, path)
            try:
                # The plan has the id of its run, so that the same file of the same load is applied once.
                plan = service.plan(
                    operation, table, out=out, options=PlanOptions(**planning), plan_id=run_id
                )
                for warning in plan.header.warnings:
                    log.warning(warning)
                report = service.apply(plan, source=table, run_id=run_id)
            finally:
                out.unlink(missing_ok=True)  # the run's folder has it
    except (AccessError, ConfigError) as error:  # dlt would have the key refused five times
        raise DestinationTerminalException(f"{error}\n{_PENDING}") from None
    finally:
        if client is None:
            connected.close()
    if report.stopped:
        words = report.error.message if isinstance(report.error, PaystackError) else report.stopped
        if isinstance(report.error, AccessError):
            raise DestinationTerminalException(f"run {report.run.run_id} was stopped: {words} {_PENDING}")
        raise StoppedError(f"run {report.run.run_id} was stopped: {words}")
    if not report.complete:
        log.warning("run %s: not every row was applied; see %s", report.run.run_id, report.run.results_file)


def _require_no_signal() -> None:
    """After a Ctrl-C or SIGTERM dlt waits for the end of the job, which may be hours away: send nothing more."""
    if signals.was_signal_received():
        raise Unavailable("the pipeline was interrupted")


def run_id_of(snapshot: FileSnapshot, operation: str) -> str:
    """The run's id. It is the same each time that dlt passes the same file of the same load."""
    load_id = snapshot.path.parent.parent.name
    digest = hashlib.sha256(load_id.encode())
    digest.update(snapshot.data)
    try:
        loaded = datetime.fromtimestamp(float(load_id), UTC)
    except (ValueError, OverflowError):
        loaded = datetime.fromtimestamp(0, UTC)
    return f"{loaded:%Y%m%d-%H%M%S}-{operation}-{digest.hexdigest()[:_HASHED]}"
