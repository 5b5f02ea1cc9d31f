"""Writes docs/commands.md and docs/tables.md from the code: `python -m tests.docs.reference`."""

import importlib.util
import sys
from pathlib import Path

import click

from paystack_source.customer import CUSTOMERS
from paystack_source.extract.details import AUTHORIZATIONS, DETAILS
from paystack_source.extract.ledger import LEDGER
from paystack_source.tables import LOAD_ID, WRITE_BACK_ROWS, WRITE_BACK_RUNS
from paystack_source.warehouse.history import HISTORY

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "commands.md"
INTRO = """# Commands

Written from the commands themselves by `python -m tests.docs.reference`; `tests/docs/test_reference.py` fails
when it is out of step. Settings that are not options: [configuration](configuration.md). How commands end:
[exit codes](exit-codes.md).

Once installed, `paystack-source NAME …` is the same as `python pipelines/NAME.py …`. Its commands, options and their values can
be completed with the Tab key: put one of these lines into the start-up file of your shell. A shell cannot complete `python
pipelines/NAME.py`, and click has no script for PowerShell or cmd.exe.

```text
eval "$(paystack-source completion bash)"         # ~/.bashrc
eval "$(paystack-source completion zsh)"          # ~/.zshrc
paystack-source completion fish | source          # ~/.config/fish/config.fish
```
"""

TABLES_PAGE = ROOT / "docs" / "tables.md"
TABLES = (CUSTOMERS, LEDGER, HISTORY, DETAILS, AUTHORIZATIONS, WRITE_BACK_ROWS, WRITE_BACK_RUNS)
TABLES_INTRO = """# Tables and columns

Written from the code by `python -m tests.docs.reference`; tests fail when it is out of step with the code, or with what a run
writes into DuckDB and PostgreSQL.

**In the database.** The descriptions are comments of the tables and columns in DuckDB and PostgreSQL (`COMMENT ON`), by every
way to run a copy or a bulk change. A run compares them by one query and writes those that differ. One that may not write them
warns, and goes on. BigQuery, Databricks and Snowflake get descriptions from dlt itself. Parquet, Delta and Iceberg files have
none; dlt's schema of the pipeline has them wherever the rows are.
To describe a column in your own words, say so to dlt: `source.customers.apply_hints(columns={"email": {"description": "…"}})`.

**Type** is dlt's. In DuckDB `json` is JSON and `timestamp` is `TIMESTAMP WITH TIME ZONE`; what other destinations make of them
is in [destinations](destinations.md). **PII**: `personal` is what a person gave or what is theirs, `identifier` stands for one
person. **Null**: whether it may be null; in the database only keys are NOT NULL.

`customers`, and so `customers_history`, have more columns where Paystack sends more: each new key becomes a `text` column, and
values that fit no column go into `extra`, JSON as `text`. Count both as `personal`. What the tables are for: [extraction](extraction.md#the-tables),
[bulk changes](bulk.md#the-tables-in-the-warehouse), [what changed](howto/changes.md).
"""


def scripts():
    return sorted((ROOT / "pipelines").glob("*.py"))


def command_of(script):
    """The click command that a pipeline runs: the one called `main`, else the only group."""
    spec = importlib.util.spec_from_file_location(f"documented_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    commands = {name: value for name, value in vars(module).items() if isinstance(value, click.Command)}
    groups = [value for value in commands.values() if isinstance(value, click.Group)]
    return commands.get("main") or groups[0]


def walk(name, command):
    """Every command with its full name, groups opened."""
    if isinstance(command, click.Group):
        for child in command.list_commands(click.Context(command)):
            yield from walk(f"{name} {child}", command.get_command(click.Context(command), child))
    else:
        yield name, command


def all_commands():
    for script in scripts():
        yield from walk(f"python pipelines/{script.name}", command_of(script))


def cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def examples_of(command):
    """The lines to paste that end a command's help."""
    return [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  ")]


def section(name, command):
    context = click.Context(command, info_name=name)
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    given = " ".join(param.make_metavar(context) for param in arguments)
    yield f"\n## {name.removeprefix('python pipelines/')}\n"
    yield f"```text\n{name} [OPTIONS]{' ' + given if given else ''}\n```\n"
    yield f"{command.help.split(chr(12))[0].strip()}\n" if command.help else ""
    yield "| option | what |\n| --- | --- |"
    for param in command.params:
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record:
            yield f"| `{cell(record[0])}` | {cell(record[1])} |"
    shown = "\n".join(examples_of(command))
    yield f"\n```text\n{shown}\n```" if shown else ""


def page():
    lines = [INTRO]
    for name, command in all_commands():
        lines.extend(section(name, command))
    return "\n".join(lines) + "\n"


def tables_page():
    lines = [TABLES_INTRO]
    for table in TABLES:
        key = ", ".join(f"`{name}`" for name in table.key)
        lines.append(f"\n## {table.name}\n\n{table.description} Key: {key}.\n")
        lines.append("| column | type | null | PII | what |\n| --- | --- | --- | --- | --- |")
        lines += [
            f"| `{each.name}` | {each.kind} | {'may be' if each.nullable else 'never'} | {each.pii} | {cell(each.description)} |"
            for each in (*table.columns, LOAD_ID)
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    TABLES_PAGE.write_text(tables_page(), encoding="utf-8")
