"""The oddities of the real list, one by one, through the real client against the sandbox: complete every time."""

import json
import re
from datetime import datetime

import pytest

from paystack_source.api.client import PaystackClient
from paystack_source.extract import arrow
from tests.extract.fake import Copy
from tests.extract.listing_server import Listing


class Server:
    """A sandbox as what `Copy` reads."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.client = PaystackClient(sandbox.secret_key, base_url=sandbox.url, quota=0, read_only=True)
        self.list, self.until = self.client.list, self.client.until
        self.clock = None

    @property
    def requests(self):
        return self.client.stats.requests


def copied(sandbox, *, customers=450, window_rows=120, runs=1, **switches):
    server = sandbox(customers, **switches)
    api = Server(server)
    with api.client:
        copy = Copy(api, window_rows=window_rows)
        for _ in range(runs):
            run = copy.run()
    return server, copy, run


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"to_bound": "inclusive"},
        {"to_bound": "ignored"},
        {"from_bound": "ignored"},
        {"from_bound": "ignored", "to_bound": "ignored"},
        {"per_page_cap": 37},
        {"per_page_cap": 60, "per_page_over_cap": "refuse"},
        {"per_page_as_string": True},
        {"meta_of_other_mode": True},
        {"meta_of_other_mode": True, "null_cursor_text": True},
        {"meta_of_other_mode": True, "repeated_cursor": True, "short_pages": 0.5},
        {"no_totals": True, "short_pages": 0.3},
        {"empty_cursor": True, "dropped_rows": 0.2},
        {"no_next_key": True, "dropped_rows": 0.2},
        {"repeated_cursor": True, "dropped_rows": 0.2, "short_pages": 0.3},
        {"cursor_with_filters": "ignore", "dropped_rows": 0.1},
        {"cursor_with_filters": "ignore", "deepest_page": 2},
        {"window_slack": 3600.0},
        {"new_keys": 0.1, "type_drift": 0.1},
        {"gzip": True},
        {"faults": "error=0.02,cut=0.02,html=0.02"},
    ],
    ids=lambda switches: ",".join(map(str, switches)) or "documented",
)
def test_a_first_load_is_complete(sandbox, switches):
    server, copy, run = copied(sandbox, **switches)
    assert run.summary.complete, run.summary.unproven
    assert set(copy.held.present) == {row["id"] for row in server.customers_truth()}


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "1900-01-01T00:00:00.000Z"])
@pytest.mark.parametrize("customers", [50, 250])  # shown by the first page, or not
def test_a_time_before_every_window_loses_nobody(time, customers):
    with Listing(customers) as server:
        server.customers[0]["createdAt"] = time
        server.secret_key = "sk_test_" + "a" * 20
        api = Server(server)
        with api.client:
            copy = Copy(api)
            for _ in range(2):
                assert copy.run().summary.complete
    assert len(copy.held.present) == customers


def test_customers_arriving_and_edited_while_someone_reads(sandbox):
    server, copy, _ = copied(
        sandbox, churn_every=3, churn_arrivals=1, churn_edits=2, churn_late=1, churn_late_by=1e6
    )
    server.configure(churn_every=0)
    api = Server(server)
    with api.client:
        copy.api = api
        assert copy.run().summary.complete
    assert set(copy.held.present) == {row["id"] for row in server.customers_truth()}


@pytest.mark.parametrize(("customers", "every", "arrive"), [(6_000, 1, 3), (2_400, 10, 3)])
def test_those_who_arrive_while_it_reads_are_taken_from_the_newest_pages(sandbox, customers, every, arrive):
    server, copy, run = copied(
        sandbox, customers=customers, window_rows=30_000, churn_every=every, churn_arrivals=arrive
    )
    assert run.summary.complete
    pages = customers // 100
    assert run.reader.requests <= pages * 1.5  # read again as windows they cost twice to four times the pages
    missing = {row["id"] for row in server.customers_truth()} - copy.held.present.keys()
    assert not missing or min(missing) > max(copy.held.present)  # they came after the last look


@pytest.mark.parametrize("off", [-2, 1])
def test_a_total_that_is_wrong_is_not_called_complete(sandbox, off):
    _, copy, run = copied(sandbox, customers=350, total_off=off)
    assert not run.summary.complete
    assert len(copy.held.present) == 350


def test_nothing_is_lost_when_the_shape_drifts(sandbox):
    server, copy, run = copied(sandbox, new_keys=0.2, type_drift=0.2)
    assert run.summary.complete
    columns = {"createdAt": "created_at", "updatedAt": "updated_at"}
    new = 0
    for listed in server.customers_truth(as_listed=True):
        row = copy.held.present[int(listed["id"])]
        extra = json.loads(row.get("extra") or "{}")
        for key, value in listed.items():
            name = columns.get(key, snake(key))
            new += name not in arrow.SCHEMA.names
            if key in extra:
                assert extra[key] == value
            elif name.endswith("_at"):
                assert row[name] == datetime.fromisoformat(value)
            elif name == "metadata":
                assert value == (row[name] and json.loads(row[name]))
            else:
                assert row[name] == value or str(row[name]) == str(value) or json.loads(row[name]) == value
    assert new > 100


def snake(key):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
