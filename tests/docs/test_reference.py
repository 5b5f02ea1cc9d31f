"""Reference pages say what the code says: exit codes, error names, settings, commands and their options."""

import ast
import re
import shlex

import click
import pytest

from paystack_source import settings
from paystack_source.errors import ExitCode
from paystack_source.failures import FOREIGN
from tests.docs import reference
from tests.docs.markdown import ROOT, files

EXIT_CODES = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
SOURCES = [path for folder in ("paystack_source", "pipelines") for path in (ROOT / folder).rglob("*.py")]
# Names of the surroundings, not settings of ours.
NOT_OURS = {"HOME", "PATH", "TERM", "COLUMNS"}


def test_every_exit_code_is_in_the_table_with_its_name():
    table = {
        (int(code), name)
        for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", EXIT_CODES, flags=re.MULTILINE)
    }
    assert table == {(int(code), code.name) for code in ExitCode}


def test_every_failure_is_listed_with_its_code():
    own = {"UsageError": ExitCode.USAGE, "Interrupted": ExitCode.INTERRUPTED}
    named = {row.error: row.exit_code for row in FOREIGN} | own
    listed = {
        name: int(code)
        for name, code in re.findall(r"^\| `(\w+)` \| (\d+) \|", EXIT_CODES, flags=re.MULTILINE)
    }
    assert len(named) >= 8
    assert listed == named


def environment_names(path):
    """What a module calls a setting: text of the shape of an environment variable of ours or of dlt's."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if re.fullmatch(r"[A-Z][A-Z0-9]*(?:__?[A-Z0-9]+)+", name) and re.match(r"PAYSTACK_|DLT_|.+__", name):
            yield name


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_every_setting_that_the_code_knows_is_documented(path):
    assert not {name for name in environment_names(path) if name not in CONFIGURATION} - NOT_OURS


def test_the_defaults_are_the_documented_ones():
    row = {
        line.split("|")[1].strip(" `"): line for line in CONFIGURATION.splitlines() if line.startswith("| `")
    }
    assert settings.BASE_URL in row[settings.BASE_URL_NAME]
    for mode, limit in settings.QUOTA_BY_MODE.items():
        assert f"{mode} {limit}" in row[settings.QUOTA_NAME]
    assert settings.PLAIN_KEY_NAME in row
    assert settings.KEY_NAME in row


def test_the_command_page_is_what_the_commands_say():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), (
        "run: python -m tests.docs.reference"
    )


def test_the_page_of_tables_is_what_the_code_declares():
    """`tests/warehouses` compares the declarations with what a run leaves in DuckDB and PostgreSQL."""
    assert reference.TABLES_PAGE.read_text(encoding="utf-8") == reference.tables_page(), (
        "run: python -m tests.docs.reference"
    )
    assert not [
        f"{table.name}.{column.name}"
        for table in reference.TABLES
        for column in table.columns
        if not column.description.endswith(".")
    ]


def test_every_option_has_a_help_text():
    bare = [
        f"{name} {param.opts[0]}"
        for name, command in reference.all_commands()
        for param in command.params
        if isinstance(param, click.Option) and not param.help
    ]
    assert not bare


def with_groups():
    """Every command, and the groups they are in."""
    for script in reference.scripts():
        yield f"python pipelines/{script.name}", reference.command_of(script)
    yield from reference.all_commands()


def test_every_help_ends_with_examples_of_its_own_that_can_be_typed_like_this():
    for name, command in with_groups():
        shown = command.get_help(click.Context(command, info_name=name, terminal_width=80))
        typed = [line.strip() for line in shown.splitlines() if f"{line.strip()} ".startswith(f"{name} ")]
        assert typed == reference.examples_of(command), name
        assert typed, name
        for line in typed:
            words = shlex.split(line.removeprefix(name).partition(" > ")[0])
            if not isinstance(command, click.Group):
                command.make_context(name, words)


def test_every_option_named_in_a_document_exists():
    known = {
        opt
        for _, command in reference.all_commands()
        for param in command.params
        for opt in (*param.opts, *param.secondary_opts)
    }
    known |= {"--help"}
    wrong = []
    for path in files():
        for line in path.read_text(encoding="utf-8").splitlines():
            if (
                "pipelines/customers.py" in line
                or "pipelines/bulk.py" in line
                or "pipelines/query.py" in line
            ):
                wrong += [
                    f"{path.name}: {option}"
                    for option in re.findall(r"(?<!\S)(--[a-z][a-z-]+)", line)
                    if option not in known
                ]
    assert not wrong
