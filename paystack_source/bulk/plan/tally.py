"""Counts what the rows of a plan change, and decides whether a live run must be confirmed by hand.

The rows themselves are counted, because they are sent. A plan's header has the same numbers, but it could be edited.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
import pyarrow.compute as pc

from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.plan import BLANK_ROW, Confirmation
from paystack_source.bulk.run.readback import same
from paystack_source.values import is_blank

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from paystack_source.bulk.operations import BulkOperation
    from paystack_source.bulk.plan.plan import Plan, PlanRow

_FEW: Final = 10  # up to so many rows no share of the customers counts


class FieldChange(NamedTuple):
    """The change of one field by a row. `known`: whether the old value is known."""

    name: str
    known: bool
    old: object
    new: object

    @property
    def differs(self) -> bool:
        return not self.known or not same(self.new, self.old)


def field_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[FieldChange]:
    """The changes of a row with these `old` and `new` values, without secret fields."""
    old = old or {}
    return [FieldChange(name, name in old, old.get(name), value) for name, value in new.items()]


class Transition(NamedTuple):
    """A kind of change: for choices the values before and after, for other fields `set`, `changed` and so on."""

    field: str
    before: str
    after: str


def transition(operation: BulkOperation, change: FieldChange) -> Transition:
    """The kind of a change."""
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
    """The rows to send, how many of them cannot be undone, what they change, and how many each threshold counts.

    `blank` counts blank rows, which are not sent.
    """

    operation: BulkOperation
    rows: int = 0
    unknown_old: int = 0
    transitions: Counter[Transition] = field(default_factory=Counter)
    per_threshold: list[int] = field(default_factory=list)
    blank: int = 0

    @classmethod
    def of(cls, operation: str, rows: Iterable[PlanRow] = ()) -> Tally:
        """The tally of these rows, which are all to be sent."""
        made = cls(BULK_OPERATIONS[operation])
        made.per_threshold = [0] * len(made.operation.thresholds)
        for row in rows:
            made.add(row.old, row.new)
        return made

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Count a batch of a plan: its rows to send and its blank rows. Equal changes are decoded once."""
        self.blank += pc.sum(pc.equal(batch["note"], BLANK_ROW)).as_py() or 0
        sent = batch.filter(pc.equal(batch["verdict"], "send"))
        decode = msgspec.json.decode
        for (old, new), rows in Counter(
            zip(sent["old"].to_pylist(), sent["new"].to_pylist(), strict=True)
        ).items():
            self.add(None if old is None else decode(old), decode(new), rows)

    def add(self, old: Mapping[str, Any] | None, new: Mapping[str, Any], rows: int = 1) -> None:
        """Count `rows` more rows to send, with these values."""
        self.rows += rows
        if old is None and self.operation.compared:
            self.unknown_old += rows
        for change in field_changes(old, new):
            self.transitions[transition(self.operation, change)] += rows
        for index, threshold in enumerate(self.operation.thresholds):
            if threshold.counts(new):
                self.per_threshold[index] += rows

    def as_json(self) -> list[dict[str, Any]]:
        """The transitions, most rows first."""
        return [
            {"field": kind.field, "from": kind.before, "to": kind.after, "rows": rows}
            for kind, rows in self.transitions.most_common()
        ]


_COUNTED: Final[WeakKeyDictionary[Plan, Tally]] = WeakKeyDictionary()


def tally_of(plan: Plan, counted: Tally | None = None) -> Tally:
    """The tally of a whole plan; its rows are read once. `counted`: the tally that was made while they were written."""
    if counted is not None:
        _COUNTED[plan] = counted
    if plan not in _COUNTED:
        _COUNTED[plan] = Tally.of(plan.header.operation)
        for batch in plan.batches():
            _COUNTED[plan].add_batch(batch)
    return _COUNTED[plan]


def confirmation(
    tally: Tally, *, customers: int | None, live: bool, earlier: Sequence[int] = ()
) -> Confirmation:
    """Whether these rows must be confirmed, and why.

    `customers` is the account's number of customers. `earlier` has, by threshold, the rows of other runs in the last 24
    hours: several small files need the same confirmation as one large file.
    """
    reasons, limits = [], []
    for index, threshold in enumerate(tally.operation.thresholds):
        before = earlier[index] if earlier else 0
        count = tally.per_threshold[index] + before
        if not tally.per_threshold[index]:
            continue
        what = f"{count:,} {threshold.what}" + (
            f" (with {before:,} in runs of the last 24 hours)" if before else ""
        )
        if count > threshold.rows:
            reasons.append(f"{what} are more than {threshold.rows:,}")
            limits.append(f"more than {threshold.rows:,} {threshold.what}")
        if customers and count > _FEW and count / customers > threshold.share:
            part = f"{count / customers:.1%} of all {customers:,} customers"
            if count > customers:  # of several runs, which changed the same customers
                part = f"more than all {customers:,} customers"
            reasons.append(f"{what} are {part}, more than {threshold.share:.0%}")
            limits.append(f"{threshold.what} of more than {threshold.share:.0%} of all customers")
    return Confirmation(needed=live and bool(reasons), reasons=reasons, limits=limits)
