"""Faults: which request fails, and how, by a seed or by the number of the request. Without HTTP.

A fault has a kind, the endpoints that it concerns, and either a rate or the number of a request. As text
(`parse_faults`), separated by commas:

    html=0.01                 one request in a hundred
    reset_after@create#3      the third create
    error@writes#2+5          writes 2 to 6
    slow@list=0.1,cut=0.02    both
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

# kind -> whether the request takes effect before the fault, and what the client sees
KINDS: dict[str, tuple[bool, str]] = {
    "error": (False, "500 with a JSON error body"),
    "error_after": (True, "500 with a JSON error body, the effect has happened"),
    "unavailable": (False, "503 with an empty body"),
    "html": (False, "502 with an HTML page of a proxy"),
    "html_after": (True, "502 with an HTML page, the effect has happened"),
    "blocked": (False, "403 with the HTML page of a bot check"),
    "not_json": (True, "200 with a body that is not JSON"),
    "empty": (True, "200 with an empty body"),
    "status_false": (False, "200 with status false"),
    "cut": (True, "the body ends in the middle, then the connection closes"),
    "slow": (True, "the body arrives in small pieces over slow_body_seconds"),
    "reset_before": (False, "connection reset, nothing has happened"),
    "reset_after": (True, "connection reset, the effect has happened"),
    "hang": (False, "no answer at all, nothing has happened"),
    "hang_after": (True, "no answer at all, the effect has happened"),
    "limited": (False, "429 although the quota is not used up"),
}
READS = frozenset({"list", "fetch"})
WRITES = frozenset({"create", "update", "set_risk_action", "identification", "deactivate"})
ENDPOINTS = READS | WRITES


@dataclass(frozen=True)
class Fault:
    """One fault. `nth` (1-based, with `count` requests in a row) or else `rate` decides when it happens."""

    kind: str
    endpoint: str = "*"  # an endpoint's name, "reads", "writes" or "*"
    rate: float = 0.0
    nth: int | None = None
    count: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault is called {self.kind!r}; there are {', '.join(KINDS)}")
        if self.endpoint not in ENDPOINTS | {"*", "reads", "writes"}:
            raise ValueError(
                f"no endpoint is called {self.endpoint!r}; there are *, reads, writes, "
                f"{', '.join(sorted(ENDPOINTS))}"
            )
        if not 0 <= self.rate <= 1:
            raise ValueError(f"the rate of {self.kind} must be between 0 and 1, not {self.rate}")
        if self.nth == 0 or self.count == 0:
            raise ValueError(f"{self.kind}: requests are counted from 1")

    @property
    def after_effect(self) -> bool:
        """Whether the request takes effect first."""
        return KINDS[self.kind][0]

    def concerns(self, endpoint: str) -> bool:
        if self.endpoint == "reads":
            return endpoint in READS
        if self.endpoint == "writes":
            return endpoint in WRITES
        return self.endpoint in {"*", endpoint}


_ITEM = re.compile(
    r"(?P<kind>[a-z_]+)(@(?P<endpoint>[a-z_*]+))?(=(?P<rate>[0-9.]+)|#(?P<nth>\d+)(\+(?P<count>\d+))?)"
)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Faults from their text form (see the module's docstring). Raises `ValueError` with the faulty item."""
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(
                f"{item!r} is not a fault; write kind=rate, kind@endpoint=rate or kind@endpoint#3"
            )
        found.append(
            Fault(
                kind=match["kind"],
                endpoint=match["endpoint"] or "*",
                rate=float(match["rate"] or 0),
                nth=int(match["nth"]) if match["nth"] else None,
                count=int(match["count"] or 1),
            )
        )
    return tuple(found)


class FaultPicker:
    """Decides for each admitted request which fault hits it, if any."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        self._faults = tuple(faults)
        self._seen: Counter[int] = Counter()
        self._random = random.Random(f"faults:{seed}")  # noqa: S311  # repeatable faults, no secret

    def pick(self, endpoint: str) -> Fault | None:
        """The fault for this request. For scripted faults requests are counted from the time they were set."""
        chosen: Fault | None = None
        for index, fault in enumerate(self._faults):
            if not fault.concerns(endpoint):
                continue
            self._seen[index] += 1
            if fault.nth is None:
                hit = fault.rate > 0 and self._random.random() < fault.rate
            else:
                hit = fault.nth <= self._seen[index] < fault.nth + fault.count
            if hit and chosen is None:
                chosen = fault
        return chosen
