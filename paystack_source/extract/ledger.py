"""The lines of the ledger: what was asked, what the API said, what the warehouse holds. One for each window and run.

`HeldCustomers` names the questions to the warehouse. `warehouse.queries` answers them in SQL.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Protocol

from paystack_source.extract.windows import BEGIN, END
from paystack_source.tables import Column, Table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

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
    """What the warehouse holds without those who were marked as missing since the last load."""

    def __init__(self, held: HeldCustomers) -> None:
        self._held = held
        self.marked: dict[int, datetime | None] = {}  # and when they were created
        self.rows, self.cuts, self.accounts = held.rows, held.cuts, held.accounts
        self.most_at_once, self.oldest = held.most_at_once, held.oldest

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


ABOUT: Final = "about"


@dataclass(slots=True)
class Entry:
    """One line of the ledger. Times are in UTC, `None` where a window has no edge.

    `distinct_ids` were given for what was asked, which is a little more than the window; `rows` lie in the window.
    """

    entry_id: str = field(metadata={ABOUT: "The run, and the number of the line in it."})
    run_id: str = field(metadata={ABOUT: "The run that read the window."})
    kind: str = field(
        metadata={
            ABOUT: "Why it was read: first read, new, refresh, repair, range, whole list; count compares all there are."
        }
    )
    window_from: datetime | None = field(
        metadata={ABOUT: "Where the window begins, in UTC; null where it is open."}
    )
    window_to: datetime | None = field(
        metadata={ABOUT: "Where the window ends, in UTC, not included; null where it is open."}
    )
    asked_from: datetime | None = field(
        metadata={ABOUT: "The from that Paystack was asked for; null if there was none."}
    )
    asked_to: datetime | None = field(
        metadata={ABOUT: "The to that Paystack was asked for; null if there was none."}
    )
    api_total: int | None = field(
        metadata={ABOUT: "The total that Paystack gave for what was asked; null if it gave none."}
    )
    distinct_ids: int | None = field(metadata={ABOUT: "How many customers Paystack gave for what was asked."})
    rows: int | None = field(metadata={ABOUT: "How many of them lie in the window."})
    rows_held_before: int | None = field(
        metadata={ABOUT: "How many customers of the window were held before; null if nobody asked."}
    )
    rows_held_after: int | None = field(
        metadata={
            ABOUT: "How many are held since it was loaded; null if the run was killed before it counted."
        }
    )
    requests: int = field(metadata={ABOUT: "Requests that it cost."})
    proof: str = field(metadata={ABOUT: "How it was read, and what proves it."})
    proven: bool = field(metadata={ABOUT: "Whether the window is proven complete."})
    difference: int = field(metadata={ABOUT: "How many customers are missing for the proof; 0 if none are."})
    verified_at: datetime = field(metadata={ABOUT: "When Paystack was asked, in UTC."})

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


_KINDS: Final[dict[str, Kind]] = {"str": "text", "int": "bigint", "bool": "bool", "datetime": "timestamp"}

LEDGER: Final = Table(
    "ledger",
    "What proves that the copy is complete: one row for each window of creation time that a run read.",
    ("entry_id",),
    tuple(
        Column(
            each.name,
            _KINDS[str(each.type).removesuffix(" | None")],
            each.metadata[ABOUT],
            nullable=str(each.type).endswith("None"),
        )
        for each in fields(Entry)
    ),
)


def edges(window: Window) -> tuple[datetime | None, datetime | None]:
    """A window's ends as a person reads them."""
    return (None if window.lo <= BEGIN else window.lo, None if window.hi >= END else window.hi)


def entry_of(result: Result, *, run_id: str, number: int, kind: str, held_before: int | None) -> Entry:
    """The line for a window that was read."""
    window_from, window_to = edges(result.window)
    return Entry(
        entry_id=f"{run_id}-{number}",
        run_id=run_id,
        kind=kind,
        window_from=window_from,
        window_to=window_to,
        asked_from=result.asked[0],
        asked_to=result.asked[1],
        api_total=result.total,
        distinct_ids=result.distinct,
        rows=len(result.ids),
        rows_held_before=held_before,
        rows_held_after=None,
        requests=result.requests,
        proof=result.how,
        proven=result.proven,
        difference=result.difference,
        verified_at=result.read_at,
    )


def count_entry(look: NewestPage, *, run_id: str, number: int, held_after: int | None, proven: bool) -> Entry:
    """The line that compares the whole table with the API's total."""
    return Entry(
        entry_id=f"{run_id}-{number}",
        run_id=run_id,
        kind="count",
        window_from=None,
        window_to=None,
        asked_from=None,
        asked_to=None,
        api_total=look.total,
        distinct_ids=look.held + look.unknown.num_rows,
        rows=look.held + look.unknown.num_rows,
        rows_held_before=look.held,
        rows_held_after=held_after,
        requests=1,
        proof="total" if look.total is not None else "newest pages",
        proven=proven,
        difference=look.missing or 0,
        verified_at=look.asked_at,
    )
