"""The wire: one host, a pool of connections, and one exchange at a time on each (urllib3).

An exchange has two halves, so that one thread can have several requests under way: `begin` sends, and what it returns
waits for the answer or does without it.

- The host is pinned: https://api.paystack.co, or plain HTTP on loopback and then only with a test key.
- TLS is verified with the system's certificates; there is no switch. Redirects are not followed.
- A request is sent on a connection that is there, so what fails before has certainly not left. That decides whether a
  write that failed was certainly not applied, whatever the exception is called.
- A connection that idled for some seconds is opened anew, since a server that closes it at the same moment
  would leave a write with an unknown outcome.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import ssl
import threading
import time
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import make_headers, parse_url

from paystack_source.api.answers import Answer, Fault
from paystack_source.api.clock import LOOK
from paystack_source.errors import ClosedError, ConfigError

if TYPE_CHECKING:
    from paystack_source.api.keys import SecretKey
    from paystack_source.api.quota import Check

PAYSTACK = "https://api.paystack.co"
_BROKEN = (HTTPError, HTTPException, OSError)
_LONGEST_IDLE = 5.0
_LARGEST_BODY = 64 * 1024 * 1024


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


def check_host(base_url: str, key: SecretKey) -> str:
    """The base URL if it is Paystack's, or on loopback with a test key. Raises :class:`ConfigError`."""
    url = base_url.rstrip("/")
    advice = f"Leave the base URL out, or use {PAYSTACK}."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError("The base URL cannot be read", advice=advice) from None
    if url == PAYSTACK:
        if not key.genuine:
            raise ConfigError(
                "This key does not have the shape of a Paystack key, so it is not sent to Paystack",
                advice="Paystack's have 40 letters and digits after sk_test_ or sk_live_; use the whole key.",
            )
        return url
    if (
        parts.scheme != "http"
        or not _loopback(host)
        or parts.path
        or parts.query
        or parts.username
        or not port
    ):
        raise ConfigError("The base URL is neither Paystack's nor a local sandbox", advice=advice)
    if key.mode != "test":
        raise ConfigError(
            "A live key is never sent to another host than Paystack's",
            advice="Use a test key with the sandbox.",
        )
    return url


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Exchange(Protocol):
    """A request that was sent. One of the two is to be called, once, soon, and from the thread that sent it."""

    def end(self) -> Answer | Fault:
        """Wait for the answer."""
        ...

    def drop(self) -> None:
        """Do without it."""
        ...


