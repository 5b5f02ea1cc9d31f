"""When a run must stop by itself, and how many requests it keeps in flight. Pure: values in, a reason out."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from paystack_source.bulk.run.states import Kind

MAX_IN_FLIGHT: Final = 32
MIN_IN_FLIGHT: Final = 4
MAX_UNREPEATABLE: Final = 8  # at 300 ms more than twice what the live quota lets through
# What one request costs one core here (client, journal, bookkeeping); more in flight than latency divided
# by this only queues inside the process.
REQUEST_CPU_SECONDS: Final = 0.0015


@dataclass(frozen=True, slots=True)
class StopRules:
    """Limits that end a run early; 0 switches a rule off. Shares are between 0 and 1."""

    equal_rejections: int = 20  # the same rejection this many times in a row
    unknown_window: int = 50  # of the last so many answers ...
    unknown_share: float = 0.5  # ... more than this share unknown
    unreachable: int = 10  # so many rows in a row that could not even be sent
    canary_rows: int = 0  # send this many first, and look before going on
    canary_share: float = 0.0  # more than this share of the canary rejected or unknown: stop


@dataclass(slots=True)
class Circuit:
    """Watches the answers to sends, in the order in which they arrive."""

    rules: StopRules
    _equal: int = 0
    _last: tuple[str | None, str | None] = (None, None)
    _unsent: int = 0
    _recent: deque[bool] = field(default_factory=deque)
    _canary: list[bool] = field(default_factory=list)

    def see(self, kind: Kind, code: str | None, message: str | None) -> str | None:
        """One more answer; the reason to stop, or None."""
        return (
            self._rejections(kind, code, message)
            or self._unknowns(kind)
            or self._connection(kind, message)
            or self._first_rows(kind)
        )

    @property
    def holding(self) -> int | None:
        """How many more rows may be sent before the canary has been judged; None: no limit."""
        left = self.rules.canary_rows - len(self._canary)
        return left if left > 0 else None

    def _rejections(self, kind: Kind, code: str | None, message: str | None) -> str | None:
        if kind is not Kind.REJECTED:
            self._equal = 0
            return None
        self._equal = self._equal + 1 if self._last == (code, message) else 1
        self._last = (code, message)
        if self.rules.equal_rejections and self._equal >= self.rules.equal_rejections:
            return f"{self._equal} equal rejections in a row: {message or code}"
        return None

    def _unknowns(self, kind: Kind) -> str | None:
        size = self.rules.unknown_window
        if not size:
            return None
        self._recent.append(kind is Kind.UNKNOWN)
        if len(self._recent) > size:
            self._recent.popleft()
        unknown = sum(self._recent)
        if len(self._recent) == size and unknown > size * self.rules.unknown_share:
            return f"{unknown} of the last {size} answers did not arrive or could not be read"
        return None

    def _connection(self, kind: Kind, message: str | None) -> str | None:
        self._unsent = self._unsent + 1 if kind is Kind.NOT_SENT else 0
        if self.rules.unreachable and self._unsent >= self.rules.unreachable:
            return f"{self._unsent} rows in a row could not be sent: {message or 'no connection'}"
        return None

    def _first_rows(self, kind: Kind) -> str | None:
        size = self.rules.canary_rows
        if len(self._canary) >= size or kind is Kind.NOT_SENT:
            return None
        self._canary.append(kind in (Kind.REJECTED, Kind.UNKNOWN))
        bad = sum(self._canary)
        if len(self._canary) == size and bad > size * self.rules.canary_share:
            return f"{bad} of the first {size} rows failed (the canary allows {self.rules.canary_share:.0%})"
        return None


def in_flight(latency: float | None, *, repeatable: bool = True) -> int:
    """How many requests to keep under way at this latency (seconds; None: not known yet).

    Rows that must not be sent twice are kept few: whatever is under way when a process is killed stays
    unknown.
    """
    most = MAX_IN_FLIGHT if repeatable else MAX_UNREPEATABLE
    if latency is None:
        return most // 2
    return max(MIN_IN_FLIGHT, min(most, math.ceil(latency / REQUEST_CPU_SECONDS)))
