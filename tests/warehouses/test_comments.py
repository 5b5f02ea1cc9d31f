"""Descriptions in the database, where a run may write them and where not. What they say: `test_copy.py`."""

import pytest

from paystack_source import paystack_source
from paystack_source.extract.ledger import LEDGER
from tests.copies import begin_copied
from tests.warehouses.conftest import DATABASES, Warehouse
from tests.warehouses.test_copy import COMMENTS


def source(api):
    return paystack_source(api.secret_key, base_url=api.url, quota=0, refresh_budget=0)


def comments(pipeline):
    with pipeline.sql_client() as client:
        rows = client.execute_sql(COMMENTS[pipeline.destination.destination_name])
    return {(table, column): text for table, column, text in rows}


@pytest.mark.parametrize("kind", DATABASES)
def test_a_run_describes_tables_and_what_the_user_says_of_a_column_wins(kind, sandbox, request):
    """Made by the plain source in PostgreSQL, by `copy_customers` in DuckDB."""
    pipeline, api = begin_copied(sandbox, 40) if kind == "duckdb" else request.getfixturevalue("copied")
    first = comments(pipeline)
    assert first["ledger", None] == LEDGER.description
    hinted = source(api)
    hinted.customers.apply_hints(columns={"email": {"description": "It's ours: 100 %."}})
    pipeline.run(hinted)
    assert comments(pipeline) == first | {("customers", "email"): "It's ours: 100 %."}


def test_a_role_that_may_not_describe_tables_copies_all_the_same(
    postgres, copied, copied_database, own_machine, monkeypatch, dlt_log
):
    (pipeline, api), database = copied, copied_database

    def written():
        """When, in transactions: a comment that is written anew is another row."""
        return postgres.execute(
            "select objoid, objsubid, xmin::text from pg_description where objoid > 16384", database
        )

    before = written()
    pipeline.run(source(api))
    assert written() == before
    role = f"loader_{database}"
    postgres.execute("comment on column paystack.customers.email is 'of the owner'", database)
    postgres.execute(f"create role {role} login password 'of-the-tests-only'", database)
    for schema in ("paystack", "paystack_staging"):
        postgres.execute(
            f"grant all on schema {schema} to {role}; grant all on all tables in schema {schema} to {role}",
            database,
        )
    url = postgres.url(database).replace("//postgres:", f"//{role}:")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", url)
    api.add_customers(2)
    Warehouse("postgres", "postgres", {}).pipeline(own_machine).run(source(api))
    assert comments(pipeline)["customers", "email"] == "of the owner"
    assert postgres.execute("select count(*) from paystack.customers", database) == [(7,)]
    assert "could not be written" not in dlt_log.text


def test_an_error_while_descriptions_are_written_is_a_warning(
    sandbox, warehouse, own_machine, monkeypatch, dlt_log
):
    api = sandbox(30)

    def described(*_):
        raise TimeoutError

    monkeypatch.setattr("paystack_source.warehouse.comments._descriptions", described)
    pipeline = warehouse("duckdb").pipeline(own_machine)
    pipeline.run(source(api))
    assert pipeline.dataset().customers.df().shape[0] == 30
    said = "The descriptions of tables and columns could not be written into paystack: TimeoutError"
    assert dlt_log.text.count(said) == 1
