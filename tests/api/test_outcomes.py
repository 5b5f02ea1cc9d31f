"""What every kind of answer, or none, means for a read and for a write: sent how often, and which error."""

import gzip
import json
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paystack_source.api.answers import Answer, Fault, Retry, judge
from paystack_source.api.operations import OPERATIONS
from paystack_source.api.transport import RetryPolicy
from paystack_source.errors import (
    KeyRefused,
    NotFound,
    OutcomeUnknown,
    PaystackError,
    PermissionRefused,
    RateLimited,
    Rejected,
    Unavailable,
)
from tests.api.raw_server import CLOSE, HTML, RESET, SILENCE, Drip, RawServer, ok, refusal, reply
from tests.events import PATIENCE

ATTEMPTS = 6
CUSTOMER = {"id": 1, "customer_code": "CUS_1", "email": "a@b.co"}
GOOD = ok(CUSTOMER)
CUT = reply(200, b'{"status":true,"message":"Done","da')
SHORT = b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"status":true}'
CHUNKED_CUT = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"stat'
NOT_UTF8 = reply(200, b'{"status":true,"message":"Done","data":{"id":1,"first_name":"\xff"}}')
BAD_GZIP = reply(200, b"no gzip at all", Content_Encoding="gzip")
LIMITED = refusal(429, "Rate limit exceeded!", type="api_error", code="rate_limited")
BAD_CURSOR = refusal(500, "Invalid cursor", type="validation_error", code="invalid_params")


def read(client):
    return client.fetch("a@b.co")


def write(client):
    return client.update("CUS_1", phone="08012345678")


ONCE_TROUBLED = {
    "reset": RESET,
    "closed without a word": CLOSE,
    "timeout": SILENCE,
    "500": refusal(500, "Oops", type="api_error"),
    "502 html": reply(502, HTML),
    "503": reply(503, b""),
    "408": reply(408, b"slow"),
    "200 html": reply(200, HTML),
    "200 empty": reply(200, b""),
    "200 cut": CUT,
    "200 shorter than promised": SHORT,
    "200 chunked and cut": CHUNKED_CUT,
    "200 broken gzip": BAD_GZIP,
    "200 a list": reply(200, []),
    "200 no status": reply(200, {"message": "hm", "data": CUSTOMER}),
    "204": reply(204, b""),
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
}


def patience(trouble):
    """Only an answer that never comes is given up, after a second: enough for the next one, which does come."""
    return {"timeout": (PATIENCE, 1.0)} if trouble == SILENCE else {}


@pytest.mark.parametrize("trouble", ONCE_TROUBLED.values(), ids=ONCE_TROUBLED)
def test_a_read_is_sent_again_after_trouble(trouble, connect, clock):
    with RawServer(trouble, GOOD, close_after=trouble in {SHORT, CHUNKED_CUT}) as server:
        client = connect(server, **patience(trouble))
        assert read(client).data == CUSTOMER
    assert len(server.requests) == 2
    assert client.stats.retries == 1
    assert len(clock.rests) == 1
    assert client.stats.waited_seconds == pytest.approx(sum(clock.rests))


@pytest.mark.parametrize("trouble", ONCE_TROUBLED.values(), ids=ONCE_TROUBLED)
def test_a_write_that_left_is_never_sent_again(trouble, connect):
    with RawServer(trouble, GOOD, close_after=trouble in {SHORT, CHUNKED_CUT}) as server:
        client = connect(server, **patience(trouble))
        with pytest.raises(OutcomeUnknown) as caught:
            write(client)
    assert len(server.requests) == 1
    assert caught.value.operation == "update"
    assert "08012345678" not in repr(vars(caught.value))


