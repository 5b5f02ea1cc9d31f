"""A plan is applied once: wherever the working folder is, and whatever was deleted or copied since."""

from __future__ import annotations

import os
import shlex
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dlt
import duckdb
import pytest

from paystack_source.bulk import dlt_destination as destination
from paystack_source.bulk import service
from paystack_source.bulk.describe import COMMAND
from paystack_source.bulk.run import runs as runs_module
from paystack_source.bulk.run.runs import Runs
from paystack_source.bulk.service import BulkService, KeyAccount
from paystack_source.cli.terminal import run
from paystack_source.errors import BusyError
from paystack_source.file_lock import try_lock
from paystack_source.private_files import open_private
from paystack_source.warehouse import single_writer
from paystack_source.warehouse.write_back import WriteBack


@pytest.fixture
def folders(desk, monkeypatch):
    """Two working folders, the first of them entered."""
    for name in ("a", "b"):
        (desk.folder / name).mkdir()
    monkeypatch.chdir(desk.folder / "a")
    return desk.folder / "a", desk.folder / "b"


@pytest.fixture
def claimed_only(monkeypatch):
    """The warehouse hears of a run before it sends, and no more after it: loads take long."""
    monkeypatch.setattr(service, "record_runs", lambda *_: None)


def identities(desk, number=3):
    rows = [
        {"customer_code": c["customer_code"], "first_name": "Ada", "last_name": "Obi", "country": "NG",
         "bank_code": "007", "account_number": f"012345678{n}", "bvn": f"2229991110{n}"}
        for n, c in enumerate(desk.customers(number))
    ]  # fmt: skip
    return desk.csv("identities.csv", rows)


def writes(desk):
    return len(desk.api.write_log())


def from_another_folder(plan, b, chdir, _monkeypatch):
    chdir(b)
    return Path("..") / "a" / plan.name


def a_copy(plan, b, chdir, _monkeypatch):
    chdir(b)
    return shutil.copy(plan, b / "copy.plan")


def results_deleted(plan, _b, _chdir, _monkeypatch):
    shutil.rmtree("paystack_results")
    return plan


def notes_beside_it_deleted(plan, _b, _chdir, _monkeypatch):
    shutil.rmtree("paystack_results/.plans")
    shutil.rmtree(".plans", ignore_errors=True)
    return plan


def the_runs_own_plan(_plan, b, chdir, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(b / "state"))
    chdir(b)
    (plan,) = Path("../a/paystack_results").glob("*/plan.plan")
    return plan


def by_another_user(plan, b, chdir, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(b / "state"))
    chdir(b)
    return plan


def test_a_plan_is_applied_once_wherever_it_is(desk, folders, monkeypatch):
    a, b = folders
    plan = a / "v.plan"
    assert desk.bulk("plan", "validate", identities(desk), "--out", plan).code == 0
    assert desk.bulk("apply", plan, "--yes").json["accepted_pending"] == 3
    run_id = Runs().open("latest").run_id
    ways = (
        from_another_folder,
        a_copy,
        the_runs_own_plan,
        by_another_user,
        notes_beside_it_deleted,
        results_deleted,
    )
    for again in ways:
        with monkeypatch.context() as patch:
            said = desk.bulk("apply", again(plan, b, patch.chdir, patch), "--yes")
            assert (said.code, writes(desk)) == (2, 3), (again.__name__, said.err)
            assert run_id in said.json["message"]


def test_without_a_register_the_plans_own_folder_knows_and_it_is_said(desk, folders, monkeypatch):
    a, b = folders
    (desk.folder / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(desk.folder / "file" / "state"))
    plan = a / "v.plan"
    desk.bulk("plan", "validate", identities(desk), "--out", plan)
    said = desk.bulk("apply", plan, "--yes")
    assert said.json["accepted_pending"] == 3
    assert "cannot be written" in said.json["warnings"][0]
    assert "cannot be written" in said.err
    assert desk.bulk("resume", "latest", "--yes").json["accepted_pending"] == 3
    monkeypatch.chdir(b)
    assert desk.bulk("apply", plan, "--yes").code == 2
    assert writes(desk) == 3


