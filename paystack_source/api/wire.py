"""HTTP connections to one host, each with one request at a time.

- The host is pinned: https://api.paystack.co, or plain HTTP on loopback and then only with a test key.
- Redirects are not followed.
- A connection is opened before a request is sent on it. So a write that fails before that point was certainly not
  applied, whatever the exception is. urllib3's own `urlopen` does not tell the two apart, so this module keeps and
  opens the connections itself.
- The proxy and the trusted certificates come from the environment variables that curl and `requests` also read.
- A connection that idled for some seconds is opened again: if the server closed it while a write is sent, the outcome
  of the write would be unknown.
"""

from __future__ import annotations

import base64
import contextlib
import io
import ipaddress
import logging
import os
import re
import socket
import ssl
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import DecodeError, HTTPError, NameResolutionError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as LibraryTimeoutError
from urllib3.util import Url, parse_url

from paystack_source.api.answers import Answer, Fault
from paystack_source.api.clock import MAX_WAIT
from paystack_source.api.forks import RESET_AFTER_FORK
from paystack_source.api.keys import SecretKey
from paystack_source.api.quota import Check
from paystack_source.errors import ClosedError, ConfigError
from paystack_source.settings import BASE_URL, installed_version

_NETWORK_ERRORS = (HTTPError, HTTPException, OSError)
_LARGEST_BODY = 64 * 1024 * 1024
_LONGEST_IDLE = 5.0
_Idle = tuple[HTTPConnection, float]  # and since when
_TLS_PORT = 443
_PROXIES = ("https", "all")
_FORM = (
    "Write http://host:port, or http://user:password@host:port; in a password write @ : / # % as "
    "%40 %3A %2F %23 %25."
)


def check_host(base_url: str, key: SecretKey) -> str:
    """The base URL if it is Paystack's, or on loopback with a test key. Raises :class:`ConfigError`."""
    url = base_url.rstrip("/")
    advice = f"Leave the base URL out, or use {BASE_URL}."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError("The base URL cannot be read", advice=advice) from None
    if url == BASE_URL:
        if not key.genuine:
            raise ConfigError(
                "This key does not have the shape of a Paystack key, so it is not sent to Paystack",
                advice="Paystack's have 40 letters and digits after sk_test_ or sk_live_; use the whole key.",
            )
        return url
    bare = parts.scheme == "http" and parts.netloc == url.partition("://")[2] and "@" not in parts.netloc
    if not (bare and port and _loopback(host)):
        raise ConfigError("The base URL is neither Paystack's nor a local sandbox", advice=advice)
    if key.mode != "test":
        raise ConfigError(
            "A live key is sent to no other host than Paystack's",
            advice="Use a test key with the sandbox.",
        )
    return url


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Proxy(NamedTuple):
    """A proxy for HTTPS, and the setting that names it."""

    setting: str
    url: Url
    headers: dict[str, str]

    @property
    def advice(self) -> str:
        """What to check if the proxy refuses."""
        return f"Check {self.setting}. {_FORM}"


def find_proxy(host: str, port: int) -> Proxy | None:
    """The proxy for a host: HTTPS_PROXY, else ALL_PROXY; None if there is none or if NO_PROXY names the host.

    The variables may be written in lower case. Raises `ConfigError` if the value is not a proxy's URL.
    """
    proxies = urllib.request.getproxies()
    found = next((name for name in _PROXIES if proxies.get(name)), None)
    if found is None or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    setting = f"{found.upper()}_PROXY"
    text = proxies[found].strip()
    try:
        parts = parse_url(text if "://" in text else f"http://{text}")
    except (HTTPError, ValueError):
        parts = None
    if parts is None or not parts.host:
        raise ConfigError(f"{setting} cannot be read", advice=_FORM)
    if parts.scheme not in {"http", "https"}:
        raise ConfigError(f"{setting} is neither an http nor an https proxy", advice=_FORM)
    headers = {}
    if parts.auth:  # percent-decoded, as it was typed
        login = base64.b64encode(unquote(parts.auth).encode()).decode()
        headers["proxy-authorization"] = f"Basic {login}"
    return Proxy(setting, parts._replace(auth=None), headers)


