"""Ends the work after a Ctrl-C or a SIGTERM, even if Python or a library drops the `KeyboardInterrupt`.

Also ends what DuckDB keeps of a statement that a Ctrl-C interrupted.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:  # slow to import
    from duckdb import DuckDBPyConnection

_MOMENT: Final = 0.05


class _Interrupt:
    raised = False
    """Whether a `KeyboardInterrupt` was raised that has not ended the work yet."""


def require_uninterrupted() -> None:
    """Raise `KeyboardInterrupt` again if one was raised and dropped."""
    if _Interrupt.raised:
        raise KeyboardInterrupt


def forget_interrupt() -> None:
    """Called by whoever catches a `KeyboardInterrupt` and goes on."""
    _Interrupt.raised = False


def raise_interrupted(result: object) -> NoReturn:
    """Raise the Ctrl-C that ended a run, with the run's result: a loop over files, or the next cell, must not go on."""
    stop = KeyboardInterrupt(
        f"{result}. It can be resumed: by the attribute `result` of this exception, or `bulk resume`."
    )
    stop.result = result  # type: ignore[attr-defined]
    raise stop


def _interrupt(_number: int, _frame: object) -> None:
    _Interrupt.raised = True
    raise KeyboardInterrupt


def end_statement(connection: DuckDBPyConnection) -> None:
    """End a statement that a Ctrl-C may have interrupted. Call this before a connection to a DuckDB file is closed.

    Otherwise DuckDB 1.5 goes on with the statement's tasks, and they keep the database: closing it, or the next
    connection of the process to the same file, waits for their end, which may never come, and holds Python's lock.
    """
    with contextlib.suppress(Exception):  # it is closed already
        connection.interrupt()


@contextlib.contextmanager
def closed_at_end(connection: DuckDBPyConnection) -> Iterator[DuckDBPyConnection]:
    """Close a connection to a DuckDB file at the end, also after a Ctrl-C."""
    try:
        yield connection
    finally:
        end_statement(connection)
        connection.close()


@contextlib.contextmanager
def redeliver_interrupts(*numbers: signal.Signals) -> Iterator[None]:
    """In this context Ctrl-C and these signals raise a `KeyboardInterrupt`, and raise it again if it is dropped.

    Python drops one in a `__del__`, and in a callback of a weak reference, of the garbage collector or of an import:
    then the signal is sent again after a moment. In DuckDB it becomes a `RuntimeError`, which dlt and our own cleanup
    may ignore: then it is raised at the end of this context.

    Only the main thread gets signals; in other threads this does nothing. An ignored signal stays so: `nohup` asks
    for it.
    """

    def send_again() -> None:
        time.sleep(_MOMENT)
        if _Interrupt.raised:  # the work still goes on
            number = next(iter(numbers), signal.SIGINT)
            if hasattr(signal, "pthread_kill"):  # it also wakes a thread that waits
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            else:  # Windows
                _thread.interrupt_main(number)

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            _Interrupt.raised = True
            _thread.start_new_thread(send_again, ())  # not `threading`: its locks may be held here
        else:
            hook(lost)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        wanted.append(signal.SIGINT)
    before = {number: signal.signal(number, _interrupt) for number in wanted}
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        yield
        require_uninterrupted()
    except Exception:
        require_uninterrupted()
        raise
    finally:
        forget_interrupt()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
