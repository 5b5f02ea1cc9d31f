"""The lines of the ledger: what was asked, what the API said, what the warehouse holds. One for each window and run.

`HeldCustomers` names the questions to the warehouse. `warehouse.queries` answers them in SQL.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol, get_args, get_type_hints

from paystack_source.extract.windows import BEGIN, END
from paystack_source.tables import Column, Table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import pyarrow as pa

    from paystack_source.extract.newest import NewestPage
    from paystack_source.extract.window_read import Result
    from paystack_source.extract.windows import Window
    from paystack_source.tables import Kind


class HeldCustomers(Protocol):
    """What the warehouse holds. Customers that are marked as missing do not count."""

    def total(self) -> int:
        """All customers."""

    def count(self, windows: Sequence[Window]) -> list[int]:
        """Customers in each of these windows."""

    def known(self, ids: Collection[int]) -> set[int]:
        """Those of `ids` that are held."""

    def ids(self, window: Window) -> set[int]:
        """Everyone in the window."""

    def rows(self, ids: Collection[int]) -> pa.Table:
        """The customers with these ids, in the columns of the table."""

    def cuts(self, window: Window, rows: int) -> list[datetime]:
        """The creation times of every `rows`-th customer of the window, oldest first."""

    def most_at_once(self) -> int:
        """How many customers share one creation time at most."""

    def oldest(self) -> datetime | None:
        """The oldest creation time of all customers."""

    def accounts(self) -> set[tuple[str | None, int | None]]:
        """Whose customers these are: domain (test or live) and integration."""


class PresentCustomers:
    """What the warehouse holds, without those who were marked as missing; and what is given out and not loaded yet."""

    def __init__(self, held: HeldCustomers) -> None:
        self._held = held
        self.rows, self.cuts, self.accounts = held.rows, held.cuts, functools.cache(held.accounts)
        self.most_at_once, self.oldest = held.most_at_once, held.oldest
        self.loaded()

    def loaded(self) -> None:
        """The warehouse holds everything that was given out."""
        self.marked: dict[int, datetime | None] = {}  # as missing; and when created
        self.emitted: set[int] = set()
        self.loose: dict[int, datetime | None] = {}  # new, of no window; and when created
        self.deltas: dict[Window, int] = {}  # how many of a window are new

    # -- held -----------------------------------------------------------------------------------------------------

    def total(self) -> int:
        return self._held.total() - len(self.marked)

    def count(self, windows: Sequence[Window], but: Collection[int] = ()) -> list[int]:
        """Customers in each of these windows, but for some."""
        hidden = list(self.marked.values())
        if but:
            hidden += self._held.rows(but).column("created_at").to_pylist()
        return [
            rows - sum(at in window for at in hidden if at)
            for window, rows in zip(windows, self._held.count(windows), strict=True)
        ]

    def known(self, ids: Collection[int]) -> set[int]:
        return self._held.known(ids) - self.marked.keys()

    def ids(self, window: Window) -> set[int]:
        return self._held.ids(window) - self.marked.keys()

    # -- held, or given out -----------------------------------------------------------------------------------------

    def in_all(self) -> int:
        """All customers, and those who were added."""
        return self.total() + len(self.loose) + sum(self.deltas.values())

    def held_or_emitted(self, ids: set[int]) -> set[int]:
        """Those of `ids` that are held or were given out."""
        return self.known(ids) | (self.emitted & ids)

    def inside(self, window: Window) -> int:
        """How many of those added lie in the window; windows that only overlap it do not count."""
        read = sum(delta for part, delta in self.deltas.items() if window.contains(part))
        return read + len(self.loose_in(window))

    def loose_in(self, window: Window) -> set[int]:
        """Those of no window who were created in this one."""
        return {number for number, at in self.loose.items() if at and at in window}

    def touches(self, windows: Iterable[Window]) -> bool:
        """Whether any of those added by reading windows may lie in these."""
        return any(delta and part.overlaps(w) for w in windows for part, delta in self.deltas.items())

    def settle(self, window: Window, delta: int) -> None:
        """A window was read, and so many of it are new."""
        self.deltas = {key: value for key, value in self.deltas.items() if not key.overlaps(window)}
        self.deltas[window] = delta


@dataclass(slots=True, kw_only=True)
class Entry:
    """One line of the ledger. Times are in UTC, `None` where a window has no edge.

    `distinct_ids` were given for what was asked, which is a little more than the window; `rows` lie in the window.
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

    def as_row(self) -> dict[str, Any]:
        return asdict(self)

    def as_difference(self) -> dict[str, Any]:
        """What a report says of a window that was not proven."""
        return {
            "from": self.window_from,
            "to": self.window_to,
            "api_total": self.api_total,
            "distinct_ids": self.distinct_ids,
            "difference": self.difference,
        }


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


def edges(window: Window) -> tuple[datetime | None, datetime | None]:
    """A window's ends as a person reads them."""
    return (None if window.lo <= BEGIN else window.lo, None if window.hi >= END else window.hi)


def entry_of(result: Result, kind: str, held_before: int) -> Entry:
    """The line for a window that was read."""
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
    """The line of a range that has more customers than it showed, or that did not show some who are held."""
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
    """The line that compares the whole table with the API's total."""
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
