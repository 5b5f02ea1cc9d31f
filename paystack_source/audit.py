"""What bulk runs did, as tables in the warehouse: `write_back_runs`, `write_back_rows`, and `customers`.

A second dlt pipeline, `paystack_writeback`, loads into the dataset of the copy, so its state and its
pending work never mix with the extract's. The journal on disk is the truth and every table is merged by
key, so loading twice is harmless and a warehouse that is locked or away loses nothing: `load` says so, and
the next plan, or `status --load`, loads again.

What a copy holds is asked of the copy itself (`copies.py`). The line of a run in `write_back_runs` is loaded last, in a
load of its own, so a load that broke off claims nothing.

Paystack's answers to writes are partial (an update's has no risk action, a create's no names), so they are
laid over the row that the copy holds, and only where the copy is of the same account. A create's
`createdAt` has milliseconds that lists do not have; it is cut to the second.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from paystack_source.bulk.run.claims import Scope, registered
from paystack_source.bulk.run.results import RowResult, row_results
from paystack_source.bulk.run.runs import utc
from paystack_source.bulk.run.states import Outcome
from paystack_source.bulk.service import MAX_AGE_RESUMED, describe
from paystack_source.cli.failures import explain
from paystack_source.copies import extract_pipeline, read_since, runs_held, writeback_pipeline
from paystack_source.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dlt.extract import DltResource
    from dlt.pipeline.pipeline import Pipeline

    from paystack_source.bulk.plan.plan import Plan, PlanRow
    from paystack_source.bulk.run.claims import Claim
    from paystack_source.bulk.run.journal import Journal
    from paystack_source.bulk.run.runs import Run, Runs

BATCH: Final = 10_000

_TIME: Final = pa.timestamp("us", tz="UTC")
ROWS: Final = pa.schema(
    [
        ("run_id", pa.string()),
        ("row", pa.int64()),
        ("line", pa.int64()),
        ("operation", pa.string()),
        ("customer_code", pa.string()),
        ("customer_id", pa.int64()),
        ("email", pa.string()),
        ("outcome", pa.string()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("http_status", pa.int64()),
        ("sends", pa.int64()),
        ("sent_at", _TIME),
        ("finished_at", _TIME),
        ("before", pa.string()),
        ("after", pa.string()),
        ("drifted", pa.bool_()),
        ("secrets", pa.string()),
    ]
)
"""`write_back_rows`: one line per input row. `before` and `after` are JSON; `secrets` are masked hints."""

RUNS: Final = pa.schema(
    [
        ("run_id", pa.string()),
        ("operation", pa.string()),
        ("key_mode", pa.string()),
        ("account", pa.int64()),
        ("who", pa.string()),
        ("host", pa.string()),
        ("input", pa.string()),
        ("input_digest", pa.string()),
        ("plan_id", pa.string()),
        ("plan_seal", pa.string()),
        ("undo_of", pa.string()),
        ("tool_version", pa.string()),
        ("planned_at", _TIME),
        ("started_at", _TIME),
        ("ended_at", _TIME),
        ("stopped", pa.string()),
        ("sessions", pa.int64()),
        ("requests", pa.int64()),
        ("events", pa.int64()),
        ("rows", pa.int64()),
        *((outcome.value, pa.int64()) for outcome in Outcome),
    ]
)
"""`write_back_runs`: one line per run, as it stands now; `events` of its journal are in the other tables."""

_JSON_COLUMNS: Final[dict[str, Any]] = {
    name: {"data_type": "json"} for name in ("before", "after", "secrets")
}
_SETS_COLUMNS: Final = frozenset({"risk-action", "update", "create"})


def load(runs: Iterable[Run], destination: str = "duckdb", dataset: str = "paystack") -> str | None:
    """Load what the copy has not got yet of these runs, oldest first.

    Returns None, or in words why it could not be done. Never raises for the warehouse's sake: what Paystack did
    stands, and the journal keeps what is to be loaded.
    """
    problem = None
    try:
        held = runs_held(destination, dataset)
    except Exception as error:  # noqa: BLE001 - any destination's own errors
        return _could_not(error)
    for run in sorted(runs, key=lambda run: run.run_id):
        try:
            with run.journal() as journal:
                seq = journal.last_seq
                if held.get(run.run_id) != seq:
                    _load_run(run, journal, destination, dataset)
                journal.forget_returned(seq)
        except Exception as error:  # noqa: BLE001
            problem = problem or _could_not(error)
    return problem


def _could_not(error: Exception) -> str:
    if "different configuration" in str(error):
        return "The warehouse could not be updated: this program has its file open read-only; close it."
    return f"The warehouse could not be updated: {explain(error).message}"


def catch_up(runs: Runs, scope: Scope, destination: str, dataset: str) -> str | None:
    """Load what the copy does not know of the runs on this account; None, or in words why it is not to be believed.

    To be called before the copy is believed: a row that a run changed which the copy lacks would look as it was
    before. Runs of other results folders count too, as far as this user's register knows of them.
    """
    try:
        found = [run for run in runs.everywhere(scope) if _is_on(run, scope)]
    except ConfigError as error:
        return _could_not(error)
    problem = load(found, destination, dataset)
    gone = [claim for claim in registered(scope) if not claim.is_there]
    return problem or _lacks(gone, {run.run_id for run in found}, destination, dataset)


def _lacks(claims: list[Claim], there: set[str], destination: str, dataset: str) -> str | None:
    """In words, which of these runs, whose folders are gone, the copy has neither loaded nor read the effect of."""
    if not claims:
        return None
    try:
        held = runs_held(destination, dataset)
        lacking = [
            claim
            for claim in claims
            if claim.run_id not in there and (claim.events is None or held.get(claim.run_id) != claim.events)
        ]
        read = read_since(destination, dataset) if lacking else None
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


def _load_run(run: Run, journal: Journal, destination: str, dataset: str) -> None:
    """One load: the run, its rows, the customers it changed."""
    from paystack_source.warehouse.destinations import mend  # noqa: PLC0415
    from paystack_source.warehouse.sync import leave_nothing_behind  # noqa: PLC0415

    plan = run.plan()
    customers = _customer_tables(destination, dataset, plan, journal)
    pipeline = writeback_pipeline(destination, dataset)
    if pipeline.has_pending_data:
        pipeline.abort_packages()  # of a load that failed; the copy does not claim to hold it
    leave_nothing_behind(pipeline)
    mend(pipeline)
    resources = [_resource(pipeline, "write_back_rows", _row_tables(run, plan, journal), ("run_id", "row"))]
    if customers:
        resources.append(_resource(pipeline, "customers", customers, "id"))
    line = _run_table(run, plan, journal)
    pipeline.run(resources)
    pipeline.run(_resource(pipeline, "write_back_runs", [line], "run_id"))


def _resource(
    pipeline: Pipeline, name: str, tables: Iterable[pa.Table], key: str | Sequence[str]
) -> DltResource:
    import dlt  # noqa: PLC0415

    from paystack_source.source import CUSTOMER_COLUMNS  # noqa: PLC0415
    from paystack_source.warehouse.destinations import keeping, mean_it, storable  # noqa: PLC0415

    mean_it(name)
    kept = keeping(pipeline, name)
    columns = (
        CUSTOMER_COLUMNS if name == "customers" else _JSON_COLUMNS if name == "write_back_rows" else None
    )
    hints: Any = {"table_format": kept.table_format, "file_format": kept.file_format, "columns": columns}
    made: DltResource = dlt.resource(
        map(storable, tables), name=name, primary_key=key, write_disposition=kept.write_disposition, **hints
    )
    return made


def _run_table(run: Run, plan: Plan, journal: Journal) -> pa.Table:
    header, finished, sessions = plan.header, describe(run, plan, journal), journal.sessions()
    last = sessions[-1] if sessions else None
    line = {
        "run_id": run.run_id,
        "operation": header.operation,
        "key_mode": header.key_mode,
        "account": header.account,
        "who": last and last.who,
        "host": last and last.host,
        "input": header.input.path,
        "input_digest": header.input.digest,
        "plan_id": header.plan_id,
        "plan_seal": header.seal,
        "undo_of": header.undo_of,
        "tool_version": header.tool_version,
        "planned_at": header.created_at,
        "started_at": finished.started,
        "ended_at": utc(last.ended) if last and last.ended else None,
        "stopped": finished.stopped,
        "sessions": len(sessions),
        "requests": finished.requests,
        "events": journal.last_seq,
        "rows": header.counts.rows,
        **{outcome.value: finished.counts[outcome] for outcome in Outcome},
    }
    return pa.Table.from_pylist([line], schema=RUNS)


def _row_tables(run: Run, plan: Plan, journal: Journal) -> Iterator[pa.Table]:
    lines: list[dict[str, Any]] = []
    for result in row_results(plan, journal):
        lines.append(_row_line(run.run_id, plan.header.operation, result))
        if len(lines) == BATCH:
            yield pa.Table.from_pylist(lines, schema=ROWS)
            lines = []
    if lines:
        yield pa.Table.from_pylist(lines, schema=ROWS)


def _row_line(run_id: str, operation: str, result: RowResult) -> dict[str, Any]:
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
        "before": None if row.old is None else json.dumps(row.old, ensure_ascii=False),
        "after": json.dumps(row.new, ensure_ascii=False),
        "drifted": row.drifted,
        "secrets": json.dumps(row.secrets, ensure_ascii=False) if row.secrets else None,
    }


# --- the customers


def _customer_tables(destination: str, dataset: str, plan: Plan, journal: Journal) -> list[pa.Table]:
    """The customers that a run changed, as whole rows: what the copy holds with the changes laid over it."""
    changes = changed_customers(plan, journal)
    if not changes:
        return []
    from paystack_source.warehouse.queries import Warehouse  # noqa: PLC0415

    warehouse = Warehouse(extract_pipeline(destination, dataset))
    accounts = warehouse.accounts()
    if len(accounts) != 1 or (
        plan.header.account is not None and (plan.header.key_mode, plan.header.account) not in accounts
    ):
        return []  # no copy, or the copy of another account
    tables = []
    for ids in _chunks(sorted(changes), BATCH):
        held = warehouse.rows(ids)
        if len(held.column_names):
            tables.append(overlay(held, {number: changes[number] for number in ids}))
    return [table for table in tables if table.num_rows]


def changed_customers(plan: Plan, journal: Journal) -> dict[int, dict[str, Any]]:
    """By customer id, the columns that a run is known to have set: what was sent, then what was answered."""
    if plan.header.operation not in _SETS_COLUMNS:
        return {}
    answers = dict(journal.returned())
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
            found[column] = _whole_second(found.pop(key))
    if not isinstance(found.get("metadata"), str | None):
        found["metadata"] = json.dumps(found["metadata"], ensure_ascii=False, separators=(",", ":"))
    return found


def _whole_second(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).replace(microsecond=0)
    except ValueError:
        return None


def overlay(held: pa.Table, changes: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """Rows of the copy with changes laid over them, and new rows for customers that it does not hold. Pure.

    Columns that the copy does not have are left out; it keeps every column and type that it has. Only what changes
    is returned: a customer whom the copy read after the change stays as it is.
    """
    rows = {row["id"]: row for row in held.to_pylist()}
    changed = []
    for number, change in changes.items():
        row = rows.get(number)
        if row is None and not change.get("customer_code"):
            continue  # changed, but not in the copy, and too little known to add it
        seen, changed_at = (row or {}).get("_last_seen_at"), change.get("_last_seen_at")
        if seen is not None and changed_at is not None and seen > changed_at:
            continue  # read, or changed again, since: what the copy holds is newer
        laid = {"id": number} if row is None else row
        for name, value in change.items():
            if name in held.column_names:
                laid[name] = _fitted(value, held.schema.field(name).type, laid.get(name))
        changed.append(laid)
    return pa.Table.from_pylist(changed, schema=held.schema)


def _fitted(value: object, kind: pa.DataType, before: object) -> object:
    """A value of an answer as the column takes it; `before` if it cannot be. The extract tolerates the same."""
    if value is None:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        text = value.strip() if isinstance(value, str) else ""
        return int(text) if pa.types.is_integer(kind) and re.fullmatch(r"-?\d{1,18}", text) else before
    return value


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
