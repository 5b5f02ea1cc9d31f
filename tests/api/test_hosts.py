"""Which key goes to which host, over what: the pin, TLS, proxies."""

import datetime as dt
import socket
import ssl
import threading
from contextlib import contextmanager

import pytest
import urllib3.exceptions
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from paystack_source.api.answers import Fault
from paystack_source.api.client import PaystackClient
from paystack_source.api.keys import SecretKey
from paystack_source.api.wire import PAYSTACK, Wire, check_host
from paystack_source.errors import ConfigError, OutcomeUnknown, Unavailable
from tests.api.raw_server import RawServer, ok, reply

TEST_KEY = "sk_test_" + "0123456789" * 4
LIVE_KEY = "sk_live_" + "0123456789" * 4
SANDBOX_KEY = "sk_test_sandbox"


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (PAYSTACK, TEST_KEY),
        (PAYSTACK, LIVE_KEY),
        (PAYSTACK + "/", LIVE_KEY),
        ("http://127.0.0.1:8080", SANDBOX_KEY),
        ("http://127.9.9.9:8080", TEST_KEY),
        ("http://localhost:8080/", SANDBOX_KEY),
        ("http://[::1]:8080", SANDBOX_KEY),
    ],
)
def test_allowed_hosts(url, key):
    assert check_host(url, SecretKey.parse(key)) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.paystack.co",
        "https://api.paystack.co:8443",
        "https://api.paystack.co/v2",
        "https://api.paystack.co?x=1",
        "https://user@api.paystack.co",
        "https://api.paystack.co@evil.example",
        "https://api.paystack.co.evil.example",
        "https://API.paystack.co",
        "https://example.com",
        "http://example.com:80",
        "http://10.0.0.1:8080",
        "http://0.0.0.0:8080",
        "http://127.0.0.1.evil.example:80",
        "http://localhost.evil.example:80",
        "http://2130706433:80",
        "https://127.0.0.1:8443",
        "http://user:pw@127.0.0.1:80",
        "http://127.0.0.1:80/path",
        "http://127.0.0.1:80?x",
        "http://127.0.0.1",
        "http://127.0.0.1:99999",
        "http://[::1",
        "file:///etc/passwd",
        "127.0.0.1:80",
        " ",
    ],
)
def test_other_hosts_are_refused_before_anything_is_sent(url):
    with pytest.raises(ConfigError) as caught:
        PaystackClient(TEST_KEY, base_url=url)
    assert caught.value.exit_code == 2
    assert PAYSTACK in caught.value.advice


def test_a_live_key_goes_to_paystack_only():
    with RawServer(ok()) as server, pytest.raises(ConfigError, match="live key"):
        PaystackClient(LIVE_KEY, base_url=server.url)
    assert not server.connections


@pytest.mark.parametrize("key", [SANDBOX_KEY, "sk_live_sandbox", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"])
def test_a_sandbox_key_or_another_vendors_is_not_sent_to_paystack(key):
    with pytest.raises(ConfigError, match="does not have the shape"):
        PaystackClient(key, base_url=PAYSTACK)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "not a text"),
        (7, "not a text"),
        ("", "blank"),
        ("  ", "blank"),
        (TEST_KEY + "\n", "white space"),
        (f'"{TEST_KEY}"', "quotes"),
        (f"Bearer {TEST_KEY}", "Bearer"),
        ("pk_live_" + "0" * 40, "public"),
        ("0123", "not a Paystack secret key"),
        ("<configure me>", "not a Paystack secret key"),
        ("sk_prod_" + "0" * 40, "not a Paystack secret key"),
        ("sk_live_51H" + "x" * 96, "too long"),
        ("sk_test_", "cut"),
        ("sk_test_abc", "cut"),
        ("sk_test_sand box", "odd"),
        ("sk_test_sandböx", "odd"),
        ("sk_test_x\r\nHost: evil", "odd"),
    ],
)
def test_keys_that_cannot_be_right_are_refused_with_advice(text, word):
    with pytest.raises(ConfigError, match=word) as caught:
        SecretKey.parse(text)
    assert caught.value.advice


def test_mode_is_read_from_the_key():
    assert SecretKey.parse(TEST_KEY).mode == "test"
    assert SecretKey.parse(LIVE_KEY).mode == "live"
    key = SecretKey.parse(LIVE_KEY)
    assert SecretKey.parse(key) is key
    assert PaystackClient(LIVE_KEY, base_url=PAYSTACK).mode == "live"


def test_no_redirect_is_followed(connect):
    with RawServer(ok()) as goal, RawServer(reply(307, b"", Location=goal.url + "/customer")) as server:
        with pytest.raises(Unavailable, match="redirect"):
            connect(server).list()
        with pytest.raises(OutcomeUnknown, match="redirect"):
            connect(server).create("a@b.co")
    assert not goal.connections


