"""How our commands are called in what is printed: as this process was called itself, so that it can be pasted."""

from __future__ import annotations

import sys
from pathlib import Path

CONSOLE = "paystack-source"
"""The console command of an installed package; `python -m paystack_source` is the same."""


def called(name: str) -> str:
    """The command `name` (`customers`, `bulk`, `query`) as it is typed here.

    In a checkout people run `pipelines/NAME.py`: its path is repeated as it was typed, so it works in their folder.
    """
    program = Path(sys.argv[0] if sys.argv else "")
    if program.parent.name == "pipelines" and program.suffix == ".py":
        return f"python {program.with_name(name)}.py"
    ours = program.name == "__main__.py" and program.parent.name == "paystack_source"
    if ours or program.name in {CONSOLE, f"{CONSOLE}.exe", "ipykernel_launcher.py"}:
        return f"{CONSOLE} {name}"
    return f"python pipelines/{name}.py"
