"""`--account NAME` of every command: whose key, which dataset, which results, and what is printed to be pasted."""

import json
import os
import re
import shlex
from pathlib import Path

import duckdb
import pytest

from paystack_source import ConfigError, PaystackClient, bulk_set_risk_action, commands
from paystack_source.errors import ExitCode
from tests.accounts.conftest import NUMBERS, variable


def asked(question, file="paystack_customers.duckdb"):
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute(question).fetchall()


def people(server, number=2):
    """A CSV of customers of this account."""
    codes = [row["customer_code"] for row, _ in zip(server.customers_truth(), range(number), strict=False)]
    Path("people.csv").write_text("\n".join(["customer_code", *codes]) + "\n")
    return "people.csv"


def held(dataset):
    return asked(f"select count(*), min(integration), max(integration) from {dataset}.customers")


def test_all_accounts_are_copied_each_into_its_dataset_and_seen_in_one_view(accounts, command, monkeypatch):
    done = command("customers", "--account", "all")
    assert done.code == ExitCode.OK, done.err
    assert done.json["status"] == "complete"
    for name, (number, customers) in NUMBERS.items():
        own = done.json["accounts"][name]
        assert (own["account_name"], own["account"], own["warehouse_total"]) == (name, number, customers)
        assert (own["key_source"], own["dataset"]) == (variable(name, "SECRET_KEY"), f"paystack_{name}")
        assert f"{name}: Complete" in done.err
        assert held(f"paystack_{name}") == [(customers, number, number)]
    assert done.json["total"]["warehouse_total"] == sum(customers for _, customers in NUMBERS.values())
    assert len({own["key_fingerprint"] for own in done.json["accounts"].values()}) == 3

    # What is printed works, and says of whom.
    printed = re.findall(r"query\.py (.*)", done.err)
    answers = [command("query", *shlex.split(line)).json["rows"] for line in printed]
    assert sorted(map(tuple, answers[-1])) == [(name, customers) for name, (_, customers) in NUMBERS.items()]
    counts = [sum(number for _, number in rows) for rows in answers[:-1]]
    assert counts == [customers for _, customers in NUMBERS.values()]

    # Which accounts there are is known from the copies, also where a machine knows only one of them.
    for name in ("gh", "ke"):
        monkeypatch.delenv(variable(name, "SECRET_KEY"))
    accounts["ng"].add_customers(5)
    again = command("customers", "--account", "ng", "--refresh-budget", "0")
    assert (again.code, again.json["rows_loaded"]) == (0, 5), again.err
    view = (
        "select account_name, count(*), count(distinct integration), count(id) from all_customers group by 1"
    )
    rows = command("query", f"{view} order by 1", "--account", "gh").json["rows"]
    assert rows == [["gh", 30, 1, 30], ["ke", 40, 1, 40], ["ng", 55, 1, 55]]
    overview = command("query", "--account", "all")
    assert overview.json["rows"] == [["gh", 30], ["ke", 40], ["ng", 55]]
    assert "all_customers" in overview.err

    # A name whose key is another's.
    assert "one Paystack account" not in again.err
    for setting in ("SECRET_KEY", "BASE_URL"):
        monkeypatch.setenv(variable("lagos", setting), os.environ[variable("ng", setting)])
    twice = command("customers", "--account", "lagos")
    assert twice.code == ExitCode.OK
    assert "warning: lagos and ng are names of one Paystack account" in twice.err


@pytest.mark.parametrize(
    "where",
    [
        "dlt.load.load.Load.load_single_package",
        "paystack_source.warehouse.comments._descriptions",
        "paystack_source.warehouse.all_accounts.refresh_all_customers",
    ],
)
def test_ctrl_c_in_one_account_begins_no_other(accounts, command, monkeypatch, where):
    def stop(*_args, **_more):
        raise RuntimeError("Query interrupted") from KeyboardInterrupt()  # as DuckDB does

    monkeypatch.setattr(where, stop)
    done = command("customers", "--account", "all")
    assert (done.code, done.json["status"]) == (ExitCode.INTERRUPTED, "interrupted"), done.err
    assert [accounts[name].stats.total > 0 for name in sorted(accounts)] == [True, False, False]


