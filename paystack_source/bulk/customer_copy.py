"""The warehouse copy of the customers: a DuckDB file joined in place, or anything Arrow.

Everything ends in the view `held` with the columns of `HELD`; a column that the copy lacks is null there.
"""

# ruff: noqa: S608  # names are quoted by `_quoted`, texts by `_text`

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import duckdb
import pyarrow as pa

from paystack_source.api.errors import ConfigError
from paystack_source.bulk.plan_file import CopyInfo
from paystack_source.bulk.tables import open_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duckdb import DuckDBPyConnection

__all__ = ["HELD", "CustomerCopy", "arrow_copy", "duckdb_copy"]

HELD: Final = (
    "customer_code",
    "email",
    "id",
    "first_name",
    "last_name",
    "phone",
    "metadata",
    "risk_action",
    "integration",
    "domain",
    "seen_at",
    "missing_since",
)
_TYPES: Final = {
    "id": "BIGINT",
    "integration": "BIGINT",
    "seen_at": "TIMESTAMPTZ",
    "missing_since": "TIMESTAMPTZ",
}
# When the extract last saw a row; the first that the copy has.
_SEEN: Final = ("_last_seen_at", "_last_verified", "_last_verified_at", "seen_at", "last_seen_at")

_MISSING: Final = "_missing_since"


class CustomerCopy(Protocol):
    """Something that can show the copy to DuckDB. Build one with `duckdb_copy` or `arrow_copy`."""

    def attach(self, con: DuckDBPyConnection, mode: str | None) -> CopyInfo:
        """Makes the view `held` in `con`, with the customers of key mode `mode` only.

        Says what the copy is.
        """


def duckdb_copy(path: str | Path, *, dataset: str = "paystack", table: str = "customers") -> CustomerCopy:
    """The copy in a DuckDB file, which is opened read-only. Raises `ConfigError` if there is no such file."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"There is no copy at {path}",
            advice="Run the extract first (python pipelines/customers.py), or plan without a copy.",
        )
    return _DuckDBCopy(path, dataset, table)


def arrow_copy(table: Any, *, as_of: datetime | None = None, destination: str = "dataframe") -> CustomerCopy:  # noqa: ANN401
    """The copy as a pandas, Arrow, polars or DuckDB frame with Paystack's column names.

    `as_of` says how old it is (UTC) where it has no `_last_seen_at`.
    """
    return _FrameCopy(table, as_of, destination)


@dataclass(frozen=True, slots=True)
class _DuckDBCopy:
    path: Path
    dataset: str
    table: str

    def attach(self, con: DuckDBPyConnection, mode: str | None) -> CopyInfo:
        name = f"copied.{_quoted(self.dataset)}.{_quoted(self.table)}"
        con.execute(f"ATTACH {_text(str(self.path))} AS copied (READ_ONLY)")
        try:
            columns = [row[0] for row in con.execute(f"DESCRIBE {name}").fetchall()]
        except duckdb.CatalogException:
            raise ConfigError(
                f"{self.path.name} has no table {self.dataset}.{self.table}",
                advice="Run the extract into it first, or name the dataset it is in.",
            ) from None
        written = datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        _check_columns(columns)
        return _make_view(con, name, columns, mode, f"duckdb:{self.path.name}", written)


@dataclass(frozen=True, slots=True)
class _FrameCopy:
    table: Any
    as_of: datetime | None
    destination: str

    def attach(self, con: DuckDBPyConnection, mode: str | None) -> CopyInfo:
        frame = open_table(self.table)
        _check_columns(frame.columns)
        wanted = [i for i, name in enumerate(frame.columns) if name in (*HELD, *_SEEN, _MISSING)]
        names = [frame.columns[i] for i in wanted]
        schema = pa.schema([(name, pa.string()) for name in names])
        con.execute(f"CREATE TABLE copied ({', '.join(f'{_quoted(name)} VARCHAR' for name in names)})")
        for batch in frame.batches():
            part = pa.RecordBatch.from_arrays([batch.columns[i] for i in wanted], schema=schema)
            con.register("part", part)
            con.execute("INSERT INTO copied SELECT * FROM part")
            con.unregister("part")
        return _make_view(con, "copied", names, mode, self.destination, self.as_of)


def _check_columns(columns: Sequence[str]) -> None:
    if "customer_code" not in columns or "email" not in columns:
        raise ConfigError(
            "The copy has no columns customer_code and email",
            advice="Give the customers table as the extract writes it.",
        )


def _make_view(  # noqa: PLR0913, PLR0917  # each says another thing about the copy
    con: DuckDBPyConnection,
    name: str,
    columns: Sequence[str],
    mode: str | None,
    destination: str,
    as_of: datetime | None,
) -> CopyInfo:
    seen = next((column for column in _SEEN if column in columns), None)
    source = {column: column for column in HELD if column in columns} | ({"seen_at": seen} if seen else {})
    if _MISSING in columns:
        source["missing_since"] = _MISSING
    values = {column: f"NULLIF(CAST({_quoted(name)} AS VARCHAR), '')" for column, name in source.items()}
    picked = ", ".join(
        f"TRY_CAST({values.get(column, 'NULL')} AS {_TYPES.get(column, 'VARCHAR')}) AS {column}"
        for column in HELD
    )
    where = f" WHERE domain IS NULL OR domain = {_text(mode)}" if mode and "domain" in columns else ""
    con.execute(f"CREATE VIEW held AS SELECT * FROM (SELECT {picked} FROM {name}){where}")
    count, accounts, account, domains, domain, last = _one(
        con,
        "SELECT count(*), count(DISTINCT integration), min(integration), "
        "count(DISTINCT domain), min(domain), max(seen_at) FROM held",
    )
    if accounts > 1:
        raise ConfigError(
            "The copy holds customers of more than one account",
            advice="Give a copy of one account, e.g. another dataset.",
        )
    return CopyInfo(
        destination=destination,
        as_of=last.astimezone(UTC) if last is not None else as_of,
        customers=count,
        account=account,
        domain=domain if domains == 1 else None,
    )


def _one(con: DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = con.execute(query).fetchone() or ()
    return row


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
