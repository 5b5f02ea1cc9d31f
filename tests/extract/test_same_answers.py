"""Answers that are the same whatever is asked prove nothing: such a run says so and ends with 5."""

from __future__ import annotations

import importlib.util
import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from paystack_source.api.client import PaystackClient
from paystack_source.cli.terminal import run
from paystack_source.errors import ExitCode
from paystack_source.extract.windows import END, Window
from tests.extract.fake import Copy
from tests.extract.listing_server import NOON, Listing, customer, forgetting, only, stamp, without

SCRIPT = Path(__file__).resolve().parents[2] / "pipelines" / "customers.py"
ALL = 350

PAGES = ("page", "use_cursor", "next")


def page_length(_question, meta, rows):
    return meta | {"total": len(rows)}


def cycling(question, _meta, _rows):
    return {"next": {"301": "151", "151": "251", "251": "301"}.get(question.get("next", "301"), "301")}


def first_page_only(question, rows):
    return rows if int(question.get("page", 1)) == 1 and "next" not in question else []


UNPROVEN = {
    "one page, no total, a cursor": {"heard": lambda _: {"perPage": "100"}, "meta": only(next="x")},
    "one page, no total, no cursor": {"heard": lambda _: {"perPage": "100"}, "meta": only()},
    "one page, no total, no cursor, perPage is heard": {"heard": without(*PAGES), "meta": only()},
    "one short page, no total, no cursor": {"heard": lambda _: {"perPage": "40"}, "meta": only()},
    "one page, its length as total, a cursor": {
        "heard": lambda _: {"perPage": "100"},
        "meta": only(next="x", total=100),
    },
    "one page, its length as total": {"heard": lambda _: {"perPage": "100"}, "meta": only(total=100)},
    "one short page, its length as total": {"heard": lambda _: {"perPage": "40"}, "meta": only(total=40)},
    "one customer, and one as total": {"heard": lambda _: {"perPage": "1"}, "meta": only(total=1)},
    "its length as total, and perPage is heard": {"heard": without(*PAGES), "meta": page_length},
    "its length as total, and all is heard": {"meta": page_length},
    "its length as total, no cursors": {"heard": without("use_cursor", "next"), "meta": page_length},
    "one page, the total of all": {"heard": lambda _: {"perPage": "100"}, "meta": only(total=ALL)},
    "100 as total, and all is heard": {"meta": lambda _q, m, _r: m | {"total": 100}},
    "pages and totals end at 180": {
        "heard": without("use_cursor", "next"),
        "rows": lambda question, rows: rows[: max(280 - 100 * int(question.get("page", 1)), 0)],
        "meta": lambda _q, meta, _r: meta | {"total": min(meta["total"], 180), "next": None},
    },
    "a cursor that returns itself": {"heard": without(*PAGES), "meta": only(next="x")},
    "a cursor that goes round": {"heard": without("page"), "meta": cycling},
    "a cursor that leads to empty pages for ever": {
        "rows": first_page_only,
        "meta": lambda q, _m, _r: {"next": f"{q.get('next', 'x')}x"},
    },
    "empty pages behind the first, its length as total": {
        "rows": first_page_only,
        "meta": lambda q, _m, rows: {"total": len(rows), "next": f"{q.get('next', 'x')}x"},
    },
}
"""Each of these shows 100 of 350 or fewer at once, or makes no claim that could be checked."""

PROVEN = {
    "as documented": {},
    "page is ignored": {"heard": without("page")},
    "page is ignored, no totals": {"heard": without("page"), "meta": forgetting("total")},
    "cursors are ignored": {"heard": without("use_cursor", "next")},
    "cursors are ignored, no totals": {"heard": without("use_cursor", "next"), "meta": forgetting("total")},
    "no totals": {"meta": forgetting("total")},
    "neither totals nor cursors": {"meta": only()},
    "times are ignored": {"heard": without("from", "to")},
    "perPage is ignored": {"heard": without("perPage")},
}

