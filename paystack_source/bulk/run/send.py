"""Sends one row, or reads one back, and says what happened as an event. Errors become events too.

It keeps no state and knows no journal, so any thread may call it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from paystack_source.bulk.run.readback import born_before, kept_names, same
from paystack_source.bulk.run.states import Action, EventKind, JournalEvent
from paystack_source.customer import DOCUMENTED, LOCKED_NAMES, WRITABLE_TEXTS
from paystack_source.errors import (
    AccessError,
    AlreadyValidated,
    ClosedError,
    ConfigError,
    NotFound,
    PaystackError,
    RateLimited,
    Rejected,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paystack_source.api.client import PaystackClient
    from paystack_source.api.models import Reply
    from paystack_source.bulk.operations import BulkOperation
    from paystack_source.bulk.plan.plan import PlanRow

ACCEPTED: Final = 202
ALREADY_GONE: Final = "already_gone"
ALREADY_VALIDATED: Final = "already_validated"
DIFFERENT: Final = "different_value"
DRIFTED: Final = "drifted"
EXISTS: Final = "exists"
NAMES_LOCKED: Final = "names_locked"

_Outcome: TypeAlias = tuple[JournalEvent | None, dict[str, Any] | None, Exception | None]
"""What happened to the row, the customer as Paystack answered, and what stops the run."""

_MEANING: Final = (
    (AccessError, EventKind.NOT_SENT, None),
    ((RateLimited, Unavailable, ClosedError), EventKind.NOT_SENT, None),  # the last: stopped before it left
    (AlreadyValidated, EventKind.ALREADY, ALREADY_VALIDATED),
    (
        (Rejected, ConfigError),
        EventKind.REJECTED,
        None,
    ),  # a config error: our client refused it, nothing left
)
"""What an error says about a row that was to be sent, and its code. After any other one nobody knows."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    `doubtful`: an earlier send of this row may have had its effect. `since`: when the first left.
    """

    row: PlanRow
    action: Action
    doubtful: bool = False
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What became of it.

    No event: a read-back failed, which says nothing about the row. `halt`: stop the run.
    """

    job: Job
    event: JournalEvent | None
    seconds: float
    customer: dict[str, Any] | None = None
    halt: Exception | None = None


def _other(wanted: object, answered: object) -> bool:
    """Whether an answer shows another text than was sent, and not just another spelling of it."""
    if wanted is None or not isinstance(answered, str | None):
        return False
    asked, shown = (re.sub(r"[\W_]+", "", str(text or "")).casefold() for text in (wanted, answered))
    return asked != shown


def applied_fields(row: PlanRow) -> list[str]:
    """Of a row whose names Paystack kept: the fields that it set all the same."""
    return [name for name in row.new if name not in LOCKED_NAMES]


def _names_kept(row: PlanRow) -> str:
    rest = applied_fields(row)
    also = f"; the rest was set: {', '.join(rest)}" if rest else ""
    return f"Paystack kept the names, which are locked since the customer passed an identity check{also}"


