"""The proxy and the trusted certificates, from the environment variables that curl and `requests` read as well."""

from __future__ import annotations

import base64
import os
import ssl
import urllib.request
from typing import NamedTuple
from urllib.parse import unquote

from urllib3.exceptions import HTTPError
from urllib3.util import Url, parse_url

from paystack_source.errors import ConfigError

_NAMES = ("https", "all")
_FORM = (
    "Write http://host:port, or http://user:password@host:port; in a password write @ : / # % as "
    "%40 %3A %2F %23 %25."
)


class Proxy(NamedTuple):
    """A proxy for HTTPS, and the setting that names it."""

    setting: str
    url: Url
    headers: dict[str, str]

    @property
    def advice(self) -> str:
        """What to check when the proxy refuses."""
        return f"Check {self.setting}. {_FORM}"


def find_proxy(host: str, port: int) -> Proxy | None:
    """The proxy for a host: HTTPS_PROXY, else ALL_PROXY; None if there is none or if NO_PROXY names the host.

    The variables may be written in lower case. Raises `ConfigError` if the value is not a proxy's URL.
    """
    known = urllib.request.getproxies()
    found = next((name for name in _NAMES if known.get(name)), None)
    if found is None or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    setting = f"{found.upper()}_PROXY"
    text = known[found].strip()
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

    Certificates are always checked. Raises `ConfigError` if a variable names a file that holds no certificates.
    """
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    named = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)}
    for name, path in named.items():
        if not os.path.exists(path):  # noqa: PTH110  # OpenSSL would go on without a word
            raise ConfigError(
                f"{name} names {path}, which is not there", advice="Name the file, or unset it."
            )
    if not bundle:
        return ssl.create_default_context()
    try:
        folder = bundle if os.path.isdir(bundle) else None  # noqa: PTH112
        context = ssl.create_default_context(capath=folder, cafile=None if folder else bundle)
    except OSError:  # an SSLError as well
        raise ConfigError(
            f"REQUESTS_CA_BUNDLE names {bundle}, which contains no readable certificates",
            advice="Name a PEM file, or unset it.",
        ) from None
    if named:
        context.load_default_certs()
    return context
