"""What to read again: the windows that were verified longest ago, as far as the budget goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from paystack_source.extract.window_read import PAGE
from paystack_source.extract.windows import (
    MARGIN,
    SMALL_ROWS,
    WINDOW_ROWS,
    Coverage,
    Proven,
    Window,
    second,
)
from paystack_source.values import batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from paystack_source.extract.ledger import HeldCustomers

_WITHOUT_TOTALS = 3  # times the pages: each of two walks is made, one of them looks as far again for an end
_SECOND = timedelta(seconds=1)
_CLEAR = 3 * MARGIN  # of a crowded second, so that no margin reaches into it


class Cost(NamedTuple):
    """What reading costs in requests: the API's pages may be shorter than was asked for."""

    length: int = PAGE
    walks: int = 1

    @classmethod
    def seen(cls, shown: int, total: int | None, *, on_pages: bool) -> Cost:
        """As the first page of the list shows it; with the total on pages, or else by cursor only, or never."""
        short = shown and (total is None or total > shown)
        return cls(shown if short else PAGE, 1 if on_pages else _WITHOUT_TOTALS)

    def of(self, rows: int) -> int:
        """Requests for so many customers; one more may have come."""
        return (rows // self.length + 1) * self.walks

    def rows(self, requests: int) -> int:
        """Customers that so many requests are sure to read."""
        return (requests // self.walks - 1) * self.length


@dataclass(slots=True)
class Chosen:
    """What is read again. `stuck` if the whole budget is too small for customers of a single second."""

    items: list[Proven] = field(default_factory=list)
    stuck: bool = False


def oldest(coverage: Coverage, held: HeldCustomers, budget: int, before: datetime, cost: Cost) -> Chosen:
    """The windows to read again with so many requests, the last of them cut to what is left.

    Args:
        coverage: What is proven; a window that is cut is two in it afterwards.
        held: Where to cut, and how many the margins of a window hold.
        budget: Requests.
        before: What was verified since is left alone.
        cost: What customers cost.

    """
    chosen, left = Chosen(), budget
    items = [item for item in coverage.oldest_first() if item.age_key < before]
    for item, known in _priced(held, items, cost):
        if left < cost.of(0):
            break
        rest, price = item, known
        while price > left:
            part, behind, filled = _cut(coverage, held, rest, left, cost)
            if part is not None and _prices(held, [part], cost)[0] <= left:
                chosen.items.append(part)
                left -= _prices(held, [part], cost)[0]
            elif cost.rows(left) > 0 and _prices(held, [part or rest], cost)[0] > budget:
                chosen.stuck = True
            if filled:
                return chosen
            if behind is None:
                break
            rest, price = behind, _prices(held, [behind], cost)[0]
        else:
            chosen.items.append(rest)
            left -= price
    return chosen


def _priced(held: HeldCustomers, items: list[Proven], cost: Cost) -> Iterator[tuple[Proven, int]]:
    """Windows and their prices, a hundred at a time: the warehouse may be far away."""
    for some in batches(items, 100):
        yield from zip(some, _prices(held, some, cost), strict=True)


def _prices(held: HeldCustomers, items: Sequence[Proven], cost: Cost) -> list[int]:
    """Requests for each of these windows, with what lies in their margins."""
    wide = [Window(i.window.lo - MARGIN, i.window.hi + MARGIN + _SECOND) for i in items]
    return [cost.of(max(i.rows, rows)) for i, rows in zip(items, held.count(wide), strict=True)]


def _cut(
    coverage: Coverage, held: HeldCustomers, item: Proven, left: int, cost: Cost
) -> tuple[Proven | None, Proven | None, bool]:
    """Part of a window that so many requests can read; or that of a second too crowded for them.

    Returns:
        The part, what lies behind it, and whether the part uses what is left.

    """
    times = held.cuts(item.window, cost.rows(left))[:1] if cost.rows(left) > 0 else []
    if not times:
        return None, None, False
    window, at = item.window, second(times[0])
    for edge in (at + _SECOND, at - _CLEAR):
        if window.lo < edge < window.hi:
            part = Proven(Window(window.lo, edge), held.count([Window(window.lo, edge)])[0], item.verified_at)
            if _prices(held, [part], cost)[0] <= left:
                return part, _split(coverage, item, part), edge > at
    edge = at + _SECOND + _CLEAR
    if edge >= window.hi:
        return item, None, False
    part = Proven(Window(window.lo, edge), held.count([Window(window.lo, edge)])[0], item.verified_at)
    return part, _split(coverage, item, part), False


def _split(coverage: Coverage, item: Proven, part: Proven) -> Proven:
    coverage.split(item.window, part.window.hi, part.rows)
    return next(found for found in coverage if found.window.lo == part.window.hi)


def readable(budget: int, cost: Cost) -> int:
    """Customers that one run can read again; a run that reads none again leaves others a moderate window."""
    return min(cost.rows(budget), WINDOW_ROWS) if budget else SMALL_ROWS


def runs_to_refresh(coverage: Coverage, held: HeldCustomers, budget: int, cost: Cost) -> int | None:
    """Within how many runs every customer is read again, at this budget; `None` if never."""
    if cost.rows(budget) <= 0:
        return None
    crowd = 0
    if any(cost.of(item.rows) > budget for item in coverage):
        crowd = held.most_at_once()
        if cost.of(crowd) > budget:
            return None
    # A window that is cut to fit costs a page more, hence the one less a run.
    runs = -(-sum(cost.of(item.rows) for item in coverage) // (budget - cost.walks)) + 1
    # A crowded second that does not fit into what is left comes first in the next run: two runs read one budget.
    return 2 * runs if cost.of(crowd) > cost.of(0) else runs
