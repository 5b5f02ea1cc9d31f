"""A request in two halves: a thread with several under way gets all their answers, and never waits for itself."""

import threading

import pytest
from urllib3.connection import HTTPConnection

from paystack_source.api.client import PaystackClient
from paystack_source.api.transport import RetryPolicy
from paystack_source.errors import ConfigError, Rejected
from tests.api.raw_server import RawServer, ok, refusal
from tests.events import PATIENCE


@pytest.mark.parametrize("connections", [1, 2, 8])
def test_requests_under_way_share_few_connections(sandbox, connections):
    server = sandbox(customers=600)
    with PaystackClient(server.secret_key, base_url=server.url, quota=0, max_in_flight=connections) as client:
        assert len(five_pages(client)) == 500


@pytest.mark.parametrize("refused", [2, 6])
def test_a_429_among_requests_under_way_is_waited_out(refused, sandbox, clock):
    server = sandbox(customers=600, limit=100, faults=f"limited@list#{refused}", clock=clock.wall)
    with PaystackClient(server.secret_key, base_url=server.url, clock=clock) as client:
        client.list()  # from here on the headers tell what is left, so that five may go at once
        assert len(five_pages(client)) == 500
        assert client.stats.rate_limited == 1


def test_what_was_abandoned_holds_no_connection_and_no_quota(sandbox):
    server = sandbox(customers=600)
    with PaystackClient(server.secret_key, base_url=server.url, quota=100, max_in_flight=1) as client:
        finish = client.begin_list(page=1)
        client.abandon()
        assert client.quota_use("list") == (1, 100)  # it was sent, and may count
        assert len(five_pages(client)) == 500
        assert len(finish().rows) == 100  # asked again


def five_pages(client):
    """The ids on pages that were all begun before the first was asked for; fails if that never ends."""
    numbers = []

    def ask():
        waiting = [client.begin_list(page=page, per_page=100) for page in range(1, 6)]
        numbers.extend(row["id"] for finish in waiting for row in finish().rows)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    assert not asking.is_alive(), "it waits for what only it could give back"
    return set(numbers)


def test_what_the_quota_does_not_let_go_yet_is_sent_later(sandbox):
    server = sandbox(customers=600)
    with PaystackClient(server.secret_key, base_url=server.url, quota=100) as client:
        first, second = (client.begin_list(page=page, per_page=100) for page in (1, 2))
        assert client.stats.requests == 1  # the first goes alone, to learn what others have used
        assert len(first().rows) == len(second().rows) == 100
        assert client.stats.requests == 2


def test_closing_tells_those_who_wait_for_a_connection(sandbox):
    server = sandbox(customers=50)
    client = PaystackClient(server.secret_key, base_url=server.url, quota=0, max_in_flight=1)
    told, waiting = [], threading.Barrier(3)
    wire_begin = client._wire.begin

    def begin(*what, at_once=False, **how):
        if not at_once:
            waiting.wait(PATIENCE)
        return wire_begin(*what, at_once=at_once, **how)

    def ask():
        with pytest.raises(ConfigError, match="This client was closed"):
            client.list()
        told.append(True)

    finish = client.begin_list()  # it has the only connection
    client._wire.begin = begin
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting.wait(PATIENCE)
    client.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert told == [True, True]
    assert len(finish().rows) == 50  # what was under way comes to its end
    with pytest.raises(ConfigError, match="This client was closed"):
        client.list()


def test_an_interrupted_request_gives_its_connection_back_and_nobody_waits_for_its_answer(
    sandbox, monkeypatch
):
    server = sandbox(customers=50)
    with PaystackClient(server.secret_key, base_url=server.url, quota=100, max_in_flight=1) as client:
        with monkeypatch.context() as interrupted:
            interrupted.setattr(HTTPConnection, "request", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.list()
        assert client.quota_use("list") == (1, 100)  # it may have left
        assert len(five_pages(client)) == 50


def test_an_answer_that_lay_unread_was_no_trouble(clock, connect):
    with RawServer(refusal(500, type="api_error"), ok([])) as server:
        client = connect(server, retry=RetryPolicy(patience=10.0))
        finish = client.begin_list()
        clock.moment += 60.0  # other work
        assert finish().rows == []


def test_whoever_waits_to_try_again_holds_no_answer_unread(clock, connect):
    held = []
    with RawServer(refusal(500, type="api_error"), ok([])) as server:
        client = connect(server)
        clock.rest = lambda seconds, _wake: (
            held.append(connections - client._wire._free) or clock.pass_by(seconds)
        )
        connections = client._wire._free
        first, second = client.begin_list(), client.begin_list()
        assert connections - client._wire._free == 2
        assert first().rows == second().rows == []
    assert held == [0]


@pytest.mark.parametrize("broken", [BrokenPipeError, ConnectionResetError])
def test_an_answer_that_came_before_all_was_sent_counts(broken, connect, monkeypatch):
    whole = HTTPConnection.request

    def cut(*what, **how):
        whole(*what, **how)
        raise broken

    monkeypatch.setattr(HTTPConnection, "request", cut)
    with RawServer(refusal(400, "too large")) as server, pytest.raises(Rejected, match="too large"):
        connect(server).update("CUS_1", metadata={"note": "x" * 1000})
    assert len(server.requests) == 1


def _interrupt(*_args, **_options):
    raise KeyboardInterrupt
