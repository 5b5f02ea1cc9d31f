"""One run of the extraction. It yields Arrow tables, ledger entries and checkpoints, and knows neither dlt nor SQL.

    count     one request: the newest page, and Paystack's total
    catch up  while the warehouse's count differs from that total: read the newest pages, then unproven windows, then
              parts of windows whose counts differ, found by halving, and at last the whole list
    refresh   read again the windows that were verified longest ago, within the budget

The caller may stop after any output, load the rows so far, and continue. So the caller decides when to load.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import UTC, datetime

import pyarrow as pa

from paystack_source.errors import Rejected
from paystack_source.extract import arrow, ledger
from paystack_source.extract.account import check_account
from paystack_source.extract.fallbacks import (
    TRY_FILTERS_AGAIN,
    OlderCustomers,
    around_oldest,
    differing_parts,
    filters_hold,
    past_part,
)
from paystack_source.extract.held import HeldCustomers, PresentCustomers
from paystack_source.extract.ledger import Checkpoint, Entry, Output, Summary
from paystack_source.extract.newest import NewestPage, TopPages
from paystack_source.extract.reader import FiltersIgnoredError, Reader
from paystack_source.extract.refresh import Cost, Refresh, readable, runs_to_refresh
from paystack_source.extract.window_read import NEWEST, NoTotalError, Query, Reading, Result
from paystack_source.extract.windows import ALWAYS, BEGIN, Coverage, Proven, Window, frozen_end


class Extraction:
    """Reads the customers that are not proven yet.

    Args:
        coverage: The windows that earlier runs proved; changed in place.
        bounds: Read only this window, even if it was proven before.
        refresh_budget: Requests for reading old windows again, on top of what new customers cost.
        account: The integration that all customers have to belong to.
        filters_ignored_at: When an earlier run found that the API does not filter by time. Ignored after a week.

    """

    def __init__(  # noqa: PLR0913  # all settings of a run
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
        for item in list(coverage):
            if item.age_key > self._started:  # by a clock that was ahead; when it was is not known
                coverage.add(Proven(item.window, item.rows, None))
        recent = filters_ignored_at and abs(self._started - filters_ignored_at) <= TRY_FILTERS_AGAIN
        self.filters_ignored_at = filters_ignored_at if recent else None
        self._stuck = False  # the budget is too small for the customers of one second
        self._numbers, self._cost = itertools.count(1), Cost()
        self._uncounted = False  # the search for differing parts ended early: the API gave no total
        self._older = OlderCustomers(self.held)
        self._held_before: dict[Window, int] = {}  # customers held when reading began
        self._unlisted: set[int] = set()  # held customers that their proven window did not list
        self._vanished: set[int] = set()  # listed by an earlier pass of a window, but not by the proving one
        self._undated: set[int] = set()  # customers without a creation time
        self._believed_totals: set[int | None] = set()  # totals of the whole list that can be believed
        self.account, self._top_pages = account, TopPages()

    @property
    def filters_ignored(self) -> bool:
        """Whether the API does not filter by time, so that windows cannot be read."""
        return self.filters_ignored_at is not None

    def _remember_ignored_filters(self) -> None:
        self.filters_ignored_at = self.filters_ignored_at or self._now()

    def after_load(self) -> None:
        """Called when the warehouse has all rows that were yielded so far."""
        self.held.after_load()

    def outputs(self) -> Iterator[Output]:
        """The whole run. After it `summary.complete` is true if the copy is proven complete."""
        held = self.held.total()
        if self.bounds is not None:
            yield from self._read_bounds(self.bounds)
        else:
            yield from self._catch_up()
            if self.summary.complete and self.refresh_budget:
                before = self.held.total()
                yield from self._refresh()
                differs = self._unlisted or self._vanished or self.held.total() != before
                if differs or self.summary.unproven:
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
        self.summary.rows_new = self.held.total() + self.summary.rows_missing - held

    def _read_bounds(self, window: Window) -> Iterator[Output]:
        page = self.reader.request(NEWEST)
        shown = self.reader.parse(page).table
        check_account(self.held, shown, page.meta.total, self.account)
        self.bounds = window = past_part(self.reader, window, shown, self._started)
        if window.empty:
            self.summary.api_total = 0
        else:
            filtered = not self.filters_ignored and filters_hold(self.reader, shown)
            yield from self._read_range(window, filtered=filtered)
        self._older.to_ask, seen = True, self.summary.rows_seen
        if (yield from self._read_left_out(window)) or self._unlisted:
            difference = self.summary.rows_seen - seen - len(self._unlisted)
            yield self._add_entry(ledger.unproven_range(window, difference, self._now()))
        self.summary.complete = True

    def _read_range(self, window: Window, *, filtered: bool) -> Iterator[Output]:
        """Read the range with the API's filter; if the answers have other times, read the whole list."""
        found, deepest = [], self.reader.deepest
        try:
            readings = self.reader.split(window) if filtered else [Reading(window, (None, None))]
            for output in self._read(readings, "range"):
                found += [output] if isinstance(output, Entry) else []
                yield output
        except FiltersIgnoredError:
            self._remember_ignored_filters()
            self.summary.unproven.clear()
            yield from self._read_range(window, filtered=False)
        else:
            if self.summary.unproven and self.reader.deepest < deepest:  # the windows were too large
                self.summary.unproven.clear()
                return (yield from self._read_range(window, filtered=filtered))
            self.summary.api_total = sum((entry.rows or 0) + entry.difference for entry in found)

    def _catch_up(self) -> Iterator[Output]:
        """Read until the number of held and new customers equals the API's total."""
        self._older.to_ask = not self.coverage.covers_begin
        newest = yield from self._request_newest()
        top, gaps, differing = self._read_top, self._read_gaps, self._read_differing
        all_gaps = functools.partial(gaps, unchanging=False)
        attempt = (top, gaps, top, differing, top, all_gaps)
        total = None
        for step in (*attempt, *attempt, self._read_whole):
            if self._totals_agree(newest):
                yield from self._complete(newest)
                return
            if newest.total is None:
                yield from self._read_whole(newest)
                return
            before, total = (self.summary.windows, self.summary.rows_seen), newest.total
            yield from step(newest)
            if self.summary.complete:
                return
            if before != (self.summary.windows, self.summary.rows_seen):
                newest = yield from self._request_newest()
        if self._totals_agree(newest):
            # The total did not change: the filters hid customers, or as many customers were added as removed.
            if newest.total == total and not (self._uncounted or filters_hold(self.reader, newest.table)):
                self._remember_ignored_filters()
            yield from self._complete(newest)
        else:
            yield self._count_entry(newest, proven=False)

    # -- counting -------------------------------------------------------------------------------------------------

    def _request_newest(self) -> Generator[Output, None, NewestPage]:
        """Request the newest page with the total of the whole list, for which no filter is needed."""
        page = self.reader.request_total(NEWEST)
        table = self.reader.parse(page).table
        total = page.meta.total
        check_account(self.held, table, total, self.account)
        self.summary.api_total = total
        self._cost = Cost.by_first_page(table.num_rows, total, self.reader)
        asked_at = page.asked_at or self._now()
        newest = self._compared(total, table, asked_at)
        new = newest.missing == -len(self._unlisted) and total not in self._believed_totals
        if new and (not total or self.reader.believable(NEWEST, page)):
            self._believed_totals.add(total)
        if (self._vanished | self._unlisted) & self.held.emitted:
            yield Checkpoint()  # only a loaded row can be marked as missing, and a load has each customer once
        if left := self.held.held_among(self._vanished):
            self._vanished -= left
            self._unlisted |= left
        newest = self._compared(total, table, asked_at)
        if self._totals_agree(newest) and (yield from self._read_left_out(ALWAYS, table)):
            return (yield from self._request_newest())
        return newest

    def _read_left_out(self, window: Window, newest: pa.Table | None = None) -> Generator[Output, None, bool]:
        """Read customers that the list and its total leave out; returns whether other requests found any.

        A list and its total may end at a fixed number of customers. After all customers were read, this requests older
        ones; before customers are marked as missing, it requests the oldest of them.
        """
        if self.filters_ignored:
            return False
        found = False
        for lo, hi in (*self._older.queries(window, newest), *around_oldest(self.held, self._unlisted)):
            with contextlib.suppress(Rejected):
                table = self.reader.parse(self.reader.request(Query(lo, hi, 1))).table
                ids = set(table.column("id").to_pylist())
                found = found or bool(self._unlisted & ids)
                self._unlisted -= ids
                older = arrow.cut(table, window.clip(Window(BEGIN, hi)))
                unknown = arrow.unseen(older, self.held.held_or_emitted(ids))
                if unknown.num_rows:
                    found = True
                    self._older.note(arrow.oldest(unknown))
                    yield from self._take_unwindowed(unknown)
        self._older.to_ask = self._older.to_ask and found
        return found

    def _compared(self, total: int | None, table: pa.Table, asked_at: datetime) -> NewestPage:
        return NewestPage(total, table, self._unknown(table), self.held.total(), asked_at)

    def _unknown(self, table: pa.Table) -> pa.Table:
        """The customers of a page of the whole list that are not held, each once. All on the page are listed again."""
        ids = set(table.column("id").to_pylist())
        if self._unlisted & ids - arrow.undated(table):  # their window left out customers that exist
            self._remember_ignored_filters()
        self._unlisted -= ids  # `_read_left_out` finds them too, with more requests
        return arrow.unseen(table, self.held.held_or_emitted(ids))

    def _totals_agree(self, newest: NewestPage) -> bool:
        """Whether a believable total equals the held and the page's unknown customers, without unlisted ones."""
        return newest.missing == -len(self._unlisted) and newest.total in self._believed_totals

    def _is_behind(self, newest: NewestPage) -> bool:
        """Whether the list lacks the newest of the customers that are held, or that a full refresh would replace."""
        lacking = self._unlisted | (self.held.replaced(newest.day) - self.held.emitted)
        return bool(lacking) and newest.is_behind(self.held.rows(lacking))

    def _complete(self, newest: NewestPage) -> Iterator[Output]:
        """Yield the newest page's unknown customers, which completes the copy, and mark all windows as proven."""
        if self._is_behind(newest):
            yield self._count_entry(newest, proven=False)
            return
        yield from self._take_unwindowed(newest.unknown)
        yield from self._mark_missing(newest.asked_at)
        now = self._now()
        gaps = self.coverage.gaps(Window(BEGIN, frozen_end(now)))
        for gap, rows in zip(gaps, self.held.count(gaps), strict=True):
            # Customers that only the total proves were never counted window by window: they are refreshed first.
            counted = not self.summary.unproven and rows == len(self.held.new_in(gap))
            self.coverage.add(Proven(gap, rows, now if counted else None))
        self.coverage.compact(readable(self.refresh_budget, self._cost))
        self.summary.unproven.clear()
        self.summary.complete = True
        yield self._count_entry(newest, proven=True)

    def _take_unwindowed(self, table: pa.Table) -> Iterator[Output]:
        """Yield customers from a page of the whole list; no window has counted them."""
        if table.num_rows:
            came = dict(arrow.created(table))
            self.held.new |= came.keys()
            for item in list(self.coverage):
                if late := sum(at in item.window for at in came.values() if at):
                    self.coverage.add(Proven(item.window, item.rows + late, item.verified_at))
            yield from self._rows(table)

    def _mark_missing(self, since: datetime) -> Iterator[Output]:
        """Mark customers as missing: neither their window nor the total of the whole list has them."""
        if self._unlisted:
            marked = arrow.missing_since(self.held.rows(self._unlisted), since)
            self.summary.rows_missing += marked.num_rows
            self.held.marked.update(arrow.created(marked))
            self._unlisted.clear()
            yield from self._rows(marked)

    def _rows(self, table: pa.Table) -> Iterator[Output]:
        table = self.held.emit(table)
        if table.num_rows:
            self.summary.rows_seen += table.num_rows
            yield table

    # -- steps of catching up -------------------------------------------------------------------------------------

    def _read_top(self, newest: NewestPage) -> Iterator[Output]:
        """Read the next of the newest pages, unless there are too many new customers."""
        if newest.missing is None or (self._older.to_ask and not self.summary.windows):
            return
        wanted = newest.unknown.num_rows + newest.missing + len(self._unlisted)
        pages = self._top_pages.next(newest, wanted)
        if not pages:
            return
        found = [page for _, page in self.reader.request_all([Query(None, None, number) for number in pages])]
        unknown = self._unknown(
            pa.concat_tables([newest.table, self.reader.parse(*found).table], promote_options="default")
        )
        unchanged = all(page.meta.total in (None, newest.total) for page in found)
        if unknown.num_rows == wanted and unchanged and not self._older.to_ask:
            yield from self._complete(newest._replace(unknown=unknown))
        else:
            yield from self._take_unwindowed(unknown)  # more were created; the next count shows them

    def _read_gaps(self, newest: NewestPage, *, unchanging: bool = True) -> Iterator[Output]:
        """Read the unproven windows, up to an end after which no customer is added (unless `unchanging` is false)."""
        if not self.filters_ignored:
            end = newest.unchanging_end(self._now()) if unchanging else frozen_end(self._now())
            yield from self._read_windows(self.coverage.gaps(Window(BEGIN, end)), "first read")

    def _read_differing(self, _newest: NewestPage) -> Iterator[Output]:
        """Read parts of proven windows whose counts differ: customers were added, removed, or lost in the warehouse."""
        if self.filters_ignored:
            return
        try:
            parts = differing_parts(self.reader, self.held, self.coverage, self._unlisted)
        except FiltersIgnoredError:
            self._remember_ignored_filters()
        except NoTotalError:
            self._uncounted = True
        else:
            yield from self._read_windows(parts, "repair")

    def _read_whole(self, newest: NewestPage) -> Iterator[Output]:
        """Read the whole list as one window. This needs no filter and no total; after a kill it begins again."""
        self._older.read, self._older.to_ask = None, True  # all customers are read again
        yield from self._read([Reading(ALWAYS, (None, None), newest.total)], "whole list")
        if newest.total is None:  # two passes agreed, which proves it without a total
            if (yield from self._read_left_out(ALWAYS)) or self._is_behind(newest):
                yield self._count_entry(newest, proven=False)
            self.summary.complete = True

    # -- reading windows ------------------------------------------------------------------------------------------

    def _read_windows(self, windows: list[Window], kind: str) -> Iterator[Output]:
        """Read windows, newest first. Stops if the API does not filter by time."""
        try:
            parts = (part for window in reversed(windows) for part in self.reader.split(window))
            yield from self._read(parts, kind)
        except FiltersIgnoredError:
            self._remember_ignored_filters()

    def _read(self, readings: Iterable[Reading], kind: str) -> Iterator[Output]:
        waiting = deque(readings)
        for reading in waiting:
            reading.is_range = kind == "range"
        windows = [reading.window for reading in waiting]
        self._held_before = dict(zip(windows, self.held.count(windows), strict=True))
        # A reading holds the ids of all its customers, so each is dropped after it was read.
        for found in self.reader.read(waiting.popleft() for _ in windows):
            if isinstance(found, Result):
                yield from self._record_window(found, kind)
            else:
                if ids := arrow.undated(found):  # they belong to no window
                    self._undated |= ids
                    self.held.new |= ids - self.held.held_among(ids)
                yield from self._rows(found)

    def _record_window(self, result: Result, kind: str) -> Iterator[Output]:
        """Record a window that was read, and the held customers that it no longer lists."""
        if self._undated and not result.window.contains(ALWAYS):
            result = result._replace(ids=result.ids - self._undated)
        held = self.held.held_in(result.window)
        self.held.new |= (result.ids | result.vanished) - held
        self._unlisted -= result.ids
        if kind != "refresh":
            self._older.note(result.oldest)
        if result.proven:
            self._unlisted |= held - result.ids - self._undated
            self._vanished |= self.held.new_in(result.window) - result.ids
        whole = self.filters_ignored or self.coverage.covers_begin
        window = result.window if whole else self._older.proven_part(result)
        self._vanished = (self._vanished - result.ids) | result.vanished
        self.summary.windows += 1
        if result.proven:
            self._cover(result._replace(window=window))
        yield self._add_entry(ledger.entry_of(result, kind, self._held_before[result.window]))

    def _cover(self, result: Result) -> None:
        window = result.window.clip(Window(BEGIN, frozen_end(result.read_at)))
        around = next((item for item in self.coverage if item.window.contains(window)), None)
        if around is not None and around.window != window and self.bounds is None:
            # A part of a proven window was repaired.
            (rows,) = self.held.count([around.window], self._unlisted)
            self.coverage.add(Proven(around.window, rows, around.verified_at))
            return
        self.coverage.cut_free(window, lambda part: self.held.count([part])[0])
        self.coverage.add(Proven(window, len(result.ids - self._undated), result.read_at))

    def _refresh(self) -> Iterator[Output]:
        """Read again the windows that were verified longest ago, within the budget."""
        if self.filters_ignored:
            whole = [Reading(ALWAYS, (None, None), self.summary.api_total)]
            yield from self._read(whole if self._whole_fits else [], "refresh")
            return
        new = sum(len(self.held.new_in(item.window)) for item in self.coverage.oldest_first(self._started))
        if new >= self._cost.length:  # prices allow for less than a page of customers that cuts ignore
            yield Checkpoint()
        before = self.summary.rows_seen
        refresh = Refresh(self.coverage, self.held, self.refresh_budget, self._cost)
        chosen = refresh.choose(self._started)
        self._stuck = refresh.stuck
        parts = (
            self.reader.split(item.window)
            if item.rows
            > self._cost.most * 3 // 2  # joined before the API was seen to refuse high page numbers
            else [Reading(item.window, item.window.asked(), item.rows)]
            for item in chosen
        )
        try:
            yield from self._read(itertools.chain.from_iterable(parts), "refresh")
        except FiltersIgnoredError:
            self._remember_ignored_filters()
        self.summary.rows_refreshed = self.summary.rows_seen - before
        self.coverage.compact(readable(self.refresh_budget, self._cost))

    @property
    def _whole_fits(self) -> bool:
        return self._cost.of(self.summary.api_total or self.held.total()) <= self.refresh_budget

    def _count_entry(self, newest: NewestPage, *, proven: bool) -> Entry:
        """The ledger entry that compares the whole table with the API's total."""
        after = None if self.held.emitted else newest.held
        return self._add_entry(ledger.count_entry(newest, after, proven=proven))

    def _add_entry(self, entry: Entry) -> Entry:
        """Number a ledger entry, and remember it if it is not proven."""
        entry.run_id, entry.entry_id = self.run_id, f"{self.run_id}-{next(self._numbers)}"
        if not entry.proven:
            self.summary.unproven.append(entry)
        return entry
