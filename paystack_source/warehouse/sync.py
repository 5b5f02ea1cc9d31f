"""The engine of the command, `copy_customers` and `pipeline.run`: a whole run, from its locks to its report.

    lock       folder and dataset (`single_writer`)
    prepare    interrupted loads, repair, the history's baseline (`prepare`)
    load       read and store (`copying`)
    close      count the customers in the warehouse, complete the ledger, report

`copy_customers` makes several loads, and each load is a checkpoint: after a kill the next run continues where the last
load ended, because dlt commits the rows together with the proven windows. `PlainRuns` does the same around dlt's own
`pipeline.run`, in one load.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import dlt
from dlt.common import logger
from dlt.pipeline.pipeline import Pipeline
from dlt.pipeline.trace import PipelineTrace

from paystack_source.api.arguments import count_of, flags, instance_of
from paystack_source.api.client import PaystackClient
from paystack_source.errors import AlreadyRunningError, ConfigError, NotCompleteError
from paystack_source.extract.account import require_one_account
from paystack_source.extract.ledger import Entry, Summary, edges
from paystack_source.extract.secrets import clear_fields
from paystack_source.extract.windows import ALWAYS, BEGIN, END, Window, bounds
from paystack_source.failures import explain
from paystack_source.interrupts import redeliver_interrupts
from paystack_source.settings import DETAILS_BUDGET, REFRESH_BUDGET, require_own_dlt_folder
from paystack_source.warehouse.comments import write_comments
from paystack_source.warehouse.copying import Copying, Limits, checkpoint, ledger_source
from paystack_source.warehouse.destinations import cached_capabilities, load, replace_by_swap
from paystack_source.warehouse.details import DetailsReport, fetch_details, require_details_tables
from paystack_source.warehouse.dlt_quirks import has_loaded, listen_to_runs, restart_interrupted_loads
from paystack_source.warehouse.duckdb_file import require_different_names
from paystack_source.warehouse.locations import DUCKDB, duckdb_file, pipeline_name
from paystack_source.warehouse.orchestrators import Waits, terminal_errors
from paystack_source.warehouse.prepare import (
    complete_histories,
    is_ours,
    is_overtaken,
    our_schemas,
    prepare,
    raise_overtaken,
    restore_schema,
)
from paystack_source.warehouse.queries import Warehouse
from paystack_source.warehouse.single_writer import (
    ActiveRun,
    begin_run,
    current_run,
    end_run,
    exclusive_run,
    make_pipeline,
)

PIPELINE = "paystack_customers"


@dataclass(slots=True)
class CopyReport(Summary):
    """The result of a run: what it read, what the warehouse holds now, and what the run cost."""

    run_id: str = ""
    """The run's id in the ledger."""
    started_at: datetime | None = None
    """In UTC."""
    window: Window | None = None
    """The range of the run; None for all customers."""
    key_mode: str | None = None
    key_source: str | None = None
    """Where the key was found: the name of an environment variable, the path of a file, or `an argument`."""
    key_fingerprint: str | None = None
    account: int | None = None
    """The integration whose customers the warehouse holds; None if the rows do not have it."""
    rows_loaded: int = 0
    warehouse_total: int = 0
    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    waited_seconds: float = 0.0
    seconds: float = 0.0
    details: DetailsReport | None = None

    @property
    def whom(self) -> str:
        """The range as text to follow "every customer" or "3 customers"; empty for all customers."""
        pairs = zip(("from", "before"), edges(self.window or ALWAYS), strict=True)
        parts = [f" {word} {at.replace(tzinfo=None)}".removesuffix(" 00:00:00") for word, at in pairs if at]
        return f" created{' and'.join(parts)}" if parts else ""

    @property
    def paystacks_count(self) -> str:
        """Paystack's total as text to follow "Paystack"."""
        return "gives no total" if self.api_total is None else f"counts {self.api_total:,}"

    @property
    def counts(self) -> str:
        """The counts of warehouse and Paystack, as text."""
        return f"it holds {self.warehouse_total:,} customers{self.whom}, and Paystack {self.paystacks_count}"

    def require_complete(self) -> CopyReport:
        """Return the report, or raise `NotCompleteError` if the copy was not proven complete."""
        if not self.complete:
            message = f"The copy could not be proven complete: {self.counts}."
            raise NotCompleteError(message, details=self.as_json())
        return self

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        start, end = edges(self.window or ALWAYS)
        numbers = {column.name: getattr(self, column.name) for column in fields(self)}
        for name in ("complete", "window", "details"):
            del numbers[name]
        return {
            "status": "complete" if self.complete else "incomplete",
            "from": start.isoformat() if start else None,
            "to": end.isoformat() if end else None,
            **numbers,
            "started_at": self.started_at.isoformat(timespec="seconds") if self.started_at else None,
            "waited_seconds": round(self.waited_seconds, 1),
            "seconds": round(self.seconds, 2),
            "unproven": [entry.as_difference() for entry in self.unproven],
            **({"details": self.details._asdict()} if self.details else {}),
        }


