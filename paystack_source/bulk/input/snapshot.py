"""The bytes of a file as they were at one moment: what is hashed, parsed, shown and sent is read from here.

A path is opened once and copied. Whoever saves over the file later changes nothing. The copy has no name on
any disk: a small one is held in memory, a larger one in a temporary file that only this process can reach and
that ends with it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, Final, cast

import pyarrow as pa

from paystack_source.errors import ConfigError
from paystack_source.private_files import private_file

_CHUNK: Final = 1 << 20


class FileSnapshot:
    """`open()` reads the bytes from their beginning, as often as one likes; `sha256` is their hash."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Copies `file` from its beginning to its end; `path` is what it is called."""
        self.path = path
        digest = hashlib.sha256()
        if file.seekable():  # a pipe has only one beginning
            file.seek(0)
        data = file.read(_CHUNK)
        if len(data) < _CHUNK:
            digest.update(data)
            self._bytes = pa.py_buffer(data)
        else:
            with tempfile.TemporaryFile() as copy:
                while data:
                    digest.update(data)
                    copy.write(data)
                    data = file.read(_CHUNK)
                copy.flush()
                self._bytes = pa.py_buffer(mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ))
        self.sha256 = digest.hexdigest()

    @classmethod
    def of(cls, path: str | Path) -> FileSnapshot:
        """The bytes that are at `path` now.

        Raises `FileNotFoundError`, or `ConfigError` for what is no file and for a file that was written to
        while it was copied.
        """
        path = Path(path)
        # A pipe that nobody writes to would keep the opening waiting; Windows has none among its files, and changes
        # line ends unless told not to.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            os.close(handle)
            raise ConfigError(f"{path} is no ordinary file", advice="Save it as a file first.")
        with os.fdopen(handle, "rb") as file:
            taken = cls(file, path)
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ConfigError(
                f"{path.name} was written to while it was read",
                advice="Wait until it is saved, and start again.",
            )
        return taken

    def open(self) -> BinaryIO:
        """A reader of its own position."""
        return cast("BinaryIO", pa.BufferReader(self._bytes))

    def save(self, path: Path) -> None:
        """Writes the bytes to another file, readable by its owner only."""
        with self.open() as source, private_file(path) as file:
            shutil.copyfileobj(source, file)