ONE_ANSWER = {(n, "page is ignored, no totals") for n in (100, 1)} | {(1, "page is ignored")}
"""All are shown, and nothing tells this from a list that shows one page only: not proven."""


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("customers_under_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


class Lists:
    """What `Copy` reads: the real client, and the server's clock."""

    def __init__(self, client):
        self.list, self.until = client.list, client.until
        self.clock, self.requests = None, 0


@contextmanager
def copy_of(customers, **odd):
    """A list, and a copy of it that is to be made through the real client."""
    with (
        Listing(customers, **odd) as listing,
        PaystackClient("sk_test_listing", base_url=listing.url, quota=0) as client,
    ):
        yield listing, Copy(Lists(client), window_rows=120)


@pytest.mark.parametrize("oddity", UNPROVEN)
def test_a_first_run_is_not_proven(oddity):
    with copy_of(ALL, **UNPROVEN[oddity]) as (_, copy):
        assert not copy.run().summary.complete


@pytest.mark.parametrize("oddity", UNPROVEN)
def test_a_range_is_not_proven(oddity):
    with copy_of(ALL, **UNPROVEN[oddity]) as (_, copy):
        tally = copy.run(bounds=Window(NOON, NOON + timedelta(hours=1))).summary
        assert not tally.complete


@pytest.mark.parametrize(("begins", "ends"), [(30, 90), (-30, 90), (30, None)])
@pytest.mark.parametrize("first_page_tells", [True, False])
def test_a_range_holds_what_came_by_a_clock_that_is_ahead_of_ours(begins, ends, first_page_tells):
    now = datetime.now(UTC).replace(microsecond=0)
    with copy_of(ALL) as (listing, copy):
        ahead = [
            customer(number) | {"createdAt": stamp(now + timedelta(hours=1))} for number in range(901, 906)
        ]
        listing.customers += ahead
        if not first_page_tells:  # the list begins with the oldest
            listing.customers.reverse()
        end = END if ends is None else now + timedelta(minutes=ends)
        assert copy.run(bounds=Window(now + timedelta(minutes=begins), end)).summary.complete
        assert {row["id"] for row in copy.held.present.values()} == {one["id"] for one in ahead}


@pytest.mark.parametrize(
    ("oddity", "budget"), [(oddity, number % 2 * 60) for number, oddity in enumerate(UNPROVEN)]
)
def test_a_run_after_a_good_one_is_not_proven_and_marks_nobody_as_missing(oddity, budget):
    with copy_of(ALL) as (listing, copy):
        assert copy.run().summary.complete
        listing.customers = Listing(ALL + 150).customers
        for name, odd in UNPROVEN[oddity].items():
            setattr(listing, name, odd)
        assert not copy.run(refresh_budget=budget).summary.complete
    assert len(copy.held.present) >= ALL


@pytest.mark.parametrize("budget", [0, 60])
@pytest.mark.parametrize("customers", [ALL, 100, 40])
def test_one_old_answer_to_everything_is_not_a_run_without_news(customers, budget):
    with copy_of(customers) as (listing, copy):
        assert copy.run().summary.complete
        old = listing.answer([("perPage", "100"), ("page", "1")])
        listing.answer = lambda _question: old
        assert not copy.run(refresh_budget=budget).summary.complete


@pytest.mark.parametrize(
    ("customers", "oddity"),
    [
        (customers, oddity)
        for customers in (ALL, 100, 1)
        for oddity in PROVEN
        if (customers, oddity) not in ONE_ANSWER
    ],
)
def test_an_odd_list_that_shows_all_is_proven(customers, oddity):
    with copy_of(customers, **PROVEN[oddity]) as (_, copy):
        for _ in range(2):
            assert copy.run().summary.complete
            assert len(copy.held.present) == customers


@pytest.mark.parametrize("arguments", [[], ["--from", "2026-03-01", "--to", "2026-03-02"]])
def test_the_command_ends_with_5(command, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    with Listing(ALL, **UNPROVEN["one page, no total, a cursor"]) as listing:
        monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", "sk_test_listing")
        monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", listing.url)
        assert run(command, ["--json", *arguments]) == ExitCode.UNPROVEN
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == "incomplete"
