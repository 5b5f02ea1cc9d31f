"""What changed since yesterday: `_changed_at`, by every door, and the questions of docs/howto/changes.md.

The recipe for dbt is run by dbt itself, in `examples/test_examples.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from paystack_source.api.client import PaystackClient
from paystack_source.customer import CHANGES
from paystack_source.source import paystack_source
from paystack_source.warehouse import changes, copying
from paystack_source.warehouse.destinations import read_table
from paystack_source.warehouse.queries import Warehouse
from paystack_source.warehouse.sync import copy_customers, open_pipeline

RECIPE = Path(__file__).parents[2] / "docs" / "howto" / "changes.md"


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    with duckdb.connect("paystack_customers.duckdb"):  # to open it costs more than most of what it is asked
        yield open_pipeline("duckdb", "paystack")


def copy(pipeline, server, **options):
    with PaystackClient(server.secret_key, base_url=server.url, quota=0, read_only=True) as client:
        report = copy_customers(pipeline, client, **({"refresh_budget": 100} | options))
    assert report.complete


def ask(sql):
    with duckdb.connect("paystack_customers.duckdb") as file:
        return file.execute(sql).fetchall()


def changed_at():
    return dict(ask("select id, _changed_at from paystack.customers"))


def edited(server, *places, **fields):
    """Edit the customers at these places; their ids."""
    rows = list(server.customers_truth())
    for place in places:
        server.edit_customer(rows[place]["customer_code"], **fields)
    return {rows[place]["id"] for place in places}


def later(before, after):
    latest = max(at for at in before.values() if at)
    return {number for number, at in after.items() if at and at > latest}


def test_only_a_change_moves_the_time_by_every_door(pipeline, sandbox, monkeypatch):
    server = sandbox(customers=230)
    with monkeypatch.context() as earlier:  # a copy of a version that had no such columns
        older = {column.name for column in CHANGES}
        known = {name: hints for name, hints in copying.CUSTOMER_COLUMNS.items() if name not in older}
        earlier.setattr(copying, "CUSTOMER_COLUMNS", known)
        earlier.setattr(copying.Changes, "with_change_columns", lambda _self, rows: rows)
        copy(pipeline, server)
    seen = dict(ask("select id, _last_seen_at from paystack.customers"))

    # It goes on: whoever did not change has not changed since that version saw them.
    wanted = edited(server, 3, 200, risk_action="deny")
    copy(pipeline, server)
    first = changed_at()
    assert {number for number, at in first.items() if at > seen[number]} == wanted
    assert min(at for (at,) in ask("select _last_seen_at from paystack.customers")) > max(seen.values())

    touched = list(server.customers_truth())[50]
    server.edit_customer(
        touched["customer_code"], risk_action=touched["risk_action"]
    )  # `updated_at` moves alone
    left = max(first)  # as one who was not read again by then
    ask(f"update paystack.customers set _fingerprint = null, _changed_at = null where id = {left}")
    ((left_at,),) = ask(f"select _last_seen_at from paystack.customers where id = {left}")
    copy(pipeline, server)
    assert changed_at() == first | {left: left_at}
    first = changed_at()
    assert ask(f"select updated_at > created_at from paystack.customers where id = {touched['id']}") == [
        (True,)
    ]

    wanted = edited(server, 7, metadata={"b": 1, "a": [2]})
    pipeline.run(paystack_source(server.secret_key, base_url=server.url, quota=0, refresh_budget=100))
    second = changed_at()
    assert later(first, second) == wanted

    # By a machine whose clock is a day ahead of this one's.
    ask(
        f"update paystack.customers set _changed_at = _changed_at + interval 1 day where id = {touched['id']}"
    )
    second = changed_at()
    new = {row["customer_code"]: row["id"] for row in server.customers_truth()}
    wanted = edited(server, 100, first_name="Ada")
    server.add_customers(2)
    wanted |= {row["id"] for row in server.customers_truth() if row["customer_code"] not in new}
    copy(pipeline, server, history=True)
    assert later(second, changed_at()) == wanted
    changed, gone, then = map(ask, re.findall(r"```sql\n(select .*?)```", RECIPE.read_text(), re.DOTALL))
    assert (len(changed), gone) == (232, [])
    answers = {answer for _, answer in then}
    assert answers == {"not created yet", "not known: first seen later"}  # nobody looked at that time


def test_customers_who_lie_years_apart_are_compared_without_those_between(pipeline, sandbox, monkeypatch):
    """A copy of millions would be read into memory for the last load of its first run."""
    monkeypatch.setattr(changes, "FEW", 0)
    copy(pipeline, sandbox(customers=300))
    held = read_table(pipeline).sort_by("created_at")

    def compared(rows):
        where = changes.covering_condition(rows)
        found = Warehouse(pipeline).query(lambda sql: f"SELECT id FROM {sql.table} WHERE {where(sql)}")
        return {number for (number,) in found}

    some = pa.concat_tables([held.slice(0, 5), held.slice(295)])
    everybody, wanted = set(held["id"].to_pylist()), set(some["id"].to_pylist())
    assert wanted <= compared(some)
    assert len(compared(some)) < 30
    assert compared(held) == everybody
    assert compared(held.slice(7, 1)) >= set(held.slice(7, 1)["id"].to_pylist())
