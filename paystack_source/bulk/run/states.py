"""The state of one row of a run, as a pure function of the events in its journal.

    planned --intent--> sending --applied--------> applied
       ^                   |------pending--------> pending --verified--> applied
       |                   |                               --failed----> rejected
       |                   |------already--------> already       (it had the value before: nothing was changed)
       |                   |------locked---------> rejected      (success, but Paystack keeps locked names)
       |                   |------rejected-------> rejected      (only while no earlier send is in doubt)
       +-----not_sent------|                                     (429 to the end, no connection)
                           |------unknown, lost--> doubt --found-------> applied
                                                     |-----locked------> rejected
                                                     |-----absent------> doubt, cleared
                                                     |-----unclear-----> doubt
                                                     +-----intent------> sending, again

Two rules keep outcomes true. A send whose answer was lost leaves a *doubt*, which only a read-back can clear. And as
long as there is a doubt, a later rejection proves nothing about the earlier send, so the row is not rejected.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec


class Outcome(StrEnum):
    """The outcomes that a user sees; every row of a run has exactly one."""

    APPLIED = "applied"
    SKIPPED_NOOP = "skipped_noop"
    ACCEPTED_PENDING = "accepted_pending"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    UNSENT = "unsent"


class EventKind(StrEnum):
    """The kinds of events of a row."""

    INTENT = "intent"  # about to be sent; on disk before the request leaves
    APPLIED = "applied"  # Paystack answered success
    PENDING = "pending"  # Paystack accepted it: the verdict comes later
    ALREADY = "already"  # Paystack answered that it had the value before: nothing was changed
    LOCKED = "locked"  # Paystack answered success, but keeps the names that an identity check has locked
    REJECTED = "rejected"  # Paystack refused it
    NOT_SENT = "not_sent"  # certainly not applied, and the row itself is valid
    UNKNOWN = "unknown"  # the request was sent, and no answer came
    LOST = "lost"  # an intent without an outcome, found when a journal is opened again
    FOUND = "found"  # read back: the customer has the row's values
    ABSENT = "absent"  # read back: the customer certainly lacks the row's values
    UNCLEAR = "unclear"  # read back: a read cannot decide
    VERIFIED = "verified"  # the verdict of a pending row: yes
    FAILED = "failed"  # the verdict of a pending row: no
    BEGUN = "begun"  # a session of the run began; belongs to no row
    ENDED = "ended"  # that session ended; belongs to no row


SESSION_EVENTS: Final = frozenset({EventKind.BEGUN, EventKind.ENDED})


class Phase(StrEnum):
    """The phase of a row between two events."""

    PLANNED = "planned"
    SENDING = "sending"
    APPLIED = "applied"
    PENDING = "pending"
    ALREADY = "already"
    REJECTED = "rejected"
    DOUBT = "doubt"


class Action(StrEnum):
    """What the runner may do next with a row."""

    SEND = "send"
    READ_BACK = "read_back"
    NOTHING = "nothing"


class IllegalEventError(RuntimeError):
    """An event that cannot follow the ones before it: the journal was edited, or there is a bug."""


class JournalEvent(msgspec.Struct, frozen=True):
    """One event of the journal.

    `at` is seconds since 1970; `message` is Paystack's, redacted by the client.
    """

    row: int
    kind: EventKind
    at: float
    http_status: int | None = None
    code: str | None = None
    message: str | None = None


class RowState(msgspec.Struct, frozen=True):
    """The state of a row for the runner, the results and the warehouse."""

    phase: Phase = Phase.PLANNED
    sends: int = 0
    lost: int = 0  # sends whose answer never came
    doubts: int = 0  # those of them that no read-back has cleared since
    read: EventKind | None = None  # the result of the last read-back since the last send
    since: float | None = None  # when the row was first sent, in seconds since 1970
    at: float | None = None  # when the last event happened
    http_status: int | None = None
    code: str | None = None
    message: str | None = None


PLANNED: Final = RowState()

_ALLOWED: Final[dict[Phase, frozenset[EventKind]]] = {
    Phase.PLANNED: frozenset({EventKind.INTENT}),
    Phase.SENDING: frozenset(
        {
            EventKind.APPLIED,
            EventKind.PENDING,
            EventKind.ALREADY,
            EventKind.LOCKED,
            EventKind.REJECTED,
            EventKind.NOT_SENT,
            EventKind.UNKNOWN,
            EventKind.LOST,
        }
    ),
    Phase.DOUBT: frozenset(
        {EventKind.INTENT, EventKind.FOUND, EventKind.LOCKED, EventKind.ABSENT, EventKind.UNCLEAR}
    ),
    Phase.PENDING: frozenset({EventKind.VERIFIED, EventKind.FAILED}),
}
"""The events that may follow in a phase. None may follow in other phases."""

_NEXT_PHASE: Final[dict[EventKind, Phase]] = {
    EventKind.APPLIED: Phase.APPLIED,
    EventKind.PENDING: Phase.PENDING,
    EventKind.ALREADY: Phase.ALREADY,
    EventKind.LOCKED: Phase.REJECTED,
    EventKind.FOUND: Phase.APPLIED,
    EventKind.VERIFIED: Phase.APPLIED,
    EventKind.FAILED: Phase.REJECTED,
}


def step(state: RowState, event: JournalEvent) -> RowState:
    """The state after one more event. Raises `IllegalEventError` if the event cannot follow."""
    kind = event.kind
    if kind not in _ALLOWED.get(state.phase, ()):
        raise IllegalEventError(f"row {event.row}: {kind.value} cannot follow {state.phase.value}")
    change: dict[str, Any]
    if kind is EventKind.INTENT:
        since = event.at if state.since is None else state.since
        change = {"phase": Phase.SENDING, "sends": state.sends + 1, "read": None, "since": since}
    elif kind in _NEXT_PHASE:
        change = {
            "phase": _NEXT_PHASE[kind],
            "doubts": 0,
            "read": kind if kind is EventKind.FOUND else state.read,
        }
    elif kind in (EventKind.UNKNOWN, EventKind.LOST):
        change = {"phase": Phase.DOUBT, "lost": state.lost + 1, "doubts": state.doubts + 1}
    elif kind is EventKind.ABSENT:
        change = {"doubts": 0, "read": kind}
    elif kind is EventKind.UNCLEAR:
        change = {"read": kind}
    # `REJECTED` and `NOT_SENT` are about this send only, so an earlier doubt remains. A lost request may arrive after a
    # read-back found nothing, so a row that was ever lost is never unsent again.
    elif kind is EventKind.REJECTED:
        change = {"phase": Phase.DOUBT if state.doubts else Phase.REJECTED}
    else:
        change = {"phase": Phase.DOUBT if state.lost else Phase.PLANNED}
    return msgspec.structs.replace(
        state, at=event.at, http_status=event.http_status, code=event.code, message=event.message, **change
    )


_OUTCOMES: Final = {
    Phase.PLANNED: Outcome.UNSENT,
    Phase.SENDING: Outcome.UNKNOWN,
    Phase.DOUBT: Outcome.UNKNOWN,
    Phase.APPLIED: Outcome.APPLIED,
    Phase.PENDING: Outcome.ACCEPTED_PENDING,
    Phase.ALREADY: Outcome.SKIPPED_NOOP,
    Phase.REJECTED: Outcome.REJECTED,
}


def outcome(state: RowState) -> Outcome:
    """The outcome of a row that the plan wants to send."""
    return _OUTCOMES[state.phase]


def next_action(state: RowState, *, repeatable: bool, readable: bool) -> Action:
    """What to do with a row now, so that no unrepeatable row is sent twice.

    `repeatable`: sending the same row again is harmless. `readable`: a read can show whether a send was applied.
    """
    if state.phase is Phase.PLANNED:
        return Action.SEND
    if state.phase is not Phase.DOUBT:
        return Action.NOTHING
    if readable and (state.read is None or not repeatable):
        return Action.READ_BACK  # an unrepeatable row is read back again, because a replica may be behind
    return Action.SEND if repeatable else Action.NOTHING
