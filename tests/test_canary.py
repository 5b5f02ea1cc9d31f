"""Keys, BVNs, account numbers and authorization codes rest nowhere: runs with marked ones, then a search.

What is searched: everything printed (also tracebacks asked for), dlt's working folder with its traces and
pickles, the DuckDB file, plans, journals, results and review pages. The sandbox's own state is left out: it
is Paystack, and must receive them.
"""

import gzip
import pickle
import sqlite3

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.canary import search

MARK = "CANARY7f3e"


def as_duckdb(path):
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table t as select 'x' || i as a, ? as b from range(3000) r(i)", [MARK])


def as_sqlite(path):
    with sqlite3.connect(path) as connection:
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