def test_retries_of_a_read_end(connect, clock):
    with RawServer(refusal(500, "Oops", type="api_error")) as server:
        client = connect(server)
        with pytest.raises(Unavailable) as caught:
            read(client)
    assert len(server.requests) == ATTEMPTS
    assert caught.value.http_status == 500
    # Full jitter: each wait lies between 0 and a ceiling that doubles.
    assert len(clock.rests) == ATTEMPTS - 1
    assert all(0 <= rest <= 0.5 * 2**turn for turn, rest in enumerate(clock.rests))
    assert not any(rest == 0.5 * 2**turn for turn, rest in enumerate(clock.rests))


def test_retries_end_early_when_the_time_is_up(connect, clock):
    with RawServer(refusal(500, "Oops")) as server:
        client = connect(
            server, retry=RetryPolicy(attempts=100, timeout=150.0, wait_initial=60.0, wait_max=60.0)
        )
        with pytest.raises(Unavailable):
            read(client)
    assert len(server.requests) < 15
    assert sum(clock.rests[:-1]) < 150.0 <= sum(clock.rests)


@pytest.mark.parametrize("call", [read, write])
def test_a_429_is_sent_again_after_the_reset(call, connect, clock):
    limited = refusal(429, "Rate limit exceeded!")
    limited = limited.replace(
        b"\r\n\r\n",
        b"\r\nx-ratelimit-limit: 100\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 17\r\n\r\n",
        1,
    )
    with RawServer(limited, limited, GOOD) as server:
        client = connect(server)
        assert call(client).data == CUSTOMER
    assert len(server.requests) == 3
    assert client.stats.rate_limited == 2
    # A second more, for the server's rounding; of the second wait a part is for being refused twice in a row.
    assert [round(rest) for rest in clock.rests] == [18, 8, 10]


@pytest.mark.parametrize("said", ["retry-after: 0", "x-ratelimit-reset: 0", "x-ratelimit-reset: 1500000000"])
def test_refusals_that_say_to_come_back_at_once_are_waited_out_for_a_whole_window(said, connect, clock):
    limited = refusal(429, "Rate limit exceeded!").replace(b"\r\n\r\n", f"\r\n{said}\r\n\r\n".encode(), 1)
    with RawServer(*[limited] * 5, GOOD) as server:
        assert read(connect(server)).data == CUSTOMER
    assert sum(clock.rests) > 60


def test_somebody_who_allows_many_refusals_waits_after_each(connect, clock):
    limited = refusal(429, "Rate limit exceeded!").replace(b"\r\n\r\n", b"\r\nretry-after: 0\r\n\r\n", 1)
    with RawServer(*[limited] * 4, GOOD) as server:
        assert read(connect(server, retry=RetryPolicy(rate_limited_attempts=2000))).data == CUSTOMER
    assert sum(clock.rests) > 20


@pytest.mark.parametrize("call", [read, write])
def test_429s_end_after_more_than_a_window(call, connect, clock):
    with RawServer(LIMITED) as server:
        client = connect(server)
        with pytest.raises(RateLimited) as caught:
            call(client)
    assert len(server.requests) == 6
    assert sum(clock.rests) > 60
    assert caught.value.code == "rate_limited"


AT_ONCE = {
    "400": (refusal(400, "Bad", type="validation_error"), Rejected, Rejected),
    "401": (refusal(401, "Invalid key", code="invalid_Key"), KeyRefused, KeyRefused),
    "401 html": (reply(401, HTML), KeyRefused, KeyRefused),
    "403": (refusal(403, "You cannot modify risk level"), PermissionRefused, PermissionRefused),
    "403 html": (reply(403, HTML), Unavailable, Unavailable),
    "404": (refusal(404, "Not found"), NotFound, NotFound),
    "407": (reply(407, HTML), Unavailable, Unavailable),
    "422": (refusal(422, "Bad"), Rejected, Rejected),
    "302": (reply(302, b"", Location="https://example.com/"), Unavailable, OutcomeUnknown),
    "200 status false": (refusal(200, "No"), Rejected, Rejected),
    "200 status false in words": (reply(200, {"status": "false", "message": "No"}), Rejected, Rejected),
    "500 by the caller's fault": (BAD_CURSOR, Rejected, OutcomeUnknown),
}


