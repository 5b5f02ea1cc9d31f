"""Loads runs into the warehouse: a row per run, a row per input row, and the changed columns of customers.

The journal on disk has everything. If the warehouse is locked or cannot be reached, `load` returns the reason, and the
next plan, or `status --load`, loads the run. Which runs the warehouse holds is read from the warehouse itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa

from paystack_source.bulk.plan.plan import MAX_AGE_RESUMED, PlanRow
from paystack_source.bulk.run.journal import Journal
from paystack_source.bulk.run.results import RowResult, RunReport, applied_part, report
from paystack_source.bulk.run.runs import AppliedPlan, Run, Runs, Scope, registered, utc
from paystack_source.bulk.run.send import EXISTS
from paystack_source.bulk.run.states import Outcome
from paystack_source.commands import called
from paystack_source.errors import ConfigError
from paystack_source.failures import explain, raise_interrupt
from paystack_source.tables import SETS_CUSTOMERS, WRITE_BACK_ROWS, WRITE_BACK_RUNS
from paystack_source.values import as_text, json_text, read_time

_BATCH: Final = 10_000


class WriteBackTarget(Protocol):
    """The methods of a warehouse that bulk needs; see `paystack_source.warehouse.write_back.WriteBack`."""

    @property
    def destination(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    def find_copy(self) -> Path | pa.Table | None: ...
    def loaded_runs(self) -> dict[str, int]: ...
    def oldest_read(self) -> datetime | None: ...
    def applied_by(self, plan_id: str, key_mode: str, account: int | None) -> str | None: ...
    def load(
        self,
        run: pa.Table,
        rows: Iterable[pa.Table],
        customers: Mapping[int, Mapping[str, Any]],
        *,
        first: bool = False,
    ) -> str | None: ...


class _Rows:
    """The rows of one run for the warehouse."""

    def __init__(self, run: Run, operation: str, journal: Journal) -> None:
        self.tables: list[pa.Table] = []
        self.customers: dict[int, dict[str, Any]] = {}
        """By customer id, the columns that the run set: the values that were sent, then those of Paystack's answer."""
        self.account: int | None = None
        """The account in Paystack's answers. The plan lacks it if the account had no customers."""
        self._run = {"run_id": run.run_id, "operation": operation}
        self._journal = journal
        self._part: list[dict[str, Any]] = []

    def add(self, result: RowResult) -> None:
        answer, part = self._journal.answer_of(result.row.row), applied_part(result)
        if self.account is None and isinstance(account := answer.get("integration"), int):
            self.account = account
        number = answer.get("id") or result.row.customer_id
        applied = part.outcome is Outcome.APPLIED and part.row.verdict != "duplicate"
        changed = applied and part.code != EXISTS  # of an existing customer a create sets nothing
        if self._run["operation"] in SETS_CUSTOMERS and changed and isinstance(number, int):
            columns = {**_columns(part.row, answer), "_last_seen_at": _moment(part.state.at)}
            self.customers.setdefault(number, {}).update(columns)
        self._part.append({**self._run, **self._customer_of(result.row), **_values(result)})
        if len(self._part) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Make a table of the rows that are in no table yet."""
        if self._part:
            self.tables.append(pa.Table.from_pylist(self._part, schema=WRITE_BACK_ROWS.schema))
            self._part = []

    def _customer_of(self, row: PlanRow) -> dict[str, object]:
        """Code and id of the row's customer: from the plan, else from Paystack's answer to the row or its duplicate."""
        code, number = row.customer_code, row.customer_id
        if code is None or number is None:
            answered, found = self._journal.customer_of(row.same_as or row.row)
            code, number = code or answered, found if number is None else number
        return {"customer_code": code, "customer_id": number}


def _values(result: RowResult) -> dict[str, object]:
    """The columns of `write_back_rows` from a row's result; the others are from the run and the customer."""
    row, state = result.row, result.state
    return {
        "row": row.row,
        "line": row.line,
        "email": row.email,
        "outcome": result.outcome.value,
        "code": result.code or None,
        "message": result.message or None,
        "http_status": state.http_status,
        "sends": state.sends,
        "sent_at": _moment(state.since),
        "finished_at": _moment(state.at),
        "before": None if row.old is None else json_text(row.old),
        "after": json_text(row.new),
        "drifted": row.drifted,
        "secrets": json_text(row.secrets) if row.secrets else None,
    }


def _run_row(finished: RunReport, events: int, account: int | None) -> pa.Table:
    """The row of a run in `write_back_runs`."""
    header, sessions = finished.plan.header, finished.sessions
    last = sessions[-1] if sessions else None
    line = {
        **finished.as_json(),
        "account": header.account if account is None else account,
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
        "events": events,
    }
    return pa.Table.from_pylist([line], schema=WRITE_BACK_RUNS.schema)


