"""Reads a person's answer: from standard input, or from the terminal itself if standard input is data."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from paystack_source.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TERMINAL: Final = Path("CONIN$" if os.name == "nt" else "/dev/tty")


@contextlib.contextmanager
def keyboard(*, stdin_is_data: bool) -> Iterator[IO[str]]:
    """The stream on which a person types. Raises `UsageError` if there is no terminal."""
    if not stdin_is_data and sys.stdin and sys.stdin.isatty():
        yield sys.stdin
        return
    try:
        if not stdin_is_data:
            raise OSError  # noqa: TRY301  # with standard input redirected, --yes has to answer
        terminal = _TERMINAL.open(encoding="utf-8")
    except OSError:
        what = "is the list, and there is no terminal" if stdin_is_data else "is not a terminal"
        raise UsageError(
            f"This step asks a person to confirm, and standard input {what}.",
            "Add --yes to confirm beforehand, or run it in a terminal.",
        ) from None
    with terminal:
        yield terminal
