"""The examples for other destinations name settings that dlt reads; nobody can run them here."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from dlt.common.destination import Destination

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
