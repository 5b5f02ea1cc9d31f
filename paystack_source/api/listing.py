"""Walks a list to its end, by cursor or by page number, and gives every row once (no I/O of its own).

The docs and the spec disagree on whether a list's meta has a cursor or a page count, and samples show ends
marked by null, "null", "" and nothing at all. So either meta is accepted on any answer, and a repeated cursor
is an end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paystack_source.api.models import Page, PageMeta


class GetPage(Protocol):
    """Fetches a page by number, or by cursor."""

    def __call__(self, *, page: int | None = ..., use_cursor: bool = ..., next: str | None = ...) -> Page: ...  # noqa: A002


def every_row(get: GetPage) -> Iterator[dict[str, Any]]:
    """The rows of all pages, the first time each ``id`` is seen (rows without an id: always)."""
    seen: set[object] = set()

    def fresh(page: Page) -> list[dict[str, Any]]:
        rows = [row for row in page.rows if row.get("id") is None or row["id"] not in seen]
        seen.update(row.get("id") for row in rows)
        return rows

    page = get(use_cursor=True)
    yield from fresh(page)
    cursors: set[str] = set()
    while page.meta.next is not None and page.meta.next not in cursors:
        cursors.add(page.meta.next)
        page = get(use_cursor=True, next=page.meta.next)
        yield from fresh(page)
    if page.meta.next is not None or not _of_numbered_pages(page.meta):
        return
    # The answer counts pages, so its lack of a cursor does not mean the end.
    number = 0 if cursors else page.meta.page or 1
    while number == 0 or not _is_last(number, page.meta):
        number += 1
        page = get(page=number)
        rows = fresh(page)
        yield from rows
        if not rows and (_pages(page.meta) is None or not page.rows):
            return


def _of_numbered_pages(meta: PageMeta) -> bool:
    return meta.total is not None or meta.page_count is not None or meta.per_page is None


def _pages(meta: PageMeta) -> int | None:
    if meta.page_count is None and meta.total is not None and meta.per_page:
        return math.ceil(meta.total / meta.per_page)
    return meta.page_count


def _is_last(number: int, meta: PageMeta) -> bool:
    pages = _pages(meta)
    return pages is not None and number >= pages
