"""Applies a plan: intent into the journal, request, outcome into the journal; reads back the rows in doubt.

One thread uses the journal and the plan, and makes all decisions: which row is next, how many requests are under way,
and when the run stops by itself (`Circuit`). It journals a few more rows than there are requests under way, so that
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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from paystack_source.api.checks import count_of
from paystack_source.bulk.run.send import Job
from paystack_source.bulk.run.states import Action, EventKind, JournalEvent, RowState, next_action
from paystack_source.errors import ClosedError, ConfigError, PaystackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from paystack_source.api.workers import ThreadWorkers
    from paystack_source.bulk.operations import BulkOperation
    from paystack_source.bulk.plan.plan import PlanRow
    from paystack_source.bulk.run.journal import Journal
    from paystack_source.bulk.run.send import Done

TRIES_PER_SESSION: Final = 3  # the most sends, and the most read-backs, of one row in a session
_AHEAD: Final = 8  # rows that are journaled beyond those under way, so that no worker waits for the disk
INTERRUPTED: Final = "interrupted"
_CANARY: Final = "the canary allows"
_REFUSALS: Final = frozenset({EventKind.REJECTED, EventKind.LOCKED})
MAX_IN_FLIGHT: Final = 32
MIN_IN_FLIGHT: Final = 4
MAX_UNREPEATABLE: Final = 8  # at 300 ms more than twice what the live quota lets through
# CPU time of one request (client, journal, bookkeeping): more requests in flight than latency divided by this would
# only queue inside the process.
REQUEST_CPU_SECONDS: Final = 0.0015
_STOPS: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Ctrl-C, a scheduler, a terminal that was closed; Ctrl-Break of Windows."""


@dataclass(frozen=True, slots=True)
class StopRules:
    """Limits that end a run early; 0 switches a rule off. Shares are between 0 and 1."""

    equal_rejections: int = 20  # the same rejection this many times in a row
    unknown_window: int = 50  # of the last so many answers ...
    unknown_share: float = 0.5  # ... more than this share unknown
    unreachable: int = 10  # so many rows in a row that could not even be sent
    canary_rows: int = 0  # send this many first, and look before going on
    canary_share: float = 0.0  # more than this share of the canary rejected or unknown: stop


def stop_rules(canary: object, share: object, *, equal_rejections: int = 20) -> StopRules:
    """The stop rules with a canary of so many rows and share. Raises `ConfigError` for invalid values."""
    rows = count_of("The rows of the canary", canary)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ConfigError(
            "The share of the canary that may fail must be a number from 0 to 1",
            advice="5 % is 0.05 in Python, and --canary-max 5 on the command line.",
        )
    if share and not rows:
        raise ConfigError(
            "A share of the canary is given, and no canary",
            advice="Say how many rows are sent first: canary=50, on the command line --canary 50.",
        )
    return StopRules(equal_rejections=equal_rejections, canary_rows=rows, canary_share=share)


@dataclass(slots=True)
class Circuit:
    """Decides when a run stops by itself. `see` gets the answers to sends in the order in which they arrive."""

    rules: StopRules
    _equal: int = 0  # so many answers in a row were like the last one
    _last: tuple[EventKind, str | None, str | None] | None = None
    _unsent: int = 0  # so many rows in a row could not be sent
    _recent: deque[bool] = field(init=False)  # whether each of the last answers is unknown
    _canary: list[bool] = field(default_factory=list)  # whether each row of the canary failed

    def __post_init__(self) -> None:
        self._recent = deque(maxlen=self.rules.unknown_window)

    def see(self, kind: EventKind, code: str | None, message: str | None) -> str | None:
        """Take in one more answer; returns the reason to stop, or None."""
        rules, answer = self.rules, (kind, code, message)
        self._equal = self._equal + 1 if answer == self._last else 1
        self._last = answer
        self._unsent = self._unsent + 1 if kind is EventKind.NOT_SENT else 0
        if kind is not EventKind.ALREADY:
            self._recent.append(kind is EventKind.UNKNOWN)
        held = self.holding if kind not in (EventKind.NOT_SENT, EventKind.ALREADY) else None
        if held:
            self._canary.append(kind in _REFUSALS or kind is EventKind.UNKNOWN)
        unknown, window, failed = sum(self._recent), rules.unknown_window, sum(self._canary)
        if kind in _REFUSALS and 0 < rules.equal_rejections <= self._equal:
            return f"{self._equal} equal rejections in a row: {message or code}"
        if 0 < window == len(self._recent) and unknown > window * rules.unknown_share:
            return f"{unknown} of the last {window} answers did not arrive or could not be read"
        if 0 < rules.unreachable <= self._unsent:
            return f"{self._unsent} rows in a row could not be sent: {message or 'no connection'}"
        if held == 1 and failed > rules.canary_rows * rules.canary_share:
            return (
                f"{failed} of the first {rules.canary_rows} rows failed ({_CANARY} {rules.canary_share:.0%})"
            )
        return None

    @property
    def holding(self) -> int | None:
        """How many more rows may be sent before the canary has been judged; None: no limit."""
        left = self.rules.canary_rows - len(self._canary)
        return left if left > 0 else None


def stopped_by_canary(reason: str | None) -> bool:
    """Whether the canary stopped the run, so that a person must look before it is resumed."""
    return reason is not None and _CANARY in reason


def in_flight(latency: float | None, *, repeatable: bool = True) -> int:
    """How many requests to keep under way at this latency (seconds; None: not known yet).

    There are fewer for rows that must not be sent twice, because rows under way at a kill stay unknown.
    """
    most = MAX_IN_FLIGHT if repeatable else MAX_UNREPEATABLE
    if latency is None:
        return most // 2
    return max(MIN_IN_FLIGHT, min(most, math.ceil(latency / REQUEST_CPU_SECONDS)))


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """Why a session ended. `reason` None: nothing is left to do. `error`: the error that stopped it."""

    reason: str | None = None
    error: Exception | None = None


