"""`pipelines/query.py`: the copy answers, changes nothing, and gives CSV that bulk reads back as it was."""

import contextlib
import csv
import importlib.util
import io
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import duckdb
import pytest

from paystack_source.bulk.input.csv_file import CsvFile
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.cli.terminal import run
from paystack_source.errors import ExitCode
from tests.events import PATIENCE
from tests.processes import python

SCRIPT = Path(__file__).resolve().parents[2] / "pipelines" / "query.py"


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("query_under_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DESTINATION__DUCKDB__CREDENTIALS", raising=False)
    with duckdb.connect("paystack_customers.duckdb") as connection:
        connection.execute("""
            create schema paystack;
            create table paystack._dlt_loads (a int);
            create table paystack.customers as
            select 'CUS_' || i as customer_code, 'x' || i || '@example.com' as email, '=SUM(1)' as first_name,
                   'Òké, "the" 2nd' as last_name, '+23480' || i as phone, 'default' as risk_action,
                   timestamptz '2026-01-01 08:00:00+00' + to_days(i::int) as created_at
            from range(60) t(i)
        """)
    return tmp_path / "paystack_customers.duckdb"


def test_without_a_question_it_shows_what_is_there(command, copy, capsys):
    assert run(command, []) == ExitCode.OK
    out = capsys.readouterr().out
    assert "customers" in out
    assert "60" in out
    assert "CUS_59" in out
    assert "_dlt" not in out


def test_the_rows_that_it_names_are_counted_and_do_not_include_deleted_ones(command, copy, capsys):
    with duckdb.connect(str(copy)) as connection:
        connection.execute("create table paystack.again as from paystack.customers")
        # As after loads that end one upon the other.
        connection.execute("pragma disable_checkpoint_on_shutdown")
        connection.execute("delete from paystack.customers where customer_code like '%7'")
        connection.execute("insert into paystack.customers from paystack.again where customer_code like '%7'")
        estimated = connection.execute("select max(estimated_size) from duckdb_tables()").fetchone()
    assert run(command, []) == ExitCode.OK
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("customers")]
    assert line.split() == ["customers", "60", "7"], estimated


