"""The events of a run of copying, and its summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from paystack_source.extract.ledger import Entry

if TYPE_CHECKING:
    import pyarrow as pa


class Rows(NamedTuple):
    """Customers to store, each once between two loads. `kind` says why they were read."""

    table: pa.Table
    kind: str


class Checkpoint(NamedTuple):
    """What was given so far has to be loaded before it can be compared, where it can be."""


Event = Rows | Entry | Checkpoint


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
