"""Windows of creation time: which are proven, which are not, and what to read next. Pure: no clock, no I/O.

The API filters by creation time only, so runs read half-open windows `[lo, hi)` of creation time, in UTC. `Coverage` is
kept between runs: the windows that were counted against the API, with the number of customers and the time of the
proof. A first load, an increment, a backfill and a refresh differ only in the windows that they read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeAlias

from paystack_source.errors import ConfigError
from paystack_source.values import parse_time, read_time, time_text

BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
"""Means "no lower bound": older than any customer."""

END = datetime(9999, 1, 1, tzinfo=UTC)
"""Means "no upper bound"."""

MARGIN = timedelta(seconds=1)
"""Requests exceed a window by this on both sides: the API does not document whether it includes its bounds."""

WINDOW_ROWS = 30_000
"""Customers per window: cutting costs one request in 300, and reading a window again costs half a minute of quota."""

SMALL_ROWS = 3_000
"""Two adjoining windows with at most this many customers are joined, whatever their age."""


Edges: TypeAlias = tuple[datetime | None, datetime | None]
"""A lower and an upper time; None where there is no bound."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """An interval of creation time, `lo` included, `hi` not; both are aware and in UTC."""

    lo: datetime
    hi: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.lo <= moment < self.hi

    @property
    def empty(self) -> bool:
        return self.lo >= self.hi

    def overlaps(self, other: Window) -> bool:
        return self.lo < other.hi and other.lo < self.hi

    def contains(self, other: Window) -> bool:
        return self.lo <= other.lo and other.hi <= self.hi

    def clip(self, other: Window) -> Window:
        """The intersection of both windows; may be empty."""
        return Window(max(self.lo, other.lo), min(self.hi, other.hi))

    def asked(self) -> Edges:
        """The `from` and `to` of requests for this window: a margin wider, `None` where the window is open."""
        return (
            None if self.lo <= BEGIN else self.lo - MARGIN,
            None if self.hi >= END else self.hi + MARGIN,
        )


ALWAYS = Window(BEGIN, END)


@dataclass(frozen=True, slots=True)
class Proven:
    """A proven window, its number of customers, and the time of the proof; `None` if it was never read by itself."""

    window: Window
    rows: int
    verified_at: datetime | None

    @property
    def age_key(self) -> datetime:
        """The sort key that puts the longest unverified window first."""
        return self.verified_at or BEGIN


class Coverage:
    """Proven windows, ordered and disjoint."""

    def __init__(self, proven: Iterable[Proven] = ()) -> None:
        self._items: list[Proven] = sorted(proven, key=lambda item: item.window)

    def __iter__(self) -> Iterator[Proven]:
        return iter(self._items)

    @property
    def covers_begin(self) -> bool:
        """Whether the beginning of time is proven."""
        return bool(self._items) and BEGIN in self._items[0].window

    def add(self, item: Proven) -> None:
        """Add a window. Windows that it overlaps are removed."""
        kept = [other for other in self._items if not other.window.overlaps(item.window)]
        self._items = sorted([*kept, item], key=lambda other: other.window)

    def split(self, item: Proven, cut: datetime, rows_before: int) -> tuple[Proven, Proven]:
        """Replace a proven window by its two sides of `cut`, the older of them with `rows_before` rows."""
        older = Proven(Window(item.window.lo, cut), rows_before, item.verified_at)
        newer = Proven(Window(cut, item.window.hi), max(item.rows - rows_before, 0), item.verified_at)
        at = self._items.index(item)
        self._items[at : at + 1] = [older, newer]
        return older, newer

    def cut_free(self, window: Window, count: Callable[[Window], int]) -> None:
        """Split proven windows at the edges of `window`; `count` returns the number of customers in a part."""
        for edge in (window.lo, window.hi):
            for item in self.inside(window):
                if edge in item.window and edge != item.window.lo:
                    self.split(item, edge, count(Window(item.window.lo, edge)))

    def gaps(self, within: Window) -> list[Window]:
        """The parts of `within` that are not proven, oldest first."""
        gaps = []
        at = within.lo
        for item in self._items:
            if item.window.hi <= at:
                continue
            if item.window.lo >= within.hi:
                break
            if item.window.lo > at:
                gaps.append(Window(at, item.window.lo))
            at = max(at, item.window.hi)
        if at < within.hi:
            gaps.append(Window(at, within.hi))
        return gaps

    def oldest_first(self, before: datetime) -> list[Proven]:
        """The windows that were last verified before this time, the longest unverified first."""
        old = [item for item in self._items if item.age_key < before]
        return sorted(old, key=lambda item: (item.age_key, item.window))

    def inside(self, within: Window) -> list[Proven]:
        return [item for item in self._items if item.window.overlaps(within)]

    def compact(self, max_rows: int = SMALL_ROWS) -> None:
        """Join adjoining windows, so that hourly runs do not add a window each. The older time of the two is kept.

        `max_rows` is the number of customers that one run can read again. In a larger window, the part that a run reads
        would get the time of the part that it does not read, and the next run would read the same part again.
        """
        joined: list[Proven] = []
        for item in self._items:
            if joined and _may_join(joined[-1], item, max_rows):
                left = joined.pop()
                older = min(left, item, key=lambda side: side.age_key).verified_at
                joined.append(Proven(Window(left.window.lo, item.window.hi), left.rows + item.rows, older))
            else:
                joined.append(item)
        self._items = joined

    def dump(self) -> list[list[Any]]:
        """The windows as JSON values, for dlt's state."""
        return [
            [
                time_text(i.window.lo),
                time_text(i.window.hi),
                i.rows,
                time_text(i.verified_at) if i.verified_at else None,
            ]
            for i in self._items
        ]

    @classmethod
    def load(cls, dumped: Sequence[Sequence[Any]]) -> Coverage:
        """The coverage from the result of `dump`. Overlapping and empty windows are left out, and read again."""
        coverage = cls()
        for lo, hi, rows, verified in dumped:
            window = Window(parse_time(lo), parse_time(hi))
            if not window.empty and not coverage.inside(window):
                coverage.add(Proven(window, int(rows), parse_time(verified) if verified else None))
        return coverage


