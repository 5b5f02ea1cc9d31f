"""A run that copies customers, in one or several dlt loads of the tables `customers` and `ledger`.

The resource's state stores the proven windows; dlt commits it together with the rows.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import dlt
import pyarrow as pa
from dlt.common import logger
from dlt.extract import DltResource, DltSource
from dlt.extract.exceptions import CurrentSourceNotAvailable

from paystack_source.api.arguments import MOST_PER_PAGE, count_of
from paystack_source.api.client import PaystackClient
from paystack_source.customer import CUSTOMERS
from paystack_source.errors import ConfigError, NotCompleteError
from paystack_source.extract.account import require_account
from paystack_source.extract.arrow import EXTRA, SCHEMA
from paystack_source.extract.ledger import LEDGER, Checkpoint, Entry, Output
from paystack_source.extract.reader import Reader
from paystack_source.extract.run import Extraction
from paystack_source.extract.windows import Coverage, Window
from paystack_source.interrupts import require_uninterrupted
from paystack_source.settings import REFRESH_BUDGET
from paystack_source.values import parse_time, time_text
from paystack_source.warehouse.changes import Changes
from paystack_source.warehouse.destinations import (
    MERGED,
    apply_destination_hints,
    arrow_rows,
    merged,
    rows_to_load,
    source_of,
    table_resource,
)
from paystack_source.warehouse.dlt_quirks import (
    TABLE_STATE_KEY,
    active_pipeline,
    current_load,
    exclusive_dlt_context,
    is_being_replaced,
    is_limited,
    is_selected,
    table_of,
)
from paystack_source.warehouse.duckdb_file import LOAD_BYTES
from paystack_source.warehouse.history import HISTORY, history_resource, note_history
from paystack_source.warehouse.orchestrators import Waits, terminal_errors_in_extract
from paystack_source.warehouse.prepare import SCHEMA_NAME, require_prepared
from paystack_source.warehouse.queries import EmptiedWarehouse, Warehouse, columns_of
from paystack_source.warehouse.single_writer import current_run

BATCH_ROWS = 30_000
"""Customers in a table for dlt. Each table costs dlt 30 ms."""

BATCH_BYTES = 16_000_000
"""The most bytes in a table for dlt."""

CUSTOMER_COLUMNS: dict[str, Any] = CUSTOMERS.hints
"""The table's columns. New keys of the API become more text columns; values that fit none go into `extra`."""


@dataclass(slots=True)
class Limits:
    """When a load ends: after enough rows, or after fewer rows and `seconds`, always at the end of a window.

    At `bytes` or `most_rows` a load ends at once, also inside a window, because a merge has to fit into memory: DuckDB
    needs 150 MB more after 122,880 rows in one load (measured). A load may have as many rows as all loads before it, at
    least `first_rows`, and ends with the window in which it has `rows`. A kill loses at most one load.
    """

    rows: int = 100_000
    most_rows: int = 120_000
    first_rows: int = 30_000
    slow_rows: int = 20_000
    seconds: float = 30.0
    bytes: int = LOAD_BYTES

    def reached(self, rows: int, seconds: float, loaded: int) -> bool:
        """Whether to load now: `rows` were read in `seconds` since the last load, and `loaded` rows before it."""
        enough = min(self.rows, max(self.first_rows, loaded))
        return rows >= enough or (rows >= self.slow_rows and seconds >= self.seconds)


