"""Where the key, the base URL and the quota are looked up, and what is said if they are missing or wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paystack_source import settings
from paystack_source.api.client import PaystackClient
from paystack_source.errors import ConfigError
from tests.api.raw_server import RawServer, ok
from tests.processes import python

NAMES = (settings.KEY_NAME, settings.PLAIN_KEY_NAME, settings.BASE_URL_NAME, settings.QUOTA_NAME)
LOOK = """
import json, sys
from paystack_source import settings
from paystack_source.api.keys import SecretKey
from paystack_source.errors import ConfigError
try:
    key = SecretKey.find().reveal()
except ConfigError as error:
    key = str(error)
print(json.dumps([key, settings.find_base_url(), settings.find_quota(), "dlt" in sys.modules]))
"""


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def look(tmp_path, monkeypatch):
    """`look(secrets=..., config=..., NAME=...)`: what a new process finds in a folder with these files."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))

    def run(secrets=None, config=None, interpreter=None, **environment):
        folder = tmp_path / ".dlt"
        for name, text in (("secrets.toml", secrets), ("config.toml", config)):
            if text is not None:
                folder.mkdir(exist_ok=True)
                (folder / name).write_text("[sources.paystack]\n" + text)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        done = subprocess.run(
            [interpreter or python(), "-c", LOOK], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_without_anything_it_says_where_it_looked(look):
    key, base_url, quota, _ = look()
    assert key.startswith("There is no Paystack key")
    for place in (settings.KEY_NAME, ".dlt/secrets.toml", settings.PLAIN_KEY_NAME):
        assert place in key
    assert (base_url, quota) == ("https://api.paystack.co", None)


def test_without_a_key_of_its_own_the_accounts_that_have_one_are_named(look):
    key, *_ = look(SOURCES__PAYSTACK__ACCOUNTS__NG__SECRET_KEY="sk_test_of_ng")
    assert "Or name an account, by --account or account_name: ng." in key
    assert "sk_test" not in key


def test_dlts_files_are_read(look):
    found = look(
        secrets='secret_key = "sk_test_from_file"',
        config='base_url = "http://127.0.0.1:8080"\nquota = 250',
    )
    assert found[:3] == ["sk_test_from_file", "http://127.0.0.1:8080", 250]


def test_the_environment_wins_over_files_and_dlt_is_not_loaded(look):
    found = look(
        secrets='secret_key = "sk_test_from_file"',
        config='base_url = "http://127.0.0.1:8080"\nquota = 250',
        PAYSTACK_SECRET_KEY="sk_test_from_plain",
        SOURCES__PAYSTACK__SECRET_KEY="sk_test_from_env",
        SOURCES__PAYSTACK__BASE_URL="http://127.0.0.1:9090",
        SOURCES__PAYSTACK__QUOTA="0",
        interpreter=sys.executable,
    )
    assert found == ["sk_test_from_env", "http://127.0.0.1:9090", 0, False]


def test_the_plain_name_in_the_environment_wins_over_a_file_that_somebody_left(look):
    found = look(secrets='secret_key = "sk_test_from_file"', PAYSTACK_SECRET_KEY="sk_test_from_plain")
    assert found[0] == "sk_test_from_plain"


def test_the_plain_name_is_enough(look):
    assert look(PAYSTACK_SECRET_KEY="sk_test_from_plain")[0] == "sk_test_from_plain"
    assert look(PAYSTACK_SECRET_KEY=" ")[0].startswith("The Paystack key is blank")


def test_an_argument_wins_over_all(monkeypatch):
    monkeypatch.setenv(settings.KEY_NAME, "sk_test_from_env")
    monkeypatch.setenv(settings.BASE_URL_NAME, "http://127.0.0.1:9090")
    monkeypatch.setenv(settings.QUOTA_NAME, "7")
    with PaystackClient("sk_test_given", base_url="http://127.0.0.1:1") as client:
        assert client.key.reveal() == "sk_test_given"
    assert settings.find_base_url("http://127.0.0.1:1") == "http://127.0.0.1:1"
    assert settings.find_quota(5) == 5


@pytest.mark.parametrize("text", ["-1", "many", "1.5", "1e3", "٣", "True"])
def test_a_quota_that_is_no_number_is_refused(text, monkeypatch):
    monkeypatch.setenv(settings.QUOTA_NAME, text)
    with pytest.raises(ConfigError, match="whole number") as caught:
        settings.find_quota()
    assert settings.QUOTA_NAME in caught.value.advice
    assert caught.value.exit_code == 2


def test_a_quota_of_true_is_a_slip():
    with pytest.raises(ConfigError, match="whole number"):
        settings.find_quota(True)


@pytest.mark.parametrize(("text", "number"), [("0", 0), (" 60 ", 60), ("600", 600)])
def test_a_quota_is_read(text, number, monkeypatch):
    monkeypatch.setenv(settings.QUOTA_NAME, text)
    assert settings.find_quota() == number


@pytest.mark.parametrize(
    ("key", "quota", "limit"),
    [
        ("sk_test_sandbox", None, 100),
        ("sk_live_" + "0" * 40, None, 600),
        ("sk_test_sandbox", "40", 40),
        ("sk_test_sandbox", "0", None),
    ],
)
def test_the_quota_of_a_client(key, quota, limit, monkeypatch):
    if quota is not None:
        monkeypatch.setenv(settings.QUOTA_NAME, quota)
    url = "https://api.paystack.co" if "live" in key else "http://127.0.0.1:9"
    assert PaystackClient(key, base_url=url)._transport.quotas["list"].budget.limit == limit


def test_a_client_finds_everything_in_the_environment(monkeypatch):
    with RawServer(ok([{"id": 1}])) as server:
        monkeypatch.setenv(settings.PLAIN_KEY_NAME, "sk_test_sandbox")
        monkeypatch.setenv(settings.BASE_URL_NAME, server.url)
        monkeypatch.setenv(settings.QUOTA_NAME, "0")
        with PaystackClient() as client:
            assert client.list().rows == [{"id": 1}]
