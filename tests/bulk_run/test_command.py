"""The command line against a sandbox: every command, every way to be refused, every exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import threading
import time
from datetime import timedelta
from pathlib import Path
from unicodedata import normalize

import pytest

from paystack_source import private_files
from paystack_source.bulk.plan.plan import Plan
from paystack_source.bulk.run.runs import Runs
from paystack_source.bulk.run.states import EventKind, JournalEvent
from paystack_source.cli.terminal import Terminal
from paystack_source.errors import ExitCode
from paystack_source.sandbox import parse_faults
from tests.api.raw_server import RawServer, ok
from tests.events import until

ANSWER_TIMEOUT = 60  # seconds, the client's default

FIELDS = {
    "run_id", "operation", "rows", "applied", "skipped_noop", "accepted_pending", "rejected", "unknown",
    "unsent", "requests", "seconds", "results_file",
}  # fmt: skip


def test_a_run_from_file_to_results(desk):
    path = desk.risk_file(10, extra=1)
    said = desk.bulk("run", "risk-action", path, "--risk-action", "allow", "--yes")
    assert said.code == 3
    assert set(said.json) >= FIELDS
    assert (said.json["rows"], said.json["applied"], said.json["rejected"]) == (11, 10, 1)
    assert said.json["requests"] == 11
    assert {desk.truth(c["customer_code"])["risk_action"] for c in desk.customers(10)} == {"allow"}
    lines = desk.results(said)
    assert list(lines[0]) == ["customer_code", "note", "_status", "_code", "_message", "_time"]
    assert [line["_status"] for line in lines] == ["applied"] * 10 + ["rejected"]
    assert lines[0]["note"] == "+234 kept"
    assert lines[10]["note"] == "=1+1"
    assert lines[0]["_time"].endswith("Z")
    assert "rejected" in said.err
    assert f"run risk-action {said.json['failed_file']}" in said.err
    # What failed is corrected there, and fed straight back.
    failed, code = Path(said.json["failed_file"]), desk.customers(11)[10]["customer_code"]
    failed.write_text(failed.read_text("utf-8-sig").replace("CUS_nosuchone0", code), "utf-8-sig")
    again = desk.bulk("run", "risk-action", failed, "--risk-action", "allow", "--yes")
    assert (again.code, again.json["rows"], again.json["applied"]) == (0, 1, 1)
    assert desk.results(again)[0]["note"] == "=1+1"
    assert Path(again.json["results_file"]).read_text("utf-8-sig").splitlines()[0].count("_status") == 1


def test_the_same_file_again_sends_nothing(desk):
    path = desk.risk_file(10)
    assert desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes").code == 0
    before = len(desk.api.write_log())
    again = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes", "--refresh", "live")
    assert (again.code, again.json["skipped_noop"], again.json["requests"]) == (0, 10, 0)
    assert len(desk.api.write_log()) == before


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_utf_8_change_no_outcome(desk, monkeypatch):
    """The input, the plan and the folder, in which the plan's run is kept: planned, applied, and taken back."""
    folder = desk.folder / os.fsdecode(b"na\xefve")
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = desk.risk_file(3).rename(folder / os.fsdecode(b"caf\xe9.csv"))
    name = os.fsdecode(b"-\xe9.plan")
    out = ("--refresh", "live", "--out", f"./{name}")
    named_in_full = folder / os.fsdecode(b"\xe9.plan")
    assert desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--out", named_in_full).code == 0
    made = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", *out)
    assert made.code == 0
    assert r"apply $'./-\xe9.plan'" in made.err
    # What the screen is not shown can be pasted as well.
    hidden = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--out", "a\tb\u202e'.plan")
    assert r"apply $'a\tb\xe2\x80\xae\'.plan'" in hidden.err
    applied = desk.bulk("apply", f"./{name}", "--yes")
    assert (applied.code, applied.json["applied"]) == (0, 3)
    assert "was applied before" in desk.bulk("apply", f"./{name}", "--yes").err
    assert desk.bulk("undo", "latest", "--yes").json["applied"] == 3
    assert desk.bulk("status").json["runs"][0]["applied"] == 3


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_the_secrets_of_a_file_whose_name_is_no_utf_8_are_read_again(desk):
    row = {"customer_code": desk.customers(1)[0]["customer_code"], "first_name": "Ada", "last_name": "Obi"}
    row |= {"country": "NG", "bank_code": "058", "account_number": "0123456789", "bvn": "22222222221"}
    path = desk.csv("in.csv", [row]).rename(desk.folder / os.fsdecode(b"caf\xe9.csv"))
    plan = desk.bulk("plan", "validate", path).json["plan_file"]
    assert desk.bulk("apply", plan, "--yes").json["accepted_pending"] == 1


