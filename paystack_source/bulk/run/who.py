"""Who starts a session of a run: what the environment claims, and what the system knows."""

from __future__ import annotations

import getpass
import tempfile
from pathlib import Path


def user() -> str:
    """What the environment calls the user (`LOGNAME` and the like); anybody can set that."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container user without a name
        return "unknown"


def os_user() -> str:
    """Whom the system says this process belongs to, as name and number: the owner of a file that it makes."""
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        number = path.stat().st_uid
        try:
            return f"{path.owner()} ({number})"
        except KeyError:  # a container user without a name
            return str(number)
        except (ImportError, NotImplementedError):  # Windows, where files have no such owner
            return user()
