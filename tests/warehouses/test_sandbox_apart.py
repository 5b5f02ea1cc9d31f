"""A real copy and the sandbox's never meet, so nothing has to be removed: not in one folder, not in one warehouse."""

import csv
import json
from pathlib import Path

import dlt
import duckdb
import pytest
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from paystack_source import bulk_set_risk_action
from paystack_source.cli.terminal import run
from paystack_source.errors import ExitCode
from paystack_source.sandbox import Sandbox
from paystack_source.warehouse.destinations import read_table
from tests.bulk_run.conftest import load_script


@pytest.fixture
def command(capsys, monkeypatch):
    """`command("customers", "--sandbox")`: its exit code and the object it ends with; 40 customers in the sandbox."""
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "40")

    def call(name, *arguments):
        capsys.readouterr()
        code = run(load_script(name).main, [*arguments, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out.splitlines()[-1]) if out else {}, err

    return call


@pytest.fixture
def account(sandbox, monkeypatch):
    """A real account, as the environment names it."""
    api = sandbox(customers=30, seed=5)
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", api.secret_key)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", api.url)
    monkeypatch.setenv("SOURCES__PAYSTACK__QUOTA", "0")
    return api


def rows(pipeline, table):
    """All rows of a table, None if it is not there."""
    try:
        return sorted(map(str, read_table(pipeline, table).to_pylist()))
    except (DestinationUndefinedEntity, DatabaseUndefinedRelation):
        return None


def held(pipeline):
    pipeline.sync_destination()
    tables = ("customers", "ledger", "write_back_runs", "write_back_rows")
    return {table: rows(pipeline, table) for table in tables}


def sandbox_file():
    """A CSV of the sandbox's customers."""
    with (
        Sandbox(state="paystack_sandbox.sqlite") as practice,
        Path("people.csv").open("w", newline="") as file,
    ):
        lines = csv.writer(file)
        lines.writerow(["customer_code"])
        lines.writerows([customer["customer_code"]] for customer in practice.customers_truth())
    return "people.csv"


def test_practising_leaves_the_real_copy_and_its_runs_alone(warehouse, command, account, tmp_path):
    made = warehouse("delta")  # in one bucket; in DuckDB the sandbox has a file of its own
    where = ["--destination", made.destination]
    code, real, err = command("customers", *where)
    assert (code, real.get("warehouse_total")) == (ExitCode.OK, 30), err
    before = held(made.pipeline(tmp_path / "other machine"))
    waiting = tmp_path / "dlt" / "pipelines" / "paystack_customers" / "a-load-that-waits"
    waiting.touch()

    code, practice, err = command("customers", "--sandbox", *where)
    assert (code, practice.get("rows_loaded"), practice.get("warehouse_total")) == (0, 40, 40), err
    assert (real["sandbox"], practice["sandbox"]) == (False, True)
    assert real["destination"] == practice["destination"] == made.destination
    assert real["dataset"] == "paystack"
    people = sandbox_file()
    code, done, err = command(
        "bulk", "run", "risk-action", people, "--risk-action", "deny", "--sandbox", "--yes", *where
    )
    assert (code, done["applied"] + done["skipped_noop"], done["warnings"]) == (0, 40, []), err

    assert held(made.pipeline(tmp_path / "other machine")) == before
    assert waiting.exists()
    assert command("bulk", "status")[1]["runs"] == []
    assert command("bulk", "undo", "latest", "--yes")[0] == ExitCode.USAGE
    assert [each["run_id"] for each in command("bulk", "status", "--sandbox")[1]["runs"]] == [done["run_id"]]
    code, again, err = command("customers", *where, "--refresh-budget", "0")
    assert (code, again.get("rows_loaded"), again.get("warehouse_total")) == (0, 0, 30), err
    assert len(account.write_log()) == 0


def test_a_run_of_the_sandbox_is_not_the_latest_one_of_the_account(command, account, tmp_path):
    command("customers", "--sandbox")
    practised = command(
        "bulk", "run", "risk-action", sandbox_file(), "--risk-action", "deny", "--sandbox", "--yes"
    )[1]
    assert [each.name for each in tmp_path.glob("*.duckdb")] == ["paystack_sandbox.duckdb"]
    customer = next(account.customers_truth())
    Path("real.csv").write_text(f"customer_code\n{customer['customer_code']}\n")
    real = command("bulk", "run", "risk-action", "real.csv", "--risk-action", "deny", "--yes")[1]
    for switches, own, other in ((), real, practised), (("--sandbox",), practised, real):
        assert command("bulk", "status", "latest", *switches)[1]["run_id"] == own["run_id"]
        code, _, err = command("bulk", "resume", other["run_id"], "--yes", *switches)
        assert code == ExitCode.USAGE
        assert "--sandbox" in err


