"""Threads that do jobs side by side. A run uses no others; simulations put a deterministic class in their place."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from paystack_source.api.clock import LOOK

if TYPE_CHECKING:
    from collections.abc import Callable

Job_contra = TypeVar("Job_contra", contravariant=True)
Job = TypeVar("Job")
Done = TypeVar("Done")


class Workers(Protocol[Job_contra, Done]):
    """Takes jobs, gives back what became of them, in any order."""

    @property
    def busy(self) -> int:
        """Jobs started and not yet handed back."""
        ...

    def start(self, job: Job_contra, *, width: int) -> None:
        """Queue a job; at most about `width` are performed at once."""
        ...

    def wait(self) -> list[Done]:
        """Everything that is done; waits for at least one. Only called while something is busy."""
        ...

    def close(self) -> None:
        """No more jobs."""
        ...


class ThreadWorkers(Generic[Job, Done]):
    """Daemon threads, started as they are needed: an aborted process does not wait for the network."""

    def __init__(self, perform: Callable[[Job], Done]) -> None:
        self._perform = perform
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    @property
    def busy(self) -> int:
        return self._busy

    def start(self, job: Job, *, width: int) -> None:
        self._busy += 1
        self._jobs.put(job)
        if len(self._threads) < min(width, self._busy):
            thread = threading.Thread(target=self._work, name=f"paystack-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait(self) -> list[Done]:
        found: list[Done | BaseException] = []
        while not found or not self._done.empty():
            with contextlib.suppress(queue.Empty):
                found.append(self._done.get(timeout=LOOK))
        self._busy -= len(found)
        for item in found:
            if isinstance(item, BaseException):  # `perform` turns errors into values, so this is a bug in it
                raise item
        return [item for item in found if not isinstance(item, BaseException)]

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._done.put(self._perform(job))
            except BaseException as error:  # noqa: BLE001  handed to the runner's thread
                self._done.put(error)
