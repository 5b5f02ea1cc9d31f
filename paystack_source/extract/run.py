"""One run of the extraction, as a stream of events. It does not know dlt or the destination.

    look      one request: the newest page, and Paystack's total
    explain   while the total is not the number of held customers: read the newest pages, then unproven windows, then
              parts of windows that differ, found by counting halves, and at last the whole list
    refresh   read the windows again that were verified longest ago, as far as the budget goes

The caller may stop between any two events, load the rows so far, and go on. So it decides where a checkpoint is.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from paystack_source.errors import Rejected
from paystack_source.extract import arrow, ledger
from paystack_source.extract.account import check_account
from paystack_source.extract.fallbacks import (
    TRY_FILTERS_AGAIN,
    Older,
    around_oldest,
    differing_parts,
    filters_hold,
    past_part,
)
from paystack_source.extract.ledger import Checkpoint, Entry, Event, HeldCustomers, PresentCustomers, Summary
from paystack_source.extract.newest import NewestPage, TopPages
from paystack_source.extract.reader import FiltersIgnoredError, Reader
from paystack_source.extract.refresh import Cost, Refresh, readable, runs_to_refresh
from paystack_source.extract.window_read import NEWEST, NoTotalError, Query, Reading, Result
from paystack_source.extract.windows import ALWAYS, BEGIN, Coverage, Proven, Window, frozen_end

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator


class Extraction:
    """Reads the customers that are not proven yet.

    Args:
        coverage: The windows that earlier runs proved; changed in place.
        bounds: Read only this window, even if it was proven before.
        refresh_budget: Requests for reading old windows again, on top of what new customers cost.
        account: The integration that all customers have to belong to.
        filters_ignored_at: When an earlier run found that the API does not filter by time; believed for a week.

    """

    def __init__(  # noqa: PLR0913  # one place where a run is described
        self,
        reader: Reader,
        held: HeldCustomers,
        coverage: Coverage,
        *,
        bounds: Window | None = None,
        refresh_budget: int = 0,
        account: int | None = None,
        filters_ignored_at: datetime | None = None,
        now: Callable[[], datetime] | None = None,
        run_id: str | None = None,
    ) -> None:
        self.reader, self.coverage = reader, coverage
        self.held = PresentCustomers(held)
        self.refresh_budget = refresh_budget
        self.run_id = run_id or uuid.uuid4().hex[:12]
        self.summary = Summary()
        self._now = now or (lambda: datetime.now(UTC))
        self._started = self._now()
        self.bounds = bounds
        believed = filters_ignored_at and self._started - filters_ignored_at <= TRY_FILTERS_AGAIN
        self.filters_ignored_at = filters_ignored_at if believed else None
        self._stuck = False  # the budget is too small for the customers of one second
        self._numbers, self._cost = itertools.count(1), Cost()
        self._uncounted = False  # a search ended early, because the API gave no total
        self._older = Older(self.held)
        self._before: dict[Window, int] = {}  # customers held when the window was begun
        self._gone: set[int] = set()  # held customers that their proven window did not show
        self._left: set[int] = set()  # shown at first by a window, and not by its proving pass
        self._undated: set[int] = set()  # customers without a creation time
        self._believed: set[int | None] = set()  # totals of the whole list that are believed
        self.account, self._top_pages = account, TopPages()

    @property
    def filters_ignored(self) -> bool:
        """Whether the API does not filter by time, so that windows cannot be read."""
        return self.filters_ignored_at is not None

    def _filters_are_ignored(self) -> None:
        self.filters_ignored_at = self.filters_ignored_at or self._now()

    def loaded(self) -> None:
        """Called when all rows so far are loaded: `held` has them from now on."""
        self.held.loaded()

    def events(self) -> Iterator[Event]:
        """The whole run. Afterwards `summary.complete` says whether the copy is proven complete."""
        held = self.held.total()
        if self.bounds is not None:
            yield from self._read_bounds(self.bounds)
        else:
            yield from self._catch_up()
            if self.summary.complete and self.refresh_budget:
                before = self.held.in_all()
                yield from self._refresh()
                if self._gone or self._left or self.summary.unproven or self.held.in_all() != before:
                    yield Checkpoint()
                    self.summary.complete = False
                    yield from self._catch_up()
        self.summary.complete = self.summary.complete and not self.summary.unproven
        self.summary.filters_ignored = self.filters_ignored
        no_total = self.summary.api_total is None and self.bounds is None
        if no_total or (self.filters_ignored and self._whole_fits):
            self.summary.refresh_runs = 1  # the whole list is read
        elif not (self.filters_ignored or self._stuck):
            self.summary.refresh_runs = runs_to_refresh(
                self.coverage, self.held, self.refresh_budget, self._cost
            )
        self.summary.rows_new = self.held.in_all() + self.summary.rows_missing - held

    def _read_bounds(self, window: Window) -> Iterator[Event]:
        page = self.reader.ask(NEWEST)
        shown = self.reader.parse(page).table
        check_account(self.held, shown, page.meta.total, self.account)
        self.bounds = window = past_part(self.reader, window, shown, self._started)
        if window.empty:
            self.summary.api_total = 0
        else:
            filtered = not self.filters_ignored and filters_hold(self.reader, shown)
            yield from self._read_range(window, filtered=filtered)
        self._older.to_ask, seen = True, self.summary.rows_seen
        if (yield from self._contradicted(window)) or self._gone:
            difference = self.summary.rows_seen - seen - len(self._gone)
            yield self._line(ledger.unproven_range(window, difference, self._now()))
        self.summary.complete = True

    def _read_range(self, window: Window, *, filtered: bool) -> Iterator[Event]:
        """Read the range by the filter, or read the whole list if the answers show other times."""
        found = []
        try:
            readings = self.reader.split(window) if filtered else [Reading(window, (None, None))]
            for event in self._read(readings, "range"):
                found += [event] if isinstance(event, Entry) else []
                yield event
        except FiltersIgnoredError:
            self._filters_are_ignored()
            self.summary.unproven.clear()
            yield from self._read_range(window, filtered=False)
        else:
            self.summary.api_total = sum(entry.rows or 0 for entry in found)

    def _catch_up(self) -> Iterator[Event]:
        """Read until the API's total equals the held and read customers."""
        self._older.to_ask = not self.coverage.begins
        newest = yield from self._ask_newest()
        first = (self._top, self._gaps, self._top, self._gaps, self._top, self._top)
        present = functools.partial(self._gaps, settled=False)
        then = (self._searched, self._top, present, self._searched)
        total = None
        for step in (*first, *then, self._whole):
            if self._adds_up(newest):
                yield from self._complete(newest)
                return
            if newest.total is None:
                yield from self._whole(newest)
                return
            before, total = (self.summary.windows, self.summary.rows_seen), newest.total
            yield from step(newest)
            if self.summary.complete:
                return
            if before != (self.summary.windows, self.summary.rows_seen):
                newest = yield from self._ask_newest()
        if self._adds_up(newest):
            # The total did not change: the filters hid customers, or as many customers went as came.
            if newest.total == total and not (self._uncounted or filters_hold(self.reader, newest.table)):
                self._filters_are_ignored()
            yield from self._complete(newest)
        else:
            yield self._count_entry(newest, proven=False)

    # -- looking --------------------------------------------------------------------------------------------------

    def _ask_newest(self) -> Generator[Event, None, NewestPage]:
        """Request the newest page with the total of the whole list, for which no filter is needed."""
        page = self.reader.ask_total(NEWEST)
        table = self.reader.parse(page).table
        total = page.meta.total
        check_account(self.held, table, total, self.account)
        self.summary.api_total = total
        self._cost = Cost.seen(table.num_rows, total, on_pages=self.reader.totals_on_pages)
        asked_at = page.asked_at or self._now()
        newest = self._compared(total, table, asked_at)
        new = newest.missing == -len(self._gone) and total not in self._believed
        if new and (not total or self.reader.believable(NEWEST, page)):
            self._believed.add(total)
        if self.held.emitted and (self._left or not self._adds_up(newest)):
            yield Checkpoint()  # customers that were read may be gone since: they can be compared once they are loaded
        if left := self.held.known(self._left):
            self._left -= left
            self._gone |= left
        newest = self._compared(total, table, asked_at)
        if self._adds_up(newest) and (yield from self._contradicted(ALWAYS, table)):
            return (yield from self._ask_newest())
        return newest

    def _contradicted(self, window: Window, newest: pa.Table | None = None) -> Generator[Event, None, bool]:
        """Read customers that the list and its total leave out, if other requests show them; returns whether they did.

        A list and its total may end at a fixed number of customers. After all customers were read, this asks for older
        ones; before customers are marked as missing, it asks for the oldest of them.
        """
        if self.filters_ignored:
            return False
        found = False
        for lo, hi in (*self._older.questions(window, newest), *around_oldest(self.held, self._gone)):
            with contextlib.suppress(Rejected):
                table = self.reader.parse(self.reader.ask(Query(lo, hi, 1))).table
                ids = set(table.column("id").to_pylist())
                found = found or bool(self._gone & ids)
                self._gone -= ids
                older = arrow.cut(table, window.clip(Window(BEGIN, hi)))
                unknown = arrow.unseen(older, self.held.held_or_emitted(ids))
                if unknown.num_rows:
                    found = True
                    self._older.note(arrow.oldest(unknown))
                    yield from self._loose(unknown)
        self._older.to_ask = self._older.to_ask and found
        return found

    def _compared(self, total: int | None, table: pa.Table, asked_at: datetime) -> NewestPage:
        return NewestPage(total, table, self._unknown(table), self.held.in_all(), asked_at)

    def _unknown(self, table: pa.Table) -> pa.Table:
        """The customers of a page of the whole list that are not held, each once. None of its customers is gone."""
        ids = set(table.column("id").to_pylist())
        if self._gone & ids - arrow.undated(table):  # their window does not show who is there
            self._filters_are_ignored()
        self._gone -= ids  # `_contradicted` would find this too, with more requests
        return arrow.unseen(table, self.held.held_or_emitted(ids))

    def _adds_up(self, newest: NewestPage) -> bool:
        """Whether the believed total equals the held and the page's unknown customers, without those that are gone."""
        return newest.missing == -len(self._gone) and newest.total in self._believed

    def _is_behind(self, newest: NewestPage) -> bool:
        """Whether the list lacks the newest of the customers who are held, or whom a full refresh would replace."""
        lacking = self._gone | (self.held.replaced(newest.day) - self.held.emitted)
        return bool(lacking) and newest.is_behind(self.held.rows(lacking))

    def _complete(self, newest: NewestPage) -> Iterator[Event]:
        """Take the newest page's unknown customers, which completes the copy, and mark all windows as proven."""
        if self._is_behind(newest):
            yield self._count_entry(newest, proven=False)
            return
        yield from self._loose(newest.unknown)
        yield from self._mark_gone(newest.asked_at)
        now = self._now()
        gaps = self.coverage.gaps(Window(BEGIN, frozen_end(now)))
        if self.held.touches(gaps):
            yield Checkpoint()
        for gap, held in zip(gaps, self.held.count(gaps), strict=True):
            # Customers held before in a gap were never counted by themselves: they are refreshed first.
            self.coverage.add(Proven(gap, held + self.held.inside(gap), None if held else now))
        self.coverage.compact(readable(self.refresh_budget, self._cost))
        self.summary.unproven.clear()
        self.summary.complete = True
        yield self._count_entry(newest, proven=True)

    def _loose(self, table: pa.Table) -> Iterator[Event]:
        """Take customers that a page of the whole list showed, not a window."""
        if table.num_rows:
            came = dict(arrow.created(table))
            self.held.loose.update(came)
            for item in list(self.coverage):
                if late := sum(at in item.window for at in came.values() if at):
                    self.coverage.add(Proven(item.window, item.rows + late, item.verified_at))
            yield from self._rows(table)

    def _mark_gone(self, since: datetime) -> Iterator[Event]:
        """Mark the customers that their window does not show, and that the total of the whole list does not count."""
        if self._gone:
            marked = arrow.missing_since(self.held.rows(self._gone), since)
            self.summary.rows_missing += marked.num_rows
            self.held.marked.update(arrow.created(marked))
            self._gone.clear()
            yield from self._rows(marked)

    def _rows(self, table: pa.Table) -> Iterator[Event]:
        table = arrow.unseen(table, self.held.emitted)
        if table.num_rows:
            self.summary.rows_seen += table.num_rows
            yield table

    # -- explaining what is missing -------------------------------------------------------------------------------

    def _top(self, newest: NewestPage) -> Iterator[Event]:
        """If there are not too many new customers: read the next newest pages."""
        if newest.missing is None or (self._older.to_ask and not self.summary.windows):
            return
        wanted = newest.unknown.num_rows + newest.missing + len(self._gone)
        pages = self._top_pages.next(newest, wanted)
        if not pages:
            return
        found = self.reader.ask_all([Query(None, None, number) for number in pages])
        unknown = self._unknown(
            pa.concat_tables([newest.table, self.reader.parse(*found).table], promote_options="default")
        )
        settled = all(page.meta.total in (None, newest.total) for page in found)
        if unknown.num_rows == wanted and settled and not self._older.to_ask:
            yield from self._complete(newest._replace(unknown=unknown))
        else:
            yield from self._loose(unknown)  # more came meanwhile; the next look shows them

    def _gaps(self, newest: NewestPage, *, settled: bool = True) -> Iterator[Event]:
        """Read the windows that were never proven. Newer customers are on the newest pages."""
        if not self.filters_ignored:
            end = newest.settled_end(self._now()) if settled else frozen_end(self._now())
            yield from self._windowed(self.coverage.gaps(Window(BEGIN, end)), "first read")

    def _searched(self, _newest: NewestPage) -> Iterator[Event]:
        """Read parts of proven windows whose counts differ: customers came late, are gone, or were lost here."""
        if self.filters_ignored:
            return
        try:
            parts = differing_parts(self.reader, self.held, self.coverage, self._gone)
        except FiltersIgnoredError:
            self._filters_are_ignored()
        except NoTotalError:
            self._uncounted = True
        else:
            yield from self._windowed(parts, "repair")

    def _whole(self, newest: NewestPage) -> Iterator[Event]:
        """Read the whole list as one window. It needs no filter and no total; after a kill it begins again."""
        self._older.read, self._older.to_ask = None, True  # everybody is read once more
        yield from self._read([Reading(ALWAYS, (None, None), newest.total)], "whole list")
        if newest.total is None:  # two walks agreed, which proves it without a total
            if (yield from self._contradicted(ALWAYS)) or self._is_behind(newest):
                yield self._count_entry(newest, proven=False)
            self.summary.complete = True

    # -- reading windows ------------------------------------------------------------------------------------------

    def _windowed(self, windows: list[Window], kind: str) -> Iterator[Event]:
        """Read windows, newest first; the whole list if the API does not filter."""
        try:
            parts = (part for window in reversed(windows) for part in self.reader.split(window))
            yield from self._read(parts, kind)
        except FiltersIgnoredError:
            self._filters_are_ignored()

    def _read(self, readings: Iterable[Reading], kind: str) -> Iterator[Event]:
        waiting = deque(readings)
        for reading in waiting:
            reading.by_itself = kind == "range"
        windows = [reading.window for reading in waiting]
        self._before = dict(zip(windows, self.held.count(windows), strict=True))
        # Each reading is released when it is read, because it holds the ids of all its customers.
        for found in self.reader.read(waiting.popleft() for _ in windows):
            if isinstance(found, Result):
                yield from self._settle(found, kind)
            else:
                if ids := arrow.undated(found):  # they belong to no window
                    self._undated |= ids
                    self.held.loose |= dict.fromkeys(ids - self.held.known(ids))
                yield from self._rows(found)

    def _settle(self, result: Result, kind: str) -> Iterator[Event]:
        """Record a window that was read, and the held customers that it no longer shows."""
        if self._undated and not result.window.contains(ALWAYS):
            result = result._replace(ids=result.ids - self._undated)
        held = self.held.ids(result.window)
        self._gone -= result.ids
        if kind != "refresh":
            self._older.note(result.oldest)
        if result.proven:
            self._gone |= held - result.ids - self._undated
            self._left |= self.held.loose_in(result.window) - result.ids
        new = len(result.ids) - len(result.ids & (held | self.held.loose.keys()))
        whole = self.filters_ignored or self.coverage.begins
        window = result.window if whole else self._older.proven_part(result)
        self._left = (self._left - result.ids) | result.left
        self.held.settle(window, new)
        self.summary.windows += 1
        if result.proven:
            self._cover(result._replace(window=window))
        yield self._line(ledger.entry_of(result, kind, self._before[result.window]))

    def _cover(self, result: Result) -> None:
        window = result.window.clip(Window(BEGIN, frozen_end(result.read_at)))
        around = next((item for item in self.coverage if item.window.contains(window)), None)
        if around is not None and around.window != window and self.bounds is None:
            # A part of a proven window was repaired; some of it may be loaded already.
            rows = self.held.count([around.window], self._gone)[0] + self.held.inside(around.window)
            self.coverage.add(Proven(around.window, rows, around.verified_at))
            return
        self.coverage.cut_free(window, lambda part: self.held.count([part])[0])
        self.coverage.add(Proven(window, len(result.ids - self._undated), result.read_at))

    def _refresh(self) -> Iterator[Event]:
        """Read the windows again that were verified longest ago, as far as the budget goes."""
        if self.filters_ignored:
            whole = [Reading(ALWAYS, (None, None), self.summary.api_total)]
            yield from self._read(whole if self._whole_fits else [], "refresh")
            return
        if self.held.touches(item.window for item in self.coverage.oldest_first(self._started)):
            yield Checkpoint()  # windows are cut by the customers that are loaded
        before, refresh = (
            self.summary.rows_seen,
            Refresh(self.coverage, self.held, self.refresh_budget, self._cost),
        )
        chosen = refresh.choose(self._started)
        self._stuck = refresh.stuck
        readings = [Reading(item.window, item.window.asked(), item.rows) for item in chosen]
        try:
            yield from self._read(readings, "refresh")
        except FiltersIgnoredError:
            self._filters_are_ignored()
        self.summary.rows_refreshed = self.summary.rows_seen - before
        self.coverage.compact(readable(self.refresh_budget, self._cost))

    @property
    def _whole_fits(self) -> bool:
        return self._cost.of(self.summary.api_total or self.held.total()) <= self.refresh_budget

    def _count_entry(self, newest: NewestPage, *, proven: bool) -> Entry:
        """The line that compares the whole table with the API's total."""
        after = None if self.held.emitted else newest.held
        return self._line(ledger.count_entry(newest, after, proven=proven))

    def _line(self, entry: Entry) -> Entry:
        """Number a line of the ledger, and remember it if it is not proven."""
        entry.run_id, entry.entry_id = self.run_id, f"{self.run_id}-{next(self._numbers)}"
        if not entry.proven:
            self.summary.unproven.append(entry)
        return entry
