"""What a warehouse holds can be counted and read back, the newest row of each customer, and offline."""

import importlib.util
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from paystack_source.errors import ConfigError
from paystack_source.extract.arrow import SCHEMA
from paystack_source.extract.windows import ALWAYS, Window
from paystack_source.warehouse.destinations import read_table, table_layout
from paystack_source.warehouse.queries import Warehouse
from tests.warehouses.conftest import DATABASES, LAKES
from tests.warehouses.standin import BASE, customer, load


def seconds(lo: int, hi: int) -> Window:
    """The window of the customers with numbers from `lo` to before `hi`."""
    return Window(BASE + timedelta(seconds=lo), BASE + timedelta(seconds=hi))


def by_id(table) -> dict[int, dict]:
    return {row["id"]: {k: utc(v) for k, v in row.items() if k in SCHEMA.names} for row in table.to_pylist()}


def utc(value):
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.mark.parametrize("kind", DATABASES + LAKES)
def test_a_run_can_ask_every_question_of_every_warehouse(kind, warehouse, own_machine):
    pipeline = warehouse(kind).pipeline(own_machine)
    held = Warehouse(pipeline)
    assert (held.count([ALWAYS])[0], held.ids(seconds(0, 9)), held.count([seconds(0, 9)])) == (0, set(), [0])
    assert held.rows([1]).num_rows == 0

    later = BASE + timedelta(days=31)
    first = [customer(n) for n in range(30)]
    edited = [customer(n, first_name="Edited", _last_seen_at=later) for n in range(5, 8)]
    missing = [customer(n, _missing_since=later) for n in range(2)]
    load(pipeline, first)
    assert by_id(read_table(pipeline)) == {row["id"]: row for row in first}
    assert read_table(pipeline, columns=["email"]).column_names == ["email"]
    with pytest.raises(DestinationUndefinedEntity):
        read_table(pipeline, "nothing_like_it")

    for rows in (edited, missing):
        load(pipeline, rows)
    assert held.count([ALWAYS])[0] == 28  # those that went missing do not count
    assert held.count([seconds(0, 5), seconds(5, 30), seconds(30, 40)]) == [3, 25, 0]
    assert held.ids(seconds(0, 5)) == {2, 3, 4}
    assert held.held_among([0, 4, 5, 99]) == {4, 5}
    assert held.cuts(seconds(2, 30), 10) == [customer(n)["created_at"] for n in (11, 21)]
    assert held.accounts() == {("test", 100032)}
    truth = {row["id"]: row for row in first + edited + missing}
    some = held.rows([0, 6, 20])
    assert some.schema.names == SCHEMA.names
    assert by_id(some) == {n: truth[n] for n in (0, 6, 20)}


@pytest.mark.parametrize("kind", ["postgres", "iceberg-s3"])
def test_a_new_machine_finds_the_copy(kind, warehouse, tmp_path: Path):
    place = warehouse(kind)
    load(place.pipeline(tmp_path / "one"), [customer(n) for n in range(3)])
    there = place.pipeline(tmp_path / "another")
    there.sync_destination()
    assert Warehouse(there).count([ALWAYS])[0] == 3
    load(there, [customer(n, first_name="Again") for n in range(2, 5)])
    assert Warehouse(there).count([ALWAYS])[0] == 5


@pytest.mark.parametrize("kind", LAKES)
def test_a_lake_goes_on_in_the_format_it_was_begun_in(kind, warehouse, own_machine, monkeypatch):
    place = warehouse(kind)
    pipeline = place.pipeline(own_machine)
    load(pipeline, [customer(1)])
    monkeypatch.delenv("SOURCES__PAYSTACK__TABLE_FORMAT")
    load(pipeline, [customer(2)])
    assert Warehouse(pipeline).count([ALWAYS])[0] == 2
    stranger = place.pipeline(own_machine / "stranger", "another_pipeline")  # its schema knows nothing of it
    assert (table_layout(stranger).table_format or "parquet") == kind
    other = next(each for each in LAKES if each != kind)
    with pytest.raises(ConfigError, match=f"exists in the format {kind}"):
        table_layout(pipeline, lake_format=other)


def test_files_are_parquet_unless_something_else_is_asked_for(warehouse, own_machine, monkeypatch):
    pipeline = warehouse("delta").pipeline(own_machine)
    assert table_layout(pipeline).table_format == "delta"
    monkeypatch.setenv("DESTINATION__FILESYSTEM__TABLE_FORMAT", " Iceberg ")
    assert table_layout(pipeline).table_format == "iceberg"  # what is said of this destination is closer
    monkeypatch.delenv("DESTINATION__FILESYSTEM__TABLE_FORMAT")
    monkeypatch.delenv("SOURCES__PAYSTACK__TABLE_FORMAT")
    assert table_layout(pipeline).table_format is None
    assert table_layout(pipeline).every_version
    with pytest.raises(ConfigError, match="There is no table format 'orc'"):
        table_layout(pipeline, lake_format="orc")


def test_a_postgres_table_that_was_begun_without_adbc_goes_on_without_it(warehouse, own_machine, monkeypatch):
    pipeline = warehouse("postgres").pipeline(own_machine)
    with monkeypatch.context() as without:
        find = importlib.util.find_spec
        without.setattr(importlib.util, "find_spec", lambda name: None if "adbc" in name else find(name))
        without.setenv("DISABLE_ADBC_DETECTION", "true")
        load(pipeline, [customer(n) for n in range(24)])
    assert json_type(pipeline) == "jsonb"
    assert table_layout(pipeline).file_format is None
    assert table_layout(pipeline, "another_table").file_format == "parquet"

    load(pipeline, [customer(n) for n in range(12, 36)])
    assert json_type(pipeline) == "jsonb"
    for found in (read_table(pipeline), Warehouse(pipeline).rows(range(36))):
        assert {n: json.loads(row["metadata"] or "null") for n, row in by_id(found).items()} == {
            n: json.loads(customer(n)["metadata"] or "null") for n in range(36)
        }


def json_type(pipeline) -> str:
    with pipeline.sql_client() as client:
        return client.execute_sql(
            "select data_type from information_schema.columns"
            " where table_name = 'customers' and column_name = 'metadata' and table_schema = 'paystack'"
        )[0][0]
