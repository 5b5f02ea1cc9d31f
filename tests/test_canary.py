"""Keys, BVNs, account numbers and authorization codes rest nowhere: runs with marked ones, then a search.

What is searched: everything printed (also tracebacks asked for), dlt's working folder with its traces and
pickles, the DuckDB file, plans, journals, results and review pages. The sandbox's own state is left out: it
is Paystack, and must receive them.
"""

import contextlib
import gzip
import json
import os
import pickle
import re
import sqlite3
import subprocess
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paystack_source.sandbox.answers import success
from tests.canary import search
from tests.processes import python

ROOT = Path(__file__).parent.parent
MARK = "CANARY7f3e"


def as_duckdb(path):
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table t as select 'x' || i as a, ? as b from range(3000) r(i)", [MARK])


def as_sqlite(path):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table t (a)")
        connection.execute("insert into t values (?)", [MARK])
    connection.close()


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("run.log", lambda path: path.write_text(f"key={MARK}\n")),
        ("utf16.csv", lambda path: path.write_text(MARK, encoding="utf-16")),
        ("trace.pickle", lambda path: path.write_bytes(pickle.dumps({"error": MARK}))),
        ("rows.jsonl.gz", lambda path: path.write_bytes(gzip.compress(MARK.encode()))),
        ("rows.parquet", lambda path: pq.write_table(pa.table({"a": ["x", MARK]}), path, compression="zstd")),
        ("copy.duckdb", as_duckdb),
        ("journal.sqlite", as_sqlite),
        (f"{MARK}.txt", lambda path: path.write_text("")),
    ],
)
def test_the_search_finds_a_mark_wherever_it_hides(name, write, tmp_path):
    assert not search(tmp_path, [MARK])
    write(tmp_path / name)
    assert search(tmp_path, [MARK]) == [f"{name}: {MARK}"]
    assert not search(tmp_path, ["another"])


# --- real runs, with marked values -------------------------------------------------------------------

KEY = "sk_test_canary00c4f1d2e3b5a69788f0e1d2c3b4a59687"
BVN = "22299911177"
ACCOUNT = "0690777555"
IMPATIENT = """
import runpy, sys
from paystack_source.api.transport import RetryPolicy

RetryPolicy.pause = lambda *_: 0.0
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A command that asks again at once."""
SECRETS = [KEY, KEY.removeprefix("sk_test_"), BVN, ACCOUNT]


@pytest.fixture
def workplace(tmp_path):
    """A working folder with everything a run may write in it, and what the runs said."""
    return Workplace(tmp_path)


