"""A copy is believed only for the runs that it holds, and asked itself which those are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest
from dlt.destinations.impl.duckdb.duck import DuckDbCopyJob

from paystack_source import ConfigError, PaystackClient, bulk_create, bulk_set_risk_action, settings
from paystack_source.bulk.run.runs import Runs
from paystack_source.cli.terminal import run
from tests.bulk_run.conftest import load_script

ROWS = 20


@pytest.fixture
def desk(seated):
    return seated


@pytest.fixture
def extract(desk, kept, monkeypatch):
    """Makes or updates a copy; a plan of all `ROWS` reads no customer live unless the copy is not believed.

    The first copy of customers who are as they were is the one that was kept.
    """
    monkeypatch.setitem(settings.QUOTA_BY_MODE, "test", 5)
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(desk.folder / "paystack_customers.duckdb"))
    desk.path = desk.listed(ROWS)
    main = load_script("customers").main

    def copy(*more):
        if not more and not Path(os.environ["DLT_DATA_DIR"]).exists():
            desk.take_copy(kept)
        else:
            assert run(main, ["--quiet", "--refresh-budget", "600", *more]) == 0

    return copy


def ask(desk, sql):
    with duckdb.connect(str(desk.folder / "paystack_customers.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def deny(desk, *more):
    said = desk.bulk("run", "risk-action", desk.path, "--risk-action", "deny", "--yes", *more, copy=True)
    assert said.json["applied"] == ROWS, said.err
    return said


def to_send(desk, *more):
    """How many of the denied a plan back to `default` would send: all, unless the copy lied."""
    said = desk.bulk("plan", "risk-action", desk.path, "--risk-action", "default", *more, copy=True)
    assert said.code == 0, said.err
    return said


def test_a_run_through_one_copy_is_not_taken_for_known_to_another(desk, extract):
    extract()
    extract("--dataset", "two")
    deny(desk)
    for dataset in ("two", "paystack"):
        said = to_send(desk, "--dataset", dataset)
        assert said.json["to_send"] == ROWS
        assert "live" not in said.err.replace("--refresh live", "")
    held = ask(desk, "select count(*) from two.customers where risk_action = 'deny'")
    assert held[0][0] >= ROWS
    assert ask(desk, "select applied from two.write_back_runs") == [(ROWS,)]
    shutil.rmtree("paystack_results")  # a run that the copy holds may be deleted
    said = to_send(desk, "--dataset", "two")
    assert said.json["to_send"] == ROWS
    assert "The copy lacks" not in said.err


def test_a_run_of_another_results_folder_is_known_too(desk, extract, monkeypatch):
    extract()
    for name in ("a", "b"):
        (desk.folder / name).mkdir()
    monkeypatch.chdir(desk.folder / "a")
    deny(desk, "--no-copy")
    monkeypatch.chdir(desk.folder / "b")
    assert to_send(desk).json["to_send"] == ROWS
    assert ask(desk, "select applied from paystack.write_back_runs") == [(ROWS,)]


def test_a_run_in_another_sandbox_is_none_of_this_copy(desk, extract, sandbox, monkeypatch):
    """All sandboxes have the same account."""
    extract()
    for name in ("a", "b"):
        (desk.folder / name).mkdir()
    monkeypatch.chdir(desk.folder / "a")
    other = sandbox(customers=60)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", other.url)
    deny(desk, "--no-copy")
    monkeypatch.chdir(desk.folder / "b")
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", desk.api.url)
    said = to_send(desk)
    assert said.json["noop"] == ROWS
    assert "believed" not in said.err
    shutil.rmtree(desk.folder / "a")
    assert to_send(desk).json["noop"] == ROWS


def test_a_run_whose_folder_is_gone_keeps_an_old_copy_from_being_believed(desk, extract):
    extract()
    run_id = deny(desk, "--no-copy").json["run_id"]
    shutil.rmtree("paystack_results")
    said = to_send(desk)
    assert said.json["to_send"] == ROWS
    assert run_id in said.err
    assert "--full-refresh" in said.err
    extract("--full-refresh")  # read after the run, so it has what the run did
    said = to_send(desk)
    assert said.json["to_send"] == ROWS
    assert run_id not in said.err


@pytest.mark.parametrize("table", ["write_back_runs", "write_back_rows", "customers"])
def test_a_load_that_broke_between_its_tables_is_not_taken_for_whole(desk, extract, monkeypatch, table):
    extract()
    real = DuckDbCopyJob.run

    def fail(job):
        if Path(job._file_path).name.startswith(f"{table}."):
            raise OSError("gone")
        real(job)

    with monkeypatch.context() as patch:
        patch.setattr(DuckDbCopyJob, "run", fail)
        assert "could not be updated" in deny(desk).json["warnings"][0]
    assert to_send(desk).json["to_send"] == ROWS
    assert ask(desk, "select count(*) from paystack.write_back_rows") == [(ROWS,)]


def test_a_file_that_was_removed_and_a_dataset_that_was_dropped_get_their_audit_back(desk, extract):
    run_id = deny(desk).json["run_id"]  # without customers: it is the audit alone that is loaded
    rows = (
        "select run_id, row, customer_code, outcome, before, after from paystack.write_back_rows order by all"
    )
    before = ask(desk, rows)
    assert len(before) == ROWS
    Path("paystack_customers.duckdb").unlink()
    assert desk.bulk("status", "--load", copy=True).code == 0
    assert ask(desk, rows) == before
    assert ask(desk, "select applied from paystack.write_back_runs") == [(ROWS,)]
    with duckdb.connect("paystack_customers.duckdb") as connection:
        connection.execute("drop schema paystack cascade")
    assert "could not" not in desk.bulk("status", run_id, "--load", copy=True).err
    assert ask(desk, rows) == before


def test_an_old_run_does_not_overwrite_what_a_new_copy_read_since(desk, extract):
    extract()
    deny(desk, "--no-copy")
    theirs = desk.customers(1)[0]["customer_code"]
    desk.api.edit_customer(theirs, risk_action="allow")  # by somebody else, after the run
    extract("--full-refresh")
    to_send(desk)
    assert ask(desk, "select applied from paystack.write_back_runs") == [(ROWS,)]
    assert ask(desk, f"select risk_action from paystack.customers where customer_code = '{theirs}'") == [
        ("allow",)
    ]


def test_runs_are_laid_over_the_copy_in_the_order_in_which_they_were(desk, extract):
    extract()
    deny(desk, "--no-copy")
    said = desk.bulk("run", "risk-action", desk.path, "--risk-action", "allow", "--yes", "--no-copy")
    assert said.json["applied"] == ROWS
    desk.bulk("status", said.json["run_id"], "--load", copy=True)
    desk.bulk("status", "--load", copy=True)
    codes = str(tuple(c["customer_code"] for c in desk.customers(ROWS)))
    sql = f"select distinct risk_action from paystack.customers where customer_code in {codes}"
    assert ask(desk, sql) == [("allow",)]


@pytest.mark.parametrize("loaded", ["meanwhile", "by the next plan"])
def test_a_page_that_was_asked_for_before_a_run_does_not_look_newer_than_the_run(
    desk, extract, monkeypatch, loaded
):
    extract()
    listing, pages = PaystackClient.list, []

    def slow(self, **question):
        page = listing(self, **question)
        if question.get("to") is not None and not pages:  # of a window, which is read again
            pages.append(page)
            deny(desk, *([] if loaded == "meanwhile" else ["--no-copy"]))
        return page

    with monkeypatch.context() as patch:
        patch.setattr(PaystackClient, "list", slow)
        extract()
    codes = str(tuple(c["customer_code"] for c in desk.customers(ROWS)))
    sql = f"select distinct risk_action from paystack.customers where customer_code in {codes}"
    assert ask(desk, sql) == [("default",)]  # the page was loaded last
    said = to_send(desk)
    assert (said.json["to_send"], said.json["noop"], said.json["requests"]) == (ROWS, 0, ROWS)
    assert ask(desk, sql) == [("deny",)]


def test_an_answer_of_another_shape_is_loaded_like_one_that_is_read(desk, extract):
    extract()
    person = desk.customers(1)[0]
    desk.api.edit_customer(person["customer_code"], phone="1")
    path = desk.csv("names.csv", [{"customer_code": person["customer_code"], "first_name": "Ngozi"}])
    assert desk.bulk("run", "update", path, "--yes").json["applied"] == 1
    one = Runs().open("latest")
    with one.journal() as journal:
        odd = {"id": person["id"], "customer_code": person["customer_code"], "phone": 803123, "integration": "1",
               "first_name": ["Ngozi"], "metadata": 5, "createdAt": "no time"}  # fmt: skip
        journal.append([], [(1, odd)])
    with duckdb.connect(str(desk.folder / "paystack_customers.duckdb")) as connection:
        connection.execute("update paystack.customers set _last_seen_at = null")
    said = desk.bulk("status", "--load", copy=True)
    assert "could not" not in said.err
    held = ask(desk, f"select phone, integration from paystack.customers where id = {person['id']}")
    assert held[0][0] == "803123"
    assert held[0][1] is not None


def test_a_helper_counts_with_the_quota_that_its_client_has(desk, monkeypatch):
    rows = [{"customer_code": f"CUS_someone{n:04}"} for n in range(150)]
    how = {"dry_run": True, "copy": False, "refresh": "never"}
    monkeypatch.setenv("SOURCES__PAYSTACK__QUOTA", "50")
    assert bulk_set_risk_action(rows, "deny", **how).attrs["minutes"] == 3.0
    assert bulk_set_risk_action(rows, "deny", quota_share=0.5, **how).attrs["minutes"] == 6.0
    with desk.client() as client:
        assert client.quota_use("fetch") is None
        assert bulk_set_risk_action(rows, "deny", client=client, **how).attrs["minutes"] == 0.0
    key, url = desk.api.secret_key, desk.api.url
    with PaystackClient(key, base_url=url, quota=30) as client:
        assert bulk_set_risk_action(rows, "deny", client=client, **how).attrs["minutes"] == 5.0


def test_where_there_is_no_limit_no_time_is_promised(desk):
    said = desk.bulk("plan", "risk-action", desk.risk_file(3), "--risk-action", "deny")
    assert "0 requests a minute" not in said.err
    assert "without a limit" in said.err


def test_an_undo_of_live_customers_wants_its_own_number_of_rows(desk):
    people = desk.customers(15)
    for customer in desk.customers(60):
        desk.api.edit_customer(customer["customer_code"], risk_action="deny", domain="live")
    client = desk.client()
    client.mode = "live"
    rows = [{"customer_code": customer["customer_code"]} for customer in people]
    options = {"copy": desk.customers(60), "progress": False, "client": client}
    with pytest.raises(ConfigError, match="live customers: risk actions of more than 10%"):
        bulk_set_risk_action(rows, "allow", **options)
    result = bulk_set_risk_action(rows, "allow", confirm=15, **options)
    assert result.summary["applied"] == 15
    desk.api.edit_customer(people[0]["customer_code"], risk_action="default")
    with pytest.raises(ConfigError, match="live customers: risk actions of more than 10%"):
        result.undo(confirm=15)
    assert len(desk.api.write_log()) == 15
    assert result.undo(confirm=14).summary["applied"] == 14
    client.close()


@pytest.mark.parametrize("kind", ["a_test_key_beside_a_live_copy", "an_account_without_customers"])
def test_a_helper_records_nothing_in_the_dataset_of_another_account(desk, sandbox, extract, kind):
    extract()
    theirs = "integration = 7" + (", domain = 'live'" if "live" in kind else "")
    with duckdb.connect(str(desk.folder / "paystack_customers.duckdb")) as connection:
        connection.execute(f"update paystack.customers set {theirs}")
    before = ask(desk, "from paystack.customers order by id")
    other = sandbox(customers=3 if "live" in kind else 0)
    with PaystackClient(other.secret_key, base_url=other.url, quota=0) as client:
        if "live" in kind:
            rows = [{"customer_code": customer["customer_code"]} for customer in other.customers_truth()]
            result = bulk_set_risk_action(rows, "deny", client=client, progress=False)
        else:
            result = bulk_create([{"email": "new@example.com"}], client=client, progress=False)
    assert result.complete
    assert result.summary["rows"] == result.summary["applied"] + result.summary["skipped_noop"]
    assert "another Paystack account" in "".join(result.summary["warnings"])
    assert ask(desk, "select table_name from duckdb_tables() where table_name like 'write_back%'") == []
    assert ask(desk, "from paystack.customers order by id") == before


def test_the_first_customers_of_an_account_are_recorded(desk, sandbox, extract, monkeypatch):
    """A plan of an account without customers cannot name it; the answers do."""
    new = sandbox(customers=0)
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", new.secret_key)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", new.url)
    people = desk.csv("people.csv", [{"email": "new@example.com"}])
    first = desk.bulk("run", "create", people, "--yes")  # with --no-copy: not recorded yet
    assert first.json["applied"] == 1
    extract()
    said = desk.bulk("plan", "create", people, copy=True)
    assert (said.code, said.json["noop"]) == (0, 1), said.err
    assert "could not be updated" not in said.err
    (line,) = ask(desk, "select run_id, account from paystack.write_back_runs")
    assert line == (
        first.json["run_id"],
        ask(desk, "select any_value(integration) from paystack.customers")[0][0],
    )
