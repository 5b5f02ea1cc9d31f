"""Applies a plan: writes each intent into the journal, sends the request, writes the outcome; reads back doubts.

One thread uses the journal and the plan, and makes all decisions: which row is next, how many requests are sent,
and when the run stops by itself (`Circuit`). It journals a few more rows than requests are being sent, so that
workers never wait for the disk and one fsync covers many rows. Workers only send and read (`Sender`). The workers, the
clock and the plan's rows are parameters, so a simulation runs the same loop on one thread and stops it at any step.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from paystack_source.api.arguments import count_of
from paystack_source.api.workers import ThreadWorkers
from paystack_source.bulk.operations import BulkOperation
from paystack_source.bulk.plan.plan import PlanRow
from paystack_source.bulk.run.journal import Journal
from paystack_source.bulk.run.send import Done, Job
from paystack_source.bulk.run.states import Action, EventKind, JournalEvent, RowState, next_action
from paystack_source.errors import ClosedError, ConfigError, PaystackError
from paystack_source.interrupts import require_uninterrupted
from paystack_source.settings import EQUAL_REJECTIONS

TRIES_PER_SESSION: Final = 3  # the most sends, and the most read-backs, of one row in a session
_AHEAD: Final = 8  # more rows are journaled than are being sent, so that no worker waits for the disk
INTERRUPTED: Final = "interrupted"
_CANARY: Final = "the canary allows"
_REFUSALS: Final = frozenset({EventKind.REJECTED, EventKind.LOCKED})
MAX_IN_FLIGHT: Final = 32
MIN_IN_FLIGHT: Final = 4
MAX_UNREPEATABLE: Final = 8  # at 300 ms more than twice the live quota
# CPU time of one request (client, journal, bookkeeping): more requests in flight than latency divided by this would
# only queue inside the process.
REQUEST_CPU_SECONDS: Final = 0.0015
_STOPS: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""From Ctrl-C, a scheduler, a closed terminal; from Ctrl-Break on Windows."""


@dataclass(frozen=True, slots=True)
class StopRules:
    """Limits that end a run early; 0 switches a rule off. Shares are between 0 and 1."""

    equal_rejections: int = EQUAL_REJECTIONS  # the same rejection this many times in a row
    unknown_window: int = 50  # of this many last answers ...
    unknown_share: float = 0.5  # ... a larger share is unknown
    unreachable: int = 10  # this many rows in a row could not be sent
    canary_rows: int = 0  # send this many first, and judge them before sending more
    canary_share: float = 0.0  # stop if a larger share of the canary is rejected or unknown


def stop_rules(canary: object, share: object, *, equal_rejections: int = EQUAL_REJECTIONS) -> StopRules:
    """The stop rules with a canary of this many rows. Raises `ConfigError` for invalid values."""
    rows = count_of("The rows of the canary", canary)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ConfigError(
            "The share of the canary that may fail must be a number from 0 to 1",
            advice="5 % is 0.05 in Python, and --canary-max 5 on the command line.",
        )
    if share and not rows:
        raise ConfigError(
            "A share of the canary is given, and no canary",
            advice="Give the number of rows that are sent first: canary=50, on the command line --canary 50.",
        )
    return StopRules(equal_rejections=equal_rejections, canary_rows=rows, canary_share=share)


