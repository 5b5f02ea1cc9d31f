"""The quota of one endpoint as a budget that is known before sending (pure core), and a blocking wrapper.

Paystack counts requests per endpoint in fixed windows of 60 s (live 600, test 100), and does not say when a window
starts. A request that was sent at ``s`` and answered at ``r`` was counted between these two times. So it no longer
counts at ``r + 60``. Without headers this rule is used, and it never causes a 429.

With headers (``x-ratelimit-limit``, ``-remaining``, ``-reset``) the server's own window is known: it ends
between ``s + reset - 1`` and ``r + reset + 1``, since reset is in whole seconds of unknown rounding; each
answer narrows this. Once the latest possible end has passed, the whole limit is free at once. ``limit -
remaining`` is what all users of the key have used. After a 429 nothing is sent until the reset.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from paystack_source.api.clock import MAX_WAIT, Clock
from paystack_source.api.forks import RESET_AFTER_FORK
from paystack_source.values import whole_number

WINDOW_SECONDS = 60.0
_EPOCH_FROM = 1e9  # a reset above this is a moment, not a duration
_LONGEST_RESET = 600.0
_REPORT_AGAIN = 1.0
_ENOUGH = 64


@dataclass(frozen=True, slots=True)
class QuotaHeaders:
    """The quota headers of one answer.

    ``ends`` is the earliest and latest end of the window, in seconds from the request's sending and from its
    answer, respectively.
    """

    limit: int | None = None
    remaining: int | None = None
    ends: tuple[float, float] | None = None


NO_HEADERS = QuotaHeaders()


def read_headers(headers: Mapping[str, str], wall: float, *, refused: bool = False) -> QuotaHeaders:
    """Read the three headers. On a 429 (``refused``) ``Retry-After`` replaces a missing reset.

    ``wall`` is this machine's time in seconds since 1970. A reset may be seconds from now or a moment (the
    docs say only "time in seconds"); a moment is compared with the answer's own ``Date``, so that a wrong
    clock here has no effect.
    """
    limit = whole_number(headers.get("x-ratelimit-limit"))
    reset = headers.get("x-ratelimit-reset")
    if reset is None and refused:
        reset = headers.get("retry-after")
    if reset is None and limit is None:
        return NO_HEADERS
    return QuotaHeaders(
        limit or None, whole_number(headers.get("x-ratelimit-remaining")), _ends(reset, headers, wall)
    )


def retry_after(headers: Mapping[str, str], wall: float) -> float:
    """Seconds to wait by ``Retry-After``; 0 if the header is missing or cannot be read."""
    text = headers.get("retry-after")
    ends = _ends(text, headers, wall)
    return 0.0 if ends is None else float(text) if text and text.isdigit() else ends[1]


def _ends(text: str | None, headers: Mapping[str, str], wall: float) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        reset = float(text)
    except ValueError:
        moment = http_date(text)
        if moment is None:
            return None
        reset = moment
    if not math.isfinite(reset) or reset < 0:
        return None
    digits = len(text.partition(".")[2]) if "." in text else 0
    early = late = 10.0**-digits
    if reset > _EPOCH_FROM:
        reset /= 1000.0 if reset > _EPOCH_FROM * 100.0 else 1.0  # milliseconds
        served = http_date(headers.get("date"))
        # Date is cut to whole seconds: the server's clock then showed up to one second more.
        reset -= wall if served is None else served
        early += 1.0
    return max(0.0, min(reset - early, _LONGEST_RESET)), max(0.0, min(reset + late, _LONGEST_RESET))


def http_date(text: str | None) -> float | None:
    """A ``Date`` header in seconds since 1970; None if it is missing or cannot be read."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


@dataclass(slots=True)
class _Window:
    """The server's window: its earliest and latest end, our answers in it, and the requests of all users in it."""

    first: float
    last: float
    own: int
    used: int


