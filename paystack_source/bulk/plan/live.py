"""Reads many customers from Paystack side by side, for planning; the client keeps to the quota."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from paystack_source.api.clock import LOOK
from paystack_source.errors import ClosedError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from paystack_source.api.client import PaystackClient

Found = tuple[str, dict[str, Any] | None]
_AHEAD: Final = 2  # requests kept ready per thread, so that none waits for work


def fetch_all(
    client: PaystackClient,
    keys: Sequence[str],
    *,
    threads: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Found]:
    """Each key (customer code or email) with its customer, or None if Paystack has none; in any order.

    Raises what the client raises, except `NotFound`.
    """
    stopped = False

    def check() -> None:
        if stopped:
            raise ClosedError("Reading was stopped")

    asking = client.until(check)

    def fetch(key: str) -> Found:
        try:
            return key, asking.fetch(key).data
        except NotFound:
            return key, None

    todo = iter(keys)
    done_count = 0
    with ThreadPoolExecutor(max_workers=max(1, min(threads, len(keys)))) as pool:
        try:
            running: set[Future[Found]] = {pool.submit(fetch, key) for key in islice(todo, threads * _AHEAD)}
            while running:
                done, running = wait(running, LOOK, FIRST_COMPLETED)
                running |= {pool.submit(fetch, key) for key in islice(todo, len(done))}
                for future in done:
                    done_count += 1
                    yield future.result()
                if on_progress is not None:
                    on_progress(done_count)
        finally:
            stopped = True  # whoever waits for the quota is not waited for
            pool.shutdown(wait=True, cancel_futures=True)
