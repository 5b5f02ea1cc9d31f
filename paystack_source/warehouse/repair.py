"""What interrupted or racing loads left wrong in the dataset, and how it is repaired: before anything is read.

*Doubled.* A key that a table holds twice: of its rows the newest stays.
*Lost loads.* Customers of a load that dlt never noted as done, because the machine that began it is gone: neither the
history nor the ledger knows of them. They are loaded again, and so are known to both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema.utils import get_columns_names_with_prop
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from paystack_source.extract.details import AUTHORIZATIONS, DETAILS
from paystack_source.extract.ledger import LEDGER
from paystack_source.tables import Table
from paystack_source.values import batches, quoted_text
from paystack_source.warehouse.destinations import (
    MERGED,
    apply_destination_hints,
    as_arrow,
    is_lake,
    reading,
    rows_to_load,
    table_layout,
)
from paystack_source.warehouse.dlt_quirks import customers_table
from paystack_source.warehouse.history import HISTORY, history_resource
from paystack_source.warehouse.lake import newest_per_key
from paystack_source.warehouse.scratch import scratch_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from dlt.common.schema import Schema
    from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
    from dlt.pipeline.pipeline import Pipeline

MERGED_BESIDE = (LEDGER.name, HISTORY.name, DETAILS.name, AUTHORIZATIONS.name)
AT_ONCE = 50_000
"""Keys that are repaired by one load."""
_FEW = 1_000


def repair(pipeline: Pipeline, schema: Schema) -> None:
    """Repair what is wrong."""
    for table in MERGED_BESIDE:
        _repair_doubled(pipeline, schema, table)
    table = customers_table(pipeline, schema.name)
    if table in schema.tables:
        # Before the doubled ones: a repaired customer is of a load that is noted, and is not found as lost any more.
        _load_lost(pipeline, schema)
        _repair_doubled(pipeline, schema, table)


def is_damaged(pipeline: Pipeline, schema: Schema) -> bool:
    """Whether there is something to repair. Changes nothing."""
    tables = (*MERGED_BESIDE, customers_table(pipeline, schema.name))
    doubled = any(_doubled(pipeline, schema, table) for table in tables)
    return doubled or bool(_lost(pipeline, schema))


def _repair_doubled(pipeline: Pipeline, schema: Schema, table: str) -> None:
    left = None
    while (wrong := _doubled(pipeline, schema, table)) and (left is None or len(wrong) < left):
        left = len(wrong)
        keys = _keys(schema, table)
        if is_lake(pipeline) and table_layout(pipeline, table).table_format == "delta":
            _overwrite(pipeline, schema, table, keys, wrong[:AT_ONCE])
        else:
            _load(pipeline, schema, table, keys, wrong[:AT_ONCE])


def _load_lost(pipeline: Pipeline, schema: Schema) -> None:
    lost = [(number,) for number in sorted(set(_lost(pipeline, schema)))]
    for some in batches(lost, AT_ONCE):
        table = customers_table(pipeline, schema.name)
        _load(pipeline, schema, table, ["id"], list(some), history=HISTORY.name in schema.tables)


def _doubled(pipeline: Pipeline, schema: Schema, table: str) -> list[tuple[Any, ...]]:
    """The keys that this table holds twice."""
    keys = _keys(schema, table)
    # Asked of the destination: the schema says what the last run asked for, and one that appended has doubled.
    if not keys or table_layout(pipeline, table).every_version:
        return []  # every version is kept, and the newest counts
    columns = ", ".join(f"{{{key}}}" for key in keys)
    question = f"SELECT {columns} FROM {{table}} GROUP BY {columns} HAVING COUNT(*) > 1"  # names
    return _rows(pipeline, table, question, keys)


def _lost(pipeline: Pipeline, schema: Schema) -> list[int]:
    """Customers whose load dlt never noted as done."""
    loads, table = schema.loads_table_name, customers_table(pipeline, schema.name)
    if not is_lake(pipeline):
        question = (
            "SELECT {id} FROM {table} WHERE {_dlt_load_id} IS NOT NULL"
            " AND {_dlt_load_id} NOT IN (SELECT {load_id} FROM {loads})"
        )
        return [row[0] for row in _rows(pipeline, table, question, ["id", "_dlt_load_id", "load_id"], loads)]
    question = "SELECT DISTINCT {_dlt_load_id} FROM {table} WHERE {_dlt_load_id} IS NOT NULL"
    open_ = {row[0] for row in _rows(pipeline, table, question, ["_dlt_load_id"])}
    open_ -= loads_noted(pipeline, loads)
    if not open_:
        return []
    of_them = ", ".join(map(_literal, open_))
    question = f"SELECT {{id}} FROM {{table}} WHERE {{_dlt_load_id}} IN ({of_them})"  # numbers
    return [row[0] for row in _rows(pipeline, table, question, ["id", "_dlt_load_id"])]


def loads_noted(pipeline: Pipeline, table: str, schema: str = "") -> set[str]:
    """The loads that dlt noted as done, of one schema or of all."""
    if is_lake(pipeline):
        with pipeline.destination_client() as opened:
            client = cast("FilesystemClient", opened)
            files = client.list_table_files(table) if client.is_storage_initialized() else []
        names = (file.rpartition("/")[2].partition(".jsonl")[0].rpartition("__") for file in files)
        return {load for of, _, load in names if schema in {"", of}}
    question = "SELECT {load_id}, {schema_name} FROM {table}"
    rows = _rows(pipeline, table, question, ["load_id", "schema_name"])
    return {load for load, of in rows if schema in {"", of}}


def _rows(
    pipeline: Pipeline, table: str, question: str, columns: list[str], other: str | None = None
) -> list[tuple[Any, ...]]:
    try:
        with reading(pipeline) as client:
            names = {column: client.escape_column_name(column) for column in columns}
            names["table"] = client.make_qualified_table_name(table)
            if other:
                names["loads"] = client.make_qualified_table_name(other)
            with client.execute_query(question.format_map(names)) as cursor:
                return list(cursor.fetchall())
    except (DatabaseUndefinedRelation, DestinationUndefinedEntity):
        return []


def _load(  # noqa: PLR0913
    pipeline: Pipeline,
    schema: Schema,
    table: str,
    keys: list[str],
    wrong: list[tuple[Any, ...]],
    *,
    history: bool = False,
) -> None:
    """The newest rows again: what merges them deletes all that there are."""
    hints, resource = hints_of(schema, table), str(schema.tables[table].get("resource", table))

    @dlt.resource(name=resource, table_name=table, primary_key=keys, write_disposition=MERGED, columns=hints)
    def again() -> Iterator[pa.Table]:
        apply_destination_hints(Table(resource, "", tuple(keys), ()), HISTORY)
        for start in range(0, len(wrong), _FEW):
            held = _held(pipeline, table, keys, wrong[start : start + _FEW], schema)
            yield rows_to_load(_newest(_without_load(held), keys))

    @dlt.source(name=schema.name, section="paystack")
    def repaired() -> Any:  # noqa: ANN401  # dlt wants resources
        found = again()
        return (found, history_resource(found, hints)) if history else found

    pipeline.run(repaired())


def _keys(schema: Schema, table: str) -> list[str]:
    return get_columns_names_with_prop(schema.tables[table], "primary_key") if table in schema.tables else []


def hints_of(schema: Schema, table: str) -> Any:  # noqa: ANN401  # dlt means its own type
    """The columns of a table that is there, as a resource declares them."""
    return {
        name: {key: value for key, value in column.items() if key in {"data_type", "description", "nullable"}}
        for name, column in schema.tables[table]["columns"].items()
    }


def _held(
    pipeline: Pipeline, table: str, keys: list[str], wrong: list[tuple[Any, ...]], schema: Schema
) -> pa.Table:
    """All rows of these keys, and some more where a key has several columns."""
    first = ", ".join(_literal(row[0]) for row in wrong)
    with reading(pipeline) as client:
        name = client.make_qualified_table_name(table)
        question = (
            f"SELECT * FROM {name} WHERE {client.escape_column_name(keys[0])} IN ({first})"  # names, quoted
        )
        with client.execute_query(question) as cursor:
            return as_arrow(cursor, schema.tables[table]["columns"])


def _without_load(rows: pa.Table) -> pa.Table:
    return rows.drop_columns([name for name in rows.column_names if name.startswith("_dlt")])


def _literal(value: object) -> str:
    return str(int(value)) if isinstance(value, int) else quoted_text(str(value))


def _newest(rows: pa.Table, keys: list[str]) -> pa.Table:
    """One row of each key."""
    with scratch_database() as memory:
        memory.register("held", rows)
        return memory.execute(
            f"SELECT * FROM held{newest_per_key(keys, rows.column_names)}"  # names, quoted
        ).to_arrow_table()


def _overwrite(
    pipeline: Pipeline, schema: Schema, table: str, keys: list[str], wrong: list[tuple[Any, ...]]
) -> None:
    """Delta's merge would update both rows; one commit puts the newest in the place of all."""
    from deltalake import write_deltalake  # noqa: PLC0415  # there only with Delta

    with pipeline.destination_client() as opened:
        delta = cast("FilesystemClient", opened).load_open_table("delta", table)
    for some in batches(sorted({row[0] for row in wrong}), _FEW):
        newest = _newest(_held(pipeline, table, keys, [(key,) for key in some], schema), keys)
        columns = [field.name for field in delta.schema().fields]
        values = ", ".join(map(_literal, some))
        write_deltalake(delta, newest.select(columns), mode="overwrite", predicate=f"{keys[0]} IN ({values})")