@pytest.mark.parametrize(("answer", "for_read", "for_write"), AT_ONCE.values(), ids=AT_ONCE)
def test_what_no_retry_cures_is_sent_once(answer, for_read, for_write, connect):
    for call, error in ((read, for_read), (write, for_write)):
        with RawServer(answer, GOOD) as server, pytest.raises(error) as caught:
            call(connect(server))
        assert type(caught.value) is error
        assert len(server.requests) == 1
        assert caught.value.advice


def test_4xx_html_on_a_read_is_tried_again_and_a_write_is_refused(connect):
    with RawServer(reply(400, HTML), GOOD) as server:
        assert read(connect(server)).data == CUSTOMER
    with RawServer(reply(413, HTML), GOOD) as server, pytest.raises(Rejected):
        write(connect(server))


def test_status_false_with_200_is_tried_again_only_if_paystack_had_trouble(connect):
    trouble = refusal(200, "Try later", type="api_error")
    with RawServer(trouble, GOOD) as server:
        assert read(connect(server)).data == CUSTOMER
    with RawServer(trouble, GOOD) as server, pytest.raises(Rejected):
        write(connect(server))
    assert len(server.requests) == 1


def test_status_true_in_words_is_a_success(connect):
    with RawServer(reply(200, {"status": "true", "message": "Done", "data": CUSTOMER})) as server:
        assert read(connect(server)).data == CUSTOMER


def test_advice_for_addresses_that_are_not_allowed(connect):
    not_allowed = refusal(403, "Your IP address is not allowed to make this call")
    with RawServer(not_allowed) as server, pytest.raises(PermissionRefused, match="IP allow-list"):
        read(connect(server))
    with RawServer(reply(403, HTML)) as server, pytest.raises(Unavailable, match="another network"):
        read(connect(server))


def test_all_that_paystack_says_is_in_the_error(connect):
    body = {
        "status": False,
        "message": "Customer CUS_x1 with +234 801 234 5678 (Ada.Obi@example.com) is odd",
        "meta": {"nextStep": "Check 20012345677"},
        "type": "validation_error",
        "code": "invalid_params",
    }
    with RawServer(reply(400, body)) as server, pytest.raises(Rejected) as caught:
        read(connect(server))
    error = caught.value
    assert error.message == "fetch: Customer [code] with [number] ([email]) is odd"
    assert (error.http_status, error.type, error.code) == (400, "validation_error", "invalid_params")
    assert error.next_step == "Check [number]"
    assert "invalid_params" in str(error)


def test_next_step_is_read_in_both_spellings(connect):
    with (
        RawServer(refusal(400, "No", meta={"next_step": "Do this"})) as server,
        pytest.raises(Rejected) as caught,
    ):
        read(connect(server))
    assert caught.value.next_step == "Do this"


@pytest.mark.parametrize("meta", [None, [], "x", {"nextStep": 7}, {}])
def test_odd_errors_are_still_errors(meta, connect):
    body = {"status": 0, "message": ["odd"], "meta": meta, "type": 1, "code": None}
    with RawServer(reply(400, body)) as server, pytest.raises(Rejected) as caught:
        read(connect(server))
    assert caught.value.next_step is None


def test_a_list_without_rows_array_is_not_a_page(connect):
    with RawServer(ok({"customers": []}), ok([], meta={"total": 0})) as server:
        assert connect(server).list().rows == []
    assert len(server.requests) == 2


def test_a_fetch_without_a_customer_is_no_success(connect):
    with RawServer(ok()) as server, pytest.raises(Unavailable):
        read(connect(server))


def test_gzip_is_understood(connect):
    body = gzip.compress(b'{"status":true,"message":"Done","data":{"id":7}}')
    with RawServer(reply(200, body, Content_Encoding="gzip")) as server:
        assert read(connect(server)).data == {"id": 7}


