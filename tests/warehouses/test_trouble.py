"""A warehouse that cannot be reached or is set up wrongly says so in one line, and not its password."""

import dlt
import pytest

from paystack_source import paystack_source
from paystack_source.failures import explain, masked_traceback

PASSWORD = "hunter2-of-the-warehouse"


def failure_of(pipeline, api):
    with pytest.raises(Exception) as caught:
        pipeline.run(paystack_source(api.secret_key, base_url=api.url, quota=0))
    assert PASSWORD not in masked_traceback(caught.value)
    return explain(caught.value)


@pytest.mark.parametrize("wrong", ["host", "password"])
def test_postgres_that_lets_nobody_in(wrong, sandbox, postgres, own_machine):
    port = 1 if wrong == "host" else postgres.port
    place = dlt.destinations.postgres(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres")
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert (failure.error, failure.exit_code) == ("WarehouseUnreachable", 1)


def test_postgres_that_lets_its_user_make_nothing(sandbox, postgres, own_machine):
    postgres.execute(f"create role looker login password '{PASSWORD}'")
    place = dlt.destinations.postgres(f"postgresql://looker:{PASSWORD}@127.0.0.1:{postgres.port}/postgres")
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert (failure.error, failure.exit_code) == ("WarehouseRefused", 1)


def test_a_duckdb_file_whose_folder_is_not_there(sandbox, own_machine):
    place = dlt.destinations.duckdb(str(own_machine / "nowhere" / "copy.duckdb"))
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert (failure.error, failure.exit_code) == ("WarehouseUnreachable", 1)
    assert "nowhere/copy.duckdb" in failure.message


def test_a_bucket_that_lets_nobody_in(sandbox, s3, own_machine):
    place = dlt.destinations.filesystem(
        "s3://ready", credentials=s3.credentials() | {"aws_secret_access_key": PASSWORD}
    )
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert failure.exit_code == 1
    assert "unexpected" not in failure.message
