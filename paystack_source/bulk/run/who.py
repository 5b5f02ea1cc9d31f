"""Who starts a session of a run: what the environment claims, and what the system knows."""

from __future__ import annotations

import getpass
import os


def user() -> str:
    """What the environment calls the user (`LOGNAME` and the like); anybody can set that."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container user without a name
        return "unknown"


def os_user() -> str:
    """Whom the system says this process belongs to, as name and number; on Windows the name of the session."""
    try:
        import pwd  # noqa: PLC0415 - not on Windows

        number = os.getuid()
    except (ImportError, AttributeError):
        return os.getlogin()
    try:
        return f"{pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return str(number)
