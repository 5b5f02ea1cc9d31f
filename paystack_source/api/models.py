"""The client's values: pages, replies, and the two enumerations (no I/O).

Bodies are decoded late. A page keeps the bytes of its ``data`` array, so that a reader can turn them into
Arrow without a Python object per customer; :attr:`Page.rows` decodes them for people.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, cast

import msgspec

from paystack_source.errors import ConfigError, Unavailable
from paystack_source.values import whole_number

_LOG: Final = logging.getLogger("paystack_source")


class RiskAction(StrEnum):
    """What Paystack does with a customer's payments (from the spec; every customer starts with ``default``)."""

    ALLOW = "allow"
    DENY = "deny"
    DEFAULT = "default"


class IdentificationType(StrEnum):
    """How a customer is identified. The docs describe only ``bank_account``; the spec also mentions ``bvn``."""

    BANK_ACCOUNT = "bank_account"
    BVN = "bvn"


class PageMeta(msgspec.Struct, frozen=True):
    """A list's ``meta``, normalised: "null" and "" become None, and numbers that are texts become numbers.

    In page mode ``total``, ``page`` and ``page_count`` are set, in cursor mode ``next`` and ``previous``; the
    docs and the spec disagree on this, so each may be None in either mode.
    """

    total: int | None = None
    page: int | None = None
    page_count: int | None = None
    per_page: int | None = None
    next: str | None = None
    previous: str | None = None

    @classmethod
    def parse(cls, meta: object) -> PageMeta:
        """From the decoded ``meta`` in any of its forms. Values that cannot be read become None."""
        if not isinstance(meta, dict):
            return cls()
        return cls(
            total=whole_number(meta.get("total")),
            page=whole_number(meta.get("page")),
            page_count=whole_number(meta.get("pageCount", meta.get("page_count"))),
            per_page=whole_number(meta.get("perPage", meta.get("per_page"))),
            next=_cursor(meta.get("next")),
            previous=_cursor(meta.get("previous")),
        )

    @property
    def pages(self) -> int | None:
        """How many pages there are; None if the answer does not say."""
        if self.page_count is None and self.total is not None and self.per_page:
            return math.ceil(self.total / self.per_page)
        return self.page_count


def _cursor(value: object) -> str | None:
    return value if isinstance(value, str) and value not in {"", "null"} else None


