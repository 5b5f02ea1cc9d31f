"""The recipe of SECURITY.md that erases a customer, word for word: afterwards no byte of them is left."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import duckdb
import pytest

from paystack_source.cli.terminal import run
from tests.canary import search

from .conftest import ROOT, Desk, load_script, sit_down

PERSON = {
    "email": "zuwairatu@erase.example",
    "first_name": "Zuwairatu",
    "last_name": "Onyemaechi",
    "phone": "08077766655",
}
MARKS = ["zuwairatu", "Zuwairatu", "Onyemaechi", "08077766655"]


def recipe():
    """The statements of the recipe, and its block of SQL."""
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("\n## Erase\n")[2]
    (rewrite,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    return "; ".join(re.findall(r"`(delete from .*?)`", page)), rewrite


def erase(code, email):
    """Steps 2 to 4; step 1 is Paystack's."""
    deletes, rewrite = recipe()
    with duckdb.connect("paystack_customers.duckdb") as connection:
        connection.execute(deletes.replace("CUS_…", code).replace("EMAIL", email))
    with duckdb.connect() as connection:
        connection.execute(rewrite)
    Path("new.duckdb").replace("paystack_customers.duckdb")
    for path in Path("paystack_results").iterdir():
        if path.name[0].isdigit() or path.name == "plans":
            shutil.rmtree(path)
    for path in Path().glob("*.csv"):
        path.unlink()


@pytest.fixture
def copied(tmp_path, monkeypatch, sandbox, capsys):
    """A desk with a copy of few customers, their details and their history."""
    api = sandbox(customers=6)
    sit_down(tmp_path, api, monkeypatch)
    assert run(load_script("customers").main, ["--details", "--history", "--quiet"]) == 0
    return Desk(tmp_path, api, capsys, load_script("bulk"))


def test_the_recipe_leaves_no_byte_of_a_customer_who_was_just_created(copied):
    """Of two, the answer to the first one is lost, and Paystack is asked who that is. A third one is no customer."""
    desk = copied
    desk.api.configure(faults="reset_after@writes#1")
    second = {**PERSON, "email": "not.taken@erase.example"}
    people = desk.csv("people.csv", [PERSON, PERSON, second, second])
    said = desk.bulk("run", "create", people, "--yes", copy=True)
    assert said.json["applied"] == 4, said.err
    desk.api.configure(faults="")
    codes = {c["email"]: c["customer_code"] for c in desk.api.customers_truth()}
    code, other = codes[PERSON["email"]], codes[second["email"]]
    with duckdb.connect("paystack_customers.duckdb", read_only=True) as connection:
        rows = connection.execute(
            "select customer_code, customer_id, email from paystack.write_back_rows"
        ).fetchall()
    assert all(row[0] and row[1] for row in rows)
    assert sorted(row[0] for row in rows) == sorted([code, other] * 2)  # also of the row that repeats it

    # Told anew, from the journal alone, it still has them.
    with duckdb.connect("paystack_customers.duckdb") as connection:
        connection.execute("delete from paystack.write_back_rows; delete from paystack.write_back_runs")
    assert desk.bulk("status", "--load", copy=True).code == 0
    with duckdb.connect("paystack_customers.duckdb", read_only=True) as connection:
        again = connection.execute(
            "select customer_code, customer_id, email from paystack.write_back_rows"
        ).fetchall()
    assert sorted(again) == sorted(rows)

    # Somebody whom Paystack refuses has no code.
    refused = desk.csv("deny.csv", [{"email": "nobody@erase.example"}])
    how = ["--risk-action", "deny", "--refresh", "never", "--yes"]
    assert desk.bulk("run", "risk-action", refused, *how, copy=True).json["rejected"] == 1

    assert run(load_script("customers").main, ["--details", "--history", "--quiet"]) == 0
    assert search(desk.folder, MARKS)
    assert search(desk.folder, ["nobody@erase.example"])
    erase("CUS_nobody", "NOBODY@erase.example")
    assert search(desk.folder, ["nobody@erase.example"]) == []
    erase(code, PERSON["email"])
    desk.csv("kept.csv", [{"note": "an input of somebody else"}])
    erase(other, second["email"])
    assert search(desk.folder, [*MARKS, code]) == []
    assert search(Path(os.environ["XDG_STATE_HOME"]), [*MARKS, code]) == []
    with duckdb.connect("paystack_customers.duckdb", read_only=True) as connection:
        assert connection.execute("select count(*) from paystack.customers").fetchone() == (6,)
