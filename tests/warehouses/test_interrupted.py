"""Interrupted at any step, by any signal, at either door, in any warehouse: the next run goes on by itself.

Here after each kind of job, and in PostgreSQL at two other steps. With PAYSTACK_EVERY_STEP=1 at all of them, at both doors
in turn, and after each a run is to end well; that takes minutes.
"""

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from unittest.mock import Mock

import pytest
from deltalake import write_deltalake
from dlt.common.storages.load_package import PackageStorage
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import paystack_source
from paystack_source.warehouse import prepare
from paystack_source.warehouse.destinations import read_table
from paystack_source.warehouse.dlt_quirks import drop_local_state
from paystack_source.warehouse.locations import is_lake
from tests.copies import begin_copied
from tests.events import Gate, until
from tests.processes import python
from tests.warehouses.conftest import Warehouse
from tests.warehouses.interrupting_driver import run
from tests.warehouses.test_copy import assert_same, held, truth

NEVER = 1_000_000
EVERY = "PAYSTACK_EVERY_STEP" in os.environ
DOORS = ("command", "plain")
KILL, TERM = signal.SIGKILL, signal.SIGTERM
STEPS = [
    ("_dlt_pipeline_state", TERM, "plain"),
    ("_dlt_pipeline_state", KILL, "command"),
    ("ledger", KILL, "command"),
    ("customers", KILL, "plain"),
    (12, KILL, "plain"),
    (20, KILL, "command"),
]
STEPS_OF = {
    "postgres": STEPS,
    "duckdb": STEPS[:3],  # its questions are those of PostgreSQL; killed at `customers` by other tests below
    "delta": STEPS[2:4],  # its state is no job
}
if EVERY:
    every = [(step, (KILL, TERM)[step // 2 % 2], DOORS[step % 2]) for step in range(1, 160)]
    STEPS_OF = dict.fromkeys(STEPS_OF, every)


class Runs:
    """Runs at one door, each as a process of its own."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def begin(self, machine: Path, step: int | str = NEVER, kind: int = signal.SIGKILL) -> None:
        self._process.stdin.write(f"{int(kind)} {step} paystack {machine}\n")
        self._process.stdin.flush()

    def waits(self) -> bool:
        """Whether the run says that it waits for another one."""
        told, _, _ = select.select([self._process.stdout], [], [], 0)
        return bool(told) and self._process.stdout.readline() == "waits\n"

    def ended(self) -> int:
        while (line := self._process.stdout.readline()) == "waits\n":
            pass
        return int(line)

    def run(self, machine: Path, step: int | str = NEVER, kind: int = signal.SIGKILL) -> int:
        self.begin(machine, step, kind)
        return self.ended()


@pytest.fixture
def copied_here(sandbox, monkeypatch, tmp_path):
    """A DuckDB file with a copy of 150 customers and their history, the folder of dlt that made it, the sandbox."""
    pipeline, api = begin_copied(sandbox, 150, history=True)
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(tmp_path / "paystack_customers.duckdb"))
    return Warehouse("duckdb", "duckdb", {}), Path(pipeline.pipelines_dir), api


@contextmanager
def runs(door: str, place, api) -> Iterator[Runs]:
    with subprocess.Popen(
        [
            python(),
            "-m",
            "tests.warehouses.interrupting_driver",
            door,
            place.destination,
            api.secret_key,
            api.url,
        ],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Runs(process)
        finally:
            process.stdin.close()


@pytest.mark.parametrize("kind", ["duckdb", "postgres", "delta"])
def test_interrupted_at_any_step_the_next_run_goes_on(kind, sandbox, warehouse, tmp_path):
    """Each run is interrupted somewhere in what the one before it left, at one door or the other.

    A state that blocks would block the last one.
    """
    api, place, machine = sandbox(customers=200, seed=5), warehouse(kind), tmp_path / "here"
    ends, steps = [], STEPS_OF[kind]
    with runs("command", place, api) as command, runs("plain", place, api) as plain:
        for step, signal_, door in steps:
            copying = {"command": command, "plain": plain}[door]
            ends.append(copying.run(machine, step, signal_))
            if EVERY:
                assert (step, signal_, door, copying.run(machine)) == (step, signal_, door, 0)
                assert len(held(place, machine)) == len(truth(api)), (step, signal_, door)
            api.add_customers(3)
        assert plain.run(machine) == 0
    assert_same(held(place, machine), truth(api))
    assert_proven(place, machine, len(truth(api)))
    assert ends.count(-KILL) >= sum(signal_ is KILL for step, signal_, _ in steps if isinstance(step, str)), (
        ends
    )


@pytest.mark.parametrize(
    ("kind", "doors"),
    [("postgres", ("plain", "command")), ("delta", ("plain", "plain")), ("delta-s3", ("command", "plain"))],
    ids=("postgres", "delta", "delta-s3"),
)
def test_two_machines_at_once_double_nobody_and_both_end_well(kind, doors, sandbox, warehouse, tmp_path):
    api, place = sandbox(customers=120, seed=5), warehouse(kind)
    with runs(doors[0], place, api) as one, runs(doors[1], place, api) as other:
        gate = Gate(api, lambda: True)
        one.begin(tmp_path / "one")
        gate.wait()
        other.begin(tmp_path / "other")
        until(lambda: other.waits() or api.stats.in_flight > 1)
        assert api.stats.in_flight == 1
        gate.open()
        assert (one.ended(), other.ended()) == (0, 0)
    assert_same(held(place, tmp_path / "one"), truth(api))
    assert_proven(place, tmp_path / "one", len(truth(api)))
    for lock in tmp_path.glob("lake/.*.lock"):  # another user who may write the copy may lock it
        assert lock.stat().st_mode == next(tmp_path.glob("lake/**/*.parquet")).stat().st_mode


def test_two_runs_of_one_pipeline_on_one_disk_go_one_after_the_other(copied_here):
    place, machine, api = copied_here
    api.add_customers(30)
    gate = Gate(api, lambda: True)
    with runs("plain", place, api) as one, runs("plain", place, api) as other:
        one.begin(machine)
        gate.wait()
        other.begin(machine)
        until(other.waits)
        gate.open()
        assert (one.ended(), other.ended()) == (0, 0)
    assert_same(held(place, machine), truth(api))


# PostgreSQL is repaired as DuckDB is: `test_trouble.py::test_columns_that_somebody_added_are_not_loaded_again`.
@pytest.mark.parametrize(("kind", "door"), [("duckdb", "plain"), ("delta", "command")])
def test_what_an_earlier_version_doubled_or_lost_is_mended(kind, door, sandbox, warehouse, tmp_path):
    """Everybody is there twice, and the load that brought them was never noted as done: its machine is gone."""
    api, place = sandbox(customers=200, seed=5), warehouse(kind)
    copying = partial(run, door, place.destination, api.secret_key, api.url, "paystack")
    assert copying(str(tmp_path / "gone")) == 0
    double(place.pipeline(tmp_path / "gone"))
    assert copying(str(tmp_path / "new")) == 0
    assert_same(held(place, tmp_path / "new"), truth(api))
    assert_proven(place, tmp_path / "new", len(truth(api)))


def test_customers_of_a_lost_load_are_loaded_again_by_their_id_whatever_key_the_user_merges_by(
    sandbox, warehouse, tmp_path
):
    api, place = sandbox(customers=150, seed=5), warehouse("duckdb")
    pipeline = place.pipeline(tmp_path / "here")

    def source():
        made = paystack_source(api.secret_key, api.url, quota=0)
        made.customers.apply_hints(primary_key="customer_code")
        return made

    pipeline.run(source())
    with pipeline.sql_client() as client:
        client.execute_sql(f"delete from {client.make_qualified_table_name('_dlt_loads')}")
    pipeline.run(source())
    assert_same(held(place, tmp_path / "here"), truth(api))


def double(pipeline) -> None:
    if not is_lake(pipeline):
        with pipeline.sql_client() as client:
            for table in ("customers", "ledger", "customers_history"):
                name = client.make_qualified_table_name(table)
                client.execute_sql(f"insert into {name} select * from {name}")
            history = client.make_qualified_table_name("customers_history")
            loads = client.make_qualified_table_name("_dlt_loads")
            client.execute_sql(f"delete from {history} where id % 3 = 0")
            client.execute_sql(f"delete from {loads}")
        return
    with pipeline.destination_client() as client:
        for table in ("customers", "ledger", "customers_history"):
            delta = client.load_open_table("delta", table)
            write_deltalake(delta, delta.to_pyarrow_table(), mode="append")
        client.load_open_table("delta", "customers_history").delete("id % 3 = 0")
        for file in client.list_table_files("_dlt_loads"):
            client.fs_client.rm_file(file)


def test_a_history_of_an_existing_copy_has_the_version_of_everybody(sandbox, warehouse, tmp_path):
    """At the plain door, whatever the source is called; also of those who change before the history saw them."""
    api, place = sandbox(customers=250, seed=5), warehouse("duckdb")
    pipeline = place.pipeline(tmp_path / "here")
    source = partial(paystack_source.clone(name="ghana"), api.secret_key, api.url, quota=0)
    pipeline.run(source(refresh_budget=0))
    before = truth(api)
    code, number = next((row["customer_code"], row["id"]) for row in api.customers_truth())
    api.edit_customer(code, first_name="Adaeze")
    pipeline.run(source(history=True, refresh_budget=1))
    pipeline.run(source(history=True, refresh_budget=10))
    versions = read_table(pipeline, "customers_history").to_pylist()
    first = {
        row["id"]: row["first_name"] for row in sorted(versions, key=itemgetter("_valid_from"), reverse=True)
    }
    assert first == {id_: row["first_name"] for id_, row in before.items()}
    last = [row["first_name"] for row in versions if row["id"] == number and row["_valid_to"] is None]
    assert last == ["Adaeze"]


def test_a_merge_doubles_nobody_who_was_staged_twice(copied_here, monkeypatch):
    """Where dlt does not tell that a run begins, it goes on where it stopped, and stages the rows again."""
    monkeypatch.setenv("ENABLE_RUNTIME_TRACE", "false")
    place, machine, api = copied_here
    api.add_customers(50)
    with runs("plain", place, api) as copying:
        assert copying.run(machine, "customers") == -signal.SIGKILL
        assert copying.run(machine) == 0
    assert_same(held(place, machine), truth(api))


def test_what_was_read_before_a_kill_is_loaded_and_not_read_again(sandbox, warehouse, tmp_path):
    """PostgreSQL refuses the row of dlt's state if a load goes on where it stopped."""
    api, place = sandbox(customers=400, seed=5), warehouse("postgres")
    with runs("plain", place, api) as copying:
        assert copying.run(tmp_path, "_dlt_pipeline_state") == -signal.SIGKILL
        read = api.stats.total
        assert copying.run(tmp_path) == 0
    assert api.stats.total - read < 400 / 100
    assert_same(held(place, tmp_path), truth(api))


@pytest.mark.parametrize("half_deleted", [False, True])
def test_a_kill_while_dlt_deletes_what_it_normalized_stops_no_later_run(
    half_deleted, copied_here, monkeypatch
):
    place, machine, api = copied_here
    api.add_customers(1)
    pipeline, delete = place.pipeline(machine), PackageStorage.delete_package

    def killed(packages, load_id, not_exists_ok=False):
        if not_exists_ok:  # of an earlier attempt
            return delete(packages, load_id, not_exists_ok)
        if half_deleted:
            Path(packages.storage.make_full_path(load_id), PackageStorage.SCHEMA_FILE_NAME).unlink()
        raise OSError("killed")

    with monkeypatch.context() as killing:
        killing.setattr(PackageStorage, "delete_package", killed)
        with pytest.raises(PipelineStepFailed, match="killed"):
            pipeline.run(paystack_source(api.secret_key, api.url, quota=0))
    place.pipeline(machine).run(paystack_source(api.secret_key, api.url, quota=0))
    assert_same(held(place, machine), truth(api))


def test_a_kill_while_dlts_folder_is_deleted_stops_no_later_run(copied_here, monkeypatch):
    place, machine, api = copied_here
    folder, pipeline = machine / "paystack_customers", place.pipeline(machine)
    with monkeypatch.context() as killing:  # ours: all of it is gone, or nothing
        killing.setattr(shutil, "rmtree", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            drop_local_state(pipeline)
        assert (folder / "load/normalized").exists()
        killing.setattr(shutil, "rmtree", Mock(side_effect=[None, KeyboardInterrupt]))
        with pytest.raises(KeyboardInterrupt):
            drop_local_state(pipeline)
        assert not folder.exists()
    place.pipeline(machine).run(paystack_source(api.secret_key, api.url, quota=0))
    for deleted in ("load/normalized", "schemas"):  # dlt's own, file by file
        shutil.rmtree(folder / deleted)
        api.add_customers(1)
        place.pipeline(machine).run(paystack_source(api.secret_key, api.url, quota=0))
    assert_same(held(place, machine), truth(api))
    assert [path.name for path in machine.iterdir() if path.suffix == ".deleted"] == []


def test_temporary_files_that_a_kill_left_among_dlts_packages_stop_no_later_run(copied_here):
    """dlt writes a file there first, and renames it; from a temporary folder on another disk it copies one."""
    place, machine, api = copied_here
    api.add_customers(1)
    with runs("command", place, api) as command, runs("plain", place, api) as plain:
        for copying in (plain, command):  # the command ends as it loads what the plain run left
            assert copying.run(machine, "customers") == -signal.SIGKILL
            (jobs,) = machine.glob("paystack_customers/load/normalized/*/new_jobs")
            for folder in (machine / "paystack_customers/normalize/extracted", jobs.parents[1], jobs):
                (folder / "66dd2e0ae43c6e4f").write_text("{", encoding="utf-8")
        assert plain.run(machine) == 0
    assert_same(held(place, machine), truth(api))


def test_a_preparation_that_fails_stops_the_plain_source_before_it_reads(copied, monkeypatch):
    """dlt itself only logs it, and would go on."""
    pipeline, api = copied
    source = partial(paystack_source, api.secret_key, api.url, quota=0)
    with monkeypatch.context() as broken:
        broken.setattr(prepare, "_repair", Mock(side_effect=OSError("the disk is full")))
        with pytest.raises(PipelineStepFailed, match="the disk is full"):
            pipeline.run(source())
    with pipeline.sql_client() as client:  # nobody may ask for the newest row of it
        client.execute_sql("alter table paystack.ledger rename column entry_id to another")
    with pytest.raises(PipelineStepFailed, match="entry_id"):
        pipeline.run(source())
    assert api.stats.total == 0


def test_a_pipeline_of_somebody_else_in_the_same_dataset_stays_as_it_is(copied_here):
    place, machine, api = copied_here
    paystack_source(api.secret_key, api.url, quota=0)  # this process may copy customers, too
    other = place.pipeline(machine, "orders")
    other.run([{"order": 1}], table_name="orders")
    assert list(other.schemas) == ["orders"]


def assert_proven(place, machine: Path, customers: int) -> None:
    pipeline = place.pipeline(machine)
    ledger = read_table(pipeline, "ledger").to_pylist()
    assert len({line["entry_id"] for line in ledger}) == len(ledger)
    newest = max((line for line in ledger if line["kind"] == "count"), key=lambda line: line["verified_at"])
    assert (newest["proven"], newest["api_total"]) == (True, customers)
    versions = read_table(pipeline, "customers_history").to_pylist()
    assert sorted(row["id"] for row in versions if row["_valid_to"] is None) == sorted(held(place, machine))
