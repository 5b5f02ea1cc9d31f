"""The whole pipeline into every warehouse: the same rows, merged, proven, refound."""

import json
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from paystack_source import PaystackClient, bulk_set_risk_action
from paystack_source.extract import reader
from paystack_source.extract.arrow import SCHEMA
from paystack_source.tables import LOAD_ID
from paystack_source.warehouse import changes, queries
from paystack_source.warehouse.destinations import read_table
from paystack_source.warehouse.locations import is_lake
from paystack_source.warehouse.sync import CopyReport, copy_customers
from paystack_source.warehouse.write_back import WriteBack
from tests.docs import reference
from tests.warehouses.conftest import DATABASES, Warehouse

ODD = [
    {"first_name": "Ọmọ́lará", "last_name": "ادّيبايو", "phone": "+234 (0)803-000"},
    {"first_name": "李小龍", "last_name": "Ἀλέξανδρος", "phone": "0803"},
    {"first_name": 'O\'Brien; "q"\\n', "last_name": "\t\r\n,|", "phone": ""},
    {"first_name": "👩🏾‍💻", "last_name": "NULL", "phone": "\\N"},
    {"first_name": "null", "metadata": {"n": 12345678901234567890, "f": 1e300, "deep": [[{"a": None}]]}},
    {"metadata": {"ключ": 'quote " backslash \\ newline \n', "empty": {}, "control": "\u0001"}},
    {"metadata": []},
    {"metadata": {}},
]


@pytest.fixture
def api(sandbox):
    server = sandbox(customers=260, seed=3)
    codes = [row["customer_code"] for row in server.customers_truth()]
    for code, fields in zip(codes, ODD, strict=False):
        server.edit_customer(code, **fields)
    return server


def copy(place: Warehouse, machine: Path, api, budget: int = 0, **options: Any) -> CopyReport:
    with PaystackClient(api.secret_key, base_url=api.url, quota=0, read_only=True) as client:
        return copy_customers(place.pipeline(machine), client, refresh_budget=budget, **options)


def truth(api) -> dict[int, dict[str, Any]]:
    return {row["id"]: as_column_values(row) for row in api.customers_truth()}


def as_column_values(row: dict[str, Any]) -> dict[str, Any]:
    row = dict(row)
    for theirs, ours in (("createdAt", "created_at"), ("updatedAt", "updated_at")):
        row[ours] = datetime.fromisoformat(row.pop(theirs))
    return row


def held(place: Warehouse, machine: Path) -> dict[int, dict[str, Any]]:
    rows = read_table(place.pipeline(machine)).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        row["metadata"] = None if row["metadata"] is None else json.loads(row["metadata"])
    return {row["id"]: row for row in rows}


def assert_same(got: dict[int, dict[str, Any]], wanted: dict[int, dict[str, Any]]) -> None:
    assert got.keys() == wanted.keys()
    for number, row in wanted.items():
        assert {column: got[number][column] for column in row} == row


