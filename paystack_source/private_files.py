"""Files and folders that only their owner may read and write. Symbolic links are not followed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from paystack_source.errors import ConfigError

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def open_private(path: Path, *, new: bool = False, mode: int = 0o600) -> int:
    """Open a file, or create it for its owner only, unless `mode` allows more; returns the handle.

    Raises `OSError` for a symbolic link, and with `new` if the file exists.
    """
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():  # Windows
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags | (os.O_EXCL if new else 0), mode)


@contextlib.contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that appears only when it is complete. It replaces a file or a link at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    handle = open_private(part, new=True)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def private_folder(path: Path) -> None:
    """Create the folder if it does not exist. Raises `ConfigError` as `check_private` does, or if a file is there."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"{path} cannot be a folder: a file has this name, or that of a folder above it.",
            advice="Name another folder.",
        ) from None
    check_private(path)


def check_private(path: Path, what: str = "folder", *, owners: Collection[int] = ()) -> None:
    """Raise `ConfigError` if the path belongs to another user, or if other users may write it (not on Windows).

    `owners` are the ids of users who may own it as well.
    """
    if os.name == "nt" or not path.exists():
        return
    about = path.stat()
    if about.st_uid not in {os.geteuid(), *owners}:
        raise ConfigError(
            f"The {what} {path} belongs to another user, who could have planted what is in it.",
            advice=f"Work in a folder of your own, or check its content. Then: chown {os.geteuid()} {path}",
        )
    if about.st_mode & _WRITABLE_BY_OTHERS:
        raise ConfigError(
            f"Other users may write into the {what} {path}, so they could have planted what is in it.",
            advice=f"Check its content. Then: chmod go-w {path}",
        )


def check_output(path: Path, what: str, is_ours: Callable[[Path], bool]) -> None:
    """Raise `ConfigError` if `path` exists and is not an earlier output of this kind (`is_ours`)."""
    if not os.path.lexists(path) or (path.is_file() and not path.is_symlink() and is_ours(path)):
        return
    raise ConfigError(
        f"{path} exists already, and is not a {what} of this program: it is not replaced.",
        advice="Give another name, or move it away.",
    )


def stored_path(path: Path) -> str:
    """A path as JSON can hold it: a path that is not valid UTF-8 becomes a `file:` URI."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.as_uri()
    return str(path)


def path_of(stored: str) -> Path:
    """The path that `stored_path` wrote."""
    scheme, _, quoted = stored.partition("://")
    return Path(os.fsdecode(unquote_to_bytes(quoted)) if scheme == "file" else stored)
