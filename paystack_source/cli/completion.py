"""`paystack-source completion SHELL`: prints click's script that completes the commands in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from paystack_source.cli.terminal import examples
from paystack_source.commands import CONSOLE

SHELLS = {
    "bash": f'eval "$({CONSOLE} completion bash)"',
    "zsh": f'eval "$({CONSOLE} completion zsh)"',
    "fish": f"{CONSOLE} completion fish | source",
}
"""By shell, the line for its start-up file."""


@click.command(epilog=examples(*SHELLS.values()))
@click.argument("shell", type=click.Choice(list(SHELLS)))
def main(shell: str) -> None:
    """Print the script that completes the commands in SHELL. Put its line below into the start-up file of your shell.

    It completes `paystack-source`; a shell cannot complete `python pipelines/…`.
    """
    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(shell)
    # The script asks the program itself, by a variable of this name.
    variable = f"_{CONSOLE.replace('-', '_').upper()}_COMPLETE"
    click.echo(found(click.Command(CONSOLE), {}, CONSOLE, variable).source())
