"""The question before rows are sent, and the `Console` that asks it.

The numbers in the question are counted from the plan's rows and the runs' journals, because the plan's header could be
edited. The thresholds apply to all runs of a day together (`tally.TOGETHER`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from paystack_source.bulk.operations import BULK_OPERATIONS, BulkOperation
from paystack_source.bulk.plan.plan import Plan, PlanRow
from paystack_source.bulk.plan.tally import TOGETHER, Confirmation, Tally, confirmation
from paystack_source.bulk.run.recording import is_on
from paystack_source.bulk.run.results import remaining_rows
from paystack_source.bulk.run.runner import stopped_by_canary
from paystack_source.bulk.run.runs import Run, Runs, Scope
from paystack_source.bulk.run.states import Phase
from paystack_source.errors import ConfigError, JournalError
from paystack_source.progress import Progress
from paystack_source.values import counted

log = logging.getLogger("paystack_source")
_RISKS: Final = {"deny": "Denied", "allow": "Allowed"}
_SENT: Final = frozenset({Phase.SENDING, Phase.APPLIED, Phase.PENDING, Phase.DOUBT})


@dataclass(frozen=True, slots=True)
class Question:
    """The question to a person before `rows` rows are sent."""

    text: str
    rows: int
    confirm: Confirmation
    planned: int = 0
    """The number of rows that the whole plan sends; `rows` of them are left."""
    resumed: str = ""
    """The name of the run that is resumed, for a command; "" for a plan."""
    after_canary: bool = False
    """Whether the canary stopped this run, so that an earlier answer does not count."""


@dataclass(frozen=True, slots=True)
class Console:
    """How the service shows warnings and progress to its user, and asks before anything is sent."""

    warn: Callable[[str], None]
    progress: Callable[..., Progress]
    """Gets a title, and as `Progress` does `total` and `unit`; the result is used as a context manager."""
    agree: Callable[[Plan, Question], None]
    """Returns if these rows of the plan may be sent. Otherwise it raises an error, so that nothing is sent."""


def unattended(
    approves: Callable[[Question], bool], advice: str, progress: Callable[..., Progress] = Progress
) -> Console:
    """The console of a program: logs warnings, and refuses plans above the thresholds unless they are approved.

    `approves` returns whether a question is approved; `advice` describes how to approve.
    """

    def agree(_plan: Plan, question: Question) -> None:
        """Raise `ConfigError` if the rows need an approval (also after a canary stopped the run) and have none."""
        if not (question.confirm.needed or question.after_canary) or approves(question):
            return
        what = f"This changes live customers: {'; '.join(question.confirm.limits)}."
        if question.after_canary:
            what = "The canary stopped this run. Look at its results before you continue it."
        raise ConfigError(what, advice=advice)

    return Console(log.warning, progress, agree)


def question_of(  # noqa: PLR0913  # the plan, and what was sent before
    plan: Plan,
    run: Run | None,
    *,
    runs: Runs,
    scope: Scope,
    now: float,
    customers: int | None,
    warn: Callable[[str], None],
) -> Question | None:
    """The question about a plan, or about the rows that are left of its run; None if there is nothing to send.

    `customers` is the account's number of customers, `now` is in seconds since 1970. `warn` gets a warning for each run
    that cannot be read and therefore does not count towards the thresholds.
    """
    operation, stopped = BULK_OPERATIONS[plan.header.operation], None
    if run is None:
        tally = plan.tally
    else:
        with run.journal() as journal:
            tally = _tally(operation, remaining_rows(plan, journal))
            sessions = journal.sessions()
        stopped = sessions[-1].stopped if sessions else None
    if not tally.rows:
        return None
    for undo in _undos_of(run, runs, scope) if run else ():
        warn(f"The run {undo} undid what this run had sent. The rows that are left are sent all the same.")
    confirm = confirmation(
        tally,
        customers=customers,
        live=scope.key_mode == "live",
        earlier=_sent_last_day(runs, operation, scope, now - TOGETHER.total_seconds(), run, warn),
    )
    return Question(
        _question_text(plan, tally, scope.key_mode, run.run_id if run else ""),
        tally.rows,
        confirm,
        planned=plan.tally.rows,
        resumed=run.name if run else "",
        after_canary=stopped_by_canary(stopped),
    )


def _undos_of(undone: Run, runs: Runs, scope: Scope) -> Iterator[str]:
    for run in runs.everywhere(scope):
        with contextlib.suppress(ConfigError, JournalError):
            if run.plan().header.undo_of == undone.run_id:
                yield run.run_id


def _sent_last_day(  # noqa: PLR0913, PLR0917  # which runs, since when, and who gets warnings
    runs: Runs,
    operation: BulkOperation,
    scope: Scope,
    since: float,
    resumed: Run | None,
    warn: Callable[[str], None],
) -> list[int]:
    """By threshold of the operation, the number of rows that runs on this account sent, or may have sent, since then.

    Rows that the run `resumed` will send again are not counted.
    """
    own = None if resumed is None else resumed.folder.resolve()
    total = [0] * len(operation.thresholds)
    for run in runs.everywhere(scope):
        try:
            counted = _sent(run, operation, scope, since, is_resumed=run.folder.resolve() == own)
        except (ConfigError, JournalError):
            warn(
                f"The run {run.run_id} cannot be read: what it sent does not count towards the thresholds of today."
            )
            continue
        total = [before + more for before, more in zip(total, counted, strict=True)]
    return total


def _sent(run: Run, operation: BulkOperation, scope: Scope, since: float, *, is_resumed: bool) -> list[int]:
    with run.journal() as journal:
        if journal.meta.get("operation") != operation.name or not is_on(journal, scope):
            return [0] * len(operation.thresholds)
        sent = {row for row, state in journal.states() if state.phase in _SENT and (state.at or 0) >= since}
        if is_resumed:
            sent -= {row.row for row in remaining_rows(run.plan(), journal)}
    rows = run.plan().rows() if sent else ()
    return _tally(operation, (row for row in rows if row.row in sent)).per_threshold


def _tally(operation: BulkOperation, rows: Iterable[PlanRow]) -> Tally:
    made = Tally(operation)
    for row in rows:
        made.add(row.old, row.new)
    return made


def _question_text(plan: Plan, tally: Tally, key_mode: str, resumed: str) -> str:
    """The text of the question: the action, the account, and the dangers. `resumed` is a resumed run's id, or ""."""
    header = plan.header
    operation = tally.operation
    first = f"Resume {resumed}: " if resumed else f"Undo {header.undo_of}: " if header.undo_of else ""
    asked = f"{first}{_action(tally)} on the {key_mode.upper()} account?"
    before: Counter[str] = Counter()
    for kind, rows in tally.transitions.items():
        if kind.field == "risk_action" and kind.before != kind.after:
            before[kind.before] += rows
    of_all = f"of {tally.rows:,}"
    parts = [f"{word} now: {before[value]:,} {of_all}." for value, word in _RISKS.items() if before[value]]
    if operation.undo_reason:
        parts.append("It cannot be undone.")
    elif tally.unknown_old:
        parts.append(
            f"It cannot be undone for {tally.unknown_old:,} {of_all}: their present values are not known."
        )
    return " ".join([asked, *parts])


def _action(tally: Tally) -> str:
    """The beginning of the question: the action and its number of customers."""
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