def test_a_plan_is_shown_and_sends_nothing_then_is_applied_once(desk):
    path = desk.risk_file(10)
    said = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--refresh", "live")
    assert said.code == 0
    assert {"plan_file", "rows", "to_send", "noop", "drifted", "requests", "minutes"} <= set(said.json)
    assert said.json["to_send"] == 10
    assert desk.api.write_log() == []
    plan = said.json["plan_file"]
    assert stat.S_IMODE(Path(plan).stat().st_mode) == 0o600
    assert desk.bulk("review", plan, "--out", "page.html").json["review_file"] == "page.html"
    assert "<html" in Path("page.html").read_text()
    applied = desk.bulk("apply", plan, "--yes")
    assert (applied.code, applied.json["applied"]) == (0, 10)
    again = desk.bulk("apply", plan, "--yes")
    assert again.code == 2
    assert "was applied before" in again.err
    assert len(desk.api.write_log()) == 10


def planned(desk, number=5):
    said = desk.bulk("plan", "risk-action", desk.risk_file(number), "--risk-action", "deny")
    return Path(said.json["plan_file"])


def test_an_edited_plan_is_refused(desk):
    plan = planned(desk)
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    said = desk.bulk("apply", plan, "--yes")
    assert said.code == 2
    assert desk.api.write_log() == []


def test_a_plan_of_another_account_is_refused(desk):
    plan = planned(desk)
    for customer in desk.customers(60):  # the key now belongs to somebody else
        desk.api.edit_customer(customer["customer_code"], integration=999)
    said = desk.bulk("apply", plan, "--yes")
    assert said.code == 2
    assert "another Paystack account" in said.err
    assert desk.api.write_log() == []


def test_nothing_is_sent_before_somebody_agreed(desk):
    said = desk.bulk("run", "risk-action", desk.risk_file(5), "--risk-action", "deny")
    assert said.code == 2
    assert "--yes" in said.err
    assert desk.api.write_log() == []


def test_a_copy_of_the_plan_is_the_same_plan(desk):
    plan = planned(desk)
    copied = plan.with_name("copy.plan")
    copied.write_bytes(plan.read_bytes())
    with Runs().lock(Plan.open(plan)):
        for one in (plan, copied):
            said = desk.bulk("apply", one, "--yes")
            assert said.code == 2
            assert "being applied by another process" in said.err
    stale = desk.bulk("apply", plan, "--yes", "--max-age", "0")
    assert stale.code == 2
    assert "hours old" in stale.err
    assert desk.api.write_log() == []
    assert desk.bulk("apply", plan, "--yes").code == 0
    assert desk.bulk("apply", copied, "--yes").code == 2


def test_a_forbidden_integration_stops_at_once_and_can_be_resumed(desk):
    desk.api.configure(risk_forbidden=True)
    said = desk.bulk("run", "risk-action", desk.risk_file(50), "--risk-action", "deny", "--yes")
    assert (said.code, said.json["unsent"], said.json["rejected"]) == (4, 50, 0)
    assert said.json["requests"] < 50
    assert f"resume {said.json['run_id']}" in said.err
    assert len(desk.results(said, "unsent_file")) == 50
    desk.api.configure(risk_forbidden=False)
    again = desk.bulk("resume", said.json["run_id"], "--yes")
    assert (again.code, again.json["applied"], again.json["unsent"]) == (0, 50, 0)
    assert again.json["unsent_file"] is None
    assert desk.api.repeated_writes() == {}


def test_resuming_a_run_that_was_undone_says_so_first(desk):
    desk.api.configure(faults=parse_faults("blocked@set_risk_action#3+99"))
    deny = ["risk-action", desk.risk_file(6), "--risk-action", "deny", "--refresh", "live", "--yes"]
    said = desk.bulk("run", *deny)
    assert (said.json["applied"], said.json["unsent"]) == (2, 4)
    desk.api.configure(faults=())
    undone = desk.bulk("undo", said.json["run_id"], "--yes")
    assert undone.json["applied"] == 2
    again = desk.bulk("resume", said.json["run_id"], "--yes")
    assert again.json["applied"] == 6
    warning, question = again.err.index(f"{undone.json['run_id']} undid"), again.err.index("Resume ")
    assert warning < question


def test_an_undo_and_a_resume_of_a_run_exclude_each_other(desk):
    desk.api.configure(faults=parse_faults("blocked@set_risk_action#3+99"))
    deny = ["risk-action", desk.risk_file(6), "--risk-action", "deny", "--refresh", "live", "--yes"]
    run_id = desk.bulk("run", *deny).json["run_id"]
    desk.api.configure(faults=())
    undo = desk.bulk("undo", run_id, "--plan-only").json["plan_file"]
    with Runs().lock(Runs().open(run_id).plan()):  # as a resume does
        assert desk.bulk("apply", undo, "--yes").json["error"] == "BusyError"
    assert desk.bulk("resume", run_id, "--yes").json["applied"] == 6
    said = desk.bulk("apply", undo, "--yes")
    assert (said.code, said.json["error"]) == (2, "StalePlan")
    assert "resumed after its undo was planned" in said.json["message"]
    assert desk.bulk("undo", run_id, "--yes").json["applied"] == 6


def test_a_wrong_key_is_refused_before_anything_is_planned(desk, monkeypatch):
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", "sk_test_notthisone")
    said = desk.bulk("run", "risk-action", desk.csv("c.csv", [{"customer_code": "CUS_abcdef"}]),
                     "--risk-action", "deny", "--yes")  # fmt: skip
    assert said.code == 4


