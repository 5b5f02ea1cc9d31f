"""The state of a window while it is read, and the result (no I/O).

A `Reading` computes which pages to request next, keeps the ids of each pass, and compares their number with the total.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import msgspec

from paystack_source.api.arguments import MOST_PER_PAGE
from paystack_source.api.models import Page, PageMeta
from paystack_source.extract.windows import Edges, Window

_ROUND = 32  # the most pages requested at once while no total is known


class NoTotalError(Exception):
    """The API gives no total, not even after several requests."""


class Query(NamedTuple):
    """A request for one page of the list."""

    from_: datetime | None
    to: datetime | None
    page: int
    per_page: int | None = None
    """Customers per page; None for as many as the API allows."""


NEWEST = Query(None, None, 1)
"""The first page of the whole list."""

REFUSED = Page(raw=msgspec.Raw(b"[]"), meta=PageMeta(), params={})
"""Replaces a later page that the API refused, usually because it is past the end of the list, or too deep."""


class Result(NamedTuple):
    """The result of reading one window."""

    window: Window
    asked: Edges
    proven: bool
    total: int | None
    """The API's total for `asked`; `None` if it never gave one."""
    distinct: int
    """The number of distinct customers in the answers for `asked`."""
    ids: set[int]
    """The customers in the window."""
    vanished: set[int]
    """Customers in the window that an earlier pass listed, and the proving pass did not."""
    requests: int
    how: str
    read_at: datetime
    """When the last page arrived."""
    oldest: datetime | None = None
    """The oldest creation time in the window."""

    @property
    def difference(self) -> int:
        """The API's total minus the customers in its answers."""
        return 0 if self.total is None else self.total - self.distinct


class Reading:
    """A window while it is read."""

    def __init__(self, window: Window, asked: Edges, expected: int | None = None) -> None:
        self.window = window
        self.asked = asked
        self.expected = expected
        self.requests = 0
        self.unreadable = 0
        self.seen: set[int] = set()  # distinct ids of all passes
        self.inside: set[int] = set()  # the ids of customers in the window
        self.oldest: datetime | None = None  # the oldest creation time in the window
        self.raw: list[tuple[int, Page]] = []  # pages that arrived and are not parsed yet
        self.outstanding = 0
        self.passes: list[str] = []
        # Per pass: the number of distinct ids, and whether it was cut short.
        self.finished: list[tuple[int, bool]] = []
        self.longest = 0  # customers on the longest page of all passes
        self.repeats = False  # a numbered page had only customers of the pages before it
        self.empty_page_with_cursor = False  # the last page by cursor was empty, but named a next cursor
        self.all_totals: set[int] = set()  # the totals of all passes
        self.stray = False  # an answer had a customer outside of the bounds
        self.is_range = False  # its customers are not compared with the whole list's total afterwards
        self.doubted = False  # its total cannot be believed
        self.start_pass("pages")

    def start_pass(self, how: str) -> None:
        self.passes.append(how)
        # The first pass needs no set of its own: its ids are all ids so far.
        self.pass_ids = self.seen if len(self.passes) == 1 else set()
        self.totals: list[int] = []
        self.lengths: dict[int, int] = {}
        self.refused: set[int] = set()
        self.asked_up_to = 0
        self.cut_short = False  # a page was refused (past the end, or too deep), or a cursor did not end
        self.fresh = 0  # ids that this pass got since pages were last requested, and had not before

    @property
    def total(self) -> int | None:
        """The last total that the API gave in this pass."""
        return self.totals[-1] if self.totals else None

    @property
    def knows_totals(self) -> bool:
        """Whether the API gave a total in any pass."""
        return bool(self.all_totals)

    @property
    def one_page(self) -> bool:
        """Whether a single page would prove this, by its own total."""
        return self.knows_totals and len(self.passes) == 1 and len(self.seen) <= self.longest

    @property
    def proven_by(self) -> set[int] | None:
        """The ids, if there are as many as the API's total; None if not, or if the total changed in this pass."""
        if self.total is None or len(set(self.totals)) > 1:
            return None
        return self._counted

    @property
    def _counted(self) -> set[int] | None:
        """The ids of this pass, or of all passes if they had one total, if there are as many as the last total."""
        among = (self.pass_ids, self.seen) if len(self.all_totals) == 1 else (self.pass_ids,)
        return next((ids for ids in among if len(ids) == self.total), None)

    def note(self, number: int, page: Page) -> None:
        """Record a page that arrived."""
        self.requests += 1
        if page is REFUSED:
            self.cut_short = True
            self.refused.add(number)
        self.raw.append((number, page))
        self.asked_up_to = max(self.asked_up_to, number)
        if page.meta.total is not None:
            self.totals.append(page.meta.total)
            self.all_totals.add(page.meta.total)

    def agreed_by(self) -> set[int] | None:
        """Without totals: all ids, if two passes each got all of them, and one pass reached the end of the list.

        Two passes with the same single page prove nothing: a server that ignores the query answers every request with
        that page. An empty page that names a next cursor proves nothing either.
        """
        whole = [cut_short for size, cut_short in self.finished if size == len(self.seen)]
        if self.empty_page_with_cursor or (self.repeats and len(self.seen) <= self.longest):
            return None
        return self.seen if len(whole) > 1 and not all(whole) else None

    def finish_pass(self) -> None:
        """End a pass after all its pages arrived."""
        if self.passes[-1] == "pages" and not self.fresh and self.lengths.get(self.asked_up_to):
            self.repeats = self.cut_short = True  # customers, but no new ones: not the end of the list
        self.finished.append((len(self.pass_ids), self.cut_short))

    def last_pages(self) -> Iterator[int]:
        """The number before each page that this pass lacks, although the API's total has customers on it.

        An empty page counts if a whole page is missing: fewer customers may have vanished while the pages were read.
        """
        if self.passes[-1] == "pages":
            for number, length in self.lengths.items():
                missing = (self.total or 0) - (number - 1) * self.longest
                if not length and missing > (0 if number in self.refused else self.longest):
                    yield number - 1

    def next_pages(self) -> range:
        """The pages to request once all requested pages arrived; none at the end of the pass."""
        start = self.asked_up_to + 1
        total = self.total
        if not self.lengths:
            planned = -(-self.expected // MOST_PER_PAGE) if self.expected and len(self.passes) == 1 else 1
            return range(start, start + max(planned, 1))
        if total is not None:
            if len(self.pass_ids) >= total or self._counted is not None:
                return range(0)
            last = -(-total // max(*self.lengths.values(), 1))
            if start <= last:
                return range(start, last + 1)
        if not self.fresh or not self.lengths[self.asked_up_to]:
            return range(0)
        return range(start, start + min(self.asked_up_to, _ROUND))

    def result(self, ids: set[int] | None, read_at: datetime) -> Result:
        """The result of reading. `ids` prove the window; None if it is not proven."""
        found = self.seen if ids is None else ids
        return Result(
            window=self.window,
            asked=self.asked,
            proven=ids is not None and not self.unreadable,
            total=self.total,
            distinct=len(found),
            ids=self.inside if len(found) == len(self.seen) else self.inside & found,
            vanished=self.inside - found,
            requests=self.requests,
            how=self.passes[-1] if self.knows_totals else "two walks",
            read_at=read_at,
            oldest=self.oldest,
        )
