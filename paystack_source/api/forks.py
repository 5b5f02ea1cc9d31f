"""Resets clients and queues in a forked process, which must not use its parent's connections and places.

A web server that loads its program before it forks workers, and `multiprocessing` on Linux, copy a client in
use. On a shared connection each process would read the answers to the requests of the others.
"""

from __future__ import annotations

import os
from typing import Any, Final
from weakref import WeakSet

RESET_AFTER_FORK: Final[WeakSet[Any]] = WeakSet()
"""Objects whose method `reset_after_fork` is called in each forked process: it drops what the parent uses."""


def _reset_all() -> None:
    for each in list(RESET_AFTER_FORK):
        each.reset_after_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_reset_all)
