"""The state machine of a row: what may follow what, and what may be claimed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paystack_source.bulk.run.states import (
    PLANNED,
    Action,
    Event,
    IllegalEventError,
    Kind,
    Outcome,
    Phase,
    RowState,
    next_action,
    outcome,
    step,
)


def after(*kinds: Kind) -> RowState:
    state = PLANNED
    for at, kind in enumerate(kinds):
        state = step(state, Event(1, kind, float(at + 1), code=kind.value))
    return state


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ([], Outcome.UNSENT),
        ([Kind.INTENT], Outcome.UNKNOWN),
        ([Kind.INTENT, Kind.APPLIED], Outcome.APPLIED),
        ([Kind.INTENT, Kind.PENDING], Outcome.ACCEPTED_PENDING),
        ([Kind.INTENT, Kind.PENDING, Kind.VERIFIED], Outcome.APPLIED),
        ([Kind.INTENT, Kind.PENDING, Kind.FAILED], Outcome.REJECTED),
        ([Kind.INTENT, Kind.REJECTED], Outcome.REJECTED),
        ([Kind.INTENT, Kind.NOT_SENT], Outcome.UNSENT),
        ([Kind.INTENT, Kind.LOST], Outcome.UNKNOWN),
        ([Kind.INTENT, Kind.UNKNOWN, Kind.FOUND], Outcome.APPLIED),
        ([Kind.INTENT, Kind.UNKNOWN, Kind.ABSENT], Outcome.UNKNOWN),
        ([Kind.INTENT, Kind.UNKNOWN, Kind.ABSENT, Kind.INTENT, Kind.REJECTED], Outcome.REJECTED),
    ],
)
def test_the_word_for_a_row(kinds, word):
    assert outcome(after(*kinds)) is word


def test_a_rejection_after_a_doubt_is_not_one():
    assert (
        outcome(after(Kind.INTENT, Kind.UNKNOWN, Kind.UNCLEAR, Kind.INTENT, Kind.REJECTED)) is Outcome.UNKNOWN
    )


def test_a_row_that_was_ever_lost_is_never_called_unsent():
    state = after(Kind.INTENT, Kind.LOST, Kind.ABSENT, Kind.INTENT, Kind.NOT_SENT)
    assert outcome(state) is Outcome.UNKNOWN


def test_what_is_settled_stays_settled():
    for kinds in ([Kind.INTENT, Kind.APPLIED], [Kind.INTENT, Kind.REJECTED]):
        for kind in Kind:
            with pytest.raises(IllegalEventError):
                after(*kinds, kind)


def test_the_first_send_and_the_last_word_are_kept():
    state = after(Kind.INTENT, Kind.UNKNOWN, Kind.ABSENT, Kind.INTENT, Kind.APPLIED)
    assert (state.since, state.at, state.sends, state.code) == (1.0, 5.0, 2, "applied")


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("readable", [True, False])
def test_doubts_are_read_back_first_and_unrepeatable_rows_are_never_sent_again(repeatable, readable):
    doubt = after(Kind.INTENT, Kind.LOST)
    look = Action.READ_BACK if readable else Action.NOTHING
    again = Action.SEND if repeatable else look
    assert next_action(doubt, repeatable=repeatable, readable=readable) is (look if readable else again)
    for verdict in (Kind.ABSENT, Kind.UNCLEAR):
        read = step(doubt, Event(1, verdict, 9.0))
        assert next_action(read, repeatable=repeatable, readable=readable) is again


@settings(max_examples=300)
@given(st.lists(st.sampled_from(Kind), max_size=14), st.booleans(), st.booleans())
def test_whatever_happens_the_claims_follow_from_the_events(kinds, repeatable, readable):
    """Walks only where a runner would: sends and read-backs when the next action says so."""
    state, history = PLANNED, list[Kind]()
    for kind in kinds:
        wanted = next_action(state, repeatable=repeatable, readable=readable)
        if kind is Kind.INTENT and wanted is not Action.SEND:
            continue
        if kind in (Kind.FOUND, Kind.ABSENT, Kind.UNCLEAR) and wanted is not Action.READ_BACK:
            continue
        try:
            state = step(state, Event(1, kind, float(len(history) + 1)))
        except IllegalEventError:
            continue
        history.append(kind)
    claim = outcome(state)
    lost = {Kind.UNKNOWN, Kind.LOST} & set(history)
    if claim is Outcome.UNSENT:
        assert not lost
        assert set(history) <= {Kind.INTENT, Kind.NOT_SENT}
    if claim is Outcome.APPLIED:
        assert history[-1] in (Kind.APPLIED, Kind.FOUND, Kind.VERIFIED)
    if claim is Outcome.REJECTED and history[-1] is Kind.REJECTED and lost:
        assert Kind.ABSENT in history
    if not repeatable:
        for number, kind in enumerate(history):
            if kind is Kind.INTENT and number:
                assert history[number - 1] is Kind.NOT_SENT
    assert state.phase is not Phase.PLANNED or claim is Outcome.UNSENT
