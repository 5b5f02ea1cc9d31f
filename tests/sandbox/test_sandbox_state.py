"""The state file, the invented customers, and the life of a sandbox."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sqlite3
import subprocess
import sys
import unicodedata
from collections import Counter
from datetime import UTC, datetime

import pytest

from paystack_source.sandbox import Sandbox, SandboxConfig, StateUnusableError
from paystack_source.sandbox.people import DAY, People, times
from tests.sandbox.caller import AT, Caller, truth


def test_what_one_sandbox_writes_the_next_reads(tmp_path):
    path = tmp_path / "deep" / "state.sqlite"
    with Sandbox(30, state=path, until=AT, limit=0) as first:
        ask = Caller(first)
        code = ask.create(email="kept@example.com").rows["customer_code"]
        other = next(first.customers_truth())["customer_code"]
        ask.risk(customer=other, risk_action="deny")
        ask.identify(other)
        card_owner = next(
            row["customer_code"] for row in truth(first) if first.authorizations(row["customer_code"])
        )
        card = first.authorizations(card_owner)[0]
        ask.deactivate(card)
        before = truth(first)
    with Sandbox(999, state=path, seed=5, limit=0, verdict_delay=0) as second:
        ask = Caller(second)
        assert truth(second) == before
        assert ask.list(perPage=100).rows == before
        assert ask.fetch(code).status == 200
        assert ask.fetch(other).rows["risk_action"] == "deny"
        assert ask.deactivate(card).status == 404
        assert len(second.write_log()) == 4
        fresh = second.add_customers(200)
        assert len(set(fresh) & {row["customer_code"] for row in before}) == 0


def test_another_process_reads_and_a_killed_one_loses_nothing(tmp_path):
    path = tmp_path / "state.sqlite"
    script = (
        "import os, sys, urllib.request; from paystack_source.sandbox import Sandbox\n"
        "with Sandbox(20, state=sys.argv[1]) as s:\n"
        '    body = b\'{"email": "killed@example.com"}\'\n'
        "    headers = {'Authorization': 'Bearer ' + s.secret_key, 'Content-Type': 'application/json'}\n"
        "    urllib.request.urlopen(urllib.request.Request(s.url + '/customer', body, headers)).read()\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 9
    with Sandbox(state=path) as sandbox:
        assert len(sandbox) == 21
        assert Caller(sandbox).fetch("killed@example.com").status == 200


def test_one_sandbox_at_a_time_on_a_file(tmp_path):
    path = tmp_path / "state.sqlite"
    with Sandbox(5, state=path), pytest.raises(StateUnusableError, match="in use"):
        Sandbox(5, state=path).start()
    with Sandbox(5, state=path) as again:
        assert len(again) == 5


def test_foreign_files_are_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to look like one" * 100)
    with pytest.raises(StateUnusableError, match="not the state"):
        Sandbox(state=text).start()
    other = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    before = other.read_bytes()
    with pytest.raises(StateUnusableError, match="not the state"):
        Sandbox(state=other).start()
    assert other.read_bytes() == before


def test_the_state_of_another_user_is_named_as_such(tmp_path, of_another_user):
    path = tmp_path / "state.sqlite"
    with Sandbox(5, state=path):
        pass
    with pytest.raises(StateUnusableError, match="may not be opened by this user"):
        Sandbox(5, state=of_another_user(path)).start()


def test_test_and_live_are_separate_worlds(tmp_path):
    path = tmp_path / "state.sqlite"
    with Sandbox(3, state=path):
        pass
    with pytest.raises(StateUnusableError, match="the other mode"):
        Sandbox(3, state=path, mode="live").start()


def test_a_temporary_state_is_gone_afterwards_and_stop_may_come_twice():
    sandbox = Sandbox(3).start()
    path = sandbox.state
    assert path.exists()
    sandbox.stop()
    sandbox.stop()
    assert not path.parent.exists()


def test_a_taken_port_is_an_os_error():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="address already in use"),
    ):
        Sandbox(1, port=taken.getsockname()[1]).start()


def test_nothing_works_before_the_start():
    with pytest.raises(RuntimeError, match="not running"):
        len(Sandbox(1))


# --- people --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people():
    maker = People(1, "test")
    return [json.loads(maker.make(second, int(AT)).row) for second in times(20_000, int(AT), 1)]


def test_the_same_seed_makes_the_same_customers():
    def made(seed):
        with Sandbox(200, seed=seed, until=AT) as sandbox:
            return list(sandbox.customers_truth())

    assert made(3) == made(3)
    assert made(3) != made(4)


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_as_many_as_asked_for_in_time_order(count):
    found = list(times(count, int(AT), 1))
    assert len(found) == count
    assert found == sorted(found)
    assert all(AT - 3 * 365 * DAY <= second < AT for second in found)


def test_ids_codes_and_emails_are_unique_and_look_real(people):
    for name in ("id", "customer_code", "email"):
        assert len({row[name] for row in people}) == len(people)
    assert [row["id"] for row in people] == sorted(row["id"] for row in people)
    assert all(10**7 < row["id"] < 10**9 for row in people)
    assert all(re.fullmatch(r"CUS_[0-9a-z]{15}", row["customer_code"]) for row in people)
    assert all(re.search(r"@([a-z]+\.)?example\.(com|org|net)$", row["email"]) for row in people)


def test_times_are_whole_seconds_and_edits_come_after(people):
    for row in people:
        for name in ("createdAt", "updatedAt"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", row[name])
        assert row["createdAt"] <= row["updatedAt"]
    now = datetime.fromtimestamp(AT, UTC).isoformat()
    assert max(row["updatedAt"] for row in people) < now
    assert 0.1 < sum(row["createdAt"] != row["updatedAt"] for row in people) / len(people) < 0.4


def test_bursts_and_quiet_months():
    found = list(times(20_000, int(AT), 1))
    assert max(Counter(found).values()) >= 24
    months = Counter(datetime.fromtimestamp(second, UTC).strftime("%Y-%m") for second in found)
    assert min(months.values()) * 10 < max(months.values())


def test_names_of_every_script_nulls_blanks_and_traps(people):
    names = {row["first_name"] for row in people} | {row["last_name"] for row in people}
    assert {None, "", "O'Neil", "null", "=SUM(A1:A9)", "line\nbreak"} <= names
    text = "".join(filter(None, names))
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in text}
    assert {
        "HEBREW",
        "ARABIC",
        "CYRILLIC",
        "GREEK",
        "CJK",
        "HANGUL",
        "ETHIOPIC",
        "THAI",
        "DEVANAGARI",
    } <= scripts
    assert "\U0001f389" in text


def test_phones_are_free_text(people):
    phones = {row["phone"] for row in people}
    assert {None, ""} <= phones
    begins = {phone[:4] for phone in phones if phone}
    assert {"+234", "+233", "+254", "0803"} <= begins
    assert any(row["phone"] and row["phone"].startswith("+27") for row in people)
    assert any(row["phone"] and "/" in row["phone"] for row in people)


def test_metadata_of_every_kind_but_always_object_or_null(people):
    kinds = Counter(type(row["metadata"]) for row in people)
    assert set(kinds) == {dict, type(None)}
    found = [row["metadata"] for row in people if row["metadata"] is not None]
    assert {} in found
    assert {"calling_code": "+27"} in found
    assert any(isinstance(value, list) for metadata in found for value in metadata.values())


def test_a_few_are_allowed_or_denied(people):
    risks = Counter(row["risk_action"] for row in people)
    assert set(risks) == {"default", "allow", "deny"}
    assert risks["default"] > 0.9 * len(people)


# --- configuration -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        *({"to_bound": "maybe"}, {"window_seconds": 0}, {"per_page_cap": 0}, {"no_such": 1}, {"faults": "x"}),
        *({"short_pages": 5}, {"type_drift": -0.1}, {"latency": float("nan")}, {"limit": -5}),
        {"verdict_delay": -1.0},
    ],
)
def test_wrong_switches_are_refused(wrong, sandbox):
    with pytest.raises(ValueError):
        Sandbox(1, **wrong)
    running = sandbox(1)
    with pytest.raises(ValueError):
        running.configure(**wrong)
    assert running.config.to_bound == SandboxConfig().to_bound


def test_the_demo_sandbox_says_that_its_quota_is_not_paystacks():
    with Sandbox.for_demo(12) as sandbox:
        assert sandbox.describe() == (
            f"sandbox at {sandbox.url}, 12 customers, test mode, quota 600 requests per 2 s and endpoint "
            "(Paystack: 100 per 60 s with a test key)"
        )
        sandbox.configure(limit=None, window_seconds=60, faults="cut=0.1,html=0.1")
        assert sandbox.describe().endswith("quota 100 requests per 60 s and endpoint, faults: cut, html")
        sandbox.configure(limit=0)
        assert "no quota (Paystack: 100 per 60 s" in sandbox.describe()
