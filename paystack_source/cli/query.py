"""The command `query`: queries the DuckDB copy in SQL: `python pipelines/query.py "select count(*) from customers"`.

Without SQL it shows the tables. It opens the file read-only. With --csv the result is CSV on standard output, an input
for `pipelines/bulk.py`; with --json it is one object on the last line.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import duckdb
import msgspec

from paystack_source.api.clock import MAX_WAIT
from paystack_source.bulk.input.csv_file import row_writer
from paystack_source.cli.options import chosen_location, location
from paystack_source.cli.terminal import Terminal, examples, options, write_utf8
from paystack_source.commands import called, command
from paystack_source.errors import ExitCode, UsageError
from paystack_source.progress import tolerate_closed_reader
from paystack_source.settings import ALL, dataset_of
from paystack_source.values import quoted_name, visible
from paystack_source.warehouse.locations import duckdb_file

THIS = called("query")
MOST_SHOWN = 40
DATASETS = """
    select schema_name, count(*) filter (table_name = 'customers') > 0 as is_copy from duckdb_tables()
    where not internal group by 1 order by 1
"""
TABLES = """
    select table_name, column_count from duckdb_tables()
    where schema_name = current_schema() and not starts_with(table_name, '_dlt')
    union all select view_name, column_count from duckdb_views()
    where schema_name = current_schema() and not internal order by 1
"""
SAMPLE = """
    select customer_code, email, first_name, last_name, phone, risk_action, created_at
    from customers order by created_at desc limit 5
"""
OF_ALL = "select account_name, count(*) as customers from all_customers group by 1 order by 1"


@click.command(
    epilog=examples(
        f'{THIS} "select risk_action, count(*) as customers from customers group by 1"',  # noqa: S608  # to paste
        f'{THIS} --csv "select customer_code from customers limit 40" > customers.csv',  # noqa: S608  # to paste
    )
)
@click.argument("sql", required=False)
@location(dataset="Dataset of the copy; SQL can name its tables without it.", all_accounts=True)
@click.option("--database", type=click.Path(path_type=Path), help="Another DuckDB file than the copy's.")
@click.option("--csv", "as_csv", is_flag=True, help="All rows as CSV on standard output.")
@options
def main(terminal: Terminal, sql: str | None, database: Path | None, *, as_csv: bool, **chosen: Any) -> int:  # noqa: ANN401  # of `location`
    """Query the DuckDB copy in SQL, or show its tables."""
    if database and chosen["sandbox"]:
        raise UsageError("--sandbox queries the sandbox's own file.", "Leave --database or --sandbox out.")
    destination, dataset = chosen_location(chosen)
    path = database or duckdb_file(destination)
    if not path.exists():
        raise UsageError(f"There is no database {path}.", make_one(chosen))
    with opened(path, dataset, chosen) as connection:
        try:
            if sql:
                # DuckDB makes two of a PIVOT: the first, which has no text, creates the type of the new columns.
                found = sum(
                    bool(each.query) or each.type != duckdb.StatementType.CREATE
                    for each in connection.extract_statements(sql)
                )
                if found > 1:
                    raise UsageError(f"That is {found} statements.", "Give one statement at a time.")
                if not found:
                    raise UsageError("DuckDB cannot run that: it contains no statement.")
                columns, rows = answer(connection, sql)
                show(terminal, "", columns, rows, as_csv=as_csv)
            else:
                title = f"Tables of the dataset {dataset} in {path}"
                show(terminal, title, *overview(connection), as_csv=as_csv)
                of_all = chosen["account_name"] == ALL
                columns, rows = answer(connection, OF_ALL if of_all else SAMPLE)
                title = "All accounts" if of_all else "The newest customers"
                show(terminal, title, columns, rows, as_csv=as_csv)
        except duckdb.PermissionException as error:
            raise UsageError("A query can read the copy, and no other file.") from error
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            said = without_values(error, sql or "")
            raise UsageError(
                f"DuckDB cannot run that: {said}", advice(error, connection, dataset, chosen)
            ) from None  # DuckDB's error quotes values of the copy
    if terminal.json_output:
        terminal.emit_json({"columns": columns, "rows": [list(row) for row in rows]})
    terminal.require_shown()
    return ExitCode.OK


def opened(path: Path, dataset: str, chosen: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """Open the file for reading. Its first bytes are checked: for other kinds of files DuckDB fetches extensions."""
    start = b""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(12)
    if start[8:] != b"DUCK":
        raise UsageError(f"{path} is not a DuckDB file.", make_one(chosen))
    connection = duckdb.connect(str(path), read_only=True)
    connection.execute("set enable_external_access = false")  # a query reads the copy and nothing else
    connection.execute("set TimeZone = 'UTC'")
    there = dict(connection.execute(DATASETS).fetchall())
    named = chosen["dataset"] or chosen["account_name"] not in {None, ALL}
    if named and dataset not in there:
        raise UsageError(f"{path} has no dataset {dataset}.", elsewhere(there, chosen))
    datasets = [name for name in dict.fromkeys((dataset, dataset_of(ALL))) if name in there]
    if datasets:
        connection.execute(f"set search_path = '{','.join([*datasets, 'main'])}'")
    return connection


def without_values(error: duckdb.Error, sql: str) -> str:
    """What DuckDB says, without the values of the copy that errors about values quote."""

    def shown(match: re.Match[str]) -> str:
        return match[0] if match[0] in sql else "…"

    said = str(error).partition("\n\nLINE ")[0]  # behind it DuckDB repeats the SQL
    if isinstance(error, duckdb.DataError | duckdb.InvalidInputException | duckdb.NotSupportedError):
        said = re.sub(r"""['"].*['"]|['"].*|[0-9]{5,}""", shown, said, flags=re.DOTALL)
    return said.partition("\n")[0]


def advice(
    error: duckdb.Error, connection: duckdb.DuckDBPyConnection, dataset: str, chosen: dict[str, Any]
) -> str:
    """The advice for SQL that cannot be run."""
    if isinstance(error, duckdb.ConversionException):
        return "try_cast gives NULL for a value that cannot be converted."
    if "Table with name" not in str(error):
        return ""
    if "all_customers" in str(error):
        return f"Runs of {called('customers')} --account NAME make the view all_customers, over all accounts."
    there = dict(connection.execute(DATASETS).fetchall())
    if there.get(dataset):
        look = command("query", chosen)
        return f"The customers are in the table customers; {look} shows what else there is."
    return elsewhere(there, chosen)


def elsewhere(datasets: dict[str, bool], chosen: dict[str, Any]) -> str:
    """The advice where a file's dataset is none of a copy: which of its datasets are."""
    staging = {f"{name}_staging" for name in datasets}  # dlt's, for loads
    copies = [name for name, is_copy in datasets.items() if is_copy and name not in staging]
    if copies:
        return f"Its copies are in other datasets: give one of them as --dataset: {', '.join(copies)}."
    return f"It holds no copy of the customers. {make_one(chosen)}"


