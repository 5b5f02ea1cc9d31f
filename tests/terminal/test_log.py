"""`--log-format json`: each line on standard error is one JSON object that says when, what and where, errors as well."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from paystack_source.__main__ import commands
from paystack_source.api.transport import RetryPolicy
from paystack_source.cli.terminal import run


class Once(RetryPolicy):
    def __init__(self):
        super().__init__(attempts=1)


ALWAYS = {"time", "level", "run_id", "dataset", "destination", "message"}


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Runs a command with a log; its exit code, the lines of the log, and the object on the last line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "30")

    def command(*words):
        began = datetime.now(UTC)
        code = run(commands, [*words, "--json", "--log-format", "json"])
        out, err = capsys.readouterr()
        lines = [json.loads(line) for line in err.splitlines()]
        for line in lines:
            assert set(line) >= ALWAYS
            when = datetime.fromisoformat(line["time"])
            assert when.utcoffset() == timedelta(0)
            assert began - timedelta(seconds=1) <= when <= datetime.now(UTC)
        (last,) = out.splitlines()
        return code, lines, json.loads(last)

    return command


def test_a_copy_says_when_what_and_where(said):
    code, lines, result = said("customers", "--sandbox", "--dataset", "ng")
    assert code == 0
    assert {(line["run_id"], line["dataset"], line["destination"]) for line in lines} == {
        (result["run_id"], "ng", "duckdb")
    }
    assert {line["level"] for line in lines} == {"info"}
    assert lines[-1]["message"] == "Complete: every customer is here"
    assert lines[-1]["facts"]["new"] == "30"
    assert datetime.fromisoformat(result["started_at"]).utcoffset() == timedelta(0)
    assert (result["destination"], result["dataset"]) == ("duckdb", "ng")
    _, _, found = said("query", "--sandbox", "--dataset", "ng", "select distinct run_id from ledger")
    assert found["rows"] == [[result["run_id"]]]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("--from", "yesterday"), "ConfigError"),
        (("--refresh-budget", "many"), "UsageError"),
        (("--nonsense",), "UsageError"),
        ((), "Unavailable"),
    ],
)
def test_an_error_says_when_what_and_where(said, monkeypatch, words, kind):
    monkeypatch.setattr("paystack_source.api.client.RetryPolicy", Once)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", "sk_test_" + "a" * 40)
    code, lines, result = said("customers", "--dataset", "ng", *words)
    assert code
    assert result["status"] == "error"
    assert lines[-1]["level"] == "error"
    for told in (lines[-1], result):
        assert told["error"] == kind
        assert (told["dataset"], told["destination"], told["exit_code"]) == ("ng", "duckdb", code)
    assert lines[-1]["run_id"] == result["run_id"]
    assert bool(result["run_id"]) is (kind != "UsageError")
    assert datetime.fromisoformat(result["started_at"])


def test_a_bulk_run_names_the_run_from_its_first_request_to_its_end(said, tmp_path):
    (tmp_path / "people.csv").write_text("email\none@example.com\ntwo@example.com\nthree@example.com\n")
    code, lines, result = said("bulk", "run", "create", "people.csv", "--sandbox", "--yes")
    assert (code, result["applied"]) == (0, 3)
    named = [line["run_id"] for line in lines if line["run_id"]]
    assert set(named) == {result["run_id"]}
    assert named == [line["run_id"] for line in lines[-len(named) :]]
    assert {line["dataset"] for line in lines} == {"paystack"}

    code, lines, result = said("bulk", "apply", "nothing.plan")
    assert code == 2
    assert [line["message"] for line in lines] == [result["message"]] == ["There is no plan nothing.plan."]
    assert lines[0]["advice"]


def test_a_traceback_is_within_its_line(said, monkeypatch):
    monkeypatch.setenv("PAYSTACK_TRACEBACK", "1")
    _, (line,), _ = said("bulk", "apply", "nothing.plan")
    assert line["traceback"].startswith("Traceback")