@pytest.mark.parametrize("kind", [*DATABASES, "parquet-s3", "delta-s3", "iceberg"])
def test_every_warehouse_holds_what_paystack_holds(kind, api, warehouse, tmp_path, monkeypatch):
    place, here = warehouse(kind), tmp_path / "here"
    first = copy(place, here, api, history=True, details=15)
    assert (first.complete, first.warehouse_total, first.rows_new) == (True, 260, 260)
    before = held(place, here)
    assert_same(before, truth(api))

    # Another machine, which has nothing of the first, reads only who is new. What was edited is found by the rolling
    # re-read, and so is a key that Paystack begins to send.
    there = tmp_path / "there"
    api.add_customers(3)
    edited = next(row for row in api.customers_truth() if row["risk_action"] == "default")
    api.edit_customer(edited["customer_code"], risk_action="deny", metadata={"edited": True})
    api.configure(new_keys=0.1)
    second = copy(place, there, api, budget=60, history=True)
    assert (second.complete, second.rows_new, second.rows_refreshed) == (True, 3, 260), second
    refreshed = held(place, there)
    assert_same(refreshed, truth(api))
    columns = set(next(iter(refreshed.values())))
    assert columns - set(SCHEMA.names) - {"_dlt_load_id", "_fingerprint", "_changed_at"}
    changed = refreshed.keys() - before.keys() | {edited["id"]}
    assert changed_since(before, refreshed) == differing(before, refreshed) >= changed

    pipeline = place.pipeline(there)
    check_ledger(pipeline, total=263)
    check_history(pipeline, edited["id"], everyone=set(refreshed))
    check_details(pipeline, fetched=15)
    check_write_back(place, there, api, tmp_path / "runs")
    before = held(place, there)
    with monkeypatch.context() as wrong:
        for module in (reader, changes):
            wrong.setattr(module, "datetime", Ahead)
        assert copy(place, there, api, full_refresh=True).complete
    after = held(place, there)
    assert_same(after, truth(api))
    assert changed_since(before, after) == set()
    assert rows_stored(pipeline) == 263
    if kind in DATABASES:
        check_descriptions(pipeline)
    else:  # a machine whose clock is ahead keeps no later change from being seen
        api.edit_customer(edited["customer_code"], risk_action="allow")
        assert copy(place, there, api, budget=60).complete
        assert_same(held(place, there), truth(api))


