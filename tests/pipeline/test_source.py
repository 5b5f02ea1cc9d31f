"""The source as an object: each run of it is a run of its own, and leaves nothing behind however it ends."""

import gc
import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import dlt
import duckdb
import pytest
import urllib3
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import ConfigError, PaystackClient, copy_customers, paystack_source
from paystack_source.warehouse import sync
from paystack_source.warehouse.single_writer import current_run


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    with duckdb.connect("one.duckdb"):  # to open it costs more than most of what it is asked
        yield lambda name="one": dlt.pipeline(name, destination="duckdb", dataset_name="paystack")


def source(server, **options):
    return paystack_source(
        server.secret_key, base_url=server.url, **({"quota": 0, "refresh_budget": 0} | options)
    )


def held(pipeline, table="customers"):
    with pipeline.sql_client() as client:
        return client.execute_sql(f"select count(*) from {table}")[0][0]


def threads_left():
    """The threads of readers that do not end."""
    ours = [t for t in threading.enumerate() if t.name.startswith(("paystack-reader", "paystack-worker"))]
    for thread in ours:
        thread.join(10)
    return [thread.name for thread in ours if thread.is_alive()]


def connections_left():
    gc.collect()
    made = [item for item in gc.get_objects() if isinstance(item, urllib3.connection.HTTPConnection)]
    return [connection for connection in made if connection.sock is not None]


def test_a_source_that_is_run_again_reads_again_and_into_another_pipeline_it_brings_everything(
    pipeline, sandbox
):
    server, one, other = sandbox(customers=30), pipeline(), pipeline("other")
    again = source(server, details=True)
    one.run(again)
    server.add_customers(6)
    one.run(again)
    assert held(one) == 36
    assert held(one, "ledger") > 1
    assert held(one, "customer_details") == 30
    other.run(again)
    assert held(other) == 36
    server.add_customers(5)
    other.run(again)
    assert held(other) == 41


@pytest.mark.parametrize("number", ["60", -1, 1.5])
def test_a_budget_that_is_no_number_is_refused_before_anything_is_read(pipeline, sandbox, number):
    box = sandbox(5)
    said = pytest.raises(ConfigError, match="must be a whole number")
    with PaystackClient(box.secret_key, base_url=box.url) as client:
        for name in ("refresh_budget", "details"):
            with said:
                copy_customers(pipeline(), client, **{name: number})
    with said:
        paystack_source(box.secret_key, base_url=box.url, refresh_budget=number)
    assert box.stats.total == 0


@pytest.mark.parametrize("name", ["history", "details", "allow_incomplete", "allow_external_schedulers"])
def test_a_text_is_no_switch_of_the_source(name):
    with pytest.raises(ConfigError, match=f"^{name} must be of the type bool"):
        paystack_source("sk_test_" + 40 * "0", **{name: "no"})


def test_one_destination_may_be_that_of_several_pipelines_at_once(sandbox, tmp_path):
    box, lake = sandbox(60), dlt.destinations.filesystem(f"file://{tmp_path / 'lake'}")

    def copy(name):
        made = dlt.pipeline(name, destination=lake, dataset_name=name, pipelines_dir=str(tmp_path / "dlt"))
        with PaystackClient(box.secret_key, base_url=box.url) as client:
            return copy_customers(made, client).complete

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(copy, ["one", "two", "three"])) == [True] * 3


def test_a_pipeline_without_a_destination_is_refused_in_words(sandbox, tmp_path):
    box, made = sandbox(5), dlt.pipeline("nowhere", pipelines_dir=str(tmp_path))
    with (
        PaystackClient(box.secret_key, base_url=box.url) as client,
        pytest.raises(ConfigError, match="has no destination"),
    ):
        copy_customers(made, client)


def test_two_sources_in_one_run_are_refused(pipeline, sandbox):
    server, one = sandbox(customers=300), pipeline()
    with pytest.raises(PipelineStepFailed, match="Two Paystack sources"):
        one.run([source(server, end="2026-01-01"), source(server, start="2025-06-01")])
    one.run(source(server, end="2026-01-01"))
    one.run(source(server, start="2025-06-01"))
    with one.sql_client() as client:
        assert client.execute_sql("select count(*), count(distinct id) from customers")[0][:] == (300, 300)


