"""Time as a parameter: the real clock here, a simulated one in the tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event


MAX_WAIT = 0.5
"""The longest single wait in seconds. Whoever has to wait longer waits again: Python runs the handler of a signal only
when the main thread moves, and a signal that was handed to another thread does not wake it."""


class Clock:
    """The system's clocks. Subclass it to run the client under simulated time."""

    def now(self) -> float:
        """Seconds on a clock that never jumps; only differences mean anything."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970 in UTC, as this machine believes."""
        return time.time()

    def rest(self, seconds: float, wake: Event) -> None:
        """Sleep for this long, or until ``wake`` is set, or for :data:`MAX_WAIT`; call it again to wait longer."""
        wake.wait(min(seconds, MAX_WAIT))
