"""A lock in a bucket: an object that its owner renews. It expires if it is not renewed.

Each owner creates an object of its own, `NAME.1`, `NAME.2`, and so on; the highest number holds the lock. A waiting run
that finds the highest object expired or released creates the next one. "Create if it does not exist" is atomic in every
store, so only one of two waiting runs gets the lock. Numbers only grow: an owner releases the lock by emptying its
object, and the next owner deletes it.

    waiting      the highest object belongs to another run, which renews it: wait
    taking over  the highest object is empty, or has not changed for `LEASE_SECONDS`: create the next one, then read
                 the old one again. If it changed, or there is a higher one, delete the own object and wait
    holding      write the own object every quarter of `LEASE_SECONDS`, then list the objects.
                 If there is a higher one, the lock is lost

A new owner reads the old object after creating its own, and an owner lists the objects after writing its own. So if a
paused owner comes back while another run takes over, at most one of them goes on.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from typing import Any, Self

LEASE_SECONDS = 60.0
"""How long an object holds the lock after it was last renewed."""

REFUSALS = 5
"""After this many refusals to create a new object, another writer cannot be the cause: raise the store's error."""

# CLOCK_BOOTTIME also counts while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class BucketLease:
    """The lock `path` in a bucket: call `take` until it returns True, then use it as a context manager."""

    def __init__(self, files: Any, path: str) -> None:  # noqa: ANN401  # fsspec has no types
        self._files = files
        self._folder, _, self._name = path.rpartition("/")
        self._owner = uuid.uuid4().hex
        self._number = 0
        self._seen: tuple[int, bytes] = (0, b"")
        self._seen_since = 0.0
        self._refusals = 0
        self._writes = 0
        self._held_until = 0.0
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._keep, daemon=True)

    def take(self) -> bool:
        """Take the lock if it is free; returns whether this run has it now."""
        asked, numbers = _now(), self._numbers()
        highest = max(numbers, default=0)
        held = self._read(highest) if numbers else None
        if numbers and (held is None or (held and not self._has_expired(highest, held))):
            return False
        self._number = highest + 1
        try:
            self._files.pipe_file(self._path(self._number), self._content(), mode="create")
        except OSError:  # each store has its own error for an object that exists
            self._refusals += 1
            if self._refusals > REFUSALS and self._numbers() == numbers:
                raise
            return False
        self._refusals = 0
        owner_is_back = held is not None and self._read(highest) != held
        if owner_is_back or not self._is_highest():
            self._delete(self._number)
            return False
        self._held_until = asked + LEASE_SECONDS
        for number in numbers:
            self._delete(number)
        return True

    def __enter__(self) -> Self:
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._renewing.join()
        with contextlib.suppress(Exception):  # it expires
            if self._is_highest():
                self._files.pipe_file(self._path(self._number), b"")

    def still_held(self) -> bool:
        """Whether the lock has not expired. Until it expires, no other run can take it."""
        return _now() < self._held_until

    def _keep(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / 4):
            with contextlib.suppress(Exception):  # the next attempt is before it expires
                self.renew()

    def renew(self) -> None:
        """Extend the lock by `LEASE_SECONDS`, unless it is lost."""
        asked = _now()
        self._files.pipe_file(self._path(self._number), self._content())
        self._held_until = asked + LEASE_SECONDS if self._is_highest() else 0.0

    def _content(self) -> bytes:
        self._writes += 1
        return f"{self._owner} {self._writes}".encode()

    def _has_expired(self, number: int, content: bytes) -> bool:
        """Whether the object did not change for `LEASE_SECONDS` by our own clock; the store's clock may be wrong."""
        if self._seen != (number, content):
            self._seen, self._seen_since = (number, content), _now()
        return _now() - self._seen_since > LEASE_SECONDS

    def _is_highest(self) -> bool:
        return max(self._numbers(), default=0) == self._number

    def _numbers(self) -> list[int]:
        self._files.invalidate_cache()
        try:
            paths = self._files.ls(self._folder, detail=False)
        except FileNotFoundError:
            return []
        names = (path.rpartition("/")[2].rpartition(".") for path in paths)
        return sorted(int(end) for name, _, end in names if name == self._name and end.isdecimal())

    def _read(self, number: int) -> bytes | None:
        """The content of an object: empty if it was released, None if it was deleted."""
        self._files.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return bytes(self._files.cat_file(self._path(number)))
        return None

    def _delete(self, number: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(number))

    def _path(self, number: int) -> str:
        return f"{self._folder}/{self._name}.{number}"


def _now() -> float:
    return time.clock_gettime(_CLOCK)
