"""Sends one request and brings back the envelope: connections, host pin, budget, retries.

This module does the I/O; what an answer means is decided in :mod:`.outcomes`, what may be sent in
:mod:`.operations`, and when in :mod:`.quota`.
"""

from __future__ import annotations

import copy
import functools
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from paystack_source.api.answers import Again, Answer, Envelope, Fault, judge
from paystack_source.api.quota import NOTHING, Charge, Check, OnWait, Quota, read_headers
from paystack_source.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from paystack_source.api.clock import Clock
    from paystack_source.api.keys import SecretKey
    from paystack_source.api.operations import Operation, Policy
    from paystack_source.api.wire import Exchange, Wire

log = logging.getLogger("paystack_source")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a request is sent again. Waits are random between 0 and a doubling ceiling.

    ``attempts`` ends retries after faults, ``refusals`` after 429s (each may wait a whole 60 s window for the
    quota), and ``patience`` is the time in seconds that faults and their waits may take in all.
    """

    attempts: int = 6
    refusals: int = 6
    patience: float = 150.0
    first: float = 0.5
    ceiling: float = 20.0

    def pause(self, failures: int, random: Random) -> float:
        """Seconds to wait after that many failures."""
        return random.uniform(0.0, self.longest(failures))

    def longest(self, failures: int) -> float:
        """The longest that such a wait can be."""
        return min(self.ceiling, self.first * 2.0 ** (failures - 1))


@dataclass(slots=True)
class Counters:
    """What was sent, over all threads."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    backed_off: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One request: ``target`` is path and query, ``values`` the texts to keep out of errors."""

    operation: Operation
    target: str
    body: bytes | None = None
    values: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Request({self.operation.name})"


@dataclass(slots=True, eq=False)
class _Sending:
    """A request that has left, its place in the budget, and what came of it once that was read."""

    operation: Operation
    charge: Charge
    exchange: Exchange
    came: tuple[Answer | Fault, float] | None = None


class _Mine(threading.local):
    """What this thread has under way."""

    def __init__(self) -> None:
        self.under_way: list[_Sending] = []


