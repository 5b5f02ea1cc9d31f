"""What a scheduled copy promises, against a sandbox: complete, cheap, unharmed by trouble and kills."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import duckdb
import pytest
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.load import Load
from dlt.pipeline.pipeline import Pipeline

import paystack_source
from paystack_source.api.client import PaystackClient
from paystack_source.api.transport import RetryPolicy
from paystack_source.errors import AlreadyRunningError, ConfigError, NotCompleteError, Unavailable
from paystack_source.extract.reader import Reader
from paystack_source.extract.run import Extraction
from paystack_source.extract.windows import ALWAYS
from paystack_source.file_lock import try_lock, unlocked_at_end
from paystack_source.private_files import open_private
from paystack_source.warehouse import duckdb_file
from paystack_source.warehouse.copying import Limits
from paystack_source.warehouse.queries import Warehouse
from paystack_source.warehouse.single_writer import exclusive_run
from paystack_source.warehouse.sync import copy_customers, open_pipeline
from tests.copies import begin_copied
from tests.events import PATIENCE
from tests.extract.listing_server import Listing
from tests.processes import python

FIELDS = (
    "id", "customer_code", "email", "first_name", "last_name", "phone", "metadata", "domain", "integration",
    "risk_action", "created_at", "updated_at",
)  # fmt: skip


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    return open_pipeline("duckdb", "paystack")


@pytest.fixture
def copied(pipeline, sandbox):
    """A pipeline that has copied 350 customers, and their sandbox. The file is kept open: that costs less."""
    made = begin_copied(sandbox, 350)
    with duckdb.connect("paystack_customers.duckdb"):
        yield made


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client", "sk_test_0123456789"),
        ("client", []),
        ("pipeline", "paystack"),
        ("limits", {"rows": 1}),
        ("account", "1"),
        ("full_refresh", "no"),
        ("history", "no"),
        ("allow_incomplete", "no"),
    ],
)
def test_an_argument_of_another_type_is_named(name, value, pipeline):
    with (
        PaystackClient("sk_test_" + 40 * "0") as client,
        pytest.raises(ConfigError, match=f"^{name} must be ") as said,
    ):
        copy_customers(**{"pipeline": pipeline, "client": client, name: value})
    assert "0123456789" not in str(said.value)


def test_ctrl_c_at_the_end_of_a_load_is_not_forgotten(pipeline, sandbox, monkeypatch):
    server, complete = sandbox(customers=20), Load.complete_package

    def completed_and_interrupted(step, *args, **kwargs):
        monkeypatch.setattr(Load, "complete_package", complete)
        complete(step, *args, **kwargs)
        signal.raise_signal(signal.SIGINT)

    for pending in ([], [{"mine": 1}]):
        pipeline.extract(pending, table_name="mine")
        monkeypatch.setattr(Load, "complete_package", completed_and_interrupted)
        with pytest.raises(KeyboardInterrupt):
            copy(pipeline, server)
    assert copy(pipeline, server).complete


class Leaving:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_where_nothing_can_be_raised_is_not_lost(pipeline, sandbox, monkeypatch):
    def rows_arrive(_count):
        Leaving()
        threading.Event().wait(PATIENCE)

    server = sandbox(customers=20)
    with pytest.raises(KeyboardInterrupt):
        copy(pipeline, server, on_rows=rows_arrive)

    # In DuckDB it becomes an ordinary error, and those of the last settings are ignored.
    def interrupted(client, sql, *args, **kwargs):
        if sql.startswith("SET ") and "threads = '1'" not in sql and "750000000B" not in sql:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as interrupt:
                raise RuntimeError("Query interrupted") from interrupt
        return execute(client, sql, *args, **kwargs)

    execute = DuckDbSqlClient.execute_sql
    with monkeypatch.context() as patch:
        patch.setattr(DuckDbSqlClient, "execute_sql", interrupted)
        with pytest.raises(KeyboardInterrupt):
            copy(pipeline, server)
    assert copy(pipeline, server).complete


def copy(pipeline, server, **options):
    with PaystackClient(server.secret_key, base_url=server.url, quota=0, read_only=True) as client:
        return copy_customers(pipeline, client, **({"refresh_budget": 0} | options))


def held(pipeline):
    """The copy, field by field, in the words of the API's list."""
    with pipeline.sql_client() as client:
        rows = client.execute_sql(f"select {', '.join(FIELDS)} from paystack.customers")
    return {row[0]: _spelled(dict(zip(FIELDS, row, strict=True))) for row in rows}


