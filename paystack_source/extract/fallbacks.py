"""What a run does where the usual way does not do: find where counts differ, and read a range that nothing else counts.

Counts of proven windows are compared with the API's by halving, with few questions; the counting is handed in.

No total of the whole list shows what a range missed. An API may read times in another zone, or take the day of them
only. So customers whose time is known are asked for first; where the answer does not show them, the whole list is read
and cut here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from paystack_source.extract.ledger import Entry, entry_of
from paystack_source.extract.window_read import Query, Reading, Result
from paystack_source.extract.windows import BEGIN, MARGIN, Window, cut_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa

    from paystack_source.extract.ledger import Present
    from paystack_source.extract.reader import Reader

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


def filters_hold(reader: Reader, shown: pa.Table) -> bool:
    """Whether a question shows customers of one time, and nobody of a time that it rules out.

    Args:
        reader: Asks; a request or two.
        shown: Customers of the list, as it shows them without a filter.

    """
    dated = shown.filter(shown.column("created_at").is_valid())
    if not dated.num_rows:
        return False
    times = dated.column("created_at")
    # Of more customers than a page holds, a filtered list begins with the one that the whole list begins with.
    for wanted in (dated.filter(pc.equal(times, pc.min(times))), dated.slice(0, 1)):
        at = wanted.column("created_at")[0].as_py()
        found = reader.parse(reader.ask(Query(at - MARGIN, at + MARGIN, 1))).table
        if any(time and abs(time - at) > 2 * MARGIN for time in found.column("created_at").to_pylist()):
            return False
        if set(wanted.column("id").to_pylist()) <= set(found.column("id").to_pylist()):
            return True
    return False


def readings_for(reader: Reader, window: Window, *, filtered: bool) -> Iterator[Reading]:
    """What to read for a range: windows, or without filters the whole list, cut here."""
    for reading in reader.split(window) if filtered else [Reading(window, (None, None))]:
        reading.strict = filtered
        reading.by_itself = True
        yield reading


def not_shown(window: Window, customers: int, run_id: str, number: int, at: datetime) -> Entry:
    """The line of a range that did not show so many who are held in it; only a whole run can mark them."""
    result = Result(window, (None, None), False, None, 0, set(), set(), 0, "held", at)  # proven
    entry = entry_of(result, run_id=run_id, number=number, kind="range", held_before=None)
    entry.difference = -customers
    return entry