IN_ENVIRONMENT = {
    "path": ("DESTINATION__DUCKDB__CREDENTIALS", "own.duckdb"),
    "url": ("DESTINATION__DUCKDB__CREDENTIALS", "duckdb:///own.duckdb?read_only=false"),
    "database": ("DESTINATION__DUCKDB__CREDENTIALS__DATABASE", "own.duckdb"),
    "short": ("DESTINATION__CREDENTIALS", "own.duckdb"),
    "of the pipeline": ("PAYSTACK_CUSTOMERS__DESTINATION__DUCKDB__CREDENTIALS", "own.duckdb"),
    "pipeline": ("DESTINATION__DUCKDB__CREDENTIALS", ":pipeline:"),
}


@pytest.mark.parametrize("way", IN_ENVIRONMENT)
def test_dlts_setting_names_the_real_file_only(way, command, account, monkeypatch, tmp_path):
    monkeypatch.setenv(*IN_ENVIRONMENT[way])
    own = "dlt/pipelines/paystack_customers/paystack_customers.duckdb" if way == "pipeline" else "own.duckdb"
    for switches, file in ((), own), (("--sandbox",), "paystack_sandbox.duckdb"):
        code, _, err = command("query", "select 1", *switches)
        assert code == ExitCode.USAGE
        assert str(tmp_path / file) in err, err


def test_two_files_hold_the_real_copy_and_the_sandboxs(command, account, monkeypatch, tmp_path):
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", "duckdb:///own.duckdb")
    assert command("customers")[0] == ExitCode.OK
    content = (tmp_path / "own.duckdb").read_bytes()
    assert command("customers", "--sandbox")[0] == ExitCode.OK
    assert (tmp_path / "own.duckdb").read_bytes() == content
    assert {each.name for each in tmp_path.glob("*.duckdb")} == {"own.duckdb", "paystack_sandbox.duckdb"}
    for switches, number in ((), 30), (("--sandbox",), 40):
        asked = command("query", "select count(*) from paystack.customers", *switches)
        assert asked[1]["rows"] == [[number]], asked[2]


def test_a_copy_in_dlts_own_folder_is_there_for_every_door(command, account, monkeypatch, tmp_path):
    """Also for dlt itself; and it outlives a run into another file, for which dlt's state is dropped."""
    customer = next(account.customers_truth())
    Path("one.csv").write_text(f"customer_code\n{customer['customer_code']}\n")
    for place in (":pipeline:", "other.duckdb", ":pipeline:"):
        monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", place)
        code, done, err = command("customers", "--refresh-budget", "0")
        assert (code, done.get("warehouse_total")) == (ExitCode.OK, 30), err
    assert done["rows_loaded"] == 0
    assert command("query", "select count(*) from customers")[1]["rows"] == [[30]]
    assert dlt.attach("paystack_customers").dataset().customers.arrow().num_rows == 30
    assert len(bulk_set_risk_action("one.csv", "deny", dry_run=True)) == 1
    code, done, err = command("bulk", "run", "risk-action", "one.csv", "--risk-action", "deny", "--yes")
    assert (code, done["applied"], done["warnings"]) == (ExitCode.OK, 1, []), err
    asked = f"select risk_action from customers where id = {customer['id']}"
    assert command("query", asked)[1]["rows"] == [["deny"]]


def test_a_copy_in_memory_is_refused_in_words(command, account, monkeypatch):
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", ":memory:")
    code, said, err = command("customers")
    assert (code, said["error"]) == (ExitCode.USAGE, "SettingUnusable"), err
    assert account.stats.total == 0


def test_a_destination_of_a_name_of_ones_own_is_kept_apart_too(command, account, monkeypatch):
    monkeypatch.setenv("DESTINATION__MINE__DESTINATION_TYPE", "duckdb")
    monkeypatch.setenv("DESTINATION__MINE__CREDENTIALS", "mine.duckdb")
    assert command("customers", "--destination", "mine")[0] == ExitCode.OK
    assert command("customers", "--destination", "mine", "--sandbox")[0] == ExitCode.OK
    with duckdb.connect("mine.duckdb", read_only=True) as connection:
        counts = [
            connection.sql(f"select count(*) from {dataset}.customers").fetchall()
            for dataset in ("paystack", "paystack_sandbox")
        ]
    assert counts == [[(30,)], [(40,)]]


@pytest.mark.parametrize(
    "names", [("--dataset", "paystack_sandbox"), ("--destination", "duckdb_sandbox")], ids=str
)
@pytest.mark.parametrize("switches", [(), ("--sandbox",)], ids=["real", "sandbox"])
def test_names_of_the_sandbox_are_not_for_anybody_else(names, switches, command, account):
    code, _, err = command("customers", *names, *switches)
    assert code == ExitCode.USAGE
    assert "reserved for --sandbox" in err
    assert account.stats.total == 0


def test_a_real_key_never_fills_the_file_of_the_sandbox(command, account, monkeypatch):
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", "paystack_sandbox.duckdb")
    code, _, err = command("customers")
    assert code == ExitCode.USAGE
    assert "sandbox" in err
    assert not Path("paystack_sandbox.duckdb").exists()
