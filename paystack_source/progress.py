"""Shows the progress of a long job: in a live bar, in a notebook cell, or as plain lines in a log.

`line` makes one line of text from a snapshot (pure), and a view shows it, see `fitting_view`. Many threads may call
`advance`, `quota` and `note` at once.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, Self

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.table import Column

from paystack_source.api.quota import WAITS
from paystack_source.values import duration

_CLOSED = {errno.EPIPE, errno.EIO, errno.EINVAL}  # a pipe's reader, a terminal; the last is what Windows says
_FULL = {errno.ENOSPC, errno.EDQUOT}
LINE_EVERY_SECONDS = 5.0
NOTEBOOK_EVERY_SECONDS = 0.25


@dataclass(frozen=True)
class ProgressState:
    """A snapshot of a job. `elapsed` is in seconds; `quota` is (requests used, requests allowed) per window."""

    description: str
    unit: str
    done: int = 0
    total: int | None = None
    elapsed: float = 0.0
    quota: tuple[int, int] | None = None
    note: str = ""


def line(now: ProgressState) -> str:
    """`Reading customers: 3,200 of 5,000 customers (64 %) · 812/s · quota 320/600 · 3 s left · waiting …`."""
    if now.total is None:
        amount = f"{now.done:,} {now.unit}"
    else:
        share = f" ({now.done * 100 // now.total} %)" if now.total else ""
        amount = f"{now.done:,} of {now.total:,} {now.unit}{share}"
    parts = [amount]
    rate = now.done / now.elapsed if now.elapsed > 0 else 0.0
    if rate > 0:
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")  # noqa: PLR2004  readability
    if now.quota:
        parts.append(f"quota {now.quota[0]:,}/{now.quota[1]:,}")
    if rate > 0 and now.total is not None and now.done < now.total:
        parts.append(f"{duration((now.total - now.done) / rate)} left")
    if now.note:
        parts.append(now.note)
    return f"{now.description}: " + " · ".join(parts)


def last_line(now: ProgressState) -> str:
    """The line that remains on the screen at the end."""
    return f"{line(replace(now, quota=None))} · took {duration(now.elapsed)}"


class Progress:
    """A context manager that counts finished units and shows them in `view`, if there is one. Thread-safe.

    `clock` returns seconds.
    """

    def __init__(
        self,
        description: str,
        *,
        total: int | None = None,
        unit: str = "rows",
        view: View | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = ProgressState(description, unit, total=total)
        """The latest snapshot."""
        self._view = view
        self._clock = clock
        self._lock = threading.RLock()
        self._started = clock()
        self._note_ends = math.inf

    def __enter__(self) -> Self:
        self._started = self._clock()
        if self._view:
            self._view.start(self.now)
        return self

    def __exit__(self, failed: type[BaseException] | None, *_exc: object) -> None:
        with self._lock:
            self.now = replace(self.now, elapsed=self._clock() - self._started, note="")
            if self._view:
                # If it failed before anything was done, the error message alone is shown.
                self._view.stop(None if failed and not self.now.done else self.now)

    def advance(self, count: int = 1) -> None:
        """Count more units as done."""
        with self._lock:
            self._change(done=self.now.done + count)

    def update(self, *, done: int | None = None, total: int | None = None) -> None:
        """Set the number of finished units, the total, or both."""
        given = {"done": done, "total": total}
        self._change(**{name: value for name, value in given.items() if value is not None})

    def begin(self, description: str, *, total: int) -> None:
        """Begin the next step of the job, counted and timed from 0. The previous step stays on the screen."""
        with self._lock:
            self._change(True)
            self._started = self._clock()
            self._change(True, description=description, done=0, total=total, quota=None, note="")

    def quota(self, use: tuple[int, int] | None) -> None:
        """The requests used and allowed in the present window; None if there is no limit."""
        self._change(quota=use)

    def note(self, text: str = "", seconds: float = math.inf) -> None:
        """Show for so long why the job waits, e.g. `waiting 12 s for the quota window`; an empty text removes it."""
        with self._lock:
            begins = self._clock()
            is_new = bool(text) and (not self.now.note or begins >= self._note_ends)
            self._note_ends = begins + seconds
            self._change(is_new, note=text)

    def _change(self, urgent: bool = False, /, **changes: Any) -> None:  # noqa: ANN401  # fields of `ProgressState`
        with self._lock:
            if self._clock() >= self._note_ends:
                changes = {"note": ""} | changes
            self.now = replace(self.now, elapsed=self._clock() - self._started, **changes)
            if self._view:
                self._view.show(self.now, urgent=urgent)


class LatestProgress:
    """The progress that is shown now. It shows the waits of a client, whose `on_wait` it is."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def follow(self, progress: Progress) -> Progress:
        self._progress = progress
        return progress

    def __call__(self, seconds: float, _endpoint: str, reason: str) -> None:
        if self._progress is not None:
            text = f"waiting {seconds:,.0f} s: {WAITS[reason]}" if seconds >= 1 else ""
            self._progress.note(text, seconds)


