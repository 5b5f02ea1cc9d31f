"""A request in two halves: a thread with several under way gets all their answers, and never waits for itself."""

import threading

import pytest

from paystack_source.api.customers import PaystackClient


@pytest.mark.parametrize("connections", [1, 2, 8])
def test_requests_under_way_share_few_connections(sandbox, connections):
    server = sandbox(customers=600)
    numbers = []

    def ask():
        with PaystackClient(
            server.secret_key, base_url=server.url, quota=0, max_in_flight=connections
        ) as client:
            waiting = [client.begin_list(page=page, per_page=100) for page in range(1, 6)]
            numbers.extend(row["id"] for finish in waiting for row in finish().rows)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(30)
    assert not asking.is_alive(), "it waits for a connection that only it could give back"
    assert len(set(numbers)) == 500


def test_what_the_quota_does_not_let_go_yet_is_sent_later(sandbox):
    server = sandbox(customers=600)
    with PaystackClient(server.secret_key, base_url=server.url, quota=100) as client:
        first, second = (client.begin_list(page=page, per_page=100) for page in (1, 2))
        assert client.stats.requests == 1  # the first goes alone, to learn what others have used
        assert len(first().rows) == len(second().rows) == 100
        assert client.stats.requests == 2
