"""Runs a generator in a thread of its own, a bounded number of bytes ahead of its consumer.

So the reader goes on while a load is under way, and the next load finds its tables ready.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from paystack_source.api.clock import MAX_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

Item = TypeVar("Item")


def read_ahead(  # noqa: C901  # both ends of one buffer
    items: Generator[Item], size: Callable[[Item], int], most: int, stop: Callable[[], None] = lambda: None
) -> Iterator[Item]:
    """The items of a generator that runs in another thread while the waiting items have less than `most` by `size`.

    An error of the generator is raised after the items before it. If the consumer closes this iterator, the generator
    ends at its next item, and `stop` is called to shorten that. The thread is a daemon, so the process does not wait
    for it.
    """
    made: deque[Item] = deque()
    moved = threading.Condition()
    held, ended, left = 0, False, False
    error: BaseException | None = None

    def work() -> None:
        nonlocal held, ended, error
        try:
            with contextlib.closing(items):  # in this thread, which has requests under way
                for item in items:
                    with moved:
                        while held >= most and not left:
                            moved.wait()
                        made.append(item)
                        held += size(item)
                        moved.notify()
                    if left:
                        break
        except BaseException as raised:  # noqa: BLE001  # handed to whoever takes
            error = raised
        with moved:
            ended = True
            moved.notify()

    threading.Thread(target=work, name="paystack-reader", daemon=True).start()
    try:
        while True:
            with moved:
                while not made and not ended:
                    moved.wait(MAX_WAIT)
                if not made:
                    break
                item = made.popleft()
                held -= size(item)
                moved.notify()
            yield item
        if error is not None:
            raise error
    finally:
        with moved:
            left = True
            moved.notify()
        if not ended:
            stop()
