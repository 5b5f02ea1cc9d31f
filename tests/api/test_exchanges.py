"""One request on one connection: whoever waits for it is told, and whatever happens, it is given back."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from urllib3.connection import HTTPConnection

from paystack_source.api.client import PaystackClient
from paystack_source.errors import ConfigError, Rejected
from tests.api.raw_server import RawServer, refusal


@pytest.mark.parametrize("connections", [1, 2, 8])
def test_threads_share_few_connections(sandbox, connections):
    server = sandbox(customers=600)
    with PaystackClient(server.secret_key, base_url=server.url, quota=0, max_in_flight=connections) as client:
        assert len(five_pages(client)) == 500


@pytest.mark.parametrize("refused", [2, 6])
def test_a_429_among_requests_under_way_is_waited_out(refused, sandbox):
    server = sandbox(customers=600, limit=100, window_seconds=0.5, faults=f"limited@list#{refused}")
    with PaystackClient(server.secret_key, base_url=server.url, window=0.5) as client:
        client.list()  # from here on the headers tell what is left, so that five may go at once
        assert len(five_pages(client)) == 500
        assert client.stats.rate_limited == 1


def five_pages(client):
    """The ids on pages that five threads ask for."""
    with ThreadPoolExecutor(5) as pool:
        pages = pool.map(lambda page: client.list(page=page, per_page=100), range(1, 6))
        return {row["id"] for page in pages for row in page.rows}


def test_closing_tells_those_who_wait_for_a_connection(sandbox):
    server = sandbox(customers=50)
    client = PaystackClient(server.secret_key, base_url=server.url, quota=0, max_in_flight=1)
    told = []

    def ask():
        with pytest.raises(ConfigError, match="This client was closed"):
            client.list()
        told.append(True)

    taken = client._wire.take(lambda: None)  # the only one
    waiting, wait = threading.Semaphore(0), client._wire._room.wait
    client._wire._room.wait = lambda seconds: (waiting.release(), wait(seconds))
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(waiting.acquire(timeout=5) for _ in threads)
    client.close()
    for thread in threads:
        thread.join(5)
    assert told == [True, True]
    client._wire.give_back(taken, broken=False)
    with pytest.raises(ConfigError, match="This client was closed"):
        client.list()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.parametrize("under_way", [False, True])
def test_forked_processes_share_no_connection_and_wait_for_no_thread_of_their_parent(sandbox, under_way):
    server = sandbox(customers=600, latency=0.05)
    with PaystackClient(server.secret_key, base_url=server.url, quota=100, max_in_flight=1) as client:
        truth = [[row["id"] for row in client.list(page=page).rows] for page in range(1, 7)]
        if under_way:  # another thread has the only connection, and is the first in line for the quota
            taken = client._wire.take(lambda: None)
            client._transport.quotas["list"].queue.append(threading.Event())
        processes = []
        for page, ids in enumerate(truth, 1):
            processes.append(os.fork())
            if not processes[-1]:
                signal.alarm(60)
                same = [row["id"] for row in client.list(page=page).rows] == ids
                os._exit(0 if same else 1)
        assert [os.waitpid(process, 0)[1] for process in processes] == [0] * len(processes)
        if under_way:
            client._wire.give_back(taken, broken=False)


def test_an_interrupted_request_gives_its_connection_back_and_may_have_left(sandbox, monkeypatch):
    server = sandbox(customers=50)
    with PaystackClient(server.secret_key, base_url=server.url, quota=100, max_in_flight=1) as client:
        with monkeypatch.context() as interrupted:
            interrupted.setattr(HTTPConnection, "request", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.list()
        assert client.quota_use("list") == (1, 100)
        assert len(five_pages(client)) == 50


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
