"""The view `paystack_all.all_customers`: the customers of every account, each with the name of its account.

Each run of `customers --account NAME` records in `paystack_all.accounts` which dataset holds that account, and creates
the view again over all existing datasets in that table. So a machine needs no settings for the accounts of the other
machines. The view exists in DuckDB and PostgreSQL, not for files.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from typing import Any, Final

from dlt.destinations.exceptions import DatabaseException
from dlt.destinations.sql_client import SqlClientBase
from dlt.pipeline.pipeline import Pipeline

from paystack_source.settings import ALL, SANDBOX, dataset_of
from paystack_source.values import quoted_name, quoted_text
from paystack_source.warehouse.locations import destination_is
from paystack_source.warehouse.single_writer import sql_client

log = logging.getLogger("paystack_source")
VIEW: Final = "all_customers"
_MIXED: Final = "text"
"""The type of a column whose types differ between datasets."""


def refresh_all_customers(pipeline: Pipeline, account_name: str) -> str | None:
    """Register the account and create the view again; returns its name, or None if the destination cannot have it."""
    postgres = destination_is(pipeline, "postgres")
    if not destination_is(pipeline, "postgres", "duckdb"):
        return None
    ending = SANDBOX if pipeline.dataset_name.endswith(SANDBOX) else ""
    schema = dataset_of(ALL) + ending
    with sql_client(pipeline) as client:
        view = _View(client, schema, postgres=postgres)
        try:
            view.refresh(account_name, pipeline.dataset_name)
        except DatabaseException:
            # PostgreSQL cannot replace a view by one that lacks a column or has it in another position.
            view.refresh(account_name, pipeline.dataset_name, drop=True)
        for names in view.same_accounts():
            log.warning(
                "%s are names of one Paystack account, so %s.%s has its customers more than once. Keep one name: "
                "delete the others from the settings, and from %s.accounts.",
                *(" and ".join(names), schema, VIEW, schema),
            )
    return f"{schema}.{VIEW}"


class _View:
    def __init__(self, client: SqlClientBase[Any], schema: str, *, postgres: bool) -> None:
        self._client = client
        self._schema = schema
        self._postgres = postgres
        self._accounts = f"{quoted_name(schema)}.accounts"
        self._view = f"{quoted_name(schema)}.{VIEW}"

    def refresh(self, account_name: str, dataset: str, *, drop: bool = False) -> None:
        """Replace the view, but only if its definition changed: a query of the view blocks the replacement."""
        with self._client.begin_transaction():
            if self._postgres:  # several accounts may be copied at once
                self._run(
                    f"SELECT pg_advisory_xact_lock(hashtextextended('paystack-source {self._schema}', 0))"
                )
            datasets = self._register(account_name, dataset)
            columns = self._columns(datasets)
            definition = _union(datasets, columns)
            digest = hashlib.sha256(definition.encode()).hexdigest()[:12]
            if digest in (self._comment() or ""):
                return
            if drop:
                self._run(f"DROP VIEW IF EXISTS {self._view}")
            self._run(f"CREATE OR REPLACE VIEW {self._view} AS {definition}")
            about = f"The customers of the accounts {', '.join(sorted(datasets))} ({digest})"
            self._run(f"COMMENT ON VIEW {self._view} IS {quoted_text(about)}")

    def same_accounts(self) -> list[list[str]]:
        """The names of each account that several datasets hold: two names with one key, or a name and its old one."""
        datasets = self._registered()
        columns = self._columns(datasets)
        holds = [
            f"SELECT * FROM (SELECT {quoted_text(name)} AS name, domain, CAST(integration AS text) AS number"
            f" FROM {quoted_name(dataset)}.customers WHERE integration IS NOT NULL LIMIT 1) AS one_customer"
            for name, dataset in sorted(datasets.items())
            if {"domain", "integration"} <= columns.get(dataset, {}).keys()
        ]
        names: dict[tuple[str, str], list[str]] = {}
        with contextlib.suppress(DatabaseException):  # this role may not read the datasets of other accounts
            for name, *account in self._run(" UNION ALL ".join(holds)) if holds else ():
                names.setdefault(tuple(account), []).append(name)
        return [sorted(each) for each in names.values() if len(each) > 1]

    def _register(self, account_name: str, dataset: str) -> dict[str, str]:
        """Register the dataset of this account, unless it is; returns the dataset of every registered account."""
        if self._registered().get(account_name) != dataset:
            self._run(f"CREATE SCHEMA IF NOT EXISTS {quoted_name(self._schema)}")
            self._run(
                f"CREATE TABLE IF NOT EXISTS {self._accounts} (account_name text PRIMARY KEY, dataset text NOT NULL)"
            )
            self._run(
                f"INSERT INTO {self._accounts} VALUES ({quoted_text(account_name)}, {quoted_text(dataset)})"
                " ON CONFLICT (account_name) DO UPDATE SET dataset = EXCLUDED.dataset"
            )
        return self._registered()

    def _registered(self) -> dict[str, str]:
        """The dataset of every registered account."""
        exists = self._run(
            "SELECT 1 FROM information_schema.tables WHERE table_catalog = current_database()"
            f" AND table_schema = {quoted_text(self._schema)} AND table_name = 'accounts'"
        )
        rows = self._run(f"SELECT account_name, dataset FROM {self._accounts}") if exists else ()
        return {str(name): str(registered) for name, registered in rows}

    def _columns(self, datasets: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """By existing dataset, the columns and types of its table `customers`."""
        names = ", ".join(map(quoted_text, datasets.values()))
        found: dict[str, dict[str, str]] = {}
        for dataset, column, kind in self._run(
            "SELECT table_schema, column_name, data_type FROM information_schema.columns"
            f" WHERE table_catalog = current_database() AND table_name = 'customers' AND table_schema IN ({names})"
            " ORDER BY table_schema, ordinal_position"
        ):
            if not str(column).startswith("_dlt") and column != "account_name":  # the view has its own one
                found.setdefault(str(dataset), {})[str(column)] = str(kind)
        return found

    def _comment(self) -> str | None:
        """The comment of the view; None if there is no view or no comment."""
        if self._postgres:
            rows = self._run(f"SELECT obj_description(to_regclass({quoted_text(self._view)}), 'pg_class')")
        else:
            rows = self._run(
                f"SELECT comment FROM duckdb_views() WHERE schema_name = {quoted_text(self._schema)}"
                f" AND view_name = {quoted_text(VIEW)} AND database_name = current_database()"
            )
        return rows[0][0] if rows else None

    def _run(self, sql: str) -> list[Any]:
        return list(self._client.execute_sql(sql) or ())


def _union(datasets: Mapping[str, str], columns: Mapping[str, Mapping[str, str]]) -> str:
    """The SELECT of the view. Datasets may differ in columns and types, e.g. in how the driver stores JSON."""
    kinds: dict[str, set[str]] = {}
    for each in columns.values():
        for name, kind in each.items():
            kinds.setdefault(name, set()).add(kind)

    def cell(name: str, dataset: str) -> str:
        (kind, *others), column = sorted(kinds[name]), quoted_name(name)
        if name not in columns[dataset]:
            return f"CAST(NULL AS {_MIXED if others else kind}) AS {column}"
        return f"CAST({column} AS {_MIXED}) AS {column}" if others else column

    return " UNION ALL ".join(
        f"SELECT {', '.join([f'{quoted_text(name)} AS account_name', *(cell(each, dataset) for each in kinds)])}"
        f" FROM {quoted_name(dataset)}.customers"
        for name, dataset in sorted(datasets.items())
        if dataset in columns
    )
