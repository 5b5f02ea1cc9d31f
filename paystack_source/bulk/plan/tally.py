"""Counts what the rows of a plan change, and decides whether a live run must be confirmed by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.bulk.operations import BulkOperation
from paystack_source.bulk.run.readback import same
from paystack_source.values import is_blank

BLANK_ROW: Final = "blank row"
"""The note of a row whose cells are all blank."""
TOGETHER: Final = timedelta(hours=24)
"""The runs of this time need a confirmation as one run would."""
_FEW: Final = 10  # up to this many rows, the share of all customers is ignored


class FieldChange(NamedTuple):
    """The change of one field by a row. `known` is false if the old value is not known."""

    name: str
    known: bool
    old: object
    new: object

    @property
    def differs(self) -> bool:
        return not self.known or not same(self.new, self.old)


def field_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[FieldChange]:
    """The changes of a row from its `old` to its `new` values, without secret fields."""
    old = old or {}
    return [FieldChange(name, name in old, old.get(name), value) for name, value in new.items()]


class Transition(NamedTuple):
    """A kind of change: for choices the old and the new value, for other fields `set`, `changed` and so on."""

    field: str
    before: str
    after: str


def transition(operation: BulkOperation, change: FieldChange) -> Transition:
    name, known, old, new = change
    if operation.by_column[name].choices:
        return Transition(name, str(old or "none") if known else "unknown", str(new))
    if not known:
        return Transition(name, "unknown" if operation.undoable else "", "set")
    if is_blank(new):
        return Transition(name, "", "cleared")
    return Transition(name, "", "filled in" if is_blank(old) else "changed")


@dataclass(slots=True)
class Tally:
    """The number of rows to send: all, those that cannot be undone, and by kind of change and threshold.

    `blank` counts blank rows, which are not sent.
    """

    operation: BulkOperation
    rows: int = 0
    unknown_old: int = 0
    transitions: Counter[Transition] = field(default_factory=Counter)
    per_threshold: list[int] = field(init=False)
    blank: int = 0

    def __post_init__(self) -> None:
        self.per_threshold = [0] * len(self.operation.thresholds)

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Count the rows to send and the blank rows of a batch. Equal changes are decoded once."""
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


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a person must confirm, and why."""

    needed: bool = False
    reasons: list[str] = []
    limits: list[str] = []
    """The reasons without this plan's numbers, for a refusal: the number of rows is the answer that approves."""


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
            f" (with {before:,} in runs of the last {TOGETHER / timedelta(hours=1):.0f} hours)"
            if before
            else ""
        )
        if count > threshold.rows:
            reasons.append(f"{what} are more than {threshold.rows:,}")
            limits.append(f"more than {threshold.rows:,} {threshold.what}")
        if customers and count > _FEW and count / customers > threshold.share:
            part = f"{count / customers:.1%} of all {customers:,} customers"
            if count > customers:  # several runs changed the same customers
                part = f"more than all {customers:,} customers"
            reasons.append(f"{what} are {part}, more than {threshold.share:.0%}")
            limits.append(f"{threshold.what} of more than {threshold.share:.0%} of all customers")
    return Confirmation(needed=live and bool(reasons), reasons=reasons, limits=limits)
