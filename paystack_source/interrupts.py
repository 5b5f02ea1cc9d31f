"""Sends a Ctrl-C again that Python has dropped."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOMENT: Final = 0.05


@contextlib.contextmanager
def redeliver_interrupts(number: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """In this context a `KeyboardInterrupt` that Python drops is raised again: the signal is sent again after a moment.

    Python drops one in a `__del__`, and in a callback of a weak reference, of the garbage collector or of an import.
    Only the main thread gets signals; in other threads this does nothing.
    """

    def send_again() -> None:
        time.sleep(_MOMENT)
        if sys.unraisablehook is unraisable:  # the work still goes on
            if hasattr(signal, "pthread_kill"):  # it also wakes a thread that waits
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            else:  # Windows
                _thread.interrupt_main(number)

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            _thread.start_new_thread(send_again, ())  # not `threading`: its locks may be held here
        else:
            hook(lost)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