def _moment(seconds: float | None) -> datetime | None:
    return utc(seconds) if seconds else None


def _columns(row: PlanRow, answer: Mapping[str, Any]) -> dict[str, Any]:
    found = {**row.new, **answer}
    for key, column in (("createdAt", "created_at"), ("updatedAt", "updated_at")):
        if key in found:
            time = read_time(found.pop(key))
            # The answer to a create has milliseconds, which the list lacks.
            found[column] = None if time is None else time.replace(microsecond=0)
    if "metadata" in found:
        found["metadata"] = as_text(found["metadata"])
    return found


def claim(warehouse: WriteBackTarget, run: Run) -> str | None:
    """Load a run before it begins, so that no other machine applies its plan meanwhile.

    Returns the id of another run that applied the plan, if there is one; then nothing is loaded.
    """
    with run.journal() as journal:
        if journal.last_seq:
            return None
        begun = report(run, run.plan(), journal)
    # If the run is never loaded again, the outcome of these rows is unknown.
    begun.counts[Outcome.UNKNOWN] += begun.counts.pop(Outcome.UNSENT, 0)
    return warehouse.load(_run_row(begun, 0, None), [], {}, first=True)


def record_runs(finished: list[RunReport], warehouse: WriteBackTarget) -> None:
    """Load these runs. If it fails, each report gets the reason as `not_loaded`. Ctrl-C is raised."""
    problem = load(warehouse, [one.run for one in finished])
    for one in finished:
        one.not_loaded = problem


def load(warehouse: WriteBackTarget, runs: Iterable[Run]) -> str | None:
    """Load these runs, oldest first, except those that the warehouse holds already.

    Returns None, or the reason as text if it failed. Only `KeyboardInterrupt` is raised, not an error of the warehouse:
    the rows are applied at Paystack, and the journals still have all data for a later load.
    """
    problem = None
    try:
        held = warehouse.loaded_runs()
    except Exception as error:  # noqa: BLE001  # any destination's own errors
        return _failure_text(error)
    for run in sorted(runs, key=lambda run: run.run_id):
        try:
            with run.journal() as journal:
                events = journal.last_seq
                if held.get(run.run_id) != events:
                    run.check_journal()
                    plan = run.plan()
                    rows = _Rows(run, plan.header.operation, journal)
                    finished = report(run, plan, journal, rows.add)
                    rows.flush()
                    warehouse.load(_run_row(finished, events, rows.account), rows.tables, rows.customers)
                journal.erase_returned(events)
        except Exception as error:  # noqa: BLE001
            problem = problem or _failure_text(error)
    return problem


def catch_up(warehouse: WriteBackTarget, runs: Runs, scope: Scope) -> str | None:
    """Load the runs on this account that the copy lacks; returns None, or the reason why the copy is not up to date.

    Call it before a plan is compared with the copy: if a run is not loaded, the copy has older values. Runs in
    other results folders count too, if this user's register has them.
    """
    try:
        found = []
        for run in runs.everywhere(scope):
            with run.journal() as journal:
                if is_on(journal, scope):
                    found.append(run)
    except ConfigError as error:
        return _failure_text(error)
    problem = load(warehouse, found)
    missing = [entry for entry in registered(scope) if not entry.folder_exists]
    return problem or _lacking_run(warehouse, missing, {run.run_id for run in found})


def _failure_text(error: Exception) -> str:
    raise_interrupt(error)
    return f"The warehouse could not be updated: {explain(error).message.rstrip('.')}."


def _lacking_run(warehouse: WriteBackTarget, missing: list[AppliedPlan], there: set[str]) -> str | None:
    """The message for the first run whose folder is missing, and whose changes the copy has neither loaded nor read."""
    if not missing:
        return None
    try:
        held = warehouse.loaded_runs()
        lacking = [
            entry
            for entry in missing
            if entry.run_id not in there and (entry.events is None or held.get(entry.run_id) != entry.events)
        ]
        read = warehouse.oldest_read() if lacking else None
    except Exception as error:  # noqa: BLE001
        return _failure_text(error)
    for entry in lacking:
        ended = utc(entry.started) + MAX_AGE_RESUMED if entry.ended is None else utc(entry.ended)
        if read is None or read <= ended:
            return (
                f"The copy lacks the run {entry.run_id}, whose folder {entry.folder} is missing; "
                f"{called('customers')} --full-refresh reads what it did."
            )
    return None


def is_on(journal: Journal, scope: Scope) -> bool:
    """Whether the journal's run changed customers of this account."""
    about = journal.meta
    host = about.get("host") or scope.host
    return scope.may_equal(Scope(about["account"], about["key_mode"] or scope.key_mode, host))
