"""The events that a run of the extraction yields, and its summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from paystack_source.extract.ledger import Entry

if TYPE_CHECKING:
    import pyarrow as pa


class Rows(NamedTuple):
    """Customers to store, each once between two loads. `kind` is the reason for reading them, as in the ledger."""

    table: pa.Table
    kind: str


class Checkpoint(NamedTuple):
    """All rows so far should be loaded now: the next comparison needs them in the warehouse."""


Event = Rows | Entry | Checkpoint


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
    refresh_runs: int | None = None  # within how many runs every customer is read again; `None` if never
    filters_ignored: bool = False
    complete: bool = False
