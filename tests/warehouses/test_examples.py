"""The examples for other destinations name settings that dlt reads; nobody can run them here."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import dlt
import duckdb
import pytest
from dlt.common.destination import Destination

from paystack_source.warehouse.destinations import table_layout

PAGE = Path(__file__).parents[2] / "docs" / "destinations.md"
EXAMPLES = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
NAMED = sorted({name for example in EXAMPLES for name in example["destination"]})
OURS = {"table_format", "destination_type"}


def specs(hint: Any) -> list[Any]:
    """The configurations that a type hint allows."""
    found = [hint] if hasattr(hint, "get_resolvable_fields") else []
    return found + [spec for part in get_args(hint) for spec in specs(part)]


@pytest.mark.parametrize("name", NAMED)
def test_dlt_reads_every_key_of_an_example(name):
    sections = [example["destination"][name] for example in EXAMPLES if name in example["destination"]]
    kind = next((each["destination_type"] for each in sections if "destination_type" in each), name)
    fields = Destination.from_reference(kind).spec.get_resolvable_fields()
    for section in sections:
        credentials = section.pop("credentials", {})
        assert set(section) - OURS <= set(fields)
        known = [set(spec.get_resolvable_fields()) for spec in specs(fields["credentials"])]
        assert any(set(credentials) <= each for each in known), (name, credentials)


def test_the_warehouses_that_the_project_promises_have_an_example():
    assert {"bigquery", "snowflake", "redshift", "databricks", "clickhouse", "motherduck"} <= set(NAMED)


def test_the_view_shows_the_newest_row_of_each_customer():
    (view,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with duckdb.connect() as memory:
        memory.execute(
            """
            create table customers as select * from (values
                (1, 'old', timestamptz '2026-01-01', null::timestamptz, null::timestamptz, '1795438113.1'),
                (1, 'new', timestamptz '2026-01-02', null, null, '1795438113.2'),
                (2, 'there', timestamptz '2026-01-01', null, null, '1795438113.1'),
                (2, 'missing', timestamptz '2026-01-01', timestamptz '2026-01-03', null, '1795438113.3'),
                (3, 'same look, first load', timestamptz '2026-01-01', null, null, '1795438113.1'),
                (3, 'same look, later load', timestamptz '2026-01-01', null, null, '1795438113.2'),
                (4, 'clock ahead', timestamptz '2027-01-01', null, timestamptz '2027-01-01 00:00', '1826974113.1'),
                (4, 'changed since', timestamptz '2026-01-01', null, timestamptz '2027-01-01 00:01', '1795438113.2')
            ) as t (id, what, _last_seen_at, _missing_since, _changed_at, _dlt_load_id)
            """
        )
        memory.execute(view)
        found = memory.execute("select what from customers_now order by id").fetchall()
    assert found == [("new",), ("missing",), ("same look, later load",), ("changed since",)]


@pytest.mark.parametrize(
    ("name", "strategy", "file_format"),
    [
        ("bigquery", "delete-insert", "parquet"),
        ("snowflake", "delete-insert", "parquet"),
        ("databricks", "delete-insert", "parquet"),
        ("motherduck", "delete-insert", "parquet"),
        ("clickhouse", "delete-insert", "parquet"),
        ("redshift", "delete-insert", None),
    ],
)
def test_tables_fit_what_a_destination_says_it_can_do(name, strategy, file_format):
    kept = table_layout(dlt.pipeline("not_run_here", destination=name, dataset_name="paystack"))
    assert kept.write_disposition == {"disposition": "merge", "strategy": strategy}
    assert (kept.file_format, kept.table_format, kept.every_version) == (file_format, None, False)