@dataclass(eq=False, repr=False)
class Copying:
    """One run that copies customers, in one load or in several.

    `resources` makes the resources of one load; call it again until `done`. The reader goes on in the background while
    dlt loads.
    """

    client: PaystackClient
    window: Window | None = None
    refresh_budget: int = REFRESH_BUDGET
    full_refresh: bool = False
    allow_incomplete: bool = False
    account: int | None = None
    limits: Limits | None = None
    waits: Waits = field(default_factory=Waits)
    on_rows: Callable[[int], None] | None = None
    on_total: Callable[[int], None] | None = None
    run_id: str | None = None

    keeps_history: bool = field(default=False, init=False)
    done: bool = field(default=False, init=False)
    failure: BaseException | None = field(default=None, init=False)
    rows_loaded: int = field(default=0, init=False)
    entries: list[Entry] = field(default_factory=list, init=False)
    metrics: dict[str, Any] = field(default_factory=dict, init=False)
    extraction: Extraction | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        count_of("refresh_budget", self.refresh_budget)
        key = self.client.key
        logger.info(f"Key: {key} with the fingerprint {key.fingerprint}, from {key.source}.")
        if self.full_refresh:
            self.limits = None
        self.schema_name, self.table = SCHEMA_NAME, CUSTOMERS.name
        self._cost_before = self.client.stats
        self._new_entries: list[Entry] = []
        self._reader = Reader(self.client)
        self._outputs: Generator[Output] | None = None

    def close(self) -> None:
        """Stop reading and end the reader's threads. The owner of the client closes it."""
        self._reader.close()
        if self._outputs is not None:
            self._outputs.close()

    def tables(self) -> Iterator[Any]:  # one function: dlt needs rows, entries and state in this order
        """The customers of the next load, with their change columns. `new_entries` returns the ledger's entries."""
        state = dlt.current.resource_state("customers") if current_load() else {}
        self.schema_name = dlt.current.source_schema().name
        self.table = table_of(CUSTOMERS.name)
        extraction, outputs = self._start_or_continue(state)
        started, rows, size = time.monotonic(), 0, 0
        batch = _Batch(one_page_each=is_limited("customers"))
        try:
            for output in outputs:
                if isinstance(output, pa.Table):
                    require_account(output, self.account)
                    rows += output.num_rows
                    size += batch.add(output)
                    self._report(output.num_rows, extraction.summary.api_total)
                    if batch.full:
                        yield from map(self._changes.with_change_columns, batch.tables())
                        self._save_state(state, extraction)  # dlt may stop at any yield
                    if self.limits and (size >= self.limits.bytes or rows >= self.limits.most_rows):
                        break
                    continue
                if isinstance(output, Entry):
                    self._new_entries.append(output)
                if self.limits and (
                    isinstance(output, Checkpoint)
                    or self.limits.reached(rows, time.monotonic() - started, self.rows_loaded)
                ):
                    break
            else:
                self.done = True
        except (Exception, KeyboardInterrupt) as error:
            if self.limits is None or not (rows or self._new_entries):
                raise
            self.failure, self.done = error, True  # raised after the rows so far are loaded
        last = list(map(self._changes.with_change_columns, batch.tables()))
        yield from last[:-1]
        self._save_state(state, extraction)
        self.rows_loaded += rows
        self._require_complete(extraction)
        if last or self._new_entries:  # the transformer of the ledger runs only if this yields
            yield last[-1] if last else []  # PostgreSQL cannot load an empty table

    def cost(self) -> dict[str, Any]:
        """Requests, retries, 429s and seconds waited in this run, as its client counted them."""
        now, before = asdict(self.client.stats), asdict(self._cost_before)
        return {name: now[name] - before[name] for name in now}

    def note_metrics(self) -> None:
        """Write the numbers of the run so far into `metrics`, for dlt's trace."""
        if self.extraction is not None:
            summary = self.extraction.summary
            self.metrics |= (
                self.cost()
                | self.client.key.provenance
                | {
                    "proven": self.done and self.failure is None and summary.complete,
                    "unproven": [entry.as_difference() for entry in summary.unproven],
                    "api_total": summary.api_total,
                    "rows_seen": summary.rows_seen,
                    "refresh_runs": summary.refresh_runs,
                }
            )

    def _report(self, rows: int, total: int | None) -> None:
        if self.on_rows:
            self.on_rows(rows)
        if self.on_total and total is not None:
            self.on_total(total)

    def _require_complete(self, extraction: Extraction) -> None:
        """Raise `NotCompleteError` if an unproven run must not be loaded. dlt then drops its rows, not the tables."""
        if not self.done or self.failure or extraction.summary.complete:
            return
        if self.full_refresh:
            raise NotCompleteError("The full refresh could not be proven complete; the copy is as it was.")
        if self.limits is None and not self.allow_incomplete:
            raise NotCompleteError("The copy could not be proven complete; nothing of this load is kept.")

    def new_entries(self) -> list[Entry]:
        """The entries of the ledger since the last call."""
        entries, self._new_entries = self._new_entries, []
        self.entries += entries
        return entries

    def _start_or_continue(self, state: dict[str, Any]) -> tuple[Extraction, Iterator[Output]]:
        if self.extraction is not None and self._outputs is not None:
            require_uninterrupted()
            self.extraction.after_load()
            return self.extraction, self._outputs
        # Who only iterates over the resource gets everybody.
        pipeline = active_pipeline() if current_load() else None
        everything = self.full_refresh or is_being_replaced("customers") or pipeline is None
        renamed = state.get(TABLE_STATE_KEY, CUSTOMERS.name) != self.table
        coverage = Coverage([] if everything or renamed else Coverage.load(state.get("coverage", [])))
        held = Warehouse(pipeline, self.table)
        existing = columns_of(pipeline, self.table) if pipeline else {}
        self._reader.new_columns |= {name for name in existing if not name.startswith("_")} - {
            *SCHEMA.names,
            EXTRA,
        }
        self._reader.deepest = state.get("deepest_page") or self._reader.deepest
        self._changes = Changes(held)
        if everything:
            held = EmptiedWarehouse(held)
        self.extraction = Extraction(
            self._reader,
            held,
            coverage,
            bounds=self.window,
            account=self.account,
            refresh_budget=0 if everything else self.refresh_budget,
            filters_ignored_at=parse_time(noticed) if (noticed := state.get("filters_ignored_at")) else None,
            run_id=self.run_id,
        )
        self._outputs = cast("Generator[Output]", self.extraction.outputs())
        return self.extraction, self._outputs

    def _save_state(self, state: dict[str, Any], extraction: Extraction) -> None:
        state.pop(TABLE_STATE_KEY, None)
        if self.table != CUSTOMERS.name:
            state[TABLE_STATE_KEY] = self.table
        state["coverage"] = extraction.coverage.dump()
        noticed = extraction.filters_ignored_at
        state["filters_ignored_at"] = time_text(noticed) if noticed else None
        state["deepest_page"] = self._reader.deepest if self._reader.deepest < sys.maxsize else None


