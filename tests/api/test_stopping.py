"""Once the work that uses a client is stopped, or the client is closed, not one more request leaves."""

import threading

import pytest

from paystack_source.api import workers
from paystack_source.api.client import PaystackClient
from paystack_source.api.clock import Clock
from paystack_source.errors import ClosedError
from paystack_source.extract.details import Due, fetch_customers
from paystack_source.extract.reader import Reader
from paystack_source.extract.window_read import Query, Reading
from paystack_source.extract.windows import ALWAYS
from tests.api.conftest import KEY
from tests.api.raw_server import SILENCE, RawServer, ok, refusal
from tests.events import PATIENCE, until


class Waits(Clock):
    """Time stands still; whoever rests is counted, and looks up when the test says so."""

    def __init__(self):
        self.resting = threading.Semaphore(0)
        self.look = threading.Event()

    def now(self):
        return 0.0

    def rest(self, seconds, wake):
        self.resting.release()
        assert self.look.wait(PATIENCE)


class Stop:
    """What whoever stops the work says to its client."""

    stopped = False

    def __call__(self):
        if self.stopped:
            raise ClosedError("The work was stopped")


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
def ask(waits):
    """`ask(client, number)`: as many threads that list customers; `ended()` waits for them and tells their errors."""

    class Asked:
        def __init__(self, client, number=1, call=lambda client: client.list()):
            self.errors = []
            self.threads = [
                threading.Thread(target=self.work, args=(client, call), daemon=True) for _ in range(number)
            ]
            for thread in self.threads:
                thread.start()

        def work(self, client, call):
            try:
                call(client)
            except ClosedError as error:
                self.errors.append(type(error))

        def ended(self):
            waits.look.set()
            for thread in self.threads:
                thread.join(PATIENCE)
                assert not thread.is_alive()
            return self.errors

    return Asked


@pytest.fixture
def used_up(sandbox, waits):
    """A server, and a client of it whose one request a minute is spent."""
    server = sandbox()
    with PaystackClient(server.secret_key, base_url=server.url, quota=1, clock=waits) as client:
        client.list()
        yield server, client


@pytest.mark.parametrize("how", ["stopped", "closed"])
def test_whoever_queues_for_the_quota_sends_nothing_more(how, ask, used_up, waits):
    (server, client), stop = used_up, Stop()
    asked = ask(client.until(stop), 5)
    until(lambda: len(client._transport.quotas["list"].queue) == 5)
    assert waits.resting.acquire(timeout=PATIENCE)
    if how == "stopped":
        stop.stopped = True
    else:
        client.close()
    assert asked.ended() == [ClosedError] * 5
    assert server.stats.total == 1
    assert not client._transport.quotas["list"].queue


def test_whoever_is_stopped_leaves_the_client_to_others(ask, sandbox):
    server, stop = sandbox(), Stop()
    with PaystackClient(server.secret_key, base_url=server.url, quota=0) as client:
        stopped = client.until(stop)
        stop.stopped = True
        with pytest.raises(ClosedError):
            stopped.list()
        with pytest.raises(ClosedError):
            stopped.until(lambda: None).list()
        assert len(client.list().rows) == 50
        assert stopped.stats == client.stats
        assert client.stats.requests == server.stats.total == 1


def test_whoever_waits_to_try_again_does_not(ask, waits):
    stop = Stop()
    with (
        RawServer(refusal(500, type="api_error"), ok([])) as server,
        PaystackClient(KEY, base_url=server.url, quota=0, clock=waits) as client,
    ):
        asked = ask(client.until(stop))
        assert waits.resting.acquire(timeout=PATIENCE)
        stop.stopped = True
        assert asked.ended() == [ClosedError]
    assert len(server.requests) == 1


