"""The result files of a run: the input's own columns, untouched and in order, plus four.

    _status   applied, skipped_noop, accepted_pending, rejected, unknown or unsent
    _code     Paystack's code, or one of ours
    _message  the reason
    _time     when the outcome was known (UTC)

`results.csv` has every row; `failed.csv` the rejected rows, and unknown ones if sending them again is harmless;
`unsent.csv` those that were not sent. Unknown rows that must not be sent twice are in `unknown.csv`. All files are
inputs of `bulk.py`: a column whose name begins with `_` is never read. Secret columns (BVN, account number,
authorization code) are masked.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from paystack_source.bulk.input.csv_file import csv_writer
from paystack_source.bulk.input.files import InputTable, open_table
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.bulk.operations import BULK_OPERATIONS, CLEAR
from paystack_source.bulk.run.results import FAILED, RowResult, RunReport, may_be_fed_back, report
from paystack_source.bulk.run.states import Outcome
from paystack_source.errors import ConfigError, PaystackError
from paystack_source.private_files import private_file
from paystack_source.values import as_text, is_blank, masked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from paystack_source.bulk.plan.plan import Plan, PlanRow
    from paystack_source.bulk.run.journal import Journal
    from paystack_source.bulk.run.runner import SessionEnd
    from paystack_source.bulk.run.runs import Run

    _Cells = Callable[[RowResult], Sequence[str]]

OUTCOME_COLUMNS: Final = ("_status", "_code", "_message", "_time")


def outcome_cells(result: RowResult) -> tuple[str, str, str, str]:
    """The values of `OUTCOME_COLUMNS`."""
    return result.outcome.value, result.code, result.message, result.time


def conclude(run: Run, plan: Plan, journal: Journal, *, ended: SessionEnd | None = None) -> RunReport:
    """Write the result files and the summary of a run; returns its report. Raises the error of a bug that ended it."""
    edited = run.keep_edited_results()
    columns, cells, missing = _input_of(run, plan)
    with _result_files(run, plan.header.operation, columns, cells) as add:
        finished = report(run, plan, journal, add, ended=ended)
    finished.warnings.extend(edited)
    if missing:
        finished.warnings.append(f"The result files have no input columns. {missing}.")
    with private_file(run.summary_file) as file:  # the object that --json prints
        text = json.dumps(finished.as_json(), ensure_ascii=False, indent=2, default=str)
        file.write(text.encode() + b"\n")
    if finished.error is not None and not isinstance(finished.error, PaystackError):
        raise finished.error
    return finished


@contextlib.contextmanager
def _result_files(
    run: Run, operation: str, columns: Sequence[str], cells: _Cells
) -> Iterator[Callable[[RowResult], None]]:
    """Gives a function that writes a row into the result files, in order. The files appear when this context ends."""
    again, columns = may_be_fed_back(operation), [*columns, *OUTCOME_COLUMNS]
    parts = {
        **dict.fromkeys(again, run.failed_file),
        **dict.fromkeys(FAILED - again, run.unknown_file),
        Outcome.UNSENT: run.unsent_file,
    }
    with private_file(run.results_file) as file:
        with contextlib.ExitStack() as stack:
            written = {run.results_file: stack.enter_context(csv_writer(file, columns))}

            def add(result: RowResult) -> None:
                line = [*cells(result), *outcome_cells(result)]
                written[run.results_file](line)
                path = parts.get(result.outcome)
                if path is not None:
                    if path not in written:
                        part = stack.enter_context(private_file(path))
                        written[path] = stack.enter_context(csv_writer(part, columns))
                    written[path](line)

            yield add
        digest = FileSnapshot(file, run.results_file).sha256
        with private_file(_hash_file(run)) as note:
            note.write(_hash_line(digest))
    for path in set(parts.values()) - written.keys():
        path.unlink(missing_ok=True)


def _input_of(run: Run, plan: Plan) -> tuple[list[str], _Cells, str]:
    """The input's columns, a function for the cells of a row, and why the input is missing, or "".

    They are those of the input if it was not changed; else those of earlier results, if nobody edited them; else those
    of the plan.
    """
    try:
        return *_chosen(plan.input(), set(plan.secret_columns.values())), ""
    except (OSError, ConfigError) as error:
        missing = str(getattr(error, "message", "The input file cannot be read"))
    earlier = _earlier(run)
    if earlier is not None:
        return *_chosen(earlier, set()), ""
    names = [column.name for column in BULK_OPERATIONS[plan.header.operation].columns]

    def planned(result: RowResult) -> list[str]:
        return input_cells(result.row, names, result.row.new | result.row.secrets)

    return names, planned, missing


def _earlier(run: Run) -> InputTable | None:
    """The `results.csv` of an earlier session, if nobody edited it."""
    try:
        found, kept = FileSnapshot.of(run.results_file), _hash_file(run).read_bytes()
    except (OSError, ConfigError):
        return None
    return open_table(found) if _hash_line(found.sha256) == kept else None


def _hash_file(run: Run) -> Path:
    return run.results_file.with_suffix(".sha256")


def _hash_line(digest: str) -> bytes:
    """The line of `sha256sum` for this digest."""
    return f"{digest}  results.csv\n".encode()


def _chosen(table: InputTable, secret: set[str]) -> tuple[list[str], _Cells]:
    """A table's columns without `OUTCOME_COLUMNS`, and its cells, secret ones masked, row after row."""
    kept = [
        (index, name in secret) for index, name in enumerate(table.columns) if name not in OUTCOME_COLUMNS
    ]
    rows = table.rows()

    def cells(_result: RowResult) -> list[str]:
        values = next(rows)
        return [masked(values[index], secret=True) if hide else values[index] for index, hide in kept]

    return [table.columns[index] for index, _ in kept], cells


def input_cells(row: PlanRow, names: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """The cells of an input row that sets `values` for the customer of `row`, named by the first known identifier."""
    number = None if row.customer_id is None else str(row.customer_id)
    named = {"customer_code": row.customer_code, "email": row.email, "id": number}
    surest = next((name for name in names if named.get(name)), None)

    def cell(name: str) -> str:
        if name in named:
            return (named[name] or "") if name == surest else ""
        if name not in values:
            return ""
        return CLEAR if is_blank(values[name]) else as_text(values[name]) or ""

    return [cell(name) for name in names]
