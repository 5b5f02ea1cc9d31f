"""What the rows of a plan would do, counted from the rows themselves: they are what is sent.

A plan's header says the same, but whoever edits a plan can write what they like there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.run.readback import same
from paystack_source.values import is_blank

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paystack_source.bulk.operations import BulkOperation
    from paystack_source.bulk.plan.plan import Plan, PlanRow


class FieldChange(NamedTuple):
    """What a row does to one field. `known`: whether anybody knows the old value."""

    name: str
    known: bool
    old: object
    new: object

    @property
    def differs(self) -> bool:
        return not self.known or not same(self.new, self.old)


def field_changes(row: PlanRow) -> list[FieldChange]:
    """The fields that a row sets, without the secret ones."""
    old = row.old or {}
    return [FieldChange(name, name in old, old.get(name), new) for name, new in row.new.items()]


class Transition(NamedTuple):
    """A kind of change: for choices the values before and after, for all other fields what happens to them."""

    field: str
    before: str
    after: str


def transition(operation: BulkOperation, change: FieldChange) -> Transition:
    """Which kind of change this is."""
    name, known, old, new = change
    if operation.by_column[name].choices:
        return Transition(name, str(old or "none") if known else "unknown", str(new))
    if not known:
        return Transition(name, "unknown" if operation.undoable else "", "set")
    if not change.differs:
        return Transition(name, "", "stays")
    if is_blank(new):
        return Transition(name, "", "cleared")
    return Transition(name, "", "filled in" if is_blank(old) else "changed")


@dataclass(slots=True)
class Tally:
    """Rows to send, how many of them cannot be undone, what they change, and what each threshold counts."""

    operation: BulkOperation
    rows: int = 0
    unknown_old: int = 0
    transitions: Counter[Transition] = field(default_factory=Counter)
    guarded: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, operation: str, rows: Iterable[PlanRow]) -> Tally:
        """Of these rows, those to send."""
        made = cls(BULK_OPERATIONS[operation])
        made.guarded = [0] * len(made.operation.guards)
        for row in rows:
            if row.verdict == "send":
                made.add(row)
        return made

    def add(self, row: PlanRow) -> None:
        """One more row to send."""
        self.rows += 1
        self.unknown_old += self.operation.compared and row.old is None
        for change in field_changes(row):
            self.transitions[transition(self.operation, change)] += 1
        for place, guard in enumerate(self.operation.guards):
            self.guarded[place] += guard.counts(row.new)

    def as_json(self) -> list[dict[str, Any]]:
        """The transitions, most rows first."""
        return [
            {"field": kind.field, "from": kind.before, "to": kind.after, "rows": rows}
            for kind, rows in self.transitions.most_common()
        ]


_COUNTED: Final[WeakKeyDictionary[Plan, Tally]] = WeakKeyDictionary()


def tally_of(plan: Plan) -> Tally:
    """The tally of a whole plan, whose rows are read once for it."""
    if plan not in _COUNTED:
        _COUNTED[plan] = Tally.of(plan.header.operation, plan.rows())
    return _COUNTED[plan]
