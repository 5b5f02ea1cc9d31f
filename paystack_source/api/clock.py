"""Time as a parameter: here the real clock, in tests a simulated one."""

from __future__ import annotations

import time
from threading import Event

MAX_WAIT = 0.5
"""The longest single wait in seconds. A longer wait is made of several, because Python runs the handler of a signal
only when the main thread runs, and a signal that another thread received does not wake the main thread."""


class Clock:
    """The system's clocks. Subclass it to run the client under simulated time."""

    def now(self) -> float:
        """Seconds of a monotonic clock. Only differences between two times have a meaning."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970 in UTC, by the clock of this machine."""
        return time.time()

    def rest(self, seconds: float, wake: Event) -> None:
        """Sleep for this long, or until ``wake`` is set, or for :data:`MAX_WAIT`; call it again to wait longer."""
        wake.wait(min(seconds, MAX_WAIT))