class Ahead(datetime):
    """The clock of a machine that is a year ahead."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(days=365)


COMMENTS = {
    "duckdb": """
        select table_name, null, comment from duckdb_tables() where schema_name = 'paystack'
        union all select table_name, column_name, comment from duckdb_columns() where schema_name = 'paystack'
    """,
    "postgres": """
        select relname, null, obj_description(oid, 'pg_class') from pg_class
        where relnamespace = to_regnamespace('paystack') and relkind = 'r'
        union all
        select table_name, column_name, col_description(('paystack.' || table_name)::regclass, ordinal_position)
        from information_schema.columns where table_schema = 'paystack'
    """,
}


def check_descriptions(pipeline) -> None:
    """The database says of each table and column what docs/tables.md says, and what may not be null is not."""
    with pipeline.sql_client() as client:
        rows = client.execute_sql(COMMENTS[pipeline.destination.destination_name])
        said = {(table, column): text for table, column, text in rows if not table.startswith("_dlt")}
        wanted = {(table.name, None): table.description for table in reference.TABLES}
        for table in reference.TABLES:
            wanted |= {(table.name, each.name): each.description for each in (*table.columns, LOAD_ID)}
            never = [each.name for each in table.columns if not each.nullable]
            nulls = " or ".join(f'"{name}" is null' for name in never)
            assert client.execute_sql(f"select count(*) from paystack.{table.name} where {nulls}") == [(0,)]
    assert {key: text for key, text in said.items() if text} == wanted
    assert {table for table, _ in said.keys() - wanted.keys()} == {"customers", "customers_history"}


def changed_since(before: dict[int, dict[str, Any]], after: dict[int, dict[str, Any]]) -> set[int]:
    """Who changed later than anybody had before, as the copy tells it."""
    latest = max(row["_changed_at"] for row in before.values())
    return {number for number, row in after.items() if row["_changed_at"] > latest}


def differing(before: dict[int, dict[str, Any]], after: dict[int, dict[str, Any]]) -> set[int]:
    """Whose values differ, but for the time that Paystack names."""

    def values(row: dict[str, Any]) -> dict[str, Any]:
        known = {name: value for name, value in row.items() if value is not None and not name.startswith("_")}
        return {name: value for name, value in known.items() if name != "updated_at"}

    return {number for number, row in after.items() if values(row) != values(before.get(number, {}))}


def check_ledger(pipeline, total: int) -> None:
    ledger = read_table(pipeline, "ledger").to_pylist()
    assert len({line["entry_id"] for line in ledger}) == len(ledger)
    assert {line["kind"] for line in ledger} >= {"first read", "refresh", "count"}
    assert all(line["proven"] for line in ledger)
    assert max(line["rows_held_after"] for line in ledger if line["kind"] == "count") == total


def check_history(pipeline, edited: int, everyone: set[int]) -> None:
    versions: dict[int, list[dict[str, Any]]] = {}
    for version in sorted(
        read_table(pipeline, "customers_history").to_pylist(), key=itemgetter("_valid_from")
    ):
        versions.setdefault(version["id"], []).append(version)
    assert versions.keys() == everyone
    assert [version["risk_action"] for version in versions[edited]] == ["default", "deny"]
    for some in versions.values():
        ends = [version["_valid_to"] for version in some]
        assert ends == [version["_valid_from"] for version in some[1:]] + [None]


def check_details(pipeline, fetched: int) -> None:
    assert len(set(read_table(pipeline, "customer_details")["id"].to_pylist())) == fetched
    cards = read_table(pipeline, "customer_authorizations")
    assert cards.num_rows
    assert cards["authorization_code"].null_count == cards["signature"].null_count == cards.num_rows


def rows_stored(pipeline) -> int:
    """Rows of the table as they lie there, every version."""
    every = '"every version of customers"' if is_lake(pipeline) else None
    ((number,),) = queries.Warehouse(pipeline).query(lambda sql: f"select count(*) from {every or sql.table}")
    return number


def check_write_back(place: Warehouse, machine: Path, api, runs: Path) -> None:
    """What is written back shows in the copy, and in tables of its own."""
    before = held(place, machine)
    earlier = datetime.now(UTC) - timedelta(
        minutes=1
    )  # a change within the second of another shows in no time
    unedited = [row for row in before.values() if earlier > row["updated_at"] == row["created_at"]]
    chosen = [row for row in unedited if row["risk_action"] == "default"][:12]
    frame = pd.DataFrame({"customer_code": [row["customer_code"] for row in chosen]})
    with PaystackClient(api.secret_key, base_url=api.url, quota=0) as client:
        done = bulk_set_risk_action(
            frame,
            "deny",
            client=client,
            destination=place.destination,
            results_folder=runs,
            progress=False,
        )
    assert done.summary["applied"] == 12

    after = held(place, machine)
    assert {
        number for number, row in after.items() if row["risk_action"] != before[number]["risk_action"]
    } == {row["id"] for row in chosen}
    assert changed_since(before, after) == {row["id"] for row in chosen}
    assert {column for column in SCHEMA.names if after[chosen[0]["id"]][column] != chosen[0][column]} == {
        "risk_action",
        "updated_at",
        "_last_seen_at",
    }
    audit = place.pipeline(machine / "auditor", "paystack_writeback")
    audit.sync_destination()
    (run,) = read_table(audit, "write_back_runs").to_pylist()
    assert (run["run_id"], run["operation"], run["applied"]) == (done.run_id, "risk-action", 12)
    assert WriteBack(place.destination).loaded_runs() == {done.run_id: run["events"]}
    rows = read_table(audit, "write_back_rows").to_pylist()
    assert {row["customer_id"] for row in rows} == {row["id"] for row in chosen}
    assert {(row["outcome"], json.loads(row["before"])["risk_action"]) for row in rows} == {
        ("applied", "default")
    }


def test_a_character_that_postgres_cannot_hold_does_not_stop_the_copy(api, warehouse, tmp_path):
    place = warehouse("postgres")
    codes = [row["customer_code"] for row in api.customers_truth()]
    api.edit_customer(codes[20], first_name="A\0B", metadata={"zero": "\0", "lone": "x"})
    report = copy(place, tmp_path / "here", api)
    assert report.complete
    row = next(row for row in held(place, tmp_path / "here").values() if row["customer_code"] == codes[20])
    assert row["first_name"] == "A\ufffdB"
    assert row["metadata"] == {"zero": "\0", "lone": "x"}
