"""`--details`: two tables that are filled by single fetches of customers, within a budget of requests.

    customer_details         identification and totals, one row per customer
    customer_authorizations  saved cards and accounts, one row each

A fetch is one request. So a run fetches only customers that are new or changed since their last fetch, newest first, up
to its budget; later runs fetch the rest. A query of the warehouse finds these customers, so the next run continues an
interrupted one.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import dlt
import pyarrow as pa
from dlt.extract import DltResource

from paystack_source.api.client import PaystackClient
from paystack_source.extract.details import (
    AUTHORIZATIONS,
    DETAILS,
    Due,
    Fetched,
    authorization_rows,
    details_row,
    failed_row,
    fetch_customers,
)
from paystack_source.extract.secrets import clear_fields
from paystack_source.settings import DETAILS_BUDGET
from paystack_source.values import parse_time
from paystack_source.warehouse.destinations import (
    apply_destination_hints,
    load,
    merged,
    require_own_table,
    rows_to_load,
    source_of,
)
from paystack_source.warehouse.dlt_quirks import active_pipeline, is_being_replaced, is_loaded
from paystack_source.warehouse.orchestrators import terminal_errors_in_extract
from paystack_source.warehouse.prepare import SCHEMA_NAME
from paystack_source.warehouse.queries import Warehouse, columns_of

log = logging.getLogger("paystack_source")
BATCH = 500


class DetailsReport(NamedTuple):
    """How many customers a run fetched, how many are left for later runs, and how many fetches failed."""

    fetched: int
    waiting: int
    failed: int = 0
    """Later runs try them again, after all others."""


def fetch_details(
    pipeline: dlt.Pipeline,
    client: PaystackClient,
    *,
    budget: int = DETAILS_BUDGET,
    include: Collection[str] = (),
    on_details: Callable[[int, int], None] | None = None,
) -> DetailsReport:
    """Fetch and load the details of customers that are new or changed, with at most `budget` requests.

    `include` names keys to keep in clear; otherwise `paystack_source.extract.secrets` leaves them out or masks them.
    `on_details` is called with the number of customers fetched so far, first 0, and the number to fetch. Raises
    `PaystackError` if the key was refused, or too many fetches failed in a row; the answers before that are loaded.
    """
    due, waiting = due_customers(pipeline, budget)
    failed, report = 0, on_details or (lambda _done, _total: None)
    report(0, len(due))
    for start in range(0, len(due), BATCH):
        answers: list[Fetched] = []
        try:
            for answer in fetch_customers(client, due[start : start + BATCH]):
                answers.append(answer)
                report(start + len(answers), len(due))
        finally:  # after an interruption too, because each answer cost a request
            if answers:
                fetched = details_resources(functools.partial(iter, answers), include)
                load(pipeline, source_of(SCHEMA_NAME, *fetched))
        failed += sum(answer.failure is not None for answer in answers)
    return DetailsReport(len(due) - failed, waiting, failed)


def require_details_tables(pipeline: dlt.Pipeline) -> None:
    """Refuse tables of somebody else's before the customers are read, not an hour later."""
    for table in (DETAILS, AUTHORIZATIONS):
        require_own_table(pipeline, table, table.name)


def details_resources(
    answers: Callable[[], Iterable[Fetched]], include: Collection[str] = ()
) -> tuple[DltResource, DltResource]:
    """The two tables as dlt resources; `answers` is called when dlt begins to extract."""
    include = clear_fields(include)

    def fetched() -> Iterator[list[Fetched]]:
        with terminal_errors_in_extract():
            apply_destination_hints(DETAILS, AUTHORIZATIONS)
            pairs = iter(answers())
            while batch := list(itertools.islice(pairs, BATCH)):
                yield batch

    def details(batch: list[Fetched]) -> pa.Table:
        rows = [details_row(fetched, include) for fetched in batch if fetched.failure is None]
        if failed := [fetched for fetched in batch if fetched.failure is not None]:
            log.warning(
                "The details of %s customers could not be fetched: %s", len(failed), failed[0].failure
            )
            held = _held([fetched.due.id for fetched in failed])
            rows += [failed_row(fetched, held.get(fetched.due.id)) for fetched in failed]
        return rows_to_load(pa.Table.from_pylist(rows, schema=DETAILS.schema))

    def authorizations(batch: list[Fetched]) -> pa.Table | None:
        rows = [
            row
            for fetched in batch
            if fetched.failure is None
            for row in authorization_rows(fetched, include)
        ]
        return rows_to_load(pa.Table.from_pylist(rows, schema=AUTHORIZATIONS.schema)) if rows else None

    source = dlt.resource(fetched, name="fetched_customers", selected=False)
    return (
        source | dlt.transformer(details, **merged(DETAILS)),
        source | dlt.transformer(authorizations, **merged(AUTHORIZATIONS)),
    )


def _held(ids: list[int]) -> dict[int, dict[str, Any]]:
    """The rows of these customers in `customer_details`."""
    return {row["id"]: row for row in Warehouse(active_pipeline(), DETAILS.name).rows(ids).to_pylist()}


# -- customers that are due ---------------------------------------------------------------------------------


def due_customers(pipeline: dlt.Pipeline, budget: int) -> tuple[list[Due], int]:
    """The newest customers with missing or stale details, and the number of further ones."""
    warehouse = Warehouse(pipeline)
    exists = is_loaded(pipeline, DETAILS.name) and not is_being_replaced(DETAILS.name)
    has_failures = exists and "failed_at" in columns_of(pipeline, DETAILS.name)

    def stale(sql: Any) -> str:  # noqa: ANN401
        details = sql.named(DETAILS.name) if exists else None
        join = f" LEFT JOIN {details} d ON d.{sql.col('id')} = c.{sql.col('id')}" if details else ""
        pairs = [
            (f"d.{sql.col(f'row_{name}')}", f"c.{sql.col(name)}") for name in ("updated_at", "risk_action")
        ]
        # A null on one side only is a difference too. Not every destination has IS DISTINCT FROM.
        changes = [
            f"{fetched} <> {now} OR ({fetched} IS NULL AND {now} IS NOT NULL)"
            f" OR ({fetched} IS NOT NULL AND {now} IS NULL)"
            for fetched, now in pairs
        ]
        changes += [f"d.{sql.col('failed_at')} IS NOT NULL"] if has_failures else []
        differs = f" AND (d.{sql.col('id')} IS NULL OR {' OR '.join(changes)})" if details else ""
        return f" FROM {sql.table} c{join} WHERE c.{sql.present}{differs}"

    def failed_last(sql: Any) -> str:  # noqa: ANN401
        return f"CASE WHEN d.{sql.col('failed_at')} IS NULL THEN 0 ELSE 1 END, " if has_failures else ""

    held = "d.{0}".format if exists else "NULL AS {0}".format
    total = warehouse.query(lambda sql: f"SELECT COUNT(*){stale(sql)}")
    rows = warehouse.query(
        lambda sql: (
            f"SELECT c.{sql.col('id')}, c.{sql.col('customer_code')}, c.{sql.col('updated_at')},"
            f" c.{sql.col('risk_action')}, {held(sql.col('authorizations'))}{stale(sql)}"
            f" ORDER BY {failed_last(sql)}c.{sql.col('created_at')} DESC, c.{sql.col('id')} DESC LIMIT {budget:d}"
        )
    )
    due = [Due(int(r[0]), r[1], r[2] and parse_time(r[2]), r[3], int(r[4] or 0)) for r in rows]
    return due, int(total[0][0]) - len(due) if total else 0