def test_a_bomb_is_refused(connect, monkeypatch):
    monkeypatch.setattr("paystack_source.api.wire._LARGEST_BODY", 10_000)
    bomb = gzip.compress(b" " * 1_000_000)
    for answer in (reply(200, bomb, Content_Encoding="gzip"), reply(200, b" " * 20_000)):
        with RawServer(answer) as server, pytest.raises(Unavailable, match="larger"):
            read(connect(server))
        assert len(server.requests) == 1


@pytest.mark.parametrize("call", [read, write])
def test_a_refused_connection_is_certainly_not_applied_and_tried_again(call, connect, clock):
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        url = f"http://127.0.0.1:{closed_soon.getsockname()[1]}"
    with pytest.raises(Unavailable, match=f"{url.removeprefix('http://')} could not be reached") as told:
        call(connect(SimpleNamespace(url=url)))
    assert "sandbox" in told.value.advice
    assert len(clock.rests) == ATTEMPTS - 1


def test_a_request_that_never_left_costs_no_quota(connect, clock):
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        url = f"http://127.0.0.1:{closed_soon.getsockname()[1]}"
    with pytest.raises(Unavailable):
        read(connect(SimpleNamespace(url=url), quota=1))
    assert max(clock.rests) < 20  # pauses between attempts, no minute for the quota


def test_a_request_that_left_costs_quota_even_without_an_answer(connect, clock):
    with RawServer(CLOSE, GOOD) as server:
        read(connect(server, quota=1))
    assert max(clock.rests) > 50


def test_a_connection_that_idled_is_not_used_for_a_write(connect, monkeypatch):
    with RawServer(GOOD) as server:
        client = connect(server)
        write(client)
        write(client)
        assert server.connections == 1
        monkeypatch.setattr("paystack_source.api.wire._LONGEST_IDLE", -1.0)
        write(client)
        assert server.connections == 2


def test_a_connection_that_the_server_closed_is_not_used_for_a_write(connect):
    with RawServer(GOOD, close_after=True) as server:
        client = connect(server)
        for _ in range(5):
            write(client)
            server.closed.acquire()
    assert server.connections == 5


DRIPS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "head": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "endless 100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b"x"),
    "size of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n"),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_an_answer_that_drips_for_ever_is_cut_off(drip, connect):
    """No byte is waited for long, but the whole is: a read is sent again, of a write the outcome is unknown."""
    with RawServer(Drip(*drip)) as server:
        client = connect(server, timeout=(PATIENCE, 0.2), retry=RetryPolicy(attempts=2))
        with pytest.raises(Unavailable, match="within the time limit"):
            read(client)
        with pytest.raises(OutcomeUnknown, match="within the time limit"):
            write(client)
    assert len(server.requests) == 2 + 1


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (r"\ud83d\ude00", "\U0001f600"),
        (r"Ada \ud83d", "Ada \ufffd"),
        (r"\ude00 Ada", "\ufffd Ada"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\\ud83d", r"\ud83d"),
        (r"\\\ud83d", "\\\ufffd"),
        (r"\uD83D\n\u00e9", "\ufffd\n\u00e9"),
    ],
)
def test_half_an_emoji_in_a_name_does_not_make_its_page_unreadable(written, read_as, connect):
    body = b'{"status":true,"message":"","data":[{"id":1,"first_name":"%s"}],"meta":{}}' % written.encode()
    with RawServer(reply(200, body)) as server:
        page = connect(server).list()
    assert page.rows == [{"id": 1, "first_name": read_as}]
    assert len(server.requests) == 1


@pytest.mark.parametrize("rows", [b"[1]", b"[[]]", b'[{"id":1e999}]', b'["x"]', b"[null]"])
def test_rows_that_are_none_are_told_and_not_skipped(rows, connect):
    with RawServer(reply(200, b'{"status":true,"data":%s}' % rows)) as server:
        client = connect(server)
        page = client.list()
        with pytest.raises(Unavailable, match="cannot be read"):
            page.rows  # noqa: B018
        with pytest.raises(Unavailable):
            list(client.iterate())


