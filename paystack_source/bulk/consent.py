"""What somebody must agree to before rows are sent: counted anew from the plan's rows and the run's journal.

Nothing of it is read from the plan's header, where whoever edits a plan may claim that nothing needs agreement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paystack_source.bulk.plan.question import Question, words
from paystack_source.bulk.plan.tally import Tally, confirmation, tally_of
from paystack_source.bulk.run.results import rows_to_go
from paystack_source.bulk.run.runner import stopped_by_canary

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.bulk.operations import BulkOperation
    from paystack_source.bulk.plan.plan import Plan
    from paystack_source.bulk.run.runs import Run


def question_of(
    plan: Plan,
    run: Run | None,
    *,
    key_mode: str,
    customers: int | None,
    sent_before: Callable[[BulkOperation], list[int]],
) -> Question | None:
    """The question about a plan, or about what is left of its run; None if there is nothing to send.

    `customers` is how many the account has; `sent_before` counts, by guard, what was sent in the last 24 hours.
    """
    operation, stopped = plan.header.operation, None
    if run is None:
        tally = tally_of(plan)
    else:
        with run.journal() as journal:
            tally = Tally.of(operation, rows_to_go(plan, journal))
            sessions = journal.sessions()
        stopped = sessions[-1].stopped if sessions else None
    if not tally.rows:
        return None
    confirm = confirmation(
        tally,
        customers=customers,
        live=key_mode == "live",
        earlier=sent_before(tally.operation),
    )
    return Question(
        words(plan, tally, key_mode, run.run_id if run else ""),
        tally.rows,
        confirm,
        planned=tally_of(plan).rows,
        resumed=run is not None,
        anew=stopped_by_canary(stopped),
    )
