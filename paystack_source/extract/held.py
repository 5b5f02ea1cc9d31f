"""The customers in the warehouse, as the extraction sees them.

`HeldCustomers` lists the queries of the warehouse; `warehouse.queries` implements them in SQL.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.extract import arrow
from paystack_source.extract.windows import ALWAYS, Window

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