def truth(server):
    found = {}
    for row in server.customers_truth(as_listed=True):
        named = {"created_at": row["createdAt"], "updated_at": row["updatedAt"]} | row
        found[row["id"]] = _spelled({name: named[name] for name in FIELDS})
    return found


def _spelled(row):
    for name in ("created_at", "updated_at"):
        value = row[name]
        row[name] = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
    if isinstance(row["metadata"], str):
        row["metadata"] = json.loads(row["metadata"])
    return row


def test_the_copy_equals_the_server_field_by_field(pipeline, sandbox):
    server = sandbox(customers=700, seed=11)
    report = copy(pipeline, server, limits=Limits(rows=500, slow_rows=500))
    assert (report.complete, report.api_total, report.warehouse_total) == (True, 700, 700)
    assert held(pipeline) == truth(server)


def test_increments_cost_next_to_nothing(copied):
    pipeline, server = copied
    with PaystackClient(server.secret_key, base_url=server.url, quota=0) as client:  # one for both runs
        nothing = copy_customers(pipeline, client, refresh_budget=0)
        assert (nothing.complete, nothing.rows_loaded) == (True, 0)
        assert nothing.requests == server.stats.total == 2
        server.add_customers(60)
        some = copy_customers(pipeline, client, refresh_budget=0)
    assert (some.complete, some.rows_new) == (True, 60)
    assert some.requests == 2
    assert held(pipeline) == truth(server)


def test_late_customers_with_an_old_date_are_found(copied):
    pipeline, server = copied
    server.add_customers(3, created_at=datetime.now(UTC) - timedelta(days=200))
    report = copy(pipeline, server)
    assert (report.complete, report.rows_new) == (True, 3)
    assert held(pipeline) == truth(server)


def test_who_comes_into_a_window_that_was_just_read_is_no_sign_of_a_loss(pipeline, sandbox, monkeypatch):
    server = sandbox(customers=300)
    look, newest = (
        Extraction._request_newest,
        max(row["createdAt"] for row in server.customers_truth(as_listed=True)),
    )
    comes = iter([None, newest])  # before the second look, in the second of the newest one

    def looked(extraction):
        if at := next(comes, None):
            server.add_customers(1, created_at=at)
        return look(extraction)

    monkeypatch.setattr(Extraction, "_request_newest", looked)
    report = copy(pipeline, server)
    assert (report.complete, report.unproven, report.warehouse_total) == (True, [], 301)
    assert held(pipeline) == truth(server)


def test_windows_that_do_not_add_up_are_no_matter_once_the_whole_list_did(pipeline, sandbox, monkeypatch):
    monkeypatch.setattr(
        "paystack_source.warehouse.copying.Reader", functools.partial(Reader, window_rows=100)
    )
    server = sandbox(customers=700, dropped_rows=1.0, cursor_with_filters="ignore", seed=3)
    report = copy(pipeline, server)
    assert held(pipeline) == truth(server)
    assert (report.complete, report.unproven) == (True, [])


def test_edits_of_old_customers_arrive_within_the_stated_number_of_runs(copied):
    pipeline, server = copied
    for row in list(server.customers_truth())[::7]:
        server.edit_customer(row["customer_code"], risk_action="deny", first_name="Ọmọ́")
    first = copy(pipeline, server, refresh_budget=3)
    assert first.requests <= 2 + 3
    assert 1 < first.refresh_runs < 5
    assert held(pipeline) != truth(server)
    for _ in range(first.refresh_runs - 1):
        copy(pipeline, server, refresh_budget=3)
    assert held(pipeline) == truth(server)