def tls_context() -> ssl.SSLContext:
    """A TLS context with the system's certificates, or those of SSL_CERT_FILE, SSL_CERT_DIR or REQUESTS_CA_BUNDLE.

    Certificates are always checked. Raises `ConfigError` if a variable names what is not there, or a file without
    certificates: OpenSSL would ignore it silently, also the binary form that Windows exports.
    """
    folders = os.environ.get("SSL_CERT_DIR")
    if folders and not any(map(os.path.isdir, folders.split(os.pathsep))):
        raise ConfigError(
            f"SSL_CERT_DIR names {folders}, which is no folder", advice="Name the folder, or unset it."
        )
    named = {
        name: _trusting(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if os.environ.get(name)
    }
    context = named.pop("REQUESTS_CA_BUNDLE", None)
    if context is None:
        return ssl.create_default_context()
    if named or folders:
        context.load_default_certs()
    return context


def _trusting(setting: str) -> ssl.SSLContext:
    """A TLS context with the certificates of the file or folder that this variable names, and no others."""
    path = os.environ[setting]
    try:
        folder = path if os.path.isdir(path) else None  # noqa: PTH112
        return ssl.create_default_context(capath=folder, cafile=None if folder else path)
    except OSError:  # an SSLError as well
        raise ConfigError(
            f"{setting} names {path}, which contains no readable certificates",
            advice="Name a PEM file (it has lines -----BEGIN CERTIFICATE-----), or unset it.",
        ) from None


class _Raw(io.RawIOBase):
    """The bytes of a connection, up to a deadline that does not move, even if bytes arrive one by one."""

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
    """An answer with one deadline for all its parts: status line, headers, body and trailers."""

    def __init__(self, sock: socket.socket, *args: Any, until: float, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Raw(self.fp.detach(), sock, until), 1 << 16)

    def _read_status(self) -> tuple[str, int, str]:
        """Make `http.client` skip each 1xx as it skips 100. Else the real answer would be read as the next one."""
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, HTTPStatus.CONTINUE if status < HTTPStatus.OK else status, reason


class Wire:
    """Exchanges with one host, by any number of threads, each on its own connection."""

    def __init__(
        self,
        base_url: str,
        connect_timeout: float = 10.0,
        answer_timeout: float = 60.0,
        *,
        max_in_flight: int = 48,
    ) -> None:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        self._host = parts.netloc
        self._connect_timeout = connect_timeout
        self._answer_timeout = answer_timeout
        self._most = max_in_flight
        self._closed = False
        self._idle: list[_Idle] = []  # the last one was used most recently
        self._busy: dict[HTTPConnection, Check | None] = {}  # with the check that may end a read
        self.reset_after_fork()
        RESET_AFTER_FORK.add(self)
        self._tunnel: dict[str, Any] = {}
        self.proxy: Proxy | None = None
        """The proxy through which requests go, if there is one."""
        self._headers = {
            "Accept": "application/json",
            "Cache-Control": "no-cache",  # a proxy must not answer from its cache
            "User-Agent": f"paystack-source/{installed_version()}",
        }
        if parts.scheme == "http":
            self.new_connection: Callable[[], HTTPConnection] = partial(HTTPConnection, host, parts.port)
        else:
            self._headers["Accept-Encoding"] = "gzip"
            self.proxy = find_proxy(host, _TLS_PORT)
            self.new_connection = _tls_connection(host, self.proxy)
            if self.proxy is not None:
                self._tunnel = {"host": host, "port": _TLS_PORT, "scheme": self.proxy.url.scheme}
                self._tunnel["headers"] = self.proxy.headers
        logging.getLogger("urllib3.connection").addFilter(_without_path)  # adding it twice has no effect
        weakref.finalize(self, _close, self._idle)

    def reset_after_fork(self) -> None:
        """Drop all connections without closing them: they are the parent's."""
        self._idle.clear()
        self._busy.clear()
        self._room = threading.Condition()  # notified when a connection is free, and when this is closed

    def check(self) -> None:
        """Raise a :class:`ClosedError` once this is closed."""
        if self._closed:
            raise ClosedError("This client was closed")

    def exchange(
        self, method: str, target: str, body: bytes | None, key: SecretKey, check: Check
    ) -> Answer | Fault:
        """Send once, unless `check` raises. A network error is returned as a :class:`Fault`, not raised."""
        headers = {**self._headers, "Authorization": f"Bearer {key.reveal()}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = self.take(check, reads=method == "GET")
        sent = whole = False
        try:
            until = time.monotonic() + 2 * self._answer_timeout
            connection.response_class = partial(_Response, until=until)  # type: ignore[assignment]
            if connection.is_closed:
                self.open(connection)
            connection.timeout = self._answer_timeout
            check()
            sent = True
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an answer may have come
                connection.request(method, target, body=body, headers=headers, preload_content=False)
            response = connection.getresponse()
            content = _read(response)
            whole = content is not None
        except _NETWORK_ERRORS as error:
            return _fault(error, sent=sent, host=self._host, proxy=self.proxy)
        finally:
            self.give_back(connection, broken=not whole)
        if content is None:
            return Fault("the body is larger than any page of customers", sent=True, lasting=True)
        return Answer(response.status, response.headers, content)

    def take(self, check: Check, *, reads: bool = False) -> HTTPConnection:
        """Wait for a free connection; it may be closed. `check` may end the wait, and later a read."""
        with self._room:
            check()
            while len(self._busy) >= self._most:
                self._room.wait(MAX_WAIT)
                check()
            connection, since = self._idle.pop() if self._idle else (self.new_connection(), 0.0)
            self._busy[connection] = check if reads else None
        if time.monotonic() - since > _LONGEST_IDLE or not connection.is_connected:
            connection.close()
        return connection

    def open(self, connection: HTTPConnection) -> None:
        """Connect, and make the tunnel through a proxy."""
        connection.timeout = self._connect_timeout
        if self._tunnel:
            connection.set_tunnel(**self._tunnel)
        connection.connect()

    def give_back(self, connection: HTTPConnection, *, broken: bool) -> None:
        """Return a connection to the pool, or close it if it is broken."""
        with self._room:
            del self._busy[connection]
            if broken or self._closed:
                connection.close()
            else:
                self._idle.append((connection, time.monotonic()))
            self._room.notify()

    def break_off_reads(self) -> None:
        """Shut the sockets of reads whose `check` raises now, so that their threads wake up."""
        with self._room:
            for connection, check in self._busy.items():
                try:
                    if check is not None:
                        check()
                except Exception:  # noqa: BLE001  # any error ends the read
                    with contextlib.suppress(OSError, TypeError, AttributeError):  # it is closed already
                        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections and end the reads on them; a write that was sent ends by itself.

        A thread that waits for a connection gets a :class:`ClosedError`.
        """
        with self._room:
            self._closed = True
            _close(self._idle)
            self._room.notify_all()
        self.break_off_reads()


def _tls_connection(host: str, proxy: Proxy | None) -> Callable[[], HTTPConnection]:
    context = tls_context()
    if proxy is None:
        return partial(HTTPSConnection, host, _TLS_PORT, ssl_context=context)
    url = proxy.url
    return partial(
        HTTPSConnection,
        url.host or "",
        url.port or (_TLS_PORT if url.scheme == "https" else 80),
        ssl_context=context,
        proxy=url,
        proxy_config=ProxyConfig(
            ssl_context=context,
            use_forwarding_for_https=False,
            assert_hostname=None,
            assert_fingerprint=None,
        ),
    )


def _close(idle: list[_Idle]) -> None:
    while idle:
        idle.pop()[0].close()


def _read(response: urllib3.BaseHTTPResponse) -> bytes | None:
    """The whole body, decompressed; None if it has 64 MiB or more."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(_LARGEST_BODY, decode_content=True):
        parts.append(part)
        size += len(part)
        if size >= _LARGEST_BODY:
            return None
    return b"".join(parts)


_REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})\b")