class Budget:
    """How many more requests one endpoint allows. Pure: the time is a parameter (seconds, any fixed origin).

    ``limit`` is the assumed quota per window (None: no limit of our own, only 429s delay requests); the header's
    limit replaces it. ``cap`` is a maximum that headers never raise. ``share`` is the part of the usable quota
    (the limit, or the cap if that is lower) that this client takes.

    The use by others is unknown until an answer has headers. So the first request is sent alone; without headers,
    the number of requests at a time doubles with each answer (slow start). After a 429, requests beyond the count at
    which it came start slowly in the same way, so that another user of the key causes few 429s in a window and not
    one for each thread.
    """

    def __init__(
        self, limit: int | None, *, cap: int | None = None, share: float = 1.0, window: float = WINDOW_SECONDS
    ) -> None:
        self.limit = limit
        """The server's limit in requests per window: the assumed one, or that of the headers."""
        self.blocked = -math.inf
        """The time until which a 429 closed this endpoint."""
        self._cap = cap
        self._share = share
        self._length = window
        self._in_flight = 0
        self._window: _Window | None = None
        # Requests in no known window, as a heap: when each stops counting, and when it was answered.
        self._outside_window: list[tuple[float, float]] = []
        self._doubt: int | None = 0  # beyond this count in a window, at most `_trust` are sent at a time
        self._trust = 1

    def use(self, now: float) -> tuple[int, int] | None:
        """How many of our requests count now, and how many are allowed; None without a limit of our own."""
        self._expire(now)
        return None if self.limit is None else (self._answered() + self._in_flight, self._allowed(self.limit))

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent: 0 for now, infinity if it must wait for an answer."""
        self._expire(now)
        if now < self.blocked:
            return self.blocked - now
        if self.limit is None:
            return 0.0
        own = self._answered() + self._in_flight
        if self._doubt is not None and min(self._in_flight, own - self._doubt) >= self._trust:
            return math.inf
        window = self._window
        used = self._in_flight + len(self._outside_window) + (window.used if window else 0)
        if own < self._allowed(self.limit) and used < self.limit:
            return 0.0
        ends = ([window.last] if window else []) + [end for end, _ in self._outside_window[:1]]
        return min(ends) - now if ends else math.inf

    def charge(self) -> None:
        """A request is about to be sent."""
        self._in_flight += 1

    def release(self) -> None:
        """The charged request was certainly never sent."""
        self._in_flight -= 1

    def settle(
        self, sent: float, now: float, reading: QuotaHeaders = NO_HEADERS, *, refused: bool = False
    ) -> None:
        """The answer to a charged request arrived, or never will; ``refused`` for a 429."""
        self._in_flight -= 1
        if self.limit is not None:
            self.limit = reading.limit or self.limit
        self._expire(now)
        early, late = -math.inf, now + self._length
        if reading.ends is not None:
            early, late = sent + reading.ends[0], now + reading.ends[1]
        if refused:
            self._close(sent, now, late)
        elif reading.ends is None or reading.remaining is None:
            self._learn()
            self._keep_outside_window(now, late)
        else:
            self._doubt = None  # the headers count the requests of others too
            used = max(0, (self.limit or 0) - reading.remaining)
            self._keep_in_window(sent, now, _Window(early, late, 1, used))

    def _answered(self) -> int:
        """Our requests that still count, without those in flight."""
        return len(self._outside_window) + (self._window.own if self._window else 0)

    def _allowed(self, limit: int) -> int:
        usable = limit if self._cap is None else min(limit, self._cap)
        return max(1, math.floor(usable * self._share))

    def _expire(self, now: float) -> None:
        if self._window is not None and now >= self._window.last:
            self._window = None
        while self._outside_window and self._outside_window[0][0] <= now:
            heapq.heappop(self._outside_window)

    def _close(self, sent: float, now: float, late: float) -> None:
        """A 429: no request is sent until the window has ended. The refused request itself does not count."""
        answered = self._answered()
        self._doubt = max(self._doubt or 0, answered) if now < self.blocked else answered
        self._trust = 1
        if self._window is not None and sent < self._window.last:
            late = min(late, max(self._window.last, now))
        self.blocked = max(self.blocked, late)
        self._end_by(late, sent)

    def _learn(self) -> None:
        """An answer without headers: beyond `_doubt`, one more request may be sent at a time."""
        if self._doubt is not None and self._answered() >= self._doubt:
            self._trust += 1
            if self._trust >= _ENOUGH:
                self._doubt = None

    def _keep_outside_window(self, now: float, late: float) -> None:
        late = min(late, now + self._length)
        if self._window is not None and now <= self._window.first:
            late = min(late, self._window.last)  # it was counted in this window or an earlier one
        if late > now:
            heapq.heappush(self._outside_window, (late, now))

    def _keep_in_window(self, sent: float, now: float, seen: _Window) -> None:
        window = self._window
        if seen.last <= now or (window is not None and seen.last < window.first):
            return  # of a window that has ended
        if window is None or seen.first > window.last:
            self._window = seen
        elif max(seen.last - seen.first, window.last - window.first) < self._length / 2:
            # Both ends are known to less than half a window and overlap, so it is the same window.
            window.first, window.last = max(window.first, seen.first), min(window.last, seen.last)
            window.own += 1
            window.used = max(window.used, seen.used)
        else:
            self._keep_outside_window(now, seen.last)
            return
        if self._outside_window:
            self._end_by(seen.last, sent)

    def _end_by(self, end: float, sent: float) -> None:
        """Requests that were answered before ``sent`` stop counting at ``end``, the end of a later request's window."""
        self._outside_window = [
            (min(own, end) if at <= sent else own, at) for own, at in self._outside_window
        ]
        heapq.heapify(self._outside_window)


