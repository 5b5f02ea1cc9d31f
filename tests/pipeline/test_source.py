"""The source as an object: each run of it is a run of its own, and leaves nothing behind however it ends."""

import gc
import threading

import dlt
import pytest
import urllib3
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import paystack_source


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    return lambda name="one": dlt.pipeline(name, destination="duckdb", dataset_name="paystack")


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


def test_a_source_that_is_run_again_reads_again(pipeline, sandbox):
    server, one = sandbox(customers=300), pipeline()
    again = source(server, details=True)
    one.run(again)
    server.add_customers(60)
    one.run(again)
    assert held(one) == 360
    assert held(one, "ledger") > 1
    assert held(one, "customer_details") == 300


def test_two_sources_in_one_run_are_refused(pipeline, sandbox):
    server, one = sandbox(customers=300), pipeline()
    with pytest.raises(PipelineStepFailed, match="Two Paystack sources"):
        one.run([source(server, end="2026-01-01"), source(server, start="2025-06-01")])
    one.run(source(server, end="2026-01-01"))
    one.run(source(server, start="2025-06-01"))
    with one.sql_client() as client:
        assert client.execute_sql("select count(*), count(distinct id) from customers")[0][:] == (300, 300)


def test_and_into_another_pipeline_it_brings_everything(pipeline, sandbox):
    server = sandbox(customers=300)
    again = source(server)
    pipeline().run(again)
    other = pipeline("other")
    other.run(again)
    assert held(other) == 300
    server.add_customers(5)
    other.run(again)
    assert held(other) == 305


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
    monkeypatch.setattr("paystack_source.warehouse.copying.BATCH_ROWS", 1_000)
    monkeypatch.setattr("paystack_source.extract.reader.AHEAD_BYTES", 100_000)
    server = sandbox(customers=40_000, latency=latency)
    kept = source(server)
    kept.customers.add_limit(1)
    pipeline().run(kept)
    assert not threads_left()
    assert server.stats.total < 390  # of 400 pages: as far as it was ahead
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
