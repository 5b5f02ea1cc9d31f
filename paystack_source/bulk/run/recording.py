"""Tells the warehouse what runs did: a line per run, a line per row, the columns that customers got.

The journal on disk is the truth. A warehouse that is locked or away loses nothing: `load` says so, and the next plan,
or `status --load`, loads again. What the warehouse holds is asked of the warehouse itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa

from paystack_source.bulk.run.register import Scope, registered
from paystack_source.bulk.run.results import RowResult, applied_part, report
from paystack_source.bulk.run.runs import MAX_AGE_RESUMED, utc
from paystack_source.bulk.run.states import Outcome
from paystack_source.errors import ConfigError
from paystack_source.failures import explain
from paystack_source.tables import WRITE_BACK_ROWS, WRITE_BACK_RUNS
from paystack_source.values import as_text, json_text, read_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from paystack_source.bulk.plan.plan import Plan, PlanRow
    from paystack_source.bulk.run.journal import Journal
    from paystack_source.bulk.run.register import AppliedPlan
    from paystack_source.bulk.run.results import RunReport
    from paystack_source.bulk.run.runs import Run, Runs

_SETS_COLUMNS: Final = frozenset({"risk-action", "update", "create"})
_BATCH: Final = 10_000

_VALUES: Final[dict[str, Callable[[RowResult], object]]] = {
    "row": lambda it: it.row.row,
    "line": lambda it: it.row.line,
    "email": lambda it: it.row.email,
    "outcome": lambda it: it.outcome.value,
    "code": lambda it: it.code or None,
    "message": lambda it: it.message or None,
    "http_status": lambda it: it.state.http_status,
    "sends": lambda it: it.state.sends,
    "sent_at": lambda it: _moment(it.state.since),
    "finished_at": lambda it: _moment(it.state.at),
    "before": lambda it: None if it.row.old is None else json_text(it.row.old),
    "after": lambda it: json_text(it.row.new),
    "drifted": lambda it: it.row.drifted,
    "secrets": lambda it: json_text(it.row.secrets) if it.row.secrets else None,
}
"""Columns of `write_back_rows` that the result of a row gives; the others are the run's and the customer's."""


class WriteBackTarget(Protocol):
    """What bulk needs of a warehouse; `paystack_source.warehouse.write_back.WriteBack` has it."""

    @property
    def destination(self) -> str: ...
    @property
    def dataset(self) -> str: ...

    def find_copy(self) -> Path | pa.Table | None:
        """The copy of the customers: a DuckDB file, a table, or None if there is none."""
        ...

    def runs_held(self) -> dict[str, int]:
        """By run, how many events of its journal the warehouse holds."""
        ...

    def read_since(self) -> datetime | None:
        """The time since which every customer of the copy was read from Paystack; None if it does not say."""
        ...

    def applied_by(self, plan_id: str, key_mode: str, account: int | None) -> str | None:
        """The run that applied this plan, as far as the warehouse knows."""
        ...

    def load(
        self, run: pa.Table, rows: Iterable[pa.Table], customers: Mapping[int, Mapping[str, Any]]
    ) -> None:
        """Load one run: its line, its rows, and the columns that it set, by customer id.

        Raises if the dataset holds the customers of another account.
        """
        ...


class RunRecord:
    """What the warehouse is told of one run. It takes the rows of the run from `results.report`.

    It never raises, because the result files are written in the same pass: `load` says what went wrong.
    """

    def __init__(self, run: Run, plan: Plan, journal: Journal) -> None:
        self.line: pa.Table
        self.rows: list[pa.Table] = []
        self.customers: dict[int, dict[str, Any]] = {}
        """By customer id, the columns that the run is known to have set: what was sent, then what was answered."""
        self.events = journal.last_seq
        self.error: Exception | None = None
        self._run_id = run.run_id
        self._header = plan.header
        self._sets_columns = plan.header.operation in _SETS_COLUMNS
        self._account = plan.header.account
        self._account_said = False
        self._journal = journal
        self._answers = journal.returned()
        self._next_answer: tuple[int, dict[str, Any]] | None = (0, {})
        self._part: list[RowResult] = []

    def add(self, result: RowResult) -> None:
        self._unless_broken(self._add, result)

    def finish(self, finished: RunReport) -> None:
        """All rows were taken: make the run's line."""
        self._unless_broken(self._finish, finished)

    def _unless_broken(self, step: Callable[[Any], None], given: RowResult | RunReport) -> None:
        if self.error is None:
            try:
                step(given)
            except Exception as error:  # noqa: BLE001 - kept for `load`
                self.error = error

    def _add(self, result: RowResult) -> None:
        answer, whole, result = self._answer(result.row.row), result, applied_part(result)
        number = answer.get("id") or result.row.customer_id
        applied = result.outcome is Outcome.APPLIED and result.row.verdict != "duplicate"
        if self._sets_columns and applied and isinstance(number, int):
            columns = {**_columns(result.row, answer), "_last_seen_at": _moment(result.state.at)}
            self.customers.setdefault(number, {}).update(columns)
        self._part.append(whole)
        if len(self._part) == _BATCH:
            self._flush()

    def _finish(self, finished: RunReport) -> None:
        self._flush()
        header, sessions = self._header, finished.sessions
        last = sessions[-1] if sessions else None
        line = {
            **finished.as_json(),
            "account": self._account,
            "who": last and last.who,
            "os_user": last and last.os_user,
            "host": last and last.host,
            "input": header.input.path,
            "input_digest": header.input.digest,
            "plan_seal": header.seal,
            "tool_version": header.tool_version,
            "planned_at": header.created_at,
            "started_at": finished.started,
            "ended_at": last and _moment(last.ended),
            "sessions": len(sessions),
            "events": self.events,
        }
        self.line = pa.Table.from_pylist([line], schema=WRITE_BACK_RUNS.schema)

    def _answer(self, row: int) -> dict[str, Any]:
        """The customer as Paystack answered for this row; both come in the order of rows."""
        while self._next_answer is not None and self._next_answer[0] < row:
            self._next_answer = next(self._answers, None)
        if self._next_answer is None or self._next_answer[0] != row:
            return {}
        answer = self._next_answer[1]
        # A plan of an account without customers cannot name the account; the answers can, and they are right.
        if not self._account_said and isinstance(account := answer.get("integration"), int):
            self._account, self._account_said = account, True
        return answer

    def _flush(self) -> None:
        if not self._part:
            return
        columns = {name: [value(result) for result in self._part] for name, value in _VALUES.items()}
        columns["customer_code"], columns["customer_id"] = map(
            list, zip(*(self._customer(result.row) for result in self._part), strict=True)
        )
        for name, text in (("run_id", self._run_id), ("operation", self._header.operation)):
            columns[name] = [text] * len(self._part)
        self.rows.append(pa.Table.from_pydict(columns, schema=WRITE_BACK_ROWS.schema))
        self._part = []

    def _customer(self, row: PlanRow) -> tuple[str | None, int | None]:
        """Whom the row is about: as the plan knew them, else as Paystack answered, also for the row that it repeats."""
        if row.customer_code is not None and row.customer_id is not None:
            return row.customer_code, row.customer_id
        code, number = self._journal.customer_of(row.same_as or row.row)
        return row.customer_code or code, number if row.customer_id is None else row.customer_id


