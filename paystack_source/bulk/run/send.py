"""Sends one row, or reads it back, and returns the result as a journal event. Errors become events too.

It has no state and does not use the journal, so any thread may call it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from paystack_source.api.client import PaystackClient
from paystack_source.api.models import Reply
from paystack_source.api.quota import http_date
from paystack_source.bulk.operations import BulkOperation
from paystack_source.bulk.plan.plan import PlanRow
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

ALREADY_GONE: Final = "already_gone"
ALREADY_VALIDATED: Final = "already_validated"
DIFFERENT: Final = "different_value"
DRIFTED: Final = "drifted"
EXISTS: Final = "exists"
NAMES_LOCKED: Final = "names_locked"
_INT64: Final = 63  # bits

_MEANING: Final = (
    (AccessError, EventKind.NOT_SENT, None),
    ((RateLimited, Unavailable, ClosedError), EventKind.NOT_SENT, None),  # `ClosedError`: it was not sent
    (AlreadyValidated, EventKind.ALREADY, ALREADY_VALIDATED),
    ((Rejected, ConfigError), EventKind.REJECTED, None),  # `ConfigError`: the client refused to send it
)
"""By class of error, the event of the row that was sent, and its code. After any other error it is `UNKNOWN`."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row to send or to read back.

    `doubtful`: an earlier send of this row may have been applied. `since`: when the first one was sent, since 1970.
    """

    row: PlanRow
    action: Action
    doubtful: bool = False
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a job.

    `event` is None if a read-back failed: the state of the row does not change. `customer`: the one that Paystack
    returned. `halt`: the error that stops the run.
    """

    job: Job
    event: JournalEvent | None
    customer: dict[str, Any] | None = None
    halt: Exception | None = None
    seconds: float = 0.0


def _differs(wanted: object, answered: object) -> bool:
    """Whether the answer's text differs from the sent one in more than case and punctuation."""
    if wanted is None or not isinstance(answered, str | None):
        return False
    asked, shown = (re.sub(r"[\W_]+", "", str(text or "")).casefold() for text in (wanted, answered))
    return asked != shown


def _is_other_customer(row: PlanRow, answer: Mapping[str, Any]) -> bool:
    """Whether an answer is about another customer, by the first of code, id and email that both have."""
    ours = {"customer_code": row.customer_code, "id": row.customer_id, "email": row.email}
    named = ((str(asked), str(answer[name])) for name, asked in ours.items() if asked and answer.get(name))
    asked, shown = next(named, ("", ""))
    return asked.casefold() != shown.casefold()


def _keeps_keys(row: PlanRow, answer: Mapping[str, Any]) -> bool:
    """Whether the answer's metadata has a key that the row removes: Paystack may merge metadata, not replace it."""
    values = [fields.get("metadata") for fields in (row.old or {}, row.new, answer)]
    old, new, held = (value.keys() if isinstance(value, dict) else set() for value in values)
    return "metadata" in row.new and bool((old - new) & held)


def applied_fields(row: PlanRow) -> list[str]:
    """The fields that a row set although Paystack kept the names."""
    return [name for name in row.new if name not in LOCKED_NAMES]


def _names_kept(row: PlanRow) -> str:
    rest = applied_fields(row)
    also = f"; the rest was set: {', '.join(rest)}" if rest else ""
    return f"Paystack kept the names, which are locked since the customer passed an identity check{also}"


