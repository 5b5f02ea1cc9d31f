"""Who may call, and how often."""

from __future__ import annotations

import pytest

from tests.sandbox.caller import AT, Caller, Clock

LIMITS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.fixture
def call(sandbox):
    def start(**switches):
        clock = Clock()
        caller = Caller(sandbox(5, **({"until": AT, "clock": clock} | switches)))
        caller.clock = clock
        return caller

    return start


def limits(got):
    return tuple(got.headers.get(name) for name in LIMITS)


# --- keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["sk_live_sandbox", "pk_test_sandbox", "sk_test_sandboxx", "SK_TEST_SANDBOX"])
def test_other_keys_are_invalid(call, key):
    got = Caller(call().sandbox, key=key).list()
    assert got.status == 401
    assert got.json | {"meta": None} == {
        "status": False,
        "message": "Invalid key",
        "meta": None,
        "type": "validation_error",
        "code": "invalid_Key",
    }
    assert got.meta["nextStep"]


def test_no_key_at_all(call):
    got = call()("GET", "/customer", headers={"Authorization": ""})
    assert (got.status, got.json["message"]) == (401, "No Authorization Header was found")


def test_a_key_without_bearer_is_invalid(call):
    ask = call()
    assert ask("GET", "/customer", headers={"Authorization": ask.key}).status == 401


def test_live_mode_has_its_own_key_and_domain(call):
    ask = call(mode="live")
    assert ask.key == "sk_live_sandbox"
    assert {row["domain"] for row in ask.list().rows} == {"live"}
    assert Caller(ask.sandbox, key="sk_test_sandbox").list().status == 401


def test_more_keys_can_be_let_in(call):
    assert Caller(call(secret_keys="sk_test_mine").sandbox, key="sk_test_mine").list().status == 200


def test_an_address_that_is_not_allowed(call):
    got = call(ip_allowed=False).list()
    assert (got.status, got.json["message"]) == (403, "Your IP address is not allowed to make this call")


# --- quota ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "limit"), [("test", "100"), ("live", "600")])
def test_the_documented_limit_of_each_mode(call, mode, limit):
    assert limits(call(mode=mode, limit=None).list()) == (limit, str(int(limit) - 1), "60")


def test_the_window_is_fixed_and_the_429_is_as_documented(call):
    ask = call(limit=3)
    assert [ask.list().status for _ in range(3)] == [200, 200, 200]
    ask.clock.now += 20.5
    got = ask.list()
    assert got.status == 429
    assert got.json == {
        "status": False,
        "message": "Rate limit exceeded!",
        "meta": {"nextStep": "Wait for a few minutes before making another request"},
        "type": "api_error",
        "code": "rate_limited",
    }
    assert limits(got) == ("3", "0", "40")
    assert "retry-after" not in got.headers
    ask.clock.now += 39.4
    assert ask.list().status == 429
    ask.clock.now += 0.1
    assert limits(ask.list()) == ("3", "2", "60")
    assert ask.sandbox.stats.rate_limited == 2


def test_a_refused_request_has_no_effect(call):
    ask = call(limit=1)
    ask.create(email="a@example.com")
    assert ask.create(email="b@example.com").status == 429
    assert len(ask.sandbox) == 6
    assert len(ask.sandbox.write_log()) == 1


def test_endpoints_have_windows_of_their_own(call):
    ask = call(limit=1)
    code = next(ask.sandbox.customers_truth())["customer_code"]
    assert ask.list().status == 200
    assert ask.fetch(code).status == 200
    assert ask.fetch("CUS_other").status == 429
    assert ask.update(code, phone="1").status == 200
    assert ask.list().status == 429


def test_one_window_for_the_whole_integration(call):
    ask = call(limit=1, quota_scope="integration")
    assert ask.list().status == 200
    assert ask.fetch("CUS_other").status == 429


def test_windows_on_the_minute(call):
    ask = call(limit=1, window_anchor="epoch")
    left = 60 - AT % 60
    assert limits(ask.list())[2] == str(int(left))
    ask.clock.now += left - 0.5
    assert ask.list().status == 429
    ask.clock.now += 0.5
    assert ask.list().status == 200


def test_window_length_and_limit_can_change_while_it_runs(call):
    ask = call(limit=1, window_seconds=2)
    assert limits(ask.list())[2] == "2"
    assert ask.list().status == 429
    ask.sandbox.configure(limit=5)
    assert limits(ask.list())[:2] == ("5", "4")


def test_headers_only_on_429_or_never(call):
    ask = call(limit=1, headers="on_429")
    assert limits(ask.list()) == (None, None, None)
    assert limits(ask.list()) == ("1", "0", "60")
    ask.sandbox.configure(headers="never")
    assert limits(ask.list()) == (None, None, None)


def test_reset_as_epoch_and_retry_after(call):
    ask = call(limit=1, reset_form="epoch", retry_after=True)
    first = ask.list()
    assert first.headers["x-ratelimit-reset"] == str(int(AT) + 60)
    assert "retry-after" not in first.headers
    assert ask.list().headers["retry-after"] == "60"


def test_no_quota(call):
    ask = call(limit=0)
    assert limits(ask.list()) == (None, None, None)


def test_unknown_keys_use_no_quota(call):
    ask = call(limit=1)
    Caller(ask.sandbox, key="sk_test_other").list()
    assert ask.list().status == 200


def test_stats_count_requests_by_endpoint(call):
    ask = call()
    ask.list()
    ask.list(use_cursor="true")
    ask.create(email="a@example.com")
    Caller(ask.sandbox, key="sk_test_other").list()
    ask("GET", "/nowhere")
    stats = ask.sandbox.stats
    assert stats.requests == {"list": 3, "create": 1, "unknown": 1}
    assert (stats.total, stats.refused_keys, stats.statuses[200]) == (5, 1, 3)
    stats.clear()
    assert stats.total == 0
