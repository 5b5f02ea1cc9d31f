"""Which pages of the whole list hold the newest customers, and whether they reach down to those that are held.

Nothing promises an order. What the pages show of one decides which are asked for; a total, or customers as old as
those of the last run, decide whether that was enough.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.extract.reader import REFUSED
from paystack_source.extract.window_read import Query
from paystack_source.extract.windows import BEGIN, frozen_end

if TYPE_CHECKING:
    from datetime import datetime

    from paystack_source.extract.reader import Reader

TOP_PAGES = 20
"""New customers on this many of the newest pages are looked for there; more are read as a window."""

LOOKBACK = timedelta(days=1)
"""Where no totals show late customers, this much of the newest time is read again, if anything is."""

LATE = timedelta(minutes=1)
"""How much older than the newest ones of the last run a new customer may be, to be found without a total."""

EVIDENCE = 20
"""So many customers in a row from newer to older are no accident."""


class Order(Enum):
    """How a list is sorted by creation time, as far as some of it shows."""

    NEWEST_FIRST = "newest first"
    OLDEST_FIRST = "oldest first"
    NEITHER = "neither"


def order_of(table: pa.Table) -> Order:
    """The order of customers that came one after the other; newest first if they are all of one time."""
    times = table.column("created_at")
    if times.null_count:
        return Order.NEITHER
    here, following = times.slice(0, max(len(times) - 1, 0)), times.slice(1)
    for order, keeps in ((Order.NEWEST_FIRST, pc.greater_equal), (Order.OLDEST_FIRST, pc.less_equal)):
        if pc.all(keeps(here, following), min_count=0).as_py():
            return order
    return Order.NEITHER


def pages_with(first: pa.Table, wanted: int, total: int) -> range:
    """Where so many new customers should be, apart from the first page: behind it, or at the end of the list."""
    length = max(first.num_rows, 1)
    pages = -(-wanted // length)
    if order_of(first) is Order.OLDEST_FIRST:
        last = -(-total // length)
        return range(max(last - pages, 2), last + 1)
    return range(2, pages + 1)


class Newest:
    """The newest creation time that a run was shown."""

    def __init__(self) -> None:
        self._time = BEGIN

    def note(self, table: pa.Table) -> None:
        """Take these customers into account."""
        self._time = max(self._time, pc.max(table.column("created_at")).as_py() or BEGIN)

    def end(self, at: datetime, total: int | None) -> datetime:
        """Until when everybody was shown, if all were that there were at a time.

        Where nothing counts those who come late, this goes by the API's own clock, not by that of this machine.
        """
        return frozen_end(at) if total is not None else min(frozen_end(at), frozen_end(self._time))


def down_to(reader: Reader, first: pa.Table, until: datetime) -> pa.Table | None:
    """The newest pages, down to customers who were there when everybody created before `until` was held.

    Args:
        reader: Asks for more pages.
        first: The first page.
        until: The end of the second of the newest customer of the last run.

    Returns:
        All customers created since, less a minute, and some older ones; `None` if the list is not sorted by creation
        time, if it begins with nobody as new, or there are too many.

    """
    table = first
    newest = pc.max(table.column("created_at")).as_py()
    if newest is None or frozen_end(newest) < until:
        return None
    for number in range(2, TOP_PAGES + 2):
        if order_of(table) is not Order.NEWEST_FIRST:
            return None
        oldest = pc.min(table.column("created_at")).as_py()
        if table.num_rows >= EVIDENCE and oldest < until - LATE:
            return table
        page = reader.ask(Query(None, None, number))
        if page is REFUSED:
            return None
        more = reader.parse(page).table
        if not more.num_rows:
            return table
        table = pa.concat_tables([table, more], promote_options="default")
    return None
