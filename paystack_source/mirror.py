"""Runs a copy from start to proven end: load by load, each of them a checkpoint, then the closing count.

What `pipelines/customers.py` calls. A run that is killed continues where the last load ended, since rows and the
memory of what is proven are committed together.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt

from paystack_source.errors import ConfigError
from paystack_source.extract.windows import ALWAYS, BEGIN, END, Window
from paystack_source.source import CUSTOMER_COLUMNS, REFRESH_BUDGET, Copying, Limits, checkpoint, ledger_lines
from paystack_source.warehouse.destinations import is_lake, mend, swapping
from paystack_source.warehouse.details import DetailsReport, fetch_details
from paystack_source.warehouse.duckdb_guard import Alone
from paystack_source.warehouse.history import begin_history
from paystack_source.warehouse.interrupted_loads import begin_anew
from paystack_source.warehouse.locations import DUCKDB, duckdb_file, forget_other_places, pipeline_name
from paystack_source.warehouse.queries import Warehouse

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from dlt.pipeline.pipeline import Pipeline

    from paystack_source.api.client import PaystackClient, Stats
    from paystack_source.extract.ledger import Entry

PIPELINE = "paystack_customers"
_NO_RANGE = "Leave --from and --to out, or --full-refresh."


@dataclass(slots=True)
class Report:
    """What a run came to."""

    complete: bool = False
    window: Window | None = None
    """The range that was asked for; None for all customers."""
    key_mode: str | None = None
    account: int | None = None
    """The integration whose customers the warehouse holds; None if their rows do not say."""
    rows_seen: int = 0
    rows_new: int = 0
    rows_missing: int = 0
    rows_refreshed: int = 0
    rows_loaded: int = 0
    api_total: int | None = None
    warehouse_total: int = 0
    windows: int = 0
    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    waited_seconds: float = 0.0
    seconds: float = 0.0
    refresh_runs: int | None = None
    filters_ignored: bool = False
    unproven: list[Entry] = field(default_factory=list)
    details: DetailsReport | None = None

    def count(self, before: Stats, after: Stats) -> None:
        """What the run cost: what its client did meanwhile."""
        self.requests = after.requests - before.requests
        self.retries = after.retries - before.retries
        self.rate_limited = after.rate_limited - before.rate_limited
        self.waited_seconds = after.waited_seconds - before.waited_seconds

    @property
    def whom(self) -> str:
        """Which customers the run was about, after "every customer" or a number of them."""
        start, end = self._range
        if start and end:
            return f" created from {_short(start)} to {_short(end)}"
        if start:
            return f" created from {_short(start)} on"
        return f" created before {_short(end)}" if end else ""

    @property
    def _range(self) -> tuple[datetime | None, datetime | None]:
        """The ends that were given."""
        window = self.window or ALWAYS
        return (
            window.lo if window.lo > BEGIN else None,
            window.hi if window.hi < END else None,
        )

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` ends with."""
        start, end = self._range
        return {
            "status": "complete" if self.complete else "incomplete",
            "key_mode": self.key_mode,
            "account": self.account,
            "from": start.isoformat() if start else None,
            "to": end.isoformat() if end else None,
            "rows_seen": self.rows_seen,
            "rows_new": self.rows_new,
            "rows_refreshed": self.rows_refreshed,
            "rows_missing": self.rows_missing,
            "rows_loaded": self.rows_loaded,
            "api_total": self.api_total,
            "warehouse_total": self.warehouse_total,
            "windows": self.windows,
            "refresh_runs": self.refresh_runs,
            "filters_ignored": self.filters_ignored,
            "unproven": [
                {
                    "from": entry.window_from,
                    "to": entry.window_to,
                    "api_total": entry.api_total,
                    "distinct_ids": entry.distinct_ids,
                    "difference": entry.difference,
                }
                for entry in self.unproven
            ],
            "requests": self.requests,
            "retries": self.retries,
            "rate_limited": self.rate_limited,
            "waited_seconds": round(self.waited_seconds, 1),
            "seconds": round(self.seconds, 2),
            **({"details": self.details._asdict()} if self.details else {}),
        }


def _short(when: datetime) -> str:
    """The day, and the time of day if it is not its beginning."""
    return (
        f"{when:%Y-%m-%d}"
        if when == when.replace(hour=0, minute=0, second=0)
        else f"{when:%Y-%m-%d %H:%M:%S}"
    )


def open_pipeline(destination: str, dataset: str, *, name: str = PIPELINE) -> Pipeline:
    """The pipeline as dlt's configuration describes its destination.

    DuckDB's files are those of `paystack_source.warehouse.locations`.
    """
    target: Any = destination
    if destination in DUCKDB:
        target = dlt.destinations.duckdb(str(duckdb_file(destination)))
    called = pipeline_name(name, destination, dataset)
    return dlt.pipeline(called, destination=target, dataset_name=dataset)


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


