"""The outcome of every row of a run, the report of the run, and its result files.

`report` reads plan and journal row by row, counts, and passes each `RowResult` on: to the result files when a session
ends (`conclude`), to the tables for the warehouse (`recording`) when a run is loaded. docs/bulk.md describes the result
files. They are inputs of `bulk.py`: a column whose name begins with `_` is never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from paystack_source.bulk.input.csv_file import csv_writer
from paystack_source.bulk.input.files import InputTable, open_table
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.bulk.operations import BULK_OPERATIONS, CLEAR
from paystack_source.bulk.plan.plan import Plan, PlanRow
from paystack_source.bulk.plan.tally import BLANK_ROW
from paystack_source.bulk.run.journal import Journal, SessionNote
from paystack_source.bulk.run.runner import INTERRUPTED, SessionEnd
from paystack_source.bulk.run.runs import Run, utc
from paystack_source.bulk.run.send import NAMES_LOCKED, applied_fields
from paystack_source.bulk.run.states import PLANNED, EventKind, Outcome, Phase, RowState, outcome
from paystack_source.errors import ConfigError, ExitCode, PaystackError
from paystack_source.private_files import private_file
from paystack_source.values import as_text, is_blank, masked

_Cells = Callable[["RowResult"], Sequence[str]]

FAILED: Final = frozenset({Outcome.REJECTED, Outcome.UNKNOWN})
OUTCOME_COLUMNS: Final = ("_status", "_code", "_message", "_time")


def resendable(operation: str) -> frozenset[Outcome]:
    """The outcomes whose rows may be sent again. An unknown create or identity check may have succeeded already."""
    return FAILED if BULK_OPERATIONS[operation].repeatable else frozenset({Outcome.REJECTED})


@dataclass(frozen=True, slots=True)
class RowResult:
    """One input row and its outcome."""

    row: PlanRow
    outcome: Outcome
    state: RowState
    unsent: str = ""
    """Why the run's last session ended before it sent all rows."""

    @property
    def code(self) -> str:
        return self.state.code or ""

    @property
    def message(self) -> str:
        state = self.state
        if self.outcome is Outcome.SKIPPED_NOOP:
            return state.message or self.row.note or "already as wanted"
        if self.outcome is Outcome.UNKNOWN:
            if state.read is EventKind.ABSENT:
                return "the answer was lost or showed something else; a later read did not find the change"
            if state.read is EventKind.UNCLEAR or state.phase is Phase.DOUBT:
                said = f" ({state.message})" if state.message else ""
                return (
                    "the answer was lost or showed something else; resume the run, which looks again, or check by "
                    f"hand before sending it again{said}"
                )
            return "was being sent when the run was killed; resume the run"
        if self.outcome is Outcome.APPLIED and state.read is EventKind.FOUND:
            return "applied (the answer was lost or showed something else; read back)"
        return state.message or (self.unsent if self.outcome is Outcome.UNSENT else "")

    @property
    def time(self) -> str:
        return "" if self.state.at is None else f"{utc(self.state.at):%Y-%m-%dT%H:%M:%SZ}"


def row_results(plan: Plan, journal: Journal) -> Iterator[RowResult]:
    """The results of all rows in input order, as a stream. A duplicate has the outcome of the row it repeats."""
    unsent = _why_unsent(journal.sessions())
    states = iter(journal.states())
    number, state = next(states, (0, PLANNED))
    noops: set[int] = set()
    for row in plan.rows():
        while number and number < row.row:
            number, state = next(states, (0, PLANNED))
        own = state if number == row.row else PLANNED
        if row.verdict == "duplicate" and row.same_as is not None:
            own = journal.state(row.same_as)
        if row.verdict == "noop":
            noops.add(row.row)
        if row.verdict == "noop" or row.same_as in noops:
            yield RowResult(row, Outcome.SKIPPED_NOOP, PLANNED)
        else:
            yield RowResult(row, outcome(own), own, unsent)


def _why_unsent(sessions: list[SessionNote]) -> str:
    if not sessions:
        return "no session of the run began"
    last = sessions[-1]
    why = last.stopped or ("it was given up after several tries" if last.ended else "its process ended")
    return f"not sent before the run ended: {why}"


