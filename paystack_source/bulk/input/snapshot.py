"""A copy of a file's bytes at one moment. Hashing, parsing, showing and sending all read this copy.

The path is opened once, so later changes of the file have no effect. The copy has no name: a small one is in memory, a
larger one in a temporary file that only this process can open, and that is deleted with it.
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
    """The bytes `data` and their hash `sha256`. `open()` may be called many times and reads from the beginning."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Copy `file` from its beginning to its end; `path` is its name."""
        self.path = path
        self.data: pa.Buffer
        if file.seekable():  # a pipe is not
            file.seek(0)
        begin = file.read(_CHUNK)
        if len(begin) < _CHUNK:
            self.data = pa.py_buffer(begin)
        else:
            with tempfile.TemporaryFile() as copy:
                copy.write(begin)
                shutil.copyfileobj(file, copy, _CHUNK)
                copy.flush()
                self.data = pa.py_buffer(mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ))
        self.sha256 = hashlib.sha256(self.data).hexdigest()

    @classmethod
    def of(cls, path: str | Path) -> FileSnapshot:
        """Copy the file at `path`.

        Raises `FileNotFoundError`, or `ConfigError` if it is not an ordinary file, or was changed while it was copied.
        """
        path = Path(path)
        # Without O_NONBLOCK, opening a pipe waits for a writer. Without O_BINARY, Windows changes the ends of lines.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            os.close(handle)
            raise ConfigError(
                f"{path} is {'a folder' if stat.S_ISDIR(before.st_mode) else 'not an ordinary file'}",
                advice="Give a file. A command also reads standard input: -",
            )
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
        """A new reader, at the beginning."""
        return cast("BinaryIO", pa.BufferReader(self.data))

    def save(self, path: Path) -> None:
        """Writes the bytes to another file, readable by its owner only."""
        with self.open() as source, private_file(path) as file:
            shutil.copyfileobj(source, file)
