"""The tables that runs leave in the warehouse, and what happens when it is not there."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from dlt.destinations.impl.duckdb.duck import DuckDbCopyJob

from paystack_source import bulk_set_risk_action, settings
from paystack_source.bulk.plan.plan import Plan
from paystack_source.bulk.run.runs import Runs
from paystack_source.cli.terminal import run
from paystack_source.file_lock import DUCKDB_FILES
from paystack_source.warehouse import write_back
from paystack_source.warehouse.single_writer import exclusive_run
from paystack_source.warehouse.sync import open_pipeline
from paystack_source.warehouse.write_back import WriteBack, overlay
from tests.bulk_run.conftest import load_script
from tests.canary import search

HISTORY = """
    select who, input, before->>'risk_action' as old, "after"->>'risk_action' as new, outcome, finished_at
    from paystack.write_back_rows join paystack.write_back_runs using (run_id)
    where customer_code = ? order by finished_at, run_id
"""


def ask(desk, sql, *values):
    with duckdb.connect(str(desk.folder / "paystack_customers.duckdb"), read_only=True) as connection:
        return connection.execute(sql, list(values)).fetchall()


def test_who_did_what_to_whom_is_one_query_and_the_copy_is_up_to_date(copied):
    path = copied.listed(10)
    with duckdb.connect(str(copied.folder / "paystack_customers.duckdb")) as connection:
        minute = (
            "updated_at = updated_at - INTERVAL 1 MINUTE"  # so that no change is in the second of the read
        )
        ahead = "_last_seen_at = _last_seen_at + INTERVAL 1 HOUR"  # read by a machine whose clock is ahead
        connection.execute(f"UPDATE paystack.customers SET {minute}, {ahead}")
    codes = [c["customer_code"] for c in copied.customers(10)]
    denied = copied.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes", copy=True)
    assert (denied.code, denied.json.get("applied")) == (0, 10), denied.err
    assert not denied.json["warnings"]
    held = ask(copied, "select distinct risk_action from paystack.customers where customer_code in ?", codes)
    assert held == [("deny",)]
    undone = copied.bulk("undo", denied.json["run_id"], "--yes", copy=True)
    assert (undone.code, undone.json["applied"]) == (0, 10), undone.err

    lines = ask(copied, HISTORY, codes[0])
    assert [line[2:5] for line in lines] == [("default", "deny", "applied"), ("deny", "default", "applied")]
    assert lines[0][0]
    assert lines[0][1] == str(path)
    counts = ask(
        copied, "select applied, rejected, undo_of from paystack.write_back_runs order by started_at"
    )
    assert counts == [(10, 0, None), (10, 0, denied.json["run_id"])]
    assert ask(copied, "select count(*), count(distinct id) from paystack.customers") == [(60, 60)]
    assert ask(copied, "select count(*) from paystack.customers where created_at is null") == [(0,)]

    for one in Runs():
        with one.journal() as journal:
            assert not journal.answer_of(1)


def test_created_customers_are_in_the_copy_at_once(copied):
    people = [{"email": f"new{n}@example.com", "first_name": f"Ada {n}"} for n in range(3)]
    said = copied.bulk("run", "create", copied.csv("people.csv", people), "--yes", copy=True)
    assert said.json["applied"] == 3
    sql = """select email, first_name, created_at, domain from paystack.customers
             where email like 'new%' order by 1"""
    rows = ask(copied, sql)
    assert [(row[0], row[1], row[3]) for row in rows] == [
        (f"new{n}@example.com", f"Ada {n}", "test") for n in range(3)
    ]
    assert all(row[2].microsecond == 0 for row in rows)
    # The extract running on changes nothing.
    assert run(load_script("customers").main, ["--quiet"]) == 0
    assert ask(copied, "select count(*), count(distinct id) from paystack.customers") == [(63, 63)]
    assert ask(copied, "select count(*) from paystack.write_back_rows") == [(3,)]
    # Who is a customer whom the copy lacks keeps the names that the row has not set; the answer shows none.
    copied.api.configure(answers="docs")
    copied.api.add_customers(
        1, created_at="2025-01-01T00:00:00Z", email="known@example.com", first_name="Uche"
    )
    known = copied.csv("known.csv", [{"email": "known@example.com", "first_name": "Ada"}])
    said = copied.bulk("run", "create", known, "--yes", copy=True)
    assert [reason["code"] for reason in said.json["reasons"]] == ["exists"]
    assert ask(copied, "select first_name from paystack.customers where email = 'known@example.com'") == []


def test_a_locked_warehouse_loses_and_doubles_nothing(copied, monkeypatch):
    monkeypatch.setitem(settings.QUOTA_BY_MODE, "test", 5)
    path = copied.risk_file(20)  # more than a plan reads from Paystack unless it must
    locked = OSError("Could not set lock on file")
    real = WriteBack.load

    def fail(*_args, **_more):
        raise locked

    monkeypatch.setattr(WriteBack, "load", fail)
    said = copied.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes", copy=True)
    assert (said.code, said.json["applied"]) == (0, 20)
    assert "could not be updated" in said.json["warnings"][0]
    assert f"status {said.json['run_id']} --load" in said.err

    # As long as the copy does not know, it is not believed: the next plan reads the customers themselves.
    again = copied.bulk("plan", "risk-action", path, "--risk-action", "default", copy=True)
    assert (again.json["to_send"], again.json["noop"]) == (20, 0)
    assert "read live" in again.err

    monkeypatch.setattr(WriteBack, "load", real)
    copied.bulk("status", said.json["run_id"], "--load", copy=True)
    copied.bulk("status", said.json["run_id"], "--load", copy=True)
    assert ask(copied, "select applied from paystack.write_back_runs") == [(20,)]
    assert ask(copied, "select count(*) from paystack.write_back_rows") == [(20,)]
    codes = [customer["customer_code"] for customer in copied.customers(20)]
    held = "select risk_action, count(*) from paystack.customers where customer_code in ? group by all"
    assert ask(copied, held, codes) == [("deny", 20)]


def test_an_interrupt_while_the_copy_is_told_of_a_run_is_heard(copied, monkeypatch):
    path = copied.risk_file(5)
    codes = [customer["customer_code"] for customer in copied.customers(5)]

    def stop(*_args, **_more):
        raise KeyboardInterrupt  # dlt makes an exception of it, which is caught as any other

    monkeypatch.setattr("dlt.load.load.Load.load_single_package", stop)
    said = copied.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes", copy=True)
    assert (said.code, said.json["applied"]) == (0, 5)  # how it went is told
    assert "Interrupted. Later: " in said.err
    again = copied.bulk("run", "risk-action", path, "--risk-action", "allow", "--yes", copy=True)
    assert (again.code, again.json["status"]) == (130, "interrupted")
    assert {copied.truth(code)["risk_action"] for code in codes} == {"deny"}
    assert copied.bulk("status", "--load", copy=True).code == 130


def test_dlts_folder_whose_schema_is_gone_is_made_anew(copied):
    """As after two loads from different working folders, one of which dropped the state of the other."""
    path, deny = copied.listed(5), ["--risk-action", "deny", "--yes"]
    assert not copied.bulk("run", "risk-action", path, *deny, copy=True).json["warnings"]
    folder = Path(os.environ["DLT_DATA_DIR"]) / "pipelines" / write_back.WRITE_BACK_PIPELINE
    for file in (folder / "schemas").iterdir():
        file.unlink()
    with duckdb.connect(str(copied.folder / "paystack_customers.duckdb")) as connection:
        connection.execute("update paystack.write_back_runs set events = 0")  # it is loaded again
    assert "could not" not in copied.bulk("status", "--load", copy=True).err
    assert ask(copied, "select count(*) from paystack.write_back_rows") == [(5,)]


def test_a_load_that_broke_off_between_its_tables_leaves_no_rows_in_dlts_folder(copied, monkeypatch):
    path = copied.listed(5)
    real = DuckDbCopyJob.run

    def fail(job):
        if "customers." in Path(job._file_path).name:
            raise OSError("gone")
        real(job)

    with monkeypatch.context() as broken:
        broken.setattr(DuckDbCopyJob, "run", fail)
        said = copied.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes", copy=True)
    assert "could not be updated" in said.json["warnings"][0]
    codes = [customer["customer_code"] for customer in copied.customers(5)]
    folder = Path(os.environ["DLT_DATA_DIR"]) / "pipelines" / write_back.WRITE_BACK_PIPELINE
    assert search(folder, codes)
    copied.bulk("status", said.json["run_id"], "--load", copy=True)
    assert ask(copied, "select count(*) from paystack.write_back_rows") == [(5,)]
    assert not search(folder, codes)


def test_without_a_copy_the_runs_are_still_recorded_and_the_plan_is_read_once_for_each_use(desk, monkeypatch):
    read, batches = [], Plan.batches
    monkeypatch.setattr(Plan, "batches", lambda plan: read.append(plan) or batches(plan))
    said = desk.bulk("run", "risk-action", desk.risk_file(3), "--risk-action", "deny", "--yes", copy=True)
    assert said.json["applied"] == 3
    assert len(read) == 4  # to be shown, to be sent, for numbers and files, for the warehouse
    assert ask(desk, "select applied from paystack.write_back_runs") == [(3,)]
    tables = ask(desk, "select table_name from duckdb_tables() where schema_name = 'paystack'")
    assert ("customers",) not in tables


@pytest.mark.parametrize("broken", ["_columns", "_moment", "json_text", "report"])
def test_what_cannot_be_recorded_costs_no_result_file(desk, monkeypatch, broken):
    def fail(*_args, **_more):
        raise ValueError("odd")

    path = desk.risk_file(3)
    with monkeypatch.context() as patch:
        patch.setattr(f"paystack_source.bulk.run.recording.{broken}", fail)
        said = desk.bulk(
            "run", "risk-action", path, "--risk-action", "deny", "--yes", "--refresh", "live", copy=True
        )
    assert (said.code, said.json["applied"]) == (0, 3), said.err
    assert [row["_status"] for row in desk.results(said)] == ["applied"] * 3
    assert "could not be updated" in said.json["warnings"][0]
    with Runs().open("latest").journal() as journal:
        assert journal.answer_of(1)  # kept until they are loaded


HELD = pa.table(
    {
        "id": pa.array([1, 2], pa.int64()),
        "customer_code": ["CUS_1", "CUS_2"],
        "email": ["a@example.com", "b@example.com"],
        "first_name": ["Ada", None],
        "risk_action": ["default", "deny"],
        "vip": ["yes", None],  # a column that only this copy has
        "_last_seen_at": pa.array([None, None], pa.timestamp("us", tz="UTC")),
    }
)
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_partial_answers_are_laid_over_the_held_row():
    change = {"risk_action": "allow", "first_name": None, "unheard_of": 1, "_last_seen_at": NOW}
    laid = overlay(HELD, {1: change}).to_pylist()[0]
    assert laid["risk_action"] == "allow"
    assert laid["first_name"] is None
    assert laid["_last_seen_at"] == NOW
    assert (laid["email"], laid["vip"], laid["customer_code"]) == ("a@example.com", "yes", "CUS_1")
    assert "unheard_of" not in laid


def test_new_customers_are_added_and_unknown_ones_are_not():
    added = overlay(HELD.slice(0, 0), {7: {"customer_code": "CUS_7", "email": "c@example.com"}, 8: {}})
    known = {"id": 7, "customer_code": "CUS_7", "email": "c@example.com"}
    assert added.to_pylist() == [{name: known.get(name) for name in HELD.column_names}]
    assert added.schema == HELD.schema


def test_a_notebook_that_has_the_file_open_can_go_on(copied):
    codes = [c["customer_code"] for c in copied.customers(3)]
    for code in codes:
        copied.api.edit_customer(code, risk_action="default")
    frame = pd.DataFrame({"customer_code": codes})
    with duckdb.connect(str(copied.folder / "paystack_customers.duckdb")) as open_here:
        result = bulk_set_risk_action(frame, "deny", refresh="live", progress=False)
        assert result.summary["applied"] == 3
        assert result.summary["warnings"] == []
        sql = "select distinct risk_action from paystack.customers where customer_code in ?"
        assert open_here.execute(sql, [codes]).fetchall() == [("deny",)]
    with duckdb.connect(str(copied.folder / "paystack_customers.duckdb"), read_only=True):
        result = bulk_set_risk_action(frame, "allow", progress=False)
        assert result.summary["applied"] == 3
        assert "read_only" in result.summary["warnings"][0]


def test_a_load_waits_for_a_thread_that_reads_the_file(copied):
    begun = threading.Event()

    def read():
        with DUCKDB_FILES, duckdb.connect(str(copied.folder / "paystack_customers.duckdb"), read_only=True):
            begun.set()
            time.sleep(0.3)

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read)
        begun.wait()
        with exclusive_run(open_pipeline("duckdb", "paystack")):
            assert reading.done()


def test_a_damaged_run_is_named_and_customers_are_read_live(copied):
    deny = ["risk-action", copied.risk_file(2), "--risk-action", "deny"]
    said = copied.bulk("run", *deny, "--yes")
    (copied.folder / "paystack_results" / said.json["run_id"] / "journal.sqlite").write_bytes(b"")
    planned = copied.bulk("plan", *deny, copy=True)
    assert planned.code == 0
    assert said.json["run_id"] in planned.err
    assert "customers are read live" in planned.err
