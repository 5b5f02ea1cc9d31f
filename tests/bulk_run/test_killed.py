"""Real processes, killed or interrupted at seeded moments, resumed, and held against the sandbox's truth."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dlt
import pytest

from paystack_source import bulk_set_risk_action, copy_customers
from paystack_source.file_lock import DUCKDB_FILES
from tests.bulk_run.conftest import ROOT
from tests.events import PATIENCE, Gate, until
from tests.processes import python

ROWS = 60


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a bulk command as a process."""
    monkeypatch.setenv("CHILD", str(tmp_path.parent / f"{tmp_path.name}.child"))

    def begin(*args):
        command = [
            python(),
            ROOT / "pipelines" / "bulk.py",
            *map(str, args),
            "--no-copy",
            "--json",
            "--quiet",
        ]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        )

    return begin


def worker():
    """The id of the process that was forked for the command: SIGKILL and SIGSTOP are for it."""
    return int(Path(os.environ["CHILD"]).read_text(encoding="utf-8"))


def stopped(process):
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"


def after_writes(api, number):
    """A gate that holds every request once so many writes took effect."""
    return Gate(api, lambda: len(api.write_log()) >= number)


def file_for(desk, operation):
    people = desk.customers(ROWS)
    if operation == "create":
        rows = [{"email": f"new{n}@example.com", "first_name": f"Ada {n}"} for n in range(ROWS)]
    elif operation == "update":
        rows = [{"customer_code": c["customer_code"], "first_name": f"Ada {n}"} for n, c in enumerate(people)]
    else:
        for customer in people:
            desk.api.edit_customer(customer["customer_code"], risk_action="default")
        rows = [{"customer_code": c["customer_code"], "risk_action": "deny"} for c in people]
    return desk.csv("rows.csv", rows)


def holds(desk, row):
    if "email" in row:
        return any(c["email"] == row["email"] for c in desk.api.customers_truth())
    held = desk.truth(row["customer_code"])
    return all(held[name] == row[name] for name in ("first_name", "risk_action") if name in row)


@pytest.mark.parametrize(("operation", "seed"), [("risk-action", 1), ("update", 2), ("create", 3)])
def test_a_killed_run_is_resumed_and_every_claim_is_true(desk, start, operation, seed):
    rng = random.Random(seed)
    path = file_for(desk, operation)
    trouble = "reset_before@writes=0.06,reset_after@writes=0.06,error_after@writes=0.04"
    gate = after_writes(desk.api, rng.randint(5, 50))
    desk.api.configure(faults=trouble)
    process = start("run", operation, path, "--yes", "--refresh", "never")
    try:
        gate.wait()
    finally:
        os.kill(worker(), signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    gate.open()
    desk.api.configure(faults="")
    for _ in range(2):  # the second resume finds nothing left to do
        said = desk.bulk("resume", "latest", "--yes")
    lines = desk.results(said)
    assert len(lines) == ROWS
    assert sum(said.json[word] for word in ("applied", "rejected", "unknown", "unsent")) == ROWS
    for line in lines:
        if line["_status"] == "applied":
            assert holds(desk, line)
        if line["_status"] in ("rejected", "unsent"):
            assert not holds(desk, line)
    if operation == "create":
        emails = [body["email"] for _, endpoint, _, body in desk.api.write_log() if endpoint == "create"]
        assert len(emails) == len(set(emails))
        assert said.json["unsent"] == said.json["rejected"] == 0
    else:
        assert said.json["applied"] == ROWS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_what_is_under_way_and_leaves_a_resumable_run(desk, start, number):
    path = file_for(desk, "risk-action")
    gate = after_writes(desk.api, 10)
    process = start("run", "risk-action", path, "--yes", "--refresh", "never")
    gate.wait()
    process.send_signal(number)
    gate.open()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    said = json.loads(out.splitlines()[-1])
    assert said["status"] == "interrupted"
    assert said["unknown"] == 0
    assert said["applied"] == len(desk.api.write_log())
    assert said["unsent"] == ROWS - said["applied"] > 0
    assert f"resume {said['run_id']}" in err
    assert desk.bulk("resume", said["run_id"], "--yes").json["applied"] == ROWS
    assert desk.api.repeated_writes() == {}


def test_an_interrupt_does_not_sit_out_a_quota_window(desk, start):
    desk.api.configure(limit=20, window_seconds=3600.0)
    path = file_for(desk, "risk-action")
    process = start("run", "risk-action", path, "--yes", "--refresh", "never")
    until(lambda: len(desk.api.write_log()) == 20)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)  # the window would take an hour
    said = json.loads(out.splitlines()[-1])
    assert (process.returncode, said["applied"], said["unknown"]) == (130, 20, 0)


def test_two_processes_cannot_apply_one_plan(desk, start):
    plan = desk.bulk("plan", "risk-action", file_for(desk, "risk-action"), "--refresh", "never").json[
        "plan_file"
    ]
    gate = after_writes(desk.api, 5)
    first = start("apply", plan, "--yes")
    gate.wait()
    os.kill(worker(), signal.SIGSTOP)
    until(lambda: stopped(worker()))  # it stands still, so the gate need not
    gate.open()
    second = desk.bulk("apply", plan, "--yes")
    os.kill(worker(), signal.SIGCONT)
    assert second.code == 2
    assert "being applied by another process" in second.err
    assert len(desk.bulk("status").json["runs"]) == 1
    out, _ = first.communicate(timeout=PATIENCE)
    assert json.loads(out.splitlines()[-1])["applied"] == ROWS
    assert desk.api.repeated_writes() == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.parametrize("door", ["bulk", "copy"])
def test_a_process_that_was_forked_in_a_run_keeps_no_lock_after_it(desk, door):
    frame = [{"customer_code": customer["customer_code"]} for customer in desk.customers(20)]

    def work():
        if door == "copy":
            pipeline = dlt.pipeline("p", destination=dlt.destinations.duckdb("copy.duckdb"), dataset_name="d")
            return copy_customers(pipeline).complete
        result = bulk_set_risk_action(frame, "deny", copy=False, progress=False)
        return result.resume().complete  # of the same plan

    gate = Gate(desk.api, lambda: desk.api.stats.total >= (2 if door == "copy" else 5))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(work)
        gate.wait()
        forked = os.fork()
        if not forked:
            signal.pause()
        gate.open()
        try:
            assert first.result(PATIENCE)
            assert pool.submit(work).result(PATIENCE)
        finally:
            os.kill(forked, signal.SIGKILL)
            os.waitpid(forked, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_process_does_not_wait_for_a_thread_of_its_parent_that_reads_the_copy():
    held, ended = threading.Event(), threading.Event()

    def read():
        with DUCKDB_FILES:
            held.set()
            ended.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(read)
        held.wait(PATIENCE)
        forked = os.fork()
        if not forked:
            os._exit(0 if DUCKDB_FILES.acquire(timeout=5) else 1)
        try:
            assert os.waitpid(forked, 0)[1] == 0
        finally:
            ended.set()
