"""Customers without an API behind them, as the extraction shapes them: for tests of destinations alone."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dlt
import pyarrow as pa

from paystack_source.extract.arrow import SCHEMA
from paystack_source.warehouse.destinations import table_layout

BASE = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
NAMES = [
    "Ọmọ́lará",
    "Zoë",
    "李小龍",
    "محمد",
    "Łukasz",
    None,
    "",
    'O\'Brien; "q"\n\\n,\t',
    "😀",
    "null",
    "NULL",
    "\\N",
]
METADATA = [
    None,
    "{}",
    '{"a":1,"b":[1,2,{"c":null}]}',
    '"text"',
    "[]",
    '{"ключ":"значение \\"q\\" \\\\ "}',
    '{"n":123456789012345678901234567890,"f":1.10}',
    '""',
    '"null"',
    '{"control":"\\u0001"}',
    "0",
    "false",
]


def customer(number: int, **changes: Any) -> dict[str, Any]:
    """The customer of that number, as Python values by column."""
    return {
        "id": number,
        "customer_code": f"CUS_{number:015x}",
        "email": f"customer{number}@example.com",
        "first_name": NAMES[number % len(NAMES)],
        "last_name": None,
        "phone": None if number % 4 else f"+2340{number:08d}",
        "metadata": METADATA[number % len(METADATA)],
        "domain": "test",
        "integration": 100032,
        "risk_action": ("default", "allow", "deny")[number % 3],
        "created_at": BASE + timedelta(seconds=number, milliseconds=584 if number % 5 == 0 else 0),
        "updated_at": BASE + timedelta(days=1, seconds=number),
        "_last_seen_at": BASE + timedelta(days=30),
        "_missing_since": None,
    } | changes


def load(pipeline: dlt.Pipeline, rows: Iterable[dict[str, Any]]) -> None:
    """One load of customers, as the source hands them to dlt."""
    layout = table_layout(pipeline)

    @dlt.resource(
        name="customers",
        primary_key="id",
        write_disposition=layout.write_disposition,
        table_format=layout.table_format,
        file_format=layout.file_format,
        columns={"metadata": {"data_type": "json"}},
    )
    def customers() -> Iterator[pa.Table]:
        yield pa.Table.from_pylist(list(rows), schema=SCHEMA)

    pipeline.run(customers())