def copy_customers(  # noqa: PLR0913
    pipeline: Pipeline,
    client: PaystackClient,
    *,
    window: Window | None = None,
    refresh_budget: int = REFRESH_BUDGET,
    full_refresh: bool = False,
    history: bool = False,
    details: int = 0,
    limits: Limits | None = None,
    on_rows: Callable[[int], None] | None = None,
    on_total: Callable[[int], None] | None = None,
) -> Report:
    """Bring the dataset up to date and prove it.

    Args:
        pipeline: Where to.
        client: Where from.
        window: Only this stretch of creation time.
        refresh_budget: Requests for reading old customers again.
        full_refresh: Read everything again and swap it in once it is proven complete; not before.
        history: Also keep every version of a customer, see `paystack_source.warehouse.history`.
        details: Customers to fetch for their details at most, see `paystack_source.warehouse.details`; 0 is off.
        limits: Where a checkpoint ends.
        on_rows: Told how many customers were just read.
        on_total: Told how many there are.

    Raises:
        ConfigError: A window together with `full_refresh`, or the dataset holds another account's customers.
        PaystackError: Paystack could not be read; what was read before is loaded.
        AlreadyRunningError: Another run is under way.

    """
    if full_refresh and window is not None:
        raise ConfigError("A full refresh takes no range: it replaces everybody", advice=_NO_RANGE)
    started, before = time.monotonic(), client.stats
    with Alone(pipeline) as alone:
        _prepare(pipeline, alone, history=history, full_refresh=full_refresh)
        copying = Copying(
            client,
            window=window,
            refresh_budget=refresh_budget,
            anew=full_refresh,
            limits=limits or Limits(),
            on_rows=on_rows,
            on_total=on_total,
            on_load=alone.make_room,
        )
        try:
            while not copying.done:
                pipeline.run(checkpoint(copying, history=history))
                alone.breathe()
            if copying.failure is not None:
                raise copying.failure
            report = _close(pipeline, copying)
            if details:
                report.details = fetch_details(pipeline, client, budget=details)
        finally:
            copying.close()
    report.key_mode = client.mode
    report.count(before, client.stats)
    report.seconds = time.monotonic() - started
    return report


def _prepare(pipeline: Pipeline, alone: Alone, *, history: bool, full_refresh: bool) -> None:
    forget_other_places(pipeline)
    leave_nothing_behind(pipeline)
    mend(pipeline)
    if pipeline.has_pending_data:  # of a run that was killed; `run` would wipe it if it was the first one
        pipeline.normalize()
        if not is_lake(pipeline):
            begin_anew(pipeline)
        alone.make_room_for_pending()
        pipeline.load()
        alone.breathe()
    if history:
        begin_history(pipeline, CUSTOMER_COLUMNS, alone.make_room)
        alone.breathe()
    if full_refresh:
        # The old table is read until the new one is whole; `truncate-and-insert` would empty it first.
        dlt.config["destination.replace_strategy"] = swapping(pipeline)


def _close(pipeline: Pipeline, copying: Copying) -> Report:
    """Count what the warehouse holds now, complete the ledger with it, and say whether all adds up."""
    extraction = copying.extraction
    if extraction is None:
        raise AssertionError("the run never began")
    tally = extraction.tally
    warehouse = Warehouse(pipeline)
    whole = warehouse.total()
    if extraction.bounds is not None:
        whole = warehouse.count([extraction.bounds])[0]
    wrong = []
    if copying.rows_loaded:
        wrong = _check_entries(warehouse, whole, copying.entries)
        pipeline.run(ledger_lines(copying.entries))
    numbers = {number for _, number in warehouse.accounts() if number is not None}
    unproven = tally.unproven + wrong
    return Report(
        complete=tally.complete and not unproven and tally.api_total in {None, whole},
        window=copying.window,
        account=numbers.pop() if len(numbers) == 1 else None,
        rows_seen=tally.rows_seen,
        rows_new=tally.rows_new,
        rows_missing=tally.rows_missing,
        rows_refreshed=tally.rows_refreshed,
        rows_loaded=copying.rows_loaded,
        api_total=tally.api_total,
        warehouse_total=whole,
        windows=sum(entry.proven for entry in copying.entries),
        refresh_runs=tally.refresh_runs,
        filters_ignored=tally.filters_ignored,
        unproven=unproven,
    )


def _check_entries(warehouse: Warehouse, whole: int, entries: list[Entry]) -> list[Entry]:
    """Fill in what the warehouse holds of each window after loading; those of which it lacks some are not proven.

    It may hold more: of those who came since the window was read.
    """
    last: dict[Window, Entry] = {}
    for entry in entries:
        if entry.kind == "count":
            entry.rows_held_after = whole
        else:
            last[Window(entry.window_from or BEGIN, entry.window_to or END)] = entry
    wrong = []
    for entry, rows in zip(last.values(), warehouse.count(list(last)), strict=True):
        entry.rows_held_after = rows
        if entry.proven and rows < (entry.rows or 0):
            entry.proven, entry.difference = False, (entry.rows or 0) - rows
            wrong.append(entry)
    return wrong
