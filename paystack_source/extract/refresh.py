"""What to read again: the windows that were verified longest ago, as far as the budget goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paystack_source.extract.reading import PAGE
from paystack_source.extract.windows import SMALL_ROWS, WINDOW_ROWS, Coverage, Proven, cut_at

if TYPE_CHECKING:
    from datetime import datetime

    from paystack_source.extract.ledger import Held


def oldest(coverage: Coverage, held: Held, budget: int, before: datetime) -> list[Proven]:
    """The windows to read again with so many requests, the last of them cut to what is left.

    Args:
        coverage: What is proven; a window that is cut is two in it afterwards.
        held: Where to cut.
        budget: Requests.
        before: What was verified since is left alone.

    """
    left = budget
    chosen = []
    for item in coverage.oldest_first():
        if item.age_key >= before:
            break
        cost = pages(item)
        if cost > left:
            first = _first_part(coverage, held, item, left)
            if first is not None:
                chosen.append(first)
            break
        chosen.append(item)
        left -= cost
    return chosen


def _first_part(coverage: Coverage, held: Held, item: Proven, left: int) -> Proven | None:
    """As much of a window as so many requests can read."""
    cuts = held.cuts(item.window, (left - 1) * PAGE) if left > 1 else []
    parts = cut_at(item.window, cuts[:1])
    if len(parts) == 1:
        return None
    rows = held.count(parts[:1])[0]
    coverage.split(item.window, parts[0].hi, rows)
    part = Proven(parts[0], rows, item.verified_at)
    return part if pages(part) <= left else None  # many customers of one second may not fit


def readable(budget: int) -> int:
    """Customers that one run can read again; a run that reads none again leaves others a moderate window."""
    return min((budget - 1) * PAGE, WINDOW_ROWS) if budget else SMALL_ROWS


def runs_to_refresh(coverage: Coverage, budget: int) -> int | None:
    """Within how many runs every customer is read again, at this budget; `None` if never."""
    if budget <= 1:
        return None
    # A window that is cut to fit costs a page more, hence the one less a run.
    return -(-sum(map(pages, coverage)) // (budget - 1)) + 1


def pages(item: Proven) -> int:
    """What reading a window costs: its margin may need a page more."""
    return item.rows // PAGE + 1