@pytest.mark.parametrize(
    "args",
    [
        ["run", "risk-action", "no-such-file.csv", "--risk-action", "deny", "--yes"],
        ["run", "no-such-operation", "x.csv"],
        ["apply", "no-such.plan", "--yes"],
        ["resume", "no-such-run", "--yes"],
        ["status", "no-such-run"],
        ["undo", "no-such-run", "--yes"],
    ],
)
def test_what_is_not_there_is_said_and_nothing_is_sent(desk, args):
    said = desk.bulk(*args)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert desk.api.write_log() == []


def test_every_bad_cell_is_told_at_once(desk):
    rows = [{"customer_code": "CUS_ok0000", "risk_action": f"maybe{n}"} for n in range(30)]
    said = desk.bulk("run", "risk-action", desk.csv("bad.csv", rows), "--yes")
    assert said.code == 2
    assert "30 problems" in said.err
    listed = next(Path("paystack_results/plans").glob("*.problems.csv"))
    assert len(listed.read_text("utf-8-sig").splitlines()) == 31


def test_status_lists_runs_newest_first_and_shows_one(desk):
    first = desk.bulk("run", "risk-action", desk.risk_file(2), "--risk-action", "deny", "--yes").json[
        "run_id"
    ]
    folder = Path("paystack_results") / first
    older = folder.rename(folder.with_name("20200101-000000-risk-action-0001"))
    second = desk.bulk("run", "risk-action", desk.risk_file(3), "--risk-action", "allow", "--yes").json[
        "run_id"
    ]
    listed = desk.bulk("status")
    assert [run["run_id"] for run in listed.json["runs"]] == [second, older.name]
    assert all(set(run) >= FIELDS for run in listed.json["runs"])
    one = desk.bulk("status", second[:24], "--verify")
    assert (one.json["run_id"], one.json["applied"]) == (second, 3)
    assert desk.bulk("status", "latest").json["run_id"] == second


def test_a_journal_that_was_edited_says_what_to_do(desk):
    run_id = desk.bulk("run", "risk-action", desk.risk_file(2), "--risk-action", "deny", "--yes").json[
        "run_id"
    ]
    journal = sqlite3.connect(Path("paystack_results") / run_id / "journal.sqlite")
    with contextlib.closing(journal), journal:
        journal.executescript("DROP TRIGGER events_stay; UPDATE events SET message = 'fine'")
    journal.close()
    said = desk.bulk("status", run_id, "--verify")
    assert (said.code, said.json["error"]) == (1, "EditedJournalError")
    assert "edited" in said.json["message"]
    assert "Do not resume" in said.json["advice"]
    assert "--refresh live" in said.json["advice"]


def test_an_option_that_cannot_be_is_bad_usage(desk):
    path = desk.risk_file(2)
    for option, value in (("--encoding", "klingon"), ("--delimiter", "ab")):
        said = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", option, value)
        assert (said.code, said.json["error"]) == (2, "ConfigError")
        assert value in said.json["message"]


def test_identity_verdicts_are_settled_later(desk):
    desk.api.configure(verdict_after_fetches=1)
    rows = [
        {"customer_code": c["customer_code"], "first_name": "Ada", "last_name": "Obi", "country": "NG",
         "bank_code": "007", "account_number": f"012345678{n}", "bvn": f"2229991110{n}"}
        for n, c in enumerate(desk.customers(4))
    ]  # fmt: skip
    said = desk.bulk("run", "validate", desk.csv("identities.csv", rows), "--yes")
    assert (said.code, said.json["accepted_pending"]) == (0, 4)
    assert f"status {said.json['run_id']} --refresh" in said.err
    settled = said
    shutil.copytree(
        "paystack_results", "backup"
    )  # what is read into a copy makes no other journal an older one
    for folder in ("backup", "backup", "paystack_results"):
        settled = desk.bulk("status", f"{folder}/{said.json['run_id']}", "--refresh")
        assert settled.code in {0, 3}, settled.err
    assert settled.json["accepted_pending"] == 0
    assert settled.json["applied"] + settled.json["rejected"] == 4
    for line in desk.results(settled):
        assert line["bvn"].startswith("…")
        assert line["account_number"].startswith("…")
    for file in Path("paystack_results").rglob("*"):
        if file.is_file():
            assert b"2229991110" not in file.read_bytes()
            assert b"012345678" not in file.read_bytes()


def test_undo_puts_back_what_was_there(desk):
    codes = [c["customer_code"] for c in desk.customers(6)]
    before = ["allow", "deny", "default", "allow", "deny", "default"]
    for code, action in zip(codes, before, strict=True):
        desk.api.edit_customer(code, risk_action=action)
    path = desk.csv("deny.csv", [{"customer_code": code} for code in codes])
    said = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes", "--refresh", "live")
    assert (said.json["applied"], said.json["skipped_noop"]) == (4, 2)
    undone = desk.bulk("undo", said.json["run_id"], "--yes")
    assert (undone.code, undone.json["applied"], undone.json["undo_of"]) == (0, 4, said.json["run_id"])
    assert [desk.truth(code)["risk_action"] for code in codes] == before