class _Batch:
    """Joins small tables for dlt. For dlt's `add_limit`, which counts tables, it makes one table per page instead."""

    def __init__(self, *, one_page_each: bool) -> None:
        self._one_page_each = one_page_each
        self._tables: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, table: pa.Table) -> int:
        """Add a table; returns its size in bytes."""
        size: int = table.get_total_buffer_size()
        self._tables.append(table)
        self._rows += table.num_rows
        self._bytes += size
        return size

    @property
    def full(self) -> bool:
        return self._one_page_each or self._rows >= BATCH_ROWS or self._bytes >= BATCH_BYTES

    def tables(self) -> Iterator[pa.Table]:
        if self._tables:
            table = pa.concat_tables(self._tables, promote_options="default").combine_chunks()
            self._tables, self._rows, self._bytes = [], 0, 0
            size = MOST_PER_PAGE if self._one_page_each else max(table.num_rows, 1)
            yield from (table.slice(start, size) for start in range(0, table.num_rows, size))


def _ledger_table(entries: list[Entry]) -> pa.Table | None:
    if not entries:
        return None
    return pa.Table.from_pylist([asdict(entry) for entry in entries], schema=LEDGER.schema)


def resources(
    start: Callable[[], AbstractContextManager[Copying]], *, full_refresh: bool = False, history: bool = False
) -> tuple[DltResource, ...]:
    """The dlt resources of a run; `start` returns the run each time that dlt begins to extract."""
    copying: Copying | None = None

    @dlt.resource(
        name="customers",
        primary_key="id",
        write_disposition="replace" if full_refresh else MERGED,
        columns=CUSTOMER_COLUMNS,
    )
    def customers() -> Iterator[pa.Table]:
        nonlocal copying
        with terminal_errors_in_extract():
            loads = current_load() is not None  # else the user iterates over the resource
            pipeline = active_pipeline() if loads else None
            if pipeline:
                with exclusive_dlt_context():
                    require_prepared(pipeline)
            apply_destination_hints(CUSTOMERS, LEDGER, HISTORY)
            _require_selected()
            with start() as copying, copying.waits.shown():
                copying.keeps_history = history and is_selected(HISTORY.name)
                _require_only_one(copying)
                with suppress(CurrentSourceNotAvailable):  # the user iterates over the resource
                    copying.metrics = dlt.current.resource_metrics()
                try:
                    for table in map(rows_to_load, copying.tables()):
                        if loads and not copying.keeps_history and len(table):
                            note_history(loaded=False)
                        yield table
                finally:
                    copying.note_metrics()
        if pipeline and (run := current_run(pipeline)):
            run.copied = copying

    def entries(rows: Any) -> pa.Table | None:  # noqa: ANN401  # they are only checked
        arrow_rows(rows)
        return rows_to_load(_ledger_table(copying.new_entries() if copying else []))

    found = customers()
    ledger = found | dlt.transformer(entries, **merged(LEDGER))
    return (found, ledger, history_resource(found, CUSTOMER_COLUMNS)) if history else (found, ledger)


def _require_selected() -> None:
    """Refuse a run that does not load the customers it reads: the ledger would call them proven."""
    if not is_selected(CUSTOMERS.name):
        raise ConfigError(
            "This run would read customers and not load them into their table",
            advice="Load the resource customers as well, under its own name: with_resources('customers', 'ledger'). "
            "A transformer of yours goes beside it: source.resources.add(source.customers | mine). "
            "Another table: customers.apply_hints(table_name=...).",
        )


_LOADS: deque[str] = deque(maxlen=100)  # loads in which the resource `customers` has begun


def _require_only_one(copying: Copying) -> None:
    """Refuse two Paystack sources in one load, or in one run (dlt loads sources with different names one by one).

    Both would overwrite the same state, or belong to two accounts. The load is compared as well, because dlt reports no
    runs with `enable_runtime_trace=false`.
    """
    pipeline, load = active_pipeline(), current_load()
    if load is None:
        return
    run = current_run(pipeline) if pipeline else None
    if load in _LOADS or (run and run.copied not in {None, copying}):
        raise ConfigError(
            "Two Paystack sources in one run of a pipeline would read all customers twice, or mix two accounts",
            advice="Give each a run of its own: pipeline.run(one), then pipeline.run(other). "
            "Each account needs a dataset.",
        )
    _LOADS.append(load)


def checkpoint(copying: Copying, *, history: bool = False) -> DltSource:
    """The source for the next load of a run."""
    loads = resources(lambda: nullcontext(copying), full_refresh=copying.full_refresh, history=history)
    return source_of(SCHEMA_NAME, *loads)


def ledger_source(entries: list[Entry], schema_name: str) -> DltSource:
    """A source of ledger entries alone, to complete them after everything is loaded."""
    return source_of(schema_name, table_resource(LEDGER, [_ledger_table(entries)]))
