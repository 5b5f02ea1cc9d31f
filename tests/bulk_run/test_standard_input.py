"""`-`: the list comes through a pipe, and is read once."""

from __future__ import annotations

import io
import os
import pty
import sys
from pathlib import Path

import pytest

from tests.bulk_run.conftest import ROOT

CHECK = {
    "first_name": "Ada",
    "last_name": "Obi",
    "country": "NG",
    "bank_code": "058",
    "account_number": "0123456789",
}


@pytest.fixture
def pipe(monkeypatch):
    """Gives standard input these bytes."""

    def give(content):
        stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", stream)

    return give


def rows_of(desk, operation):
    codes = [c["customer_code"] for c in desk.customers(3)]
    return {
        "risk-action": [{"customer_code": code, "risk_action": "deny", "note": "mine"} for code in codes],
        "validate": [
            {"customer_code": code, **CHECK, "bvn": f"2222222222{n}"} for n, code in enumerate(codes)
        ],
    }[operation]


@pytest.mark.parametrize("operation", ["risk-action", "validate"])  # with and without secrets
def test_a_run_reads_it_and_the_results_have_its_columns(desk, pipe, operation):
    rows = rows_of(desk, operation)
    content = desk.csv("list.csv", rows).read_bytes()
    (desk.folder / "list.csv").unlink()
    pipe(content)
    said = desk.bulk("run", operation, "-", "--yes")
    assert said.code == 0, said.err
    assert len(desk.api.write_log()) == 3
    lines = desk.results(said)
    assert set(rows[0]) <= set(lines[0])
    kept = [
        path
        for path in Path("paystack_results").rglob("*")
        if path.is_file() and b"22222222220" in path.read_bytes()
    ]
    assert not kept  # a BVN rests nowhere


def test_a_plan_of_it_is_applied_later_and_its_results_have_the_input_columns(desk, pipe):
    pipe(desk.csv("list.csv", rows_of(desk, "risk-action")).read_bytes())
    made = desk.bulk("plan", "risk-action", "-", "--refresh", "live")
    assert made.code == 0, made.err
    pipe(b"")
    said = desk.bulk("apply", made.json["plan_file"], "--yes")
    assert (said.code, said.json["applied"]) == (0, 3)
    assert {line["note"] for line in desk.results(said)} == {"mine"}
    undone = desk.bulk("undo", said.json["run_id"], "--yes")
    assert (undone.code, undone.json["applied"]) == (0, 3)


def test_secrets_are_not_kept_so_they_are_given_again(desk, pipe):
    path = desk.csv("list.csv", rows_of(desk, "validate"))
    pipe(path.read_bytes())
    made = desk.bulk("plan", "validate", "-", "--out", "checks.plan")
    assert "apply checks.plan --no-copy --input FILE" in made.err
    refused = desk.bulk("apply", "checks.plan", "--yes")
    assert (refused.code, desk.api.write_log()) == (2, [])
    assert "--input" in refused.err
    other = desk.csv("other.csv", [{**row, "bvn": "99999999999"} for row in rows_of(desk, "validate")])
    assert desk.bulk("apply", "checks.plan", "--yes", "--input", other).code == 2
    assert desk.api.write_log() == []
    said = desk.bulk("apply", "checks.plan", "--yes", "--input", path)
    assert (said.code, said.json["accepted_pending"]) == (0, 3)


def test_what_is_wrong_is_said_and_nothing_is_kept(desk, pipe):
    pipe(b"customer_code,risk_action\nCUS_x,maybe\n")
    said = desk.bulk("plan", "risk-action", "-")
    assert said.code == 2
    assert "1 problem in standard input" in said.err or "2 problems in standard input" in said.err
    assert not list(Path("paystack_results").rglob("*.input"))


def test_nobody_can_be_asked_where_it_is_the_list(desk, pipe, monkeypatch):
    pipe(desk.csv("list.csv", rows_of(desk, "risk-action")).read_bytes())
    monkeypatch.setattr("paystack_source.cli.terminal.TERMINAL", desk.folder / "no terminal")
    said = desk.bulk("run", "risk-action", "-")
    assert (said.code, desk.api.write_log()) == (2, [])
    assert "standard input is the list" in said.err
    assert "--yes" in said.err


@pytest.mark.skipif(os.name == "nt", reason="a controlling terminal of its own")
def test_the_question_is_asked_at_the_terminal(desk):
    path = desk.csv("list.csv", rows_of(desk, "risk-action"))
    pid, terminal = pty.fork()
    if pid == 0:  # a process with a terminal of its own, whose standard input is the list
        os.dup2(os.open(path, os.O_RDONLY), 0)
        args = [sys.executable, str(ROOT / "pipelines" / "bulk.py"), "run", "risk-action", "-", "--no-copy"]
        os.execv(sys.executable, args)
    said = b""
    try:
        while b"[y/N]" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, b"y\n")
        while b"Complete" not in said:
            said += os.read(terminal, 4096)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert b"Set 3 customers to deny on the TEST account?" in said
    assert len(desk.api.write_log()) == 3
