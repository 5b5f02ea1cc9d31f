"""The steps of a run where the usual way is not enough.

- `differing_parts` finds windows whose count differs from the API's, by halving, with few requests.
- `Older` asks for customers whom the list leaves out.
- `filters_hold` and `past_part` prepare a range. No total of the whole list shows what a range missed, and an API may
  read times in another zone, or only their day. So a customer whose time is known is asked for first. If the answer
  does not show that customer, the whole list is read and cut here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from paystack_source.extract import arrow
from paystack_source.extract.window_read import Query
from paystack_source.extract.windows import BEGIN, END, MARGIN, Proven, Window, cut_at, frozen_end, second

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa

    from paystack_source.extract.ledger import PresentCustomers
    from paystack_source.extract.reader import Reader
    from paystack_source.extract.window_read import Result
    from paystack_source.extract.windows import Coverage

TRY_FILTERS_AGAIN = timedelta(days=7)
"""If the API ignored filters, they are tried again after this time: reading the whole list each time is expensive."""

NARROW_ROWS = 300
"""A window whose count differs is searched down to parts of this many customers."""

_FEW = 4  # so few parts are read without a search, which would save a page or two
_HALF = timedelta(milliseconds=500)


def between_seconds(lo: datetime, hi: datetime) -> tuple[datetime | None, datetime]:
    """The bounds of a count, half a second before these times: nobody is on them, as times are listed in seconds."""
    return (None if lo <= BEGIN else lo - _HALF), hi - _HALF


def differing_parts(
    reader: Reader, held: PresentCustomers, coverage: Coverage, gone: Collection[int]
) -> list[Window]:
    """The parts of proven windows in which the API's count differs from the warehouse's, which is counted anew.

    Raises what `Reader.count` raises.
    """

    def count(lo: datetime, hi: datetime) -> int:
        return reader.count(*between_seconds(lo, hi))

    # Windows that were read in this run and are not loaded yet cannot be counted in the warehouse.
    items = [item for item in coverage if not any(part.overlaps(item.window) for part in held.deltas)]
    for item, rows in zip(items, held.count([item.window for item in items], gone), strict=True):
        coverage.add(Proven(item.window, rows + len(held.loose_in(item.window)), item.verified_at))
    items = list(coverage)
    parts: list[Window] = []
    for window in list(differing([item.window for item in items], [item.rows for item in items], count)):
        cuts = held.cuts(window, NARROW_ROWS)
        if window in held.deltas or len(cuts) < _FEW:
            parts.append(window)
        else:
            smaller = cut_at(window, cuts)
            parts += differing(smaller, held.count(smaller, gone), count)
    return parts


class Older:
    """Asks for customers older than the oldest one that was read: a list and its total may end at a fixed number.

    `to_ask`: this run reads all customers from the beginning of time, and has not asked yet.
    """

    def __init__(self, held: PresentCustomers) -> None:
        self._held = held
        self.read: datetime | None = None
        """The oldest creation time of customers that were read."""
        self.to_ask = False

    def note(self, oldest: datetime | None) -> None:
        """Take in the oldest creation time of customers that were read."""
        self.read = min((at for at in (self.read, oldest) if at), default=None)

    def questions(self, window: Window, newest: pa.Table | None) -> list[tuple[datetime | None, datetime]]:
        """The bounds to ask for, `from` and `to`, if it is to ask. `newest`: a page that may have the oldest one."""
        oldest = self.read
        if oldest is None and newest is not None:
            times = (self._held.oldest(), arrow.oldest(newest))
            oldest = min((at for at in times if at), default=None)
        return [between_seconds(window.lo, second(oldest))] if oldest and self.to_ask else []

    def proven_part(self, result: Result) -> Window:
        """The window that a result proves: without the time before its oldest customer while `to_ask` is true."""
        window = result.window
        if self.to_ask and BEGIN in window and result.oldest:
            return Window(second(result.oldest), window.hi)
        return window


def around_oldest(held: PresentCustomers, gone: Collection[int]) -> list[tuple[datetime | None, datetime]]:
    """The bounds, `from` and `to`, around the oldest customer of those who seem to be gone."""
    oldest = arrow.oldest(held.rows(gone)) if gone else None
    return [] if oldest is None else [(oldest - MARGIN, oldest + MARGIN)]


def differing(
    windows: Sequence[Window],
    held: Sequence[int],
    count: Callable[[datetime, datetime], int],
    counted: int | None = None,
) -> Iterator[Window]:
    """The windows whose `held` count is not what the API counts, by halving. They are ordered and do not overlap.

    `count` sends one request for the API's customers between two times; `counted` is its result for all of them, if it
    is known. Differences that cancel each other out between two questions are not seen.
    """
    if windows and counted is None:
        counted = count(windows[0].lo, windows[-1].hi)
    if counted in (None, sum(held)):
        return
    if len(windows) == 1:
        yield windows[0]
        return
    middle = len(windows) // 2
    older = count(windows[0].lo, windows[middle - 1].hi)
    yield from differing(windows[:middle], held[:middle], count, older)
    yield from differing(windows[middle:], held[middle:], count, counted - older)


def filters_hold(reader: Reader, shown: pa.Table) -> bool:
    """Whether the API filters by time: it shows the customers of one time, and nobody outside of the bounds.

    `shown` are customers that the list shows without a filter. Takes one or two requests.
    """
    dated = shown.filter(shown.column("created_at").is_valid())
    if not dated.num_rows:
        return False
    times = dated.column("created_at")
    # Several customers of one time may not fit on a page; a filtered page begins like the list without a filter.
    for wanted in (dated.filter(pc.equal(times, pc.min(times))), dated.slice(0, 1)):
        at = wanted.column("created_at")[0].as_py()
        found = reader.parse(reader.ask(Query(at - MARGIN, at + MARGIN, 1))).table
        if any(time and abs(time - at) > 2 * MARGIN for time in found.column("created_at").to_pylist()):
            return False
        if set(wanted.column("id").to_pylist()) <= set(found.column("id").to_pylist()):
            return True
    return False


def past_part(reader: Reader, window: Window, shown: pa.Table, now: datetime) -> Window:
    """The part of a range that is in the past, by the clock of this machine or by Paystack's.

    The times of customers that are `shown` on the list's first page are past for Paystack. If the whole range seems to
    be in the future, or if the list is not newest first, this takes one request.
    """
    end = max(frozen_end(at) for at in (now, arrow.edges(shown)[1]) if at)
    times = [at for at in shown.column("created_at").to_pylist() if at]
    later = window.clip(Window(end, END))
    if not later.empty and (later == window or times != sorted(times, reverse=True)):
        come = arrow.cut(reader.parse(reader.ask(Query(*later.asked(), 1))).table, later)
        end = max(frozen_end(at) for at in (now, arrow.edges(come)[1]) if at)
    return window.clip(Window(BEGIN, end))
