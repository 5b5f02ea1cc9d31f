"""Undoes a run: writes the values that the run replaced into an input, and plans it like any other input.

So an undo is compared with Paystack's present values, shown, confirmed and applied in the usual way. The input has the
rows that were applied, if the run's plan has their old values and if Paystack still has the values that the run wrote.
A value that somebody changed after the run is not undone. Rows that are left out are listed with the reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from paystack_source.bulk.input.csv_file import csv_writer
from paystack_source.bulk.input.files import InputTable, open_table, write_table
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.bulk.operations import BULK_OPERATIONS, BulkOperation
from paystack_source.bulk.plan.plan import Plan, PlanRow
from paystack_source.bulk.run.readback import same
from paystack_source.bulk.run.results import RowResult, applied_part, input_cells, row_results
from paystack_source.bulk.run.runs import Run, Runs, Scope, utc
from paystack_source.bulk.run.states import Outcome
from paystack_source.errors import ConfigError, StalePlan
from paystack_source.private_files import private_file

_NAMED = ("customer_code", "email")


class Undo(NamedTuple):
    """The plan of an undo. `not_undoable` rows are left out; `left` is a CSV that lists them with the reasons."""

    plan: Plan
    not_undoable: int
    left: Path | None


def make_undo(run: Run, plan_table: Callable[[InputTable], Plan]) -> Undo:
    """Plan the undo of a run. The run cannot be resumed meanwhile. `plan_table` plans a table, reading customers live.

    Raises `ConfigError` if the operation or all rows cannot be undone, `BusyError` if a process works on the run.
    """
    plan = run.plan()
    operation = BULK_OPERATIONS[plan.header.operation]
    if not operation.undoable:
        raise ConfigError(f"{operation.title} cannot be undone.", advice=operation.undo_reason)
    columns = (*_NAMED, *operation.undoable)
    left = run.folder / "undo_left.csv"
    changed: dict[int, str] = {}
    with Runs(run.folder.parent).lock(plan):
        run.check_journal()
        while True:  # each plan reads the customers again, so each is compared with what the run wrote
            reasons: list[list[str]] = []
            cells = (
                _cells(found.row, columns) for found in _undoable(run, plan, operation, changed, reasons)
            )
            table, number = _written(run.folder / "undo.csv", columns, cells)
            if reasons:
                write_table(left, (*columns, "_line", "_status", "_message"), reasons)
            if not number:
                raise ConfigError(
                    "No row of this run can be undone.",
                    advice=f"{left} has the reason for each line."
                    if reasons
                    else "Nothing was applied in this run.",
                )
            made = plan_table(table)
            left_out = len(changed)
            rows = _undoable(run, plan, operation, changed.copy(), [])
            for result, now in zip(rows, made.rows(), strict=True):
                held, wrote = now.old or {}, result.row.new
                names = [name for name in wrote if name in held and not same(wrote[name], held[name])]
                if now.verdict == "send" and names:
                    changed[result.row.row] = f"{', '.join(names)}: changed by somebody else since this run"
            if len(changed) == left_out:
                return Undo(made, len(reasons), left if reasons else None)


@contextlib.contextmanager
def hold_undone(plan: Plan, runs: Runs, scope: Scope) -> Iterator[None]:
    """Lock the run that `plan` undoes, if it undoes one: what a resume sends meanwhile would not be undone.

    Raises `BusyError` if a process works on that run, and `StalePlan` if it was resumed since the undo was planned.
    """
    undone = plan.header.undo_of and next(
        (run for run in runs.everywhere(scope) if run.run_id == plan.header.undo_of), None
    )
    if not undone:
        yield
        return
    with Runs(undone.folder.parent).lock(undone.plan()), undone.journal() as journal:
        if any(utc(session.started) > plan.header.created_at for session in journal.sessions()):
            raise StalePlan(
                f"The run {undone.run_id} was resumed after its undo was planned",
                advice="Undo it again, with a new plan.",
            )
        yield


def _undoable(
    run: Run, plan: Plan, operation: BulkOperation, changed: dict[int, str], reasons: list[list[str]]
) -> Iterator[RowResult]:
    """The rows that can be undone. For each other row a line is added to `reasons`."""
    with run.journal() as journal:
        for result in map(applied_part, row_results(plan, journal)):
            reason = why_not(result, operation)
            reason = changed.get(result.row.row) if reason is None else reason
            if reason is None:
                yield result
            elif reason:
                cells = _cells(result.row, (*_NAMED, *operation.undoable))
                reasons.append([*cells, str(result.row.line), result.outcome.value, reason])


def why_not(result: RowResult, operation: BulkOperation) -> str | None:  # noqa: PLR0911  # a line for each reason
    """Why a row cannot be undone: None if it can be, "" if there is nothing to undo."""
    row = result.row
    if row.verdict == "duplicate" or result.outcome in (
        Outcome.SKIPPED_NOOP,
        Outcome.UNSENT,
        Outcome.REJECTED,
    ):
        return ""
    if result.outcome is not Outcome.APPLIED:
        return f"{result.outcome.value}: resume the run first"
    if not (row.customer_code or row.email):
        return "the customer's code is not known"
    if row.old is None:
        return "the values before the run are not known"
    unknown = [name for name in row.new if name not in row.old]
    if unknown:
        return f"the values of {', '.join(unknown)} before the run are not known"
    if "risk_action" in operation.undoable and row.old["risk_action"] not in ("allow", "deny", "default"):
        return "the risk action before the run is one that cannot be set"
    if not isinstance(row.old.get("metadata"), dict | None) and row.old["metadata"] not in ("", "{}"):
        return "the metadata before the run was not an object, and Paystack accepts only objects"
    return None


def _written(path: Path, columns: tuple[str, ...], rows: Iterable[list[str]]) -> tuple[InputTable, int]:
    """Write an input, and open it from the same open file; returns the table and its number of rows."""
    with private_file(path) as file:
        number = 0
        with csv_writer(file, columns) as write:
            for row in rows:
                write(row)
                number += 1
        return open_table(FileSnapshot(file, path)), number


def _cells(row: PlanRow, columns: tuple[str, ...]) -> list[str]:
    """The cells of a row with the known values that it replaced."""
    old = row.old or {}
    return input_cells(row, columns, {name: old[name] for name in row.new if name in old})