@pytest.mark.usefixtures("claimed_only")
@pytest.mark.parametrize("broken", ["applied_by", "load"])
def test_without_a_register_and_a_warehouse_nothing_is_sent_that_may_not_be_sent_twice(
    broken, desk, monkeypatch
):
    (desk.folder / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(desk.folder / "file" / "state"))
    people = desk.csv("people.csv", [{"email": "new@example.com"}])
    plan = desk.bulk("plan", "create", people, copy=True).json["plan_file"]
    with monkeypatch.context() as patch:
        patch.setattr(WriteBack, broken, Mock(side_effect=OSError("no such host")))
        said = desk.bulk("apply", plan, "--yes", copy=True)
    assert (said.code, writes(desk)) == (2, 0)
    assert "Whether this plan was applied before is not known" in said.json["message"]
    assert desk.bulk("apply", plan, "--yes", copy=True).json["applied"] == 1


@pytest.mark.usefixtures("claimed_only")
@pytest.mark.parametrize("broken", ["applied_by", "load"])
def test_with_a_register_a_warehouse_that_cannot_be_reached_stops_no_apply(broken, desk, monkeypatch):
    people = desk.csv("people.csv", [{"email": "new@example.com"}])
    plan = desk.bulk("plan", "create", people, copy=True).json["plan_file"]
    with monkeypatch.context() as patch:
        patch.setattr(WriteBack, broken, Mock(side_effect=OSError("no such host")))
        assert desk.bulk("apply", plan, "--yes", copy=True).json["applied"] == 1
    assert (desk.bulk("apply", plan, "--yes", copy=True).code, writes(desk)) == (2, 1)


def test_the_warehouse_knows_when_every_note_is_gone(desk, folders, monkeypatch):
    a, b = folders
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(desk.folder / "copy.duckdb"))
    plan = a / "new.plan"
    people = desk.csv("people.csv", [{"email": f"new{n}@example.com"} for n in range(3)])
    desk.bulk("plan", "create", people, "--out", plan, copy=True)
    assert desk.bulk("apply", plan, "--yes", copy=True).json["applied"] == 3
    copied = shutil.copy(plan, b / "copy.plan")
    shutil.rmtree(a)
    monkeypatch.setenv("XDG_STATE_HOME", str(b / "state"))
    monkeypatch.chdir(b)
    said = desk.bulk("apply", copied, "--yes", copy=True)
    assert (said.code, writes(desk)) == (2, 3)
    assert "write_back_runs" in said.json["message"]


@pytest.mark.usefixtures("claimed_only")  # as if the process was killed before
@pytest.mark.parametrize("when", ["after a kill", "at once", "at once, in a new account"])
def test_another_machine_does_not_apply_what_may_not_be_sent_twice(when, desk, folders, sandbox, monkeypatch):
    a, b = folders
    if when == "at once, in a new account":  # both saw no customers, so neither knows the account's number
        desk.api = sandbox(customers=0)
        monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", desk.api.secret_key)
        monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", desk.api.url)
        monkeypatch.setattr(BulkService, "account", KeyAccount())
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(desk.folder / "copy.duckdb"))
    people = desk.csv("people.csv", [{"email": f"new{n}@example.com"} for n in range(3)])
    desk.bulk("plan", "create", people, "--out", a / "new.plan", copy=True)
    copied = shutil.copy(a / "new.plan", b / "copy.plan")
    assert desk.bulk("apply", a / "new.plan", "--yes", copy=True).json["applied"] == 3
    with duckdb.connect(str(desk.folder / "copy.duckdb")) as held:  # it may never hear more of them
        known = held.execute("select applied, unsent, unknown from paystack.write_back_runs").fetchall()
    assert known == [(0, 0, 3)]
    monkeypatch.setenv("XDG_STATE_HOME", str(b / "state"))
    monkeypatch.chdir(b)
    if when != "after a kill":  # both asked before either was recorded
        monkeypatch.setattr(WriteBack, "applied_by", lambda *_: None)
    said = desk.bulk("apply", copied, "--yes", copy=True)
    assert (said.code, writes(desk)) == (2, 3)
    assert "write_back_runs" in said.json["message"]
    assert not list(Runs(b / "paystack_results"))


