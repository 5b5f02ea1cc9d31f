"""What the runs of the last day have sent, so that the thresholds of one run hold for all of them together."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from paystack_source.bulk.run.recording import is_on
from paystack_source.bulk.run.results import rows_to_go
from paystack_source.bulk.run.states import Phase
from paystack_source.errors import ConfigError, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.bulk.operations import BulkOperation
    from paystack_source.bulk.run.register import Scope
    from paystack_source.bulk.run.runs import Run, Runs

DAY: Final = timedelta(hours=24)
_SENT: Final = frozenset({Phase.SENDING, Phase.APPLIED, Phase.PENDING, Phase.DOUBT})


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
    counts = [0] * len(operation.guards)
    with run.journal() as journal:
        if journal.meta.get("operation") != operation.name or not is_on(journal, scope):
            return counts
        sent = {row for row, state in journal.states() if state.phase in _SENT and (state.at or 0) >= since}
        if goes_on:
            sent -= {row.row for row in rows_to_go(run.plan(), journal)}
    for row in run.plan().rows() if sent else ():
        if row.row in sent:
            for place, guard in enumerate(operation.guards):
                counts[place] += guard.counts(row.new)
    return counts