class Wire:
    """A pool of connections to one host, which any number of threads may use."""

    def __init__(
        self, base_url: str, *, max_in_flight: int = 48, timeout: tuple[float, float] = (10.0, 60.0)
    ) -> None:
        self._closed = False
        self._free = max_in_flight
        self._room = threading.Condition()  # a connection is free, or there will be none any more
        self._timeouts = timeout
        self._longest_body = 2 * timeout[1]
        self._pool = _make_pool(base_url, max_in_flight)
        self._headers = {"Accept": "application/json", "User-Agent": "paystack-source"}
        if base_url == PAYSTACK:
            self._headers["Accept-Encoding"] = "gzip"
        logging.getLogger("urllib3.connection").addFilter(_without_path)  # adding it twice has no effect

    def exchange(self, method: str, target: str, body: bytes | None, key: SecretKey) -> Answer | Fault:
        """Send once. What goes wrong on the way is a :class:`Fault`, not an exception."""
        exchange = self.begin(method, target, body, key, check=self.check)
        assert exchange is not None  # noqa: S101  # only with `at_once`
        return exchange.end()

    def check(self) -> None:
        """Raise a :class:`ClosedError` once this is closed."""
        if self._closed:
            raise ClosedError("This client was closed")

    def begin(  # noqa: PLR0913  # a request, and how to wait
        self,
        method: str,
        target: str,
        body: bytes | None,
        key: SecretKey,
        *,
        check: Check,
        at_once: bool = False,
    ) -> Exchange | None:
        """Send once, unless `check` raises. What goes wrong on the way is told at the end.

        Waits for a connection to become free; `at_once` it does not, and returns nothing.
        """
        headers = {**self._headers, "Authorization": f"Bearer {key.reveal()}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = self._connection(check, at_once=at_once)
        if connection is None:
            return None
        sent = False
        try:
            if connection.is_closed:
                self._connect(connection)
            connection.timeout = self._timeouts[1]
            check()
            sent = True
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # an answer may be there all the same
                connection.request(method, target, body=body, headers=headers, preload_content=False)
        except _BROKEN as error:
            self.give_back(connection, broken=True)
            return _Failed(_fault(error, sent=sent, proxied=self._pool.proxy is not None))
        except BaseException:
            self.give_back(connection, broken=True)
            raise
        return _UnderWay(self, connection)

    def _connection(self, check: Check, *, at_once: bool) -> Any:  # noqa: ANN401
        with self._room:
            check()
            while not self._free:
                if at_once:
                    return None
                self._room.wait(LOOK)
                check()
            connection = self._pool._get_conn(0)  # noqa: SLF001  # the only way to one; one is free
            self._free -= 1
            return connection

    def _connect(self, connection: Any) -> None:  # noqa: ANN401  # plain or TLS
        connection.timeout = self._timeouts[0]
        if self._pool.proxy is None:
            connection.connect()
        else:
            self._pool._prepare_proxy(connection)  # noqa: SLF001  # opens the tunnel, which no public name does

    def end(self, connection: Any) -> Answer | Fault:  # noqa: ANN401
        """Wait for the answer on this connection."""
        whole = False
        try:
            response = connection.getresponse()
            content = _read(response, time.monotonic() + self._longest_body)
            whole = content is not None
        except _BROKEN as error:
            return _fault(error, sent=True)
        finally:
            self.give_back(connection, broken=not whole)
        if content is None:
            return Fault("the body is larger than any page of customers", sent=True, lasting=True)
        return Answer(response.status, response.headers, content)

    def give_back(self, connection: Any, *, broken: bool) -> None:  # noqa: ANN401
        """Nothing more is to come on this connection, or nothing that anybody wants."""
        if broken:
            connection.close()
        with self._room:
            self._pool._put_conn(connection)  # noqa: SLF001
            self._free += 1
            self._room.notify()

    def close(self) -> None:
        """Close all connections, those in use once they are given back. Whoever waits for one is told."""
        with self._room:
            self._closed = True
            self._pool.close()
            self._room.notify_all()


class _Failed(NamedTuple):
    fault: Fault

    def end(self) -> Fault:
        return self.fault

    def drop(self) -> None:
        pass


class _UnderWay(NamedTuple):
    wire: Wire
    connection: Any

    def end(self) -> Answer | Fault:
        return self.wire.end(self.connection)

    def drop(self) -> None:
        self.wire.give_back(self.connection, broken=True)


def _read(response: urllib3.BaseHTTPResponse, until: float) -> bytes | None:
    """The whole body, decompressed; None if it is absurdly large. A body that drips for ever is cut off."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(_LARGEST_BODY, decode_content=True):
        parts.append(part)
        size += len(part)
        if size >= _LARGEST_BODY:
            return None
        if time.monotonic() > until:
            raise TimeoutError
    return b"".join(parts)


def _make_pool(base_url: str, size: int) -> HTTPConnectionPool:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return _PlainPool(host, parts.port, maxsize=size, block=True)
    context = ssl.create_default_context()
    proxy = urllib.request.getproxies().get("https")
    if not proxy or urllib.request.proxy_bypass(host):
        return _TLSPool(host, 443, maxsize=size, block=True, ssl_context=context)
    try:
        auth = parse_url(proxy).auth
        manager = urllib3.ProxyManager(
            proxy,
            maxsize=size,
            block=True,
            ssl_context=context,
            proxy_headers=make_headers(proxy_basic_auth=auth) if auth else None,
        )
    except (HTTPError, ValueError):
        raise ConfigError("HTTPS_PROXY cannot be read", advice="Write http://host:port.") from None
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TLSPool}
    return manager.connection_from_host(host, 443, "https")


def _fault(error: Exception, *, sent: bool, proxied: bool = False) -> Fault:
    """A fault in words of our own: the exception's text has the path, and so an email, in it."""
    untrusted = isinstance(error, ssl.SSLError | SSLError)
    if proxied and not sent and not untrusted:
        return Fault("the proxy cannot be reached or refuses", sent, advice="Check HTTPS_PROXY.")
    if untrusted and not sent and "CERTIFICATE_VERIFY_FAILED" in str(error):
        advice = (
            "The certificate of api.paystack.co is not trusted here. Behind a company proxy, name the "
            "proxy's own certificate in SSL_CERT_FILE; checking cannot be switched off."
        )
        return Fault("the certificate is not trusted", sent, lasting=True, advice=advice)
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (SSLError, "no TLS connection"),
        (ssl.SSLError, "no TLS connection"),
        (NameResolutionError, "the host name cannot be resolved"),
        (NewConnectionError, "the host could not be reached"),
        (ConnectTimeoutError, "no connection within the time limit"),
        (ReadTimeoutError, "no answer within the time limit"),
        (
            TimeoutError,
            "no whole answer within the time limit" if sent else "no connection within the time limit",
        ),
        (DecodeError, "the body cannot be decompressed"),
    )
    reason = next((reason for kind, reason in kinds if isinstance(error, kind)), "the connection broke")
    return Fault(reason, sent)


def _without_path(record: logging.LogRecord) -> bool:
    """Take the path, and so an email, out of urllib3's lines on headers that it cannot read."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            part.partition("/customer")[0] + "/customer…"
            if isinstance(part, str) and "/customer" in part
            else part
            for part in record.args
        )
    return True
