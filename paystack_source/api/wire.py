"""The wire: one host, and one exchange at a time on each of its connections.

- The host is pinned: https://api.paystack.co, or plain HTTP on loopback and then only with a test key.
- Redirects are not followed.
- A request is sent on a connection that is there, so what fails before has certainly not left. That decides whether a
  write that failed was certainly not applied, whatever the exception is called.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import ssl
import time
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from paystack_source.api.answers import Answer, Fault
from paystack_source.api.connection import Connections
from paystack_source.errors import ConfigError
from paystack_source.settings import BASE_URL, installed_version

if TYPE_CHECKING:
    import urllib3

    from paystack_source.api.keys import SecretKey
    from paystack_source.api.network import Proxy
    from paystack_source.api.quota import Check

_BROKEN = (HTTPError, HTTPException, OSError)
_LARGEST_BODY = 64 * 1024 * 1024


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


class Wire:
    """Exchanges with one host, by any number of threads."""

    def __init__(
        self, base_url: str, *, max_in_flight: int = 48, timeout: tuple[float, float] = (10.0, 60.0)
    ) -> None:
        self._timeouts = timeout
        self._longest = 2 * timeout[1]
        self.connections = Connections(base_url, max_in_flight)
        self._headers = {"Accept": "application/json", "User-Agent": f"paystack-source/{installed_version()}"}
        if base_url == BASE_URL:
            self._headers["Accept-Encoding"] = "gzip"
        logging.getLogger("urllib3.connection").addFilter(_without_path)  # adding it twice has no effect

    @property
    def answer_timeout(self) -> float:
        """Seconds of silence after which a request is given up."""
        return self._timeouts[1]

    def check(self) -> None:
        """Raise a :class:`ClosedError` once this is closed."""
        self.connections.check()

    def exchange(
        self, method: str, target: str, body: bytes | None, key: SecretKey, check: Check | None = None
    ) -> Answer | Fault:
        """Send once, unless `check` raises. What goes wrong on the way is a :class:`Fault`, not an exception."""
        check = check or self.check
        headers = {**self._headers, "Authorization": f"Bearer {key.reveal()}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = self.connections.take(check)
        reads = method == "GET"
        sent = whole = False
        try:
            self.connections.answer_by(connection, time.monotonic() + self._longest)
            if connection.is_closed:
                self.connections.open(connection, self._timeouts[0])
            connection.timeout = self._timeouts[1]
            if reads:
                self.connections.begin_read(connection, check)
            check()
            sent = True
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # an answer may be there all the same
                connection.request(method, target, body=body, headers=headers, preload_content=False)
            response = connection.getresponse()
            content = _read(response)
            whole = content is not None
        except _BROKEN as error:
            return _fault(error, sent=sent, proxy=self.connections.proxy)
        finally:
            broken_off = reads and self.connections.end_read(connection)
            self.connections.give_back(connection, broken=broken_off or not whole)
        if content is None:
            return Fault("the body is larger than any page of customers", sent=True, lasting=True)
        return Answer(response.status, response.headers, content)

    def close(self) -> None:
        """Close all connections and break off the reads on them. Whoever waits for one is told."""
        self.connections.close()


def _read(response: urllib3.BaseHTTPResponse) -> bytes | None:
    """The whole body, decompressed; None if it is absurdly large."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(_LARGEST_BODY, decode_content=True):
        parts.append(part)
        size += len(part)
        if size >= _LARGEST_BODY:
            return None
    return b"".join(parts)


_REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})\b")


def _fault(error: Exception, *, sent: bool, proxy: Proxy | None = None) -> Fault:
    """A fault in words of our own: the exception's text has the path, and so an email, in it."""
    untrusted = isinstance(error, ssl.SSLError | SSLError)
    if proxy is not None and not sent and not untrusted:
        refused = _REFUSED_TUNNEL.search(str(error))  # http.client has no other way to tell the status
        if refused is None:
            return Fault("the proxy cannot be reached", sent, advice=proxy.advice)
        status = int(refused[1])
        what = "wants a user and password, or others" if status == 407 else "refuses to connect"  # noqa: PLR2004
        # Trying again cannot help, and a wrong password that is sent again and again locks its account.
        return Fault(f"the proxy {what} (HTTP {status})", sent, status < 500, advice=proxy.advice)  # noqa: PLR2004
    if untrusted and not sent and "CERTIFICATE_VERIFY_FAILED" in str(error):
        advice = (
            "The certificate of api.paystack.co is not trusted here. Behind a company proxy, name the "
            "proxy's own certificate in SSL_CERT_FILE or REQUESTS_CA_BUNDLE; checking cannot be switched off."
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