class LineView:
    """Passes lines to `write`: at the start, every few seconds, when a wait begins, and at the end."""

    def __init__(self, write: Callable[[str], None], every: float = LINE_EVERY_SECONDS) -> None:
        self._write = write
        self._every = every
        self._shown_at = 0.0

    def start(self, now: ProgressState) -> None:
        self._write(f"{now.description} …")

    def show(self, now: ProgressState, *, urgent: bool) -> None:
        """Show a snapshot, at once if it is urgent. This may be called often."""
        if urgent or now.elapsed - self._shown_at >= self._every:
            self._shown_at = now.elapsed
            self._write(line(now))

    def stop(self, now: ProgressState | None) -> None:
        """Leave this snapshot on the screen, or nothing."""
        if now:
            self._write(last_line(now))


class NotebookView(LineView):
    """One line in the cell, updated in place; needs no widget package."""

    def __init__(self) -> None:
        super().__init__(self._update, NOTEBOOK_EVERY_SECONDS)
        self._cell: Any = None

    def stop(self, now: ProgressState | None) -> None:
        self._update(last_line(now) if now else "")

    def _update(self, text: str) -> None:
        from IPython.display import display  # noqa: PLC0415  only there in a notebook

        show: Callable[..., Any] = display
        if self._cell is None:
            self._cell = show({"text/plain": text}, raw=True, display_id=True)
        else:
            self._cell.update({"text/plain": text}, raw=True)


class LiveView:
    """A bar and the line, redrawn in place a few times a second; the last state stays on the screen."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        words = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        self._rows = rich.progress.Progress(
            BarColumn(bar_width=16),
            words,
            console=Console(file=stream, force_jupyter=False, markup=False, emoji=False, highlight=False),
            refresh_per_second=8,
            redirect_stdout=False,
        )

    def start(self, now: ProgressState) -> None:
        self._row = self._rows.add_task(line(now), total=now.total)
        self._rows.start()

    def show(self, now: ProgressState, *, urgent: bool) -> None:
        del urgent
        self._rows.update(self._row, description=line(now), completed=now.done, total=now.total)

    def stop(self, now: ProgressState | None) -> None:
        if now is None:
            self._rows.live.transient = True
        else:
            self._rows.update(self._row, description=last_line(now))
        with tolerate_closed_reader(self._stream, when_full=lambda _: None):
            self._rows.stop()


class WaitView:
    """Shows a job from its first wait on, in the view that fits this process. A job that never waits shows nothing."""

    def __init__(self) -> None:
        self._view: View | None = None

    def start(self, now: ProgressState) -> None:
        """Show nothing yet."""

    def show(self, now: ProgressState, *, urgent: bool) -> None:
        if self._view is None and now.note:
            self._view = fitting_view()
            self._view.start(now)
        if self._view is not None:
            self._view.show(now, urgent=urgent)

    def stop(self, now: ProgressState | None) -> None:
        if self._view is not None:
            self._view.stop(now)


View = LineView | LiveView | WaitView


def fitting_view() -> View:
    """The view for this process: a notebook cell, a live bar on a terminal, else lines on standard error."""
    if in_notebook():
        return NotebookView()
    return LiveView(sys.stderr) if sys.stderr.isatty() else LineView(to_stream(sys.stderr))


def to_stream(stream: IO[str]) -> Callable[[str], None]:
    """A function that writes lines to a stream and ignores a closed pipe and a full disk."""

    def write(text: str) -> None:
        with tolerate_closed_reader(stream, when_full=lambda _: None):
            stream.write(text + "\n")

    return write


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel (and not in a plain IPython shell)."""
    shell = sys.modules.get("IPython")
    get_ipython = getattr(shell, "get_ipython", None)
    current = get_ipython() if get_ipython else None
    return type(current).__name__ == "ZMQInteractiveShell"


@contextlib.contextmanager
def tolerate_closed_reader(
    stream: IO[str], when_full: Callable[[OSError], object] | None = None
) -> Iterator[None]:
    """Ignore a closed reader of `stream` (`… | head -1`, a closed terminal), because the job itself has not failed.

    If the disk of the stream is full, `when_full` is called; without `when_full` the error is raised.
    """
    try:
        yield
        stream.flush()
    except OSError as error:
        full = error.errno in _FULL
        if error.errno not in _CLOSED and not (full and when_full):
            raise
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if full and when_full:
            when_full(error)
