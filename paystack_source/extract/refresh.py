"""Chooses the windows to read again: those that were verified longest ago, within the budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from paystack_source.api.arguments import MOST_PER_PAGE
from paystack_source.extract.held import PresentCustomers
from paystack_source.extract.reader import Reader
from paystack_source.extract.windows import MARGIN, SMALL_ROWS, WINDOW_ROWS, Coverage, Proven, Window, second
from paystack_source.values import batches

_WITHOUT_TOTALS = 3  # requests per page: two passes, of which one reads twice as far to find the end
_SECOND = timedelta(seconds=1)
_CLEAR = 3 * MARGIN  # the distance from a crowded second, so that no margin reaches into it


class Cost(NamedTuple):
    """The price of reading in requests. The API's pages may be shorter than requested."""

    length: int = MOST_PER_PAGE
    passes: int = 1
    most: int = WINDOW_ROWS
    """Customers in the largest window that is read at once."""

    @classmethod
    def by_first_page(cls, shown: int, total: int | None, reader: Reader) -> Cost:
        """The cost by the list's first page, which has `shown` customers, and by what the reader knows of the API."""
        length = shown if shown and (total is None or total > shown) else MOST_PER_PAGE
        passes = 1 if reader.totals_on_pages else _WITHOUT_TOTALS
        return cls(length, passes, min(WINDOW_ROWS, reader.deepest * length * 2 // 3))

    def of(self, rows: int) -> int:
        """Requests for this number of customers, with one more page in case a customer was added."""
        return (rows // self.length + 1) * self.passes

    def rows(self, requests: int) -> int:
        """The number of customers that this number of requests certainly reads."""
        return (requests // self.passes - 1) * self.length


class Refresh:
    """Chooses the windows that are read again with a budget of requests.

    If a window is cut, two windows replace it in `coverage`. The cuts, and the number of customers in a window's
    margins, are computed from the held customers.
    """

    def __init__(self, coverage: Coverage, held: PresentCustomers, budget: int, cost: Cost) -> None:
        self._coverage = coverage
        self._held = held
        self._budget = budget
        self._cost = cost
        self.stuck = False
        """Whether the whole budget is too small for the customers of a single second."""

    def choose(self, before: datetime) -> list[Proven]:
        """The windows that were verified longest ago, before `before`. The last is cut to the rest of the budget."""
        chosen: list[Proven] = []
        left, rest = self._budget, list[tuple[Proven, int]]()
        windows = self._priced(self._coverage.oldest_first(before))
        while left >= self._cost.of(0) and (found := rest.pop() if rest else next(windows, None)):
            item, price = found
            fills = False
            if price > left:
                item, behind, fills = self._cut(item, left)
                price = self._prices([item])[0]
                rest = [(each, self._prices([each])[0]) for each in behind]
            if price <= left:
                chosen.append(item)
                left -= price
            elif price > self._budget and self._cost.rows(left) > 0:
                self.stuck = True
            if fills:
                break
        return chosen

    def _priced(self, items: list[Proven]) -> Iterator[tuple[Proven, int]]:
        """Windows and their prices. A hundred share a query, because a query may take long."""
        for some in batches(items, 100):
            yield from zip(some, self._prices(some), strict=True)

    def _prices(self, items: Sequence[Proven]) -> list[int]:
        """Requests for each of these windows, customers in their margins included."""
        wide = [Window(i.window.lo - MARGIN, i.window.hi + MARGIN + _SECOND) for i in items]
        return [
            self._cost.of(max(i.rows, rows)) for i, rows in zip(items, self._held.count(wide), strict=True)
        ]

    def _cut(self, item: Proven, left: int) -> tuple[Proven, list[Proven], bool]:
        """Cut off a part that `left` requests can read, or a second that has too many customers for them.

        Returns that part, the rest of the window, and whether the part uses up the budget. If it does not, it is a
        crowded second, or ends before one. If no cut is possible, the part is the whole window.
        """
        rows = self._cost.rows(left)
        times = self._held.cuts(item.window, rows)[:1] if rows > 0 else []
        for at in map(second, times):
            # Cut after the last customer that fits. If its second is too crowded: before that second, else after it.
            for edge in (at + _SECOND, at - _CLEAR, at + _SECOND + _CLEAR):
                if item.window.lo < edge < item.window.hi:
                    window = Window(item.window.lo, edge)
                    rows = self._held.count([window])[0]
                    price = self._prices([Proven(window, rows, item.verified_at)])[0]
                    if price <= left or edge > at + _SECOND:
                        part, behind = self._coverage.split(item, edge, rows)
                        return part, [behind], edge == at + _SECOND
        return item, [], False


def readable(budget: int, cost: Cost) -> int:
    """How many customers one run can read again. Without a budget it is a moderate number, for later runs with one."""
    return min(cost.rows(budget) if budget else SMALL_ROWS, cost.most)


def runs_to_refresh(coverage: Coverage, held: PresentCustomers, budget: int, cost: Cost) -> int | None:
    """The number of runs within which every customer is read again with this budget; `None` if never."""
    if cost.rows(budget) <= 0:
        return None
    crowd = 0
    if any(cost.of(item.rows) > budget for item in coverage):
        crowd = held.most_at_once()
        if cost.of(crowd) > budget:
            return None
    # Cutting a window costs one more page, so each run has one page less.
    runs = -(-sum(cost.of(item.rows) for item in coverage) // (budget - cost.passes)) + 1
    # A crowded second that does not fit becomes the next run's first window, so two runs may read one budget's worth.
    return 2 * runs if cost.of(crowd) > cost.of(0) else runs
