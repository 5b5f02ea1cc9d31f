"""The way out of a company's network: proxies, and certificates of its own."""

import base64
import contextlib
import datetime as dt
import os
import socket
import ssl
import threading
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from paystack_source.api.client import PaystackClient
from paystack_source.api.wire import find_proxy
from paystack_source.errors import ConfigError, Unavailable
from paystack_source.settings import BASE_URL
from tests.api.raw_server import RawServer, ok

TEST_KEY = "sk_test_" + "0123456789" * 4
PASSWORD = "p@ss:w/r#d %é"


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


class Proxy:
    """A proxy that lets whoever knows the password through, and then plays api.paystack.co with `pem`."""

    def __init__(self, pem=None, refuses=None):
        self.heard = []  # what came: each CONNECT, and each request inside
        self.pem, self.refuses = pem, refuses

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def url(self):
        return f"http://user:{quote(PASSWORD, safe='')}@{self.address}"

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _answer(self, asked):
        login = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
        if self.refuses or f"proxy-authorization: Basic {login}\r\n" not in asked:
            return f"HTTP/1.1 {self.refuses or '407 Proxy Authentication Required'}\r\n\r\n".encode()
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            self.heard.append(connection.recv(65536).decode())
            answer = self._answer(self.heard[-1])
            connection.sendall(answer)
            if b"200" not in answer:
                return
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.pem)
            with context.wrap_socket(connection, server_side=True) as tls:
                self.heard.append(tls.recv(65536).decode())
                tls.sendall(ok([]))
                tls.recv(1)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """No setting of this machine."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def paystack(clock):
    """A client of the real host, which cannot be reached but through a proxy."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(PaystackClient(TEST_KEY, base_url=BASE_URL, clock=clock))


def test_an_untrusted_certificate_gets_no_key(tmp_path, paystack, clock, monkeypatch):
    with Proxy(certificate(tmp_path)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        for call in (lambda client: client.list(), lambda client: client.create("a@b.co")):
            with pytest.raises(Unavailable, match="certificate is not trusted") as caught:
                call(paystack())
            assert "SSL_CERT_FILE" in caught.value.advice
    assert not clock.rests  # no use in trying again
    assert len(proxy.heard) == 2
    assert all(text.startswith("CONNECT api.paystack.co:443") for text in proxy.heard)
    assert TEST_KEY not in "".join(proxy.heard)


@pytest.mark.parametrize("trusts", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_proxy_is_honoured_and_sees_no_key(trusts, tmp_path, paystack, monkeypatch):
    pem = certificate(tmp_path)
    monkeypatch.setenv(trusts, str(pem))
    with Proxy(pem) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert paystack().list().rows == []
    connect, request = proxy.heard
    assert connect.startswith("CONNECT api.paystack.co:443")
    assert TEST_KEY not in connect
    assert request.startswith("GET /customer?perPage=100 HTTP/1.1")
    assert f"Authorization: Bearer {TEST_KEY}" in request
    assert "Accept-Encoding: gzip" in request
    assert "roxy-Authorization" not in request


@pytest.mark.parametrize(
    ("setting", "form"),
    [
        ("https_proxy", "http://user:{password}@{address}"),
        ("ALL_PROXY", "http://user:{password}@{address}"),
        ("all_proxy", "user:{password}@{address}"),
        ("HTTPS_PROXY", "user:{password}@{address}"),
    ],
)
def test_a_proxy_is_written_in_each_form_that_curl_takes(setting, form, tmp_path, paystack, monkeypatch):
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with Proxy(pem) as proxy:
        monkeypatch.setenv(setting, form.format(password=quote(PASSWORD, safe=""), address=proxy.address))
        assert len(paystack().list()) == 0
    assert len(proxy.heard) == 2


@pytest.mark.parametrize(
    ("refuses", "word"), [(None, "wants a user and password"), ("403 Forbidden", "HTTP 403")]
)
@pytest.mark.parametrize("setting", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_that_refuses_is_asked_once_and_named(setting, refuses, word, paystack, monkeypatch, clock):
    with Proxy(refuses=refuses) as proxy:
        monkeypatch.setenv(setting, f"http://user:secret@{proxy.address}")
        for asked, call in enumerate((lambda it: it.list(), lambda it: it.create("a@b.co")), 1):
            with pytest.raises(
                Unavailable, match=word
            ) as caught:  # of a write it means: certainly not applied
                call(paystack())
            assert "secret" not in str(caught.value)
            assert setting in caught.value.advice
            assert len(proxy.heard) == asked
    assert not clock.rests


def test_a_proxy_that_is_down_is_asked_again(paystack, monkeypatch, clock):
    with Proxy(refuses="502 Bad Gateway") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(Unavailable, match="HTTP 502"):
            paystack().list()
        assert len(proxy.heard) == 6
    with pytest.raises(Unavailable, match="the proxy cannot be reached") as caught:
        paystack().list()
    assert "HTTPS_PROXY" in caught.value.advice


@pytest.mark.parametrize("setting", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("text", ["ftp://[x", "http://", "socks5://127.0.0.1:9", "http://u:p#w@h:80:90"])
def test_a_proxy_that_cannot_be_read_is_a_setting(setting, text, paystack, monkeypatch):
    monkeypatch.setenv(setting, text)
    with pytest.raises(ConfigError, match=setting) as caught:
        paystack()
    assert "p#w" not in str(caught.value)


def test_no_proxy_on_loopback(connect, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    with RawServer(ok([])) as server:
        assert connect(server).list().rows == []


@pytest.mark.parametrize(
    ("hosts", "proxied"),
    [
        ("api.paystack.co", False),
        ("localhost, .paystack.co", False),
        ("paystack.co", False),
        ("api.paystack.co:443", False),
        ("*", False),
        ("api.paystack.com, api.paystack.co:80", True),
    ],
)
def test_no_proxy_is_honoured(hosts, proxied, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", hosts)
    assert (find_proxy("api.paystack.co", 443) is not None) is proxied


@pytest.mark.parametrize("setting", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_are_not_there_are_a_setting(setting, tmp_path, paystack, monkeypatch):
    monkeypatch.setenv(setting, str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match=setting):
        paystack()


@pytest.mark.parametrize("setting", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_file_without_certificates_in_text_is_a_setting(setting, tmp_path, paystack, monkeypatch):
    binary = tmp_path / "company.cer"  # as Windows exports a certificate
    made = x509.load_pem_x509_certificate(certificate(tmp_path).read_bytes())
    binary.write_bytes(made.public_bytes(serialization.Encoding.DER))
    monkeypatch.setenv(setting, str(binary))
    with pytest.raises(ConfigError, match=f"{setting} names .* no readable certificates"):
        paystack()


def test_folders_of_certificates_may_be_several(tmp_path, paystack, monkeypatch):
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join((str(tmp_path), str(tmp_path / "missing"))))
    assert paystack()