def test_undo_of_names_phones_and_metadata(desk):
    codes = [c["customer_code"] for c in desk.customers(3)]
    held = [
        {"first_name": "Ada", "last_name": None, "phone": "+2348012345678", "metadata": {"tier": 1}},
        {"first_name": None, "last_name": "Ọbí", "phone": None, "metadata": None},
        {"first_name": "Zoë", "last_name": "", "phone": "0801", "metadata": {}},
    ]
    for code, fields in zip(codes, held, strict=True):
        desk.api.edit_customer(code, **fields)
    rows = [
        {"customer_code": code, "first_name": "New", "last_name": "Name", "phone": "+2347000000000",
         "metadata": json.dumps({"tier": 2})}
        for code in codes
    ]  # fmt: skip
    said = desk.bulk("run", "update", desk.csv("new.csv", rows), "--yes", "--refresh", "live")
    assert said.json["applied"] == 3
    undone = desk.bulk("undo", said.json["run_id"], "--yes")
    assert undone.json.get("applied") == 3, undone.err
    for code, fields in zip(codes, held, strict=True):
        now = desk.truth(code)
        for name, value in fields.items():
            assert (now[name] or None) == (value or None)


@pytest.mark.parametrize(
    ("operation", "rows", "why"),
    [
        ("create", [{"email": "new.one@example.com"}], "no way to delete"),
        ("risk-action", None, "No row of this run can be undone"),
    ],
)
def test_what_cannot_be_undone_says_why(desk, operation, rows, why):
    path = desk.csv("rows.csv", rows) if rows else desk.risk_file(2)  # without a copy old values are unknown
    more = [] if rows else ["--risk-action", "deny", "--refresh", "never"]
    said = desk.bulk("run", operation, path, "--yes", *more)
    assert said.json["applied"] == len(desk.results(said))
    undone = desk.bulk("undo", said.json["run_id"], "--yes")
    assert undone.code == 2
    assert why in undone.err


def test_deactivations_and_creations_run_too(desk):
    cards = [
        (c["customer_code"], code)
        for c in desk.customers(60)
        for code in desk.api.authorizations(c["customer_code"])
    ]
    rows = [{"authorization_code": code, "customer_code": owner} for owner, code in cards[:3]]
    said = desk.bulk("run", "deactivate-authorization", desk.csv("cards.csv", rows), "--yes")
    assert (said.code, said.json["applied"]) == (0, 3)
    assert all(code not in desk.api.authorizations(owner) for owner, code in cards[:3])
    people = [{"email": f"new{n}@example.com", "phone": "+2348000000001"} for n in range(3)]
    made = desk.bulk("run", "create", desk.csv("people.csv", people), "--yes")
    assert (made.code, made.json["applied"]) == (0, 3)
    assert len(desk.api) == 63


def test_what_is_dangerous_is_said_first(desk):
    people = [{"email": f"new{n}@example.com"} for n in range(201)]
    files = {"create": desk.csv("people.csv", people), "risk-action": desk.risk_file(60)}
    rows = [{"authorization_code": f"AUTH_code{n}"} for n in range(101)]
    files["deactivate-authorization"] = desk.csv("cards.csv", rows)
    first = {
        "create": "201 new customers are more than all 60 customers",
        "deactivate-authorization": "101 deactivations are more than 100",
    }
    for operation, path in files.items():
        more = ["--risk-action", "deny"] if operation == "risk-action" else []
        said = desk.bulk("plan", operation, path, *more)
        assert said.code == 0, said.err
        page = Path(said.json["review_file"]).read_text()
        warnings = page.index("Before you apply") if "Before you apply" in page else 0
        assert warnings < page.index("<dl>")
        assert (
            ("It cannot be undone" in said.err)
            is ("It cannot be undone" in page)
            is (operation != "risk-action")
        )
        if operation in first:
            shown = [line for line in said.err.splitlines() if line.startswith(("warning:", "What would"))]
            assert shown[0].startswith(f"warning: {first[operation]}"), said.err
            assert shown[-1].startswith("What would change")
        # Columns that are blank in each row would only make the table too wide for a narrow terminal.
        blank = {"create": {"old", "new", "field", "note"}, "risk-action": {"note"}}.get(
            operation, {"old", "note"}
        )
        header = next(
            line.split() for line in said.err.splitlines() if line.split()[:2] == ["line", "customer"]
        )
        assert {"field", "old", "new", "note"}.difference(header) == blank