OnWait = Callable[[float, str, str], None]
WAITS = {"quota": "the quota", "rate_limited": "the quota, by a 429", "backoff": "no usable answer yet"}
"""The reasons of waits, as they are shown."""
Check = Callable[[], None]
"""Raises if the work was stopped."""


class Quota:
    """The budget of one endpoint, for any number of threads. The first in the queue sleeps, the others wait for it.

    ``on_wait(seconds, endpoint, reason)`` is called when the first thread starts to wait; the reason is
    "quota" (our own budget) or "rate_limited" (a 429).
    """

    def __init__(
        self, endpoint: str, make_budget: Callable[[], Budget], clock: Clock, on_wait: OnWait | None = None
    ) -> None:
        self._endpoint = endpoint
        self._make_budget = make_budget
        self._clock = clock
        self._on_wait = on_wait
        self.reset_after_fork()
        RESET_AFTER_FORK.add(self)
        self.waited_seconds = 0.0
        """Seconds in which the first thread in the queue waited."""

    def reset_after_fork(self) -> None:
        """Begin again without the threads in the queue and the charged requests, which are the parent's."""
        self.budget = self._make_budget()
        self.queue: deque[threading.Event] = deque()  # of the waiting threads, in their order of arrival
        self.lock = threading.Lock()

    def use(self) -> tuple[int, int] | None:
        """See `Budget.use`."""
        with self.lock:
            return self.budget.use(self._clock.now())

    def acquire(self, check: Check = lambda: None) -> float:
        """Block until a request may be sent, and count it; returns the time, for :meth:`settle`.

        Ctrl-C ends the wait, and so does whatever ``check`` raises.
        """
        turn, reported = threading.Event(), -math.inf
        try:
            with self.lock:
                self.queue.append(turn)
            while True:
                check()
                with self.lock:
                    turn.clear()
                    now = self._clock.now()
                    seconds = self.budget.wait(now) if self.queue[0] is turn else math.inf
                    if seconds <= 0:
                        self.budget.charge()
                        return now
                    reason = "rate_limited" if now < self.budget.blocked else "quota"
                if seconds == math.inf:
                    turn.wait(MAX_WAIT)
                    continue
                if self._on_wait is not None and abs(now + seconds - reported) > _REPORT_AGAIN:
                    reported = now + seconds
                    self._on_wait(seconds, self._endpoint, reason)
                self._clock.rest(seconds, turn)
                self.waited_seconds += self._clock.now() - now  # only the first thread comes here
        finally:
            with self.lock:
                if turn in self.queue:
                    self.queue.remove(turn)
                self._wake_first()

    def settle(self, sent: float, reading: QuotaHeaders = NO_HEADERS, *, refused: bool = False) -> None:
        """The answer to the request of this time arrived, or never will."""
        with self.lock:
            self.budget.settle(sent, self._clock.now(), reading, refused=refused)
            self._wake_first()

    def release(self) -> None:
        """A request was certainly never sent."""
        with self.lock:
            self.budget.release()
            self._wake_first()

    def _wake_first(self) -> None:
        if self.queue:
            self.queue[0].set()
