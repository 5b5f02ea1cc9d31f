"""Reads windows of creation time and proves each one by counting.

A window is requested with a margin on both sides, so it does not matter whether the API's bounds are inclusive. Its
pages are requested in parallel; customers are deduplicated by id and cut to the window. The window is proven if the
number of distinct ids, margins included, equals the API's total for the same bounds. If it does not, the window is read
again by cursor, then by pages once more; the ids of all passes count together while the total stays the same. If the
API gives no total, the window is read by page numbers and by cursor until two passes agree.

The reader trusts neither the order of customers nor the length of a page. A short page is not the end of the list: the
list ends with as many ids as the total, or with an empty page. The latency decides how many requests are sent at once.
The client keeps the quota: it blocks until a request may be sent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec
import pyarrow as pa

from paystack_source.api.arguments import MOST_PER_PAGE
from paystack_source.api.client import PaystackClient
from paystack_source.api.models import Page
from paystack_source.api.workers import ThreadWorkers
from paystack_source.errors import ClosedError, NotFound, Rejected
from paystack_source.extract import arrow
from paystack_source.extract.read_ahead import read_ahead
from paystack_source.extract.window_read import NEWEST, REFUSED, NoTotalError, Query, Reading, Result
from paystack_source.extract.windows import MARGIN, WINDOW_ROWS, Edges, Window, cut_at

Tag = TypeVar("Tag")

_DOCUMENTED_PAGE = 50

IN_FLIGHT = 48
"""Requests at once to a server that answers slowly."""

FAST_WIDTH = 2
"""Requests at once to a server that answers quickly: more threads would only wait for each other."""

SLOW_SECONDS = 0.1
"""A server is slow if its answers take longer than this."""

READY_BYTES = 20_000_000
"""Bytes of answers that may be requested or wait to be parsed."""

TOTAL_TRIES = 2  # requests for a total
MORE_TRIES = 12  # the same, after an answer of this run had one

PAGES_PER_TABLE = 10
AHEAD_PAGES = 300
"""The next window is begun if fewer pages than this are requested or wait to be requested."""

AHEAD_BYTES = 30_000_000
"""Bytes of tables that may be read ahead: nearly a whole load, so reading goes on while dlt loads."""

PASSES = 3
PASSES_WITHOUT_TOTAL = 4


class FiltersIgnoredError(Exception):
    """The API ignores the time filter, so windows cannot be counted."""


class Reader:
    """Reads windows through a client. A run has one reader, which goes on reading while dlt loads."""

    def __init__(
        self,
        client: PaystackClient,
        *,
        now: Callable[[], datetime] | None = None,
        in_flight: int = IN_FLIGHT,
        window_rows: int = WINDOW_ROWS,
    ) -> None:
        self.now = now or (lambda: datetime.now(UTC))
        self.per_page = MOST_PER_PAGE
        self.requests = 0
        self.totals_on_pages = False
        self.answers_differ = False  # two queries of this run had answers with different customers
        self.deepest = (
            sys.maxsize
        )  # pages with a higher number are refused or empty, although the total has them
        self.new_columns: set[str] = set()
        """Columns of undocumented keys, in the table or found by this run."""
        self._closed = False
        self._in_flight = in_flight
        self._latencies = [0.0, 0.0]  # seconds that the last two answers took
        self._page_bytes = 1  # bytes of the last answer
        self.client = client.until(self.check)
        self._window_rows = window_rows

    # -- cutting ------------------------------------------------------------------------------------------------

    def split(self, window: Window) -> Iterator[Reading]:
        """Cut a window of any size into windows of about `WINDOW_ROWS`, newest first, with one request for each cut.

        The cuts may be inexact, because each window is counted afterwards. An API may have no pages from some number
        on: then the windows are as small as it needs, and what no page before that number reaches is cut by itself.
        """
        asked = window.asked()
        first = self.request(Query(*asked, 1))
        reading = Reading(window, asked)
        reading.note(1, first)
        length = self.parse(first).lengths[0]
        total = reading.total
        if total is None or not length or total <= min(self._window_rows * 3 // 2, self.deepest * length):
            yield reading
            return
        believed = self.deepest
        while True:
            step = max(min(self._window_rows // length, self.deepest * 2 // 3), 1)
            last = min(total // length, self.deepest)
            probes = self.request_all([Query(*asked, n) for n in range(step + 1, last + 1, step)])
            found = [(query.page, self.parse(page)) for query, page in probes]
            empty = [number for number, page in found if not page.lengths[0]]
            if not empty:
                break
            self.deepest = min(empty) - 1
        if found and self.deepest < believed:
            self.deepest = max(number for number, _ in found)  # the pages between were not seen
        times = [at for _, page in found if (at := arrow.oldest(page.table))]
        parts, left = cut_at(window, times), total
        for part in reversed(parts):
            if part.lo == window.lo != parts[-1].lo and total > self.deepest * length:
                yield from self.split(part)
                return
            expected = min(step * length, left) if part.lo > window.lo else left
            left -= expected
            yield Reading(part, part.asked(), expected=expected)

    def count(self, from_: datetime | None, to: datetime | None) -> int:
        """The API's total of customers created between two times.

        Raises `FiltersIgnoredError` if the answer has customers outside of these times, `NoTotalError` without a total.
        """
        page = self.request_total(Query(from_, to, 1))
        if _strays(arrow.oldest_and_newest(self.parse(page).table), (from_, to)):
            raise FiltersIgnoredError
        if page.meta.total is None:
            raise NoTotalError
        return page.meta.total

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, readings: Iterable[Reading]) -> Iterator[pa.Table | Result]:
        """Read windows. Pages of a window are requested in parallel, and then those of the next window.

        Yields tables of customers, each customer once per window, and after the last table of a window its `Result`.
        This runs in a thread of its own, up to `AHEAD_BYTES` ahead of the caller. If the caller stops before the
        end, the reader is closed. Raises `FiltersIgnoredError`, and the error of a request that failed after retries.
        """
        return read_ahead(self._read(iter(readings)), _size, AHEAD_BYTES, self.close)

    def _read(self, waiting: Iterator[Reading]) -> Generator[pa.Table | Result]:
        under_way: list[Reading] = []
        more = True
        with contextlib.closing(ParallelRequests[Reading](self)) as requests:
            while more or under_way:
                while more and requests.pending < AHEAD_PAGES:
                    reading = next(waiting, None)
                    more = reading is not None
                    if reading is not None:
                        under_way.append(reading)
                        yield from self._parse_arrived(reading)
                        self._request_next_pages(reading, requests)
                for reading in [r for r in under_way if not r.outstanding]:
                    yield from self._end_pass(reading, requests)
                    if not reading.outstanding:
                        under_way.remove(reading)
                if any(reading.outstanding for reading in under_way):
                    for query, reading, page in requests.take():
                        reading.note(query.page, page)
                        reading.outstanding -= 1
                        if len(reading.raw) >= PAGES_PER_TABLE or not reading.outstanding:
                            yield from self._parse_arrived(reading)
                        if not reading.outstanding:
                            self._request_next_pages(reading, requests)

    def _request_next_pages(self, reading: Reading, requests: ParallelRequests[Reading]) -> None:
        numbers = reading.next_pages()
        if numbers:
            reading.asked_up_to = numbers[-1]
            reading.fresh = 0
            reading.outstanding += len(numbers)
            self.requests += len(numbers)
            requests.submit((Query(*reading.asked, number) for number in numbers), reading)

    def _parse_arrived(self, reading: Reading) -> Iterator[pa.Table]:
        """The new customers of the pages that arrived, cut to the window."""
        if not reading.raw:
            return
        raw, reading.raw = reading.raw, []
        table, unreadable, lengths = self.parse(*(page for _, page in raw))
        reading.unreadable += unreadable
        reading.lengths.update(zip((number for number, _ in raw), lengths, strict=True))
        reading.longest = max(reading.longest, *lengths)
        oldest, newest = times = arrow.oldest_and_newest(table)
        reading.stray = reading.stray or _strays(times, reading.asked)
        far = reading.expected and (reading.total or 0) > 2 * max(reading.expected, MOST_PER_PAGE)
        if reading.stray and (reading.is_range or far):
            raise FiltersIgnoredError
        before = len(reading.pass_ids)
        if reading.pass_ids is not reading.seen:
            reading.pass_ids.update(table.column("id").to_pylist())
        new = arrow.unseen(table, reading.seen)
        self.answers_differ = self.answers_differ or len(reading.seen) > reading.longest
        reading.fresh += len(reading.pass_ids) - before
        if oldest and newest and not (oldest in reading.window and newest in reading.window):
            new = arrow.cut(new, reading.window)
        if new.num_rows:
            reading.inside.update(new.column("id").to_pylist())
            reading.oldest = min((at for at in (reading.oldest, arrow.oldest(new)) if at), default=None)
            yield new

    # -- proving ------------------------------------------------------------------------------------------------

    def _end_pass(self, reading: Reading, requests: ParallelRequests[Reading]) -> Iterator[pa.Table | Result]:
        """End a window that is proven, or that has had its last pass; else start its next pass."""
        while True:
            if reading.knows_totals and reading.total is None:  # pages by cursor have none
                reading.note(1, self.request_total(Query(*reading.asked, 1)))
                yield from self._parse_arrived(reading)
            self.deepest = min([self.deepest, *reading.last_pages()])
            reading.finish_pass()
            ids = reading.proven_by if reading.knows_totals else reading.agreed_by()
            if ids and reading.is_range and reading.one_page:
                reading.doubted = not self.believable(Query(*reading.asked, 1))
            if reading.doubted:
                ids = None
            enough = PASSES if reading.knows_totals else PASSES_WITHOUT_TOTAL
            if ids is not None or len(reading.passes) >= enough:
                yield reading.result(ids, self.now())
                return
            if reading.passes[-1] == "cursor":
                reading.start_pass("pages")
                self._request_next_pages(reading, requests)
                return
            reading.start_pass("cursor")
            yield from self._follow_cursor(reading)

    def _follow_cursor(self, reading: Reading) -> Iterator[pa.Table]:
        """One pass by cursor, until there is no next cursor, a cursor repeats, or pages have no new customers."""
        cursor: str | None = None
        reading.cut_short = True
        used: set[str] = set()
        for number in itertools.count(1):
            page = self.by_cursor(reading.asked, cursor)
            if page is None:
                yield from self._parse_arrived(reading)
                break
            reading.note(number, page)
            cursor = page.meta.next
            at_end = cursor is None
            if at_end or cursor in used or len(reading.raw) >= PAGES_PER_TABLE:
                reading.fresh = 0
                yield from self._parse_arrived(reading)
                if at_end:
                    reading.cut_short = False
                    break
                if cursor in used:
                    break
                if not reading.fresh:
                    reading.empty_page_with_cursor = not self._ids_and_length(page)[1]
                    break
            used.add(cursor or "")

    # -- pages --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise a `ClosedError` once this is closed."""
        if self._closed:
            raise ClosedError("Reading was stopped")

    def close(self) -> None:
        """Send no more requests."""
        self._closed = True

    @property
    def width(self) -> int:
        """Requests at once. A server is slow if its last two answers were: this machine may have delayed one."""
        return self._in_flight if min(self._latencies) > SLOW_SECONDS else min(self._in_flight, FAST_WIDTH)

    @property
    def room(self) -> int:
        """Requests that may be sent, or answered and not parsed yet."""
        return min(2 * self.width, max(READY_BYTES // self._page_bytes, 1))

    def request(self, query: Query) -> Page:
        """Request one page in this thread."""
        self.requests += 1
        page = self.page(query, self.client)
        self.totals_on_pages = self.totals_on_pages or page.meta.total is not None
        return page

    def request_total(self, query: Query) -> Page:
        """Request one page; repeat it if it has no total, because some answers have the meta of the cursor mode.

        For the whole list, the total of the first page by cursor is taken as well. With filters it is not, because
        paging by cursor may ignore them.
        """
        page = self.request(query)
        asked = 1
        while page.meta.total is None and asked < (MORE_TRIES if self.totals_on_pages else TOTAL_TRIES):
            if query == NEWEST and asked == 1 and (other := self.by_cursor((None, None), None)):
                meta = msgspec.structs.replace(page.meta, total=other.meta.total)
                page = dataclasses.replace(page, meta=meta)
            else:
                page = self.request(query)
            asked += 1
        return page

    def believable(self, query: Query, first: Page | None = None) -> bool:
        """Whether the total on the first page of a query can be believed.

        A total that is not larger than its page may be the length of the page. And a cache that ignores the query gives
        the same answer, with the same total, to every query. So a second query must get another answer. This
        takes one or two requests, unless this run has seen different answers before.
        """
        first = first or self.request_total(query)
        ids, shown = self._ids_and_length(first)
        more = (first.meta.total or 0) > shown
        if more and self.answers_differ:
            return True
        if not more and first.meta.next is not None:
            return False
        others = self._ids_and_length(self.request(query._replace(page=2)))[0]
        if not others or others - ids:
            return more == bool(others)
        # The server ignores the page number; it may still respect `perPage`.
        one = self.request_total(query._replace(per_page=1))
        length = self._ids_and_length(one)[1]
        return 0 < length < min(shown, length + 1 if one.meta.total is None else one.meta.total)

    def _ids_and_length(self, page: Page) -> tuple[set[int], int]:
        """The ids of a page, and its length."""
        table, _, lengths = self.parse(page)
        return set(table.column("id").to_pylist()), lengths[0]

    def parse(self, *pages: Page) -> arrow.Parsed:
        """The pages as one table. `_last_seen_at` is the time before the first of them was requested.

        A customer may change while the page is being sent. That change is newer than the page.
        """
        asked = min((page.asked_at for page in pages if page.asked_at), default=self.now())
        return arrow.parse([page.raw for page in pages], asked, self.new_columns)

    def page(self, query: Query, client: PaystackClient) -> Page:
        """One page, or `REFUSED`. Records its latency and its size."""
        per_page = query.per_page or self.per_page
        asked_at, began = self.now(), time.monotonic()
        page = REFUSED
        try:
            page = client.list(page=query.page, per_page=per_page, from_=query.from_, to=query.to)
        except Rejected as error:
            if query.page == 1 and not query.per_page:
                if per_page != MOST_PER_PAGE or isinstance(error, NotFound):
                    raise
                self.per_page = _DOCUMENTED_PAGE  # the API refuses a larger page
                return self.page(query, client)
        self._latencies = [self._latencies[1], time.monotonic() - began]
        self._page_bytes = max(memoryview(page.raw).nbytes, 1)
        return page if page is REFUSED else dataclasses.replace(page, asked_at=asked_at)

    def request_all(self, queries: list[Query]) -> list[tuple[Query, Page]]:
        """Request pages in parallel; returns them in any order. Do not call this while windows are read."""
        self.requests += len(queries)
        found: list[tuple[Query, Page]] = []
        with contextlib.closing(ParallelRequests[None](self)) as requests:
            requests.submit(queries, None)
            while len(found) < len(queries):
                found += [(query, page) for query, _, page in requests.take()]
        return found

    def by_cursor(self, asked: Edges, cursor: str | None) -> Page | None:
        """The page at a cursor, or the first page; None if the API refuses the cursor, or any cursor."""
        self.requests += 1
        (from_, to), asked_at = asked, self.now()
        try:
            page = self.client.list(per_page=self.per_page, use_cursor=True, next=cursor, from_=from_, to=to)
            return dataclasses.replace(page, asked_at=asked_at)
        except Rejected:
            return None


class ParallelRequests(Generic[Tag]):
    """Requests pages in parallel for one caller, which gets the answers to its own queries only."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._backlog: deque[tuple[Query, Tag]] = deque()
        self._workers: ThreadWorkers[tuple[Query, Tag], tuple[Query, Tag, Page]] = ThreadWorkers(
            lambda asked: (*asked, reader.page(asked[0], client))
        )
        client = reader.client.until(self._workers.check)

    @property
    def pending(self) -> int:
        """How many pages were requested and not taken."""
        return len(self._backlog) + self._workers.busy

    def submit(self, queries: Iterable[Query], tag: Tag) -> None:
        self._backlog.extend((query, tag) for query in queries)
        self._start()

    def take(self) -> list[tuple[Query, Tag, Page]]:
        """The pages that arrived, each with its query and its `tag` from `submit`; waits for at least one."""
        answers = self._workers.wait()
        self._start()
        return answers

    def _start(self) -> None:
        while self._backlog and self._workers.busy < self._reader.room:
            self._workers.start(self._backlog.popleft(), width=self._reader.width)

    def close(self) -> None:
        self._workers.close()


def _size(found: pa.Table | Result) -> int:
    return 0 if isinstance(found, Result) else int(found.get_total_buffer_size())


def _strays(times: Edges, asked: Edges) -> bool:
    """Whether customers between these times were created outside of the requested bounds by more than `MARGIN`."""
    (oldest, newest), (from_, to) = times, asked
    return bool((from_ and oldest and oldest < from_ - MARGIN) or (to and newest and newest > to + MARGIN))