def test_private_things_are_private(desk):
    said = desk.bulk("run", "risk-action", desk.risk_file(2, extra=1), "--risk-action", "deny", "--yes")
    folder = Path("paystack_results") / said.json["run_id"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_an_input_that_changed_meanwhile_leaves_results_without_its_columns(desk):
    path = desk.risk_file(5)
    plan = desk.bulk("plan", "risk-action", path, "--risk-action", "deny").json["plan_file"]
    path.write_text("customer_code\nCUS_other\n")
    said = desk.bulk("apply", plan, "--yes")
    assert (said.code, said.json["applied"]) == (0, 5)
    assert "changed since it was planned" in said.json["warnings"][0]
    rows = desk.results(said)
    assert list(rows[0]) == [
        "customer_code",
        "email",
        "id",
        "risk_action",
        "_status",
        "_code",
        "_message",
        "_time",
    ]
    assert [row["customer_code"] for row in rows] == [c["customer_code"] for c in desk.customers(5)]
    assert {row["risk_action"] for row in rows} == {"deny"}


def test_results_keep_their_columns_when_the_input_is_gone_later(desk):
    path = desk.risk_file(5)
    desk.api.configure(risk_forbidden=True)
    said = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes")
    path.unlink()
    desk.api.configure(risk_forbidden=False)
    resumed = desk.bulk("resume", said.json["run_id"], "--yes")
    assert resumed.json["applied"] == 5
    assert desk.results(resumed)[0]["note"] == "+234 kept"
    assert resumed.json["warnings"] == []


def test_a_run_that_is_under_way_says_so_and_cannot_be_undone(desk):
    said = desk.bulk(
        "run", "risk-action", desk.risk_file(5), "--risk-action", "deny", "--yes", "--refresh", "live"
    )
    one = Runs().open("latest")
    with Runs().lock(one.plan()):
        assert desk.bulk("status", "latest").json["status"] == "running"
        assert desk.bulk("status").json["runs"][0]["status"] == "running"
        for command in ("undo", "resume"):
            assert desk.bulk(command, said.json["run_id"], "--yes").code == 2
    assert desk.bulk("status", "latest").json["status"] == "complete"


def test_the_stop_rules_can_be_set_on_the_command_line(desk):
    rows = [{"customer_code": f"CUS_nosuchone{n}"} for n in range(30)]
    path = desk.csv("canary.csv", rows)
    common = ["run", "risk-action", path, "--risk-action", "deny", "--yes", "--refresh", "never"]
    canary = desk.bulk(*common, "--canary", "3", "--canary-max", "50")
    assert (canary.code, canary.json["rejected"], canary.json["unsent"]) == (3, 3, 27)
    assert "first 3 rows failed" in canary.json["stopped"]
    equal = desk.bulk(*common, "--max-equal-rejections", "5")
    assert "5 equal rejections" in equal.json["stopped"]
    never = desk.bulk(*common, "--max-equal-rejections", "0")
    assert (never.json["stopped"], never.json["rejected"]) == (None, 30)


def interrupted(**carried):
    """A second Ctrl-C, wherever it is put."""
    stop = KeyboardInterrupt()
    for name, value in carried.items():
        setattr(stop, name, value)

    def interrupt(*_args, **_more):
        raise stop

    return interrupt


def test_what_has_not_begun_names_no_run(desk, monkeypatch):
    line = ["run", "risk-action", desk.risk_file(2), "--risk-action", "deny"]
    refused = desk.bulk(*line)
    assert (refused.code, refused.json["run_id"]) == (2, None)
    monkeypatch.setattr("paystack_source.bulk.service.Runs.create", interrupted())
    stopped = desk.bulk(*line, "--yes")
    assert (stopped.code, stopped.json["run_id"]) == (130, None)


def test_an_interrupted_run_is_gone_on_with_by_its_name(desk, monkeypatch):
    stop = interrupted(advice="Continue with: python pipelines/bulk.py resume RUN", details={"run_id": "RUN"})
    monkeypatch.setattr("paystack_source.bulk.service.Runner.run", stop)
    said = desk.bulk("run", "risk-action", desk.risk_file(2), "--risk-action", "deny", "--yes")
    assert (said.code, said.json["status"]) == (130, "interrupted")
    run_id = Runs().open("latest").run_id
    assert f"resume {said.json['run_id']} --no-copy" in said.json["advice"]
    assert said.json["run_id"] in {"RUN", run_id}


@pytest.mark.parametrize(
    "where", ["paystack_source.bulk.service.make_plan", "paystack_source.cli.bulk_commands.show_run"]
)
def test_before_and_after_a_run_an_interruption_points_to_what_was_sent(desk, monkeypatch, where):
    path = desk.risk_file(2)
    monkeypatch.setattr(where, interrupted())
    said = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes")
    assert said.code == 130
    assert (
        said.json["advice"]
        == "Nothing was sent, unless this lists a new run: python pipelines/bulk.py status --no-copy"
    )


def test_after_a_success_nothing_is_offered_to_be_typed_and_the_way_back_is_in_the_table(desk):
    deny = ["--risk-action", "deny", "--refresh", "live", "--yes"]
    said = desk.bulk("run", "risk-action", desk.risk_file(3), *deny)
    assert "Next:" not in said.err
    assert "Complete" in said.err.splitlines()
    assert f"to take it back  python pipelines/bulk.py undo {said.json['run_id']} --no-copy" in said.err
    assert "account" in said.err
    undone = desk.bulk("undo", said.json["run_id"], "--yes")
    assert undone.json["applied"] == 3
    assert "Next:" not in undone.err
    assert "to take it back" not in undone.err


def test_who_was_changed_since_the_plan_is_left_alone(desk):
    deny = ["--risk-action", "deny", "--refresh", "live"]
    made = desk.bulk("plan", "risk-action", desk.risk_file(4), *deny).json["plan_file"]
    theirs, same, *others = (customer["customer_code"] for customer in desk.customers(4))
    desk.api.edit_customer(theirs, risk_action="allow")
    desk.api.edit_customer(same, risk_action="deny")
    said = desk.bulk("apply", made, "--yes")
    assert (said.code, said.json["applied"], said.json["rejected"]) == (3, 3, 1)
    assert [reason["code"] for reason in said.json["reasons"] if reason["outcome"] == "rejected"] == [
        "drifted"
    ]
    assert desk.truth(theirs)["risk_action"] == "allow"
    assert {desk.truth(code)["risk_action"] for code in (same, *others)} == {"deny"}


def test_a_saved_plan_is_sent_as_it_is_if_so_asked(desk):
    deny = ["--risk-action", "deny", "--refresh", "live"]
    made = desk.bulk("plan", "risk-action", desk.risk_file(2), *deny).json["plan_file"]
    for customer in desk.customers(2):
        desk.api.edit_customer(customer["customer_code"], risk_action="allow")
    assert desk.bulk("apply", made, "--yes", "--no-recheck").json["applied"] == 2


def test_a_success_that_shows_another_value_is_not_called_applied(desk):
    desk.api.configure(clearing="ignored")
    code, other = (customer["customer_code"] for customer in desk.customers(2))
    desk.api.edit_customer(code, phone="0803", first_name="Ada")
    rows = [
        {"customer_code": code, "phone": "<clear>"},
        {"customer_code": other, "phone": "+234 803 000 0000"},
    ]
    update = ["update", desk.csv("clear.csv", rows), "--refresh", "live"]
    said = desk.bulk("run", *update, "--yes", "--log-format", "json")
    assert (said.code, said.json["unknown"], said.json["applied"]) == (3, 1, 1)
    assert "+234 803" not in said.err  # a log; in text a person reads it
    assert "0803" in desk.bulk("plan", *update).err


def test_a_create_of_somebody_who_is_there_says_so(desk):
    desk.api.configure(answers="spec")
    known, other = desk.customers(2)
    rows = [
        {"email": known["email"], "first_name": ""},
        {"email": "new.person@example.com", "first_name": "Ada"},
        {"email": other["email"], "first_name": "Adaeze Another"},
    ]
    said = desk.bulk("run", "create", desk.csv("people.csv", rows), "--yes")
    assert [(row["_status"], row["_code"]) for row in desk.results(said)] == [
        ("applied", "exists"),
        ("applied", ""),
        ("rejected", "exists"),
    ]
    assert "was a customer already, and has another first_name: use `update`" in said.err
    assert "Next:" not in said.err


def test_a_plan_with_nothing_to_send_offers_no_apply(desk):
    path = desk.risk_file(3)
    said = desk.bulk("plan", "risk-action", path, "--risk-action", "default", "--refresh", "live")
    assert said.json["to_send"] == 0
    assert "Next:" not in said.err
    assert "nothing to send" in said.err


def test_status_says_whether_a_run_is_under_way_killed_or_incomplete(desk, monkeypatch):
    path = desk.risk_file(3, extra=1)
    run = ["run", "risk-action", path, "--risk-action", "deny", "--yes"]
    first = desk.bulk(*run)
    assert "Incomplete" in first.err.splitlines()

    def killed(self):
        self.journal.append([JournalEvent(1, EventKind.INTENT, 0.0)])
        raise SystemExit(9)

    monkeypatch.setattr("paystack_source.bulk.service.Runner.run", killed)
    assert desk.bulk(*run).code == 9
    (one,) = [found for found in Runs() if found.run_id != first.json["run_id"]]
    with Runs().lock(one.plan()):
        shown = desk.bulk("status", one.run_id).err
        assert "Running: another process works on it now" in shown
        assert "under way" in shown
        assert "killed" not in shown
        assert "Next:" not in shown
    shown = desk.bulk("status", one.run_id).err
    assert "Killed: resume it" in shown.splitlines()
    assert f"resume {one.run_id}" in shown
    listed = desk.bulk("status").err
    assert "killed" in listed
    assert "incomplete" in listed
    assert "test" in listed


def test_a_missing_risk_action_is_asked_for_by_its_option_and_the_columns_are_named(desk):
    said = desk.bulk("plan", "risk-action", desk.risk_file(2))
    assert said.code == 2
    assert "--risk-action allow, deny or default (in Python risk_action=)" in said.json["advice"]
    assert "'customer_code', 'note'" in said.json["advice"]
    assert "cells" not in said.json["advice"]


def test_a_first_line_that_holds_data_is_not_repeated(desk):
    path = desk.folder / "bare.csv"
    path.write_text("CUS_abcdefgh,Amina\nCUS_abcdefgi,Bello\n")
    said = desk.bulk("plan", "risk-action", path, "--risk-action", "deny")
    assert said.code == 2
    assert "names above the data" in said.json["advice"]
    assert "Amina" not in said.err + said.out


@pytest.mark.parametrize(
    ("where", "problem", "error"),
    [
        ("service.Runner.run", OSError(errno.ENOSPC, "No space left on device"), "DiskFull"),
        ("service.conclude", OSError(errno.ENOSPC, "No space left on device"), "DiskFull"),
        ("service.Runner.run", sqlite3.OperationalError("disk I/O error"), "JournalUnusable"),
    ],
)
def test_a_run_that_a_full_disk_broke_off_is_to_be_resumed_and_not_run_again(
    desk, monkeypatch, where, problem, error
):
    def full(*_args, **_more):
        raise problem

    path = desk.csv("new.csv", [{"email": "new@example.com"}])
    with monkeypatch.context() as patch:
        patch.setattr("paystack_source.bulk.run.runs.Journal.create", full)
        assert desk.bulk("run", "create", path, "--yes").code == 1
    assert [
        found for found in Path("paystack_results").iterdir() if found.name not in {"plans", ".plans"}
    ] == []
    with monkeypatch.context() as patch:
        patch.setattr(f"paystack_source.bulk.{where}", full)
        said = desk.bulk("run", "create", path, "--yes")
    assert (said.code, said.json["error"]) == (1, error)
    run_id = Runs().open("latest").run_id
    assert said.json["run_id"] == run_id
    assert said.json["advice"] == f"Continue with: python pipelines/bulk.py resume {run_id} --no-copy"
    assert desk.bulk("resume", run_id, "--yes").json["applied"] == 1
    assert len(desk.api.write_log()) == 1


def test_a_killed_resume_leaves_no_file_of_rows_that_were_sent_since(desk, monkeypatch):
    path = desk.risk_file(3)
    desk.api.configure(risk_forbidden=True)
    said = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes")
    assert len(desk.results(said, "unsent_file")) == 3

    def killed(self):
        self.journal.append([JournalEvent(1, EventKind.INTENT, 0.0)])
        raise SystemExit(9)

    monkeypatch.setattr("paystack_source.bulk.service.Runner.run", killed)
    assert desk.bulk("resume", "latest", "--yes").code == 9
    assert not Path(said.json["unsent_file"]).exists()
    shown = desk.bulk("status", "latest")
    assert (shown.json["unknown"], shown.json["unsent"]) == (1, 2)
    assert [row["_status"] for row in desk.results(shown)] == ["unknown", "unsent", "unsent"]
    assert len(desk.results(shown, "unsent_file")) == 2


def _empty(path):
    path.write_bytes(b"")


def _edit(journal):
    with contextlib.closing(sqlite3.connect(journal)) as database, database:
        database.execute("DROP TRIGGER events_stay")
        database.execute("UPDATE events SET kind = 'verified' WHERE kind = 'applied'")


def _lose_a_page(journal):
    with contextlib.closing(sqlite3.connect(journal)) as database:
        find = "SELECT rootpage - 1 FROM sqlite_master WHERE name = 'events_of_rows'"
        ((number,),), ((size,),) = (database.execute(query) for query in (find, "PRAGMA page_size"))
    with journal.open("r+b") as file:
        file.seek(number * size)
        file.write(bytes(size))


def test_a_damaged_run_hides_no_other_and_stops_no_plan(desk):
    path = desk.risk_file(2)
    deny = ["risk-action", path, "--risk-action", "deny"]
    good, *bad = (desk.bulk("run", *deny, "--yes").json["run_id"] for _ in range(5))
    harms = [("journal.sqlite", _empty), ("plan.plan", _empty), ("journal.sqlite", _edit)]
    harms.append(("journal.sqlite", _lose_a_page))
    for run_id, (damaged, harm) in zip(bad, harms, strict=True):
        harm(Path("paystack_results") / run_id / damaged)
    listed = desk.bulk("status")
    assert [one["run_id"] for one in listed.json["runs"]] == [good]
    assert all(run_id in listed.err for run_id in bad)
    assert desk.bulk("plan", *deny).code == 0


@pytest.mark.skipif(os.name == "nt", reason="modes")
def test_what_may_not_be_read_is_named_with_what_to_do(desk, monkeypatch):
    deny = ["run", "risk-action", desk.risk_file(2), "--risk-action", "deny", "--yes"]
    good, bad = (desk.bulk(*deny).json["run_id"] for _ in range(2))

    def refuse(path, *args, **more):
        if bad in str(path) or Path(path).parent.name == ".plans":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return kept[type(path)](path, *args, **more)

    kept = {type(Path()): private_files.open_private, str: sqlite3.connect}
    monkeypatch.setattr(
        "paystack_source.bulk.run.journal.sqlite3.connect", lambda path, **more: refuse(str(path), **more)
    )
    monkeypatch.setattr("paystack_source.bulk.run.runs.open_private", refuse)
    monkeypatch.setattr(os, "access", lambda path, _mode: bad not in str(path))  # the tests may run as root
    listed = desk.bulk("status")
    assert [one["run_id"] for one in listed.json["runs"]] == [good]
    assert f"chmod -R u+rwX paystack_results/{bad}" in listed.err
    said = desk.bulk(*deny)
    assert (said.code, said.json["error"]) == (2, "ConfigError")
    assert ".plans" in said.json["message"]
    assert said.json["advice"] == "Check who owns the folder."


@pytest.mark.parametrize(
    ("silent", "left"), [("set_risk_action", "unknown"), ("fetch", "unsent")], ids=["a change", "a read"]
)
def test_ctrl_c_waits_for_no_read_and_says_at_once_what_it_waits_for(desk, monkeypatch, silent, left):
    # Each customer is read before they are changed.
    monkeypatch.setattr("paystack_source.bulk.service.RECHECK_AFTER", timedelta(0))
    path, told = desk.risk_file(3), []
    planned = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--refresh", "live")
    desk.api.configure(faults=parse_faults(f"hang@{silent}=1"))

    def warn(_terminal, text):
        told.append(str(text))
        if "under way" in told[-1] and silent != "fetch":
            signal.raise_signal(signal.SIGINT)  # it would be waited for

    def press():
        until(lambda: desk.api.stats.faults.total() == 3)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "warn", warn)
        threading.Thread(target=press, daemon=True).start()
        began = time.monotonic()
        said = desk.bulk("apply", planned.json["plan_file"], "--yes")
    assert time.monotonic() - began < ANSWER_TIMEOUT
    assert said.code == ExitCode.INTERRUPTED
    assert any("under way" in text and "60 s" in text for text in told)
    assert desk.bulk("status", "latest").json[left] == 3


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_header_without_rows_is_named(desk, command):
    path = desk.folder / "header.csv"
    path.write_text("customer_code,risk_action\n")
    said = desk.bulk(command, "risk-action", path)
    assert said.code == 0
    assert "header.csv has a header and no rows. There is nothing to send." in said.err


