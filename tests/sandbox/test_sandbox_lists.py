"""Lists: order, page numbers, cursors, windows, and each oddity as a switch."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from tests.sandbox.caller import AT, Caller, Clock, truth

LIST_KEYS = {
    "integration", "first_name", "last_name", "email", "phone", "metadata", "domain", "customer_code",
    "risk_action", "id", "createdAt", "updatedAt",
}  # fmt: skip
DAY = 86_400


def iso(second):
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@pytest.fixture
def call(sandbox):
    def start(customers=50, **switches):
        return Caller(sandbox(customers, **({"until": AT, "clock": Clock()} | switches)))

    return start


def test_numbered_pages_hold_every_customer_once_newest_first_field_by_field(call):
    ask = call(235)
    rows = [row for page in range(1, 5) for row in ask.list(page=page, perPage=60).rows]
    assert rows == truth(ask.sandbox)
    assert {frozenset(row) for row in rows} == {frozenset(LIST_KEYS)}


def test_defaults_and_meta_of_numbered_pages(call):
    ask = call(120)
    assert ask.list().meta == {"total": 120, "skipped": 0, "perPage": 50, "page": 1, "pageCount": 3}
    assert ask.list(page=3).meta == {"total": 120, "skipped": 100, "perPage": 50, "page": 3, "pageCount": 3}
    assert len(ask.list(page=3).rows) == 20
    beyond = ask.list(page=9)
    assert (beyond.status, beyond.rows, beyond.meta["page"]) == (200, [], 9)
    assert ask.list().json["message"] == "Customers retrieved"


def test_a_trailing_slash_is_the_same_list(call):
    ask = call()
    assert ask("GET", "/customer/").body == ask.list().body


@pytest.mark.parametrize(
    ("query", "rows"), [({"perPage": "0"}, 50), ({"per_page": "5"}, 50), ({"page": "0"}, 50)]
)
def test_what_makes_no_sense_falls_back_to_the_default(call, query, rows):
    assert len(call(60).list(**query).rows) == rows


@pytest.mark.parametrize("query", [{"page": "two"}, {"perPage": "ten"}])
def test_what_is_no_number_is_refused(call, query):
    got = call().list(**query)
    assert (got.status, got.json["code"]) == (400, "invalid_params")


def test_page_cap_is_clamped_or_refused(call):
    ask = call(130)
    clamped = ask.list(perPage=200)
    assert (len(clamped.rows), clamped.meta["perPage"]) == (100, 100)
    ask.sandbox.configure(per_page_over_cap="refuse")
    assert ask.list(perPage=200).status == 400
    assert ask.list(perPage=100).status == 200
    ask.sandbox.configure(per_page_cap=20, per_page_over_cap="clamp")
    assert len(ask.list(perPage=100).rows) == 20


def test_cursor_pages_hold_every_customer_once_and_end_with_null(call):
    ask = call(101)
    pages = ask.walk(perPage=10)
    assert [row for page in pages for row in page.rows] == truth(ask.sandbox)
    assert pages[0].meta == {"next": pages[0].meta["next"], "previous": None, "perPage": 10}
    assert pages[-1].meta["next"] is None
    assert len(pages) == 11


def test_a_full_last_cursor_page_has_no_next(call):
    pages = call(20).walk(perPage=10)
    assert len(pages) == 2


def test_previous_leads_back(call):
    ask = call(30)
    first, second, third = ask.walk(perPage=10)
    assert ask.list(previous=second.meta["previous"], perPage=10).ids == first.ids
    assert ask.list(previous=third.meta["previous"], perPage=10).ids == second.ids


def test_cursor_is_stable_while_customers_arrive(call):
    ask = call(30)
    first = ask.list(use_cursor="true", perPage=10)
    ask.sandbox.add_customers(5)
    second = ask.list(next=first.meta["next"], perPage=10)
    assert [*first.ids, *second.ids] == [row["id"] for row in truth(ask.sandbox)][5:25]


def test_page_numbers_shift_while_customers_arrive(call):
    ask = call(30)
    first = ask.list(page=1, perPage=10)
    ask.sandbox.add_customers(3)
    second = ask.list(page=2, perPage=10)
    assert first.ids[-3:] == second.ids[:3]


def test_bogus_cursor_is_a_500_that_says_validation_error(call):
    ask = call()
    for bogus in ("abc", "Y3VzdG9tZXI6MQ==", "Ym9ndXM6MQ==", "Y3VzdG9tZXI6OTk5OTk5OTk5OTk5OTk5OTk5OTk5"):
        got = ask.list(next=bogus)
        assert (got.status, got.json["type"], got.json["code"]) == (500, "validation_error", "invalid_params")
    ask.sandbox.configure(bogus_cursor=400)
    assert ask.list(previous="abc").status == 400


# --- windows -------------------------------------------------------------------------------------------


def in_window(rows, begin, end):
    return [row["id"] for row in rows if begin <= row["createdAt"] < end]


def test_from_is_inclusive_and_to_exclusive(call):
    ask = call(200)
    rows = truth(ask.sandbox)
    begin, end = rows[150]["createdAt"], rows[50]["createdAt"]
    got = ask.list(from_=begin, to=end, perPage=100)
    assert got.ids == in_window(rows, begin, end)[:100]
    assert got.meta["total"] == len(in_window(rows, begin, end))
    assert rows[150]["id"] in ask.list(from_=begin, to=end, perPage=100, page=2).ids + got.ids
    assert rows[50]["id"] not in got.ids


def test_to_bound_inclusive_and_ignored(call):
    ask = call(100, to_bound="inclusive")
    rows = truth(ask.sandbox)
    end = rows[50]["createdAt"]
    assert ask.list(to=end, perPage=1).ids[0] in [row["id"] for row in rows if row["createdAt"] == end]
    ask.sandbox.configure(to_bound="ignored")
    assert ask.list(to=end).meta["total"] == 100


def test_from_ignored(call):
    ask = call(100, from_bound="ignored")
    assert ask.list(from_=truth(ask.sandbox)[10]["createdAt"]).meta["total"] == 100


def test_a_midnight_to_loses_that_day_and_a_date_means_midnight_utc(call):
    ask = call(0)
    midnight = AT - AT % DAY
    ask.sandbox.add_customers(created_at=midnight - 1)
    ask.sandbox.add_customers(created_at=midnight)
    ask.sandbox.add_customers(created_at=midnight + 3600)
    day = iso(midnight)[:10]
    assert ask.list(from_=day).meta["total"] == 2
    assert ask.list(to=day).meta["total"] == 1
    assert ask.list(from_=iso(midnight)).ids == ask.list(from_=day).ids


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-01",
        "2025-01-01T00:00:00.000Z",
        "2025-01-01T00:00:00Z",
        "2025-01-01T00:00:00.123456Z",
        "2025-01-01T01:00:00+01:00",
        "2025-01-01 00:00:00",
    ],
)
def test_date_forms_that_are_taken(call, text):
    ask = call(300)
    expected = sum(row["createdAt"] >= "2025-01-01T00:00:00.000Z" for row in truth(ask.sandbox))
    assert 0 < expected < 300
    assert ask.list(from_=text).meta["total"] == expected


@pytest.mark.parametrize(
    "text", ["yesterday", "2025-13-01", "2025-02-30", "1735689600", "2025-W01-1", "20250101"]
)
@pytest.mark.parametrize("name", ["from", "to"])
def test_bad_dates_are_400(call, name, text):
    got = call().list(**{name: text})
    assert got.status == 400
    assert got.json["message"] == f"Invalid '{name}' date passed"
    assert (got.json["type"], got.json["code"]) == ("validation_error", "invalid_params")


def test_fractions_of_a_second_count(call):
    ask = call(0)
    ask.sandbox.add_customers(created_at=AT)
    assert ask.list(from_=iso(AT).replace(".000Z", ".001Z")).meta["total"] == 0
    assert ask.list(to=iso(AT).replace(".000Z", ".001Z")).meta["total"] == 1
    assert ask.list(to=iso(AT)).meta["total"] == 0


def test_an_empty_or_reversed_window(call):
    got = call().list(from_="2031-01-01", to="2030-01-01")
    assert (got.rows, got.meta["total"], got.meta["pageCount"]) == ([], 0, 0)


def test_rows_outside_the_window_are_served_with_slack(call):
    ask = call(0)
    ask.sandbox.add_customers(created_at=AT - 5)
    ask.sandbox.add_customers(created_at=AT)
    ask.sandbox.add_customers(created_at=AT + 5)
    assert ask.list(from_=iso(AT), to=iso(AT + 1)).meta["total"] == 1
    ask.sandbox.configure(window_slack=10)
    assert ask.list(from_=iso(AT), to=iso(AT + 1)).meta["total"] == 3


def test_cursor_with_filters_combines_or_ignores(call):
    ask = call(200)
    rows = truth(ask.sandbox)
    begin, end = rows[150]["createdAt"], rows[50]["createdAt"]
    walked = [number for page in ask.walk(from_=begin, to=end, perPage=30) for number in page.ids]
    assert walked == in_window(rows, begin, end)
    ask.sandbox.configure(cursor_with_filters="ignore")
    assert sum(len(page.ids) for page in ask.walk(from_=begin, to=end, perPage=90)) == 200


# --- odd forms -----------------------------------------------------------------------------------------


def test_null_cursor_as_text(call):
    meta = call(5, null_cursor_text=True).list(use_cursor="true").meta
    assert (meta["next"], meta["previous"]) == ("null", "null")


def test_empty_cursor(call):
    assert call(5, empty_cursor=True).list(use_cursor="true").meta["next"] == ""


def test_no_next_key(call):
    ask = call(15, no_next_key=True)
    pages = ask.walk(perPage=10)
    assert "next" in pages[0].meta
    assert "next" not in pages[1].meta


def test_repeated_cursor_at_the_end(call):
    ask = call(15, repeated_cursor=True)
    first = ask.list(use_cursor="true", perPage=10)
    last = ask.list(next=first.meta["next"], perPage=10)
    assert last.meta["next"] == first.meta["next"]
    assert ask.list(next=last.meta["next"], perPage=10).ids == last.ids


def test_meta_of_the_other_mode(call):
    ask = call(15, meta_of_other_mode=True)
    assert set(ask.list(perPage=10).meta) == {"next", "previous", "perPage"}
    assert ask.list(next=ask.list(perPage=10).meta["next"], perPage=10).meta["page"] == 2
    assert ask.list(use_cursor="true", perPage=10).meta["total"] == 15


def test_no_totals_in_either_mode(call):
    ask = call(15, no_totals=True)
    for query in ({}, {"use_cursor": "true"}):
        assert set(ask.list(perPage=10, **query).meta) == {"next", "previous", "perPage"}


def test_per_page_as_string(call):
    ask = call(5, per_page_as_string=True)
    assert ask.list().meta["perPage"] == "50"
    assert ask.list(use_cursor="true").meta["perPage"] == "50"


def test_pages_that_are_too_deep(call):
    ask = call(25, deepest_page=2)
    assert [ask.list(perPage=10, page=page).status for page in (1, 2, 3)] == [200, 200, 400]
    assert len(ask.walk(perPage=10)) == 3


def test_short_cursor_pages_lose_nothing(call):
    ask = call(100, short_pages=0.7)
    pages = ask.walk(perPage=10)
    assert [row for page in pages for row in page.rows] == truth(ask.sandbox)
    assert len(pages) > 10
    assert any(0 < len(page.rows) < 10 for page in pages[:-1])


def test_dropped_rows_are_missing_though_counted(call):
    ask = call(100, dropped_rows=1.0)
    pages = [ask.list(page=page, perPage=20) for page in range(1, 6)]
    assert sum(len(page.rows) for page in pages) == 95
    assert pages[0].meta["total"] == 100


@pytest.mark.parametrize("off", [-3, 4])
def test_total_that_is_off(call, off):
    meta = call(100, total_off=off).list(perPage=10).meta
    assert (meta["total"], meta["pageCount"]) == (100 + off, math.ceil((100 + off) / 10))


def test_new_keys_and_changed_types_are_the_same_on_every_read(call):
    ask = call(100, new_keys=0.4, type_drift=0.4)
    listed = ask.list(perPage=100).rows
    assert listed == ask.list(perPage=100).rows
    by_code = {row["customer_code"]: row for row in ask.sandbox.customers_truth(as_listed=True)}
    assert {row["customer_code"]: row for row in listed} == by_code
    assert {bool(set(row) - LIST_KEYS) for row in listed} == {True, False}
    assert {type(row["id"]) for row in listed} == {int, str}
    assert str in {type(row["metadata"]) for row in listed}
    assert {"integration", "phone"} & {
        name for row in listed for name in row if isinstance(row[name], str if name == "integration" else int)
    }


# --- movement ------------------------------------------------------------------------------------------


def test_customers_arrive_and_change_while_someone_pages(call):
    ask = call(60, churn_every=2, churn_arrivals=3, churn_edits=4, churn_late=2, churn_late_by=500)
    before = {row["id"]: row for row in ask.sandbox.customers_truth()}
    for page in range(1, 5):
        ask.list(page=page)
    after = {row["id"]: row for row in ask.sandbox.customers_truth()}
    fresh = [after[number] for number in after.keys() - before.keys()]
    assert len(fresh) == 10
    assert sum(row["createdAt"] < iso(AT) for row in fresh) == 4
    assert all(iso(AT - 500) <= row["createdAt"] <= iso(AT) for row in fresh)
    edited = [number for number in before if before[number] != after[number]]
    assert 1 <= len(edited) <= 8
    assert all(after[number]["updatedAt"] == iso(AT) for number in edited)


def test_late_rows_take_their_place_by_creation_time(call):
    ask = call(80)
    ask.sandbox.add_customers(5, created_at=AT - 400 * DAY)
    rows = truth(ask.sandbox)
    assert [number for page in (1, 2, 3) for number in ask.list(page=page, perPage=40).ids] == [
        row["id"] for row in rows
    ]
    assert [number for page in ask.walk(perPage=7) for number in page.ids] == [row["id"] for row in rows]
    assert [row["id"] for row in rows] != sorted((row["id"] for row in rows), reverse=True)


def test_neighbours_that_arrived_out_of_order_are_listed_by_time(call):
    ask = call(0)
    for age in (200, 50, 100, 0):
        ask.sandbox.add_customers(created_at=AT - age)
    assert ask.list().rows == truth(ask.sandbox)