def applied_part(result: RowResult) -> RowResult:
    """The applied part of a row whose names Paystack kept; any other row unchanged."""
    names = applied_fields(result.row) if result.code == NAMES_LOCKED else []
    if not names:
        return result
    row, old = result.row, result.row.old
    part = msgspec.structs.replace(
        row,
        new={name: row.new[name] for name in names},
        old=None if old is None else {name: old[name] for name in names if name in old},
    )
    return RowResult(part, Outcome.APPLIED, result.state)


@dataclass(slots=True)
class Reason:
    """Rows that ended for the same reason."""

    outcome: Outcome
    code: str
    message: str
    rows: int = 0
    example_line: int = 0


@dataclass(slots=True)
class RunReport:
    """The state of a run: its rows by outcome and by reason, and its sessions."""

    run: Run
    plan: Plan
    sessions: list[SessionNote]
    stopped: str | None = None
    error: Exception | None = None
    running: bool = False  # by another process, at this moment
    counts: Counter[Outcome] = field(default_factory=Counter)
    duplicates: Counter[Outcome] = field(default_factory=Counter)
    """The rows in `counts` that repeat another row and so were not sent."""
    warnings: list[str] = field(default_factory=list)
    not_loaded: str | None = None
    """Why the load into the warehouse failed."""
    _reasons: dict[tuple[Outcome, str, str], Reason] = field(default_factory=dict)

    def add(self, result: RowResult) -> None:
        self.counts[result.outcome] += 1
        self.duplicates[result.outcome] += result.row.verdict == "duplicate"
        reason = (result.outcome, result.code, result.message)
        group = self._reasons.setdefault(reason, Reason(*reason, example_line=result.row.line))
        group.rows += 1

    @property
    def reasons(self) -> list[Reason]:
        """The reasons, failures first, then by number of rows."""
        return sorted(self._reasons.values(), key=lambda group: (group.outcome not in FAILED, -group.rows))

    @property
    def blank(self) -> int:
        """The number of blank rows among the skipped ones."""
        return sum(group.rows for group in self._reasons.values() if group.message == BLANK_ROW)

    @property
    def complete(self) -> bool:
        """Whether every row was applied, needed no change, or was accepted."""
        return not any(self.counts[o] for o in (*FAILED, Outcome.UNSENT))

    @property
    def requests(self) -> int:
        return sum(session.requests for session in self.sessions)

    @property
    def seconds(self) -> float:
        # Not below 0 if the clock was set back meanwhile.
        return sum(max(session.ended - session.started, 0.0) for session in self.sessions if session.ended)

    @property
    def started(self) -> datetime:
        return utc(self.sessions[0].started) if self.sessions else datetime.now(UTC)

    @property
    def exit_code(self) -> int:
        if self.stopped == INTERRUPTED:
            return ExitCode.INTERRUPTED
        if isinstance(self.error, PaystackError):
            return self.error.exit_code
        return ExitCode.OK if self.complete else ExitCode.ROWS_FAILED

    @property
    def status(self) -> str:
        """running, complete, killed, interrupted, stopped (by a stop rule or an error), or incomplete."""
        if self.running:
            return "running"
        if self.complete and not self.stopped:
            return "complete"
        if not (self.sessions and self.sessions[-1].ended):
            return "killed"  # the last session has no end
        if self.stopped:
            return "interrupted" if self.stopped == INTERRUPTED else "stopped"
        return "incomplete"

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`, without personal data: counts, codes, redacted messages, line numbers, files."""
        header, run = self.plan.header, self.run
        return {
            "run_id": run.run_id,
            "operation": header.operation,
            "status": self.status,
            "rows": header.counts.rows,
            **{outcome.value: self.counts[outcome] for outcome in Outcome},
            "duplicates": header.counts.duplicates,
            "drifted": header.counts.drifted,
            "left_out": header.counts.left_out,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "started": self.started.isoformat(timespec="seconds"),
            "key_mode": header.key_mode,
            "account": header.account,
            "plan_id": header.plan_id,
            "undo_of": header.undo_of,
            "stopped": self.stopped,
            **{f"{path.stem}_file": str(path) if path.is_file() else None for path in run.results},
            "reasons": [asdict(group) for group in self.reasons],
            "warnings": [*self.warnings, *filter(None, [self.not_loaded])],
        }


def report(
    run: Run,
    plan: Plan,
    journal: Journal,
    each: Callable[[RowResult], None] | None = None,
    *,
    ended: SessionEnd | None = None,
) -> RunReport:
    """Make the report of a run in one pass over its rows. `each` is called for every row, in input order."""
    sessions = journal.sessions()
    if ended is None:
        ended = SessionEnd(sessions[-1].stopped if sessions else None)
    made = RunReport(run, plan, sessions, ended.reason, ended.error)
    for result in row_results(plan, journal):
        made.add(result)
        if each is not None:
            each(result)
    return made


def remaining_rows(plan: Plan, journal: Journal) -> Iterator[PlanRow]:
    """The rows that a resume reads back or sends, without duplicates."""
    for result in row_results(plan, journal):
        if result.outcome in (Outcome.UNSENT, Outcome.UNKNOWN) and result.row.verdict == "send":
            yield result.row


# -- the result files ----------------------------------------------------------------------------------------


def outcome_cells(result: RowResult) -> tuple[str, str, str, str]:
    return result.outcome.value, result.code, result.message, result.time


def conclude(run: Run, plan: Plan, journal: Journal, *, ended: SessionEnd | None = None) -> RunReport:
    """Write the result files and the summary of a run; returns its report. An error that was a bug is raised."""
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
    """Returns a function that writes a row into the result files. The files appear when the context ends."""
    again, columns = resendable(operation), [*columns, *OUTCOME_COLUMNS]
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
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
        with private_file(run.hash_file) as note:
            note.write(_hash_line(digest))
    for path in set(parts.values()) - written.keys():
        path.unlink(missing_ok=True)


def _input_of(run: Run, plan: Plan) -> tuple[list[str], _Cells, str]:
    """The input's columns, a function for the cells of a row, and the reason if the input is missing, or "".

    They come from the unchanged input, else from earlier results that nobody edited, else from the plan.
    """
    try:
        return *_columns_and_cells(plan.input(), set(plan.secret_columns.values())), ""
    except (OSError, ConfigError) as error:
        missing = str(getattr(error, "message", "The input file cannot be read"))
    earlier = _earlier(run)
    if earlier is not None:
        return *_columns_and_cells(earlier, set()), ""
    names = [column.name for column in BULK_OPERATIONS[plan.header.operation].columns]

    def planned(result: RowResult) -> list[str]:
        return input_cells(result.row, names, result.row.new | result.row.secrets)

    return names, planned, missing


def _earlier(run: Run) -> InputTable | None:
    """The `results.csv` of an earlier session, if nobody edited it."""
    try:
        found, kept = FileSnapshot.of(run.results_file), run.hash_file.read_bytes()
    except (OSError, ConfigError):
        return None
    return open_table(found) if _hash_line(found.sha256) == kept else None


def _hash_line(digest: str) -> bytes:
    """The line of `sha256sum` for this digest."""
    return f"{digest}  results.csv\n".encode()


def _columns_and_cells(table: InputTable, secret: set[str]) -> tuple[list[str], _Cells]:
    """A table's columns without `OUTCOME_COLUMNS`, and a function for the cells of the next row, secret ones masked."""
    kept = [
        (index, name in secret) for index, name in enumerate(table.columns) if name not in OUTCOME_COLUMNS
    ]
    rows = table.rows()

    def cells(_result: RowResult) -> list[str]:
        values = next(rows)
        return [masked(values[index], secret=True) if hide else values[index] for index, hide in kept]

    return [table.columns[index] for index, _ in kept], cells


def input_cells(row: PlanRow, names: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """The cells of an input row that sets `values` for the customer of `row`, identified by the first known name."""
    number = None if row.customer_id is None else str(row.customer_id)
    named = {"customer_code": row.customer_code, "email": row.email, "id": number}
    identifier = next((name for name in names if named.get(name)), None)

    def cell(name: str) -> str:
        if name in named:
            return (named[name] or "") if name == identifier else ""
        if name not in values:
            return ""
        return CLEAR if is_blank(values[name]) else as_text(values[name]) or ""

    return [cell(name) for name in names]