def clone(server, name, **options):
    return paystack_source.clone(name=name, section=name)(
        server.secret_key, base_url=server.url, quota=0, **options
    )


def test_two_accounts_in_one_run_are_refused_and_nobody_is_loaded(pipeline, sandbox):
    ghana, nigeria, one = sandbox(customers=60), sandbox(customers=70), pipeline()
    with pytest.raises(PipelineStepFailed, match="Two Paystack sources"):
        one.run([clone(ghana, "gh"), clone(nigeria, "ng")])
    one.run(clone(ghana, "gh"))
    assert held(one) == 60
    with one.sql_client() as sql:
        sql.execute_sql("update customers set integration = 7")
    with pytest.raises(PipelineStepFailed, match="The dataset holds customers of"):
        one.run(clone(nigeria, "ng"))
    assert held(one) == 60


def test_a_section_without_a_key_gets_no_other_ones_and_is_named(pipeline, sandbox, monkeypatch):
    server = sandbox(customers=60)
    for name in ("PAYSTACK_SECRET_KEY", "SOURCES__PAYSTACK__SECRET_KEY"):
        monkeypatch.setenv(name, server.secret_key)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", server.url)
    ghana = paystack_source.clone(name="ghana", section="ghana")
    with pytest.raises(ConfigError, match=r"sources\.ghana") as missing:
        ghana()
    assert "SOURCES__GHANA__SECRET_KEY" in missing.value.advice
    monkeypatch.setenv("SOURCES__GHANA__SECRET_KEY", server.secret_key)
    one = pipeline()
    one.run(ghana())
    assert held(one) == 60


def test_the_number_of_the_account_is_checked_for_every_row(pipeline, sandbox):
    server, one = sandbox(customers=60), pipeline()
    number = next(iter(server.customers_truth()))["integration"]
    with pytest.raises(PipelineStepFailed, match="account=1 was asked for"):
        one.run(source(server, account=1))
    one.run(source(server, account=number))
    assert held(one) == 60
    with PaystackClient(server.secret_key, base_url=server.url, quota=0, read_only=True) as client:
        assert copy_customers(one, client, account=number).account == number
    with one.sql_client() as sql:
        sql.execute_sql("update customers set integration = 7 where id in (select id from customers limit 1)")
    with pytest.raises(PipelineStepFailed, match="The dataset holds customers of"):
        one.run(source(server))  # whoever made it


def test_a_run_leaves_no_threads_and_no_connections(pipeline, sandbox):
    server = sandbox(customers=3_000, latency=0.15)
    before = len(connections_left())
    kept = source(server, details=True)
    pipeline().run(kept)
    assert not threads_left()
    assert len(connections_left()) == before


def test_a_run_that_fails_leaves_none_either(pipeline, sandbox):
    server = sandbox(customers=3_000, latency=0.15, faults="blocked@list#20+500")
    before = len(connections_left())
    kept = source(server)
    with pytest.raises(PipelineStepFailed):
        pipeline().run(kept)
    assert not threads_left()
    assert len(connections_left()) == before


@pytest.mark.parametrize("latency", [0.0, 0.15])
def test_what_stops_early_asks_nothing_more(pipeline, sandbox, monkeypatch, latency):
    monkeypatch.setattr("paystack_source.warehouse.copying.BATCH_ROWS", 200)
    monkeypatch.setattr("paystack_source.extract.reader.AHEAD_BYTES", 20_000)
    server = sandbox(customers=10_000, latency=latency)
    kept = source(server)
    kept.customers.add_limit(1)
    pipeline().run(kept)
    assert not threads_left()
    assert server.stats.total < 90  # of 100 pages: as far as it was ahead
    assert not connections_left()


def test_a_run_that_cannot_be_proven_complete_fails_and_loads_nothing_unless_it_may(pipeline, sandbox):
    server, one = sandbox(customers=50), pipeline()
    one.run(source(server))
    server.add_customers(3)
    server.configure(total_off=1)
    with pytest.raises(PipelineStepFailed, match="could not be proven complete"):
        one.run(source(server))
    assert held(one) == 50
    one.run(source(server, allow_incomplete=True))
    assert held(one) == 53


def ledger(pipeline):
    with pipeline.sql_client() as client:
        return client.execute_sql(
            "select kind, rows_held_after, proven, difference from ledger order by verified_at"
        )


