"""Reads many customers from Paystack side by side, for planning; the client keeps to the quota."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from paystack_source.api import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from paystack_source.api.client import PaystackClient
    from paystack_source.api.workers import Fetched


def fetch_all(
    client: PaystackClient, keys: Sequence[str], *, on_progress: Callable[[int], None] | None = None
) -> Iterator[Fetched]:
    """Each key (customer code or email) with its customer, or None if Paystack has none; in any order."""
    with contextlib.closing(workers.fetch_all(client, keys)) as found:
        for number, one in enumerate(found, 1):
            if on_progress is not None:
                on_progress(number)
            yield one