def test_who_was_a_customer_already_is_not_called_as_wanted(desk):
    people = [{"email": desk.customers(1)[0]["email"]}, {"email": "new@example.com"}, {"email": " "}]
    said = desk.bulk("run", "create", desk.csv("people.csv", people), "--yes", "--refresh", "live")
    assert (said.json["skipped_noop"], said.json["applied"]) == (2, 1)
    assert "as wanted" not in said.err
    assert re.search(r"customers already +1$", said.err, re.MULTILINE)
    assert re.search(r"blank rows +1$", said.err, re.MULTILINE)
    assert "1 applied, 1 customers already, 1 blank" in " ".join(desk.bulk("status").err.split())


def test_what_an_officer_stumbles_over_is_said_with_what_to_do(desk):
    code = desk.customers(1)[0]["customer_code"]
    title = desk.folder / "title.csv"
    title.write_text(f"Customers to whitelist,\ncustomer_code,note\n{code},x\n")
    said = desk.bulk("plan", "risk-action", title, "--risk-action", "allow")
    assert said.code == 2
    assert "which must be named in the first row" in said.err
    path = desk.csv("one.csv", [{"customer_code": code}, {"customer_code": "not known"}])
    refused = desk.bulk("plan", "risk-action", path, "--risk-action", "allow")
    assert "Or plan the other rows: add --leave-out-problems." in refused.err
    said = desk.bulk("plan", "risk-action", path, "--risk-action", "allow", "--leave-out-problems")
    assert "1 row is left out" in said.err
    assert re.search(r"^  left out +1 \(because of problems\)$", said.err, re.MULTILINE)
    done = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--leave-out-problems", "--yes")
    assert (done.json["applied"], done.json["left_out"]) == (1, 1)
    assert re.search(r"^  left out +1 \(because of problems\)$", done.err, re.MULTILINE)
    assert "already as wanted  1" not in done.err
    assert "1 applied, 1 left out" in " ".join(desk.bulk("status").err.split())


