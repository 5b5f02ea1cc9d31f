"""Who must agree before anything is sent, on which key, and how; and what the copy is believed for."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from paystack_source.bulk.consent import Question
from paystack_source.bulk.plan.tally import Confirmation
from paystack_source.cli.bulk_commands import agree
from paystack_source.errors import ConfigError, UsageError
from paystack_source.helpers import frame_console

SEAL = "0123456789abcdef" * 4
GUARDED = Confirmation(
    needed=True, reasons=["2,000 denials are more than 100"], limits=["more than 100 denials"]
)


class Person:
    """A terminal with somebody at it, who answers `answer`; None: nobody is there."""

    def __init__(self, answer=None):
        self.answer = answer
        self.asked = []

    def warn(self, text):
        self.asked.append(text)

    def say(self, text):
        self.asked.append(text)

    def confirm(self, question, phrase=None):
        self.asked.append(question)
        if self.answer is None:
            raise UsageError("nobody is there")
        return self.answer == ("y" if phrase is None else phrase)


def plan(guard=None):
    """Its header claims nothing: what is asked was counted from the rows."""
    header = SimpleNamespace(
        guard=guard or Confirmation(), seal=SEAL, options={}, input=SimpleNamespace(path="a.csv")
    )
    return SimpleNamespace(header=header, path=Path("a file.plan"))


def asked_of(guard=None, **more):
    return Question(
        "Set 2,000 customers to deny on the LIVE account?", 2000, guard or Confirmation(), 2000, **more
    )


def ask(mode, guard=None, *, yes=False, approve=None, answer=None, **more):
    person = Person(answer)
    agree(person, {"yes": yes, "approve": approve}, mode, plan(), asked_of(guard, **more))
    return person.asked


@pytest.mark.parametrize("mode", ["live", "test"])
def test_below_the_thresholds_a_yes_is_enough(mode):
    assert ask(mode, yes=True)
    assert ask(mode, answer="y")
    with pytest.raises(UsageError) as refused:
        ask(mode, answer="n")
    assert refused.value.advice == "Later: python pipelines/bulk.py apply 'a file.plan'"
    with pytest.raises(UsageError) as refused:
        ask(mode, answer="n", resumed="20261123-121530-create-3f9a")
    assert refused.value.advice == "Later: python pipelines/bulk.py resume 20261123-121530-create-3f9a"
    with pytest.raises(UsageError):
        ask(mode)


def test_above_the_thresholds_a_live_key_wants_the_number_typed():
    assert ask("live", GUARDED, answer="2000")
    for answer in ("y", "yes", "200", "", None):
        with pytest.raises(UsageError):
            ask("live", GUARDED, answer=answer)


def test_above_the_thresholds_yes_alone_is_not_enough():
    with pytest.raises(UsageError, match="not enough"):
        ask("live", GUARDED, yes=True, answer="2000")


def test_above_the_thresholds_the_plans_seal_is_enough():
    reasons = GUARDED.reasons
    assert ask("live", GUARDED, approve=SEAL) == reasons
    assert ask("live", GUARDED, approve=SEAL[:12], yes=True) == reasons
    for approve in (SEAL[:8], "f" * 64, "0123456789ab0"):
        with pytest.raises(UsageError):
            ask("live", GUARDED, approve=approve, answer="2000")


def test_a_refusal_does_not_print_what_one_needs_to_pass_it():
    for more in ({"yes": True}, {"approve": "f" * 64}, {"yes": True, "after_canary": True}):
        with pytest.raises(UsageError) as refused:
            ask("live", GUARDED, **more)
        assert SEAL[:6] not in f"{refused.value.message} {refused.value.advice}"
    with pytest.raises(ConfigError) as refused:
        frame_console({}, "live").agree(plan(), asked_of(GUARDED))
    assert not re.search("2,?000", f"{refused.value.message} {refused.value.advice}")


def test_after_a_canary_nothing_that_was_said_beforehand_counts():
    with pytest.raises(UsageError, match="canary"):
        ask("test", yes=True, after_canary=True)
    assert ask("test", answer="y", after_canary=True)
    assert ask("test", approve=SEAL, after_canary=True) == []
    for settings in ({}, {"confirm": 5000}):
        with pytest.raises(ConfigError, match="canary"):
            frame_console(settings, "test").agree(plan(), asked_of(after_canary=True))
    frame_console({"confirm": 2000}, "test").agree(plan(), asked_of(after_canary=True))


def test_in_python_a_guarded_live_run_wants_the_number_of_rows():
    frame_console({}, "test").agree(plan(), asked_of(GUARDED))
    frame_console({"confirm": 2000}, "live").agree(plan(), asked_of(GUARDED))
    frame_console({}, "live").agree(plan(), asked_of())
    for settings in ({}, {"confirm": 1999}, {"confirm": True}):
        with pytest.raises(ConfigError, match="more than 100 denials"):
            frame_console(settings, "live").agree(plan(), asked_of(GUARDED))


def test_the_headers_used_here_are_like_the_real_ones():
    assert {"needed", "reasons", "limits"} == set(msgspec.structs.asdict(GUARDED))