def _moment(seconds: float | None) -> datetime | None:
    return utc(seconds) if seconds else None


def _columns(row: PlanRow, answer: Mapping[str, Any]) -> dict[str, Any]:
    found = {**row.new, **answer}
    for key, column in (("createdAt", "created_at"), ("updatedAt", "updated_at")):
        if key in found:
            time = read_time(found.pop(key))
            # A create's time has milliseconds that lists do not have.
            found[column] = None if time is None else time.replace(microsecond=0)
    if "metadata" in found:
        found["metadata"] = as_text(found["metadata"])
    return found


def record_runs(
    finished: list[RunReport], warehouse: WriteBackTarget, ready: RunRecord | None = None
) -> None:
    """Load these runs; `ready` is the record of the only one, if there is one already.

    If that cannot be, nothing is lost, and each of them says why.
    """
    records = {} if ready is None else {finished[0].run.run_id: ready}
    problem = load(warehouse, [one.run for one in finished], records)
    for one in finished if problem else ():
        one.not_loaded = problem
        one.warnings += [problem] if problem else []


def load(
    warehouse: WriteBackTarget, runs: Iterable[Run], ready: Mapping[str, RunRecord] | None = None
) -> str | None:
    """Load what the warehouse has not got yet of these runs, oldest first. `ready` has records by run.

    Returns None, or in words why it could not be done. Never raises for the warehouse's sake: what Paystack did
    stands, and the journal keeps what is to be loaded.
    """
    problem = None
    try:
        held = warehouse.runs_held()
    except Exception as error:  # noqa: BLE001 - any destination's own errors
        return _could_not(error)
    for run in sorted(runs, key=lambda run: run.run_id):
        try:
            with run.journal() as journal:
                events = journal.last_seq
                if held.get(run.run_id) != events:
                    run.check_journal()
                    _load_run(warehouse, run, journal, (ready or {}).get(run.run_id))
                journal.forget_returned(events)
        except Exception as error:  # noqa: BLE001
            problem = problem or _could_not(error)
    return problem


