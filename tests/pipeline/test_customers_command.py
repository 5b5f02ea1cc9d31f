"""`pipelines/customers.py` as a person or a scheduler calls it: what it says, and with which code it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import paystack_source
from paystack_source.cli.terminal import run
from paystack_source.errors import ExitCode
from paystack_source.warehouse.sync import open_pipeline
from tests.events import PATIENCE, Gate
from tests.processes import python

SCRIPT = Path(__file__).resolve().parents[2] / "pipelines" / "customers.py"
FIELDS = {
    "status", "rows_seen", "rows_loaded", "api_total", "warehouse_total", "requests", "retries", "rate_limited",
    "windows", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("customers_under_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder, and no key but what a test sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    for name in ("PAYSTACK_SECRET_KEY", "SOURCES__PAYSTACK__SECRET_KEY", "SOURCES__PAYSTACK__BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def paystack(sandbox, monkeypatch):
    """A sandbox that the environment points to, as it would to Paystack."""

    def start(customers=120, **options):
        server = sandbox(customers=customers, **options)
        monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", server.secret_key)
        monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", server.url)
        return server

    return start


def said(capsys):
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None, captured.err


def test_a_range_that_is_not_proven_shows_the_total_that_paystack_gives(command, paystack, capsys):
    paystack(total_off=3)
    assert run(command, ["--json", "--from", "2020-01-01"]) == ExitCode.UNPROVEN
    assert said(capsys)[0]["api_total"] == 123


def test_a_full_refresh_says_what_it_did_and_promises_nothing_for_later_runs(command, paystack, capsys):
    paystack()
    assert run(command, ["--quiet"]) == ExitCode.OK
    assert run(command, ["--full-refresh", "--quiet"]) == ExitCode.OK
    shown = capsys.readouterr().out.split("Complete")[-1]
    assert "120, into a new table, which replaced the old one" in shown
    assert "new  " not in shown
    assert "read again" not in shown


def test_a_run_says_that_it_dropped_an_interrupted_load_and_read_it_again(command, paystack, capsys):
    server = paystack()
    pipeline = open_pipeline("duckdb", "paystack")
    source = paystack_source(server.secret_key, base_url=server.url, quota=0)
    with pytest.raises(PipelineStepFailed, match="normalize"):  # dlt asks it of the ledger too
        pipeline.run(source, columns={"email": {"nullable": False}})
    assert pipeline.has_pending_data
    assert run(command, ["--json"]) == ExitCode.OK
    summary, talk = said(capsys)
    assert summary["warehouse_total"] == 120
    assert "warning: A load that was interrupted cannot be loaded" in talk
    assert "its customers are read again" in talk


def test_a_run_ends_with_its_summary_and_says_whose_customers_they_are(command, paystack, capsys):
    server = paystack()
    assert run(command, ["--json"]) == ExitCode.OK
    summary, talk = said(capsys)
    assert set(summary) >= FIELDS
    assert (summary["status"], summary["from"], summary["to"]) == ("complete", None, None)
    assert summary["api_total"] == summary["warehouse_total"] == summary["rows_loaded"] == 120
    assert "Complete: every customer is here" in talk
    number = next(iter(server.customers_truth()))["integration"]
    assert (summary["key_mode"], summary["account"]) == ("test", number)
    assert f"test, integration {number}" in talk
    with duckdb.connect("paystack_customers.duckdb", read_only=True) as copy:
        assert copy.sql("select count(*) from paystack.customers").fetchone() == (120,)
        assert copy.sql("select bool_and(proven) from paystack.ledger").fetchone() == (True,)


def test_who_is_read_twice_in_a_run_makes_no_more_than_all_of_it(command, paystack, capsys):
    paystack()
    assert run(command, ["--from", "2026-01-01", "--to", "2026-02-01"]) == ExitCode.OK
    said(capsys)
    assert run(command, ["--json"]) == ExitCode.OK
    summary, talk = said(capsys)
    assert summary["rows_loaded"] > summary["api_total"]
    assert f"{summary['rows_loaded']} of {summary['rows_loaded']} customers (100 %)" in talk


def test_details_of_which_none_are_due_are_called_so(command, paystack, capsys):
    paystack(customers=3)
    assert run(command, ["--details", "--details-budget", "3"]) == ExitCode.OK
    assert "3 customers fetched" in capsys.readouterr().out
    assert run(command, ["--details"]) == ExitCode.OK
    shown = capsys.readouterr()
    assert re.search(r"details +nothing was due$", shown.out, re.MULTILINE)
    assert "0 of 0" not in shown.err


def test_whose_customers_they_are_may_be_unknown(command, paystack, capsys):
    paystack(customers=0)
    assert run(command, ["--json"]) == ExitCode.OK
    summary, talk = said(capsys)
    assert (summary["key_mode"], summary["account"]) == ("test", None)
    assert "test, integration (unknown)" in talk


def test_a_summary_claims_no_total_where_none_is_named(command, paystack, capsys):
    paystack(no_totals=True)
    assert run(command, ["--json"]) == ExitCode.OK
    summary, talk = said(capsys)
    assert (summary["status"], summary["api_total"], summary["rows_loaded"]) == ("complete", None, 120)
    assert "Paystack gives no total" in talk
    assert "counted against Paystack's total" not in talk


@pytest.mark.parametrize(
    ("asked", "words", "start", "end"),
    [
        (
            ["--from", "2020-01-01", "--to", "2030-01-01T12:00Z"],
            "customer created from 2020-01-01 and before 2030-01-01 12:00:00 is here",
            "2020-01-01T00:00:00+00:00",
            "2030-01-01T12:00:00+00:00",
        ),
        (["--from", "2020-01-01"], "customer created from 2020-01-01 is here", "2020-01-01T00:00:00+00:00", None),
        (["--to", "2030-01-01"], "customer created before 2030-01-01 is here", None, "2030-01-01T00:00:00+00:00"),
    ],
)  # fmt: skip
def test_a_range_is_called_complete_as_a_range(command, paystack, capsys, asked, words, start, end):
    paystack(customers=20)
    assert run(command, [*asked, "--json"]) == ExitCode.OK
    summary, talk = said(capsys)
    assert f"Complete: every {words}" in talk
    assert (summary["from"], summary["to"]) == (start, end)
    assert f"20 created {words.removeprefix('customer created ').removesuffix(' is here')} in" in talk


def test_the_sandbox_keeps_its_customers_between_runs(command, monkeypatch, capsys):
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "150")
    assert run(command, ["--sandbox", "--json"]) == ExitCode.OK
    first, summary = said(capsys)
    assert first["rows_loaded"] == 150
    assert "sandbox at http://127.0.0.1" in summary
    assert "(Paystack: 100 per 60 s with a test key)" in summary
    assert run(command, ["--sandbox", "--json", "--refresh-budget", "0"]) == ExitCode.OK
    again, _ = said(capsys)
    assert (again["rows_loaded"], again["requests"]) == (0, 2)


def test_a_copy_that_does_not_add_up_ends_with_5(command, paystack, monkeypatch, capsys):
    from paystack_source.api.client import PaystackClient
    from paystack_source.api.models import Page

    paystack()
    asked = PaystackClient.list

    def one_more(self, **question):
        import msgspec

        page = asked(self, **question)
        total = None if page.meta.total is None else page.meta.total + 1
        return Page(page.raw, msgspec.structs.replace(page.meta, total=total), page.params)

    monkeypatch.setattr(PaystackClient, "list", one_more)
    assert run(command, ["--json"]) == ExitCode.UNPROVEN
    summary, talk = said(capsys)
    assert summary["status"] == "incomplete"
    assert summary["unproven"]
    shown = [line.strip() for line in talk.splitlines() if "NOT PROVEN" in line]
    assert all(line.endswith(": 1 customer missing") for line in shown)
    assert len(shown) == len(set(shown)) > 0
    assert talk.rstrip().endswith("Next:\n  python pipelines/customers.py")


@pytest.mark.parametrize(
    ("arguments", "key", "code", "words"),
    [
        ([], None, ExitCode.USAGE, "key"),
        ([], "pk_test_" + "a" * 40, ExitCode.USAGE, "public"),
        ([], "  ", ExitCode.USAGE, "key"),
        ([], "hello", ExitCode.USAGE, "sk_"),
        (["--from", "yesterday-ish"], "sk_test_sandbox", ExitCode.USAGE, "time"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "sk_test_sandbox", ExitCode.USAGE, "--from"),
        (["--refresh-budget", "-1"], "sk_test_sandbox", ExitCode.USAGE, "refresh-budget"),
        (["--no-such-option"], "sk_test_sandbox", ExitCode.USAGE, "no-such-option"),
        (["--destination", "nowhere"], "sk_test_sandbox", ExitCode.USAGE, "destination"),
        (["--details-budget", "5"], "sk_test_sandbox", ExitCode.USAGE, "Add --details, or leave it out."),
        (["--dataset", ""], "sk_test_sandbox", ExitCode.USAGE, "small letters"),
        (["--dataset", "My Data"], "sk_test_sandbox", ExitCode.USAGE, "small letters"),
        (["--dataset", "a" * 46], "sk_test_sandbox", ExitCode.USAGE, "too long by 1 character"),
    ],
)
def test_bad_usage_sends_nothing(command, paystack, monkeypatch, capsys, arguments, key, code, words):
    server = paystack()
    if key is None:
        monkeypatch.delenv("SOURCES__PAYSTACK__SECRET_KEY")
    else:
        monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", key)
    assert run(command, arguments) == code
    _, talk = said(capsys)
    assert words in talk
    assert "Traceback" not in talk
    assert server.stats.total == 0


def test_a_key_that_paystack_refuses_ends_with_4(command, paystack, monkeypatch, capsys):
    paystack()
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", "sk_test_wrong_one")
    assert run(command, ["--json"]) == ExitCode.REFUSED
    error, talk = said(capsys)
    assert error["exit_code"] == ExitCode.REFUSED
    assert "sk_test_wrong_one" not in talk + json.dumps(error)
    assert "Traceback" not in talk


def test_an_unreachable_host_is_named_plainly(command, monkeypatch, capsys):
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", "sk_test_sandbox")
    monkeypatch.setattr("paystack_source.api.transport.RetryPolicy.pause", lambda *_: 0.0)
    with socket.socket() as deaf:  # bound, so that nobody else takes the port, and not listening
        deaf.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert run(command, []) == ExitCode.UNEXPECTED
    _, talk = said(capsys)
    assert "Traceback" not in talk
    assert "reach" in talk.lower() or "connect" in talk.lower()


def test_a_live_key_never_goes_to_another_host(command, paystack, monkeypatch, capsys):
    server = paystack()
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", "sk_live_" + "ab12" * 10)
    assert run(command, []) == ExitCode.USAGE
    assert server.stats.total == 0
    assert "Traceback" not in said(capsys)[1]


def test_a_locked_database_is_named_plainly(command, paystack, capsys):
    paystack()
    holder = subprocess.Popen(
        [sys.executable, "-c",
         "import duckdb,sys; c=duckdb.connect('paystack_customers.duckdb'); print('open',flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline().strip() == "open"
        code = run(command, [])
    finally:
        holder.communicate("")
    assert code in {ExitCode.UNEXPECTED, ExitCode.USAGE}
    _, talk = said(capsys)
    assert "Traceback" not in talk
    assert "another" in talk.lower()
    assert run(command, []) == ExitCode.OK  # nothing was harmed
    said(capsys)
    with duckdb.connect("paystack_customers.duckdb", read_only=True):  # as in a notebook
        assert run(command, []) == ExitCode.UNEXPECTED
    assert "open in this program with other settings, such as read_only" in said(capsys)[1]


def test_two_at_once_the_second_says_so(command, paystack, place, capsys):
    paystack()
    from paystack_source.warehouse.single_writer import exclusive_run
    from paystack_source.warehouse.sync import open_pipeline

    inside, leave = threading.Event(), threading.Event()

    def first():
        with exclusive_run(open_pipeline("duckdb", "paystack")):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(PATIENCE)
    try:
        code = run(command, [])
    finally:
        leave.set()
        thread.join()
    assert code != ExitCode.OK
    _, talk = said(capsys)
    assert "another run" in talk.lower()
    assert "give each a DLT_DATA_DIR of its own" in talk
    assert f"both use {place / 'dlt'}" in talk


def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(paystack, place):
    server = paystack(customers=3000)
    gate = Gate(server, lambda: server.stats.total >= 3)
    process = subprocess.Popen(
        [python(), str(SCRIPT), "--json"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )  # fmt: skip
    gate.wait()
    process.send_signal(signal.SIGINT)
    gate.open()
    out, talk = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.INTERRUPTED, talk
    assert json.loads(out.splitlines()[-1])["exit_code"] == ExitCode.INTERRUPTED
    assert "Traceback" not in talk
    done = subprocess.run(
        [python(), str(SCRIPT), "--json"], cwd=place, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1])["warehouse_total"] == 3000
