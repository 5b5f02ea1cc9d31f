"""Steps of a run for lists whose totals or filters cannot be used as usual.

- `differing_parts` finds windows whose count differs from the API's, by halving, with few requests.
- `OlderCustomers` requests customers that the list leaves out at its end.
- `filters_hold` and `past_part` prepare a range. The total of the whole list cannot show that a range is incomplete,
  and an API may read times in another zone, or only their day. So a customer with a known time is requested first. If
  the answer lacks that customer, the whole list is read and cut here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.extract import arrow
from paystack_source.extract.held import PresentCustomers
from paystack_source.extract.reader import Reader
from paystack_source.extract.window_read import Query, Result
from paystack_source.extract.windows import (
    BEGIN,
    END,
    MARGIN,
    Coverage,
    Proven,
    Window,
    cut_at,
    frozen_end,
    second,
)

TRY_FILTERS_AGAIN = timedelta(days=7)
"""If the API ignored filters, they are tried again after this time: reading the whole list each time is expensive."""

NARROW_ROWS = 300
"""A window whose count differs is searched down to parts of this many customers."""

_FEW = 4  # fewer parts than this are read without a search, which would save only a page or two
_HALF = timedelta(milliseconds=500)


def between_seconds(lo: datetime, hi: datetime) -> tuple[datetime | None, datetime]:
    """The bounds of a count: half a second before these times, where no customer is, as times are whole seconds."""
    return (None if lo <= BEGIN else lo - _HALF), hi - _HALF


def differing_parts(
    reader: Reader, held: PresentCustomers, coverage: Coverage, unlisted: Collection[int]
) -> list[Window]:
    """The parts of proven windows in which the API's count differs from a new count of the warehouse.

    Raises what `Reader.count` raises.
    """

    def count(lo: datetime, hi: datetime) -> int:
        return reader.count(*between_seconds(lo, hi))

    windows = [item.window for item in coverage]
    rows = held.count(windows, unlisted)
    for item, number in zip(list(coverage), rows, strict=True):
        coverage.add(Proven(item.window, number, item.verified_at))
    parts: list[Window] = []
    for window in list(differing(windows, rows, count)):
        cuts = held.cuts(window, NARROW_ROWS)
        if len(cuts) < _FEW:
            parts.append(window)
        else:
            smaller = cut_at(window, cuts)
            parts += differing(smaller, held.count(smaller, unlisted), count)
    return parts


class OlderCustomers:
    """Requests customers older than the oldest one that was read: a list and its total may end at a fixed number.

    `to_ask`: this run reads all customers from the beginning of time, and has not requested older ones yet.
    """

    def __init__(self, held: PresentCustomers) -> None:
        self._held = held
        self.read: datetime | None = None
        """The oldest creation time of customers that were read."""
        self.to_ask = False

    def note(self, oldest: datetime | None) -> None:
        """Record the oldest creation time of customers that were read."""
        self.read = min((at for at in (self.read, oldest) if at), default=None)

    def queries(self, window: Window, newest: pa.Table | None) -> list[tuple[datetime | None, datetime]]:
        """The bounds (`from`, `to`) to request, if `to_ask`. `newest`: a page that may have the oldest customer."""
        oldest = self.read
        if oldest is None and newest is not None:
            times = (self._held.oldest(), arrow.oldest(newest))
            oldest = min((at for at in times if at), default=None)
        return [between_seconds(window.lo, second(oldest))] if oldest and self.to_ask else []

    def proven_part(self, result: Result) -> Window:
        """The window that a result proves. While `to_ask` is true, that is not the time before its oldest customer."""
        window = result.window
        if self.to_ask and BEGIN in window and result.oldest:
            return Window(second(result.oldest), window.hi)
        return window


def around_oldest(held: PresentCustomers, ids: Collection[int]) -> list[tuple[datetime | None, datetime]]:
    """The bounds (`from`, `to`) around the oldest of these held customers."""
    oldest = arrow.oldest(held.rows(ids)) if ids else None
    return [] if oldest is None else [(oldest - MARGIN, oldest + MARGIN)]


def differing(
    windows: Sequence[Window],
    held: Sequence[int],
    count: Callable[[datetime, datetime], int],
    counted: int | None = None,
) -> Iterator[Window]:
    """The windows whose `held` count is not what the API counts, by halving. They are ordered and do not overlap.

    `count` requests the number of the API's customers between two times; `counted` is its result for all windows, if it
    was requested already. Differences that cancel each other out in one count are not found.
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
    """Whether the API filters by time: an answer has the customers of one time, and no others.

    `shown` are customers from the list without a filter. Takes one or two requests.
    """
    dated = shown.filter(shown.column("created_at").is_valid())
    if not dated.num_rows:
        return False
    times = dated.column("created_at")
    # Many customers may have one time and not fit on a page; but a filtered page begins like the list without a filter.
    for wanted in (dated.filter(pc.equal(times, pc.min(times))), dated.slice(0, 1)):
        at = wanted.column("created_at")[0].as_py()
        found = reader.parse(reader.request(Query(at - MARGIN, at + MARGIN, 1))).table
        if any(time and abs(time - at) > 2 * MARGIN for time in found.column("created_at").to_pylist()):
            return False
        if set(wanted.column("id").to_pylist()) <= set(found.column("id").to_pylist()):
            return True
    return False


def past_part(reader: Reader, window: Window, shown: pa.Table, now: datetime) -> Window:
    """The part of a range that is in the past by this machine's clock or by Paystack's.

    The customers `shown` on the list's first page were created in the past by Paystack's clock. If the whole range
    seems to be in the future, or if the list is not newest first, this sends one request.
    """
    end = max(frozen_end(at) for at in (now, arrow.oldest_and_newest(shown)[1]) if at)
    times = [at for at in shown.column("created_at").to_pylist() if at]
    later = window.clip(Window(end, END))
    if not later.empty and (later == window or times != sorted(times, reverse=True)):
        come = arrow.cut(reader.parse(reader.request(Query(*later.asked(), 1))).table, later)
        end = max(frozen_end(at) for at in (now, arrow.oldest_and_newest(come)[1]) if at)
    return window.clip(Window(BEGIN, end))