def test_whoever_waits_for_a_connection_gets_none(ask, sandbox):
    server, stop = sandbox(), Stop()
    with PaystackClient(server.secret_key, base_url=server.url, quota=0, max_in_flight=1) as client:
        taken = client._wire.take(lambda: None)  # the only one
        room, waiting = client._wire._room, threading.Event()
        wait = room.wait
        room.wait = lambda seconds: (waiting.set(), wait(seconds))
        asked = ask(client.until(stop))
        assert waiting.wait(PATIENCE)
        stop.stopped = True
        assert asked.ended() == [ClosedError]
        client._wire.give_back(taken, broken=False)
        assert server.stats.total == 0
        assert len(client.list().rows) == 50


@pytest.mark.parametrize("how", ["stopped", "closed"])
def test_nothing_is_sent_on_a_connection_that_came_too_late(how):
    stop = Stop()
    with RawServer(ok([])) as server, PaystackClient(KEY, base_url=server.url, quota=0) as client:
        connect = client._wire.open

        def late(connection):
            connect(connection)
            until(lambda: server._open)
            if how == "stopped":
                stop.stopped = True
            else:
                client.close()

        client._wire.open = late
        with pytest.raises(ClosedError):
            client.until(stop).list()
    assert not server.requests


def by_pages(client):
    reader = Reader(client)
    taking = reader.read(reader.split(ALWAYS))
    return lambda: next(taking), reader.close


def by_cursor(client):
    reader = Reader(client)
    return lambda: list(reader._follow_cursor(Reading(ALWAYS, (None, None)))), reader.close


def one_page(client):
    reader = Reader(client)
    return lambda: reader.request(Query(None, None, 1)), reader.close


@pytest.mark.parametrize("kind", [by_pages, by_cursor, one_page])
def test_a_copy_that_is_stopped_reads_nothing_more_with_its_callers_client(kind, ask, used_up, waits):
    server, client = used_up
    read, stop = kind(client)
    asked = ask(client, call=lambda _: read())
    assert waits.resting.acquire(timeout=PATIENCE)
    stop()
    assert asked.ended() == [ClosedError]
    assert server.stats.total == 1


def test_details_that_nobody_takes_any_longer_are_not_fetched(sandbox, waits, monkeypatch):
    monkeypatch.setattr(workers.fetch_all, "__defaults__", (8, ()))
    server = sandbox()
    codes = [customer["customer_code"] for customer in server.customers_truth()]
    with PaystackClient(server.secret_key, base_url=server.url, quota=1, clock=waits) as client:
        taking = fetch_customers(client, [Due(n, code, None, None, 0) for n, code in enumerate(codes)])
        next(taking)
        assert waits.resting.acquire(timeout=PATIENCE)
        threads = [t for t in threading.enumerate() if t.name.startswith("paystack-worker")]
        assert len(threads) == 8
        taking.close()
        waits.look.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert server.stats.total == 1


@pytest.mark.parametrize("how", ["stopped", "closed"])
def test_a_read_that_nobody_wants_any_longer_is_not_waited_for(how, ask):
    stop = Stop()
    with (
        RawServer(SILENCE, ok([])) as server,
        PaystackClient(
            KEY, base_url=server.url, quota=0, max_in_flight=1, timeout=(10.0, 2.0 * PATIENCE)
        ) as client,
    ):
        asked = ask(client.until(stop))
        until(lambda: server.requests)
        client.break_off_reads()  # nobody stopped yet
        assert asked.threads[0].is_alive()
        if how == "stopped":
            stop.stopped = True
            client.break_off_reads()
        else:
            client.close()
        assert asked.ended() == [ClosedError]
        if how == "stopped":
            assert client.list().rows == []  # on another connection than the one that was shut
            assert server.connections == 2


def test_a_write_is_waited_for_though_nobody_wants_it_any_longer(ask):
    stop = Stop()
    with RawServer(SILENCE) as server, PaystackClient(KEY, base_url=server.url, quota=0) as client:
        asked = ask(client.until(stop), call=lambda asking: asking.set_risk_action("CUS_1", "deny"))
        until(lambda: server.requests)
        stop.stopped = True
        client.break_off_reads()
        client.close()
        asked.threads[0].join(0.2)
        assert asked.threads[0].is_alive()
        server._open[0].sendall(ok({"id": 1}))
        assert asked.ended() == []
