"""The newest pages of the list, which have the customers who came after the newest window ended.

Only a window that ended before the request has a fixed content. The creation time of the newest customer is past by
Paystack's clock, whatever the clock of this machine says. So the newest window ends just before that customer.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from paystack_source.extract import arrow
from paystack_source.extract.windows import MARGIN, Window, frozen_end, second

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

TOP_PAGES = 20
"""New customers on up to this many of the newest pages are taken from there; more of them are read as a window."""

_SECOND = timedelta(seconds=1)
_BEHIND = timedelta(days=1)
_CLOCKS_DIFFER = timedelta(minutes=1)
"""A customer who is older than this, by the clock of this machine, came before now by Paystack's clock too."""


class NewestPage(NamedTuple):
    """The newest page and the total that came with it, compared with the held customers."""

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
        """The creation times of customers by whom a list that is behind is noticed."""
        return Window(self.asked_at - _BEHIND, self.asked_at + _BEHIND)

    def is_behind(self, gone: pa.Table) -> bool:
        """Whether the list is older than the copy, as that of a replica may be: it ends before customers of a day ago.

        Those in `gone` are held, and neither the list nor its total has them.
        """
        latest, shown = arrow.edges(gone)[1], arrow.edges(self.table)[1]
        return bool(latest and abs(self.asked_at - latest) < _BEHIND and (shown is None or latest > shown))

    def settled_end(self, now: datetime) -> datetime:
        """The end of a window that gets no more customers, by the newest customer; else the end of this second."""
        end, newest = frozen_end(now), next(iter(self._times), None)
        if newest is None or not self.newest_first:
            return end
        since = now - newest
        return min(end, second(newest) + (_SECOND if since > _CLOCKS_DIFFER else -MARGIN - _SECOND))


class TopPages:
    """Chooses how many of the newest pages to read: enough for the new customers, and one more if others arrive."""

    def __init__(self) -> None:
        self._deepest = 0
        self._newest: NewestPage | None = None

    def next(self, newest: NewestPage, wanted: int) -> range:
        """The numbers of the pages after the first that have `wanted` new customers; none if this cannot find them."""
        before, self._newest = self._newest, newest
        if before is newest or not newest.missing or newest.missing < 0 or not newest.newest_first:
            return range(0)
        others_come = before is not None and before.total != newest.total
        deepest = max(-(-wanted // max(newest.table.num_rows, 1)), self._deepest) + others_come
        if deepest > TOP_PAGES:
            return range(0)
        self._deepest = deepest
        return range(2, deepest + 1)
