"""Tests wait for events: for a condition that becomes true, or for requests that a sandbox holds back."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.sandbox import Sandbox

PATIENCE = 300
"""Seconds until a wait fails. Only a fault makes a test wait this long, so a busy machine is no failure."""


def until(happened: Callable[[], object]) -> None:
    """Return once `happened()` is true. Raises `AssertionError` if that takes longer than `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "what the test waits for does not happen"
        threading.Event().wait(0.01)  # what is asked may cost something


class Gate:
    """Holds each request of a sandbox while `shut()` is true, before and after its effect, until `open`.

    A process that is to be stopped in the middle of its work stands still there, however quick or slow the machine is.
    """

    def __init__(self, sandbox: Sandbox, shut: Callable[[], object]) -> None:
        self._sandbox, self._shut = sandbox, shut
        self._opened = False
        self._holding = False
        sandbox.configure(latency=1.0, sleep=self._hold)  # no time passes in `_hold` while the gate is open

    async def _hold(self, _seconds: float) -> None:
        while not self._opened and self._shut():
            self._holding = True
            await asyncio.sleep(0.01)

    def wait(self) -> None:
        """Return once a request is held."""
        until(lambda: self._holding)

    def open(self) -> None:
        """Let go what is held and all that follows; return once nothing is under way."""
        self._opened = True
        until(lambda: not self._sandbox.stats.in_flight)
