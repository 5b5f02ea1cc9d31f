"""Several accounts in one warehouse: at once in PostgreSQL, one after the other in a DuckDB file, and the view over all."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import psycopg2

from paystack_source.errors import ExitCode
from tests.accounts.conftest import NUMBERS, accounts, command  # noqa: F401  # fixtures
from tests.events import PATIENCE, Gate, until
from tests.processes import python

ROOT = Path(__file__).resolve().parents[2]
COUNTS = "select account_name, count(*), min(integration), max(integration) from {}.all_customers group by 1 order by 1"
ALL = [(name, customers, number, number) for name, (number, customers) in NUMBERS.items()]


def begin(name, *words):
    """`customers --account NAME` as a process of its own."""
    return subprocess.Popen(
        [python(), str(ROOT / "pipelines" / "customers.py"), "--account", name, *words, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def end(process):
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


def test_accounts_are_copied_into_one_postgresql_at_once_and_none_is_lost_from_the_view(
    warehouse,
    postgres,
    accounts,  # noqa: F811
):
    made = warehouse("postgres")
    database = made.environment["DESTINATION__POSTGRES__CREDENTIALS"].rpartition("/")[2]
    where = ("--destination", "postgres")
    gates = [Gate(accounts[name], lambda: True) for name in ("gh", "ke")]
    running = {name: begin(name, *where) for name in ("gh", "ke")}
    for gate in gates:  # each run has its locks by now, and none waits for another one
        gate.wait()
    for gate in gates:
        gate.open()
    ended = {name: end(process) for name, process in running.items()}
    assert {name: said["warehouse_total"] for name, (said, _) in ended.items()} == {"gh": 30, "ke": 40}
    assert not [err for _, err in ended.values() if "warning" in err]
    assert postgres.execute(COUNTS.format("paystack_all"), database) == ALL[:2]

    other = psycopg2.connect(postgres.url(database))
    with (
        contextlib.closing(other),
        other,
        other.cursor() as cursor,
    ):  # a run that notes its account, not committed yet
        cursor.execute("select pg_advisory_xact_lock(hashtextextended('paystack-source paystack_all', 0))")
        cursor.execute("insert into paystack_all.accounts values ('accra', 'paystack_gh')")
        waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted"
        process = begin("ng", *where)
        until(lambda: process.poll() is not None or postgres.execute(waiting, database))
        assert process.poll() is None
    end(process)
    names = "select distinct account_name from paystack_all.all_customers order by 1"
    assert postgres.execute(names, database) == [("accra",), ("gh",), ("ke",), ("ng",)]


def test_the_view_follows_what_the_datasets_are_like(warehouse, postgres, accounts, command):  # noqa: F811
    made = warehouse("postgres")
    database = made.environment["DESTINATION__POSTGRES__CREDENTIALS"].rpartition("/")[2]
    view = "from paystack_all.all_customers"

    def copied(name="gh"):
        """The run, and which view there is after it."""
        done = command("customers", "--account", name, "--destination", "postgres", "--refresh-budget", "0")
        assert done.code == ExitCode.OK, done.err
        return done, postgres.execute("select oid from pg_class where relname = 'all_customers'", database)

    def altered(*changes):
        for dataset, change in changes:
            postgres.execute(f"alter table paystack_{dataset}.customers {change}", database)

    copied("ke")
    _, first = copied("gh")
    rows = "select account_name, xmin::text from paystack_all.accounts order by 1"
    state = "select xmin::text from pg_class where relname = 'all_customers'"
    written = [postgres.execute(each, database) for each in (rows, state)]
    assert [name for name, _ in written[0]] == ["gh", "ke"]
    copied("gh")  # it changes neither account nor view, and writes neither
    assert [postgres.execute(each, database) for each in (rows, state)] == written
    altered(("ke", "add column zone text"))
    assert copied()[1] == first  # replaced: what is built on it stays
    altered(("gh", "add column loyalty text"), ("ke", "add column loyalty bigint"))
    done, second = copied()
    assert second != first  # columns came before others
    assert "warning" not in done.err
    kinds = postgres.execute(
        f"select distinct pg_typeof(loyalty)::text, pg_typeof(zone)::text {view}", database
    )
    assert kinds == [("text", "text")]
    postgres.execute(f"create view public.mine as select account_name, loyalty {view}", database)
    altered(("gh", "add column tier text"))
    done, third = copied()
    assert (third, "warning: The view all_customers could not be renewed" in done.err) == (second, True)
    postgres.execute("drop schema paystack_ke cascade", database)
    altered(("gh", "add column account_name text"))  # a key that Paystack might send
    done, _ = copied()
    assert "warning" not in done.err
    assert postgres.execute(COUNTS.format("paystack_all"), database) == ALL[:1]


def test_into_one_duckdb_file_one_goes_after_the_other(accounts, command):  # noqa: F811
    gate = Gate(accounts["gh"], lambda: True)
    first = begin("gh")
    gate.wait()  # the file is open by now
    for whose in ("ng", "gh"):
        second = command("customers", "--account", whose)
        assert second.code == ExitCode.UNEXPECTED
        assert "another" in second.json["message"].lower()
        assert "ait" in second.json["advice"]
    gate.open()
    assert end(first)[0]["warehouse_total"] == 30
    done = command("customers", "--account", "ng")
    assert (done.code, done.json["warehouse_total"]) == (0, 50), done.err
    rows = command("query", COUNTS.format("paystack_all")).json["rows"]
    assert [tuple(row) for row in rows] == [row for row in ALL if row[0] != "ke"]


def test_the_view_of_a_practice_run_is_its_own(warehouse, postgres, command, monkeypatch):  # noqa: F811
    made = warehouse("postgres")
    database = made.environment["DESTINATION__POSTGRES__CREDENTIALS"].rpartition("/")[2]
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "20")
    done = command("customers", "--sandbox", "--account", "ng", "--destination", "postgres")
    assert done.code == ExitCode.OK, done.err
    found = postgres.execute("select table_schema, table_name from information_schema.views where table_name = 'all_customers'",
                             database)  # fmt: skip
    assert found == [("paystack_all_sandbox", "all_customers")]
    assert postgres.execute(
        "select account_name, count(*) from paystack_all_sandbox.all_customers group by 1", database
    ) == [("ng", 20)]


def test_files_have_no_view_and_need_none(warehouse, accounts, command):  # noqa: F811
    warehouse("parquet")
    done = command("customers", "--account", "gh", "--destination", "filesystem")
    assert (done.code, done.json["warehouse_total"], "all accounts" in done.err) == (0, 30, False), done.err
