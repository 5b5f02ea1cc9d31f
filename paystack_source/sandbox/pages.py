"""`GET /customer`: windows, page numbers, cursors, and all oddities of lists.

Order, defaults and meta follow the documentation and recorded rows: newest first, 50 rows a page, pages from
1, `{total, skipped, perPage, page, pageCount}` in page mode and `{next, previous, perPage}` in cursor mode.
A cursor is base64 of `customer:<id>` and names the first row of the page it stands for.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from paystack_source.sandbox.answers import Answer, Refused, error, invalid
from paystack_source.sandbox.config import SandboxConfig
from paystack_source.sandbox.store import Store, dump

DEFAULT_PER_PAGE = 50
_MESSAGE = b'{"status":true,"message":"Customers retrieved","data":['
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
_WHOLE = re.compile(r"-?[0-9]{1,40}")


@dataclass(slots=True)
class ListQuery:
    """The checked parameters of a list request."""

    per_page: int
    page: int
    begin: int | None
    end: int | None
    cursor: bool
    next: str | None
    previous: str | None


class Lists:
    """Answers list requests from a store."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store = store
        self._random = random.Random(f"lists:{seed}")  # noqa: S311  # repeatable oddities, no secret

    def answer(self, query: Mapping[str, str], config: SandboxConfig, now: float) -> Answer:
        """One page. Raises `Refused` for parameters that Paystack would not take."""
        wanted = _read(query, config)
        rows, meta = self._by_cursor(wanted, config) if wanted.cursor else self._by_number(wanted, config)
        if config.read_lag:
            rows = [self._store.earlier(row, now - config.read_lag) for row in rows]
        if config.per_page_as_string:
            meta["perPage"] = str(meta["perPage"])
        if config.new_keys or config.type_drift:
            rows = [drifted(row, config) for row in rows]
        return Answer(200, b"".join((_MESSAGE, b",".join(rows), b'],"meta":', dump(meta), b"}")))

    def _by_number(self, wanted: ListQuery, config: SandboxConfig) -> tuple[list[bytes], dict[str, Any]]:
        if 0 < config.deepest_page < wanted.page:
            raise invalid(f'"page" must be less than or equal to {config.deepest_page}')
        low, high = self._store.span(wanted.begin, wanted.end)
        skipped = (wanted.page - 1) * wanted.per_page
        top = max(low, high - skipped)
        bottom = max(low, top - wanted.per_page)
        rows = self._store.rows(bottom, top)
        if rows and config.dropped_rows and self._random.random() < config.dropped_rows:
            rows.pop(self._random.randrange(len(rows)))
        if config.meta_of_other_mode or config.no_totals:
            return rows, self._cursor_meta(wanted, config, low, bottom, top, high)
        total = max(0, high - low + config.total_off)
        return rows, {
            "total": total,
            "skipped": skipped,
            "perPage": wanted.per_page,
            "page": wanted.page,
            "pageCount": math.ceil(total / wanted.per_page),
        }

    def _by_cursor(self, wanted: ListQuery, config: SandboxConfig) -> tuple[list[bytes], dict[str, Any]]:
        combine = config.cursor_with_filters == "combine"
        low, high = self._store.span(wanted.begin, wanted.end) if combine else self._store.span(None, None)
        top = high
        if wanted.next:
            top = min(high, max(low, self._rank(wanted.next, config) + 1))
        bottom = max(low, top - wanted.per_page)
        if wanted.previous and not wanted.next:
            bottom = min(high, max(low, self._rank(wanted.previous, config) + 1))
            top = min(high, bottom + wanted.per_page)
        if top - bottom > 1 and config.short_pages and self._random.random() < config.short_pages:
            bottom = self._random.randrange(bottom + 1, top)
        rows = self._store.rows(bottom, top)
        meta = self._cursor_meta(wanted, config, low, bottom, top, high)
        if config.meta_of_other_mode and not config.no_totals:
            total = max(0, high - low + config.total_off)
            meta = {
                "total": total,
                "skipped": high - top,
                "perPage": wanted.per_page,
                "page": (high - top) // wanted.per_page + 1,
                "pageCount": math.ceil(total / wanted.per_page),
            }
        return rows, meta

    def _cursor_meta(  # noqa: PLR0913, PLR0917  # four ranks say where a page lies
        self, wanted: ListQuery, config: SandboxConfig, low: int, bottom: int, top: int, high: int
    ) -> dict[str, Any]:
        nothing = "null" if config.null_cursor_text else "" if config.empty_cursor else None
        meta: dict[str, Any] = {
            "next": cursor(self._store.id_at(bottom - 1)) if bottom > low else nothing,
            "previous": cursor(self._store.id_at(top - 1)) if high > top > low else nothing,
            "perPage": wanted.per_page,
        }
        if bottom <= low:
            if config.repeated_cursor and top > low:
                meta["next"] = cursor(self._store.id_at(top - 1))
            elif config.no_next_key:
                del meta["next"]
        return meta

    def _rank(self, text: str, config: SandboxConfig) -> int:
        """The rank a cursor names. A bogus one was seen to give a 500 that says validation_error."""
        try:
            kind, _, number = base64.b64decode(text, validate=True).decode().partition(":")
            rank = self._store.rank_of(int(number)) if kind == "customer" and number.isascii() else None
        except (binascii.Error, ValueError, OverflowError):
            rank = None
        if rank is None:
            raise Refused(error(config.bogus_cursor, "Invalid cursor passed", code="invalid_params"))
        return rank


