"""Who must agree before anything is sent, on which key, and how; and what the copy is believed for."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from paystack_source.bulk.plan.plan import Confirmation, Counts
from paystack_source.cli.bulk_commands import TerminalConsole
from paystack_source.errors import ConfigError, UsageError
from paystack_source.helpers import FrameConsole

SEAL = "0123456789abcdef" * 4
GUARDED = Confirmation(needed=True, reasons=["2,000 denials are more than 100"], phrase="2000")


class Person:
    """A terminal with somebody at it, who answers `answer`; None: nobody is there."""

    def __init__(self, answer=None):
        self.answer = answer
        self.asked = []

    def warn(self, text):
        self.asked.append(text)

    def confirm(self, question, *, yes=False):
        self.asked.append(question)
        if not yes and self.answer is None:
            raise UsageError("nobody is there")
        return yes or self.answer == "y"

    def confirm_typed(self, question, phrase):
        self.asked.append(question)
        if self.answer is None:
            raise UsageError("nobody is there")
        return self.answer == phrase


def plan(guard=None, to_send=2000):
    guard = guard or Confirmation()
    header = SimpleNamespace(counts=Counts(to_send=to_send), guard=guard, seal=SEAL)
    return SimpleNamespace(header=header)


def ask(mode, guard=None, *, yes=False, approve=None, answer=None, to_send=2000):
    person = Person(answer)
    TerminalConsole(person, {"yes": yes, "approve": approve}, mode).agree(plan(guard, to_send))
    return person.asked


@pytest.mark.parametrize("mode", ["live", "test"])
def test_below_the_thresholds_a_yes_is_enough(mode):
    assert ask(mode, yes=True)
    assert ask(mode, answer="y")
    with pytest.raises(UsageError):
        ask(mode, answer="n")
    with pytest.raises(UsageError):
        ask(mode)


def test_a_live_key_is_shown_in_capitals():
    assert "LIVE" in ask("live", answer="y")[0]
    assert "LIVE" not in ask("test", answer="y")[0]


def test_above_the_thresholds_a_live_key_wants_the_number_typed():
    assert ask("live", GUARDED, answer="2000")
    for answer in ("y", "yes", "200", "", None):
        with pytest.raises(UsageError):
            ask("live", GUARDED, answer=answer)


def test_above_the_thresholds_yes_alone_is_not_enough():
    with pytest.raises(UsageError, match="not enough"):
        ask("live", GUARDED, yes=True, answer="2000")


def test_above_the_thresholds_the_plans_seal_is_enough():
    assert ask("live", GUARDED, approve=SEAL) == []
    assert ask("live", GUARDED, approve=SEAL[:12], yes=True) == []
    for approve in (SEAL[:8], "f" * 64, "0123456789ab0"):
        with pytest.raises(UsageError):
            ask("live", GUARDED, approve=approve, answer="2000")


def test_a_plan_with_nothing_to_send_asks_nobody():
    assert ask("live", GUARDED, to_send=0) == []


def test_in_python_a_guarded_live_run_wants_the_number_of_rows():
    guarded = plan(GUARDED)
    FrameConsole({}, "test").agree(guarded)
    FrameConsole({"confirm": 2000}, "live").agree(guarded)
    FrameConsole({}, "live").agree(plan())
    for settings in ({}, {"confirm": 1999}, {"confirm": True}):
        with pytest.raises(ConfigError, match="2000 live customers"):
            FrameConsole(settings, "live").agree(guarded)


def test_the_headers_used_here_are_like_the_real_ones():
    assert {"needed", "reasons", "phrase"} == set(msgspec.structs.asdict(GUARDED))