def test_an_answer_without_a_customer_is_not_called_a_customer_who_is_unknown(desk, monkeypatch):
    listed = ok(desk.customers(1), meta={"total": 1, "page": 1, "perPage": 1, "pageCount": 1})
    path = desk.risk_file(1)
    with RawServer(listed, ok({})) as server:
        monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", server.url)
        said = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--refresh", "live")
    assert (said.code, said.json["error"]) == (1, "Unavailable"), said.err
    assert "no customer in it" in said.json["message"]


def test_the_same_letters_in_the_other_form_of_unicode_are_no_change(desk):
    """A Mac may write `e` and an accent. A plan showed two names that look alike, and then an unknown outcome."""
    first, second = desk.customers(2)
    desk.api.edit_customer(first["customer_code"], first_name="José", metadata={"town": "Ìbàdàn"})
    row = {"first_name": normalize("NFD", "José"), "metadata": normalize("NFD", '{"town": "Ìbàdàn"}')}
    path = desk.csv("names.csv", [{"customer_code": first["customer_code"], **row}])
    said = desk.bulk("plan", "update", path, "--refresh", "live")
    assert (said.code, said.json["to_send"], said.json["noop"]) == (0, 0, 1)
    listed = ok(desk.customers(1), meta={"total": 1, "page": 1, "perPage": 1, "pageCount": 1})
    path = desk.csv(
        "other.csv", [{"customer_code": second["customer_code"], "first_name": row["first_name"]}]
    )
    composed = ok({"customer_code": second["customer_code"], "first_name": "José"})
    with RawServer(listed, composed) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCES__PAYSTACK__BASE_URL", server.url)
        said = desk.bulk("run", "update", path, "--refresh", "never", "--yes")
    assert (said.code, said.json["applied"]) == (0, 1)
