"""Sends a request, with retries, and returns the envelope of the answer.

:mod:`.wire` does the I/O, :mod:`.answers` decides what an answer means, :mod:`.operations` which requests may be sent,
and :mod:`.quota` when they are sent.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from random import Random
from typing import Any, cast

from paystack_source.api.answers import Answer, Envelope, Fault, Retry, is_utf8, judge
from paystack_source.api.clock import Clock
from paystack_source.api.keys import SecretKey
from paystack_source.api.operations import Operation, Policy
from paystack_source.api.quota import WINDOW_SECONDS, Check, OnWait, Quota, read_headers, retry_after
from paystack_source.api.wire import Wire
from paystack_source.errors import ConfigError

log = logging.getLogger("paystack_source")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and for how long, a request is sent again.

    ``attempts`` is how often it is sent after faults, ``rate_limited_attempts`` how often after 429s; each of the
    latter may wait a whole 60 s window for the quota. ``timeout`` is the time in seconds that faults and the waits
    after them may take together. A wait is random, from 0 to ``wait_initial`` seconds at first; its upper bound doubles
    each time, up to ``wait_max``. If an answer has ``Retry-After``, the wait is at least that long. If that is longer
    than the rest of ``timeout``, the request fails.
    """

    attempts: int = 6
    rate_limited_attempts: int = 6
    timeout: float = 150.0
    wait_initial: float = 0.5
    wait_max: float = 20.0

    def pause(self, failures: int, random: Random) -> float:
        """Seconds to wait after that many failures."""
        return random.uniform(0.0, min(self.wait_max, self.wait_initial * 2.0 ** (failures - 1)))


@dataclass(slots=True)
class Stats:
    """Counts of a client since it was made, over all threads.

    ``waited_seconds`` is time in which requests were held back for the quota (counted once, however many
    threads wait) or after a fault.
    """

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    waited_seconds: float = 0.0


@dataclass(kw_only=True)
class Transport:
    """Sends requests from any number of threads."""

    wire: Wire
    key: SecretKey
    policy: Policy
    quotas: Mapping[str, Quota]
    clock: Clock
    random: Random
    retry: RetryPolicy
    on_wait: OnWait | None
    checks: tuple[Check, ...]
    """Called before a request is sent, and while it waits to be sent; each may raise."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stats: Stats = field(default_factory=Stats)

    @property
    def stats(self) -> Stats:
        """Counts so far."""
        waited = sum(quota.waited_seconds for quota in self.quotas.values())
        return replace(self._stats, waited_seconds=self._stats.waited_seconds + waited)

    def _check(self) -> None:
        for check in self.checks:
            check()

    def send(
        self, operation: Operation, target: str, body: bytes | None = None, values: tuple[str, ...] = ()
    ) -> tuple[Answer, Envelope]:
        """The answer and envelope of a success. ``target`` is path and query.

        ``values`` are texts that errors must not repeat. Raises a :class:`PaystackError`.
        """
        self.policy.check(operation)
        failures = refusals = 0
        trouble = 0.0
        while True:
            charged = self.quotas[operation.name].acquire(self._check)
            result, seconds = self._exchange(operation, target, body, charged)
            verdict, again = judge(operation, result, values)
            if isinstance(verdict, Envelope):
                answer = cast("Answer", result)  # only an answer is a success
                if operation.name == "list" and not is_utf8(answer.body):
                    log.warning("%s has a byte that is not UTF-8; it was read as \ufffd", target)
                return answer, verdict
            trouble += seconds
            asked = 0.0  # seconds, by `Retry-After`; after a 429 the quota waits
            if again is Retry.BACKOFF and isinstance(result, Answer):
                asked = retry_after(result.headers, self.clock.wall())
            if again is Retry.QUOTA:
                refusals += 1
                going_on = refusals < self.retry.rate_limited_attempts
            elif again is Retry.BACKOFF:
                failures += 1
                going_on = failures < self.retry.attempts and trouble + asked < self.retry.timeout
            else:
                going_on = False
            if not going_on:
                break
            with self._lock:
                self._stats.retries += 1
            if again is Retry.BACKOFF:
                pause = max(asked, self.retry.pause(failures, self.random))
                trouble += self._back_off(operation, pause, "backoff")
            elif refusals > 1:  # the last 429 named a wrong end: wait longer each time, up to a whole window
                halvings = min(3, self.retry.rate_limited_attempts - 1 - refusals)
                self._back_off(operation, WINDOW_SECONDS / 2**halvings, "rate_limited")
        raise verdict

    def _back_off(self, operation: Operation, seconds: float, reason: str) -> float:
        if self.on_wait is not None:
            self.on_wait(seconds, operation.name, reason)
        end = self.clock.now() + seconds
        while (left := end - self.clock.now()) > 0:
            self.clock.rest(left, threading.Event())
            self._check()
        with self._lock:
            self._stats.waited_seconds += seconds
        return seconds

    def _exchange(
        self, operation: Operation, target: str, body: bytes | None, charged: float
    ) -> tuple[Answer | Fault, float]:
        """Send once, and record the answer in the quota; returns the result and the seconds that it took."""
        quota = self.quotas[operation.name]
        with self._lock:
            self._stats.requests += 1
        began = self.clock.now()
        result: Answer | Fault = Fault("interrupted", sent=True)
        try:
            result = self.wire.exchange(operation.method, target, body, self.key, self._check)
        finally:
            if isinstance(result, Answer):
                refused = result.status == HTTPStatus.TOO_MANY_REQUESTS
                reading = read_headers(result.headers, self.clock.wall(), refused=refused)
                quota.settle(charged, reading, refused=refused)
                with self._lock:
                    self._stats.rate_limited += refused
            elif result.sent:
                quota.settle(charged)
            else:
                quota.release()
        seconds = self.clock.now() - began
        if log.isEnabledFor(logging.DEBUG):
            what = result.status if isinstance(result, Answer) else result.reason
            log.debug("%s: %s in %.0f ms", operation.name, what, seconds * 1000)
        return result, seconds


def encode(fields: dict[str, Any], operation: Operation) -> bytes:
    """A JSON body. Raises :class:`ConfigError`, without the values, if a value is not JSON.

    The standard library's encoder is strict where others are silent: they write NaN as null, and bytes as Base64.
    """
    parts = []
    for name, value in fields.items():
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            parts.append(f'"{name}":{text}'.encode())
        except (TypeError, ValueError, RecursionError):
            break
    else:
        return b"{%s}" % b",".join(parts)
    raise ConfigError(
        f"{operation.name}: {name} cannot be written as JSON",
        advice="JSON has texts, numbers, True, False, None, lists and dictionaries with texts as keys. It has no NaN, "
        "infinity, bytes, dates, decimals, sets, and no half of an emoji: give a text, or leave it out.",
        operation=operation.name,
    )
