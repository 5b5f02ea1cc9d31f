"""Requests side by side: as many in flight as pays, results bounded, answers in the order they arrive.

A server that is near is asked by whoever wants the answers, a few requests ahead and without another thread: there is
nothing to wait for. A line on which answers are waited for gets threads, twice as many while that makes answers come
faster. The quota is not kept here: the client blocks until a request fits.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from paystack_source.api.clock import LOOK
from paystack_source.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

Job = TypeVar("Job")
Answer = TypeVar("Answer")

CAP = 48
READY = 256
"""Answers that may wait to be taken; about 40 KB each."""

READY_BYTES = 20_000_000
"""Or so many bytes of them, where they are large."""

ALONE = 1
"""The limit at which no threads are used."""

AHEAD = 4
"""Requests that are under way without threads."""

_FIRST = 2 * AHEAD  # the least number of threads that could be quicker than none
_WORTH = 1.5  # twice as many must bring at least this much more per second: threads cost work and memory
_WAITING = 0.1  # an answer that takes longer (seconds) is waited for, not worked for: all may wait together
_NEAR = 300.0  # answers per second without threads; where there are more, threads are in each other's way
_PATIENCE = 16  # epochs before another number is tried


class InFlight:
    """How many threads may ask at once. Pure: told of every answer and the time, it moves `limit`."""

    def __init__(self, cap: int = CAP) -> None:
        self.cap = cap
        self.limit = ALONE
        self._settled = ALONE
        self._best = 0.0
        self._rest = 0
        self._fewer = False
        self._slow = 0
        self._slow_at = -math.inf
        self._begin(None)

    def _begin(self, now: float | None) -> None:
        self._since = now
        self._answers = 0
        self._spent = 0.0

    def idle(self, now: float, took: float) -> None:
        """An answer came, but nothing else was to be sent, or might be: that says nothing of how many pay."""
        self._begin(None)
        self._note(now, took)

    def answered(self, now: float, took: float) -> None:
        """An answer came, and somebody was at it for `took` seconds, while more requests were waiting to be sent."""
        self._note(now, took)
        if self._since is None:
            self._begin(now)
            if self.limit > ALONE:
                return  # from here on they come as often as they do side by side
        self._answers += 1
        self._spent += took
        # Without threads there is other work between two answers.
        elapsed = self._spent if self.limit == ALONE else now - (self._since or 0.0)
        if self._answers < 2 * self.limit or elapsed < 0.05:  # noqa: PLR2004
            return
        rate = self._answers / elapsed
        self._begin(None)
        self._compare(rate)

    def _note(self, now: float, took: float) -> None:
        """Twice in a row a slow answer, not just all that one stall of this machine held up: the line is slow."""
        if took <= _WAITING:
            self._slow = 0
        elif now - took >= self._slow_at:
            self._slow, self._slow_at = self._slow + 1, now
        if self._slow > 1:
            self.limit = self._settled = self.cap

    def _compare(self, rate: float) -> None:
        """Keep a larger number that pays, or a smaller one that loses little; else rest, then try another."""
        if self._rest:
            self._rest -= 1
            if not self._rest:
                self._best = rate
                self._fewer = not self._fewer and self._settled > ALONE
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
        if self._fewer:
            return self._settled // 2 if self._settled > _FIRST else ALONE
        if self._settled == ALONE and self._best > _NEAR:
            return ALONE
        return min(self.cap, max(_FIRST, self._settled * 2))


class _Answers(deque[tuple[Any, Any]]):
    """Answers that wait to be taken, and their size."""

    size = 0


class _Begun(NamedTuple):
    """A request under way without a thread."""

    job: Any
    finish: Callable[[], Any]
    took: float
    answers: _Answers  # where its answer goes


class Fetcher(Generic[Job, Answer]):
    """A queue of jobs, a queue of answers, and as many threads between them as pay.

    `begin(job)` asks and returns what waits for the answer; both in one thread. `abandon()` does without all answers
    that the thread began and did not wait for. `size(answer)` is its bytes.

    Threads are daemons: a program that is told to stop does not wait for a request that hangs.
    """

    def __init__(  # noqa: PLR0913  # how it asks, and its bounds
        self,
        begin: Callable[[Job], Callable[[], Answer]],
        *,
        abandon: Callable[[], None] = lambda: None,
        size: Callable[[Answer], int] = lambda _: 0,
        cap: int = CAP,
        ready: int = READY,
        ready_bytes: int = READY_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begin = begin
        self._abandon = abandon
        self._clock = clock
        self._size = size
        self._usual = 0  # the size of the newest answer; those under way may be as large
        self._ready = ready
        self._ready_bytes = ready_bytes
        self._in_flight = InFlight(cap=cap)
        self._jobs: deque[Job] = deque()
        self._answers = _Answers()
        # Two conditions on one lock: an answer must wake whoever takes it, not every idle worker as well.
        lock = threading.RLock()
        self._state = threading.Condition(lock)  # an answer is there, or a worker has become free
        self._work_there = threading.Condition(lock)
        self._threads: list[threading.Thread] = []
        self._under_way: deque[_Begun] = deque()  # by whoever takes; they count as running
        self._running = 0
        self._closed = False

    @property
    def pending(self) -> int:
        """Jobs handed in whose answers were not taken yet."""
        with self._state:
            return len(self._jobs) + self._running + len(self._answers)

    def check(self) -> None:
        """Raise a `ClosedError` once this is closed."""
        if self._closed:
            raise ClosedError("Reading was stopped")

    def submit(self, *jobs: Job) -> None:
        with self._state:
            self.check()
            self._jobs.extend(jobs)
            self._employ()

    def _employ(self, spared: int = 0) -> None:
        """Wake as many workers as may run and have work; `spared` of them are awake. Holds the lock."""
        if self._in_flight.limit == ALONE:
            return  # whoever takes the answers sends the requests
        wanted = min(self._in_flight.limit, self._running + len(self._jobs), self._places())
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
            ClosedError: It was closed, maybe while this waited for an answer.

        """
        while True:
            with self._state:
                self.check()
                if self._answers:
                    job, answer = self._answers.popleft()
                    self._answers.size -= self._bytes(answer)
                    self._employ()
                    return job, _given(answer)
                jobs = self._jobs_alone()
                if not (jobs or self._under_way):
                    if not (self._jobs or self._running):
                        raise LookupError("nothing was asked")
                    self._state.wait(LOOK)
                    continue
            self._under_way.extend(self._begun(job, self._answers) for job in jobs)
            self._finish(self._under_way.popleft(), spared=0)

    def note(self, took: float) -> None:
        """A request that was sent past this took so many seconds."""
        with self._state:
            self._in_flight.idle(self._clock(), took)

    def _jobs_alone(self) -> list[Job]:
        """What whoever takes may begin itself. Holds the lock."""
        if self._in_flight.limit > ALONE or self._running > len(self._under_way):
            return []
        count = min(AHEAD - len(self._under_way), len(self._jobs))
        self._running += count
        return [self._jobs.popleft() for _ in range(count)]

    def forget(self) -> None:
        """Drop what was not sent yet, and every answer that was not taken, whether it came or not.

        To be called by the thread that takes: it alone can let go what it began.
        """
        with self._state:
            self._jobs.clear()
            self._answers = _Answers()  # what still comes goes where nobody takes it
            self._running -= len(self._under_way)
        self._under_way.clear()
        self._abandon()

    def close(self) -> None:
        """Ask nothing more, from any thread. What is under way ends by itself, and nobody gets it."""
        with self._state:
            self._closed = True
            self._jobs.clear()
            self._work_there.notify_all()

    def _work(self) -> None:
        while (found := self._next_job()) is not None:
            self._finish(self._begun(*found), spared=1)

    def _begun(self, job: Job, answers: _Answers) -> _Begun:
        began = self._clock()
        finish: Callable[[], Answer]
        try:
            finish = self._begin(job)
        except BaseException as error:  # noqa: BLE001  # handed to whoever takes the answer
            finish = functools.partial(_given, error)
        return _Begun(job, finish, self._clock() - began, answers)

    def _finish(self, begun: _Begun, *, spared: int) -> None:
        """Wait for the answer of a request that counts as running, and put it to the others."""
        answer: Answer | BaseException
        waited = self._clock()
        try:
            answer = begun.finish()
        except BaseException as error:  # noqa: BLE001  # handed to whoever takes the answer
            answer = error
        with self._state:
            self._running -= 1
            begun.answers.append((begun.job, answer))
            self._usual = self._bytes(answer)
            begun.answers.size += self._usual
            now = self._clock()
            took = begun.took + now - waited
            if self._jobs and self._room():
                self._in_flight.answered(now, took)
            else:
                self._in_flight.idle(now, took)
            self._employ(spared)
            self._state.notify_all()

    def _room(self) -> bool:
        """Whether answers are taken as fast as they come; otherwise it is not the line that is slow."""
        return self._running < self._places()

    def _places(self) -> int:
        """How many may run, so that there is room for what they bring."""
        places = self._ready - len(self._answers)
        if self._usual:
            places = min(places, math.ceil((self._ready_bytes - self._answers.size) / self._usual))
        return places

    def _bytes(self, answer: Answer | BaseException) -> int:
        return 0 if isinstance(answer, BaseException) else self._size(answer)

    def _may_run(self) -> bool:
        return bool(self._jobs) and self._room() and self._running < self._in_flight.limit > ALONE

    def _next_job(self) -> tuple[Job, _Answers] | None:
        with self._state:
            while not self._closed and not self._may_run():
                self._work_there.wait()
            if self._closed:
                return None
            self._running += 1
            return self._jobs.popleft(), self._answers


def _given(answer: Answer | BaseException) -> Answer:
    if isinstance(answer, BaseException):
        raise answer
    return answer
