"""The connections to one host, handed out one at a time: the only file that uses private names of urllib3.

urllib3's own `urlopen` does not say whether a request had left when it failed, and that decides whether a write was
certainly not applied. So connections are taken and given back here, and opened before anything is sent.

- A connection that idled for some seconds is opened anew, since a server that closes it at the same moment
  would leave a write with an unknown outcome.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from functools import partial
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from paystack_source.api.clock import MAX_WAIT
from paystack_source.api.network import find_proxy, tls_context
from paystack_source.errors import ClosedError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from paystack_source.api.network import Proxy
    from paystack_source.api.quota import Check

_LONGEST_IDLE = 5.0
_TLS_PORT = 443


class _Raw(io.RawIOBase):
    """What comes on a connection, until a moment: each wait ends then, also one of many short ones."""

    def __init__(self, inner: Any, sock: socket.socket, until: float) -> None:  # noqa: ANN401  # private to `socket`
        self._inner, self._sock, self._until = inner, sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401  # a writable buffer
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(min(left, self._sock.gettimeout() or left))
        read: int | None = self._inner.readinto(buffer)
        return read

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Response(HTTPResponse):
    """An answer that must be whole by a moment: its status line, its head, its body and what follows it."""

    def __init__(self, sock: socket.socket, *args: Any, until: float, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Raw(self.fp.detach(), sock, until), 1 << 16)


class _Fresh:
    """Hands out no connection that has idled for long."""

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ANN401
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        if not connection.is_closed and time.monotonic() - connection.idle_since > _LONGEST_IDLE:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:  # noqa: ANN401
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc]


class _PlainPool(_Fresh, HTTPConnectionPool):
    pass


class _TLSPool(_Fresh, HTTPSConnectionPool):
    pass


class Connections:
    """Any number of threads may take from them."""

    def __init__(self, base_url: str, most: int) -> None:
        parts = urlsplit(base_url)
        self._closed = False
        self._free = most
        self._reading: dict[Any, Check] = {}  # connections on which a read waits for its answer
        self._room = threading.Condition()  # a connection is free, or there will be none any more
        self.proxy = find_proxy(parts.hostname or "", _TLS_PORT) if parts.scheme == "https" else None
        """The proxy through which requests go, if there is one."""
        self._pool = _make_pool(parts, most, self.proxy)

    def check(self) -> None:
        """Raise a :class:`ClosedError` once this is closed."""
        if self._closed:
            raise ClosedError("This client was closed")

    def take(self, check: Check) -> Any:  # noqa: ANN401
        """A connection, once one is free."""
        with self._room:
            check()
            while not self._free:
                self._room.wait(MAX_WAIT)
                check()
            connection = self._pool._get_conn(0)  # noqa: SLF001  # the only way to one; one is free
            self._free -= 1
            return connection

    def answer_by(self, connection: Any, until: float) -> None:  # noqa: ANN401
        """Whatever answers next on this connection must have said it all by then (`time.monotonic`)."""
        connection.response_class = partial(_Response, until=until)

    def open(self, connection: Any, timeout: float) -> None:  # noqa: ANN401  # plain or TLS
        """Connect, and make the tunnel through a proxy."""
        connection.timeout = timeout
        if self._pool.proxy is None:
            connection.connect()
        else:
            self._pool._prepare_proxy(connection)  # noqa: SLF001  # opens the tunnel, which no public name does

    def give_back(self, connection: Any, *, broken: bool) -> None:  # noqa: ANN401
        """Nothing more is to come on this connection, or nothing that anybody wants."""
        if broken:
            connection.close()
        with self._room:
            self._pool._put_conn(connection)  # noqa: SLF001
            self._free += 1
            self._room.notify()

    def begin_read(self, connection: Any, check: Check) -> None:  # noqa: ANN401
        """A read is about to be sent, which `break_off_reads` may end."""
        with self._room:
            self._reading[connection] = check

    def end_read(self, connection: Any) -> bool:  # noqa: ANN401
        """The read has ended, or there was none. Whether it was broken off, which makes the connection useless."""
        with self._room:
            return self._reading.pop(connection, None) is None

    def break_off_reads(self) -> None:
        """Shut the sockets of reads whose `check` raises by now: whoever waits for an answer on them wakes up."""
        with self._room:
            for connection, check in list(self._reading.items()):
                try:
                    check()
                except Exception:  # noqa: BLE001  # whatever it is that ends the work
                    del self._reading[connection]
                    with contextlib.suppress(OSError, TypeError, AttributeError):  # it is closed already
                        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections and break off the reads on them; a write that is under way ends by itself.

        Whoever waits for a connection is told.
        """
        with self._room:
            self._closed = True
            self._pool.close()
            self._room.notify_all()
        self.break_off_reads()


def _make_pool(parts: SplitResult, size: int, proxy: Proxy | None) -> HTTPConnectionPool:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return _PlainPool(host, parts.port, maxsize=size, block=True)
    context = tls_context()
    if proxy is None:
        return _TLSPool(host, _TLS_PORT, maxsize=size, block=True, ssl_context=context)
    manager = urllib3.ProxyManager(
        proxy.url, maxsize=size, block=True, ssl_context=context, proxy_headers=proxy.headers
    )
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TLSPool}
    return manager.connection_from_host(host, _TLS_PORT, "https")