@pytest.mark.usefixtures("claimed_only")
def test_a_run_that_was_interrupted_before_it_sent_anything_is_named_with_the_command_that_goes_on_with_it(
    desk, folders, monkeypatch
):
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(desk.folder / "copy.duckdb"))
    people = desk.csv("people.csv", [{"email": f"new{n}@example.com"} for n in range(3)])
    desk.bulk("plan", "create", people, "--out", "new.plan", copy=True)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BulkService, "_send", interrupted)
        assert desk.bulk("apply", "new.plan", "--yes", copy=True).code == 130
    said = desk.bulk("apply", "new.plan", "--yes", copy=True)
    assert (said.code, said.json["error"], writes(desk)) == (2, "AppliedError", 0)
    command = said.json["advice"].removeprefix(f"Continue it: {COMMAND} ")
    assert desk.bulk(*shlex.split(command), "--yes", copy=True).json["applied"] == 3


@pytest.mark.usefixtures("claimed_only")
def test_a_run_that_was_interrupted_before_the_warehouse_had_it_goes_on_unless_another_machine_was_faster(
    desk, folders, monkeypatch
):
    _, b = folders
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(desk.folder / "copy.duckdb"))
    for sent, faster in ((3, False), (6, True)):
        people = desk.csv("people.csv", [{"email": f"{faster}{n}@example.com"} for n in range(3)])
        plan = desk.bulk("plan", "create", people, copy=True).json["plan_file"]
        copied = shutil.copy(plan, b / "copy.plan")
        with monkeypatch.context() as patch:
            patch.setattr(service, "claim", Mock(side_effect=KeyboardInterrupt))  # Ctrl-C while it waits
            assert desk.bulk("apply", plan, "--yes", copy=True).code == 130
        if faster:
            with monkeypatch.context() as patch:
                patch.setenv("XDG_STATE_HOME", str(b / "state"))
                patch.chdir(b)
                assert desk.bulk("apply", copied, "--yes", copy=True).json["applied"] == 3
        said = desk.bulk("resume", "latest", "--yes", copy=True)
        assert (said.code, writes(desk)) == (2 if faster else 0, sent)
    assert "write_back_runs" in said.json["message"]


def test_an_apply_that_waits_for_the_warehouse_before_it_sends_says_so(desk, monkeypatch):
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", str(desk.folder / "lake"))
    people = desk.csv("people.csv", [{"email": "new@example.com"}])
    desk.bulk("plan", "create", people, "--out", "new.plan", "--destination", "filesystem", copy=True)
    (desk.folder / "lake").mkdir(exist_ok=True)
    other = open_private(desk.folder / "lake" / ".paystack.paystack-source.lock")
    assert try_lock(other)
    monkeypatch.setattr(single_writer, "time", SimpleNamespace(sleep=lambda _: os.close(other)))
    said = desk.bulk("apply", "new.plan", "--yes", "--destination", "filesystem", copy=True)
    assert said.json["applied"] == 1
    assert "warning: Another run writes into the dataset paystack. This run waits" in said.err


def test_a_run_that_is_not_through_is_named_with_the_command_that_goes_on_with_it(desk, folders, monkeypatch):
    a, b = folders
    desk.api.configure(risk_forbidden=True)
    plan = a / "deny.plan"
    desk.bulk("plan", "risk-action", desk.risk_file(5), "--risk-action", "deny", "--out", plan)
    assert desk.bulk("apply", plan, "--yes").json["unsent"] == 5
    monkeypatch.chdir(b)
    said = desk.bulk("apply", plan, "--yes")
    assert said.code == 2
    command = said.json["advice"].partition(COMMAND)[2]
    stopped = desk.bulk(*shlex.split(command)[:-1], "--yes")
    assert stopped.json["unsent"] == 5
    assert command in stopped.err  # what comes next can be pasted as well
    desk.api.configure(risk_forbidden=False)
    assert run(desk.script.main, [*shlex.split(command), "--yes"]) == 0
    assert writes(desk) == 5
    said = desk.bulk("apply", plan, "--yes")
    assert "resume" not in said.json["advice"]
    assert writes(desk) == 5