def _load_run(warehouse: WriteBackTarget, run: Run, journal: Journal, ready: RunRecord | None) -> None:
    if ready is None or ready.events != journal.last_seq:
        plan = run.plan()
        ready = RunRecord(run, plan, journal)
        ready.finish(report(run, plan, journal, ready))
    if ready.error is not None:
        raise ready.error
    warehouse.load(ready.line, ready.rows, ready.customers)


def catch_up(warehouse: WriteBackTarget, runs: Runs, scope: Scope) -> str | None:
    """Load what the copy does not know of the runs on this account; None, or in words why it is not to be believed.

    To be called before the copy is believed: a row that a run changed which the copy lacks would look as it was
    before. Runs of other results folders count too, as far as this user's register knows of them.
    """
    try:
        found = []
        for run in runs.everywhere(scope):
            with run.journal() as journal:
                if is_on(journal, scope):
                    found.append(run)
    except ConfigError as error:
        return _could_not(error)
    problem = load(warehouse, found)
    gone = [entry for entry in registered(scope) if not entry.is_there]
    return problem or _lacks(warehouse, gone, {run.run_id for run in found})


def _could_not(error: Exception) -> str:
    if "different configuration" in str(error):
        return "The warehouse could not be updated: this program has its file open read-only; close it."
    return f"The warehouse could not be updated: {explain(error).message}"


def _lacks(warehouse: WriteBackTarget, gone: list[AppliedPlan], there: set[str]) -> str | None:
    """In words, which of these runs, whose folders are gone, the copy has neither loaded nor read the effect of."""
    if not gone:
        return None
    try:
        held = warehouse.runs_held()
        lacking = [
            entry
            for entry in gone
            if entry.run_id not in there and (entry.events is None or held.get(entry.run_id) != entry.events)
        ]
        read = warehouse.read_since() if lacking else None
    except Exception as error:  # noqa: BLE001
        return _could_not(error)
    for entry in lacking:
        ended = utc(entry.started) + MAX_AGE_RESUMED if entry.ended is None else utc(entry.ended)
        if read is None or read <= ended:
            return (
                f"The copy lacks the run {entry.run_id}, whose folder {entry.folder} is gone; "
                "customers.py --full-refresh reads what it did."
            )
    return None


def is_on(journal: Journal, scope: Scope) -> bool:
    """Whether the journal is of a run on the customers of this account."""
    about = journal.meta
    host = about.get("host") or scope.host
    return scope.meets(Scope(about["account"], about["key_mode"] or scope.key_mode, host))
