"""Locks between processes, on every system. The system lets go of a lock when its process ends, however it ends.

Windows keeps other processes from reading a file that is locked. So the lock of a thing is a file of its own beside
it: nothing is ever written into it or read from it.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Final

import portalocker
from portalocker import LockFlags

_MOMENT: Final = 0.02


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file if that is possible now. Several processes can hold a shared lock, one an exclusive one."""
    kind = LockFlags.SHARED if shared else LockFlags.EXCLUSIVE
    try:
        portalocker.lock(handle, kind | LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException as error:
        raise OSError(errno.ENOLCK, error.strerror or os.strerror(errno.ENOLCK)) from error
    return True


def wait_for_lock(handle: int) -> None:
    """Lock an open file, as soon as nobody else has it locked."""
    while not try_lock(handle):
        time.sleep(_MOMENT)
