"""What changed since yesterday: `_changed_at`, by every door, and the recipe of docs/howto/changes.md."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from paystack_source.api.client import PaystackClient
from paystack_source.customer import CHANGES
from paystack_source.source import paystack_source
from paystack_source.warehouse import copying
from paystack_source.warehouse.sync import copy_customers, open_pipeline

RECIPE = Path(__file__).parents[2] / "docs" / "howto" / "changes.md"


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    return open_pipeline("duckdb", "paystack")


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


def recipe(name):
    """A model of the page, as dbt runs it: the first time as a table, then by `unique_key`."""
    text = re.search(rf"```sql\n-- models/{name}\.sql\n(.*?)```", RECIPE.read_text(), re.DOTALL)[1]
    text = re.sub(r"\{\{ config\(.*?\) \}\}", "", text, flags=re.DOTALL)
    return re.sub(r"\{\{ source\('paystack', '(\w+)'\) \}\}", r"paystack.\1", text)


def run_incremental(name):
    sql = recipe(name)
    inner = re.search(r"\{% if is_incremental\(\) %\}(.*?)\{% endif %\}", sql, re.DOTALL)
    with duckdb.connect("paystack_customers.duckdb") as file:
        built = file.execute("select 1 from duckdb_tables() where table_name = ?", [name]).fetchone()
        question = sql.replace(inner[0], inner[1] if built else "").replace("{{ this }}", f"main.{name}")
        if not built:
            file.execute(f"create table main.{name} as {question}")
            return None
        file.execute(f"create temp table fresh as {question}")
        file.execute(f"delete from main.{name} where id in (select id from fresh)")
        file.execute(f"insert into main.{name} select * from fresh")
        return {number for (number,) in file.execute("select id from fresh").fetchall()}


def test_only_a_change_moves_the_time_by_every_door_and_the_recipe_takes_just_that(
    pipeline, sandbox, monkeypatch
):
    server = sandbox(customers=230)
    with monkeypatch.context() as earlier:  # a copy of a version that had no such columns
        older = {column.name for column in CHANGES}
        known = {name: hints for name, hints in copying.CUSTOMER_COLUMNS.items() if name not in older}
        earlier.setattr(copying, "CUSTOMER_COLUMNS", known)
        earlier.setattr(copying.Copying, "noted", lambda _self, rows: rows)
        copy(pipeline, server)
    seen = dict(ask("select id, _last_seen_at from paystack.customers"))

    # It goes on: whoever did not change has not changed since that version saw them.
    wanted = edited(server, 3, 200, risk_action="deny")
    copy(pipeline, server)
    first = changed_at()
    assert {number for number, at in first.items() if at > seen[number]} == wanted
    assert min(at for (at,) in ask("select _last_seen_at from paystack.customers")) > max(seen.values())
    assert run_incremental("customers_current") is None

    copy(pipeline, server)
    assert changed_at() == first

    wanted = edited(server, 7, metadata={"b": 1, "a": [2]})
    pipeline.run(paystack_source(server.secret_key, base_url=server.url, quota=0, refresh_budget=100))
    second = changed_at()
    assert later(first, second) == wanted
    assert run_incremental("customers_current") == wanted

    new = {row["customer_code"]: row["id"] for row in server.customers_truth()}
    wanted = edited(server, 100, first_name="Ada")
    server.add_customers(2)
    wanted |= {row["id"] for row in server.customers_truth() if row["customer_code"] not in new}
    copy(pipeline, server, history=True)
    assert later(second, changed_at()) == wanted
    assert run_incremental("customers_current") == wanted
    ours = "select id, first_name, metadata::varchar, risk_action from {} order by id"
    assert ask(ours.format("main.customers_current")) == ask(ours.format("paystack.customers"))
    changed, gone, then = map(ask, re.findall(r"```sql\n(select .*?)```", RECIPE.read_text(), re.DOTALL))
    assert (len(changed), gone) == (232, [])
    answers = {answer for _, answer in then}
    assert answers == {"not created yet", "not known: first seen later"}  # nobody looked at that time