_ROWS = msgspec.json.Decoder(list[Any])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True, repr=False)
class Page:
    """One page of customers: `len(page)`, and `for row in page`.

    ``raw`` holds the bytes of the ``data`` array (it keeps the body alive); ``meta`` is normalised, and
    ``raw_meta`` is as Paystack sent it. ``params`` are the query parameters of the request, ``status`` and ``headers``
    those of the HTTP answer; names of headers are found in upper and lower case. ``asked_at`` is a time before the
    request was sent: the page has Paystack's data of that time or later. The copy sets it, not the client.
    """

    raw: msgspec.Raw
    meta: PageMeta
    params: Mapping[str, str]
    asked_at: datetime | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw_meta: dict[str, Any] | None = None
    get: Callable[[Mapping[str, str]], Page] | None = field(default=None, compare=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The customers as dictionaries, decoded again at each use; times are text (ISO 8601, UTC).

        A row that is not an object, such as null, is left out, and a warning is logged. Raises :class:`Unavailable`
        if no row can be read, or if a row has a number that Python cannot hold.
        """
        try:
            given = _ROWS.decode(self.raw)
            rows = [row for row in given if isinstance(row, dict)]
            if len(rows) < len(given):
                _LOG.warning(
                    "list: %d of %d rows of a page are not customers", len(given) - len(rows), len(given)
                )
            if rows or not given:
                return rows
        except msgspec.DecodeError:
            pass
        raise Unavailable("list: a row of this page cannot be read", operation="list")

    @property
    def has_more(self) -> bool:
        """Whether another page follows, by the meta of this one. That page may be empty."""
        return self._following() is not None

    def next(self) -> Page | None:
        """The next page, with the same filters; None after the last one.

        Raises what :meth:`PaystackClient.list` raises, and :class:`ConfigError` for a page from a pickle.
        """
        params = self._following()
        if params is None:
            return None
        if self.get is None:
            raise ConfigError("list: a page from a pickle has no client to ask", operation="list")
        return self.get(params)

    def _following(self) -> dict[str, str] | None:
        """The parameters of the next page.

        The docs and the spec disagree on whether a list's meta has a cursor or a page count, so either is accepted
        on any answer.
        """
        same = {name: self.params[name] for name in ("perPage", "from", "to") if name in self.params}
        page, cursor, meta = self.params.get("page"), self.params.get("next"), self.meta
        if page is None and meta.next is not None:
            return None if meta.next == cursor else same | {"use_cursor": "true", "next": meta.next}
        if page is None and meta.total is None and meta.page_count is None and meta.per_page is not None:
            return None
        # The answer counts pages, so a missing cursor is not the end. After pages by cursor, numbers begin at 1.
        number = 0 if cursor is not None else int(page or meta.page or 1)
        pages = meta.pages
        if number and (not len(self) or (pages is not None and number >= pages)):
            return None
        return same | {"page": str(number + 1)}

    def __len__(self) -> int:
        """The number of rows."""
        return len(_ITEMS.decode(self.raw))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, without the client."""
        return Page, tuple(getattr(self, each.name) for each in fields(self) if each.name != "get")

    def __repr__(self) -> str:
        return f"Page({len(memoryview(self.raw))} bytes, {self.meta!r})"


BARREN_PAGES = 10
"""After this many pages in a row without new rows, iteration ends although the answers announce more pages."""


def every_row(first: Callable[[], Page]) -> Iterator[dict[str, Any]]:
    """Read a list to its end, by cursor or by page number. Each ``id`` is yielded once, rows without an id always.

    It ends at a cursor that was used before, and at a page without new rows if the meta has no page count;
    else after `BARREN_PAGES` of them in a row.
    """
    seen: set[object] = set()
    cursors: set[str] = set()
    barren = 0
    page: Page | None = first()
    while page is not None:
        rows = [row for row in page.rows if row.get("id") is None or row["id"] not in seen]
        seen.update(row.get("id") for row in rows)
        yield from rows
        barren = 0 if rows else barren + 1
        if barren >= (1 if "page" in page.params and page.meta.pages is None else BARREN_PAGES):
            return
        if "page" not in page.params and page.meta.next is not None:
            if page.meta.next in cursors:
                return
            cursors.add(page.meta.next)
        page = page.next()


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """Paystack's answer to one operation: HTTP status, message, and the record if there is one.

    202 (``validate``) means accepted, not done: the verdict comes later, by webhook and on the fetched
    customer. Which keys ``data`` has varies by operation and over time; only id, customer_code and email can
    be relied on. ``meta`` is as Paystack sent it, ``headers`` are those of the HTTP answer.
    """

    status: int
    message: str
    data: dict[str, Any] | None
    meta: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = "no data" if self.data is None else f"{len(self.data)} fields"
        return f"Reply({self.status}, {self.message!r}, {size})"


def starts_with(raw: msgspec.Raw, mark: bytes) -> bool:
    """Whether undecoded JSON begins with this character (``[`` or ``{``)."""
    return bytes(memoryview(raw)[:1]) == mark


def json_object(data: msgspec.Raw) -> dict[str, Any] | None:
    """Decode ``data`` or ``meta`` of an answer; None if it is missing or is not a JSON object."""
    if not starts_with(data, b"{"):
        return None
    try:
        return cast("dict[str, Any]", msgspec.json.decode(data))
    except msgspec.DecodeError:
        return None  # a number that Python cannot hold
