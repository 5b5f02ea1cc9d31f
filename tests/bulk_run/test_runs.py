"""Run folders and the locks around a plan."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from paystack_source.bulk.input.files import open_table
from paystack_source.bulk.plan.planner import make_plan
from paystack_source.bulk.run.runs import Runs
from paystack_source.errors import BusyError, ConfigError, NoSuchRunError
from paystack_source.file_lock import try_lock
from paystack_source.private_files import open_private
from tests.bulk_plan.world import Reader

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def plan(tmp_path):
    rows = open_table([{"customer_code": "CUS_abcdef", "risk_action": "deny"}])
    return make_plan("risk-action", rows, out=tmp_path / "one.plan", client=Reader())


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "results")


def test_a_run_is_found_by_its_id_its_beginning_its_folder_and_as_the_latest(runs, plan):
    with runs.lock(plan):
        older = runs.create(plan, now=NOW)
        newer = runs.create(plan, now=NOW + timedelta(seconds=1))
    assert [run.run_id for run in runs] == [newer.run_id, older.run_id]
    for name in (older.run_id, older.run_id[:15], str(older.folder)):
        assert runs.open(name).run_id == older.run_id
    assert runs.open("latest").run_id == newer.run_id
    for name in ("2026", "19990101", "latestish"):
        with pytest.raises(NoSuchRunError):
            runs.open(name)


def test_the_latest_of_two_runs_of_one_second_is_the_one_that_began_later(runs, plan):
    for milliseconds in range(50):
        newest = runs.create(plan, now=NOW + timedelta(milliseconds=milliseconds))
        assert runs.open("latest").run_id == newest.run_id


def test_the_plan_is_copied_into_the_run(runs, plan):
    with runs.lock(plan):
        run = runs.create(plan, now=NOW)
    plan.path.unlink()
    assert run.plan().header.seal == plan.header.seal


def test_a_lock_is_held_by_one(runs, plan):
    with runs.lock(plan), pytest.raises(BusyError), runs.lock(plan):
        pass
    with runs.lock(plan):
        pass


def test_an_unfinished_folder_is_no_run(runs, plan):
    (runs.root / ".20261123-120000-risk-action-abcd.part").mkdir(parents=True)
    (runs.root / "plans").mkdir()
    assert list(runs) == []
    with pytest.raises(NoSuchRunError):
        runs.open("latest")


def test_who_looks_whether_a_run_is_busy_is_no_run(runs, plan):
    with runs.lock(plan):
        run = runs.create(plan, now=NOW)
        assert not run.is_busy
        with run.hold_lock():
            assert run.is_busy
        handle = open_private(run.lock_file)
        assert try_lock(handle, shared=True)
        assert not run.is_busy  # two may look at once
        os.close(handle)


def test_a_link_in_the_place_of_a_lock_or_an_entry_is_not_followed(runs, plan, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    with runs.lock(plan):
        pass
    for suffix in ("", ".lock"):
        entry = runs.root / ".plans" / f"{plan.header.plan_id}{suffix}"
        entry.unlink()
        entry.symlink_to(elsewhere)
        with pytest.raises(ConfigError), runs.lock(plan):
            pass
        entry.unlink()
    assert not elsewhere.exists()
