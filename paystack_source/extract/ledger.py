"""The table `ledger`, whose entries prove windows, and what else a run yields: customers, checkpoints, its summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, TypeAlias, get_args, get_type_hints

import pyarrow as pa

from paystack_source.extract.newest import NewestPage
from paystack_source.extract.window_read import Result
from paystack_source.extract.windows import BEGIN, END, Edges, Window
from paystack_source.tables import Column, Kind, Table


@dataclass(slots=True, kw_only=True)
class Entry:
    """One row of the ledger. Times are in UTC, `None` where a window is open.

    `distinct_ids` counts the customers in the requested bounds, which exceed the window; `rows` those in the window.
    """

    entry_id: Annotated[str, "The run, and the number of the line in it."] = ""
    run_id: Annotated[str, "The run that read the window."] = ""
    kind: Annotated[
        str,
        "Why it was read: first read, new, refresh, repair, range, whole list; count compares all there are.",
    ]
    window_from: Annotated[datetime | None, "Where the window begins, in UTC; null where it is open."] = None
    window_to: Annotated[
        datetime | None, "Where the window ends, in UTC, not included; null where it is open."
    ] = None
    asked_from: Annotated[
        datetime | None, "The from that Paystack was asked for; null if there was none."
    ] = None
    asked_to: Annotated[datetime | None, "The to that Paystack was asked for; null if there was none."] = None
    api_total: Annotated[
        int | None, "The total that Paystack gave for what was asked; null if it gave none."
    ] = None
    distinct_ids: Annotated[int | None, "How many customers Paystack gave for what was asked."] = 0
    rows: Annotated[int | None, "How many of them lie in the window."] = 0
    rows_held_before: Annotated[
        int | None, "How many customers of the window were held before; null if they were not counted."
    ] = None
    rows_held_after: Annotated[
        int | None, "How many are held since it was loaded; null if the run was killed before it counted."
    ] = None
    requests: Annotated[int, "Requests that it cost."] = 0
    proof: Annotated[str, "How it was read, and what proves it."]
    proven: Annotated[bool, "Whether the window is proven complete."]
    difference: Annotated[int, "How many customers the proof lacks; 0 if it lacks none."]
    verified_at: Annotated[datetime, "When Paystack was asked, in UTC."]

    def as_difference(self) -> dict[str, Any]:
        """The object of an unproven window in a report."""
        return {
            "from": self.window_from,
            "to": self.window_to,
            "api_total": self.api_total,
            "distinct_ids": self.distinct_ids,
            "difference": self.difference,
        }


class Checkpoint(NamedTuple):
    """A request to load all rows so far: the next step needs them in the warehouse."""


Output: TypeAlias = pa.Table | Entry | Checkpoint
"""What a run yields. A table has customers to load, each once between two loads."""


@dataclass(slots=True)
class Summary:
    """The numbers of a run."""

    rows_seen: int = 0
    rows_new: int = 0
    rows_missing: int = 0
    rows_refreshed: int = 0
    windows: int = 0
    unproven: list[Entry] = field(default_factory=list)
    api_total: int | None = None
    refresh_runs: int | None = None  # within so many runs every customer is read again; `None` if never
    filters_ignored: bool = False
    complete: bool = False


_KINDS: Final[dict[type, Kind]] = {str: "text", int: "bigint", bool: "bool", datetime: "timestamp"}


def _column(name: str, hint: Any) -> Column:  # noqa: ANN401  # an annotation
    kind, *null = get_args(hint.__origin__) or (hint.__origin__,)
    return Column(name, _KINDS[kind], hint.__metadata__[0], nullable=bool(null))


LEDGER: Final = Table(
    "ledger",
    "What proves that the copy is complete: one row for each window of creation time that a run read.",
    ("entry_id",),
    tuple(_column(*each) for each in get_type_hints(Entry, include_extras=True).items()),
)


def edges(window: Window) -> Edges:
    """The ends of a window, None where it is open."""
    return (None if window.lo <= BEGIN else window.lo, None if window.hi >= END else window.hi)


def entry_of(result: Result, kind: str, held_before: int) -> Entry:
    """The entry of a window that was read."""
    window_from, window_to = edges(result.window)
    return Entry(
        kind=kind,
        window_from=window_from,
        window_to=window_to,
        asked_from=result.asked[0],
        asked_to=result.asked[1],
        api_total=result.total,
        distinct_ids=result.distinct,
        rows=len(result.ids),
        rows_held_before=held_before,
        requests=result.requests,
        proof=result.how,
        proven=result.proven,
        difference=result.difference,
        verified_at=result.read_at,
    )


def unproven_range(window: Window, difference: int, at: datetime) -> Entry:
    """The entry of a range that did not list held customers, or that has more customers than it listed."""
    start, end = edges(window)
    return Entry(
        kind="range",
        window_from=start,
        window_to=end,
        proof="held",
        proven=False,
        difference=difference,
        verified_at=at,
    )


def count_entry(newest: NewestPage, held_after: int | None, *, proven: bool) -> Entry:
    """The entry that compares the number of customers in the table with the API's total."""
    found = newest.held + newest.unknown.num_rows
    return Entry(
        kind="count",
        api_total=newest.total,
        distinct_ids=found,
        rows=found,
        rows_held_before=newest.held,
        rows_held_after=held_after,
        requests=1,
        proof="total" if newest.total is not None else "newest pages",
        proven=proven,
        difference=newest.missing or 0,
        verified_at=newest.asked_at,
    )