def test_a_run_counts_the_destination_at_its_end_and_shows_the_user_no_load_of_its_own(
    pipeline, sandbox, caplog
):
    server, one = sandbox(customers=300), pipeline()
    info = one.run(source(server))
    assert [(kind, held, proven) for kind, held, proven, _ in ledger(one)] == [
        ("first read", 300, True),
        ("count", 300, True),
    ]
    assert one.last_trace.last_load_info.loads_ids == info.loads_ids
    assert one.last_trace.last_normalize_info.row_counts["customers"] == 300
    assert not one.has_pending_data
    list(source(server).customers)
    assert not caplog.records  # iterating is no run without a lock


@pytest.mark.parametrize("module", ["paystack_source", "paystack_source.source"])
def test_the_example_of_a_docstring_runs(module, pipeline, sandbox, monkeypatch):
    server = sandbox(customers=30)
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", server.secret_key)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", server.url)
    text = importlib.import_module(module).__doc__
    example = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    exec("\n".join(example), {"dlt": dlt, "paystack_source": paystack_source})
    assert held(dlt.pipeline("paystack_customers")) == 30


def test_a_run_that_cannot_be_prepared_says_so_in_a_line_and_raises(pipeline, sandbox, dlt_log):
    with pytest.raises(PipelineStepFailed, match="cannot tell the dataset paystack from the file"):
        pipeline("paystack").run(source(sandbox(customers=3)))
    assert "The run is not prepared to copy customers: DuckDB cannot tell" in dlt_log.text
    assert "Traceback" not in dlt_log.text


def test_a_resource_of_the_user_that_iterates_gets_everybody_and_changes_no_proof(pipeline, sandbox, dlt_log):
    server, one = sandbox(customers=300), pipeline()
    one.run(source(server))

    @dlt.resource(write_disposition="replace")
    def emails():
        for table in source(server).customers:
            yield table.select(["id", "email"])

    server.add_customers(3)
    one.run(emails())
    assert held(one, "emails") == 303
    assert "could not be proven" not in dlt_log.text
    one.run(source(server))
    assert held(one) == 303


def test_rows_that_are_lost_between_read_and_count_are_seen_at_once_and_read_again(
    pipeline, sandbox, monkeypatch
):
    server, one = sandbox(customers=300), pipeline()
    close = sync.close

    def after_a_loss(pipeline, copying):
        with pipeline.sql_client() as client:
            client.execute_sql("delete from customers where id in (select id from customers limit 7)")
        return close(pipeline, copying)

    with monkeypatch.context() as lossy:
        lossy.setattr(sync, "close", after_a_loss)
        one.run(source(server))
    assert [(kind, held, proven, off) for kind, held, proven, off in ledger(one) if kind != "count"] == [
        ("first read", 293, False, 7)
    ]
    one.run(source(server))
    assert held(one) == 300


def test_where_dlt_tells_nothing_of_a_run_a_dataset_that_needs_repair_is_refused(
    pipeline, sandbox, monkeypatch, tmp_path
):
    server, one = sandbox(customers=60), pipeline()
    one.run(source(server))
    with one.sql_client() as client:
        client.execute_sql("insert into customers select * from customers limit 5")
    with monkeypatch.context() as untold:
        untold.setenv("ENABLE_RUNTIME_TRACE", "false")
        with pytest.raises(PipelineStepFailed, match="needs repair"):
            pipeline().run(source(server))
    # So it is where the destination is named with the run.
    late = dlt.pipeline("one", dataset_name="paystack", pipelines_dir=str(tmp_path / "elsewhere"))
    with pytest.raises(PipelineStepFailed, match="needs repair"):
        late.run(source(server), destination=one.destination)
    one.run(source(server))
    monkeypatch.setenv("ENABLE_RUNTIME_TRACE", "false")
    pipeline().run(source(server))
    assert held(one) == 60


def test_a_preparation_that_is_interrupted_leaves_no_lock_behind(pipeline, sandbox, monkeypatch):
    server, one = sandbox(customers=60), pipeline()
    one.run(source(server))
    with monkeypatch.context() as interrupted:
        interrupted.setattr(sync, "prepare", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one.run(source(server))
    assert current_run(one) is None
    server.add_customers(1)
    pipeline().run(source(server))
    assert held(one) == 61