class Runner:
    """One session of one run: the first, or a resume."""

    def __init__(  # noqa: PLR0913 - all that a simulation swaps
        self,
        operation: BulkOperation,
        rows: Iterable[PlanRow],
        journal: Journal,
        workers: ThreadWorkers[Job, Done],
        *,
        rules: StopRules | None = None,
        now: Callable[[], float] = time.time,
        on_done: Callable[[Done, RowState | None], None] | None = None,
    ) -> None:
        """`rows` are the plan's rows to send; `on_done` is called with every answer, for the progress display."""
        self._operation = operation
        self._journal = journal
        self._workers = workers
        self._rules = rules or StopRules()
        self._circuit = Circuit(self._rules)
        self._now = now
        self._on_done = on_done
        self._fresh: Iterator[PlanRow] = iter(rows)
        self._again: deque[PlanRow] = deque()  # in doubt, or not sent: they come after the fresh rows
        self._tries: Counter[tuple[int, Action]] = Counter()
        self._latencies: deque[float] = deque(maxlen=16)
        self._ended: SessionEnd | None = None
        self._silent = False

    def stop(self, reason: str = INTERRUPTED) -> None:
        """Start no more requests; those under way are finished. Any thread and signal handlers may call it."""
        self._silent = self._silent or reason == INTERRUPTED
        if self._ended is None:
            self._ended = SessionEnd(reason)

    @property
    def interrupted(self) -> bool:
        """Whether a person or a scheduler stopped it."""
        return self._silent

    def check(self, action: Action) -> None:
        """Raise `ClosedError` if the run was stopped and this action must not begin. Any thread may call it."""
        if not self._may(action):
            raise ClosedError("The run was stopped")

    def run(self) -> SessionEnd:
        """Work until nothing is left to do or the run is stopped. Then all outcomes are in the journal."""
        self._journal.reopen(self._now())
        finished: list[Done] = []
        while True:
            for done in finished:
                self._judge(done)
            jobs = list(self._choose())
            self._record(finished, jobs)
            for job in jobs:
                self._workers.start(job, width=self._width)
            if self._workers.busy:
                finished = self._workers.wait()
            elif self._again:
                finished = []
            else:
                return self._ended or SessionEnd()

    @property
    def _width(self) -> int:
        latency = min(self._latencies, default=None)
        return in_flight(latency, repeatable=self._operation.repeatable)

    def _judge(self, done: Done) -> None:
        """Stop if this answer says that no further row should be sent."""
        if done.halt is not None and (self._ended is None or self._ended.error is None):
            # Of an unexpected exception only the type: its text may hold personal data.
            unexpected = f"unexpected: {type(done.halt).__name__}"
            said = done.halt.message if isinstance(done.halt, PaystackError) else unexpected
            self._ended = SessionEnd(said, done.halt)
        if done.job.action is Action.SEND and done.event is not None:
            self._latencies.append(done.seconds)
            reason = self._circuit.see(done.event.kind, done.event.code, done.event.message)
            if reason:
                self.stop(reason)

    def _choose(self) -> Iterator[Job]:
        """The jobs to start now: fresh rows while there are any, then rows in doubt or not sent."""
        room = self._width + (_AHEAD if self._operation.repeatable else 0) - self._workers.busy
        holding = self._circuit.holding
        if holding is not None:
            room = min(room, holding - self._workers.busy)
        while room > 0 and (job := self._next_job()) is not None:
            room -= 1
            yield job

    def _next_job(self) -> Job | None:
        while (row := self._next_row()) is not None:
            state = self._journal.state(row.row)
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
        return self._again.popleft() if self._again else None

    def _action(self, state: RowState) -> Action:
        readable = self._operation.read_back is not None
        return next_action(state, repeatable=self._operation.repeatable, readable=readable)

    def _may(self, action: Action) -> bool:
        """After a stop nothing is sent; rows in doubt are read back, unless it was interrupted or Paystack refused."""
        if self._ended is None:
            return True
        return action is Action.READ_BACK and not self._silent and self._ended.error is None

    def _record(self, finished: list[Done], jobs: list[Job]) -> None:
        """Journal outcomes of finished jobs and intents of new ones in one transaction; queue rows that need more."""
        now = self._now()
        events = [done.event for done in finished if done.event is not None]
        events += [
            JournalEvent(job.row.row, EventKind.INTENT, now) for job in jobs if job.action is Action.SEND
        ]
        customers = [(done.job.row.row, done.customer) for done in finished if done.customer is not None]
        states = self._journal.append(events, customers)
        for done in finished:
            state = states.get(done.job.row.row)
            if done.event is not None and state is not None and self._action(state) is not Action.NOTHING:
                self._again.append(done.job.row)
            if self._on_done is not None:
                self._on_done(done, state)


@contextlib.contextmanager
def stopping(runner: Runner) -> Iterator[None]:
    """On the first Ctrl-C (or SIGTERM, SIGHUP) stop the runner after the requests under way; on the second at once."""

    def first(_number: int, _frame: object) -> None:
        runner.stop(INTERRUPTED)
        for number in signals:
            signal.signal(number, signal.default_int_handler)

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
    """Raise the Ctrl-C that `asyncio.run` took before: it cancels its task, which notices that when it awaits."""
    with contextlib.suppress(RuntimeError):  # no loop runs in this thread
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise KeyboardInterrupt
