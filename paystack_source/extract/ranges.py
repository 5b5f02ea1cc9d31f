"""How wide to ask for a range so that none of it is missed: no total of the whole list would show it.

An API may read times in another zone, or take the day of them only. So customers whose time is known are asked for
first: with a second to spare, then with two days; where neither shows them, filters are not used.
"""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from paystack_source.extract.ledger import Entry, entry_of
from paystack_source.extract.window_read import Query, Reading, Result
from paystack_source.extract.windows import MARGIN, Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pyarrow as pa

    from paystack_source.extract.reader import Reader

WIDE = timedelta(days=2)
"""More than a day cut off and the largest difference between time zones."""


def margins(reader: Reader, shown: pa.Table) -> list[timedelta | None]:
    """How far to ask past both edges of a range, and how far after that if answers stray; `None`: without filters.

    Args:
        reader: Asks; a request or two for each margin that is tried.
        shown: Customers of the list, as it shows them without a filter.

    """
    widths = (MARGIN, WIDE)
    return [*itertools.dropwhile(lambda margin: not _honest(reader, shown, margin), widths), None]


def _honest(reader: Reader, shown: pa.Table, margin: timedelta) -> bool:
    """Whether a question shows customers of one time, and nobody of a time that it rules out."""
    dated = shown.filter(shown.column("created_at").is_valid())
    if not dated.num_rows:
        return False
    times = dated.column("created_at")
    # Of more customers than a page holds, a filtered list begins with the one that the whole list begins with.
    for wanted in (dated.filter(pc.equal(times, pc.min(times))), dated.slice(0, 1)):
        at = wanted.column("created_at")[0].as_py()
        found = reader.parse(reader.ask(Query(at - margin, at + margin, 1))).table
        if any(time and abs(time - at) > 2 * margin for time in found.column("created_at").to_pylist()):
            return False
        if set(wanted.column("id").to_pylist()) <= set(found.column("id").to_pylist()):
            return True
    return False


def readings_for(reader: Reader, window: Window, margin: timedelta | None) -> Iterator[Reading]:
    """What to read for a range; without a margin the whole list, cut here."""
    if margin is None:
        yield Reading(window, (None, None))
        return
    for reading in reader.split(window, margin):
        reading.strict = margin == MARGIN
        yield reading


def not_shown(window: Window, customers: int, run_id: str, number: int, at: datetime) -> Entry:
    """The line of a range that did not show so many who are held in it; only a whole run can mark them."""
    result = Result(window, (None, None), False, None, 0, set(), set(), 0, "held", at)  # proven
    entry = entry_of(result, run_id=run_id, number=number, kind="range", held_before=None)
    entry.difference = -customers
    return entry
