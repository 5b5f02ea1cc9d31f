"""The question before anything is sent: what is done, to how many, on which account, and what is dangerous."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from paystack_source.values import counted

if TYPE_CHECKING:
    from paystack_source.bulk.plan.plan import Confirmation, Plan
    from paystack_source.bulk.plan.tally import Tally

_HELD_NOW: Final = {"deny": "denied", "allow": "allowed"}


@dataclass(frozen=True, slots=True)
class Question:
    """What must be agreed to. It was counted anew from the rows that are to be sent, not read from a plan's header."""

    text: str
    rows: int
    confirm: Confirmation
    planned: int = 0
    """How many rows the whole plan sends, of which `rows` are left."""
    resumed: bool = False
    anew: bool = False
    """Whether the canary stopped this run, so that an answer that was given beforehand is none."""


def words(plan: Plan, tally: Tally, key_mode: str, resumed: str = "") -> str:
    """What a person is asked: the action, on which account, and what is dangerous about it.

    `resumed` is the run that goes on with what is left.
    """
    header = plan.header
    operation = tally.operation
    first = f"Resume {resumed}: " if resumed else f"Undo {header.undo_of}: " if header.undo_of else ""
    asked = f"{first}{_action(tally)} on the {key_mode.upper()} account?"
    held: Counter[str] = Counter()
    for kind, rows in tally.transitions.items():
        if kind.field == "risk_action" and kind.before != kind.after:
            held[kind.before] += rows
    said = [f"{_of(held[value], tally)} {word} now." for value, word in _HELD_NOW.items() if held[value]]
    if operation.undo_reason:
        said.append("It cannot be undone.")
    elif tally.unknown_old == tally.rows:
        said.append("It cannot be undone: what they hold now is not known.")
    elif tally.unknown_old:
        said.append(f"{tally.unknown_old:,} of them cannot be undone: what they hold now is not known.")
    return " ".join([asked, *said])


def _action(tally: Tally) -> str:
    """What is done, with the numbers."""
    customers = counted(tally.rows, "customer")
    name = tally.operation.name
    if name == "risk-action":
        actions: Counter[str] = Counter()
        for kind, rows in tally.transitions.items():
            actions[kind.after] += rows
        if len(actions) == 1:
            return f"Set {customers} to {next(iter(actions))}"
        parts = ", ".join(f"{rows:,} to {action}" for action, rows in actions.most_common())
        return f"Set {customers} ({parts})"
    if name == "validate":
        return f"Check the identity of {customers}, which overwrites and locks the names of those who pass,"
    if name == "deactivate-authorization":
        return f"Deactivate {counted(tally.rows, 'authorization')}"
    return f"{'Create' if name == 'create' else 'Update'} {customers}"


def _of(rows: int, tally: Tally) -> str:
    if rows == tally.rows:
        return "All of them are" if rows > 1 else "It is"
    return f"{rows:,} of them {'is' if rows == 1 else 'are'}"
