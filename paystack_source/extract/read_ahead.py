"""Lets a generator work in a thread of its own, a bounded way ahead of whoever takes what it gives.

While a load is under way, the reader goes on: fetched pages become tables, and the next load finds them ready.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from paystack_source.api.clock import MAX_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

Item = TypeVar("Item")


class _Buffer(Generic[Item]):
    """Items that one thread has made and the other has not taken yet, and how the making ended."""

    def __init__(self, size: Callable[[Item], int], most: int) -> None:
        self._size = size
        self._most = most
        self._items: deque[Item] = deque()
        self._held = 0
        self._moved = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._left = False

    def fill(self, items: Generator[Item]) -> None:
        """Work: make items until there are no more, or nobody takes them any longer."""
        error = None
        try:
            with contextlib.closing(items):  # in this thread, which has requests under way
                for item in items:
                    if not self._put(item):
                        break
        except BaseException as raised:  # noqa: BLE001  # handed to whoever takes
            error = raised
        with self._moved:
            self._ended, self._error = True, error
            self._moved.notify()

    def _put(self, item: Item) -> bool:
        with self._moved:
            while self._held >= self._most and not self._left:
                self._moved.wait()
            self._items.append(item)
            self._held += self._size(item)
            self._moved.notify()
            return not self._left

    def take(self) -> Iterator[Item]:
        """The items in order; then what the making ended with, if that was an error."""
        while True:
            with self._moved:
                while not self._items and not self._ended:
                    self._moved.wait(MAX_WAIT)
                if not self._items:
                    break
                item = self._items.popleft()
                self._held -= self._size(item)
                self._moved.notify()
            yield item
        if self._error is not None:
            raise self._error

    def leave(self) -> bool:
        """Nothing more will be taken. Whether there is still work under way."""
        with self._moved:
            self._left = True
            self._moved.notify()
            return not self._ended


def read_ahead(
    items: Generator[Item], size: Callable[[Item], int], most: int, stop: Callable[[], None] = lambda: None
) -> Iterator[Item]:
    """What `items` gives, made in another thread while no more than `most`, by `size`, wait to be taken.

    Errors come out where they would have, after all that was made before them. Whoever stops taking ends the work
    at its next item, and `stop` is called, to end what the next item would take; the thread is a daemon, so nobody
    waits for it.
    """
    buffer: _Buffer[Item] = _Buffer(size, most)
    threading.Thread(target=buffer.fill, args=(items,), name="paystack-reader", daemon=True).start()
    try:
        yield from buffer.take()
    finally:
        if buffer.leave():
            stop()