def test_one_account_that_fails_does_not_hide_the_others(accounts, command, monkeypatch):
    monkeypatch.delenv(variable("gh", "SECRET_KEY"))
    monkeypatch.setenv(
        variable("ke", "SECRET_KEY"), "sk_test_key_ng"
    )  # another account's: the sandbox refuses it
    done = command("customers", "--account", "all")
    assert done.code == ExitCode.REFUSED  # the worst
    gh, ke, ng = (done.json["accounts"][name] for name in ("gh", "ke", "ng"))
    assert (gh["exit_code"], ke["exit_code"], ng["status"]) == (ExitCode.USAGE, ExitCode.REFUSED, "complete")
    assert done.json["total"]["warehouse_total"] == 50
    assert done.json["message"] == f"gh: {gh['message']}; ke: {ke['message']}"
    assert "sources.paystack.accounts.gh" in gh["message"]
    assert "error: ke: " in done.err
    assert held("paystack_ng") == [(50, 103, 103)]
    assert "sk_test_key" not in done.out + done.err


@pytest.mark.parametrize(
    "words",
    [("customers",), ("bulk", "plan", "risk-action", "people.csv", "--risk-action", "deny")],
    ids=" ".join,
)
def test_no_account_gets_the_key_of_another_section(accounts, command, monkeypatch, words):
    server = accounts["ke"]
    people(server)
    for name in ("PAYSTACK_SECRET_KEY", "SOURCES__PAYSTACK__SECRET_KEY"):
        monkeypatch.setenv(name, "sk_test_key_ke")
    monkeypatch.delenv(variable("ke", "SECRET_KEY"))
    for name, wrong in (("ke", "no Paystack key in the section"), ("zz", "no account zz")):
        done = command(*words, "--account", name)
        assert done.code == ExitCode.USAGE
        assert wrong in done.json["message"]
        assert f"sources.paystack.accounts.{name}" in done.json["message"]
        assert "gh, ke, ng" in done.json["advice"]
    assert server.stats.total == 0


@pytest.mark.parametrize("name", ["NG", "n g", "n__g", "", "sandbox", "my_sandbox", "x" * 60, "../etc"])
def test_what_can_be_no_dataset_can_be_no_account(accounts, command, name):
    done = command("customers", "--account", name)
    assert done.code == ExitCode.USAGE, done.err
    with pytest.raises(ConfigError):
        PaystackClient(account_name=name)


def test_all_is_for_what_only_reads(accounts, command):
    done = command("bulk", "status", "--account", "all")
    assert (done.code, "one account" in done.json["message"]) == (ExitCode.USAGE, True)
    done = command("customers", "--account", "all", "--dataset", "one")
    assert (done.code, "exclude each other" in done.json["message"]) == (ExitCode.USAGE, True)


def test_all_of_no_accounts_is_an_error(command):
    assert command("customers", "--account", "all").code == ExitCode.USAGE


def test_runs_of_accounts_are_kept_apart_and_go_on_with_what_is_printed(accounts, command):
    file = people(accounts["ng"])
    planned = command("bulk", "plan", "risk-action", file, "--risk-action", "deny", "--account", "ng", "--no-copy",
                      "--refresh", "live", "--out", "ng.plan")  # fmt: skip
    assert planned.json["key_source"] == variable("ng", "SECRET_KEY")
    (apply,) = re.findall(r"bulk\.py (apply .*)", planned.err)
    assert shlex.split(apply)[2:4] == ["--account", "ng"]
    other = command("bulk", "apply", "ng.plan", "--account", "gh", "--no-copy", "--yes")
    assert (other.code, "another Paystack account" in other.json["message"]) == (ExitCode.USAGE, True)
    assert "--account ng" in other.json["advice"]
    done = command("bulk", *shlex.split(apply), "--yes")
    assert (done.code, done.json["account"], done.json["account_name"]) == (0, 103, "ng"), done.err
    assert [each["run_id"] for each in command("bulk", "status", "--account", "ng").json["runs"]] == [
        done.json["run_id"]
    ]
    for elsewhere in ((), ("--account", "gh")):
        assert command("bulk", "status", *elsewhere).json["runs"] == []
        assert command("bulk", "undo", "latest", "--yes", *elsewhere).code == ExitCode.USAGE
    (undo,) = re.findall(r"bulk\.py (undo .*)", done.err)
    undone = command("bulk", *shlex.split(undo), "--yes")
    assert (undone.code, undone.json["applied"]) == (0, 2), undone.err
    assert [len(server.write_log()) for server in accounts.values()] == [0, 0, 4]
    # Once: the register knows the account by its number, whatever it is called.
    assert command("bulk", "apply", "ng.plan", "--account", "ng", "--no-copy", "--yes").code == ExitCode.USAGE


