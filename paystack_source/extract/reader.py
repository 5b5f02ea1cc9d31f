"""Reads windows of creation time and proves each one by counting.

A window is requested with a margin on both sides, so it does not matter whether the API's bounds are inclusive. Its
pages are read side by side, and the customers are deduplicated by id and cut to the window. The window is proven if the
number of distinct ids, margins included, equals the API's total for the same bounds. If it does not, the window is read
again by cursor, then by pages once more; the ids of all passes count together while the total stays the same. If the
API gives no total, the window is read by independent ways until two of them agree.

Neither the order of customers nor the length of a page is trusted. A short page is not the end of the list; it ends
with as many ids as the total, or with an empty page.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from paystack_source.extract import arrow
from paystack_source.extract.pages import IN_FLIGHT, REFUSED, Pages, SideBySide
from paystack_source.extract.read_ahead import read_ahead
from paystack_source.extract.window_read import PAGE, NoTotalError, Query, Reading, Result
from paystack_source.extract.windows import MARGIN, WINDOW_ROWS, Window, cut_at

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime

    import pyarrow as pa

    from paystack_source.api.client import PaystackClient
    from paystack_source.api.models import Page

PAGES_A_BITE = 10
AHEAD_PAGES = 300
"""The next window is begun if fewer pages than this are under way."""

AHEAD_BYTES = 30_000_000
"""Bytes of customers that may be read ahead: most of a load, so that reading goes on while a load is under way."""

PASSES = 3
PASSES_WITHOUT_TOTAL = 4


class FiltersIgnoredError(Exception):
    """The API ignores the time filter, so windows cannot be counted."""


class Reader(Pages):
    """Reads windows through a client. One per run; it outlives checkpoints, and reads on while they are loaded."""

    def __init__(
        self,
        client: PaystackClient,
        *,
        now: Callable[[], datetime] | None = None,
        in_flight: int = IN_FLIGHT,
        window_rows: int = WINDOW_ROWS,
    ) -> None:
        super().__init__(client, now=now, in_flight=in_flight)
        self._window_rows = window_rows

    # -- cutting ------------------------------------------------------------------------------------------------

    def split(self, window: Window) -> Iterator[Reading]:
        """Cut a window of any size into windows of about `WINDOW_ROWS`, newest first.

        Page p of the whole window has the creation time at that rank, so one request finds each cut. The cuts may be
        inexact, because each window is counted by itself afterwards.
        """
        asked = window.asked()
        first = self.ask(Query(*asked, 1))
        reading = Reading(window, asked)
        self._note(reading, 1, first)
        length = self.parse(first).lengths[0]
        total = reading.total
        if total is None or not length or total <= self._window_rows * 3 // 2:
            yield reading
            return
        step = max(self._window_rows // length, 1)
        probes = self.ask_all([Query(*asked, n) for n in range(step + 1, total // length + 1, step)])
        times = [at for page in probes if (at := arrow.oldest(self.parse(page).table))]
        left = total
        for part in reversed(cut_at(window, times)):
            expected = min(step * length, left) if part.lo > window.lo else left
            left -= expected
            yield Reading(part, part.asked(), expected=expected)

    def count(self, from_: datetime | None, to: datetime | None) -> int:
        """The API's total of customers created between two times.

        Raises `FiltersIgnoredError` if the answer has customers of other times, `NoTotalError` if it has no total.
        """
        page = self.ask_total(Query(from_, to, 1))
        if _strays(*arrow.edges(self.parse(page).table), (from_, to)):
            raise FiltersIgnoredError
        if page.meta.total is None:
            raise NoTotalError
        return page.meta.total

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, readings: Iterable[Reading]) -> Iterator[pa.Table | Result]:
        """Read windows, the pages of each side by side, and those of the next window behind them.

        Yields tables of customers, each customer once per window, and after the last table of a window its `Result`.
        The work is done in a thread of its own, up to `AHEAD_BYTES` ahead of the caller. If the caller stops before the
        end, the reader is closed. Raises `FiltersIgnoredError`, and the error of a request that failed after retries.
        """
        return read_ahead(self._read(iter(readings)), _size, AHEAD_BYTES, self.close)

    def _read(self, waiting: Iterator[Reading]) -> Generator[pa.Table | Result]:
        under_way: list[Reading] = []
        more = True
        with contextlib.closing(SideBySide[Reading](self)) as requests:
            while more or under_way:
                while more and requests.pending < AHEAD_PAGES:
                    reading = next(waiting, None)
                    more = reading is not None
                    if reading is not None:
                        under_way.append(reading)
                        yield from self._digest(reading)
                        self._ask_on(reading, requests)
                for reading in [r for r in under_way if not r.outstanding]:
                    yield from self._end_of_pass(reading, requests)
                    if not reading.outstanding:
                        under_way.remove(reading)
                if any(reading.outstanding for reading in under_way):
                    for query, reading, page in requests.take():
                        self._note(reading, query.page, page)
                        reading.outstanding -= 1
                        if len(reading.raw) >= PAGES_A_BITE or not reading.outstanding:
                            yield from self._digest(reading)
                        if not reading.outstanding:
                            self._ask_on(reading, requests)

    def _ask_on(self, reading: Reading, requests: SideBySide[Reading]) -> None:
        numbers = reading.next_pages()
        if numbers:
            reading.asked_up_to = numbers[-1]
            reading.fresh = 0
            reading.outstanding += len(numbers)
            self.requests += len(numbers)
            requests.submit((Query(*reading.asked, number) for number in numbers), reading)

    def _note(self, reading: Reading, number: int, page: Page) -> None:
        reading.requests += 1
        reading.cut_short = reading.cut_short or page is REFUSED
        reading.raw.append((number, page))
        reading.asked_up_to = max(reading.asked_up_to, number)
        if page.meta.total is not None:
            reading.add_total(page.meta.total)

    def _digest(self, reading: Reading) -> Iterator[pa.Table]:
        """The new customers of the pages that arrived, cut to the window."""
        if not reading.raw:
            return
        raw, reading.raw = reading.raw, []
        table, unreadable, lengths = self.parse(*(page for _, page in raw))
        reading.unreadable += unreadable
        reading.lengths.update(zip((number for number, _ in raw), lengths, strict=True))
        reading.longest = max(reading.longest, *lengths)
        oldest, newest = arrow.edges(table)
        reading.stray = reading.stray or _strays(oldest, newest, reading.asked)
        far = reading.expected and (reading.total or 0) > 2 * max(reading.expected, PAGE)
        if reading.stray and (reading.by_itself or far):
            raise FiltersIgnoredError
        before = len(reading.walk)
        if reading.walk is not reading.seen:
            reading.walk.update(table.column("id").to_pylist())
        new = arrow.unseen(table, reading.seen)
        self.answers_differ = self.answers_differ or len(reading.seen) > reading.longest
        reading.fresh += len(reading.walk) - before
        if oldest and newest and not (oldest in reading.window and newest in reading.window):
            new = arrow.cut(new, reading.window)
        if new.num_rows:
            reading.inside.update(new.column("id").to_pylist())
            reading.oldest = min((at for at in (reading.oldest, arrow.oldest(new)) if at), default=None)
            yield new

    # -- proving ------------------------------------------------------------------------------------------------

    def _end_of_pass(self, reading: Reading, requests: SideBySide[Reading]) -> Iterator[pa.Table | Result]:
        """Finish a window that is proven, or that has no passes left; else start another pass over it."""
        while True:
            if reading.knows_totals and reading.total is None:  # a cursor's pages have none
                self._note(reading, 1, self.ask_total(Query(*reading.asked, 1)))
                yield from self._digest(reading)
            reading.finish_pass()
            ids = reading.proven_by if reading.knows_totals else reading.agreed_by()
            if ids and reading.by_itself and reading.one_page:
                reading.doubted = not self.believable(Query(*reading.asked, 1))
            if reading.doubted:
                ids = None
            enough = PASSES if reading.knows_totals else PASSES_WITHOUT_TOTAL
            if ids is not None or len(reading.passes) >= enough:
                yield self._result(reading, ids)
                return
            if reading.passes[-1] == "cursor":
                reading.start_pass("pages")
                self._ask_on(reading, requests)
                return
            reading.start_pass("cursor")
            yield from self._follow_cursor(reading)

    def _follow_cursor(self, reading: Reading) -> Iterator[pa.Table]:
        """One pass by cursor: to the last page, to a cursor that was used before, or until no new customer comes."""
        cursor: str | None = None
        reading.cut_short = True
        used: set[str] = set()
        for number in itertools.count(1):
            page = self.by_cursor(reading.asked, cursor)
            if page is None:
                yield from self._digest(reading)
                break
            self._note(reading, number, page)
            cursor = page.meta.next
            at_end = cursor is None
            if at_end or cursor in used or len(reading.raw) >= PAGES_A_BITE:
                reading.fresh = 0
                yield from self._digest(reading)
                if at_end:
                    reading.cut_short = False
                    break
                if cursor in used:
                    break
                if not reading.fresh:
                    reading.more_said = not self._shown(page)[1]
                    break
            used.add(cursor or "")

    def _result(self, reading: Reading, ids: set[int] | None) -> Result:
        total = reading.total
        found = reading.seen if ids is None else ids
        return Result(
            window=reading.window,
            asked=reading.asked,
            proven=ids is not None and not reading.unreadable,
            total=total,
            distinct=len(found),
            ids=reading.inside if len(found) == len(reading.seen) else reading.inside & found,
            left=reading.inside - found,
            requests=reading.requests,
            how=reading.passes[-1] if reading.knows_totals else "two walks",
            read_at=self.now(),
            oldest=reading.oldest,
            unreadable=reading.unreadable,
        )


def _size(found: pa.Table | Result) -> int:
    return 0 if isinstance(found, Result) else int(found.get_total_buffer_size())


def _strays(
    oldest: datetime | None, newest: datetime | None, asked: tuple[datetime | None, datetime | None]
) -> bool:
    """Whether customers were created outside of the requested bounds by more than `MARGIN`."""
    from_, to = asked
    return bool((from_ and oldest and oldest < from_ - MARGIN) or (to and newest and newest > to + MARGIN))
