"""Which key goes to which host, over what: the pin, TLS, proxies."""

import ssl

import pytest
import urllib3.exceptions

from paystack_source.api.answers import Fault
from paystack_source.api.client import PaystackClient
from paystack_source.api.keys import SecretKey
from paystack_source.api.wire import Wire, check_host
from paystack_source.errors import ConfigError, OutcomeUnknown, Unavailable
from paystack_source.settings import BASE_URL
from tests.api.raw_server import RawServer, ok, reply

TEST_KEY = "sk_test_" + "0123456789" * 4
LIVE_KEY = "sk_live_" + "0123456789" * 4
SANDBOX_KEY = "sk_test_sandbox"


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (BASE_URL, TEST_KEY),
        (BASE_URL, LIVE_KEY),
        (BASE_URL + "/", LIVE_KEY),
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
    assert BASE_URL in caught.value.advice


def test_a_live_key_goes_to_paystack_only():
    with RawServer(ok()) as server, pytest.raises(ConfigError, match="live key"):
        PaystackClient(LIVE_KEY, base_url=server.url)
    assert not server.connections


@pytest.mark.parametrize("key", [SANDBOX_KEY, "sk_live_sandbox", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"])
def test_a_sandbox_key_or_another_vendors_is_not_sent_to_paystack(key):
    with pytest.raises(ConfigError, match="does not have the shape"):
        PaystackClient(key, base_url=BASE_URL)


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
    assert PaystackClient(LIVE_KEY, base_url=BASE_URL).mode == "live"


def test_no_redirect_is_followed(connect):
    with RawServer(ok()) as goal, RawServer(reply(307, b"", Location=goal.url + "/customer")) as server:
        with pytest.raises(Unavailable, match="redirect"):
            connect(server).list()
        with pytest.raises(OutcomeUnknown, match="redirect"):
            connect(server).create("a@b.co")
    assert not goal.connections


def test_tls_is_always_verified():
    connection = Wire(BASE_URL).new_connection()
    context = connection.ssl_context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert (connection.host, connection.port) == ("api.paystack.co", 443)
    names = PaystackClient.__init__.__wrapped__.__code__.co_varnames
    assert not [name for name in names if "verify" in name or "tls" in name or "ssl" in name]


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
        is_closed, is_connected = True, False
        connect = request = getresponse = close = staticmethod(lambda *_, **__: None)

    for name in ("request", "getresponse") if broken == "request" else (broken,):
        monkeypatch.setattr(Connection, name, staticmethod(fail))
    wire = Wire("http://127.0.0.1:9")
    wire.new_connection = Connection
    fault = wire.exchange("GET", "/customer/canary", None, SecretKey.parse(SANDBOX_KEY), wire.check)
    assert isinstance(fault, Fault)
    assert fault.sent is (broken != "connect")
    assert fault.reason
    assert "canary" not in repr(fault)
    assert not wire._busy