def test_a_copy_of_a_results_folder_goes_on_with_nothing(desk, folders, monkeypatch):
    a, b = folders
    desk.api.configure(risk_forbidden=True)
    said = desk.bulk("run", "risk-action", desk.risk_file(5), "--risk-action", "deny", "--yes")
    desk.api.configure(risk_forbidden=False)
    shutil.copytree(a / "paystack_results", b / "paystack_results")
    assert desk.bulk("resume", "latest", "--yes").json["applied"] == 5
    monkeypatch.chdir(b)
    resumed = desk.bulk("resume", "latest", "--yes")
    assert (resumed.code, writes(desk)) == (2, 5)
    assert str(a / "paystack_results" / said.json["run_id"]) in resumed.json["message"]


def test_a_results_folder_that_was_moved_goes_on(desk, folders, monkeypatch):
    a, b = folders
    desk.api.configure(risk_forbidden=True)
    desk.bulk("run", "risk-action", desk.risk_file(5), "--risk-action", "deny", "--yes")
    desk.api.configure(risk_forbidden=False)
    shutil.move(a / "paystack_results", b / "paystack_results")
    monkeypatch.chdir(b)
    assert desk.bulk("resume", "latest", "--yes").json["applied"] == 5


def test_two_at_once_from_two_folders_are_one(desk, folders, monkeypatch):
    a, b = folders
    plan = a / "v.plan"
    desk.bulk("plan", "validate", identities(desk), "--out", plan)
    copied = shutil.copy(plan, b / "copy.plan")
    answers = []
    real = BulkService._send

    def meanwhile(self, *args):
        monkeypatch.setattr(BulkService, "_send", real)
        monkeypatch.chdir(b)
        answers.append(run(desk.script.main, ["apply", str(copied), "--yes", "--no-copy"]))
        monkeypatch.chdir(a)
        return real(self, *args)

    monkeypatch.setattr(BulkService, "_send", meanwhile)
    assert desk.bulk("apply", plan, "--yes").json["accepted_pending"] == 3
    assert answers == [2]
    assert writes(desk) == 3


def test_a_load_that_dlt_tries_again_in_another_folder_goes_on_with_its_run(desk, folders, monkeypatch):
    _, b = folders
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")
    rows = [{"customer_code": c["customer_code"], "risk_action": "deny"} for c in desk.customers(5)]
    real = destination._send
    sent = []

    def fail_once(path, operation, *more, **how):
        real(path, operation, *more, **how)
        sent.append(destination.run_id_of(destination.FileSnapshot.of(path), operation))
        if len(sent) == 1:
            monkeypatch.chdir(b)
            raise destination.StoppedError("the process ends here")

    monkeypatch.setattr(destination, "_send", fail_once)
    pipeline = dlt.pipeline("people", destination=destination.paystack_customers("risk-action"))
    pipeline.run(rows, table_name="people")
    assert len(sent) == 2
    assert len(set(sent)) == 1
    assert writes(desk) == 5


def test_a_look_at_the_runs_keeps_nobody_from_working(desk, monkeypatch):
    """`status` is in the middle of its look when a resume begins."""
    desk.bulk("run", "risk-action", desk.risk_file(2), "--risk-action", "deny", "--yes")
    real, main = runs_module.try_lock, threading.main_thread()
    real_wait = runs_module.wait_for_lock
    waiting, failed = threading.Event(), []

    def resume():
        try:
            with Runs().lock(Runs().open("latest").plan()):
                waiting.set()
        except BusyError as error:
            failed.append(error)
            waiting.set()

    thread = threading.Thread(target=resume)

    def wait(handle):
        waiting.set()  # it waits for the look to end
        real_wait(handle)

    def look(handle, *, shared=False):
        free = real(handle, shared=shared)
        if shared and threading.current_thread() is main and not thread.ident:
            thread.start()
            assert waiting.wait(60)
        return free

    monkeypatch.setattr(runs_module, "wait_for_lock", wait)
    monkeypatch.setattr(runs_module, "try_lock", look)
    assert desk.bulk("status").json["runs"][0]["status"] == "complete"
    thread.join(60)
    assert thread.ident
    assert not failed
