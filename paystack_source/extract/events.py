"""The events of a run of copying, what it gave out that is not loaded yet, and its summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from paystack_source.extract.ledger import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import pyarrow as pa

    from paystack_source.extract.windows import Window


class Rows(NamedTuple):
    """Customers to store, each once between two loads. `kind` says why they were read."""

    table: pa.Table
    kind: str


class Checkpoint(NamedTuple):
    """What was given so far has to be loaded before it can be compared, where it can be."""


Event = Rows | Entry | Checkpoint


@dataclass(slots=True)
class Pending:
    """What was given out and is not in the warehouse yet."""

    emitted: set[int] = field(default_factory=set)
    loose: dict[int, datetime | None] = field(default_factory=dict)  # new, of no window; and when created
    deltas: dict[Window, int] = field(default_factory=dict)  # how many of a window are new

    @property
    def added(self) -> int:
        return len(self.loose) + sum(self.deltas.values())

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
        self.deltas = {key: value for key, value in self.deltas.items() if not key.overlaps(window)}
        self.deltas[window] = delta


@dataclass(slots=True)
class Summary:
    """What the run came to."""

    rows_seen: int = 0
    rows_new: int = 0
    rows_missing: int = 0
    rows_refreshed: int = 0
    windows: int = 0
    unproven: list[Entry] = field(default_factory=list)
    api_total: int | None = None
    refresh_runs: int | None = None  # within how many runs every customer is read again; `None` if never
    filters_ignored: bool = False
    complete: bool = False