def cursor(number: int) -> str:
    """The cursor of the page that begins with this customer."""
    return base64.b64encode(f"customer:{number}".encode()).decode()


def drifted(row: bytes, config: SandboxConfig) -> bytes:
    """The row with unknown keys and unexpected types, the same each time it is read."""
    record = drift(json.loads(row), config)
    return dump(record)


def drift(record: dict[str, Any], config: SandboxConfig) -> dict[str, Any]:
    """Apply `new_keys` and `type_drift` to a record; which rows are hit depends on seed and id alone."""
    number = record["id"]
    rng = random.Random(f"drift:{config.seed}:{number}")  # noqa: S311  # repeatable oddities, no secret
    fresh, other = rng.random() < config.new_keys, rng.random() < config.type_drift
    if fresh:
        record |= {
            "international_format_phone": None,
            "loyalty": {"tier": rng.choice(["a", "b"]), "points": [1, 2]},
        }
        if rng.random() < 0.5:  # noqa: PLR2004  # half of them
            record["Created At"] = record["createdAt"]
    if other:
        kind = rng.randrange(4)
        if kind == 0:
            record["id"] = str(number)
        elif kind == 1:
            record["metadata"] = "{}" if not record["metadata"] else json.dumps(record["metadata"])
        elif kind == 2:  # noqa: PLR2004
            record["phone"] = rng.randrange(10**9)
        else:
            record["integration"] = str(record["integration"])
    return record


def _read(query: Mapping[str, str], config: SandboxConfig) -> ListQuery:
    per_page = _whole(query, "perPage", DEFAULT_PER_PAGE)
    if per_page > config.per_page_cap:
        if config.per_page_over_cap == "refuse":
            raise invalid(f'"perPage" must be less than or equal to {config.per_page_cap}')
        per_page = config.per_page_cap
    begin, end = _moment(query, "from"), _moment(query, "to")
    if begin is not None:
        begin -= config.window_slack
    if end is not None:
        end += config.window_slack
    first = None if begin is None or config.from_bound == "ignored" else math.ceil(begin)
    last = None
    if end is not None and config.to_bound != "ignored":
        last = math.floor(end) + 1 if config.to_bound == "inclusive" else math.ceil(end)
    following, preceding = query.get("next") or None, query.get("previous") or None
    return ListQuery(
        per_page=per_page,
        page=_whole(query, "page", 1),
        begin=first,
        end=last,
        cursor=query.get("use_cursor", "").lower() in {"true", "1"} or bool(following or preceding),
        next=following,
        previous=preceding,
    )


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not _WHOLE.fullmatch(text):
        raise invalid(f'"{name}" must be a number')
    return int(text) if int(text) > 0 else default


def _moment(query: Mapping[str, str], name: str) -> float | None:
    """Seconds since 1970. Dates mean midnight UTC; nothing says so, but every time of Paystack's is UTC."""
    text = query.get(name)
    if text is None:
        return None
    wrong = invalid(f"Invalid '{name}' date passed")
    if not _DATE.fullmatch(text):
        raise wrong
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise wrong from None