def open_pipeline(destination: str, dataset: str, *, name: str = PIPELINE) -> Pipeline:
    """Make the pipeline of a dataset, with a destination from dlt's configuration.

    The DuckDB files are those of `paystack_source.warehouse.locations`.

    Raises:
        ConfigError: Other users can write dlt's folder, the DuckDB file and the dataset have the same name, or dlt's
            settings give the dataset another name.
        AlreadyRunningError: Another first run creates dlt's working folder at the same moment.

    """
    require_own_dlt_folder()
    target: Any = destination
    if destination in DUCKDB:
        file = duckdb_file(destination)
        require_different_names(file, dataset)
        target = dlt.destinations.duckdb(str(file))
    name = pipeline_name(name, destination, dataset)
    try:
        pipeline = make_pipeline(name, lambda: dlt.pipeline(name, destination=target, dataset_name=dataset))
    except FileExistsError:  # dlt has to create the working folder itself
        raise AlreadyRunningError(
            "Another first run of this pipeline is just starting.",
            "Run again when it has ended; nothing was read.",
        ) from None
    if pipeline.dataset_name != dataset:
        raise ConfigError(
            f"dlt's settings change the dataset {dataset} to {pipeline.dataset_name}: other commands would not find it",
            advice=f'Remove dataset_name_layout or dev_mode; or set "%s" and false under [pipelines.{name}].',
        )
    return pipeline


def copy_customers(  # noqa: D417, PLR0913  # the settings of a run are its arguments; some share a line below
    pipeline: Pipeline,
    client: PaystackClient | None = None,
    *,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    refresh_budget: int = REFRESH_BUDGET,
    full_refresh: bool = False,
    history: bool = False,
    details: int | bool = False,
    include: Collection[str] = (),
    allow_incomplete: bool = False,
    account: int | None = None,
    limits: Limits | None = None,
    on_rows: Callable[[int], None] | None = None,
    on_total: Callable[[int], None] | None = None,
    on_details: Callable[[int, int], None] | None = None,
    run_id: str | None = None,
) -> CopyReport:
    """Bring the copy in the pipeline's dataset up to date, and prove that it is complete.

        pipeline = dlt.pipeline("paystack_customers", destination="postgres", dataset_name="paystack")
        print(copy_customers(pipeline).as_json())

    The tables are those of `paystack_source()`. Each load is a checkpoint. The command `customers` calls this function.

    Args:
        pipeline: A dlt pipeline with a destination and a dataset. With `refresh` the run is a full refresh.
        client: The client; None makes one with the key and settings that `paystack_source()` would use.
        start, end: Only customers created from `start` on, and before `end`; ISO 8601 or datetime, UTC without a zone.
        refresh_budget: Requests for reading old customers again, on top of what new ones cost; 0 is off.
        full_refresh: Read everything again, and replace the table once the new one is proven complete.
        history: Also keep every version of a customer in `customers_history`.
        details: The most customers to fetch one by one for `customer_details`; True: 600.
        include: Fields of the details to store in clear, such as authorization_code; otherwise left out or masked.
        allow_incomplete: Return the report also if the copy could not be proven complete.
        account: The number of the integration that every customer has to belong to.
        limits, run_id: When a load ends; the run's id in the ledger and the report, by default a random one.
        on_rows, on_total: Called with the number of customers just read, and with Paystack's total.
        on_details: Called with the number of customers fetched so far, first 0, and the number to fetch.

    Raises:
        ConfigError: No usable key or setting, a range together with `full_refresh`, or another account's dataset.
        PaystackError: Paystack could not be read; what was read before is loaded.
        NotCompleteError: Loaded, but not proven complete (a full refresh changes nothing). `details` has the report.
        AlreadyRunningError: Another run uses the working folder, or took the dataset's lock during the run.
        PipelineStepFailed: dlt's own error for an error during extract or load.
        KeyboardInterrupt: Ctrl-C, also if dlt or DuckDB raised another error because of it.

    """
    flags(full_refresh=full_refresh, history=history, allow_incomplete=allow_incomplete)
    full_refresh = full_refresh or bool(instance_of("pipeline", pipeline, dlt.Pipeline).refresh)
    waits, budget = Waits(), DETAILS_BUDGET if details is True else count_of("details", details or 0)
    with terminal_errors(), redeliver_interrupts(), _client(client, waits) as paystack:
        copying = Copying(
            paystack,
            window=_window(start, end, full_refresh=full_refresh),
            refresh_budget=refresh_budget,
            full_refresh=full_refresh,
            account=account if account is None else count_of("account", account),
            limits=instance_of("limits", limits or Limits(), Limits),
            waits=waits,
            on_rows=on_rows,
            on_total=on_total,
            run_id=run_id,
        )
        fetch = partial(fetch_details, budget=budget, include=clear_fields(include), on_details=on_details)
        report = _run(pipeline, copying, history=history, fetch=fetch if budget else None)
    return report if allow_incomplete else report.require_complete()


