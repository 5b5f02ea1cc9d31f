"""What goes in and comes out: pages, replies, and the two enumerations (no I/O).

Bodies are decoded late. A page keeps the bytes of its ``data`` array, so that a reader can turn them into
Arrow without a Python object per customer; :attr:`Page.rows` decodes them for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast, final

import msgspec

from paystack_source.errors import ConfigError, Unavailable
from paystack_source.values import in_utc, time_text

if TYPE_CHECKING:
    from collections.abc import Mapping


class RiskAction(StrEnum):
    """What Paystack does with a customer's payments (spec; everybody starts with ``default``)."""

    ALLOW = "allow"
    DENY = "deny"
    DEFAULT = "default"


class IdentificationType(StrEnum):
    """How a customer is identified. The docs describe ``bank_account`` alone; the spec mentions ``bvn``."""

    BANK_ACCOUNT = "bank_account"
    BVN = "bvn"


@final
class Unset:
    """The type of :data:`UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""Marks a field that an update leaves alone; None and "" are sent as they are."""


class PageMeta(msgspec.Struct, frozen=True):
    """A list's ``meta`` with the oddities taken out: "null" and "" are None, numbers in text are numbers.

    In page mode ``total``, ``page`` and ``page_count`` are set, in cursor mode ``next`` and ``previous``; the
    docs and the spec disagree on which comes when, so each may be None in either mode.
    """

    total: int | None = None
    page: int | None = None
    page_count: int | None = None
    per_page: int | None = None
    next: str | None = None
    previous: str | None = None

    @classmethod
    def parse(cls, meta: object) -> PageMeta:
        """From the decoded ``meta`` in any of its forms; what cannot be read is None, never an error."""
        if not isinstance(meta, dict):
            return cls()
        return cls(
            total=_count(meta.get("total")),
            page=_count(meta.get("page")),
            page_count=_count(meta.get("pageCount", meta.get("page_count"))),
            per_page=_count(meta.get("perPage", meta.get("per_page"))),
            next=_cursor(meta.get("next")),
            previous=_cursor(meta.get("previous")),
        )


_LONGEST_NUMBER = 18  # digits; Python refuses to read some thousands of them


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _cursor(value: object) -> str | None:
    return value if isinstance(value, str) and value not in {"", "null"} else None


_ROWS = msgspec.json.Decoder(list[dict[str, Any]])


@dataclass(frozen=True, slots=True, repr=False)
class Page:
    """One page of customers.

    ``raw`` holds the bytes of the ``data`` array (it keeps the body alive); ``meta`` is normalised;
    ``params`` are the query parameters that were asked for. ``asked_at`` is a time before the request was sent: the
    page shows what Paystack held at that time or later. A copy notes it; the client itself does not.
    """

    raw: msgspec.Raw
    meta: PageMeta
    params: Mapping[str, str]
    asked_at: datetime | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The customers as dictionaries, decoded anew at each use; times stay text (ISO 8601, UTC).

        Raises :class:`Unavailable` if a row is not an object or has a number that nothing can hold.
        """
        try:
            return _ROWS.decode(self.raw)
        except msgspec.DecodeError:
            pass
        raise Unavailable("list: a row of this page cannot be read", operation="list")

    def __repr__(self) -> str:
        return f"Page({len(memoryview(self.raw))} bytes, {self.meta!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """Paystack's answer to one operation: HTTP status, message, and the record if there is one.

    202 (``validate``) means accepted, not done: the verdict comes later, by webhook and on the fetched
    customer. Which keys ``data`` has varies by operation and over time; only id, customer_code and email can
    be relied on.
    """

    status: int
    message: str
    data: dict[str, Any] | None

    def __repr__(self) -> str:
        held = "no data" if self.data is None else f"{len(self.data)} fields"
        return f"Reply({self.status}, {self.message!r}, {held})"


def bound(time: datetime | str, name: str, *, up: bool = False) -> str:
    """A ``from`` or ``to`` bound as the API takes it: ``YYYY-MM-DDTHH:MM:SS.mmmZ`` in UTC.

    Takes an aware datetime, an ISO text with a time zone, or a plain date (sent as it is; the docs name both
    forms). Microseconds are cut, or rounded up with ``up``, so that a window never gets narrower. Raises
    ConfigError.
    """
    if isinstance(time, str):
        try:
            parsed = datetime.fromisoformat(time)
        except ValueError:
            raise ConfigError(
                f"{name} is not a date: {time[:40]!r}", advice="Write 2026-01-31 or 2026-01-31T08:00:00Z."
            ) from None
        if len(time) == len("2026-01-31"):
            return time
        time = parsed
    if time.tzinfo is None:
        raise ConfigError(
            f"{name} has no time zone", advice="Add one: datetime(..., tzinfo=UTC), or a Z at the end."
        )
    if up:
        time = in_utc(time) + timedelta(microseconds=-time.microsecond % 1000)
    return time_text(time)


def starts_with(raw: msgspec.Raw, mark: bytes) -> bool:
    """Whether undecoded JSON begins with this character (``[`` or ``{``)."""
    return bytes(memoryview(raw)[:1]) == mark


def record(data: msgspec.Raw) -> dict[str, Any] | None:
    """An object of an answer, ``data`` or ``meta``, or None if there is none or it is not an object."""
    if not starts_with(data, b"{"):
        return None
    try:
        return cast("dict[str, Any]", msgspec.json.decode(data))
    except msgspec.DecodeError:
        return None  # a number that nothing can hold