def test_rows_that_vanish_from_the_copy_come_back(copied):
    pipeline, server = copied
    with pipeline.sql_client() as client:
        client.execute_sql("delete from paystack.customers where id % 9 = 0")
    report = copy(pipeline, server)
    assert report.complete
    assert held(pipeline) == truth(server)


def test_what_was_dropped_in_the_database_is_made_anew(pipeline, sandbox):
    pipeline, server = begin_copied(sandbox, 350, history=True)
    with pipeline.sql_client() as client:
        client.execute_sql("drop table paystack.customers")
        client.execute_sql("alter table paystack.customers_history drop column phone")
    server.add_customers(1)
    report = copy(open_pipeline("duckdb", "paystack"), server, history=True)
    assert (report.complete, report.warehouse_total) == (True, 351)
    assert held(pipeline) == truth(server)
    with pipeline.sql_client() as client:
        client.execute_sql("alter table paystack.customers rename phone to telephone")
        client.execute_sql("drop table paystack_staging.customers")
        client.execute_sql("alter table paystack_staging.customers_history drop column phone")
    assert copy(pipeline, server, history=True, refresh_budget=60).complete
    assert held(pipeline) == truth(server)


@pytest.mark.parametrize(
    ("place", "state", "schema"),
    [("", b"{\xc3", b"\0\0"), (":pipeline:", b"", b"{\xc3")],  # the latter is in the folder of these files
)
def test_a_file_of_dlts_that_a_power_cut_damaged_is_made_anew(
    place, state, schema, pipeline, sandbox, monkeypatch
):
    if place:
        monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", place)
    pipeline, server = begin_copied(sandbox, 350, place=place)
    for file, content in (("state.json", state), ("schemas/paystack.schema.json", schema)):
        Path(pipeline.working_dir, file).write_bytes(content)
        jobs = Path(pipeline.working_dir, "load/normalized/1796052867.31/new_jobs")
        jobs.mkdir(parents=True)
        (jobs / "66dd2e0ae43c6e4f").touch()  # a job that a kill did not let dlt rename
        server.add_customers(1)
        pipeline = open_pipeline("duckdb", "paystack")
        assert copy(pipeline, server).rows_seen < 350
    assert held(pipeline) == truth(server)


