"""Who must agree before rows are sent, and to what: counted anew from the plan's rows and the runs' journals.

The thresholds of one run hold for all runs of a day together. Nothing of it is read from the plan's header, where
whoever edits a plan may claim that nothing needs agreement.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from paystack_source.bulk.plan.question import Question, words
from paystack_source.bulk.plan.tally import Tally, confirmation, tally_of
from paystack_source.bulk.run.recording import is_on
from paystack_source.bulk.run.results import rows_to_go
from paystack_source.bulk.run.runner import stopped_by_canary
from paystack_source.bulk.run.states import Phase
from paystack_source.errors import ConfigError, JournalError
from paystack_source.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.bulk.operations import BulkOperation
    from paystack_source.bulk.plan.plan import Plan
    from paystack_source.bulk.run.register import Scope
    from paystack_source.bulk.run.runs import Run, Runs

log = logging.getLogger("paystack_source")
DAY: Final = timedelta(hours=24)
_SENT: Final = frozenset({Phase.SENDING, Phase.APPLIED, Phase.PENDING, Phase.DOUBT})


class Console(Protocol):
    """Whoever runs the service: is told, sees progress, and must agree before anything is sent."""

    def warn(self, text: str) -> None:
        """Tell what the user should know although the work goes on."""
        ...

    def progress(self, title: str, *, total: int | None = None, unit: str = "rows") -> Progress:
        """A display that is shown while it is entered."""
        ...

    def agree(self, plan: Plan, question: Question) -> None:
        """Return if these rows of the plan may be sent. Raises if not; nothing is sent then."""
        ...


class UnattendedConsole:
    """The `Console` of a program: warnings go to the log, and a guarded plan is refused unless it was approved."""

    def __init__(self, approves: Callable[[Question], bool], advice: str) -> None:
        """`advice` says how to approve."""
        self._approves = approves
        self._advice = advice

    def warn(self, text: str) -> None:
        log.warning(text)

    def progress(self, title: str, *, total: int | None = None, unit: str = "rows") -> Progress:
        return Progress(title, total=total, unit=unit)

    def agree(self, plan: Plan, question: Question) -> None:  # noqa: ARG002 - of the protocol
        """Raises `ConfigError` for rows that must be confirmed, or agreed to anew, and were not."""
        if not (question.confirm.needed or question.anew) or self._approves(question):
            return
        what = f"This changes live customers: {'; '.join(question.confirm.limits)}."
        if question.anew:
            what = "The canary stopped this run. Look at its results before it goes on."
        raise ConfigError(what, advice=self._advice)


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


def sent_lately(  # noqa: PLR0913 - which runs, since when, and who hears of those that cannot be read
    runs: Runs,
    operation: BulkOperation,
    scope: Scope,
    now: float,
    warn: Callable[[str], None],
    *,
    resumed: Run | None = None,
) -> list[int]:
    """By guard of the operation, the rows that runs on these customers sent since a day ago, or may have sent.

    Rows of `resumed` that it sends once more are not among them.
    """
    own = None if resumed is None else resumed.folder.resolve()
    total = [0] * len(operation.guards)
    for run in runs.everywhere(scope):
        try:
            counted = _sent(
                run, operation, scope, now - DAY.total_seconds(), goes_on=run.folder.resolve() == own
            )
        except (ConfigError, JournalError):
            warn(
                f"The run {run.run_id} cannot be read: what it sent does not count towards the thresholds of today."
            )
            continue
        total = [before + more for before, more in zip(total, counted, strict=True)]
    return total


def _sent(run: Run, operation: BulkOperation, scope: Scope, since: float, *, goes_on: bool) -> list[int]:
    with run.journal() as journal:
        if journal.meta.get("operation") != operation.name or not is_on(journal, scope):
            return [0] * len(operation.guards)
        sent = {row for row, state in journal.states() if state.phase in _SENT and (state.at or 0) >= since}
        if goes_on:
            sent -= {row.row for row in rows_to_go(run.plan(), journal)}
    rows = run.plan().rows() if sent else ()
    return Tally.of(operation.name, (row for row in rows if row.row in sent)).guarded
