"""The bytes of a file as they were at one moment: what is hashed, parsed, shown and sent is read from here.

A path is opened once and copied. Whoever saves over the file later changes nothing. The copy has no name on
any disk: a small one is held in memory, a larger one in a temporary file that only this process can reach and
that ends with it.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final, cast

from paystack_source.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK: Final = 1 << 20


class Snapshot:
    """`open()` reads the bytes from their beginning, as often as one likes; `sha256` is their hash."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Copies `file` from its beginning to its end; `path` is what it is called."""
        self.path = path
        digest = hashlib.sha256()
        file.seek(0)
        self._bytes = data = file.read(_CHUNK)
        self._file: IO[bytes] | None = None
        if len(data) == _CHUNK:
            self._file, self._bytes = tempfile.TemporaryFile(), b""  # noqa: SIM115 - ends with the snapshot
            weakref.finalize(self, self._file.close)
        while data:
            digest.update(data)
            if self._file is not None:
                self._file.write(data)
            data = file.read(_CHUNK)
        if self._file is not None:
            self._file.flush()
        self.sha256 = digest.hexdigest()

    @classmethod
    def of(cls, path: str | Path) -> Snapshot:
        """The bytes that are at `path` now.

        Raises `FileNotFoundError`, or `ConfigError` for what is no file and for a file that was written to
        while it was copied.
        """
        path = Path(path)
        # A pipe that nobody writes to would keep the opening waiting.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
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
        if self._file is None:
            return io.BytesIO(self._bytes)
        return cast("BinaryIO", io.BufferedReader(_Reader(self, self._file), _CHUNK))


class _Reader(io.RawIOBase):
    """Reads a file that others read as well, each from where it is."""

    def __init__(self, snapshot: Snapshot, file: IO[bytes]) -> None:
        self._snapshot = snapshot  # must live as long: the file ends with it
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, into: WriteableBuffer, /) -> int:
        view = memoryview(into).cast("B")
        data = os.pread(self._file.fileno(), len(view), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        size = os.fstat(self._file.fileno()).st_size
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at