def _documented(customer: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the journal may keep of an answer."""
    return {key: customer[key] for key in DOCUMENTED if key in customer} or None


def _halting(error: Exception) -> Exception | None:
    """The error if no other row may follow: a refused key or permission, or a bug."""
    return error if isinstance(error, AccessError) or not isinstance(error, PaystackError) else None


class Sender:
    """Sends rows to Paystack and reads them back."""

    def __init__(  # noqa: PLR0913 - all that a simulation swaps
        self,
        operation: BulkOperation,
        client: PaystackClient,
        secrets: Callable[[PlanRow], Mapping[str, Any]],
        *,
        reader: PaystackClient | None = None,
        recheck: bool = False,
        now: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`secrets` gives a row's secret fields, in clear, for the one moment they are needed.

        `reader` reads back, if that may go on when sending may not.
        `recheck`: read each customer first, and leave alone who was changed since the plan.
        """
        self._recheck = recheck
        self._operation = operation
        self._client = client
        self._reader = reader or client
        self._secrets = secrets
        self._now = now
        self._timer = timer

    def __call__(self, job: Job) -> Done:
        """Every `Exception` becomes a value; what is meant to kill the process passes."""
        started = self._timer()
        work = self._send if job.action is Action.SEND else self._read_back
        event, customer, halt = work(job)
        return Done(job, event, self._timer() - started, customer, halt)

    def _event(
        self, job: Job, kind: EventKind, error: Exception | None = None, code: str | None = None
    ) -> JournalEvent:
        if isinstance(error, ClosedError):
            error = None  # why the run was stopped, its session says
        if isinstance(error, PaystackError):
            return JournalEvent(
                job.row.row, kind, self._now(), error.http_status, code or error.code, error.message
            )
        return JournalEvent(
            job.row.row, kind, self._now(), None, code, type(error).__name__ if error else None
        )

    def _send(self, job: Job) -> _Outcome:
        row = job.row
        try:
            if self._recheck and not job.doubtful and (names := self._drifted(row)):
                said = (
                    f"{', '.join(names)}: changed at Paystack since the plan, so nothing was sent; plan again"
                )
                return JournalEvent(row.row, EventKind.REJECTED, self._now(), None, DRIFTED, said), None, None
            body = {**row.new, **self._secrets(row)}
            reply = self._operation.call(self._client, row.key, body)
        except Exception as error:  # noqa: BLE001 - also a bug: the row may have been sent
            return self._failed(job, error), None, _halting(error)
        return self._answered(job, reply)

    def _failed(self, job: Job, error: Exception) -> JournalEvent:
        if isinstance(error, NotFound) and self._operation.absent_means_done and job.doubtful:
            return self._event(job, EventKind.APPLIED, error, ALREADY_GONE)
        meant = ((kind, code) for errors, kind, code in _MEANING if isinstance(error, errors))
        kind, code = next(meant, (EventKind.UNKNOWN, None))
        return self._event(job, kind, error, code)

    def _drifted(self, row: PlanRow) -> list[str]:
        """The fields that hold neither what the plan saw nor what it wants; none where it saw nothing."""
        if not row.old:
            return []
        held = self._client.fetch(row.customer_code or row.key).data or {}
        return [
            name
            for name, wanted in row.new.items()
            if name in row.old
            and not same(row.old[name], held.get(name))
            and not same(wanted, held.get(name))
        ]

    def _answered(self, job: Job, reply: Reply) -> _Outcome:
        data, new = reply.data or {}, job.row.new
        kind, code, said = EventKind.APPLIED, None, reply.message
        kept = kept_names(new, data) if self._operation.compared else []
        others = [name for name in WRITABLE_TEXTS if name in data and name not in kept]
        if self._operation.accepted_pending and reply.status == ACCEPTED:
            kind = EventKind.PENDING
        elif any(_other(new.get(name), data[name]) for name in others):
            kind, code = EventKind.UNKNOWN, DIFFERENT
        elif kept:
            kind, code, said = EventKind.LOCKED, NAMES_LOCKED, _names_kept(job.row)
        if self._operation.endpoint == "create" and born_before(
            data, datetime.fromtimestamp(self._now(), UTC)
        ):
            code, said = EXISTS, "was a customer already; Paystack answered with them as they are"
        event = JournalEvent(job.row.row, kind, self._now(), reply.status, code, said)
        return event, _documented(data), None

    def _read_back(self, job: Job) -> _Outcome:
        since = None if job.since is None else datetime.fromtimestamp(job.since, UTC)
        read_back = self._operation.read_back
        if read_back is None:
            return self._event(job, EventKind.UNCLEAR), None, None
        held: dict[str, Any] | None = None

        def fetch(key: str) -> dict[str, Any] | None:
            nonlocal held  # who was read back is recorded like who was answered
            held = self._reader.fetch(key).data
            return held

        try:
            seen = read_back(fetch, job.row, self._secrets(job.row), since)
        except Exception as error:  # noqa: BLE001 - nothing is claimed about the row
            return None, None, _halting(error)
        code, said = (NAMES_LOCKED, _names_kept(job.row)) if seen is EventKind.LOCKED else (None, None)
        found = held if seen in (EventKind.FOUND, EventKind.LOCKED) else None
        return JournalEvent(job.row.row, seen, self._now(), None, code, said), _documented(found or {}), None
