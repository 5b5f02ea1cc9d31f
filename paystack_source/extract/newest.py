"""Decides where the newest window ends, and how many of the newest pages are read for customers created later.

Only a window that ended before the request gets no more customers. The newest customer's creation time is in the past
by Paystack's clock, whatever the clock of this machine shows. So the newest window ends just before that customer.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import pyarrow as pa

from paystack_source.extract import arrow
from paystack_source.extract.windows import MARGIN, Window, frozen_end, second

TOP_PAGES = 20
"""New customers that fit on this many of the newest pages are read from these; more are read as a window."""

_SECOND = timedelta(seconds=1)
_BEHIND = timedelta(days=1)
_CLOCKS_DIFFER = timedelta(minutes=1)
"""The clocks of this machine and of Paystack differ by less than this."""


class NewestPage(NamedTuple):
    """The newest page and its total, compared with the held customers."""

    total: int | None
    table: pa.Table  # the customers of the newest page
    unknown: pa.Table  # those of them that are not held
    held: int  # customers that are held
    asked_at: datetime

    @property
    def missing(self) -> int | None:
        """How many customers the API counts that are neither held nor on this page."""
        return None if self.total is None else self.total - self.held - self.unknown.num_rows

    @property
    def _times(self) -> list[datetime]:
        return [at for at in self.table.column("created_at").to_pylist() if at]

    @property
    def newest_first(self) -> bool:
        """Whether the customers of the page are in order, the newest first."""
        return all(newer >= older for newer, older in pairwise(self._times))

    @property
    def day(self) -> Window:
        """The creation times of customers whose absence shows that the list is behind."""
        return Window(self.asked_at - _BEHIND, self.asked_at + _BEHIND)

    def is_behind(self, unlisted: pa.Table) -> bool:
        """Whether the list is older than the copy, as a replica's may be: it lacks held customers of the last day.

        Customers in `unlisted` are held, but neither in the list nor in its total.
        """
        latest, shown = arrow.oldest_and_newest(unlisted)[1], arrow.oldest_and_newest(self.table)[1]
        return bool(latest and abs(self.asked_at - latest) < _BEHIND and (shown is None or latest > shown))

    def unchanging_end(self, now: datetime) -> datetime:
        """The end of a window that gets no more customers: just before the newest one, or the end of this second."""
        end, newest = frozen_end(now), next(iter(self._times), None)
        if newest is None or not self.newest_first:
            return end
        since = now - newest
        return min(end, second(newest) + (_SECOND if since > _CLOCKS_DIFFER else -MARGIN - _SECOND))


class TopPages:
    """Chooses how many of the newest pages to read: enough for the new customers, one more if others are created."""

    def __init__(self) -> None:
        self._deepest = 0
        self._newest: NewestPage | None = None

    def next(self, newest: NewestPage, wanted: int) -> range:
        """The pages after the first that have `wanted` new customers; empty if they cannot be computed."""
        before, self._newest = self._newest, newest
        if before is newest or not newest.missing or newest.missing < 0 or not newest.newest_first:
            return range(0)
        others_come = before is not None and before.total != newest.total
        deepest = max(-(-wanted // max(newest.table.num_rows, 1)), self._deepest) + others_come
        if deepest > TOP_PAGES:
            return range(0)
        self._deepest = deepest
        return range(2, deepest + 1)