def test_a_helper_takes_the_name_too_and_its_run_is_the_commands(accounts, command):
    file = people(accounts["ng"])
    made = bulk_set_risk_action(file, "deny", account_name="ng", copy=False, refresh="live", progress=False)
    assert made.summary["account"] == 103
    shown = command("bulk", "status", "latest", "--account", "ng")
    assert shown.json["run_id"] == made.run_id
    assert re.search(r"bulk\.py undo .*--account ng", shown.err)


def test_a_dataset_that_is_named_wins(accounts, command):
    done = command("customers", "--account", "gh", "--dataset", "accra")
    assert (done.code, done.json["dataset"]) == (0, "accra"), done.err
    assert re.search(r"query\.py .*--account gh .*--dataset accra", done.err)
    assert held("accra") == [(30, 101, 101)]
    assert asked("select account_name, dataset from paystack_all.accounts") == [("gh", "accra")]
    done = command("customers", "--account", "ke", "--dataset", "paystack_customers")
    assert (done.code, "same name" in done.json["message"]) == (ExitCode.USAGE, True)


def test_to_practise_each_account_is_a_sandbox_of_its_own_and_each_line_of_the_log_says_which(
    command, monkeypatch
):
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "20")
    done = []
    for name in ("ng", "gh"):
        ended = command("customers", "--sandbox", "--account", name, "--log-format", "json")
        assert {json.loads(line)["account_name"] for line in ended.err.splitlines()} == {name}
        done.append(ended.json)
    assert [each["dataset"] for each in done] == ["paystack_ng", "paystack_gh"]
    assert len({each["account"] for each in done}) == 2
    assert {each["key_source"] for each in done} == {"the sandbox"}
    assert not Path("paystack_customers.duckdb").exists()
    rows = command("query", "--sandbox", "--account", "all").json["rows"]
    assert rows == [["gh", 20], ["ng", 20]]


def test_what_is_printed_names_the_dataset_that_is_another_accounts_default():
    chosen = {"account_name": "ng", "destination": "duckdb", "dataset": "paystack"}
    assert commands.command("query", chosen).endswith("query.py --account ng --dataset paystack")


def test_whichever_command_makes_the_sandbox_it_has_the_size_that_is_set(command, monkeypatch):
    Path("people.csv").write_text("email\nada@example.com\n")
    plan = ("bulk", "plan", "create", "people.csv", "--sandbox", "--out", "people.plan")
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "many")
    done = command(*plan)
    assert (done.code, "PAYSTACK_SANDBOX_CUSTOMERS" in done.json["message"]) == (ExitCode.USAGE, True)
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "20")
    assert command(*plan).code == ExitCode.OK
    assert command("customers", "--sandbox").json["rows_loaded"] == 20


@pytest.mark.parametrize("switch", ["--account", "--dataset", "--destination"])
def test_a_place_that_is_named_twice_is_not_the_last_one(accounts, command, switch):
    people(accounts["ng"])
    for words in (
        ["customers"],
        ["bulk", "run", "risk-action", "people.csv", "--risk-action", "deny", "--yes"],
    ):
        done = command(*words, switch, "ng", switch, "gh")
        assert (done.code, "ng and gh: give one of them" in done.err) == (ExitCode.USAGE, True)
    assert command("bulk", "status", switch, "ng", switch, "ng").code == ExitCode.OK
    assert all(server.write_log() == [] for server in accounts.values())


@pytest.mark.parametrize(
    ("words", "one", "other"),
    [
        (["bulk", "run", "risk-action", "people.csv", "--yes", "--risk-action"], "allow", "deny"),
        (["bulk", "run", "update", "people.csv", "--yes", "--metadata"], "merge", "replace"),
        (["bulk", "run", "update", "people.csv", "--yes", "--refresh"], "never", "live"),
        (["customers", "--from"], "2026-01-01", "2026-02-01"),
        (["customers", "--to"], "2026-01-01", "2026-02-01"),
    ],
)
def test_of_two_values_not_the_last_one_is_meant(accounts, command, words, one, other):
    people(accounts["ng"])
    done = command(*words, one, words[-1], other, "--account", "ng")
    assert (done.code, f"{one} and {other}: give one of them" in done.err) == (ExitCode.USAGE, True)
    assert accounts["ng"].write_log() == []
