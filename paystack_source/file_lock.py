"""Locks between processes. The system releases a lock when its process ends, also after a kill.

On Windows other processes cannot read a locked file. So the locked file is an empty one beside the file that it
protects.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from threading import RLock
from typing import Final

import portalocker
from portalocker import LockFlags

_MOMENT: Final = 0.02
DUCKDB_FILES: Final = RLock()
"""Held while a thread reads a DuckDB file, or opens one for writing: DuckDB refuses both at once in a process."""
if hasattr(os, "register_at_fork"):  # a forked process would wait for a thread of its parent, for ever
    os.register_at_fork(after_in_child=DUCKDB_FILES._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file and return True, or return False if another process has locked it.

    Several processes can hold a shared lock at the same time, only one an exclusive lock.
    """
    kind = LockFlags.SHARED if shared else LockFlags.EXCLUSIVE
    try:
        portalocker.lock(handle, kind | LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException as error:
        raise OSError(errno.ENOLCK, error.strerror or os.strerror(errno.ENOLCK)) from error
    return True


def wait_for_lock(handle: int) -> None:
    """Lock an open file; wait while another process has locked it."""
    while not try_lock(handle):
        time.sleep(_MOMENT)


@contextlib.contextmanager
def unlocked_at_end(handle: int) -> Iterator[int]:
    """Close an open file at the end, and unlock it: a process that was forked meanwhile would keep the lock."""
    process = os.getpid()
    try:
        yield handle
    finally:
        with contextlib.suppress(portalocker.LockException, OSError):  # it was not locked
            if os.getpid() == process:  # else this is the forked process, and the lock is its parent's
                portalocker.unlock(handle)
        os.close(handle)
