"""What bulk runs did, as tables in the warehouse: `write_back_runs`, `write_back_rows`, and `customers`.

A second dlt pipeline, `paystack_writeback`, loads into the dataset of the copy, so its state and its pending work never
mix with the extract's. Every table is merged by key, so loading twice is harmless. The line of a run in
`write_back_runs` is loaded last, in a load of its own, so a load that broke off claims nothing.

A dataset holds one account's customers. A run of another account or key mode is not loaded beside them.

Paystack's answers to writes are partial (an update's has no risk action, a create's no names), so they are laid over
the row that the copy holds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import dlt
import pyarrow as pa

from paystack_source.customer import CUSTOMERS
from paystack_source.errors import ConfigError
from paystack_source.tables import WRITE_BACK_ROWS, WRITE_BACK_RUNS
from paystack_source.values import as_text, batches
from paystack_source.warehouse.changes import Changes, in_our_types
from paystack_source.warehouse.comments import write_comments
from paystack_source.warehouse.copies import Copy
from paystack_source.warehouse.destinations import merged, rows_to_load, table_layout
from paystack_source.warehouse.dlt_quirks import delete_loaded_files, repair_schema, silence_type_warnings
from paystack_source.warehouse.queries import Warehouse
from paystack_source.warehouse.single_writer import exclusive_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dlt.extract import DltResource
    from dlt.pipeline.pipeline import Pipeline

    from paystack_source.tables import Table

BATCH: Final = 10_000


class WriteBack(Copy):
    """The copy, and the tables of bulk runs beside it. It takes tables and values, and knows no plan and no journal."""

    __slots__ = ()

    def load(
        self, run: pa.Table, rows: Iterable[pa.Table], customers: Mapping[int, Mapping[str, Any]]
    ) -> None:
        """Load one run: its `rows`, the columns that it set by customer id, and last its own line.

        Raises `ConfigError` if the dataset holds the customers of another account or key mode; then nothing is loaded.
        """
        key_mode, account = (run[name][0].as_py() for name in ("key_mode", "account"))
        pipeline = self.writeback_pipeline()
        with exclusive_run(pipeline):
            held = Warehouse(self.extract_pipeline())
            accounts = held.accounts()
            if accounts and not _is_among(accounts, key_mode, account):
                raise ConfigError(
                    f"the dataset {self.dataset} holds the customers of another Paystack account or key mode.",
                    advice="Name another dataset for this account.",
                )
            sure = len(accounts) == 1 and (account is None or (key_mode, account) in accounts)
            changed = _changed_customers(held, customers) if sure else []
            if pipeline.has_pending_data:
                pipeline.abort_packages()  # of a load that failed; the copy does not claim to hold it
            delete_loaded_files(pipeline)
            repair_schema(pipeline)
            resources = [_resource(pipeline, WRITE_BACK_ROWS, rows)]
            if changed:
                resources.append(_resource(pipeline, CUSTOMERS, changed))
            pipeline.run(resources)
            pipeline.run(_resource(pipeline, WRITE_BACK_RUNS, [run]))
            write_comments(pipeline, pipeline.schemas.values())


def _is_among(
    accounts: set[tuple[str | None, int | None]], key_mode: str | None, account: int | None
) -> bool:
    """Whether this may be one of the accounts; what either side does not know is not compared."""
    return any(
        (None in (domain, key_mode) or domain == key_mode)
        and (None in (number, account) or number == account)
        for domain, number in accounts
    )


def _resource(pipeline: Pipeline, table: Table, rows: Iterable[pa.Table]) -> DltResource:
    silence_type_warnings(table.name)
    layout = table_layout(pipeline, table.name)
    made: DltResource = dlt.resource(map(rows_to_load, rows), **merged(table))
    made.apply_hints(
        write_disposition=layout.write_disposition,
        table_format=layout.table_format,
        file_format=layout.file_format,
        additional_table_hints={"description": table.description},
    )
    return made


def _changed_customers(held: Warehouse, changes: Mapping[int, Mapping[str, Any]]) -> list[pa.Table]:
    """The customers that a run changed, as whole rows: what the copy holds with the changes laid over it."""
    tables, noted = [], Changes(held)
    for ids in batches(sorted(changes), BATCH):
        rows = in_our_types(held.rows(ids))
        if len(rows.column_names):
            tables.append(noted.noted(overlay(rows, {number: changes[number] for number in ids})))
    return [table for table in tables if table.num_rows]


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
        return as_text(value)
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        text = value.strip() if isinstance(value, str) else ""
        return int(text) if pa.types.is_integer(kind) and re.fullmatch(r"-?\d{1,18}", text) else before
    return value
