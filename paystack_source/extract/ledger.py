"""The data around a run: the customers in the warehouse, the entries of the ledger, and the run's summary.

`HeldCustomers` lists the queries of the warehouse; `warehouse.queries` implements them in SQL.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, Protocol, TypeAlias, get_args, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.extract import arrow
from paystack_source.extract.newest import NewestPage
from paystack_source.extract.window_read import Result
from paystack_source.extract.windows import ALWAYS, BEGIN, END, Edges, Window
from paystack_source.tables import Column, Kind, Table

_DATED = ["id", "created_at"]


class HeldCustomers(Protocol):
    """Queries of the customers in the warehouse. Those marked as missing are left out, except in `rows`."""

    def count(self, windows: Sequence[Window]) -> list[int]:
        """The number of customers in each of these windows; in `ALWAYS` also those without a creation time."""

    def held_among(self, ids: Collection[int]) -> set[int]:
        """Those of `ids` that are held."""

    def ids(self, window: Window) -> set[int]:
        """The ids of the customers in the window."""

    def rows(self, ids: Collection[int]) -> pa.Table:
        """The customers with these ids, in the columns of the table."""

    def cuts(self, window: Window, rows: int) -> list[datetime]:
        """The creation times of every `rows`-th customer of the window, oldest first."""

    def most_at_once(self) -> int:
        """The largest number of customers with the same creation time."""

    def oldest(self) -> datetime | None:
        """The oldest creation time of all customers."""

    def replaced(self, window: Window) -> set[int]:
        """The ids of customers in the window that were held until this run, which replaces the table; or else none."""

    def accounts(self) -> set[tuple[str | None, int | None]]:
        """The accounts of the customers: domain (test or live) and integration."""


class PresentCustomers:
    """The customers in the warehouse and those not loaded yet, without those that this run marked as missing."""

    def __init__(self, held: HeldCustomers) -> None:
        self._held = held
        self.rows, self.accounts, self.replaced = held.rows, functools.cache(held.accounts), held.replaced
        self.most_at_once, self.oldest = held.most_at_once, held.oldest
        self.after_load()

    def after_load(self) -> None:
        """Called when the warehouse has all rows that were yielded so far."""
        self.marked: dict[int, datetime | None] = {}  # customers marked as missing, and their creation times
        self.emitted: set[int] = set()
        self.new: set[int] = set()  # those of them that are not held
        self._dated = [arrow.SCHEMA.empty_table().select(_DATED)]  # those of them with a creation time

    def emit(self, table: pa.Table) -> pa.Table:
        """The customers that were not emitted since the last load."""
        table = arrow.unseen(table, self.emitted)
        self._dated.append(table.select(_DATED).drop_null())
        return table

    def held_among(self, ids: Collection[int]) -> set[int]:
        return self._held.held_among(ids) - self.marked.keys()

    def held_or_emitted(self, ids: set[int]) -> set[int]:
        """Those of `ids` that are held or were emitted."""
        return self.held_among(ids) | (self.emitted & ids)

    def held_in(self, window: Window) -> set[int]:
        """The ids of held customers in the window."""
        return self._held.ids(window) - self.marked.keys()

    def new_in(self, window: Window) -> set[int]:
        """The ids of new customers who were created in the window."""
        return set(self._new_in(window).column("id").to_pylist())

    def _new_in(self, window: Window) -> pa.Table:
        """Their ids and creation times, in Arrow: a load may have any number of customers."""
        dated = arrow.cut(pa.concat_tables(self._dated), window)
        return dated.filter(pc.is_in(dated.column("id"), value_set=pa.array(list(self.new), pa.int64())))

    # -- held and new -----------------------------------------------------------------------------------------------

    def total(self) -> int:
        return self._held.count([ALWAYS])[0] - len(self.marked) + len(self.new)

    def count(self, windows: Sequence[Window], but: Collection[int] = ()) -> list[int]:
        """The number of customers in each of these windows, without those in `but`."""
        hidden = list(self.marked.values())
        if but:
            hidden += self._held.rows(but).column("created_at").to_pylist()
        return [
            rows - sum(at in window for at in hidden if at) + self._new_in(window).num_rows
            for window, rows in zip(windows, self._held.count(windows), strict=True)
        ]

    def cuts(self, window: Window, rows: int) -> list[datetime]:
        """The creation times of every `rows`-th held customer of the window, and of every `rows`-th new one."""
        times = self._new_in(window).column("created_at").sort()
        new = times.take(pa.array(range(rows - 1, len(times), rows), pa.int64())).to_pylist()
        return sorted([*self._held.cuts(window, rows), *new])


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