def _window(start: datetime | str | None, end: datetime | str | None, *, full_refresh: bool) -> Window | None:
    window = bounds(start, end)
    if full_refresh and window is not None:
        raise ConfigError(
            "A full refresh takes no range: it replaces all customers",
            advice="Leave --from and --to out, or --full-refresh.",
        )
    return window


def _client(given: PaystackClient | None, waits: Waits) -> AbstractContextManager[PaystackClient]:
    """The client of a run; one that is made here is closed after the run."""
    require_own_dlt_folder()
    if given is None:
        return PaystackClient(read_only=True, on_wait=waits)
    return contextlib.nullcontext(instance_of("client", given, PaystackClient))


def _run(
    pipeline: Pipeline, copying: Copying, *, history: bool, fetch: Callable[..., DetailsReport] | None
) -> CopyReport:
    """The steps of a run, under its locks."""
    if not cast("Any", pipeline.destination):
        raise ConfigError(
            "The pipeline has no destination", advice='Name one: dlt.pipeline(..., destination="duckdb").'
        )
    client, began = copying.client, time.monotonic()
    started_at = datetime.now(UTC)
    with (
        cached_capabilities(pipeline),
        contextlib.closing(copying),
        exclusive_run(pipeline, wait=False) as run,
    ):
        if run.duckdb:
            run.duckdb.limit_memory()
        prepare(pipeline)
        complete_histories(pipeline, begin=history)
        if fetch:
            require_details_tables(pipeline)
        _load(pipeline, run, copying, history=history)
        report = close(pipeline, copying)
        if fetch:
            report.details = fetch(pipeline, client)
        write_comments(pipeline, our_schemas(pipeline))
    return replace(
        report,
        started_at=started_at,
        key_mode=client.mode,
        key_source=client.key.source,
        key_fingerprint=client.key.fingerprint,
        seconds=time.monotonic() - began,
        **copying.cost(),
    )


def _load(pipeline: Pipeline, run: ActiveRun, copying: Copying, *, history: bool) -> None:
    """Load until everything is read. The reader's error is raised after the rows before it are loaded."""
    if copying.full_refresh:
        replace_by_swap(pipeline)
    while not copying.done:
        if run.duckdb and copying.rows_loaded:
            run.duckdb.release_memory()
        load(pipeline, checkpoint(copying, history=history))
    if copying.failure is not None:
        raise copying.failure


def close(pipeline: Pipeline, copying: Copying) -> CopyReport:
    """Count the customers in the warehouse, add the counts to the ledger, and report whether all counts agree."""
    extraction = copying.extraction
    if extraction is None:
        raise AssertionError("the run never began")
    summary = extraction.summary
    warehouse = Warehouse(pipeline, copying.table)
    whole = warehouse.count([extraction.bounds or ALWAYS])[0]
    wrong = []
    if copying.rows_loaded and copying.entries:
        wrong = _check_entries(warehouse, whole, copying.entries)
        load(pipeline, ledger_source(copying.entries, copying.schema_name))
    accounts = warehouse.accounts()
    require_one_account(accounts, copying.account)
    numbers = {number for _, number in accounts if number is not None}
    unproven = summary.unproven + wrong
    read = {each.name: getattr(summary, each.name) for each in fields(summary)}
    return replace(
        CopyReport(**read),
        complete=summary.complete and not unproven and summary.api_total in {None, whole},
        run_id=extraction.run_id,
        window=copying.window,
        account=numbers.pop() if len(numbers) == 1 else None,
        rows_loaded=copying.rows_loaded,
        warehouse_total=whole,
        windows=sum(entry.proven for entry in copying.entries),
        unproven=unproven,
    )


