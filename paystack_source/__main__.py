"""The console command `paystack-source`, also `python -m paystack_source`: one name for all commands."""

from __future__ import annotations

import importlib
import sys

try:
    import click
    from click.shell_completion import get_completion_class

    from paystack_source.cli.terminal import examples, run
except ModuleNotFoundError as missing:
    sys.stderr.write(
        f"error: {missing.name} is missing in {sys.executable}: activate the environment where paystack-source is "
        "installed, or install it here with its requirements.\n"
    )
    sys.exit(2)
except KeyboardInterrupt:  # a Ctrl-C while the packages are loaded
    sys.exit(130)

from paystack_source.commands import CONSOLE
from paystack_source.settings import installed_version

COMMANDS = {
    "customers": (
        "paystack_source.cli.customers",
        "Copy Paystack's customers, and prove that none is missing.",
    ),
    "bulk": (
        "paystack_source.cli.bulk",
        "Change customers from a CSV or Excel file: plan, apply, resume, undo.",
    ),
    "query": ("paystack_source.cli.query", "Query the DuckDB copy in SQL, or show its tables."),
    "sandbox": ("paystack_source.sandbox.__main__", "Run a local Paystack with invented customers."),
    "completion": (__name__, "Print the script that completes these commands in a shell."),
}
"""By command: its module, which is imported only when the command is called, and its line in the list."""

SHELLS = {
    "bash": f'eval "$({CONSOLE} completion bash)"',
    "zsh": f'eval "$({CONSOLE} completion zsh)"',
    "fish": f"{CONSOLE} completion fish | source",
}
"""By shell, the line for its start-up file."""


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "completion":
            return completion
        found: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).main
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=Commands,
    no_args_is_help=False,
    invoke_without_command=True,
    epilog=examples(
        f"{CONSOLE} customers --sandbox",
        f"{CONSOLE} query --sandbox",
        f"{CONSOLE} bulk plan risk-action customers.csv --risk-action allow --sandbox",
    ),
)
@click.version_option(installed_version(), prog_name=CONSOLE)
@click.pass_context
def commands(context: click.Context) -> None:
    """A complete copy of your Paystack customers, and safe bulk changes back to Paystack."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@click.command(epilog=examples(*SHELLS.values()))
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the script that completes the commands in SHELL. Put its line below into the start-up file of your shell.

    It completes `paystack-source`; a shell cannot complete `python pipelines/…`.
    """
    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(shell)
    # The script asks the program itself, by a variable of this name.
    variable = f"_{CONSOLE.replace('-', '_').upper()}_COMPLETE"
    click.echo(found(click.Command(CONSOLE), {}, CONSOLE, variable).source())


def main() -> int:
    """Run the command line of this process; returns the exit code."""
    return run(commands)


if __name__ == "__main__":
    sys.exit(main())
