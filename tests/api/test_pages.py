"""What an answer is to who asked: pages that are walked, and what Paystack sent, as it sent it."""

import pickle

import pytest

from paystack_source.errors import ConfigError, OutcomeUnknown, Rejected, Unavailable
from paystack_source.settings import installed_version
from tests.api.raw_server import RawServer, ok, reply


def walk(page):
    """The pages from this one on."""
    while page is not None:
        yield page
        page = page.next()


@pytest.mark.parametrize(
    "way", [{"use_cursor": True}, {"page": 1}, {"page": "1", "per_page": "10"}, {}], ids=str
)
def test_pages_are_walked_to_their_end(way, sandbox, connect):
    server = sandbox(customers=35)
    pages = list(walk(connect(server).list(**{"per_page": 10} | way)))
    assert [len(page) for page in pages] == [10, 10, 10, 5]
    assert [page.has_more for page in pages] == [True, True, True, False]
    assert [row["id"] for page in pages for row in page] == sorted(
        (row["id"] for row in server.customers_truth()), reverse=True
    )


def test_a_walk_keeps_its_filters_and_may_begin_in_the_middle(sandbox, connect):
    server = sandbox(customers=30)
    client = connect(server)
    rows = list(client.iterate())
    since = rows[19]["createdAt"]
    assert [row for page in walk(client.list(per_page=6, from_=since)) for row in page] == rows[:20]
    third = client.list(page=3, per_page=10)
    assert list(third) == rows[20:]
    assert (third.has_more, third.next()) == (False, None)


def test_a_page_past_the_end_is_empty_and_the_last(sandbox, connect):
    page = connect(sandbox(customers=3)).list(page=9)
    assert (len(page), list(page), page.has_more, page.next()) == (0, [], False, None)


def test_a_page_comes_back_from_a_pickle_without_its_client(sandbox, connect):
    page = connect(sandbox(customers=3)).list(per_page=2, page=1)
    again = pickle.loads(pickle.dumps(page))
    assert again == page
    assert again.headers["DATE"] == page.headers["date"]
    assert again.has_more
    with pytest.raises(ConfigError, match="has no client"):
        again.next()


@pytest.mark.parametrize("data", [[{"id": 1}], []])
@pytest.mark.parametrize("meta", [{"next": "{}"}, {"page": 1, "pageCount": 10**7}])
def test_a_walk_that_finds_nobody_new_ends(connect, data, meta):
    answers = [
        ok(data, meta={k: v.format(n) if k == "next" else v for k, v in meta.items()}) for n in range(40)
    ]
    with RawServer(*answers) as server:
        assert list(connect(server).iterate()) == data
        assert len(server.requests) <= 13


META = {"total": 2, "skipped": 0, "perPage": 50, "page": 1, "pageCount": 1, "new": {"a": None}}


def test_what_paystack_sent_is_there_as_it_was_sent(connect):
    body = {"status": True, "message": "Done", "data": [], "meta": META}
    with RawServer(
        reply(200, body, CF_Ray="8a1-LHR"), reply(201, body | {"data": {"id": 1}}, CF_Ray="8a2-LHR")
    ) as server:
        client = connect(server)
        page, made = client.list(), client.create("a@b.co")
    assert (page.status, page.raw_meta, page.headers["cf-ray"]) == (200, META, "8a1-LHR")
    assert (made.status, made.meta, made.headers["CF-RAY"]) == (201, META, "8a2-LHR")
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(("status", "kind"), [(400, Rejected), (500, OutcomeUnknown)])
def test_errors_have_it_too_without_what_is_personal(status, kind, connect):
    meta = {"nextStep": "Ask Ada of a@b.co", "at": ["+2348012345678"], "retry": False, "c@d.co": None}
    body = {"status": False, "message": "No", "meta": meta}
    answer = reply(status, body, CF_Ray="8a1-LHR", Set_Cookie="__cf=a@b.co", Location="/customer/a@b.co")
    with RawServer(answer) as server, pytest.raises(kind) as caught:
        connect(server).update("CUS_1", first_name="Ada")
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.http_status == status
    assert error.meta == {
        "nextStep": "Ask [value] of [email]",
        "at": "['[number]']",
        "retry": False,
        "[email]": None,
    }
    assert error.headers["Cf-Ray"] == "8a1-LHR"
    assert {name.lower() for name in error.headers} == {"cf-ray", "content-length"}


def test_an_error_without_an_answer_has_none(connect):
    server = RawServer(ok())
    server._listener.close()
    with pytest.raises(Unavailable) as caught:
        connect(server).list()
    assert (caught.value.http_status, caught.value.meta, caught.value.headers) == (None, None, None)


def test_paystack_is_told_which_version_asks(connect):
    with RawServer(ok([])) as server:
        connect(server).list()
    assert installed_version()[0].isdigit()
    assert f"User-Agent: paystack-source/{installed_version()}\r\n" in server.requests[0]
    assert "Cache-Control: no-cache\r\n" in server.requests[0]


@pytest.mark.parametrize("timeout", [5, 2.5, (5, 30), [5, 30.0]])
def test_a_timeout_is_one_number_or_two(timeout, connect):
    with RawServer(ok([])) as server:
        client = connect(server, timeout=timeout)
        assert client.list().rows == []
    assert client.answer_timeout == (30.0 if isinstance(timeout, tuple | list) else timeout)


@pytest.mark.parametrize(("asks", "waits"), [("7", 7), ("0", 0), ("soon", 0)])
def test_retry_after_is_waited_for(asks, waits, connect, clock):
    busy = reply(503, b"", Retry_After=asks)
    with RawServer(busy, ok([])) as server:
        assert connect(server).list().rows == []
    assert waits <= sum(clock.rests) <= waits + 0.5


def test_more_than_there_is_time_for_is_not_waited_for(connect, clock):
    with RawServer(reply(503, b"", Retry_After="3600")) as server, pytest.raises(Unavailable) as caught:
        connect(server).list()
    assert len(server.requests) == 1
    assert not clock.rests
    assert caught.value.headers["retry-after"] == "3600"