def _check_entries(warehouse: Warehouse, whole: int, entries: list[Entry]) -> list[Entry]:
    """Set `rows_held_after` of each window; returns the windows whose customers the warehouse lacks.

    The warehouse may hold more than were read: customers that were created later.
    """
    last: dict[Window, Entry] = {}
    for entry in entries:
        if entry.kind == "count":
            entry.rows_held_after = whole
        else:
            last[Window(entry.window_from or BEGIN, entry.window_to or END)] = entry
    wrong = []
    expected = [
        (entry, entry.rows, rows)
        for entry, rows in zip(last.values(), warehouse.count(list(last)), strict=True)
    ]
    expected += [(entry, entry.api_total, whole) for entry in entries[-1:] if entry.kind == "count"]
    for entry, wanted, rows in expected:
        entry.rows_held_after = rows
        if entry.proven and rows < (wanted or 0):
            entry.proven, entry.difference = False, (wanted or 0) - rows
            wrong.append(entry)
    return wrong


class PlainRuns:
    """The engine for a plain `pipeline.run(paystack_source())`. dlt calls it when a run begins and ends.

    dlt only logs an error that is raised here. So an error of the preparation is stored, and raised when `customers`
    begins to extract (`require_prepared`). If the counts do not agree, the log and the ledger have the difference, and
    the next run reads what is missing.
    """

    sources_made = False
    """Whether a Paystack source was made in this process."""

    def on_start_trace(self, _trace: object, step: str, pipeline: Pipeline) -> None:
        run = begin_run(pipeline)
        depth = run.depth
        try:
            if depth == 1 and pipeline.destination and (self.sources_made or our_schemas(pipeline)):
                self._prepare(pipeline, run, step)
        except Exception as error:  # noqa: BLE001  # raised if customers are read; dlt would only log it
            run.error = error
            logger.warning(f"The run is not prepared to copy customers: {explain(error).message}")
        except BaseException:
            end_run(pipeline, depth=depth)  # after an interrupt dlt does not call `on_end_trace`
            raise
        finally:
            run.awaits_end = depth == 1

    @staticmethod
    def _prepare(pipeline: Pipeline, run: ActiveRun, step: str) -> None:
        run.lock_folder()
        if step == "run":
            pipeline.activate()
        # A new pipeline may load a Paystack source, so it must read the destination's schema under the lock.
        may_be_ours = not pipeline.schemas or bool(our_schemas(pipeline))
        if step in {"run", "load"} and may_be_ours:
            run.lock_dataset()
        if step == "load" and is_overtaken(pipeline):
            run.still_held = raise_overtaken
        if step == "run" and may_be_ours:
            if pipeline.config.restore_from_destination and not pipeline.dev_mode:
                restore_schema(pipeline)
            if our_schemas(pipeline):
                prepare(pipeline)
                complete_histories(pipeline)
            run.prepared = True

    def on_start_trace_step(self, _trace: object, step: str, pipeline: Pipeline) -> None:
        if step == "load" and pipeline.destination:
            restart_interrupted_loads(pipeline, is_ours)

    def on_end_trace_step(self, *_: object) -> None:
        """Required by dlt."""

    def on_end_trace(self, trace: PipelineTrace, pipeline: Pipeline, _send_state: object) -> None:
        steps = list(trace.steps)
        try:
            if has_loaded(pipeline, steps):
                with terminal_errors():
                    self._close(pipeline)
        finally:
            trace.steps[:] = steps  # without our own loads: `last_trace` has only the user's run
            end_run(pipeline)

    @staticmethod
    def _close(pipeline: Pipeline) -> None:
        run = current_run(pipeline)
        if run is None or run.depth > 1 or run.copied is None:
            return
        report = close(pipeline, run.copied)
        run.copied.metrics |= {
            "proven": report.complete,
            "unproven": [entry.as_difference() for entry in report.unproven],
            "warehouse_total": report.warehouse_total,
        }
        complete_histories(pipeline, begin=run.copied.keeps_history)
        write_comments(pipeline, our_schemas(pipeline))
        if report.complete:
            logger.info(f"The copy is complete: {report.counts}.")
        else:
            logger.error(
                f"The copy in {pipeline.dataset_name} could not be proven complete: {report.counts}. "
                "The next run reads again what differs. Maps that drop customers make it differ each time."
            )


PLAIN_RUNS = PlainRuns()
listen_to_runs(PLAIN_RUNS)
