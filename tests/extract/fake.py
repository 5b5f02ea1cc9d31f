"""An invented list of customers with every oddity as a switch, and a warehouse in memory. No network, no disk."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
import pyarrow as pa

from paystack_source.api.models import Page, PageMeta
from paystack_source.errors import Rejected
from paystack_source.extract.ledger import Checkpoint, Entry
from paystack_source.extract.reader import Reader
from paystack_source.extract.run import Extraction
from paystack_source.extract.windows import ALWAYS, Coverage, Window

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def customer(number: int, created: datetime, **fields: object) -> dict:
    stamp = created.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "integration": 7,
        "first_name": f"N{number}",
        "last_name": None,
        "email": f"c{number}@example.com",
        "phone": None,
        "metadata": {"n": number},
        "domain": "test",
        "customer_code": f"CUS_{number:015}",
        "risk_action": "default",
        "id": number,
        "createdAt": stamp,
        "updatedAt": stamp,
    } | fields


@dataclass
class Odd:
    """What is strange about an API. The defaults are the documented behaviour."""

    to: str = "exclusive"  # inclusive, ignored, day
    from_: str = "inclusive"  # exclusive, ignored
    cap: int = 5
    over_cap: str = "clamp"  # refuse
    order: str = "newest"  # oldest, shuffled
    meta: str = "documented"  # other, both, total_only, cursor_only, flips
    numbers_as_text: bool = False
    end: object = None  # "null", "", "missing", "repeat": how a cursor says that it is the end
    cursors: str = "combine"  # unfiltered, none
    short: float = 0.0  # share of cursor pages that hold fewer customers than they could
    drop: float = 0.0  # share of numbered pages that lack a customer
    shift: int = 0  # from and to are taken for so many seconds earlier
    slack: int = 0  # customers this many seconds outside of from and to are shown as well
    total_off: int = 0
    arrive_every: int = 0  # a new customer after so many requests
    late_by: int = 0  # created so many seconds before it arrives, at most
    page_ignored: bool = False
    deepest: int = 0  # pages beyond this one are refused
    shallow: bool = False  # they are empty instead
    most: int = 0  # no question shows or counts more customers than this, the newest of them
    seed: int = 0


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class FakeApi:
    """Answers as `PaystackClient.list` does."""

    created: Sequence[datetime]
    odd: Odd = field(default_factory=Odd)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.customers = {n: customer(n, at) for n, at in enumerate(self.created, 1)}
        self.when = dict(enumerate(self.created, 1))
        self.newest = len(self.customers)
        self.undated: set[int] = set()  # shown to every question
        self.requests = 0
        self.random = Random(self.odd.seed)
        self.lock = threading.Lock()
        self._answers: dict[tuple, list[int]] = {}
        self._answered_of: tuple = ()

    def add(self, *created: datetime, **fields: object) -> None:
        for at in created:
            number = self.newest = self.newest + 1
            self.customers[number] = customer(number, at, **fields)
            self.when[number] = at

    def undate(self, *numbers: int) -> None:
        self.undated.update(numbers)
        for number in numbers:
            self.customers[number]["createdAt"] = None

    def remove(self, number: int) -> None:
        del self.customers[number], self.when[number]

    def list(
        self,
        *,
        page=None,
        per_page=100,
        use_cursor=False,
        next=None,  # noqa: A002
        from_=None,
        to=None,
    ) -> Page:
        with self.lock:
            return self._list(page, per_page, use_cursor, next, from_, to)

    def until(self, check):
        asked = copy(self)
        asked.list = lambda **question: check() or self.list(**question)
        return asked

    def _list(self, page, per_page, use_cursor, cursor, from_, to) -> Page:
        odd = self.odd
        self.requests += 1
        if (
            odd.arrive_every
            and self.requests % odd.arrive_every == 0
            and self.requests // odd.arrive_every <= 60
        ):
            self.clock.now += timedelta(seconds=1)
            self.add(self.clock.now - timedelta(seconds=self.random.randint(0, odd.late_by)))
        if per_page > odd.cap and odd.over_cap == "refuse" and per_page != 50:
            raise Rejected("perPage is too large")
        too_deep = odd.deepest and (page or 1) > odd.deepest
        if too_deep and not odd.shallow:
            raise Rejected("page is too large")
        size = min(per_page, odd.cap)
        by_cursor = use_cursor and odd.cursors != "none"
        chosen = (
            self._ordered(None, None)
            if by_cursor and odd.cursors == "unfiltered"
            else self._ordered(from_, to)
        )
        chosen = chosen[: odd.most or None]
        if by_cursor:
            start = chosen.index(int(cursor.removeprefix("at:"))) if cursor else 0
            if odd.short and self.random.random() < odd.short:
                size = max(1, size // 2)
        else:
            start = 0 if odd.page_ignored else ((page or 1) - 1) * size
        shown = [] if too_deep else chosen[start : start + size]
        after = start + size
        if not by_cursor and shown and odd.drop and self.random.random() < odd.drop:
            shown = shown[:-1]
        return Page(
            raw=msgspec.Raw(msgspec.json.encode([self.customers[n] for n in shown])),
            meta=PageMeta.parse(self._meta(chosen, after, size, page, by_cursor, cursor)),
            params={},
        )

    def _ordered(self, from_, to) -> list[int]:
        """Page after page of one question is asked about the same customers."""
        population = (self.newest, len(self.when), sum(self.when), len(self.undated), copy(self.odd))
        if self._answered_of != population:
            self._answers, self._answered_of = {}, population
        if (from_, to) not in self._answers:
            self._answers[from_, to] = self._asked(from_, to)
        return self._answers[from_, to]

    def _asked(self, from_, to) -> list[int]:
        odd = self.odd
        slack = timedelta(seconds=odd.slack)
        from_, to = (None if at is None else at - timedelta(seconds=odd.shift) for at in (from_, to))
        if from_ is not None and odd.from_ == "day":
            from_ = from_.replace(hour=0, minute=0, second=0, microsecond=0)
        if to is not None and odd.to == "day":
            to = to.replace(hour=0, minute=0, second=0, microsecond=0)
        found = [
            n
            for n, at in self.when.items()
            if (
                from_ is None
                or odd.from_ == "ignored"
                or at > from_ - slack
                or (at == from_ - slack and odd.from_ in {"inclusive", "day"})
            )
            and (
                to is None
                or odd.to == "ignored"
                or at < to + slack
                or (at == to + slack and odd.to == "inclusive")
            )
        ]
        found += self.undated - set(found)
        if odd.order == "shuffled":
            return sorted(found, key=lambda n: (n * 2654435761) % 2**32)
        return sorted(found, key=lambda n: (self.when[n], n), reverse=odd.order == "newest")

    def _meta(self, chosen, after, size, page, by_cursor, cursor) -> dict:
        odd = self.odd
        more = after < len(chosen)
        nxt = f"at:{chosen[after]}" if more else odd.end
        cursors = {"next": nxt, "previous": None, "perPage": size}
        if not more and odd.end == "missing":
            cursors.pop("next")
        if not more and odd.end == "repeat":
            cursors["next"] = cursor
        pages = {
            "total": len(chosen) + odd.total_off,
            "skipped": 0,
            "perPage": size,
            "page": page or 1,
            "pageCount": -(-len(chosen) // size),
        }
        if odd.numbers_as_text:
            pages = {k: str(v) for k, v in pages.items()}
        kind = odd.meta
        if kind == "flips":
            kind = self.random.choice(["documented", "other", "both"])
        if kind == "documented":
            return cursors if by_cursor else pages
        if kind == "other":
            return pages if by_cursor else cursors
        return {"both": pages | cursors, "total_only": pages, "cursor_only": cursors}[kind]


class FakeHeld:
    """A warehouse in memory; refuses to be given a customer twice in one load."""

    def __init__(self) -> None:
        self.stored: dict[int, dict] = {}
        self.loading: dict[int, dict] = {}
        self.loads = 0
        self._sorted_at: tuple[int, int] | None = None

    def give(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            assert row["id"] not in self.loading, "one customer twice in one load"
            self.loading[row["id"]] = row

    def load(self) -> None:
        self.stored |= self.loading
        self.loading = {}
        self.loads += 1

    @property
    def present(self) -> dict[int, dict]:
        self._sort()
        return self._present

    def _sort(self) -> None:
        """Once a load, and when a test took rows away: thousands of questions are asked in between."""
        now = (self.loads, len(self.stored))
        if self._sorted_at != now:
            self._present = {n: row for n, row in self.stored.items() if row["_missing_since"] is None}
            self._dated = sorted((at, n) for n, row in self._present.items() if (at := row["created_at"]))
            self._sorted_at = now

    def _inside(self, window: Window) -> list[tuple[datetime, int]]:
        self._sort()
        first, end = (bisect_left(self._dated, (at, 0)) for at in (window.lo, window.hi))
        return self._dated[first:end]

    def total(self) -> int:
        return len(self.present)

    def count(self, windows) -> list[int]:
        return [len(self.ids(window)) for window in windows]

    def held_among(self, ids) -> set[int]:
        return set(ids) & self.present.keys()

    def ids(self, window: Window) -> set[int]:
        return set(self.present) if window.contains(ALWAYS) else {n for _, n in self._inside(window)}

    def rows(self, ids) -> pa.Table:
        from paystack_source.extract.arrow import SCHEMA

        return pa.Table.from_pylist([self.stored[n] for n in sorted(ids)], schema=SCHEMA)

    def cuts(self, window: Window, rows: int) -> list[datetime]:
        return [at for at, _ in self._inside(window)][rows - 1 :: rows]

    def most_at_once(self) -> int:
        return max(Counter(row["created_at"] for row in self.present.values()).values(), default=0)

    def replaced(self, _window) -> set[int]:
        return set()

    def oldest(self) -> datetime | None:
        self._sort()
        return self._dated[0][0] if self._dated else None

    def accounts(self) -> set:
        return {(row["domain"], row["integration"]) for row in self.stored.values()}


class Copy:
    """Runs against a `FakeApi`; what it keeps between runs is what dlt would keep."""

    def __init__(self, api: FakeApi, *, window_rows: int = 20, load_every: int | None = None) -> None:
        """Loads where the run asks for it, and after every so many events; 0: one load, whatever the run asks."""
        self.api = api
        self.held = FakeHeld()
        self.state: dict = {}
        self.window_rows = window_rows
        self.load_every = load_every
        self.entries: list[Entry] = []

    def run(
        self,
        *,
        refresh_budget: int = 0,
        bounds: Window | None = None,
        stop_after: int | None = None,
    ) -> Extraction:
        """One run; `stop_after` so many events it is killed, and what was not loaded is lost."""
        reader = Reader(self.api, now=self.api.clock, in_flight=4, window_rows=self.window_rows)
        reader.deepest = self.state.get("deepest_page", reader.deepest)
        extraction = Extraction(
            reader,
            self.held,
            Coverage.load(self.state.get("coverage", [])),
            bounds=bounds,
            refresh_budget=refresh_budget,
            filters_ignored_at=self.state.get("filters_ignored_at"),
            now=self.api.clock,
        )
        before = self.api.requests
        self.entries = []
        try:
            for number, event in enumerate(extraction.outputs()):
                if number == stop_after:
                    self.held.loading = {}
                    return extraction
                if isinstance(event, pa.Table):
                    self.held.give(event)
                    missing = event.filter(event.column("_missing_since").is_valid())
                    if missing.num_rows:
                        listed = set(missing.column("id").to_pylist()) & self.api.customers.keys()
                        assert not listed, "marked as missing though listed"
                elif isinstance(event, Entry):
                    self.entries.append(event)
                due = self.load_every and number % self.load_every == 0
                if due or (isinstance(event, Checkpoint) and self.load_every != 0):
                    self._load(extraction)
            self._load(extraction)
        finally:
            self.requests = self.api.requests - before
            reader.close()
        return extraction

    def _load(self, extraction: Extraction) -> None:
        self.held.load()
        extraction.after_load()
        self.state = {
            "coverage": extraction.coverage.dump(),
            "filters_ignored_at": extraction.filters_ignored_at,
            "deepest_page": extraction.reader.deepest,
        }

    @property
    def covered(self) -> int:
        """How many customers the proven windows have."""
        return sum(item.rows for item in Coverage.load(self.state["coverage"]))

    def assert_equal(self) -> None:
        """The warehouse holds what the API holds, field by field."""
        assert set(self.held.present) == set(self.api.customers)
        for n, row in self.held.present.items():
            there = self.api.customers[n]
            assert row["email"] == there["email"]
            assert row["risk_action"] == there["risk_action"]
            assert row["created_at"] == (self.api.when[n] if there["createdAt"] else None)
            assert msgspec.json.decode(row["metadata"]) == there["metadata"]
