"""Finds where two counts of the same customers part, with few questions. Pure: the counting is handed in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from paystack_source.extract.windows import BEGIN, cut_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    from paystack_source.extract.ledger import Present
    from paystack_source.extract.windows import Window

NARROW_ROWS = 300
"""A window that does not add up is searched down to parts of this size."""

_FEW = 4  # parts: reading them all takes a page or two more than the search would
_HALF = timedelta(milliseconds=500)


def between_seconds(lo: datetime, hi: datetime) -> tuple[datetime | None, datetime]:
    """What to ask for a count: listed times have whole seconds, so nobody is on an edge half a second off one."""
    return (None if lo <= BEGIN else lo - _HALF), hi - _HALF


def narrowed(
    window: Window, held: Present, but: Collection[int], count: Callable[[datetime, datetime], int]
) -> list[Window]:
    """The parts of a window that differ from what is held `but` for some, if that is cheaper than reading all of it."""
    cuts = held.cuts(window, NARROW_ROWS)
    if len(cuts) < _FEW:
        return [window]
    parts = cut_at(window, cuts)
    return list(differing(parts, held.count(parts, but), count))


def differing(
    windows: Sequence[Window],
    held: Sequence[int],
    count: Callable[[datetime, datetime], int],
) -> Iterator[Window]:
    """The windows whose `held` count is not what the API counts, by halving.

    Args:
        windows: Ordered, not overlapping.
        held: Customers held in each.
        count: What the API counts between two moments: one request.

    Yields:
        The windows that differ. Differences that cancel each other out between two questions are not seen.

    """
    if not windows:
        return
    counted = count(windows[0].lo, windows[-1].hi)
    yield from _halve(windows, held, count, counted)


def _halve(
    windows: Sequence[Window],
    held: Sequence[int],
    count: Callable[[datetime, datetime], int],
    counted: int,
) -> Iterator[Window]:
    if counted == sum(held):
        return
    if len(windows) == 1:
        yield windows[0]
        return
    middle = len(windows) // 2
    older = count(windows[0].lo, windows[middle - 1].hi)
    yield from _halve(windows[:middle], held[:middle], count, older)
    yield from _halve(windows[middle:], held[middle:], count, counted - older)