def test_a_row_that_is_none_costs_no_other_and_is_named(connect, caplog):
    with RawServer(reply(200, b'{"status":true,"data":[{"id":1},null,{"id":2}]}')) as server:
        page = connect(server).list()
    assert page.rows == [{"id": 1}, {"id": 2}]
    assert "1 of 3 rows" in caplog.text


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"status":false,"message":["too long","no letters"]}', "too long; no letters"),
        (b'{"status":false,"message":{"phone":["too short"]}}', "phone: too short"),
        (
            b'{"status":false,"message":"Invalid","errors":[{"field":"email","message":"is taken"},"and more"]}',
            "Invalid: email: is taken; and more",
        ),
        (
            b'{"status":false,"message":"Invalid","errors":{"bvn":[{"rule":"x","message":"is no number"}]}}',
            "Invalid: bvn: is no number",
        ),
        (b'{"status":false,"message":null,"errors":[]}', "no message from Paystack"),
    ],
    ids=str,
)
def test_what_paystack_lists_reaches_the_user(body, told, connect):
    with RawServer(reply(400, body)) as server, pytest.raises(Rejected) as refused:
        connect(server).fetch("CUS_1")
    assert refused.value.message.endswith(told)


def test_nesting_without_end_is_no_answer(connect):
    deep = b'{"status":true,"data":' + b"[" * 100_000
    with RawServer(reply(200, deep), GOOD) as server:
        assert read(connect(server)).data == CUSTOMER


def test_a_success_with_unreadable_data_is_a_success(connect):
    with RawServer(reply(200, b'{"status":true,"message":"Done","data":{"id":1e999}}')) as server:
        assert write(connect(server)).data is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PARTS = dict.fromkeys(("message", "data", "meta", "type", "code"), JSON)
ENVELOPES = st.fixed_dictionaries(
    {}, optional={"status": st.sampled_from([True, False, "true", "false", 1, None]), **PARTS}
)
BODIES = (
    st.binary(max_size=80)
    | JSON.map(lambda value: json.dumps(value).encode())
    | ENVELOPES.map(lambda value: json.dumps(value).encode())
)


@settings(max_examples=150)
@given(status=st.integers(200, 599), body=BODIES, name=st.sampled_from(sorted(OPERATIONS)))
def test_any_answer_has_a_verdict(status, body, name):
    operation = OPERATIONS[name]
    verdict, again = judge(operation, Answer(status, {}, body))
    if again is None:
        assert 200 <= status < 300
        assert verdict.status in (True, "true")
        return
    assert isinstance(verdict, PaystackError)
    assert verdict.http_status == status
    if operation.writes:
        # Never sent again but after a 429, and never called safe unless the status says so.
        assert again in ({Retry.QUOTA} if status == 429 else {Retry.NO})
        if status >= 500 or status == 408:
            assert isinstance(verdict, OutcomeUnknown)
    else:
        assert not isinstance(verdict, OutcomeUnknown)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_only_what_surely_never_left_is_sent_again_as_a_write(operation):
    left, after_leaving = judge(operation, Fault("broke", sent=True))
    never, again = judge(operation, Fault("broke", sent=False))
    assert again is Retry.BACKOFF
    assert isinstance(never, Unavailable)
    assert after_leaving is (Retry.NO if operation.writes else Retry.BACKOFF)
    assert isinstance(left, OutcomeUnknown if operation.writes else Unavailable)


def test_a_byte_that_is_no_utf8_costs_one_character_and_no_customer(connect, caplog):
    body = b'{"status":true,"message":"Done","data":[{"id":1,"first_name":"Ng\xffeno"},{"id":2}],"meta":{"total":2}}'
    with RawServer(NOT_UTF8, reply(200, body)) as server:
        client = connect(server)
        assert read(client).data == {"id": 1, "first_name": "\ufffd"}
        assert [row.get("first_name") for row in client.list(page=7).rows] == ["Ng\ufffdeno", None]
    assert len(server.requests) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.name == "paystack_source"]
    assert "page=7" in line
    assert "a byte that is not UTF-8" in line
