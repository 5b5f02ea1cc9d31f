"""A warehouse that cannot be reached or is set up wrongly says so in one line, and not its password."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import dlt
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import ConfigError, PaystackClient, copy_customers, paystack_source
from paystack_source.failures import explain, masked_traceback
from paystack_source.warehouse.destinations import read_table
from tests.copies import begin_copied
from tests.events import until

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
    cause = "nothing answers at its address" if wrong == "host" else "wrong user or password"
    assert failure.message.endswith(f": {cause}.")


@pytest.mark.parametrize("rights", ["", "superuser"])
def test_postgres_that_lets_its_user_make_nothing(rights, sandbox, postgres, own_machine):
    postgres.execute("drop role if exists looker")
    postgres.execute(f"create role looker login password '{PASSWORD}' {rights}")
    if rights:  # as a replica
        postgres.execute("alter role looker set default_transaction_read_only = on")
    place = dlt.destinations.postgres(f"postgresql://looker:{PASSWORD}@127.0.0.1:{postgres.port}/postgres")
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert (failure.error, failure.exit_code) == ("WarehouseRefused", 1)


def test_postgres_in_which_names_would_come_out_as_others(sandbox, postgres, own_machine):
    postgres.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
    place = dlt.destinations.postgres(postgres.url("latin"))
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert (failure.error, failure.exit_code) == ("ConfigError", 2)
    assert "database's encoding is LATIN1" in failure.message


def test_a_connection_by_which_names_would_come_out_as_others(postgres, copied, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    failure = failure_of(*copied)
    assert (failure.error, failure.exit_code, copied[1].stats.total) == ("ConfigError", 2, 0)
    assert "client_encoding is LATIN1" in failure.message


def test_a_foreign_key_that_somebody_added_is_named_and_the_load_goes_on_without_it(
    postgres, copied, copied_database
):
    for sql in (
        "alter table paystack.customers add primary key (id)",
        "create table notes as select id from paystack.customers",
        "alter table notes add foreign key (id) references paystack.customers (id)",
    ):
        postgres.execute(sql, copied_database)
    failure = failure_of(*copied)
    assert (failure.error, failure.exit_code) == ("WarehouseConstraint", 1)
    assert "ForeignKeyViolation" in failure.message
    postgres.execute("drop table notes", copied_database)
    pipeline, api = copied
    pipeline.run(paystack_source(api.secret_key, base_url=api.url, quota=0))


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("duckdb", "customers"),
        ("duckdb", "ledger"),
        ("duckdb", "customer_details"),
        ("postgres", "customers_history"),
        ("parquet", "customers"),
    ],
)
def test_a_table_of_somebody_else_is_left_as_it_is(kind, table, sandbox, warehouse, own_machine):
    place, api = warehouse(kind), sandbox(3)
    theirs = place.pipeline(own_machine, name="shop")
    theirs.run([{"id": 1, "email": "a@b.example"}], table_name=table,
               loader_file_format="parquet" if kind == "parquet" else None)  # fmt: skip
    before = theirs.dataset()[table].fetchall()
    with (
        PaystackClient(api.secret_key, base_url=api.url, quota=0) as client,
        pytest.raises((PipelineStepFailed, ConfigError)) as refused,
    ):
        copy_customers(place.pipeline(own_machine), client, full_refresh=True, history=True, details=True)
    failure = explain(refused.value)
    assert (failure.error, failure.exit_code, api.stats.total) == ("ConfigError", 2, 0)
    assert f"has a table {table} of somebody else's" in failure.message
    assert theirs.dataset()[table].fetchall() == before


@pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout"])
def test_a_statement_that_the_database_ends_is_no_login_that_it_refused(
    limit, postgres, copied, copied_database
):
    postgres.execute(f"alter database {copied_database} set {limit} = '500ms'")
    with contextlib.closing(psycopg2.connect(postgres.url(copied_database))) as another:
        another.cursor().execute("lock table paystack.customers in access exclusive mode")
        failure = failure_of(*copied)
    assert (failure.error, failure.exit_code) == ("WarehouseTimeout", 1)


def test_a_statement_that_an_administrator_ends_is_not_blamed_on_a_time_limit_alone(
    postgres, copied, copied_database
):
    waiting = f"from pg_stat_activity where datname = '{copied_database}' and wait_event_type = 'Lock'"
    url = postgres.url(copied_database)
    with contextlib.closing(psycopg2.connect(url)) as another, ThreadPoolExecutor(1) as pool:
        another.cursor().execute("lock table paystack.customers in access exclusive mode")
        failed = pool.submit(failure_of, *copied)
        until(
            lambda: failed.done() or (postgres.execute(f"select pg_cancel_backend(pid) {waiting}") and False)
        )
    assert (failed.result().error, failed.result().exit_code) == ("WarehouseTimeout", 1)
    assert "or somebody cancelled it" in failed.result().message


def test_a_time_limit_of_the_database_takes_no_run_its_lock(sandbox, postgres, own_machine):
    postgres.execute("create database limited")
    for limit in ("transaction_timeout", "idle_in_transaction_session_timeout"):
        postgres.execute(f"alter database limited set {limit} = '3s'")
    place = dlt.destinations.postgres(postgres.url("limited"))
    api = sandbox(3, latency=2.0)
    pipeline = dlt.pipeline("p", destination=place, dataset_name="d", pipelines_dir=str(own_machine))
    pipeline.run(paystack_source(api.secret_key, base_url=api.url, quota=0))
    assert api.stats.total >= 2  # so the lock was held for more than three seconds
    assert postgres.execute("select count(*) from d.customers", "limited") == [(3,)]


def test_columns_that_somebody_added_are_not_loaded_again(postgres, copied, copied_database):
    pipeline, api = copied
    for sql in (
        "alter table customers add search tsvector generated always as (to_tsvector('simple', email)) stored",
        "alter table customers add seen_for interval default '1 day'",
        "insert into customers (id, _last_seen_at, _dlt_load_id) select id, _last_seen_at, _dlt_load_id from customers",
    ):
        postgres.execute(f"set search_path to paystack; {sql}", copied_database)
    pipeline.run(paystack_source(api.secret_key, base_url=api.url, quota=0, history=True))
    counted = postgres.execute("select count(*), count(search) from paystack.customers", copied_database)
    assert counted == [(5, 5)]
    assert "seen_for" not in pipeline.default_schema.tables["customers_history"]["columns"]


def test_a_type_that_somebody_changed_is_named(postgres, copied, copied_database):
    alter = "alter table paystack.customers alter column {} type {}"
    for column, kind in (("created_at", "timestamp"), ("created_at", "text"), ("id", "text")):
        postgres.execute(alter.format(column, kind), copied_database)
        pipeline, api = copied
        other = pipeline.pipelines_dir + "-of-another-machine"
        spelled = dlt.pipeline(
            "paystack_customers", destination="postgres", dataset_name="Paystack", pipelines_dir=other
        )
        for each in (pipeline, spelled):  # dlt writes the name in snake case
            failure = failure_of(each, api)
            assert (failure.error, failure.exit_code) == ("ConfigError", 2)
            assert f"The column {column} of customers was made {kind}" in failure.message
        if column == "created_at":
            postgres.execute(
                alter.format(column, "timestamptz using created_at::timestamptz"), copied_database
            )


def test_columns_of_the_user_may_have_any_type(sandbox, postgres, own_machine):
    @dlt.transformer(name="ranks", primary_key="id", write_disposition="merge")
    def ranks(table):
        yield table.select(["id"]).append_column("rank", pa.array([1] * len(table), pa.int32()))

    api = sandbox(5)
    postgres.execute("create database ranks")
    place = dlt.destinations.postgres(postgres.url("ranks"))
    pipeline = dlt.pipeline("p", destination=place, dataset_name="paystack", pipelines_dir=str(own_machine))
    for count in (5, 6):
        both = paystack_source(api.secret_key, base_url=api.url, quota=0)
        both.resources.add(both.customers | ranks)
        pipeline.run(both)
        assert postgres.execute("select count(*) from paystack.ranks", "ranks") == [(count,)]
        api.add_customers(1)


@pytest.mark.parametrize("column", ["id", "created_at", "_changed_at", "metadata"])
def test_numbers_and_times_as_text_are_refused_before_anything_is_read(
    column, sandbox, postgres, own_machine
):
    api = sandbox(5)
    postgres.execute(f"create database text_{column}")
    place = dlt.destinations.postgres(postgres.url(f"text_{column}"))
    pipeline = dlt.pipeline("p", destination=place, dataset_name="paystack", pipelines_dir=str(own_machine))
    source = paystack_source(api.secret_key, base_url=api.url, quota=0)
    with (
        contextlib.nullcontext()
        if column == "metadata"
        else pytest.raises(PipelineStepFailed, match="hint data_type")
    ):
        pipeline.run(source, columns={column: {"data_type": "text"}})
    assert not pipeline.has_pending_data
    assert bool(api.stats.total) == (column == "metadata")


def test_a_load_that_can_never_be_loaded_is_not_dropped_with_data_of_the_user(sandbox, own_machine):
    api, queue = sandbox(5), [{"order": 1}]
    place = dlt.destinations.duckdb("copy.duckdb")
    pipeline = dlt.pipeline("p", destination=place, dataset_name="paystack", pipelines_dir=str(own_machine))
    for options in ({"columns": {"email": {"nullable": False}}}, {}):
        both = paystack_source(api.secret_key, base_url=api.url, quota=0)
        both.resources.add(dlt.resource(queue, name="orders"))
        with pytest.raises(PipelineStepFailed, match="step=normalize"):
            pipeline.run(both, **options)
        assert len(pipeline.list_extracted_load_packages()) == 1


def test_a_load_waits_until_what_stops_it_is_over_and_says_what_it_is(postgres, copied, copied_database):
    pipeline, api = copied
    api.add_customers(1)
    function = "create or replace function no() returns trigger language plpgsql as 'begin raise {}; end'"
    trigger = "create trigger refuse before insert or delete on paystack.customers execute function no()"
    asked = None
    for condition, error in (
        ("insufficient_privilege", "WarehouseRefused"),
        ("configuration_limit_exceeded", "WarehouseLimit"),  # such as temp_file_limit
        ("disk_full", "DiskFull"),
        ("deadlock_detected", "WarehouseTimeout"),
    ):
        postgres.execute(function.format(condition), copied_database)
        if asked is None:
            postgres.execute(trigger, copied_database)
        assert failure_of(pipeline, api).error == error
        asked = asked or api.stats.total
    assert api.stats.total == asked
    postgres.execute("drop trigger refuse on paystack.customers", copied_database)
    pipeline.run(paystack_source(api.secret_key, base_url=api.url, quota=0))
    assert read_table(pipeline).num_rows == 6


def test_another_naming_convention_than_that_of_the_tables_is_named(copied, monkeypatch):
    monkeypatch.setenv("SCHEMA__NAMING", "sql_cs_v1")
    failure = failure_of(*copied)
    assert (failure.error, failure.exit_code, copied[1].stats.total) == ("SettingUnusable", 2, 0)
    assert "schema.naming" in failure.message


def test_a_database_that_dlt_reaches_through_sqlalchemy_keeps_a_copy(sandbox, own_machine, tmp_path):
    pytest.importorskip("sqlalchemy")
    api, place = sandbox(5), dlt.destinations.sqlalchemy(f"sqlite:///{tmp_path}/copy.db")
    pipeline = dlt.pipeline("p", destination=place, dataset_name="paystack", pipelines_dir=str(own_machine))
    for count in (5, 6):
        pipeline.run(paystack_source(api.secret_key, base_url=api.url, quota=0, history=True))
        for table in ("customers", "customers_history"):
            assert read_table(pipeline, table).num_rows == count
        api.add_customers(1)


def test_a_function_as_destination_keeps_no_copy_and_is_open_to_other_sources(sandbox, own_machine):
    api, got = sandbox(5), []
    source = paystack_source(api.secret_key, base_url=api.url, quota=0)
    place = dlt.destination(lambda items, table: got.append(table["name"]), name="mine")
    pipeline = dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine))
    for _ in range(2):
        with pytest.raises(PipelineStepFailed, match="The destination mine cannot be queried"):
            pipeline.run(source)
    pipeline.run([{"a": 1}], table_name="other")
    assert got == ["other"]


def test_the_number_of_the_account_may_be_text(sandbox):
    pipeline, api = begin_copied(sandbox, 40)
    with pipeline.sql_client() as sql:
        sql.execute_sql("alter table paystack.customers alter column integration type text")
    api.add_customers(1)
    pipeline.run(paystack_source(api.secret_key, base_url=api.url, quota=0))
    assert read_table(pipeline).num_rows == 41


def test_a_duckdb_file_whose_folder_is_not_there(sandbox, own_machine):
    place = dlt.destinations.duckdb(str(own_machine.parent / "nowhere" / "copy.duckdb"))
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert (failure.error, failure.exit_code) == ("WarehouseUnreachable", 1)
    assert "nowhere/copy.duckdb" in failure.message


@pytest.mark.parametrize(
    ("name", "content"),
    [("copy.csv", b"customer_code,first_name\nCUS_a,b\n"), ("copy.parquet", b""), ("copy.db", b"hello " * 9)],
    ids=["csv", "parquet", "text"],
)
def test_a_file_that_duckdb_would_open_as_something_else(sandbox, own_machine, name, content):
    """A CSV or Parquet file becomes a view in memory: the run would be green, and its copy nowhere."""
    file = own_machine.parent / name
    if content:
        file.write_bytes(content)
    else:
        pq.write_table(pa.table({"a": [1]}), file)
    before = file.read_bytes()
    place = dlt.destinations.duckdb(str(file))
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert (failure.error, failure.exit_code) == ("WarehouseUnreachable", 1)
    assert (str(file) in failure.message, file.read_bytes()) == (True, before)


@pytest.mark.parametrize(
    ("folder", "file"), [("10%", "c"), ("o'neil", "c"), ("env=prod", "c"), ("dlt", "why?")]
)
def test_a_path_that_dlt_or_duckdb_cannot_take(sandbox, own_machine, folder, file):
    place = dlt.destinations.duckdb(str(own_machine / file))
    failure = failure_of(
        dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine / folder)), sandbox(3)
    )
    assert (failure.error, failure.exit_code) == ("ConfigError", 2)
    assert str(own_machine / (file if folder == "dlt" else folder)) in failure.message


@pytest.mark.parametrize(
    ("file", "dataset"),
    [
        ("c", "temp"),
        ("people.v2.duckdb", "people"),
        ("PEOPLE.duckdb", "people"),
        ("people_staging.db", "people"),
    ],
)
def test_names_that_duckdb_cannot_tell_apart(sandbox, own_machine, file, dataset):
    api, place = sandbox(3), dlt.destinations.duckdb(str(own_machine / file))
    pipeline = dlt.pipeline("p", destination=place, dataset_name=dataset, pipelines_dir=str(own_machine))
    failure = failure_of(pipeline, api)
    assert (failure.error, failure.exit_code, api.stats.total) == ("ConfigError", 2, 0)


def test_a_bucket_that_lets_nobody_in(sandbox, s3, own_machine):
    place = dlt.destinations.filesystem(
        "s3://ready", credentials=s3.credentials() | {"aws_secret_access_key": PASSWORD}
    )
    failure = failure_of(dlt.pipeline("p", destination=place, pipelines_dir=str(own_machine)), sandbox(3))
    assert failure.exit_code == 1
    assert "unexpected" not in failure.message
