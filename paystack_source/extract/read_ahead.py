"""Runs a generator in a thread of its own, a bounded number of bytes ahead of its consumer.

So reading goes on while dlt loads, and the tables of the next load are ready at its start.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from paystack_source.api.clock import MAX_WAIT

Item = TypeVar("Item")


def read_ahead(  # noqa: C901  # both ends of one buffer
    items: Generator[Item], size: Callable[[Item], int], limit: int, stop: Callable[[], None] = lambda: None
) -> Iterator[Item]:
    """The items of a generator that runs in another thread while the sum of `size` of buffered items is below `limit`.

    An error of the generator is raised after the items before it. If the consumer closes this iterator, the generator
    ends at its next item; `stop` is called so that this takes less time. The process does not wait for the thread.
    """
    buffer: deque[Item] = deque()
    changed = threading.Condition()
    buffered, ended, abandoned = 0, False, False
    error: BaseException | None = None

    def work() -> None:
        nonlocal buffered, ended, error
        try:
            with contextlib.closing(items):  # in this thread, because it sends the requests
                for item in items:
                    with changed:
                        while buffered >= limit and not abandoned:
                            changed.wait()
                        buffer.append(item)
                        buffered += size(item)
                        changed.notify()
                    if abandoned:
                        break
        except BaseException as raised:  # noqa: BLE001  # raised for the consumer
            error = raised
        with changed:
            ended = True
            changed.notify()

    threading.Thread(target=work, name="paystack-reader", daemon=True).start()
    try:
        while True:
            with changed:
                while not buffer and not ended:
                    changed.wait(MAX_WAIT)
                if not buffer:
                    break
                item = buffer.popleft()
                buffered -= size(item)
                changed.notify()
            yield item
        if error is not None:
            raise error
    finally:
        with changed:
            abandoned = True
            changed.notify()
        if not ended:
            stop()
