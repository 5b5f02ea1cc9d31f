"""What became of every input row, as files: the input's own columns, untouched and in order, plus four.

    _status   applied, skipped_noop, accepted_pending, rejected, unknown or unsent
    _code     Paystack's code, or ours where Paystack had no say
    _message  why, in words
    _time     when it was known (UTC)

`results.csv` has every row; `failed.csv` the rejected ones, and the unknown ones where a repeat is harmless;
`unsent.csv` those that were not sent. Unknown rows that may not be sent twice are in `unknown.csv`. All can be
given to `bulk.py` again as they are: a column whose name begins with `_` is never read. Secret columns (BVN,
account number, authorization code) are masked: they rest nowhere in clear.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

from paystack_source.bulk.input.csv_file import guard, write_rows
from paystack_source.bulk.input.files import Table, open_table, private_file
from paystack_source.bulk.input.snapshot import Snapshot
from paystack_source.bulk.masking import masked
from paystack_source.bulk.operations import CLEAR, OPERATIONS
from paystack_source.bulk.run.runs import utc
from paystack_source.bulk.run.states import PLANNED, Kind, Outcome, Phase, RowState, outcome
from paystack_source.errors import ConfigError
from paystack_source.values import as_text, is_blank

if TYPE_CHECKING:
    from pathlib import Path

    from paystack_source.bulk.plan.plan import Plan, PlanRow
    from paystack_source.bulk.run.journal import Journal
    from paystack_source.bulk.run.runs import Run

_Rows: TypeAlias = Callable[[], Iterator[Sequence[str]]]
_Write: TypeAlias = Callable[[Sequence[str]], object]

COLUMNS: Final = ("_status", "_code", "_message", "_time")
FAILED: Final = frozenset({Outcome.REJECTED, Outcome.UNKNOWN})


def may_be_fed_back(operation: str) -> frozenset[Outcome]:
    """The failed rows that may be corrected and sent again: an unknown create or check may have had its effect."""
    return FAILED if OPERATIONS[operation].repeatable else frozenset({Outcome.REJECTED})


@dataclass(frozen=True, slots=True)
class RowResult:
    """One input row and what became of it."""

    row: PlanRow
    outcome: Outcome
    state: RowState

    @property
    def code(self) -> str:
        return self.state.code or ""

    @property
    def message(self) -> str:
        state = self.state
        if self.outcome is Outcome.SKIPPED_NOOP:
            return self.row.note or "already as wanted"
        if self.outcome is Outcome.UNKNOWN:
            if state.read is Kind.ABSENT:
                return "the answer was lost or showed something else; a later read did not find the change"
            if state.read is Kind.UNCLEAR or state.phase is Phase.DOUBT:
                said = f" ({state.message})" if state.message else ""
                return f"the answer was lost; check by hand before sending it again{said}"
            return "was being sent when the run was killed; resume the run"
        if self.outcome is Outcome.APPLIED and state.read is Kind.FOUND:
            return "applied (the answer was lost; read back)"
        return state.message or ""

    @property
    def time(self) -> str:
        return "" if self.state.at is None else f"{utc(self.state.at):%Y-%m-%dT%H:%M:%SZ}"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The values of `COLUMNS`."""
        return self.outcome.value, self.code, self.message, self.time


def row_results(plan: Plan, journal: Journal) -> Iterator[RowResult]:
    """Every row of the plan in input order, streaming. A duplicate has the outcome of the row that it repeats."""
    states = iter(journal.states())
    number, state = next(states, (0, PLANNED))
    noops: set[int] = set()
    for row in plan.rows():
        while number and number < row.row:
            number, state = next(states, (0, PLANNED))
        own = state if number == row.row else PLANNED
        if row.verdict == "folded" and row.same_as is not None:
            own = journal.state(row.same_as)
        if row.verdict == "noop":
            noops.add(row.row)
        if row.verdict == "noop" or row.same_as in noops:
            yield RowResult(row, Outcome.SKIPPED_NOOP, PLANNED)
        else:
            yield RowResult(row, outcome(own), own)


@dataclass(slots=True)
class Group:
    """Rows that ended for the same reason."""

    outcome: Outcome
    code: str
    message: str
    rows: int = 0
    example_line: int = 0