def test_it_answers_and_says_how_many_more_there_are(command, copy, capsys):
    assert run(command, ["from paystack.customers order by created_at"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "CUS_0" in out
    assert "CUS_59" not in out
    assert "20 more rows" in err


def test_json_ends_with_columns_and_rows(command, copy, capsys):
    assert run(command, ["select count(*) as n from paystack.customers", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {"columns": ["n"], "rows": [[60]]}


def test_json_has_null_where_it_has_no_word_for_a_number(command, copy, capsys):
    sql = "select 'inf'::double as a, ['nan'::double, 1.5] as b, {'x': '-inf'::float} as c"
    assert run(command, [sql, "--json"]) == ExitCode.OK
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert said["rows"] == [[None, [None, 1.5], {"x": None}]]


def test_csv_is_guarded_for_spreadsheets_and_bulk_reads_it_as_it_was(command, copy, capsys, tmp_path):
    sql = "select customer_code, first_name, last_name, phone, null as middle from paystack.customers limit 2"
    assert run(command, ["--csv", sql]) == ExitCode.OK
    text = capsys.readouterr().out
    rows = list(csv.reader(io.StringIO(text)))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    path = tmp_path / "out.csv"
    path.write_text(text, encoding="utf-8", newline="")
    chunk = next(iter(CsvFile(FileSnapshot.of(path), "utf-8").batches()))
    assert [column.to_pylist() for column in chunk.columns] == [
        ["CUS_0", "CUS_1"],
        ["=SUM(1)"] * 2,
        ['Òké, "the" 2nd'] * 2,
        ["+234800", "+234801"],
        [""] * 2,
    ]


def test_it_cannot_change_the_copy(command, copy, capsys):
    assert run(command, ["delete from paystack.customers"]) != ExitCode.OK
    assert run(command, ["select count(*) as n from paystack.customers", "--json"]) == ExitCode.OK
    assert "[[60]]" in capsys.readouterr().out


@pytest.mark.parametrize(
    "sql", ["select nothing from paystack.customers", "from nowhere", "selec 1", ";", "/* nothing */"]
)
def test_what_duckdb_cannot_answer_is_bad_usage(command, copy, sql, capsys):
    assert run(command, [sql]) == ExitCode.USAGE
    assert "DuckDB cannot run that" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sql",
    [
        "select phone::double from customers where id = 'abc'",
        "select (first_name || chr(10) || 'Obi')::int from customers",
        "select strptime(email, '%Y') from customers",
        "select json_extract('{' || first_name, '$.a') from customers",
        "select (phone::bigint * 1000000000000000)::bigint from customers",
        "select now() at time zone last_name from customers",
    ],
)
def test_a_value_that_does_not_fit_the_question_is_bad_usage_and_not_quoted(command, copy, sql, capsys):
    assert run(command, [sql, "--json"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    for text in (out, err):
        assert "DuckDB cannot run that" in text
        assert [held for held in ("SUM", "Òké", "2nd", "23480", "a0@", "@example") if held in text] == []


def test_what_the_question_itself_quotes_is_shown(command, copy, capsys):
    assert run(command, ["select 'abc'::int from customers"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "Could not convert string 'abc' to INT32" in said
    assert "try_cast" in said


@pytest.mark.parametrize("pressed", ["as it begins", "later"])
def test_ctrl_c_ends_a_question_that_takes_long(pressed, command, copy, monkeypatch):
    # Whether DuckDB hears a signal itself depends on which of its threads works.
    asked, interrupted = threading.Event(), threading.Event()

    class Deaf(contextlib.nullcontext):
        extract_statements = staticmethod(duckdb.extract_statements)
        interrupt = staticmethod(interrupted.set)

        def __enter__(self):
            return self

        def execute(self, _sql):
            asked.set()
            interrupted.wait(PATIENCE)
            raise duckdb.Error

    def press():
        asked.wait(PATIENCE)
        signal.raise_signal(signal.SIGINT)

    class Starting(threading.Thread):
        def start(self):
            super().start()
            press()

    monkeypatch.setattr("paystack_source.cli.query.opened", lambda *_: Deaf())
    if pressed == "as it begins":
        monkeypatch.setattr("paystack_source.cli.query.threading.Thread", Starting)
    else:
        threading.Thread(target=press, daemon=True).start()
    assert run(command, ["select 1"]) == ExitCode.INTERRUPTED
    assert interrupted.is_set()


def test_a_question_is_one_statement(command, copy, capsys):
    assert run(command, ["select 1; select 2"]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert "That is 2 statements." in said.err
    assert said.out == ""
    assert run(command, ["select 1; -- the answer"]) == ExitCode.OK
    pivot = "pivot customers on risk_action using count(*) group by last_name"  # DuckDB makes two statements of it
    assert run(command, [pivot]) == ExitCode.OK
    assert "the" in capsys.readouterr().out
    assert run(command, [f"{pivot}; {pivot}"]) == ExitCode.USAGE


def test_it_reads_nothing_but_the_copy(command, copy, capsys):
    for sql in (f"from read_text('{SCRIPT}')", "copy customers to 'out.csv'", "attach 'other.duckdb'"):
        assert run(command, [sql]) == ExitCode.USAGE
        assert "can read the copy, and no other file" in capsys.readouterr().err
    assert run(command, ["set enable_external_access = true"]) != ExitCode.OK
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name]


@pytest.mark.parametrize("zone", ["America/New_York", "Africa/Lagos"])
def test_times_are_utc_whatever_the_zone_of_the_machine(command, copy, capsys, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    sql = "select min(created_at) as first, min(created_at)::varchar as said from customers"
    try:
        for mode in ([], ["--csv"], ["--json"]):
            assert run(command, [sql, *mode]) == ExitCode.OK
            assert capsys.readouterr().out.count("2026-01-01 08:00:00") == 2
    finally:
        monkeypatch.undo()
        time.tzset()


NESTED = "select {'a': 1, 'b': [timestamp '2026-01-01']} as v, 'x' as w"


def test_structs_and_lists_are_json(command, copy, capsys):
    assert run(command, [NESTED, "--csv"]) == ExitCode.OK
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert json.loads(row["v"]) == {"a": 1, "b": ["2026-01-01T00:00:00"]}
    assert run(command, [NESTED]) == ExitCode.OK
    assert '{"a":1,"b":["2026-01-01T00:00:00"]}' in capsys.readouterr().out


def test_rows_that_are_too_wide_for_a_table_stand_one_under_the_other(command, copy, capsys):
    names = [f"a_column_of_some_length_{number}" for number in range(12)]
    sql = f"select {', '.join(f'{place} as {name}' for place, name in enumerate(names))}"
    assert run(command, [sql]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.strip()][1:] == [
        [name, str(place)] for place, name in enumerate(names)
    ]


STEERS = "\x1b[31m\x07\x9b\u202e\u2066\u200b\u061c\u3164\U000e0041"


def test_what_steers_a_terminal_is_not_shown_and_reaches_json_escaped(command, copy, capsys, monkeypatch):
    sql = "select 'x" + STEERS + "\nNext: y' as \"n" + STEERS + '"'
    assert run(command, [sql]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert run(command, [sql, "--json"]) == ExitCode.OK
    text = capsys.readouterr().out
    assert json.loads(text)["rows"] == [[f"x{STEERS}\nNext: y"]]
    assert run(command, [sql, "--csv"]) == ExitCode.OK
    assert STEERS in capsys.readouterr().out  # a file is exact
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(command, [sql, "--csv"]) == ExitCode.OK
    for said in (shown, text, capsys.readouterr().out):
        assert not set("\x1b\x07\x9b\u202e\u2066\u200b\u061c\u3164\U000e0041") & set(said)
        assert "\nNext" not in said


def test_a_table_needs_no_more_than_its_name(command, copy, capsys):
    assert run(command, ["select count(*) as n from customers", "--json"]) == ExitCode.OK
    assert "[[60]]" in capsys.readouterr().out


def test_a_table_that_is_not_there_leads_to_the_one_that_is(command, copy, capsys):
    assert run(command, ["from customer"]) == ExitCode.USAGE
    assert "the table customers" in capsys.readouterr().err.splitlines()[1]


@pytest.fixture
def two_copies(copy):
    """A file with the copies of two accounts, neither of them under the usual name."""
    with duckdb.connect(str(copy)) as connection:
        connection.execute(
            "create schema paystack_ng; create schema paystack_gh; create table loose as select 7"
        )
        for name, first in (("paystack_ng", "0"), ("paystack_gh", "30")):
            connection.execute(
                f"create table {name}.customers as from paystack.customers where created_at >= "
                f"timestamptz '2026-01-01' + to_days({first})"
            )
        connection.execute("drop schema paystack cascade")
    return copy


def test_it_asks_the_dataset_that_is_named(command, two_copies, capsys):
    for name, number in (("paystack_ng", 60), ("paystack_gh", 30)):
        assert run(command, ["select count(*) from customers", "--dataset", name, "--json"]) == ExitCode.OK
        assert f"[[{number}]]" in capsys.readouterr().out
    assert run(command, ["--dataset", "paystack_gh"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "paystack_gh" in out
    assert "CUS_59" in out
    assert run(command, ["select * from loose", "--dataset", "paystack_gh", "--json"]) == ExitCode.OK


@pytest.mark.parametrize("question", [[], ["from customers"], ["from paystack.customers"]])
def test_where_there_are_only_other_datasets_it_names_them(command, two_copies, capsys, question):
    assert run(command, question) == ExitCode.USAGE
    assert "--dataset: paystack_gh, paystack_ng" in capsys.readouterr().err


@pytest.mark.parametrize("named", [["--dataset", "paystack_gb"], ["--account", "gb"]])
@pytest.mark.parametrize("question", [[], ["select count(*) from customers"], ["select 1"]])
def test_a_dataset_that_is_not_there_is_not_answered_from_another(
    command, two_copies, capsys, named, question
):
    with duckdb.connect(str(two_copies)) as connection:
        connection.execute("create table customers as from paystack_ng.customers")
        connection.execute("create schema paystack_ng_staging")
        connection.execute("create table paystack_ng_staging.customers as from paystack_ng.customers")
    assert run(command, [*question, *named]) == ExitCode.USAGE
    assert "no dataset paystack_gb.\n" in (err := capsys.readouterr().err)
    assert "--dataset: main, paystack_gh, paystack_ng.\n" in err


def test_a_file_cannot_be_named_and_be_the_sandboxs(command, copy, capsys):
    assert run(command, ["--sandbox", "--database", str(copy)]) == ExitCode.USAGE
    assert "--database" in capsys.readouterr().err


def test_a_database_without_a_copy_says_how_to_make_one(command, tmp_path, capsys):
    with duckdb.connect(str(tmp_path / "other.duckdb")) as other:
        other.execute("create table t as select 1")
    assert run(command, ["--database", str(tmp_path / "other.duckdb")]) == ExitCode.USAGE
    assert "pipelines/customers.py" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["customers.csv", "."])
def test_what_is_no_database_is_bad_usage(command, tmp_path, name, capsys):
    (tmp_path / "customers.csv").write_text("customer_code\nCUS_1\n" * 1000)
    assert run(command, ["--database", str(tmp_path / name)]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "is not a DuckDB file" in err
    assert "pipelines/customers.py" in err


@pytest.mark.parametrize("question", [["select range from range(200000)"], []])
def test_a_reader_of_the_csv_may_leave_early(copy, question):
    child = subprocess.Popen(
        [python(), str(SCRIPT), "--csv", *question], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )  # fmt: skip
    child.stdout.readline()
    child.stdout.close()
    with child.stderr:
        assert child.stderr.read() == b""
    assert child.wait() == ExitCode.OK


CLOSED = """
import os, runpy, sys

closed, *sys.argv = sys.argv[1:]
for name in closed.split():  # as the interpreter begins where the shell closed them
    os.close(getattr(sys, name).fileno())
    setattr(sys, name, None)
    setattr(sys, f"__{name}__", None)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("mode", "closed"), [((), "stdin stdout stderr"), (("--csv",), "stdout"), (("--json",), "stderr")]
)
def test_a_closed_stream_changes_no_outcome(copy, mode, closed):
    done = subprocess.run(
        [python(), "-c", CLOSED, closed, str(SCRIPT), "select 1 as x", *mode],
        capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (ExitCode.OK, b"")
    assert bool(done.stdout) is ("stdout" not in closed)


ASKED = """
import runpy, sys

script = sys.argv[1]
for mode in ([], ["--csv"], ["--json"]):
    sys.argv = [script, "select 'Òké €' as x", *mode]
    sys.stdout.reconfigure(encoding="ascii", errors="strict")  # as PYTHONIOENCODING=ascii makes it
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        assert not ended.code
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\\0")
    sys.stdout.buffer.flush()
"""


def test_ascii_streams_change_no_outcome_and_no_data(copy):
    shown, csv, found, _ = subprocess.run(
        [python(), "-c", ASKED, str(SCRIPT)], capture_output=True, check=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    ).stdout.split(b"\0")  # fmt: skip
    assert b"x" in shown
    assert csv.decode().splitlines() == ['"x"', "Òké €"]
    assert json.loads(found.splitlines()[-1])["rows"] == [["Òké €"]]


def test_no_copy_yet_says_how_to_make_one(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DESTINATION__DUCKDB__CREDENTIALS", raising=False)
    assert run(command, []) == ExitCode.USAGE
    assert "pipelines/customers.py" in capsys.readouterr().err


def test_it_looks_where_dlt_was_told_to_keep_the_copy(command, copy, tmp_path, monkeypatch, capsys):
    copy.rename(tmp_path / "elsewhere.duckdb")
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", f"duckdb:///{tmp_path / 'elsewhere.duckdb'}")
    assert run(command, []) == ExitCode.OK
    assert "CUS_59" in capsys.readouterr().out
