"""A forked process shares no connection and no place in a queue with its parent.

A web server that loads its program before it forks workers, and `multiprocessing` on Linux, copy a client that is in
use. On a shared connection each process would read the answers to the requests of the others.
"""

from __future__ import annotations

import os
from typing import Any, Final
from weakref import WeakSet

FORGETFUL: Final[WeakSet[Any]] = WeakSet()
"""Objects whose method `forget` is called in each forked process: it drops what belongs to the parent process."""


def _forget_all() -> None:
    for each in list(FORGETFUL):
        each.forget()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_forget_all)
