"""Lets a generator work in a thread of its own, a bounded way ahead of whoever takes what it gives.

While a load is under way, the reader goes on: fetched pages become tables, and the next load finds them ready.
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
    """What `items` gives, made in another thread while no more than `most`, by `size`, wait to be taken.

    Errors come out where they would have, after all that was made before them. Whoever stops taking ends the work
    at its next item, and `stop` is called, to end what the next item would take; the thread is a daemon, so nobody
    waits for it.
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
