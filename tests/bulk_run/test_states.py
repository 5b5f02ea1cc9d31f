"""The state machine of a row: what may follow what, and what may be claimed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paystack_source.bulk.run.states import (
    PLANNED,
    Action,
    EventKind,
    IllegalEventError,
    JournalEvent,
    Outcome,
    Phase,
    RowState,
    next_action,
    outcome,
    step,
)


def after(*kinds: EventKind) -> RowState:
    state = PLANNED
    for at, kind in enumerate(kinds):
        state = step(state, JournalEvent(1, kind, float(at + 1), code=kind.value))
    return state


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ([], Outcome.UNSENT),
        ([EventKind.INTENT], Outcome.UNKNOWN),
        ([EventKind.INTENT, EventKind.APPLIED], Outcome.APPLIED),
        ([EventKind.INTENT, EventKind.PENDING], Outcome.ACCEPTED_PENDING),
        ([EventKind.INTENT, EventKind.PENDING, EventKind.VERIFIED], Outcome.APPLIED),
        ([EventKind.INTENT, EventKind.PENDING, EventKind.FAILED], Outcome.REJECTED),
        ([EventKind.INTENT, EventKind.REJECTED], Outcome.REJECTED),
        ([EventKind.INTENT, EventKind.NOT_SENT], Outcome.UNSENT),
        ([EventKind.INTENT, EventKind.LOST], Outcome.UNKNOWN),
        ([EventKind.INTENT, EventKind.UNKNOWN, EventKind.FOUND], Outcome.APPLIED),
        ([EventKind.INTENT, EventKind.UNKNOWN, EventKind.ABSENT], Outcome.UNKNOWN),
        (
            [EventKind.INTENT, EventKind.UNKNOWN, EventKind.ABSENT, EventKind.INTENT, EventKind.REJECTED],
            Outcome.REJECTED,
        ),
    ],
)
def test_the_word_for_a_row(kinds, word):
    assert outcome(after(*kinds)) is word


def test_a_rejection_after_a_doubt_is_not_one():
    assert (
        outcome(
            after(
                EventKind.INTENT, EventKind.UNKNOWN, EventKind.UNCLEAR, EventKind.INTENT, EventKind.REJECTED
            )
        )
        is Outcome.UNKNOWN
    )


def test_a_row_that_was_ever_lost_is_never_called_unsent():
    state = after(EventKind.INTENT, EventKind.LOST, EventKind.ABSENT, EventKind.INTENT, EventKind.NOT_SENT)
    assert outcome(state) is Outcome.UNKNOWN


def test_what_is_settled_stays_settled():
    for kinds in ([EventKind.INTENT, EventKind.APPLIED], [EventKind.INTENT, EventKind.REJECTED]):
        for kind in EventKind:
            with pytest.raises(IllegalEventError):
                after(*kinds, kind)


def test_the_first_send_and_the_last_word_are_kept():
    state = after(EventKind.INTENT, EventKind.UNKNOWN, EventKind.ABSENT, EventKind.INTENT, EventKind.APPLIED)
    assert (state.since, state.at, state.sends, state.code) == (1.0, 5.0, 2, "applied")


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("readable", [True, False])
def test_doubts_are_read_back_first_and_unrepeatable_rows_are_never_sent_again(repeatable, readable):
    doubt = after(EventKind.INTENT, EventKind.LOST)
    look = Action.READ_BACK if readable else Action.NOTHING
    again = Action.SEND if repeatable else look
    assert next_action(doubt, repeatable=repeatable, readable=readable) is (look if readable else again)
    for verdict in (EventKind.ABSENT, EventKind.UNCLEAR):
        read = step(doubt, JournalEvent(1, verdict, 9.0))
        assert next_action(read, repeatable=repeatable, readable=readable) is again


@settings(max_examples=150)
@given(st.lists(st.sampled_from(EventKind), max_size=14), st.booleans(), st.booleans())
def test_whatever_happens_the_claims_follow_from_the_events(kinds, repeatable, readable):
    """Walks only where a runner would: sends and read-backs when the next action says so."""
    state, history = PLANNED, list[EventKind]()
    for kind in kinds:
        wanted = next_action(state, repeatable=repeatable, readable=readable)
        if kind is EventKind.INTENT and wanted is not Action.SEND:
            continue
        if kind in (EventKind.FOUND, EventKind.ABSENT, EventKind.UNCLEAR) and wanted is not Action.READ_BACK:
            continue
        try:
            state = step(state, JournalEvent(1, kind, float(len(history) + 1)))
        except IllegalEventError:
            continue
        history.append(kind)
    claim = outcome(state)
    lost = {EventKind.UNKNOWN, EventKind.LOST} & set(history)
    if claim is Outcome.UNSENT:
        assert not lost
        assert set(history) <= {EventKind.INTENT, EventKind.NOT_SENT}
    if claim is Outcome.APPLIED:
        assert history[-1] in (EventKind.APPLIED, EventKind.FOUND, EventKind.VERIFIED)
    if claim is Outcome.REJECTED and history[-1] is EventKind.REJECTED and lost:
        assert EventKind.ABSENT in history
    if not repeatable:
        for number, kind in enumerate(history):
            if kind is EventKind.INTENT and number:
                assert history[number - 1] is EventKind.NOT_SENT
    assert state.phase is not Phase.PLANNED or claim is Outcome.UNSENT