_KILLED = """
import os, pathlib, shutil
from dlt.pipeline.pipeline import Pipeline
from paystack_source.warehouse import dlt_quirks, sync
def killed(*_, **__):
    pathlib.Path("dlt/pipelines/paystack_customers/state.json").unlink()
    os._exit(9)
shutil.rmtree = Pipeline.drop = killed
dlt_quirks.drop_local_state(sync.open_pipeline("duckdb", "paystack"))
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_a_database_in_dlts_folder_survives_a_kill_while_that_folder_is_made_anew(
    damaged, pipeline, sandbox, monkeypatch
):
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", ":pipeline:")
    pipeline, server = begin_copied(sandbox, 350, place=":pipeline:")
    if damaged:
        Path(pipeline.working_dir, "state.json").write_bytes(b"{")
    assert subprocess.run([python(), "-c", _KILLED], check=False).returncode == 9
    assert not list(Path(pipeline.working_dir).glob("*.duckdb"))
    server.add_customers(1)
    assert copy(open_pipeline("duckdb", "paystack"), server).rows_seen < 350
    assert held(pipeline) == truth(server)


@pytest.mark.parametrize("lost", ["state", "dataset", "dataset, plain run"])
def test_a_database_in_dlts_folder_is_kept_where_dlt_deletes_that_folder(
    lost, pipeline, sandbox, monkeypatch
):
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", ":pipeline:")
    pipeline, server = begin_copied(sandbox, 350, place=":pipeline:")
    folder = Path(pipeline.working_dir)
    with duckdb.connect(str(folder / "paystack_customers.duckdb")) as database:
        database.execute("create schema another; create table another.notes as from paystack.customers")
        if lost != "state":
            database.execute("drop schema paystack cascade")
    if lost == "state":
        (folder / "state.json").unlink()
    if lost == "dataset, plain run":
        open_pipeline("duckdb", "paystack").run(
            paystack_source.paystack_source(server.secret_key, server.url, quota=0)
        )
    else:
        copy(open_pipeline("duckdb", "paystack"), server)
    assert held(open_pipeline("duckdb", "paystack")) == truth(server)
    with duckdb.connect(str(folder / "paystack_customers.duckdb")) as database:
        assert database.sql("select count(*) from another.notes").fetchone() == (350,)


def test_a_database_that_was_made_since_such_a_kill_is_not_overwritten(pipeline, sandbox, monkeypatch):
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", ":pipeline:")
    pipeline, server = begin_copied(sandbox, 350, place=":pipeline:")
    assert subprocess.run([python(), "-c", _KILLED], check=False).returncode == 9
    made = Path(
        open_pipeline("duckdb", "paystack").working_dir, "paystack_customers.duckdb"
    )  # as a bulk run does
    with duckdb.connect(str(made)) as since:
        since.execute("create table write_back_runs as select 1")
    with pytest.raises(ConfigError, match="two databases"):
        copy(open_pipeline("duckdb", "paystack"), server)
    with duckdb.connect(str(made)) as since:
        assert since.execute("from write_back_runs").fetchall() == [(1,)]
    made.unlink()
    assert copy(open_pipeline("duckdb", "paystack"), server).rows_seen < 350
    assert held(pipeline) == truth(server)


def test_damaged_files_of_a_run_that_is_under_way_are_left_to_it(copied):
    pipeline, _server = copied
    state = Path(pipeline.working_dir, "state.json")
    with exclusive_run(pipeline):
        state.write_bytes(b"{")
        with pytest.raises(AlreadyRunningError):
            open_pipeline("duckdb", "paystack")
    assert state.exists()


def test_a_column_of_the_account_that_was_dropped_is_filled_again(copied):
    pipeline, server = copied
    for column in ("domain", "integration"):
        with pipeline.sql_client() as client:
            client.execute_sql(f"alter table paystack.customers drop column {column}")
        assert copy(pipeline, server, refresh_budget=60).complete
        assert held(pipeline) == truth(server)


def test_a_table_of_dlts_that_was_dropped_is_made_anew(copied):
    pipeline, server = copied
    for table in ("_dlt_loads", "_dlt_version", "_dlt_pipeline_state"):
        with pipeline.sql_client() as client:
            client.execute_sql(f"drop table paystack.{table}")
        server.add_customers(1)
        assert copy(pipeline, server).complete, table
    server.add_customers(1)
    assert copy(open_pipeline("duckdb", "paystack"), server).complete
    assert held(pipeline) == truth(server)


def test_trouble_of_each_kind_loses_and_doubles_nothing(pipeline, sandbox):
    kinds = ("error", "html", "cut", "reset_before", "reset_after", "status_false", "not_json", "empty")
    faults = ",".join(f"{kind}@list#{3 * n + 2}" for n, kind in enumerate(kinds))
    server = sandbox(customers=2500, seed=3, faults=faults)
    report = copy(pipeline, server)
    assert server.stats.faults == dict.fromkeys(kinds, 1)
    assert report.complete
    assert Warehouse(pipeline).count([ALWAYS])[0] == 2500
    with pipeline.sql_client() as client:
        assert client.execute_sql("select count(distinct id) from paystack.customers") == [(2500,)]


def test_a_range_takes_just_its_customers(pipeline, sandbox):
    server = sandbox(customers=350)
    times = sorted(row["created_at"] for row in truth(server).values())
    start, end = times[100], times[250]
    report = copy(pipeline, server, start=start, end=end)
    assert report.complete
    expected = {number: row for number, row in truth(server).items() if start <= row["created_at"] < end}
    assert held(pipeline) == expected
    assert copy(pipeline, server).complete  # and the next plain run takes the rest
    assert held(pipeline) == truth(server)
    again = copy(pipeline, server, start=start, end=end)  # somebody is held who was created at its very end
    assert (again.complete, again.warehouse_total) == (True, len(expected))


def test_a_run_knows_from_the_one_before_which_page_numbers_are_refused(pipeline, sandbox):
    server = sandbox(customers=1_200, deepest_page=3, cursor_with_filters="ignore")
    assert copy(pipeline, server).complete
    server.edit_customer(next(iter(server.customers_truth()))["customer_code"], phone="0803")
    before = server.stats.statuses[400]
    assert copy(pipeline, server, refresh_budget=100).complete
    assert held(pipeline) == truth(server)
    assert (before > 0, server.stats.statuses[400]) == (True, before)


def test_without_a_client_the_settings_are_found_and_the_connections_closed(pipeline, sandbox, monkeypatch):
    server = sandbox(customers=60)
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", server.secret_key)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", server.url)
    closed = Mock()
    monkeypatch.setattr(PaystackClient, "close", closed)
    report = paystack_source.copy_customers(pipeline, start="2001-01-01")
    assert (report.complete, report.warehouse_total, report.key_mode) == (True, 60, "test")
    assert closed.called


def test_a_copy_that_could_not_be_proven_complete_is_an_error(copied):
    pipeline, server = copied
    server.add_customers(3)
    server.configure(total_off=1)
    with pytest.raises(NotCompleteError) as caught:  # the command's exit code 5 is one that may be incomplete
        copy(pipeline, server)
    assert caught.value.details["status"] == "incomplete"
    assert Warehouse(pipeline).count([ALWAYS])[0] == 353


def test_another_accounts_customers_are_refused(copied):
    pipeline, server = copied
    with pipeline.sql_client() as client:
        client.execute_sql("update paystack.customers set integration = 1, domain = 'live'")
    with pytest.raises(Exception, match="The dataset holds customers of"):
        copy(pipeline, server)


def test_loads_grow_with_what_is_safe_already():
    limits, loads, loaded = Limits(), [], 0
    while loaded < 2_000_000:
        rows = 0
        while not limits.reached(rows, 0.0, loaded):
            rows += 30_000  # a window
        loads.append(rows)
        loaded += rows
    assert loads[:5] == [30_000, 30_000, 60_000, 120_000, 120_000]
    assert set(loads[3:]) == {120_000}


def test_a_slow_load_ends_with_its_time_not_its_size():
    limits = Limits()
    assert not limits.reached(19_999, 100.0, 10**6)
    assert limits.reached(20_000, 30.0, 10**6)
    assert not limits.reached(20_000, 29.0, 10**6)


@pytest.fixture
def wordy(sandbox, monkeypatch):
    # DuckDB merges in memory, and what is enough for short rows is not for these. A seventh of what a run may use.
    monkeypatch.setattr(duckdb_file, "MEMORY_LIMIT", 112_000_000)
    server = sandbox(customers=600, seed=5)
    for number, row in enumerate(list(server.customers_truth())):
        server.edit_customer(row["customer_code"], metadata={"note": f"{number:06d}" * 3_000})
    return server


def test_a_key_for_each_customer_makes_fifty_columns_in_all(pipeline):
    """More pages than are parsed at once, and a second run."""
    with Listing(1_300) as server:
        server.secret_key = "sk_test_" + "a" * 20
        for number, row in enumerate(server.customers):
            row[f"key_{number}"] = "x"
        latest, server.customers = server.customers[-100:], server.customers[:-100]
        assert copy(pipeline, server).complete
        server.customers += latest
        assert copy(pipeline, server).warehouse_total == 1_300
    with pipeline.sql_client() as client:
        columns = client.execute_sql("describe paystack.customers")
        kept = client.execute_sql("select count(*) from paystack.customers where extra is not null")
    assert sum(row[0].startswith("key_") for row in columns) == 50
    assert kept[0][0] == 1_250


def test_ctrl_c_is_one_although_dlt_makes_another_error_of_it(pipeline, sandbox, monkeypatch):
    """Or a loop over accounts that catches errors goes on with the next one."""
    with monkeypatch.context() as pressed:
        pressed.setattr("dlt.load.load.Load.load_single_package", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            copy(pipeline, server := sandbox(customers=30))
    assert copy(pipeline, server).complete


@pytest.mark.parametrize("door", ["plain", "command"])
def test_ctrl_c_while_dlt_ends_a_run_refuses_no_later_one(pipeline, sandbox, monkeypatch, door):
    """dlt does not tell then that the run has ended."""
    server = sandbox(customers=30)

    def run():
        if door == "command":
            return copy(pipeline, server)
        return pipeline.run(paystack_source.paystack_source(server.secret_key, base_url=server.url, quota=0))

    run()
    with monkeypatch.context() as pressed:
        pressed.setattr(
            sys.modules[Pipeline.__module__], "end_trace_step", Mock(side_effect=KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run()
    for _ in range(2):
        server.add_customers(3)
        run()
    folder = Path(pipeline.pipelines_dir)
    with unlocked_at_end(open_private(folder / f"{pipeline.pipeline_name}.lock")) as handle:
        assert try_lock(handle)  # so another process can run
    assert Warehouse(pipeline).count([ALWAYS]) == [36]


def test_long_metadata_fits_into_memory_also_after_a_kill(pipeline, wordy, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(Pipeline, "load", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            copy(pipeline, wordy)
    pipeline = open_pipeline("duckdb", "paystack")
    assert pipeline.has_pending_data
    report = copy(pipeline, wordy, history=True)
    assert (report.complete, report.rows_loaded) == (True, 0)
    for row in list(wordy.customers_truth())[::2]:
        wordy.edit_customer(row["customer_code"], first_name="Adaeze")
    assert copy(pipeline, wordy, full_refresh=True, history=True).complete
    assert held(pipeline) == truth(wordy)


def test_what_was_read_before_an_error_is_loaded(pipeline, sandbox):
    server = sandbox(customers=1_000, faults="blocked@list#8+10000")
    once = RetryPolicy(attempts=1)
    with (
        PaystackClient(server.secret_key, base_url=server.url, quota=0, retry=once) as client,
        pytest.raises(Unavailable),
    ):
        copy_customers(pipeline, client, refresh_budget=0)
    before = Warehouse(pipeline).count([ALWAYS])[0]
    assert 0 < before < 1_000
    server.configure(faults="")
    assert copy(pipeline, server).rows_new == 1_000 - before
    assert held(pipeline) == truth(server)


def test_a_users_own_connection_has_its_settings_back_after_a_run(copied):
    settings = "select current_setting('threads'), current_setting('memory_limit')"
    pipeline, server = copied
    with duckdb.connect("paystack_customers.duckdb") as own:
        own.execute("set threads = 3")
        own.execute("set memory_limit = '1.0 GiB'")
        before = own.execute(settings).fetchall()
        copy(pipeline, server)
        assert own.execute(settings).fetchall() == before


def test_a_users_own_transaction_does_not_stop_the_loads(pipeline, sandbox):
    server = sandbox(customers=600, seed=6)
    with duckdb.connect("paystack_customers.duckdb") as own:
        own.execute("create table notes as select 'before' as words")
        own.execute("begin")
        own.execute("update notes set words = 'after'")
        with pytest.raises(duckdb.TransactionException), own.cursor() as other:
            other.execute("checkpoint")
        assert copy(pipeline, server, limits=Limits(bytes=60_000)).complete
        own.execute("commit")
        assert own.execute("from notes").fetchall() == [("after",)]
    assert held(pipeline) == truth(server)


@pytest.mark.parametrize("limits", [Limits(bytes=60_000), Limits(most_rows=400)])
def test_a_large_load_ends_inside_a_window_and_duckdb_gives_its_memory_back_after_it(
    pipeline, sandbox, limits
):
    """DuckDB does so when nobody is connected any more; then its settings are those it begins with."""
    server, seen = sandbox(customers=1_200, seed=6), []

    def look(_rows):
        with pipeline.sql_client() as client:
            seen.append(client.execute_sql("select current_setting('default_order')")[0][0])
            client.execute_sql("set default_order = 'DESC'")

    report = copy(pipeline, server, limits=limits, on_rows=look)
    assert (report.complete, report.rows_new) == (True, 1_200)
    assert held(pipeline) == truth(server)
    with pipeline.sql_client() as client:
        loads = client.execute_sql("select count(distinct _dlt_load_id) from paystack.customers")[0][0]
    assert loads > 1
    assert seen[0] == "ASCENDING"
    assert seen.count("ASCENDING") > 1