def _documented(customer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The documented columns of an answer, which the journal may keep; no code and no number that no table can hold."""
    kept = {key: customer[key] for key in DOCUMENTED if key in customer}
    for key, kind in (("customer_code", str), ("id", int), ("integration", int)):
        value = kept.get(key)
        if not isinstance(value, kind) or (isinstance(value, int) and value.bit_length() > _INT64):
            kept.pop(key, None)
    return kept or None


def _halting(error: Exception) -> Exception | None:
    """The error if it stops the run: a refused key or permission, or a bug; else None."""
    return error if isinstance(error, AccessError) or not isinstance(error, PaystackError) else None


@dataclass(frozen=True)
class Sender:
    """Sends rows to Paystack and reads them back."""

    operation: BulkOperation
    client: PaystackClient
    secrets: Callable[[PlanRow], Mapping[str, Any]]
    """Returns a row's secret values in clear, just before they are sent."""
    reader: PaystackClient | None = None
    """The client for read-backs, which may go on when sending may not; None for `client`."""
    recheck: bool = False
    """Whether each customer is read before the row is sent, which is not sent if they changed since the plan."""
    now: Callable[[], float] = time.time
    timer: Callable[[], float] = time.perf_counter

    def __call__(self, job: Job) -> Done:
        """Perform a job. The result contains any `Exception`; other exceptions are raised."""
        started = self.timer()
        done = self._send(job) if job.action is Action.SEND else self._read_back(job)
        return replace(done, seconds=self.timer() - started)

    def _event(
        self,
        job: Job,
        kind: EventKind,
        code: str | None = None,
        message: str | None = None,
        http_status: int | None = None,
    ) -> JournalEvent:
        return JournalEvent(job.row.row, kind, self.now(), http_status, code, message)

    def _send(self, job: Job) -> Done:
        row = job.row
        try:
            if self.recheck and not job.doubtful and (names := self._drifted(row)):
                message = (
                    f"{', '.join(names)}: changed at Paystack since the plan, so nothing was sent; plan again"
                )
                return Done(job, self._event(job, EventKind.REJECTED, DRIFTED, message))
            reply = self.operation.call(self.client, row.key, {**row.new, **self.secrets(row)})
        except Exception as error:  # noqa: BLE001  # also a bug: the row may have been sent
            return Done(job, self._failed(job, error), halt=_halting(error))
        return self._answered(job, reply)

    def _failed(self, job: Job, error: Exception) -> JournalEvent:
        meant = ((kind, code) for errors, kind, code in _MEANING if isinstance(error, errors))
        kind, code = next(meant, (EventKind.UNKNOWN, None))
        if isinstance(error, NotFound) and self.operation.absent_means_done and job.doubtful:
            kind, code = EventKind.APPLIED, ALREADY_GONE
        if isinstance(error, ClosedError):
            return self._event(job, kind)  # the session has the reason why the run was stopped
        if isinstance(error, PaystackError):
            return self._event(job, kind, code or error.code, error.message, error.http_status)
        return self._event(job, kind, message=type(error).__name__)

    def _drifted(self, row: PlanRow) -> list[str]:
        """The fields whose present value is neither the plan's old value nor its new one; none without old values."""
        if not row.old:
            return []
        held = self.client.fetch(row.customer_code or row.key).data or {}
        return [
            name
            for name, wanted in row.new.items()
            if name in row.old
            and not same(row.old[name], held.get(name))
            and not same(wanted, held.get(name))
        ]

    def _answered(self, job: Job, reply: Reply) -> Done:
        data, new = reply.data or {}, job.row.new
        kind, code, message = EventKind.APPLIED, None, reply.message
        another = _is_other_customer(job.row, data)
        data = {} if another else data
        kept = kept_names(new, data) if self.operation.compared else []
        others = [name for name in WRITABLE_TEXTS if name in data and name not in kept]
        differing = [name for name in others if _differs(new.get(name), data[name])]
        differing += ["metadata"] if _keeps_keys(job.row, data) else []
        # By Paystack's clock, because ours may be wrong.
        answered = http_date(reply.headers.get("date")) or self.now()
        if self.operation.accepted_pending:  # by any success, 202 or not: only the customer shows the verdict
            kind = EventKind.PENDING
        elif self.operation.endpoint == "create" and born_before(data, datetime.fromtimestamp(answered, UTC)):
            code, message = EXISTS, "was a customer already; Paystack answered with them as they are"
            if differing:
                kind = EventKind.REJECTED
                message = f"was a customer already, and has another {' and '.join(differing)}: use `update`"
        elif another or differing:
            kind, code = EventKind.UNKNOWN, DIFFERENT
        elif kept:
            kind, code, message = EventKind.LOCKED, NAMES_LOCKED, _names_kept(job.row)
        return Done(job, self._event(job, kind, code, message, reply.status), _documented(data))

    def _read_back(self, job: Job) -> Done:
        row, judge = job.row, self.operation.read_back
        since = None if job.since is None else datetime.fromtimestamp(job.since, UTC)
        if judge is None or not named_by(row):
            return Done(job, self._event(job, EventKind.UNCLEAR))
        try:
            held = customer_of(row, self.reader or self.client)
            seen = judge(held, row.new, self.secrets(row), since)
        except Exception as error:  # noqa: BLE001  # the row's state does not change
            return Done(job, None, halt=_halting(error))
        code, message = (NAMES_LOCKED, _names_kept(row)) if seen is EventKind.LOCKED else (None, None)
        # A customer that was read back is recorded like one in an answer.
        found = held if seen in (EventKind.FOUND, EventKind.LOCKED) else None
        return Done(job, self._event(job, seen, code, message), _documented(found or {}))


def named_by(row: PlanRow) -> str:
    """The code or email to fetch the row's customer with; "" if the input does not name the customer."""
    return row.customer_code or row.key or row.email or ""


def customer_of(row: PlanRow, client: PaystackClient) -> dict[str, Any] | None:
    """The row's customer as Paystack has it now; None if Paystack has no such customer."""
    try:
        return client.fetch(named_by(row)).data
    except NotFound:
        return None
