"""Requests side by side: as many in flight as pays, results bounded, answers in the order they arrive.

The number in flight starts at one and doubles while that makes answers come faster, so a slow line gets many. A single
one needs no other thread: whoever wants the answer sends the request. The quota is not kept here: the client blocks
until a request fits.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Job = TypeVar("Job")
Answer = TypeVar("Answer")

CAP = 32
READY = 256
"""Answers that may wait to be taken; about 40 KB each."""

_WORTH = 1.5  # twice as many must bring at least this much more per second: threads cost work and memory
_WAITING = (
    0.1  # if no answer takes less (seconds), they are waited for, not worked for: all may wait together
)
_PATIENCE = 16  # epochs before another number is tried


class InFlight:
    """How many requests may run at once. Pure: told of every answer and the time, it moves `limit`."""

    def __init__(self, cap: int = CAP) -> None:
        self.cap = cap
        self.limit = 1
        self._settled = 1
        self._best = 0.0
        self._rest = 0
        self._fewer = False
        self._begin(None)

    def _begin(self, now: float | None) -> None:
        self._since = now
        self._answers = 0
        self._spent = 0.0
        self._quickest = math.inf  # a single answer may be slow because this machine was busy

    def idle(self) -> None:
        """Nothing was to be sent, or might be: what was measured so far says nothing about the number in flight."""
        self._begin(None)

    def answered(self, now: float, took: float) -> None:
        """An answer came, after `took` seconds, while more requests were waiting to be sent."""
        if self._since is None:
            self._begin(now - took)
        self._answers += 1
        self._spent += took
        self._quickest = min(self._quickest, took)
        # One at a time is done by whoever takes the answers, who has other work between them.
        elapsed = self._spent if self.limit == 1 else now - (self._since or 0.0)
        if self._answers < 2 * self.limit or elapsed < 0.05:  # noqa: PLR2004
            return
        rate, waited = self._answers / elapsed, self._quickest > _WAITING
        self._begin(None)
        if waited:
            self.limit = self._settled = self.cap
        else:
            self._compare(rate)

    def _compare(self, rate: float) -> None:
        """Keep a larger number that pays, or a smaller one that loses little; else rest, then try another."""
        if self._rest:
            self._rest -= 1
            if not self._rest:
                self._best = rate
                self._fewer = not self._fewer and self._settled > 1
                self.limit = self._next()
            return
        if (rate * _WORTH > self._best) if self._fewer else (rate > self._best * _WORTH):
            self._best, self._settled = rate, self.limit
            self.limit = self._next()
        else:
            self.limit = self._settled
        if self.limit == self._settled:
            self._rest = _PATIENCE

    def _next(self) -> int:
        return max(1, self._settled // 2) if self._fewer else min(self.cap, self._settled * 2)


class Fetcher(Generic[Job, Answer]):
    """A small pool of threads between a queue of jobs and a queue of answers.

    Threads are daemons: a program that is told to stop does not wait for a request that hangs.
    """

    def __init__(
        self,
        fetch: Callable[[Job], Answer],
        *,
        cap: int = CAP,
        ready: int = READY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._ready = ready
        self._in_flight = InFlight(cap=cap)
        self._jobs: deque[Job] = deque()
        self._answers: deque[tuple[Job, Answer | BaseException]] = deque()
        # Two conditions on one lock: an answer must wake whoever takes it, not every idle worker as well.
        lock = threading.RLock()
        self._state = threading.Condition(lock)  # an answer is there, or a worker has become free
        self._work_there = threading.Condition(lock)
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._closed = False

    @property
    def pending(self) -> int:
        """Jobs handed in whose answers were not taken yet."""
        with self._state:
            return len(self._jobs) + self._running + len(self._answers)

    def submit(self, *jobs: Job) -> None:
        with self._state:
            self._jobs.extend(jobs)
            self._employ()

    def _employ(self, spared: int = 0) -> None:
        """Wake as many workers as may run and have work; `spared` of them are awake. Holds the lock."""
        if self._in_flight.limit == 1:
            return  # whoever takes the answers sends the requests
        wanted = min(self._in_flight.limit, self._running + len(self._jobs), self._ready - len(self._answers))
        while len(self._threads) < wanted:
            name = f"paystack-fetch-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        free = wanted - self._running - spared
        if free > 0:
            self._work_there.notify(free)

    def take(self) -> tuple[Job, Answer]:
        """The next answer; waits for it.

        Raises:
            Exception: What the request ended with; later answers can still be taken.
            LookupError: Nothing was asked.

        """
        with self._state:
            while not self._answers:
                if not (self._jobs or self._running):
                    raise LookupError("nothing was asked")
                if self._in_flight.limit == 1 and not self._running:
                    self._running = 1
                    job = self._jobs.popleft()
                    break
                self._state.wait(0.5)  # a timeout lets Ctrl-C through on every platform
            else:
                job, answer = self._answers.popleft()
                self._employ()
                return job, _given(answer)
        self._do(job, spared=0)
        return self.take()

    def forget(self) -> None:
        """Drop what was not sent yet, and what was answered but not taken; wait for what is in flight."""
        with self._state:
            self._jobs.clear()
            while self._running:
                self._state.wait(0.5)
            self._answers.clear()

    def close(self) -> None:
        with self._state:
            self._closed = True
            self._jobs.clear()
            self._work_there.notify_all()

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            self._do(job, spared=1)

    def _do(self, job: Job, *, spared: int) -> None:
        """Send one request that counts as running, and put its answer to the others."""
        answer: Answer | BaseException
        began = self._clock()
        try:
            answer = self._fetch(job)
        except BaseException as error:  # noqa: BLE001  # handed to whoever takes the answer
            answer = error
        with self._state:
            self._running -= 1
            self._answers.append((job, answer))
            if self._jobs and self._room():
                now = self._clock()
                self._in_flight.answered(now, now - began)
            else:
                self._in_flight.idle()
            self._employ(spared)
            self._state.notify_all()

    def _room(self) -> bool:
        """Whether answers are taken as fast as they come; otherwise it is not the line that is slow."""
        return self._running + len(self._answers) < self._ready

    def _may_run(self) -> bool:
        return bool(self._jobs) and self._room() and self._running < self._in_flight.limit > 1

    def _next_job(self) -> Job | None:
        with self._state:
            while not self._closed and not self._may_run():
                self._work_there.wait()
            if self._closed:
                return None
            self._running += 1
            return self._jobs.popleft()


def _given(answer: Answer | BaseException) -> Answer:
    if isinstance(answer, BaseException):
        raise answer
    return answer
