"""What bulk runs did, as tables in the warehouse: `write_back_runs`, `write_back_rows`, and `customers`.

A second dlt pipeline, `paystack_writeback`, loads into the dataset of the copy, so its state and its
pending work never mix with the extract's. The journal on disk is the truth and every table is merged by
key, so loading twice is harmless and a warehouse that is locked or away loses nothing: `load` says so, and
the next run, or `status --load`, loads again.

Paystack's answers to writes are partial (an update's has no risk action, a create's no names), so they are
laid over the row that the copy holds, and only where the copy is of the same account. A create's
`createdAt` has milliseconds that lists do not have; it is cut to the second.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa

from paystack_source.bulk.results import RowResult, row_results
from paystack_source.bulk.runs import utc
from paystack_source.bulk.session import describe
from paystack_source.bulk.states import Outcome
from paystack_source.cli.failures import explain
from paystack_source.place import DUCKDB, duckdb_file, forget_other_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dlt.extract import DltResource
    from dlt.pipeline.pipeline import Pipeline

    from paystack_source.bulk.customer_copy import CustomerCopy
    from paystack_source.bulk.journal import Journal
    from paystack_source.bulk.plan import Plan
    from paystack_source.bulk.plan_file import PlanRow
    from paystack_source.bulk.runs import Run

PIPELINE: Final = "paystack_writeback"
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
        ("rows", pa.int64()),
        *((outcome.value, pa.int64()) for outcome in Outcome),
    ]
)
"""`write_back_runs`: one line per run, as it stands now."""

_JSON_COLUMNS: Final[dict[str, Any]] = {
    name: {"data_type": "json"} for name in ("before", "after", "secrets")
}
_SETS_COLUMNS: Final = frozenset({"risk-action", "update", "create"})


def find_copy(destination: str, dataset: str) -> CustomerCopy | None:
    """The warehouse copy for the planner, or None if there is none yet."""
    from paystack_source.bulk.customer_copy import arrow_copy, duckdb_copy  # noqa: PLC0415

    if destination in DUCKDB:
        path = duckdb_file(destination)
        if not path.is_file():
            return None
        try:
            there = _has_table(path, dataset, "customers", read_only=True)
        except duckdb.ConnectionException:  # this very process has it open for writing, e.g. a notebook
            with duckdb.connect(str(path)) as connection:
                if not _has_table(path, dataset, "customers", read_only=False):
                    return None
                return arrow_copy(connection.table(f'"{dataset}".customers').to_arrow_table())
        return duckdb_copy(path, dataset=dataset) if there else None
    from paystack_source.destinations import read_table  # noqa: PLC0415
    from paystack_source.source import CUSTOMER_COLUMNS  # noqa: PLC0415
    from paystack_source.warehouse import Warehouse  # noqa: PLC0415

    pipeline = _extract(destination, dataset)
    if not Warehouse(pipeline).total():
        return None
    held = read_table(pipeline, "customers", list(CUSTOMER_COLUMNS))
    return arrow_copy(held, destination=str(destination))


def load(runs: Iterable[Run], destination: str = "duckdb", dataset: str = "paystack") -> str | None:
    """Load what the warehouse has not got yet of these runs.

    Returns None, or in words why it could not be done.

    Never raises for the warehouse's sake: what Paystack did stands, and the journal keeps what is to be
    loaded.
    """
    try:
        for run in runs:
            with run.journal() as journal:
                seq = journal.last_seq
                if journal.loaded_seq == seq:
                    continue
                _load_run(run, journal, destination, dataset)
                journal.note_loaded(seq, time.time())
    except Exception as error:  # noqa: BLE001 - any destination's own errors
        if "different configuration" in str(error):
            return "The warehouse could not be updated: this program has its file open read-only; close it."
        return f"The warehouse could not be updated: {explain(error).message}"
    return None


def catch_up(
    runs: Iterable[Run], account: int | None, mode: str, destination: str, dataset: str
) -> str | None:
    """Load what the copy does not know of the runs on this account; None, or in words why not.

    To be called before the copy is believed: a row that an unloaded run changed would look as it was
    before.
    """
    return load((run for run in runs if _is_on(run, account, mode)), destination, dataset)


def _is_on(run: Run, account: int | None, mode: str) -> bool:
    with run.journal() as journal:
        about = journal.meta
    return about["key_mode"] == mode and (about["account"] in (account, None) or account is None)


def _pipeline(destination: str, dataset: str) -> Pipeline:
    """The write-back's own pipeline, in the dataset of the copy."""
    from paystack_source.mirror import open_pipeline  # noqa: PLC0415 - brings dlt, which takes a second

    pipeline = open_pipeline(destination, dataset, name=PIPELINE)
    forget_other_places(pipeline)
    return pipeline


def _extract(destination: str, dataset: str) -> Pipeline:
    """The extract's pipeline, to read the copy with: it knows the types of the columns."""
    from paystack_source.mirror import open_pipeline  # noqa: PLC0415

    pipeline = open_pipeline(destination, dataset)
    pipeline.sync_destination()
    return pipeline


def _load_run(run: Run, journal: Journal, destination: str, dataset: str) -> None:
    """One load: the run, its rows, the customers it changed."""
    plan = run.plan()
    from paystack_source.prepare import leave_nothing_behind  # noqa: PLC0415
    from paystack_source.single_writer import writing  # noqa: PLC0415

    pipeline = _pipeline(destination, dataset)
    with writing(pipeline):
        customers = _customer_tables(destination, dataset, plan, journal)
        if pipeline.has_pending_data:
            pipeline.abort_packages()  # of a load that failed; the journal it came from still says "not loaded"
        leave_nothing_behind(pipeline)
        resources = [
            _resource(pipeline, "write_back_runs", [_run_table(run, plan, journal)], "run_id"),
            _resource(pipeline, "write_back_rows", _row_tables(run, plan, journal), ("run_id", "row")),
        ]
        if customers:
            resources.append(_resource(pipeline, "customers", customers, "id"))
        pipeline.run(resources)


def _resource(
    pipeline: Pipeline, name: str, tables: Iterable[pa.Table], key: str | Sequence[str]
) -> DltResource:
    import dlt  # noqa: PLC0415

    from paystack_source.destinations import keeping, mean_it, storable  # noqa: PLC0415
    from paystack_source.source import CUSTOMER_COLUMNS  # noqa: PLC0415

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
    from paystack_source.warehouse import Warehouse  # noqa: PLC0415

    warehouse = Warehouse(_extract(destination, dataset))
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

    Columns that the copy does not have are left out; it keeps every column and type that it has.
    """
    rows = {row["id"]: row for row in held.to_pylist()}
    for number, change in changes.items():
        if number not in rows and not change.get("customer_code"):
            continue  # changed, but not in the copy, and too little known to add it
        row = rows.setdefault(number, {"id": number})
        row.update({name: value for name, value in change.items() if name in held.column_names})
    return pa.Table.from_pylist(list(rows.values()), schema=held.schema)


def _has_table(path: Path, dataset: str, table: str, *, read_only: bool) -> bool:
    with duckdb.connect(str(path), read_only=read_only) as connection:
        found = connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [dataset, table]
        ).fetchone()
    return found is not None


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