@dataclass(slots=True)
class Tally:
    """How a run stands: rows by outcome, and by reason with an example line each."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    groups: dict[tuple[Outcome, str, str], Group] = field(default_factory=dict)

    def add(self, result: RowResult) -> None:
        self.counts[result.outcome] += 1
        reason = (result.outcome, result.code, result.message)
        group = self.groups.setdefault(reason, Group(*reason, example_line=result.row.line))
        group.rows += 1

    @property
    def reasons(self) -> list[Group]:
        """Failures first, then by number of rows."""
        return sorted(self.groups.values(), key=lambda group: (group.outcome not in FAILED, -group.rows))


def tally(plan: Plan, journal: Journal) -> Tally:
    """Reads the journal only; writes nothing."""
    found = Tally()
    for result in row_results(plan, journal):
        found.add(result)
    return found


def write_results(
    run: Run,
    plan: Plan,
    journal: Journal,
    source: Any = None,  # noqa: ANN401 - any frame
) -> tuple[Tally, str | None]:
    """Write all result files in one pass over plan, journal and input.

    Returns the tally, and why the input's own columns are missing if they are. `source` is the frame, for runs from
    Python; a file is read again from where it was planned.
    """
    names, rows, missing = _cells(run, plan, source)
    columns, found = [*names, *COLUMNS], Tally()
    failed = may_be_fed_back(plan.header.operation)
    parts = {
        **dict.fromkeys(failed, run.failed_file),
        **dict.fromkeys(FAILED - failed, run.unknown_file),
        Outcome.UNSENT: run.unsent_file,
    }
    written: dict[Path, _Write] = {}
    with private_file(run.results_file) as file:
        with contextlib.ExitStack() as stack:
            write = stack.enter_context(_csv(file, columns))
            for values, result in zip(rows(), row_results(plan, journal), strict=True):
                found.add(result)
                line = [*values, *result.cells]
                write(line)
                path = parts.get(result.outcome)
                if path is not None and path not in written:
                    part = stack.enter_context(private_file(path))
                    written[path] = stack.enter_context(_csv(part, columns))
                if path is not None:
                    written[path](line)
        digest = Snapshot(file, run.results_file).sha256
    for path in set(parts.values()) - written.keys():
        path.unlink(missing_ok=True)
    with private_file(_hash_file(run)) as file:
        file.write(_hash_line(digest))
    return found, missing


@contextlib.contextmanager
def _csv(file: BinaryIO, columns: Sequence[str]) -> Iterator[_Write]:
    """Writes a header, then each row that is given; the file stays open."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        write_rows(text, columns, ())
        writer = csv.writer(text)
        yield lambda row: writer.writerow([guard(cell) for cell in row])
    finally:
        text.detach()  # flushes


def write_summary(run: Run, summary: dict[str, Any]) -> None:
    """`summary.json`: the object that `--json` prints, with the reasons."""
    with private_file(run.summary_file) as file:
        file.write(json.dumps(summary, ensure_ascii=False, indent=2, default=str).encode() + b"\n")


def _cells(run: Run, plan: Plan, source: Any) -> tuple[list[str], _Rows, str | None]:  # noqa: ANN401 - any frame
    """The input's columns as they are written out, and why they are missing if they are.

    Those of the input if it is still what was planned; else those of earlier results, if nobody edited them; else
    those that the plan holds.
    """
    try:
        return *_chosen(plan.input(source), masked_columns(plan)), None
    except (OSError, ConfigError) as error:
        missing = str(getattr(error, "message", "The input file cannot be read"))
    earlier = _earlier(run)
    if earlier is not None:
        return *_chosen(earlier, set()), None
    return *_planned(plan), missing


def _earlier(run: Run) -> Table | None:
    """What an earlier session wrote into `results.csv`, if it is as it was."""
    try:
        found, kept = Snapshot.of(run.results_file), _hash_file(run).read_bytes()
    except (OSError, ConfigError):
        return None
    return open_table(found) if _hash_line(found.sha256) == kept else None


def _hash_file(run: Run) -> Path:
    return run.results_file.with_suffix(".sha256")


def _hash_line(digest: str) -> bytes:
    """As `sha256sum` writes it."""
    return f"{digest}  results.csv\n".encode()


def _planned(plan: Plan) -> tuple[list[str], _Rows]:
    """An input that asks for what the plan does, without the columns that only the input had."""
    operation = OPERATIONS[plan.header.operation]
    names = [column.name for column in operation.columns]

    def rows() -> Iterator[Sequence[str]]:
        for row in plan.rows():
            yield input_cells(row, names, row.new | row.secrets)

    return names, rows


def input_cells(row: PlanRow, names: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """A row of an input that sets `values` for the customer of `row`, who is named once, in the surest way."""
    number = None if row.customer_id is None else str(row.customer_id)
    named = {"customer_code": row.customer_code, "email": row.email, "id": number}
    surest = next((name for name in names if named.get(name)), None)
    found = []
    for name in names:
        if name in named:
            found.append((named[name] or "") if name == surest else "")
        else:
            found.append(_cell(values[name]) if name in values else "")
    return found


def _cell(value: object) -> str:
    return CLEAR if is_blank(value) else as_text(value) or ""


def _chosen(table: Table, secret: set[str]) -> tuple[list[str], _Rows]:
    """A table without the columns that an earlier run added, its secret ones masked."""
    kept = [(place, name in secret) for place, name in enumerate(table.columns) if name not in COLUMNS]

    def rows() -> Iterator[Sequence[str]]:
        for values in table.rows():
            yield [masked(values[place], secret=True) if hide else values[place] for place, hide in kept]

    return [table.columns[place] for place, _ in kept], rows


def masked_columns(plan: Plan) -> set[str]:
    """The input's secret columns."""
    header = plan.header
    return {header.input.mapping.get(name, "") for name in OPERATIONS[header.operation].secret_fields} - {""}
