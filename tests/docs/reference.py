"""Writes docs/commands.md from the commands themselves: `python -m tests.docs.reference`."""

import importlib.util
import sys
from pathlib import Path

import click

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


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
