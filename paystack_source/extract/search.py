"""Finds where two counts of the same customers part, with few questions. Pure: the counting is handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from paystack_source.extract.windows import Window


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