def test_tls_is_always_verified():
    pool = Wire(PAYSTACK)._pool
    context = pool.conn_kw["ssl_context"] if "ssl_context" in pool.conn_kw else pool._get_conn().ssl_context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert (pool.host, pool.port) == ("api.paystack.co", 443)
    names = PaystackClient.__init__.__wrapped__.__code__.co_varnames
    assert not [name for name in names if "verify" in name or "tls" in name or "ssl" in name]


def certificate(folder):
    """A self-signed certificate for api.paystack.co."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api.paystack.co")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("api.paystack.co")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def proxy(answer=b"HTTP/1.1 200 Connection established\r\n\r\n", pem=None):
    """A proxy that answers CONNECT and then plays api.paystack.co with a certificate of its own."""
    heard = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        try:
            heard.append(connection.recv(65536).decode())
            connection.sendall(answer)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            with context.wrap_socket(connection, server_side=True) as tls:
                heard.append(tls.recv(65536).decode())
                tls.sendall(ok([]))
                tls.recv(1)
        except (OSError, TypeError):
            connection.close()

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}", heard
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def through(monkeypatch, clock):
    """A client of the real host whose only way out is the proxy."""

    def make(url):
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("https_proxy", url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        return PaystackClient(TEST_KEY, base_url=PAYSTACK, clock=clock)

    return make


def test_an_untrusted_certificate_gets_no_key(tmp_path, through, clock):
    with proxy(pem=certificate(tmp_path)) as (url, heard):
        for call in (lambda client: client.list(), lambda client: client.create("a@b.co")):
            with (
                through(url) as client,
                pytest.raises(Unavailable, match="certificate is not trusted") as caught,
            ):
                call(client)
            assert "SSL_CERT_FILE" in caught.value.advice
    assert not clock.rests  # no use in trying again
    assert len(heard) == 2
    assert all(text.startswith("CONNECT api.paystack.co:443") for text in heard)
    assert TEST_KEY not in "".join(heard)


def test_a_proxy_is_honoured_and_sees_no_key(tmp_path, through, monkeypatch):
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))  # the way to trust a company's own certificate
    with proxy(pem=pem) as (url, heard), through(url) as client:
        assert client.list().rows == []
    connect, request = heard
    assert connect.startswith("CONNECT api.paystack.co:443")
    assert "Proxy-Authorization: Basic" in connect or "proxy-authorization: Basic" in connect
    assert TEST_KEY not in connect
    assert request.startswith("GET /customer?perPage=100 HTTP/1.1")
    assert f"Authorization: Bearer {TEST_KEY}" in request
    assert "Accept-Encoding: gzip" in request
    assert "roxy-Authorization" not in request


def test_a_proxy_that_refuses_is_named_and_a_write_stays_certain(through):
    with (
        proxy(answer=b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as (url, _),
        through(url) as client,
    ):
        for call in (client.list, lambda: client.create("a@b.co")):
            with pytest.raises(Unavailable) as caught:
                call()
            assert "secret" not in str(caught.value)
            assert "HTTPS_PROXY" in caught.value.advice


def test_a_proxy_that_cannot_be_read_is_a_setting(through):
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        through("ftp://[x")


def test_no_proxy_on_loopback(connect, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with RawServer(ok([])) as server:
        assert connect(server).list().rows == []


def test_no_proxy_is_honoured(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "api.paystack.co")
    assert Wire(PAYSTACK)._pool.proxy is None
    monkeypatch.delenv("no_proxy")
    assert Wire(PAYSTACK)._pool.proxy is not None


LOWER = [
    error
    for error in vars(urllib3.exceptions).values()
    if isinstance(error, type)
    and issubclass(error, urllib3.exceptions.HTTPError)
    and not issubclass(error, Warning)
]


@pytest.mark.parametrize(
    "lower", [*LOWER, OSError, TimeoutError, ConnectionResetError], ids=lambda e: e.__name__
)
@pytest.mark.parametrize("broken", ["connect", "request", "getresponse"])
def test_each_lower_error_becomes_a_fault_in_our_words(lower, broken, monkeypatch):
    def fail(*_, **__):
        raise lower.__new__(lower, "canary")

    class Connection:
        is_closed = True
        connect = request = getresponse = close = staticmethod(lambda *_, **__: None)

    for name in ("request", "getresponse") if broken == "request" else (broken,):
        monkeypatch.setattr(Connection, name, staticmethod(fail))
    wire = Wire("http://127.0.0.1:9")
    given_back = []
    monkeypatch.setattr(wire._pool, "_get_conn", lambda _timeout: Connection())
    monkeypatch.setattr(wire._pool, "_put_conn", given_back.append)
    fault = wire.exchange("GET", "/customer/canary", None, SecretKey.parse(SANDBOX_KEY))
    assert isinstance(fault, Fault)
    assert fault.sent is (broken != "connect")
    assert fault.reason
    assert "canary" not in repr(fault)
    assert len(given_back) == 1