class Transport:
    """Sends requests from any number of threads."""

    def __init__(  # noqa: PLR0913  # its collaborators, all given by the client
        self,
        wire: Wire,
        key: SecretKey,
        policy: Policy,
        quota: Quota,
        *,
        clock: Clock,
        random: Random,
        retry: RetryPolicy,
        on_wait: OnWait | None,
    ) -> None:
        self._wire = wire
        self._key = key
        self._policy = policy
        self._quota = quota
        self._clock = clock
        self._random = random
        self._retry = retry
        self._on_wait = on_wait
        self._lock = threading.Lock()
        self._mine = _Mine()
        self._checks: tuple[Check, ...] = (wire.check,)
        self.counters = Counters()

    def until(self, check: Check) -> Transport:
        """The same transport, which asks `check` as well before it sends, and while it waits to send."""
        other = copy.copy(self)
        other._checks = (*self._checks, check)  # noqa: SLF001  # of this class
        return other

    def _check(self) -> None:
        for check in self._checks:
            check()

    def send(self, request: Request) -> tuple[int, Envelope]:
        """The HTTP status and envelope of a success. Raises a :class:`PaystackError`."""
        return self.begin(request)()

    def begin(self, request: Request) -> Callable[[], tuple[int, Envelope]]:
        """Send it if the quota lets it go at once; what is returned sees it through, as `send` does.

        That is to be called once, soon, and from this thread.
        """
        self._policy.check(request.operation)
        self._check()
        charge = self._quota.acquire_now(request.operation.endpoint)
        sending = None if charge is None else self._begin_exchange(request, charge)
        return functools.partial(self._see_through, request, sending)

    def _see_through(self, request: Request, sending: _Sending | None) -> tuple[int, Envelope]:
        failures = refusals = 0
        trouble = 0.0
        while True:
            if sending is None:
                self._land()
                charge = self._quota.acquire(request.operation.endpoint, self._check)
                sending = self._begin_exchange(request, charge)
            result, seconds = self._end_exchange(sending)
            sending = None
            verdict = judge(request.operation, result, request.values)
            if verdict.envelope is not None and isinstance(result, Answer):
                return result.status, verdict.envelope
            trouble += seconds
            if verdict.again is Again.QUOTA:
                refusals += 1
                going_on = refusals < self._retry.refusals
            elif verdict.again is Again.BACKOFF:
                failures += 1
                going_on = failures < self._retry.attempts and trouble < self._retry.patience
            else:
                going_on = False
            if not going_on:
                break
            with self._lock:
                self.counters.retries += 1
            if verdict.again is Again.BACKOFF:
                trouble += self._back_off(
                    request.operation, self._retry.pause(failures, self._random), "backoff"
                )
            elif refusals > 1:  # what the last refusal said of the window's end was wrong
                self._back_off(request.operation, self._retry.longest(refusals), "rate_limited")
        assert verdict.error is not None  # noqa: S101  # a verdict has either an envelope or an error
        raise verdict.error

    def _back_off(self, operation: Operation, seconds: float, reason: str) -> float:
        self._land()
        if self._on_wait is not None:
            self._on_wait(seconds, operation.endpoint, reason)
        end = self._clock.now() + seconds
        while (left := end - self._clock.now()) > 0:
            self._clock.rest(left, threading.Event())
            self._check()
        with self._lock:
            self.counters.backed_off += seconds
        return seconds

    def _land(self) -> None:
        """Before this thread waits for anything but an answer: read all that it has under way.

        Answers free connections and tell the quota; a thread that waited for either and held them would wait for ever.
        """
        while self._mine.under_way:
            self._end_exchange(self._mine.under_way[0])

    def abandon(self) -> None:
        """Do without all that this thread has under way. What is asked for all the same is sent again."""
        while self._mine.under_way:
            sending = self._mine.under_way.pop()
            sending.exchange.drop()
            sending.came = (Fault("abandoned", sent=True), 0.0)
            self._quota.settle(sending.charge, NOTHING)

    def _begin_exchange(self, request: Request, charge: Charge) -> _Sending:
        """Send once, at the expense of this charge."""
        with self._lock:
            self.counters.requests += 1
        what = (request.operation.method, request.target, request.body, self._key)
        try:
            exchange = self._wire.begin(*what, check=self._check, at_once=True)
            if exchange is None:
                self._land()
                exchange = self._wire.begin(*what, check=self._check)
        except BaseException:
            self._quota.settle(charge, NOTHING)
            raise
        assert exchange is not None  # noqa: S101  # only with `at_once`
        sending = _Sending(request.operation, charge, exchange)
        self._mine.under_way.append(sending)
        return sending

    def _end_exchange(self, sending: _Sending) -> tuple[Answer | Fault, float]:
        """Wait for the answer; with the seconds that were spent waiting."""
        if sending.came is not None:
            return sending.came
        self._mine.under_way.remove(sending)
        charge, began = sending.charge, self._clock.now()
        result: Answer | Fault = Fault("interrupted", sent=True)
        try:
            result = sending.exchange.end()
        finally:
            refused = False
            if isinstance(result, Answer):
                refused = result.status == 429  # noqa: PLR2004
                reading = read_headers(result.headers, self._clock.wall())
                self._quota.settle(charge, reading, refused=refused)
            elif not result.sent:
                self._quota.release(charge)
            else:
                self._quota.settle(charge, NOTHING)
            if refused:
                with self._lock:
                    self.counters.rate_limited += 1
            sending.came = (result, self._clock.now() - began)
        if log.isEnabledFor(logging.DEBUG):
            what = result.status if isinstance(result, Answer) else result.reason
            log.debug("%s: %s in %.0f ms", sending.operation.name, what, sending.came[1] * 1000)
        return sending.came


def encode(fields: dict[str, Any], operation: Operation) -> bytes:
    """A JSON body. Raises :class:`ConfigError` without the values if something in it is not JSON."""
    try:
        return msgspec.json.encode(fields)
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass
    names = ", ".join(sorted(fields))
    raise ConfigError(f"{operation.name}: one of {names} cannot be written as JSON", operation=operation.name)
