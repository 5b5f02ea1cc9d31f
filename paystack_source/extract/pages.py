"""Asks for pages of the list: one, several side by side, or by cursor; and tells how far answers are to be believed.

How many are asked for at once is told by the time that answers take. The quota is not kept here: the client blocks
until a request fits.
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
"""Requests at once, where answers are waited for."""

NEAR_WIDTH = 2
"""Requests at once to a server that is near: more threads than that wait for each other."""

FAR = 0.1
"""Seconds; an answer that takes longer is waited for."""

READY_BYTES = 20_000_000
"""Answers that may be under way or wait to be used, in bytes."""

ASK_AGAIN = 2
ASK_LONG = 12  # times, once it is known that there are totals at all
REFUSED = Page(raw=msgspec.Raw(b"[]"), meta=PageMeta(), params={})
"""Stands for a page past the first that was refused: it is past the end, as a rule, or too deep."""


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
        self.answers_differ = False  # one question showed other customers than another
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
        """Ask nothing more: whatever would have to raises a `ClosedError`."""
        self._closed = True

    @property
    def width(self) -> int:
        """Requests at once: few where the server is near, and as many as may be where answers are waited for.

        Two slow answers in a row tell, as one may be held up by this machine. Waiting for the quota is waiting too.
        """
        return self._in_flight if min(self._waits) > FAR else min(self._in_flight, NEAR_WIDTH)

    @property
    def room(self) -> int:
        """Requests that may be under way, or answered and not used yet."""
        return min(2 * self.width, max(READY_BYTES // self._large, 1))

    def ask(self, query: Query) -> Page:
        """One page, at once."""
        self.requests += 1
        page = self.page(query, self.client)
        self.totals_on_pages = self.totals_on_pages or page.meta.total is not None
        return page

    def ask_total(self, query: Query) -> Page:
        """One page, asked again a few times if it has no total: either meta may come at any time.

        Of the whole list the first page by cursor may have it instead. With filters it is not to be trusted: a cursor
        need not keep to them.
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
        """Whether the total of a question may be believed, which comes with its first page.

        A total that is not more than the customers it comes with may be the length of the page. And a server that
        gives one answer to every question, as a cache does that leaves the question out of its key, gives any total.
        So another question has to get another answer: a request or two, unless this run saw such answers already.
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
        # Pages are not heard by their numbers; perhaps by their length.
        one = self.ask_total(query._replace(per_page=1))
        length = self._shown(one)[1]
        return 0 < length < min(shown, length + 1 if one.meta.total is None else one.meta.total)

    def _shown(self, page: Page) -> tuple[set[int], int]:
        """The ids of a page, and its length."""
        table, _, lengths = self.parse(page)
        return set(table.column("id").to_pylist()), lengths[0]

    def parse(self, *pages: Page) -> arrow.Parsed:
        """The pages as one table. `_last_seen_at` is the time before the first of them was asked for.

        A page may be old when it arrives: a change that was made meanwhile is newer than what the page shows.
        """
        asked = min((page.asked_at for page in pages if page.asked_at), default=self.now())
        return arrow.parse([page.raw for page in pages], asked)

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
                self.per_page = _DOCUMENTED_PAGE  # refused where others clamp
                return self.page(query, client)
        self._waits = [self._waits[1], time.monotonic() - began]
        self._large = max(memoryview(page.raw).nbytes, 1)
        return page if page is REFUSED else dataclasses.replace(page, asked_at=asked_at)

    def ask_all(self, queries: list[Query]) -> list[Page]:
        """Pages side by side, in any order; only between readings."""
        self.requests += len(queries)
        found: list[Page] = []
        with contextlib.closing(SideBySide[None](self)) as requests:
            requests.submit(queries, None)
            while len(found) < len(queries):
                found += [page for _, _, page in requests.take()]
        return found

    def by_cursor(self, asked: tuple[datetime | None, datetime | None], cursor: str | None) -> Page | None:
        """The page at a cursor, or the first one; nothing if there are no cursors here, or not this one."""
        self.requests += 1
        (from_, to), asked_at = asked, self.now()
        try:
            page = self.client.list(per_page=self.per_page, use_cursor=True, next=cursor, from_=from_, to=to)
            return dataclasses.replace(page, asked_at=asked_at)
        except Rejected:
            return None


class SideBySide(Generic[For]):
    """Pages that are asked for side by side, for one piece of work: no answer comes to another."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._backlog: deque[tuple[Query, For]] = deque()
        self._workers: ThreadWorkers[tuple[Query, For], tuple[Query, For, Page]] = ThreadWorkers(
            lambda asked: (*asked, pages.page(asked[0], client))
        )
        client = pages.client.until(self._workers.check)

    @property
    def pending(self) -> int:
        """Pages that were asked for and not taken."""
        return len(self._backlog) + self._workers.busy

    def submit(self, queries: Iterable[Query], wanted_by: For) -> None:
        self._backlog.extend((query, wanted_by) for query in queries)
        self._start()

    def take(self) -> list[tuple[Query, For, Page]]:
        """The pages that are there, with what asked for them; waits for at least one."""
        self._start()
        answers = self._workers.wait()
        self._start()
        return answers

    def _start(self) -> None:
        while self._backlog and self._workers.busy < self._pages.room:
            self._workers.start(self._backlog.popleft(), width=self._pages.width)

    def close(self) -> None:
        self._workers.close()
