"""A window while its pages come in, and what came of it (no I/O).

A reading knows which pages to ask for next, which ids it saw in which pass, and whether the API counts as many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from paystack_source.api.models import Page
    from paystack_source.extract.windows import Window

PAGE = 100
_ROUND = 32  # pages asked for at once where no total says how many there are


class NoTotalError(Exception):
    """The API does not say how many customers a question has, however often it is asked."""


class Query(NamedTuple):
    """One page of one question."""

    from_: datetime | None
    to: datetime | None
    page: int
    per_page: int | None = None
    """Customers to a page, where it is not as many as there may be."""


NEWEST = Query(None, None, 1)
"""The first page of the whole list."""


class Result(NamedTuple):
    """What reading one window came to."""

    window: Window
    asked: tuple[datetime | None, datetime | None]
    proven: bool
    total: int | None
    """What the API said the question has; `None` if it never says."""
    distinct: int
    """Distinct customers that the question gave."""
    ids: set[int]
    """Those that lie in the window."""
    left: set[int]
    """Those of the window that were shown at first, and no longer when it was proven."""
    requests: int
    how: str
    read_at: datetime
    """When the last page was there."""
    oldest: datetime | None = None
    """The oldest creation time in the window."""
    unreadable: int = 0

    @property
    def difference(self) -> int:
        """How many customers the API says there are beyond those it showed."""
        return 0 if self.total is None else self.total - self.distinct


class Reading:
    """A window while its pages come in."""

    def __init__(
        self, window: Window, asked: tuple[datetime | None, datetime | None], expected: int | None = None
    ) -> None:
        self.window = window
        self.asked = asked
        self.expected = expected
        self.requests = 0
        self.unreadable = 0
        self.seen: set[int] = set()  # distinct ids of all passes
        self.inside: set[int] = set()  # those of them that lie in the window
        self.oldest: datetime | None = None  # of those
        self.raw: list[tuple[int, Page]] = []  # in, not digested
        self.outstanding = 0
        self.passes: list[str] = []
        self.finished: list[tuple[int, bool]] = []  # each pass: its distinct ids; whether it was cut short
        self.longest = 0  # customers on the longest page of all passes
        self.repeats = False  # a page by number showed only customers of the pages before it
        self.more_said = False  # the last cursor led to an empty page, which names a next one all the same
        self.named: set[int] = set()  # the totals of all passes
        self.stray = False
        # A range: no total of the whole list will show what is missed here, and strays are not believed.
        self.by_itself = False
        self.doubted = False  # its total is not to be believed
        self.start_pass("pages")

    def start_pass(self, how: str) -> None:
        self.passes.append(how)
        # The first pass needs no set of its own: what it saw is all that was seen.
        self.walk = self.seen if len(self.passes) == 1 else set()
        self.totals: list[int] = []
        self.lengths: dict[int, int] = {}
        self.asked_up_to = 0
        self.cut_short = False  # by a page that was refused (past the end, or too deep), or a cursor
        self.fresh = 0  # ids that were new to this pass since pages were last asked for

    @property
    def total(self) -> int | None:
        """The newest total the API gave in this pass."""
        return self.totals[-1] if self.totals else None

    @property
    def knows_totals(self) -> bool:
        """Whether the API named a total in any pass."""
        return bool(self.named)

    @property
    def one_page(self) -> bool:
        """Whether a single page proves this, by the total that came with it."""
        return self.knows_totals and len(self.passes) == 1 and len(self.seen) <= self.longest

    @property
    def proven_by(self) -> set[int] | None:
        """The ids that are as many as the API says they are; it must have said the same all through the pass."""
        if self.total is None or len(set(self.totals)) > 1:
            return None
        return self._counted

    @property
    def _counted(self) -> set[int] | None:
        """As many ids as the newest total; those of all passes only if all had the same one: one may be gone since."""
        among = (self.walk, self.seen) if len(self.named) == 1 else (self.walk,)
        return next((ids for ids in among if len(ids) == self.total), None)

    def name(self, total: int) -> None:
        """The API names a total."""
        self.totals.append(total)
        self.named.add(total)

    def agreed_by(self) -> set[int] | None:
        """Without totals: all ids, if two passes saw every one of them, and one of them came to an end.

        Two passes that are one and the same page prove nothing: a server that does not hear the question gives it to
        every question. So does an end where a cursor says that there is more.
        """
        whole = [cut_short for size, cut_short in self.finished if size == len(self.seen)]
        if self.more_said or (self.repeats and len(self.seen) <= self.longest):
            return None
        return self.seen if len(whole) > 1 and not all(whole) else None

    def finish_pass(self) -> None:
        """All pages of this pass are in."""
        if self.passes[-1] == "pages" and not self.fresh and self.lengths.get(self.asked_up_to):
            self.repeats = self.cut_short = True  # customers, but nobody new: that is not where a list ends
        self.finished.append((len(self.walk), self.cut_short))

    def next_pages(self) -> range:
        """The pages to ask for now that all that were asked are in; none at the end."""
        start = self.asked_up_to + 1
        total = self.total
        if not self.lengths:
            planned = -(-self.expected // PAGE) if self.expected and len(self.passes) == 1 else 1
            return range(start, start + max(planned, 1))
        if total is not None:
            if len(self.walk) >= total or self._counted is not None:
                return range(0)
            last = -(-total // max(*self.lengths.values(), 1))
            if start <= last:
                return range(start, last + 1)
        if not self.fresh or not self.lengths[self.asked_up_to]:
            return range(0)
        return range(start, start + min(self.asked_up_to, _ROUND))
