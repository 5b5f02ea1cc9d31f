"""How wide to ask for a range so that none of it is missed: no total of the whole list would show it.

An API may read times in another zone, or take the day of them only. So customers whose time is known are asked for
first: with a second to spare, then with a day; where neither shows them, filters are not used.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from paystack_source.extract.ledger import Entry, entry_of
from paystack_source.extract.reading import Query, Reading, Result
from paystack_source.extract.windows import MARGIN, Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pyarrow as pa

    from paystack_source.extract.reader import Reader

DAY = timedelta(days=1)


def margin_for(reader: Reader, shown: pa.Table) -> timedelta | None:
    """How far to ask past both edges of a range; `None` if filters are no use.

    Args:
        reader: Asks; a request for each margin that is tried.
        shown: Customers of the list, as it shows them without a filter.

    """
    return next((margin for margin in (MARGIN, DAY) if _honest(reader, shown, margin)), None)


def _honest(reader: Reader, shown: pa.Table, margin: timedelta) -> bool:
    at = pc.min(shown.column("created_at")).as_py()
    if at is None:
        return True
    page = reader.ask(Query(at - margin, at + margin, 1))
    found = reader.parse(page).table
    times = [time for time in found.column("created_at").to_pylist() if time is not None]
    if not times or any(abs(time - at) > 2 * margin for time in times):
        return False
    wanted = shown.filter(pc.equal(shown.column("created_at"), at)).column("id").to_pylist()
    more = (page.meta.total or 0) > found.num_rows  # they may be on another page
    return more or set(wanted) <= set(found.column("id").to_pylist())


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
    result = Result(window, (None, None), False, None, 0, set(), 0, "held", at)  # proven
    entry = entry_of(result, run_id=run_id, number=number, kind="range", held_before=None)
    entry.difference = -customers
    return entry
