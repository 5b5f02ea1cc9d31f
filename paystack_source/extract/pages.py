"""Requests pages of the list: one, several side by side, or by cursor; and checks whether a total can be believed.

The time that answers take decides how many requests are sent at once. The client keeps the quota: it blocks until a
request fits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from paystack_source.api.models import Page, PageMeta
from paystack_source.api.workers import ThreadWorkers
from paystack_source.errors import ClosedError, NotFound, Rejected
from paystack_source.extract import arrow
from paystack_source.extract.window_read import NEWEST, PAGE, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from paystack_source.api.client import PaystackClient

For = TypeVar("For")

_DOCUMENTED_PAGE = 50

IN_FLIGHT = 48
"""Requests at once to a server that answers slowly."""

NEAR_WIDTH = 2
"""Requests at once to a server that answers quickly: more threads would only wait for each other."""

FAR = 0.1
"""Seconds; a server whose answers take longer is slow."""

READY_BYTES = 20_000_000
"""Bytes of answers that may be under way or wait to be used."""

ASK_AGAIN = 2
ASK_LONG = 12  # requests for a total, once an answer of this run had one
REFUSED = Page(raw=msgspec.Raw(b"[]"), meta=PageMeta(), params={})
"""Stands for a later page that the API refused, usually because it is past the end of the list, or too deep."""


class Pages:
    """The list as a client shows it. One per run."""

    def __init__(
        self,
        client: PaystackClient,
        *,
        now: Callable[[], datetime] | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self.now = now or (lambda: datetime.now(UTC))
        self.per_page = PAGE
        self.requests = 0
        self.totals_on_pages = False
        self.answers_differ = False  # two questions of this run were answered with different customers
        self.new_columns: set[str] = set()
        """Columns of undocumented keys: those that the table has, and those that this run found."""
        self._closed = False
        self._in_flight = in_flight
        self._waits = [0.0, 0.0]  # seconds that the last two answers took
        self._large = 1  # bytes of the last answer
        self.client = client.until(self.check)

    def check(self) -> None:
        """Raise a `ClosedError` once this is closed."""
        if self._closed:
            raise ClosedError("Reading was stopped")

    def close(self) -> None:
        """Send no more requests: any further one raises a `ClosedError`."""
        self._closed = True

    @property
    def width(self) -> int:
        """Requests at once: few for a quick server, as many as allowed for a slow one.

        The server is slow if the last two answers were slow, because this machine may delay one. Waiting for the quota
        counts as well.
        """
        return self._in_flight if min(self._waits) > FAR else min(self._in_flight, NEAR_WIDTH)

    @property
    def room(self) -> int:
        """Requests that may be under way, or answered and not used yet."""
        return min(2 * self.width, max(READY_BYTES // self._large, 1))

    def ask(self, query: Query) -> Page:
        """Request one page in this thread."""
        self.requests += 1
        page = self.page(query, self.client)
        self.totals_on_pages = self.totals_on_pages or page.meta.total is not None
        return page

    def ask_total(self, query: Query) -> Page:
        """Request one page, again a few times if it has no total: an answer may have the meta of either mode.

        For the whole list, the total of the first page by cursor is taken as well. With filters it is not, because
        paging by cursor may ignore them.
        """
        page = self.ask(query)
        asked = 1
        while page.meta.total is None and asked < (ASK_LONG if self.totals_on_pages else ASK_AGAIN):
            if query == NEWEST and asked == 1 and (other := self.by_cursor((None, None), None)):
                meta = msgspec.structs.replace(page.meta, total=other.meta.total)
                page = dataclasses.replace(page, meta=meta)
            else:
                page = self.ask(query)
            asked += 1
        return page

    def believable(self, query: Query, first: Page | None = None) -> bool:
        """Whether the total on the first page of a question can be believed.

        A total that is not larger than its page may be the length of the page. And a cache that ignores the query gives
        the same answer, with the same total, to every question. So a second question must get another answer. This
        takes one or two requests, unless this run has seen different answers before.
        """
        first = first or self.ask_total(query)
        ids, shown = self._shown(first)
        more = (first.meta.total or 0) > shown
        if more and self.answers_differ:
            return True
        if not more and first.meta.next is not None:
            return False
        others = self._shown(self.ask(query._replace(page=2)))[0]
        if not others or others - ids:
            return more == bool(others)
        # The server ignores the number of the page; it may still honour its length.
        one = self.ask_total(query._replace(per_page=1))
        length = self._shown(one)[1]
        return 0 < length < min(shown, length + 1 if one.meta.total is None else one.meta.total)

    def _shown(self, page: Page) -> tuple[set[int], int]:
        """The ids of a page, and its length."""
        table, _, lengths = self.parse(page)
        return set(table.column("id").to_pylist()), lengths[0]

    def parse(self, *pages: Page) -> arrow.Parsed:
        """The pages as one table. `_last_seen_at` is the time before the first of them was requested.

        A change that is made while a page is under way is newer than the page, although the page arrives later.
        """
        asked = min((page.asked_at for page in pages if page.asked_at), default=self.now())
        return arrow.parse([page.raw for page in pages], asked, self.new_columns)

    def page(self, query: Query, client: PaystackClient) -> Page:
        """One page, or `REFUSED`; notes how long it took, and how large it is."""
        per_page = query.per_page or self.per_page
        asked_at, began = self.now(), time.monotonic()
        page = REFUSED
        try:
            page = client.list(page=query.page, per_page=per_page, from_=query.from_, to=query.to)
        except Rejected as error:
            if query.page == 1 and not query.per_page:
                if per_page != PAGE or isinstance(error, NotFound):
                    raise
                self.per_page = _DOCUMENTED_PAGE  # the API refuses a larger page
                return self.page(query, client)
        self._waits = [self._waits[1], time.monotonic() - began]
        self._large = max(memoryview(page.raw).nbytes, 1)
        return page if page is REFUSED else dataclasses.replace(page, asked_at=asked_at)

    def ask_all(self, queries: list[Query]) -> list[Page]:
        """Request pages side by side; returns them in any order. Not while windows are read."""
        self.requests += len(queries)
        found: list[Page] = []
        with contextlib.closing(SideBySide[None](self)) as requests:
            requests.submit(queries, None)
            while len(found) < len(queries):
                found += [page for _, _, page in requests.take()]
        return found

    def by_cursor(self, asked: tuple[datetime | None, datetime | None], cursor: str | None) -> Page | None:
        """The page at a cursor, or the first page; None if the API refuses the cursor, or any cursor."""
        self.requests += 1
        (from_, to), asked_at = asked, self.now()
        try:
            page = self.client.list(per_page=self.per_page, use_cursor=True, next=cursor, from_=from_, to=to)
            return dataclasses.replace(page, asked_at=asked_at)
        except Rejected:
            return None


class SideBySide(Generic[For]):
    """Requests pages side by side for one piece of work, which gets its own answers only."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._backlog: deque[tuple[Query, For]] = deque()
        self._workers: ThreadWorkers[tuple[Query, For], tuple[Query, For, Page]] = ThreadWorkers(
            lambda asked: (*asked, pages.page(asked[0], client))
        )
        client = pages.client.until(self._workers.check)

    @property
    def pending(self) -> int:
        """How many pages were requested and not taken."""
        return len(self._backlog) + self._workers.busy

    def submit(self, queries: Iterable[Query], wanted_by: For) -> None:
        self._backlog.extend((query, wanted_by) for query in queries)
        self._start()

    def take(self) -> list[tuple[Query, For, Page]]:
        """The pages that arrived, each with its query and with `wanted_by` of `submit`; waits for at least one."""
        self._start()
        answers = self._workers.wait()
        self._start()
        return answers

    def _start(self) -> None:
        while self._backlog and self._workers.busy < self._pages.room:
            self._workers.start(self._backlog.popleft(), width=self._pages.width)

    def close(self) -> None:
        self._workers.close()
