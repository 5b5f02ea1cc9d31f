"""Walks a list to its end, by cursor or by page number, and gives every row once (no I/O of its own)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paystack_source.api.models import Page


def every_row(first: Callable[[], Page]) -> Iterator[dict[str, Any]]:
    """The rows of all pages, the first time each ``id`` is seen (rows without an id: always).

    A cursor that comes again is an end, and so is a page without new rows where nothing counts the pages.
    """
    seen: set[object] = set()
    cursors: set[str] = set()
    page: Page | None = first()
    while page is not None:
        rows = [row for row in page.rows if row.get("id") is None or row["id"] not in seen]
        seen.update(row.get("id") for row in rows)
        yield from rows
        if "page" in page.params:
            if not rows and page.meta.pages is None:
                return
        elif page.meta.next is not None:
            if page.meta.next in cursors:
                return
            cursors.add(page.meta.next)
        page = page.next()
