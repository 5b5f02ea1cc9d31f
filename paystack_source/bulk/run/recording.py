"""Tells the warehouse what runs did, in values: a line per run, a line per row, the columns that customers got.

The journal on disk is the truth. A warehouse that is locked or away loses nothing: `load` says so, and the next plan,
or `status --load`, loads again. What the warehouse holds is asked of the warehouse itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from paystack_source.bulk.run.claims import Scope, registered
from paystack_source.bulk.run.report import RunReport, report
from paystack_source.bulk.run.results import RowResult, Tally, row_results
from paystack_source.bulk.run.runs import MAX_AGE_RESUMED, utc
from paystack_source.bulk.run.states import Outcome
from paystack_source.errors import ConfigError
from paystack_source.failures import explain
from paystack_source.values import as_text, json_text, read_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    import pyarrow as pa

    from paystack_source.bulk.plan.plan import Plan, PlanRow
    from paystack_source.bulk.run.claims import Claim
    from paystack_source.bulk.run.journal import Journal
    from paystack_source.bulk.run.runs import Run, Runs

_SETS_COLUMNS: Final = frozenset({"risk-action", "update", "create"})


class Warehouse(Protocol):
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
        self,
        *,
        key_mode: str | None,
        account: int | None,
        rows: Iterable[Mapping[str, Any]],
        customers: Mapping[int, Mapping[str, Any]],
        run: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Load one run; `run` gives its line once all rows were taken. Raises if the dataset is another account's."""
        ...


def load(warehouse: Warehouse, runs: Iterable[Run]) -> str | None:
    """Load what the warehouse has not got yet of these runs, oldest first.

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
                seq = journal.last_seq
                if held.get(run.run_id) != seq:
                    _load_run(warehouse, run, journal)
                journal.forget_returned(seq)
        except Exception as error:  # noqa: BLE001
            problem = problem or _could_not(error)
    return problem


def catch_up(warehouse: Warehouse, runs: Runs, scope: Scope) -> str | None:
    """Load what the copy does not know of the runs on this account; None, or in words why it is not to be believed.

    To be called before the copy is believed: a row that a run changed which the copy lacks would look as it was
    before. Runs of other results folders count too, as far as this user's register knows of them.
    """
    try:
        found = [run for run in runs.everywhere(scope) if _is_on(run, scope)]
    except ConfigError as error:
        return _could_not(error)
    problem = load(warehouse, found)
    gone = [claim for claim in registered(scope) if not claim.is_there]
    return problem or _lacks(warehouse, gone, {run.run_id for run in found})


def _could_not(error: Exception) -> str:
    if "different configuration" in str(error):
        return "The warehouse could not be updated: this program has its file open read-only; close it."
    return f"The warehouse could not be updated: {explain(error).message}"


def _lacks(warehouse: Warehouse, claims: list[Claim], there: set[str]) -> str | None:
    """In words, which of these runs, whose folders are gone, the copy has neither loaded nor read the effect of."""
    if not claims:
        return None
    try:
        held = warehouse.runs_held()
        lacking = [
            claim
            for claim in claims
            if claim.run_id not in there and (claim.events is None or held.get(claim.run_id) != claim.events)
        ]
        read = warehouse.read_since() if lacking else None
    except Exception as error:  # noqa: BLE001
        return _could_not(error)
    for claim in lacking:
        ended = utc(claim.started) + MAX_AGE_RESUMED if claim.ended is None else utc(claim.ended)
        if read is None or read <= ended:
            return (
                f"The copy lacks the run {claim.run_id}, whose folder {claim.folder} is gone; "
                "customers.py --full-refresh reads what it did."
            )
    return None


def _is_on(run: Run, scope: Scope) -> bool:
    with run.journal() as journal:
        about = journal.meta
    host = about.get("host") or scope.host
    return scope.meets(Scope(about["account"], about["key_mode"] or scope.key_mode, host))


def _load_run(warehouse: Warehouse, run: Run, journal: Journal) -> None:
    plan, found = run.plan(), Tally()
    header, answers = plan.header, dict(journal.returned())
    # A plan of an account without customers cannot name the account; the answers can, and they are right.
    said = (answer.get("integration") for answer in answers.values())
    account = next((number for number in said if isinstance(number, int)), header.account)

    def rows() -> Iterator[dict[str, Any]]:
        for result in row_results(plan, journal):
            found.add(result)
            yield _row_line(run.run_id, header.operation, result)

    warehouse.load(
        key_mode=header.key_mode,
        account=account,
        rows=rows(),
        customers=_changed_customers(plan, journal, answers),
        run=lambda: {**_run_line(report(run, plan, journal, found), journal), "account": account},
    )


def _run_line(stands: RunReport, journal: Journal) -> dict[str, Any]:
    """The run's line in `write_back_runs`."""
    header, sessions = stands.plan.header, journal.sessions()
    last = sessions[-1] if sessions else None
    return {
        "run_id": stands.run.run_id,
        "operation": header.operation,
        "key_mode": header.key_mode,
        "who": last and last.who,
        "host": last and last.host,
        "input": header.input.path,
        "input_digest": header.input.digest,
        "plan_id": header.plan_id,
        "plan_seal": header.seal,
        "undo_of": header.undo_of,
        "tool_version": header.tool_version,
        "planned_at": header.created_at,
        "started_at": stands.started,
        "ended_at": utc(last.ended) if last and last.ended else None,
        "stopped": stands.stopped,
        "sessions": len(sessions),
        "requests": stands.requests,
        "events": journal.last_seq,
        "rows": header.counts.rows,
        **{outcome.value: number for outcome, number in stands.counts.items()},
    }


def _row_line(run_id: str, operation: str, result: RowResult) -> dict[str, Any]:
    """A row's line in `write_back_rows`."""
    row, state = result.row, result.state
    return {
        "run_id": run_id,
        "row": row.row,
        "line": row.line,
        "operation": operation,
        "customer_code": row.customer_code,
        "customer_id": row.customer_id,
        "email": row.email,
        "outcome": result.outcome.value,
        "code": result.code or None,
        "message": result.message or None,
        "http_status": state.http_status,
        "sends": state.sends,
        "sent_at": utc(state.since) if state.since else None,
        "finished_at": utc(state.at) if state.at else None,
        "before": None if row.old is None else json_text(row.old),
        "after": json_text(row.new),
        "drifted": row.drifted,
        "secrets": json_text(row.secrets) if row.secrets else None,
    }


def _changed_customers(
    plan: Plan, journal: Journal, answers: Mapping[int, Mapping[str, Any]]
) -> dict[int, dict[str, Any]]:
    """By customer id, the columns that a run is known to have set: what was sent, then what was answered."""
    if plan.header.operation not in _SETS_COLUMNS:
        return {}
    changes: dict[int, dict[str, Any]] = {}
    for result in row_results(plan, journal):
        if result.outcome is not Outcome.APPLIED or result.row.verdict == "folded":
            continue
        answer = answers.get(result.row.row, {})
        number = answer.get("id") or result.row.customer_id
        if isinstance(number, int):
            seen = utc(result.state.at) if result.state.at else None
            changes.setdefault(number, {}).update(_columns(result.row, answer), _last_seen_at=seen)
    return changes


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