def _fault(error: Exception, *, sent: bool, host: str, proxy: Proxy | None = None) -> Fault:
    """A fault with our own message: the exception's text has the path, which may have an email in it."""
    untrusted = isinstance(error, ssl.SSLError | SSLError)
    if proxy is not None and not sent and not untrusted:
        refused = _REFUSED_TUNNEL.search(str(error))  # http.client has the status only in its text
        if refused is None:
            return Fault("the proxy cannot be reached", sent, advice=proxy.advice)
        status = int(refused[1])
        what = "wants a user and password, or others" if status == 407 else "refuses to connect"  # noqa: PLR2004
        # A retry is useless, and repeating a wrong password may lock its account.
        return Fault(f"the proxy {what} (HTTP {status})", sent, status < 500, advice=proxy.advice)  # noqa: PLR2004
    if untrusted and not sent and "CERTIFICATE_VERIFY_FAILED" in str(error):
        advice = (
            "The certificate of api.paystack.co is not trusted here. Behind a company proxy, name the "
            "proxy's own certificate in SSL_CERT_FILE or REQUESTS_CA_BUNDLE; checking cannot be switched off."
        )
        return Fault("the certificate is not trusted", sent, lasting=True, advice=advice)
    late = "no whole answer within the time limit" if sent else "no connection within the time limit"
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (NameResolutionError, f"the name {host} cannot be resolved"),
        (NewConnectionError, f"{host} could not be reached"),
        (TimeoutError, late),
        (LibraryTimeoutError, late),
        (DecodeError, "the body cannot be decompressed"),
    )
    reason = next((reason for kind, reason in kinds if isinstance(error, kind)), "the connection broke")
    if isinstance(error, NewConnectionError) and ":" in host:  # a port: a server on loopback
        advice = (
            "If a sandbox ran there, start it again; or leave out SOURCES__PAYSTACK__BASE_URL or base_url."
        )
        return Fault(reason, sent, advice=advice)
    return Fault("no TLS connection" if untrusted else reason, sent)


def _without_path(record: logging.LogRecord) -> bool:
    """Remove the path, which may have an email in it, from urllib3's log of unreadable headers."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            part.partition("/customer")[0] + "/customer…"
            if isinstance(part, str) and "/customer" in part
            else part
            for part in record.args
        )
    return True