@dataclass(slots=True)
class Circuit:
    """Decides when a run stops by itself. `see` gets the answers to sends in the order in which they arrive."""

    rules: StopRules
    _equal: int = 0  # the number of equal answers in a row
    _last: tuple[EventKind, str | None, str | None] | None = None
    _unsent: int = 0  # the number of rows in a row that could not be sent
    _recent: deque[bool] = field(init=False)  # whether each of the last answers is unknown
    _canary: list[bool] = field(default_factory=list)  # whether each row of the canary failed

    def __post_init__(self) -> None:
        self._recent = deque(maxlen=self.rules.unknown_window)

    def record(self, kind: EventKind, code: str | None, message: str | None) -> str | None:
        """Record one more answer; returns the reason to stop, or None."""
        rules, answer = self.rules, (kind, code, message)
        self._equal = self._equal + 1 if answer == self._last else 1
        self._last = answer
        self._unsent = self._unsent + 1 if kind is EventKind.NOT_SENT else 0
        if kind is not EventKind.ALREADY:
            self._recent.append(kind is EventKind.UNKNOWN)
        canary_left = self.canary_left if kind not in (EventKind.NOT_SENT, EventKind.ALREADY) else None
        if canary_left:
            self._canary.append(kind in _REFUSALS or kind is EventKind.UNKNOWN)
        unknown, window, failed = sum(self._recent), rules.unknown_window, sum(self._canary)
        if kind in _REFUSALS and 0 < rules.equal_rejections <= self._equal:
            return f"{self._equal} equal rejections in a row: {message or code}"
        if 0 < window == len(self._recent) and unknown > window * rules.unknown_share:
            return f"{unknown} of the last {window} answers did not arrive or could not be read"
        if 0 < rules.unreachable <= self._unsent:
            return f"{self._unsent} rows in a row could not be sent: {message or 'no connection'}"
        if canary_left == 1 and failed > rules.canary_rows * rules.canary_share:
            return (
                f"{failed} of the first {rules.canary_rows} rows failed ({_CANARY} {rules.canary_share:.0%})"
            )
        return None

    @property
    def canary_left(self) -> int | None:
        """The number of rows that may be sent before the canary is judged; None for no limit."""
        left = self.rules.canary_rows - len(self._canary)
        return left if left > 0 else None


def stopped_by_canary(reason: str | None) -> bool:
    """Whether the canary stopped the run. Then a person must look at the results before it is resumed."""
    return reason is not None and _CANARY in reason


def in_flight(latency: float | None, *, repeatable: bool = True) -> int:
    """The number of requests to send at once at this latency (in seconds; None if it is not known yet).

    It is smaller for rows that must not be sent twice, because rows that are being sent at a kill remain unknown.
    """
    most = MAX_IN_FLIGHT if repeatable else MAX_UNREPEATABLE
    if latency is None:
        return most // 2
    return max(MIN_IN_FLIGHT, min(most, math.ceil(latency / REQUEST_CPU_SECONDS)))


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """Why a session ended. `reason` is None if all rows are done; `error` is the error that stopped it."""

    reason: str | None = None
    error: Exception | None = None