def make_one(chosen: dict[str, Any]) -> str:
    return f"Make a copy: {command('customers', chosen)}" + (
        "" if chosen["sandbox"] else " (try it with --sandbox)."
    )


def overview(connection: duckdb.DuckDBPyConnection) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The tables with their rows and columns. Rows are counted, because DuckDB's estimate includes deleted ones."""
    rows = []
    for table, columns in connection.execute(TABLES).fetchall():
        ((count,),) = connection.execute(f"select count(*) from {quoted_name(table)}").fetchall()  # noqa: S608  # quoted
        rows.append((table, count, columns))
    return ["table", "rows", "columns"], rows


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one statement. It runs in a thread, because a signal does not interrupt DuckDB."""
    found: Future[tuple[list[str], list[tuple[Any, ...]]]] = Future()

    def ask() -> None:
        try:
            relation = connection.execute(sql)
            columns = [column[0] for column in relation.description or []]
            found.set_result((columns, relation.fetchall()))
        except BaseException as error:  # noqa: BLE001  # raised in the main thread
            found.set_exception(error)

    thread = threading.Thread(target=ask, daemon=True)
    try:
        thread.start()
        while not wait([found], MAX_WAIT).done:
            pass
    finally:
        while thread.is_alive() and not found.done():  # Ctrl-C, maybe before the query has begun
            connection.interrupt()
            wait([found], MAX_WAIT)
    return found.result()


def show(
    terminal: Terminal, title: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], *, as_csv: bool
) -> None:
    """Rows as a table for people, or all of them as CSV."""
    if as_csv:
        # Cells that a spreadsheet would take for a formula are guarded; pipelines/bulk.py removes the guard.
        write_utf8()
        spelled = visible if sys.stdout.isatty() else str
        with tolerate_closed_reader(sys.stdout):
            write = row_writer(sys.stdout, [spelled(name) for name in columns])
            for row in rows:
                write([spelled(text(cell)) for cell in row])
        return
    terminal.table(title, columns, [[on_screen(cell) for cell in row] for row in rows[:MOST_SHOWN]])
    if len(rows) > MOST_SHOWN:
        terminal.say(f"{len(rows) - MOST_SHOWN:,} more rows; --csv gives them all")


def text(cell: object) -> str:
    """A cell as text in CSV: "" for NULL, JSON for a struct, a list or a map."""
    if isinstance(cell, dict | list | tuple):
        return msgspec.json.encode(cell, enc_hook=str).decode()
    return "" if cell is None else str(cell)


def on_screen(cell: object) -> str:
    """A cell on the screen: a time to the second, anything else as in CSV."""
    return f"{cell:%Y-%m-%d %H:%M:%S}" if isinstance(cell, datetime) else text(cell)
