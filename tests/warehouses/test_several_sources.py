"""A pipeline that has another source first, or gets another destination later: the copy is complete wherever it is."""

import dlt
import duckdb
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import PaystackClient, copy_customers, paystack_source
from paystack_source.warehouse.destinations import read_table


@pytest.fixture
def api(sandbox):
    return sandbox(customers=40, seed=2)


def source(api, **options):
    return paystack_source(api.secret_key, base_url=api.url, quota=0, **options)


def assert_whole(pipeline, api):
    held = sorted(read_table(pipeline, columns=["id"])["id"].to_pylist())
    assert held == sorted(row["id"] for row in api.customers_truth())


def run_another_source(pipeline):
    """Then it is the source of the pipeline's default schema."""
    pipeline.run([{"a": 1}], table_name="mine", schema=dlt.Schema("mine"), loader_file_format="parquet")


@pytest.mark.parametrize("kind", ["duckdb", "parquet", "delta"])
def test_another_source_may_have_been_the_first(kind, api, warehouse, own_machine):
    pipeline = warehouse(kind).pipeline(own_machine)
    run_another_source(pipeline)
    pipeline.run(source(api))
    pipeline.run(source(api, history=True, details=True, refresh_budget=0))
    asked = api.stats.total
    pipeline.run(source(api, history=True, details=True, refresh_budget=0))
    with PaystackClient(api.secret_key, base_url=api.url, quota=0) as client:
        assert copy_customers(pipeline, client, details=True, refresh_budget=0).complete
    assert api.stats.total - asked < 10  # nobody is fetched again
    assert_whole(pipeline, api)
    for table in ("customers_history", "customer_details"):
        assert read_table(pipeline, table).num_rows == 40


def test_what_was_dropped_is_made_anew_also_if_another_source_was_the_first(api, warehouse, own_machine):
    pipeline = warehouse("duckdb").pipeline(own_machine)
    run_another_source(pipeline)
    pipeline.run(source(api))
    for dropped in ("column phone", "table"):
        with pipeline.sql_client() as client:
            client.execute_sql(
                "drop table customers" if dropped == "table" else f"alter table customers drop {dropped}"
            )
        pipeline.run(source(api))
        assert_whole(pipeline, api)
        assert "phone" in read_table(pipeline).column_names


def test_a_dataset_of_its_own_for_each_schema_is_refused(api, warehouse, own_machine, monkeypatch):
    monkeypatch.setenv("USE_SINGLE_DATASET", "false")
    pipeline = warehouse("duckdb").pipeline(own_machine)
    run_another_source(pipeline)
    with pytest.raises(PipelineStepFailed, match="a pipeline of its own"):
        pipeline.run(source(api))
    assert api.stats.total == 0


def test_a_destination_that_is_named_with_the_run_is_the_one_that_is_queried(api, own_machine):
    pipeline = dlt.pipeline("moving", dataset_name="paystack", pipelines_dir=str(own_machine))
    for file in ("one.duckdb", "two.duckdb"):
        pipeline.run(source(api, refresh_budget=0), destination=dlt.destinations.duckdb(file))
        assert_whole(pipeline, api)
    pipeline.run(source(api, refresh_budget=0), credentials="three.duckdb")
    assert_whole(pipeline, api)
    with duckdb.connect("two.duckdb") as two:
        assert two.execute("select rows_held_after, proven from paystack.ledger").fetchall()[-1] == (40, True)


def test_a_dataset_that_is_named_with_a_later_run_is_refused(api, own_machine):
    """dlt extracts for the former one, and loads into the new one."""
    place = dlt.destinations.duckdb("one.duckdb")
    pipeline = dlt.pipeline("moving", destination=place, pipelines_dir=str(own_machine))
    pipeline.run(source(api), dataset_name="first")
    api.add_customers(1)
    with pytest.raises(PipelineStepFailed, match="read for the dataset first, not for second"):
        pipeline.run(source(api, refresh_budget=0), dataset_name="second")
    for dataset in ("second", "first"):
        pipeline = dlt.pipeline(
            "moving", destination=place, dataset_name=dataset, pipelines_dir=str(own_machine)
        )
        pipeline.run(source(api, refresh_budget=0))
        assert_whole(pipeline, api)


@pytest.mark.parametrize("door", [copy_customers, dlt.Pipeline.run])
def test_what_waits_for_one_destination_is_not_loaded_into_another(door, sandbox, own_machine):
    one, other = sandbox(customers=12, seed=2), sandbox(customers=9, seed=3, integration=222)

    def pipeline_into(file):
        place = dlt.destinations.duckdb(file)
        return dlt.pipeline(
            "moving", destination=place, dataset_name="paystack", pipelines_dir=str(own_machine)
        )

    pipeline_into("one.duckdb").run(source(one))
    one.add_customers(5)
    pipeline_into("one.duckdb").extract(source(one))  # by a process that is killed before it loads
    pipeline = pipeline_into("other.duckdb")
    with PaystackClient(other.secret_key, base_url=other.url, quota=0, read_only=True) as client:
        door(pipeline, client if door is copy_customers else source(other))
    assert_whole(pipeline, other)
    pipeline = pipeline_into("one.duckdb")
    pipeline.run(source(one))
    assert_whole(pipeline, one)