@dataclass
class Runner:
    """One session of one run: the first, or a resume."""

    operation: BulkOperation
    rows: Iterable[PlanRow]
    """The plan's rows to send."""
    journal: Journal
    workers: ThreadWorkers[Job, Done]
    rules: StopRules | None = None
    now: Callable[[], float] = time.time
    on_done: Callable[[Done, RowState | None], None] = lambda _done, _state: None
    """Called with every answer, for the progress display."""
    interrupted: bool = False
    """Whether a person or a scheduler stopped it."""

    def __post_init__(self) -> None:
        self._circuit = Circuit(self.rules or StopRules())
        self._fresh = iter(self.rows)
        self._retry_rows: deque[PlanRow] = deque()  # rows in doubt or not sent, after all fresh rows
        self._tries: Counter[tuple[int, Action]] = Counter()
        self._latencies: deque[float] = deque(maxlen=16)
        self._ended: SessionEnd | None = None

    def stop(self, reason: str = INTERRUPTED) -> None:
        """Start no more requests; those that were sent end normally. Any thread and signal handlers may call it."""
        self.interrupted = self.interrupted or reason == INTERRUPTED
        if self._ended is None:
            self._ended = SessionEnd(reason)

    def check(self, action: Action) -> None:
        """Raise `ClosedError` if the run was stopped and this action must not begin. Any thread may call it."""
        if not self._may(action):
            raise ClosedError("The run was stopped")

    def run(self) -> SessionEnd:
        """Work until all rows are done or the run is stopped. Then all outcomes are in the journal."""
        self.journal.reopen(self.now())
        finished: list[Done] = []
        while True:
            for done in finished:
                self._judge(done)
            jobs = list(self._choose())
            self._record(finished, jobs)
            for job in jobs:
                self.workers.start(job, width=self._width)
            if self.workers.busy:
                finished = self.workers.wait()
            elif self._retry_rows:
                finished = []
            else:
                return self._ended or SessionEnd()

    @property
    def _width(self) -> int:
        latency = min(self._latencies, default=None)
        return in_flight(latency, repeatable=self.operation.repeatable)

    def _judge(self, done: Done) -> None:
        """Stop the run if no further row should be sent after this answer."""
        if done.halt is not None and (self._ended is None or self._ended.error is None):
            # Only the type of an unexpected exception: its text may have personal data.
            unexpected = f"unexpected: {type(done.halt).__name__}"
            message = done.halt.message if isinstance(done.halt, PaystackError) else unexpected
            self._ended = SessionEnd(message, done.halt)
        if done.job.action is Action.SEND and done.event is not None:
            self._latencies.append(done.seconds)
            reason = self._circuit.record(done.event.kind, done.event.code, done.event.message)
            if reason:
                self.stop(reason)

    def _choose(self) -> Iterator[Job]:
        """The jobs to start now: first fresh rows, then rows in doubt or not sent."""
        room = self._width + (_AHEAD if self.operation.repeatable else 0) - self.workers.busy
        canary_left = self._circuit.canary_left
        if canary_left is not None:
            room = min(room, canary_left - self.workers.busy)
        while room > 0 and (job := self._next_job()) is not None:
            room -= 1
            yield job

    def _next_job(self) -> Job | None:
        while (row := self._next_row()) is not None:
            state = self.journal.state(row.row)
            action = self._action(state)
            tries = (row.row, action)
            if action is Action.NOTHING or self._tries[tries] >= TRIES_PER_SESSION or not self._may(action):
                continue
            if state.sends:  # fresh rows are not counted: a million of them would need memory
                self._tries[tries] += 1
            return Job(row, action, doubtful=state.lost > 0, since=state.since)
        return None

    def _next_row(self) -> PlanRow | None:
        if self._ended is None:
            row = next(self._fresh, None)
            if row is not None:
                return row
        return self._retry_rows.popleft() if self._retry_rows else None

    def _action(self, state: RowState) -> Action:
        readable = self.operation.read_back is not None
        return next_action(state, repeatable=self.operation.repeatable, readable=readable)

    def _may(self, action: Action) -> bool:
        """After a stop no row is sent. Rows in doubt are read back, except after an interrupt or a refused key."""
        if self._ended is None:
            return True
        return action is Action.READ_BACK and not self.interrupted and self._ended.error is None

    def _record(self, finished: list[Done], jobs: list[Job]) -> None:
        """Journal outcomes of finished jobs and intents of new ones in one transaction; queue rows that need more."""
        now = self.now()
        events = [done.event for done in finished if done.event is not None]
        events += [
            JournalEvent(job.row.row, EventKind.INTENT, now) for job in jobs if job.action is Action.SEND
        ]
        customers = [(done.job.row.row, done.customer) for done in finished if done.customer is not None]
        states = self.journal.append(events, customers)
        for done in finished:
            state = states.get(done.job.row.row)
            if done.event is not None and state is not None and self._action(state) is not Action.NOTHING:
                self._retry_rows.append(done.job.row)
            self.on_done(done, state)


@contextlib.contextmanager
def stopping(runner: Runner) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM, SIGHUP) stops the runner after the sent requests; the second stops it at once."""

    def first(_number: int, _frame: object) -> None:
        if runner.interrupted:
            raise KeyboardInterrupt
        runner.stop(INTERRUPTED)

    known = [getattr(signal, name) for name in _STOPS if hasattr(signal, name)]
    signals = [
        number for number in known if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, first) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_cancellation() -> None:
    """Raise a Ctrl-C that was dropped, or that `asyncio.run` turned into a cancellation.

    Its task would notice the cancellation only when it awaits.
    """
    require_uninterrupted()
    with contextlib.suppress(RuntimeError):  # no loop runs in this thread
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise KeyboardInterrupt
