"""Above which numbers a live run must be confirmed by hand. Pure: what was counted is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from paystack_source.bulk.plan.plan import Confirmation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paystack_source.bulk.operations import BulkOperation

_FEW: Final = 10  # so few rows are no large share of anything


def confirmation(  # noqa: PLR0913 - what is counted, and what against
    operation: BulkOperation,
    guarded: Sequence[int],
    rows: int,
    *,
    customers: int | None,
    live: bool,
    earlier: Sequence[int] = (),
) -> Confirmation:
    """Whether `rows` must be confirmed, and why. `guarded` has what each guard of the operation counts of them.

    `customers` is how many the account has. `earlier` has the same as `guarded` of the runs of the last day: a file
    that is cut into small ones needs the same confirmation.
    """
    reasons, limits = [], []
    for place, guard in enumerate(operation.guards):
        before = earlier[place] if earlier else 0
        count = guarded[place] + before
        if not guarded[place]:
            continue
        what = f"{count:,} {guard.what}" + (
            f" (with {before:,} in runs of the last 24 hours)" if before else ""
        )
        if count > guard.rows:
            reasons.append(f"{what} are more than {guard.rows:,}")
            limits.append(f"more than {guard.rows:,} {guard.what}")
        if customers and count > _FEW and count / customers > guard.share:
            part = f"{count / customers:.1%} of all {customers:,} customers"
            if count > customers:  # of several runs, which changed the same customers
                part = f"more than all {customers:,} customers"
            reasons.append(f"{what} are {part}, more than {guard.share:.0%}")
            limits.append(f"{guard.what} of more than {guard.share:.0%} of all customers")
    return Confirmation(needed=live and bool(reasons), reasons=reasons, limits=limits, phrase=str(rows))