class Workplace:
    def __init__(self, folder):
        self.folder = folder / "work"
        self.folder.mkdir()
        self.said = folder / "work" / "said.txt"
        self.environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if not re.search("PAYSTACK|DLT|DESTINATION", name)
            },
            "PAYSTACK_SECRET_KEY": KEY,
            "DLT_DATA_DIR": str(self.folder / "dlt"),
            "HOME": str(self.folder),
            "RUNTIME__LOG_LEVEL": "DEBUG",  # the most that dlt can be made to say
        }

    def run(self, url, script, *args, patient=True):
        command = [ROOT / "pipelines" / script] if patient else ["-c", IMPATIENT, ROOT / "pipelines" / script]
        done = subprocess.run(
            [python(), *command, *args],
            cwd=self.folder,
            env=self.environ | {"SOURCES__PAYSTACK__BASE_URL": url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        with self.said.open("a", encoding="utf-8") as said:
            said.write(f"$ {script} {args} -> {done.returncode}\n{done.stdout}\n{done.stderr}\n")
        return done

    def found(self, marks, *inputs):
        return search(self.folder, marks, except_for=[self.folder / name for name in inputs])


def test_a_key_rests_nowhere_after_reading_well_or_badly(workplace, sandbox):
    api = sandbox(customers=40, secret_keys=(KEY,))
    cards = [
        code
        for customer in list(api.customers_truth())
        for code in api.authorizations(customer["customer_code"])
    ]
    done = workplace.run(api.url, "customers.py", "--details", "--json")
    assert done.returncode == 0
    assert "Fetching details: 0 of " in done.stderr
    assert workplace.run(api.url, "query.py").returncode == 0

    api.configure(secret_keys=())
    refused = workplace.run(api.url, "customers.py", "--traceback", "--json")
    assert refused.returncode == 4
    assert "Traceback" in refused.stderr
    api.configure(secret_keys=(KEY,), faults="html=1.0")
    broken = workplace.run(api.url, "customers.py", "--traceback", patient=False)
    assert broken.returncode == 1
    assert "Traceback" in broken.stderr

    assert "Traceback" in workplace.said.read_text()
    assert workplace.found([*SECRETS, *cards]) == []


def test_what_a_bulk_run_sends_and_paystack_echoes_rests_nowhere(workplace, sandbox, monkeypatch):
    """Bank details and cards, and the names, emails and phones in the message of a success."""

    def echoing(message, data=None, *, status=200, **more):
        said = f"{message}: BVN {BVN}, account {ACCOUNT}, Adaeze of ada@echo.ng, 0803 111 2222, {cards[0]}"
        return success(said, data, status=status, **more)

    monkeypatch.setattr("paystack_source.sandbox.operations.success", echoing)
    api = sandbox(customers=40, secret_keys=(KEY,), verdict_delay=0)
    customers = list(api.customers_truth())
    cards = [code for c in customers for code in api.authorizations(c["customer_code"])][:5]
    assert cards
    header = "customer_code,first_name,last_name,country,bank_code,account_number,bvn"
    checks = [
        f"{code},Adaeze,Obi,NG,058,{ACCOUNT},{BVN}"
        for code in [*(c["customer_code"] for c in customers[:5]), "CUS_nosuchcustomer"]
    ]
    names = [f"{c['customer_code']},Zuwairatu" for c in customers[5:8]]
    inputs = {
        "checks.csv": [header, *checks],
        "bad.csv": [header, checks[0].replace(BVN, BVN + "x")],
        "cards.csv": ["authorization_code", *cards, "AUTH_nosuchcode1"],
        "names.csv": ["customer_code,first_name", *names],
    }
    for name, lines in inputs.items():
        (workplace.folder / name).write_text("\n".join(lines) + "\n")

    def bulk(code, *words):
        done = workplace.run(api.url, "bulk.py", *words)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if "--json" in words else None

    assert workplace.run(api.url, "customers.py").returncode == 0
    bulk(0, "plan", "validate", "checks.csv", "--out", "v.plan", "--review", "v.html")
    bulk(2, "plan", "validate", "bad.csv", "--traceback")
    api.configure(faults="reset_after@writes#2")
    applied = bulk(3, "apply", "v.plan", "--yes", "--json")
    assert applied["accepted_pending"] == 4
    bulk(0, "status", applied["run_id"], "--refresh", "--json")
    workplace.run(api.url, "bulk.py", "resume", applied["run_id"], "--yes", "--traceback")
    api.configure(faults="")
    bulk(3, "run", "deactivate-authorization", "cards.csv", "--yes")
    bulk(0, "run", "update", "names.csv", "--yes", "--traceback")

    assert workplace.found([*SECRETS, *cards], *inputs) == []
    assert workplace.found(["ada@echo.ng", "0803 111 2222"]) == []
    assert "[number]" in "".join(p.read_text() for p in workplace.folder.rglob("summary.json"))


# --- customers: in the copy, and nowhere else ---------------------------------------------------------


def staged(folder):
    """Rows per table of the staging dataset, without dlt's own tables."""
    with duckdb.connect(str(folder / "paystack_customers.duckdb"), read_only=True) as connection:
        tables = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'paystack_staging'"
        ).fetchall()
        return {
            name: connection.execute(f'select count(*) from paystack_staging."{name}"').fetchone()[0]
            for (name,) in tables
            if not name.startswith("_dlt")
        }


def test_no_customer_stays_in_dlts_folder_or_in_staging(workplace, sandbox):
    api = sandbox(customers=40, secret_keys=(KEY,))
    people = list(api.customers_truth())
    personal = [person[name] for person in people for name in ("email", "customer_code")]
    dlt = workplace.folder / "dlt"
    # What a dlt that was told nothing leaves, as an earlier version of this project did.
    told = {"LOAD__DELETE_COMPLETED_JOBS": "false", "LOAD__TRUNCATE_STAGING_DATASET": "false"}
    workplace.environ |= told
    assert workplace.run(api.url, "customers.py", "--history", "--details").returncode == 0
    assert search(dlt, personal)
    assert staged(workplace.folder)["customers"] == 40

    for name in told:
        del workplace.environ[name]
    api.add_customers(5)
    people = list(api.customers_truth())
    personal = [person[name] for person in people for name in ("email", "customer_code")]
    more = ("--history", "--details", "--full-refresh")
    assert workplace.run(api.url, "customers.py", *more).returncode == 0
    assert not search(dlt, personal)
    assert not any(staged(workplace.folder).values())

    rows = [f"{person['customer_code']},Changedcanary" for person in people[:5]]
    (workplace.folder / "names.csv").write_text("\n".join(["customer_code,first_name", *rows]) + "\n")
    assert workplace.run(api.url, "bulk.py", "run", "update", "names.csv", "--yes").returncode == 0
    assert staged(workplace.folder)["write_back_rows"] == 0
    assert not any(staged(workplace.folder).values())
    assert not search(dlt, [*personal, "Changedcanary"])
