"""A forked process shares no connection and no place in a queue with its parent.

A web server that loads its program before it forks workers, and `multiprocessing` on Linux, copy a client that is in
use. On a shared connection each process would read the answers to the requests of the others.
"""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An object that a forked process begins anew with."""

    def forget(self) -> None:
        """Drop what belongs to the parent process, without telling anybody."""
        ...


_known: Final[WeakSet[Forkable]] = WeakSet()


def forget_after_fork(what: Forkable) -> None:
    """Call `forget` of this object in each process that is forked while it is in use."""
    _known.add(what)


def _forget_all() -> None:
    for what in list(_known):
        what.forget()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_forget_all)