def _may_join(left: Proven, right: Proven, max_rows: int) -> bool:
    rows = left.rows + right.rows
    if left.window.hi != right.window.lo or rows > max_rows:
        return False
    if (left.verified_at is None) != (right.verified_at is None):
        return False
    return rows <= SMALL_ROWS or (
        rows <= WINDOW_ROWS and abs(left.age_key - right.age_key) <= timedelta(days=1)
    )


def cut_at(window: Window, times: Iterable[datetime]) -> list[Window]:
    """Cut `window` just after each second in `times`, in any order; returns adjoining windows, oldest first.

    Edges are whole seconds because `fallbacks.between_seconds` counts half a second before an edge: at an edge inside
    a second, customers would be counted in another window than their own.
    """
    cuts = sorted({second(time) + timedelta(seconds=1) for time in times})
    edges = [window.lo, *(cut for cut in cuts if window.lo < cut < window.hi), window.hi]
    return [Window(lo, hi) for lo, hi in pairwise(edges)]


def _read(given: str | date) -> datetime:
    time = read_time(given)
    if time is None:
        raise ConfigError(
            f"{given!r} is not a time",
            advice="Write a date (2026-01-31) or a time (2026-01-31T08:00:00Z); without a zone it is UTC.",
        )
    return time


def second(value: datetime) -> datetime:
    return value.replace(microsecond=0)


def frozen_end(now: datetime) -> datetime:
    """The end of the current second. Customers created later belong to the next run."""
    return second(now.astimezone(UTC)) + timedelta(seconds=1)


def bounds(start: str | date | None, end: str | date | None) -> Window | None:
    """The window from `--from` to `--to`; `None` if neither was given. A time without a zone is UTC.

    Raises `ConfigError` if a value is not a time, or if the end is not after the start.
    """
    if start is None and end is None:
        return None
    times = [default if given is None else _read(given) for given, default in ((start, BEGIN), (end, END))]
    window = Window(*times)
    if window.empty:
        raise ConfigError(
            "the end of the range is not after its start",
            advice="Give a start (--from) that comes before the end (--to).",
        )
    return window
