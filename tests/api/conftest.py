"""A clock that never sleeps, and clients that use it."""

from random import Random

import pytest

from paystack_source.api.client import PaystackClient
from paystack_source.api.clock import Clock
from tests.events import PATIENCE

KEY = "sk_test_sandbox"


class QuickClock(Clock):
    """Rests are recorded and pass at once."""

    def __init__(self):
        self.moment = 1000.0
        self.rests = []

    def now(self):
        return self.moment

    def wall(self):
        return 1_795_000_000.0 + self.moment

    def rest(self, seconds, wake):
        self.rests.append(seconds)
        self.pass_by(seconds)

    def pass_by(self, seconds):
        self.moment += seconds


@pytest.fixture
def clock():
    return QuickClock()


@pytest.fixture
def connect(clock):
    """`connect(server)`: a client of a sandbox or of a raw server, on the quick clock."""
    clients = []

    def make(server, **options):
        key = getattr(server, "secret_key", KEY)
        given = {"clock": clock, "random": Random(1), "quota": 0, "timeout": (PATIENCE, PATIENCE)} | options
        client = PaystackClient(key, base_url=server.url, **given)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
