"""Threads that perform tasks in parallel: the only pool of the package.

A task is usually a request, and the client keeps the quota. Simulations use a deterministic pool instead.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any, Generic, TypeVar

from paystack_source.api.client import PaystackClient
from paystack_source.api.clock import MAX_WAIT
from paystack_source.errors import ClosedError, NotFound, PaystackError

Task = TypeVar("Task")
Result = TypeVar("Result")

FetchedCustomer = tuple[str, Any]
"""A customer's code or email, and the answer: an object, `None`, or a tolerated error."""

FETCH_WIDTH = 32
"""The most customers that are fetched at the same time."""


class ThreadWorkers(Generic[Task, Result]):
    """Daemon threads, started when they are needed. A program that ends does not wait for them.

    `start` and `wait` are for one thread, `close` and `check` for any.
    """

    def __init__(
        self, perform: Callable[[Task], Result], while_waiting: Callable[[], None] | None = None
    ) -> None:
        """`while_waiting` is called by `wait` twice a second, while no task is done."""
        self._perform = perform
        self._while_waiting = while_waiting or (lambda: None)
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._closed = False
        self.busy = 0
        """Tasks that were started and whose results were not returned yet."""

    def start(self, task: Task, *, width: int) -> None:
        """Queue a task. About `width` tasks at most are performed at once."""
        self.busy += 1
        self._tasks.put(task)
        if len(self._threads) < min(width, self.busy):
            thread = threading.Thread(
                target=self._work, name=f"paystack-worker-{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def wait(self) -> list[Result]:
        """All results that are ready; waits for at least one. Call it only while `busy` is not 0.

        Raises:
            Exception: The error of a task, once the results before it were returned.
            ClosedError: The pool was closed, perhaps while this waited.

        """
        found: list[Result] = []
        while self._error is None and not (found and self._done.empty()):
            self.check()
            try:
                item = self._done.get(timeout=MAX_WAIT)
            except queue.Empty:
                self._while_waiting()
                continue
            self.busy -= 1
            if isinstance(item, BaseException):
                self._error = item
            else:
                found.append(item)
        if self._error is not None and not found:
            error, self._error = self._error, None
            raise error
        return found

    def check(self) -> None:
        """Raise a `ClosedError` once the pool is closed."""
        if self._closed:
            raise ClosedError("The work was stopped")

    def close(self) -> None:
        """Begin no more tasks. Tasks that have begun end by themselves, and their results are dropped."""
        self._closed = True
        for _ in self._threads:
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._closed:
            try:
                self._done.put(self._perform(task))
            except BaseException as error:  # noqa: BLE001  # raised by `wait`
                self._done.put(error)


def fetch_all(
    client: PaystackClient,
    keys: Iterable[str],
    width: int = FETCH_WIDTH,
    tolerate: tuple[type[PaystackError], ...] = (),
) -> Generator[FetchedCustomer]:
    """Fetch customers by code or email in parallel; yields them in the order of the answers.

    The answer is `None` for a customer that Paystack does not know, and the error itself if its class is in `tolerate`.
    Raises any other error of the client. Closing the generator ends all requests that wait to be sent.
    """

    def fetch(key: str) -> FetchedCustomer:
        try:
            return key, asking.fetch(key).data
        except NotFound:
            return key, None
        except tolerate as error:
            return key, error

    workers = ThreadWorkers(fetch)
    asking = client.until(workers.check)
    todo = iter(keys)
    try:
        while True:
            for key in islice(todo, 2 * width - workers.busy):  # so that no thread waits for work
                workers.start(key, width=width)
            if not workers.busy:
                return
            yield from workers.wait()
    finally:
        workers.close()
