"""Makes the commands that messages print for pasting: with this process's program and the switches they need."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from paystack_source.settings import EQUAL_REJECTIONS

CONSOLE: Final = "paystack-source"
"""The console command of an installed package; `python -m paystack_source` is the same."""

_Switches = tuple[tuple[str, str, Any], ...]  # its name in Python, its name on the command line, its default

_LOCATION: Final[_Switches] = (
    ("sandbox", "--sandbox", False),
    ("account_name", "--account", None),
    ("no_copy", "--no-copy", False),
    ("destination", "--destination", "duckdb"),
    ("dataset", "--dataset", None),
)
_QUOTA_SHARE: Final[_Switches] = (("quota_share", "--quota-share", 1.0),)
_RULES: Final[_Switches] = (
    *_QUOTA_SHARE,
    ("canary", "--canary", 0),
    ("canary_max", "--canary-max", 0.0),
    ("max_equal_rejections", "--max-equal-rejections", EQUAL_REJECTIONS),
    ("recheck", "--recheck", None),
)
_BY_COMMAND: Final[Mapping[str, _Switches]] = {
    "bulk apply": _RULES,
    "bulk undo": _QUOTA_SHARE,
    "bulk resume": (*_RULES, ("max_age", "--max-age", None)),
    "bulk run": (
        ("risk_action", "--risk-action", None),
        ("only_missing", "--only-missing", False),
        ("metadata", "--metadata", "merge"),
        ("refresh", "--refresh", "auto"),
        *_RULES,
    ),
}
"""By command, its switches besides those in `_LOCATION` (the account, and the location of the copy)."""


def called(name: str) -> str:
    """The command `name` (`customers`, `bulk`, `query`) as the user types it, without arguments.

    In a checkout users run `pipelines/NAME.py`: the path is printed as it was typed, so it works in their folder. With
    an installed package, also in scripts, it is the console command.
    """
    program = Path(sys.argv[0] if sys.argv else "")
    if program.parent.name == "pipelines" and program.suffix == ".py":
        return f"python {program.with_name(name)}.py"
    ours = program.name == "__main__.py" and program.parent.name == "paystack_source"
    installed = not Path(__file__).parents[1].joinpath("pipelines").is_dir()
    if ours or installed or program.name in {CONSOLE, f"{CONSOLE}.exe", "ipykernel_launcher.py"}:
        return f"{CONSOLE} {name}"
    return f"python pipelines/{name}.py"


def command(
    name: str, chosen: Mapping[str, Any], *words: str, planned: Mapping[str, Any] | None = None
) -> str:
    """The command `name` (`query`, `bulk resume`) with these words and the switches it needs.

    `chosen` are the switches of the present command; a switch that is not among them is taken from `planned`.
    """
    program, _, subcommand = name.partition(" ")
    typed = " ".join(filter(None, [called(program), subcommand, *words]))
    return typed + _switches_text((*_LOCATION, *_BY_COMMAND.get(name, ())), chosen, planned or {})


def location_switches(chosen: Mapping[str, Any]) -> str:
    """The chosen switches for the account and the copy's location, as text to append to a command."""
    return _switches_text(_LOCATION, chosen, {})


def location_options(chosen: Mapping[str, Any]) -> dict[str, bool | str]:
    """The same switches by their Python names, without those that have the default value."""
    return {name: chosen[name] for name, _, default in _LOCATION if chosen.get(name, default) != default}


def _switches_text(wanted: _Switches, chosen: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    words = []
    for name, switch, default in wanted:
        given = (chosen.get(name), planned.get(name))
        value = next((value for value in given if value is not None and value != default), default)
        if value is True:
            words.append(switch)
        elif value is False and default is None:
            words.append(switch.replace("--", "--no-", 1))
        elif value != default:
            words += [switch, quoted(f"{value:g}" if isinstance(value, float) else value)]
    return "".join(f" {word}" for word in words)


def quoted(word: object) -> str:
    """A path or another word, quoted for the shell of this system."""
    text = str(word)
    if isinstance(word, Path) and text.startswith("-"):  # else it would be read as a switch
        text = f"./{text}"
    if os.name != "nt":
        if not text.isprintable():  # no valid UTF-8, or with characters that the screen is not shown
            escaped = os.fsencode(text).decode("latin-1").encode("unicode_escape").decode()
            return "$'" + escaped.replace("'", "\\'") + "'"
        return shlex.quote(text)
    # As cmd.exe and PowerShell both read it.
    return text if re.fullmatch(r"[\w\\/.:=+-]+", text) else f'"{text}"'
