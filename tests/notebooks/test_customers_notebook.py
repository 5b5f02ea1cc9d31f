"""notebooks/customers.ipynb, run from scratch: what its charts and tables say is what is so.

What is so is worked out in Python from what the sandbox holds; only the history is taken from the copy.
"""

import re
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import phonenumbers
import pytest

from paystack_source import PaystackClient, bulk_set_risk_action
from paystack_source.sandbox import Sandbox
from tests.notebooks import running

LAGOS = ZoneInfo("Africa/Lagos")
OKABE_ITO = {"#0072b2", "#e69f00", "#009e73", "#999999"}


@pytest.fixture
def seeded(shown):
    return shown("customers", "seeded")


@pytest.fixture
def empty(shown):
    return shown("customers", "empty")


@pytest.fixture
def large(shown):
    return shown("customers", "large")


def created(customer):
    return datetime.fromisoformat(customer["createdAt"]).astimezone(LAGOS)


def bars(chart, group=0):
    """Heights of upright bars, by date or by the word under them."""
    found = {at: height for at, height, _ in chart["bars"][group]}
    return found if chart["time"] else dict(zip(chart["ticks"]["x"], found.values(), strict=True))


def lying_bars(chart):
    return dict(zip(chart["ticks"]["y"], [width for _, _, width in chart["bars"][0]], strict=True))


# --- growth


def test_months_are_those_of_the_time_zone_that_the_axis_names(seeded, truth):
    months = Counter(f"{created(customer):%Y-%m}-01" for customer in truth)
    shown = bars(seeded.charts["New customers a month"])
    assert {month: number for month, number in shown.items() if number} == months
    # The two customers that were created a second apart at the turn of the year count for two months.
    in_utc = Counter(customer["createdAt"][:7] + "-01" for customer in truth)
    assert months["2026-01-01"] == in_utc["2026-01-01"] + 1


def test_days_without_customers_are_shown_as_such(seeded, truth):
    days = Counter(created(customer).date() for customer in truth)
    newest = max(days)
    wanted = [(str(day), days[day]) for day in (newest - timedelta(days=back) for back in range(89, -1, -1))]
    chart = seeded.charts["New customers a day, the newest 90 days"]
    assert chart["lines"]["day"] == [list(point) for point in wanted]
    week = [number for _, number in wanted[-7:]]
    assert chart["lines"]["mean of 7 days"][-1][1] == pytest.approx(sum(week) / 7)


def test_weekdays(seeded, truth):
    weekdays = Counter(f"{created(customer):%a}" for customer in truth)
    assert bars(seeded.charts["By weekday, all time"]) == weekdays


# --- risk actions


def test_the_mix_now(seeded, truth):
    mix = Counter(customer["risk_action"] for customer in truth)
    chart = seeded.charts["Customers by risk action"]
    assert bars(chart) == mix
    assert set(chart["texts"]) == {f"{number:,}" for number in mix.values()}


def test_decisions_by_month_are_stacked_by_action(seeded, truth):
    chart = seeded.charts["Allowed and denied, by the month the customer came"]
    for group, action in enumerate(chart["labels"]):
        months = Counter(
            f"{created(customer):%Y-%m}-01" for customer in truth if customer["risk_action"] == action
        )
        assert {month: number for month, number in bars(chart, group).items() if number} == months
    assert chart["labels"] == ["allow", "deny"]


def test_the_history_tells_how_it_changed(seeded, truth, place):
    """Between the last two copies three were denied and one no longer allowed; versions are compared by hand here."""
    database = place / "copies" / "seeded" / "paystack_customers.duckdb"
    with duckdb.connect(str(database), read_only=True) as db:
        versions = db.execute(
            "select id, risk_action from paystack.customers_history order by id, _valid_from"
        ).fetchall()
    changes = Counter(
        (was, became)
        for (customer, was), (same, became) in pairwise(versions)
        if customer == same and was != became
    )
    assert changes["default", "deny"] >= 3
    assert changes["allow", "default"] >= 1
    assert {(row["was"], row["became"]): row["changes"] for row in seeded.frames["changes"]} == changes
    lines = seeded.charts["Allowed and denied customers, as the copies saw them"]["lines"]
    mix = Counter(customer["risk_action"] for customer in truth)
    assert {action: points[-1][1] for action, points in lines.items()} == {
        "allow": mix["allow"],
        "deny": mix["deny"],
    }
    assert {action: points[-1][1] - points[-2][1] for action, points in lines.items()} == {
        "allow": -1,
        "deny": 3,
    }


def test_without_a_history_and_bulk_runs_it_says_that_none_is_recorded(empty):
    assert "The copies saw no change of a risk action" in empty.text()
    assert "No bulk run is recorded in this copy" in empty.text()


def test_what_changed_lately_is_shown(seeded, truth):
    newest = datetime.fromisoformat(max(row["last_read"] for row in seeded.frames["copied"]))
    came = [row for row in truth if datetime.fromisoformat(row["createdAt"]) > newest - timedelta(days=1)]
    assert f"{len(came):,} customers came in the 24 hours" in seeded.text()
    changes = seeded.frames["changed"]
    assert changes
    assert {row["field"] for row in changes} <= {"risk_action", "email", "first_name", "last_name", "phone"}
    assert all(row["was"] != row["became"] for row in changes)


# --- what is known of them


def test_reach(seeded, truth):
    first = [bool((customer["first_name"] or "").strip()) for customer in truth]
    last = [bool((customer["last_name"] or "").strip()) for customer in truth]
    phone = [len(re.sub(r"\D", "", customer["phone"] or "")) >= 7 for customer in truth]
    metadata = [isinstance(customer["metadata"], dict) and bool(customer["metadata"]) for customer in truth]
    wanted = {
        "any name": sum(a or b for a, b in zip(first, last, strict=True)),
        "first and last name": sum(a and b for a, b in zip(first, last, strict=True)),
        "phone number": sum(phone),
        "metadata": sum(metadata),
        "only an email": sum(not (a or b or c) for a, b, c in zip(first, last, phone, strict=True)),
    }
    chart = seeded.charts[f"What we know of {len(truth):,} customers"]
    assert lying_bars(chart) == pytest.approx({name: number / len(truth) for name, number in wanted.items()})
    assert all(any(f"({number:,})" in text for text in chart["texts"]) for number in wanted.values())


def test_countries_are_read_from_dial_codes_and_never_guessed(seeded, truth):
    codes = Counter()
    for customer in truth:
        typed = re.sub(r"[^0-9+]", "", customer["phone"] or "")
        if not typed:
            continue
        digits = typed.removeprefix("+").removeprefix("00") if typed.startswith(("+", "00")) else ""
        if digits:
            codes[f"+{phonenumbers.parse('+' + digits).country_code}"] += 1
        else:
            codes["national" if typed.startswith("0") else "no"] += 1
    shown = lying_bars(seeded.charts["Customers with a phone, by dial code"])
    assert {
        name.split()[-1] if "+" in name else name.split()[0]: number for name, number in shown.items()
    } == codes
    assert {"Nigeria +234", "United Kingdom and others +44"} <= set(shown)


def test_metadata_of_any_shape_is_counted(seeded, truth):
    objects = [customer["metadata"] for customer in truth if isinstance(customer["metadata"], dict)]
    keys = Counter(key for each in objects for key in each)
    kinds = {row["kind"]: row["customers"] for row in seeded.frames["metadata_kinds"]}
    assert kinds["object"] == len(objects)
    assert kinds["varchar"] == 1
    shown = {row["key"]: row["customers"] for row in seeded.frames["metadata_keys"]}
    assert shown == {key: keys[key] for key in shown}
    assert sorted(shown.values(), reverse=True) == sorted(keys.values(), reverse=True)[:15]
    fields = Counter(field["variable_name"] for each in objects for field in each.get("custom_fields", []))
    assert lying_bars(seeded.charts["Its custom fields"]) == fields


# --- duplicates


def test_one_phone_in_four_spellings_is_one_suspicion(seeded, truth):
    endings = {}
    for customer in truth:
        digits = re.sub(r"\D", "", customer["phone"] or "")
        if len(digits) >= 10:
            endings.setdefault(digits[-10:].lstrip("0"), set()).add(customer["customer_code"])
    wanted = {frozenset(codes) for codes in endings.values() if len(codes) > 1}
    rows = [row for row in seeded.frames["suspects"] if row["reason"] == "same phone"]
    groups = pd.DataFrame(rows).groupby("key").customer_code.agg(frozenset)
    assert set(groups) == wanted
    assert len(groups["+2348031234567"]) == 4


def test_near_equal_emails_are_one_suspicion(seeded, truth):
    def plain(email):
        mailbox, _, domain = email.lower().partition("@")
        domain = {"sop.example.org": "shop.example.org", "mil.example.com": "mail.example.com"}.get(
            domain, domain
        )
        domain = {"soop.example.org": "shop.example.org"}.get(domain, domain)
        return mailbox.split("+")[0].replace(".", ""), domain

    codes = {}
    for customer in truth:
        codes.setdefault(plain(customer["email"]), set()).add(customer["customer_code"])
    wanted = {frozenset(each) for each in codes.values() if len(each) > 1}
    rows = [row for row in seeded.frames["suspects"] if row["reason"] == "near-equal email"]
    groups = set(pd.DataFrame(rows).groupby("key").customer_code.agg(frozenset))
    assert len(wanted) >= 5
    assert groups == wanted


def test_groups_in_which_the_risk_actions_differ_come_first(seeded):
    mixed = [row["mixed"] for row in seeded.frames["suspects"]]
    assert mixed == sorted(mixed, reverse=True)
    assert any(mixed)
    groups = pd.DataFrame(seeded.frames["suspects"]).groupby(["reason", "key"])
    assert all((len(set(group.risk_action_now)) > 1) == group.mixed.all() for _, group in groups)


def test_the_table_of_suspects_goes_straight_into_the_bulk_tool(seeded, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(seeded.frames["suspects"]).drop(columns="index").to_csv("suspects.csv", index=False)
    state = place / "copies" / "seeded" / "paystack_sandbox.sqlite"
    (tmp_path / "state.sqlite").write_bytes(state.read_bytes())
    with Sandbox(state=tmp_path / "state.sqlite", limit=0) as sandbox:
        client = PaystackClient(sandbox.secret_key, base_url=sandbox.url)
        plan = bulk_set_risk_action("suspects.csv", "deny", client=client, copy=False, dry_run=True)
    assert set(plan.customer_code) == {row["customer_code"] for row in seeded.frames["suspects"]}
    assert set(plan.new_risk_action) == {"deny"}


# --- how complete, how fresh


def test_it_says_that_the_copy_is_proven_complete(seeded, truth):
    said = f"{len(truth):,} customers here. Paystack counted {len(truth):,} at "
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d \(Africa/Lagos\)"
    assert re.search(re.escape(said) + when + ": proven complete", seeded.text())
    assert sum(bars(seeded.charts["When each customer was last read"]).values()) == len(truth)


def test_the_newest_lines_of_the_ledger_are_shown(seeded, place):
    database = place / "copies" / "seeded" / "paystack_customers.duckdb"
    with duckdb.connect(str(database), read_only=True) as db:
        lines = db.execute(
            "select kind, api_total, requests from paystack.ledger order by verified_at desc"
        ).fetchall()
    shown = [(row["kind"], row["Paystack's total"], row["requests"]) for row in seeded.frames["ledger"]]
    assert shown == lines[:10]


# --- any copy


def test_an_empty_copy_says_so_in_every_chart(empty):
    assert "There are no customers in this copy yet." in empty.text()
    assert "0 customers here. Paystack counted 0" in empty.text()
    assert len(empty.charts) >= 9
    assert all(
        "no customers yet" in chart["texts"]
        for title, chart in empty.charts.items()
        if "What we know" not in title
    )


def test_of_a_large_copy_only_small_frames_reach_pandas(large, seeded):
    rows = large.frames["copied"][0]["customers"]
    assert rows > 45_000
    groups = {
        "groups",
        "members",
        "suspects",
    }  # at most 500 suspicions of a kind, of at most 50 customers each
    assert max(len(frame) for name, frame in large.frames.items() if name not in groups) <= 500
    assert len(large.frames["suspects"]) <= 50_000
    assert large.peak_mb < seeded.peak_mb + 400
    assert "the 500 largest groups" in large.text()


def test_who_is_no_longer_shown_by_paystack_is_told_apart(large, truth):
    copied = large.frames["copied"][0]
    assert copied["no_longer_shown_by_paystack"] == len(truth)
    assert sum(bars(large.charts["New customers a month"]).values()) == copied["customers"]
    assert sum(bars(large.charts["Customers by risk action"]).values()) == copied["customers"]
    lines = large.charts["Allowed and denied customers, as the copies saw them"]["lines"]
    assert lines["deny"][-1][1] == bars(large.charts["Customers by risk action"])["deny"]


def test_large_numbers_are_readable(large):
    rows = large.frames["copied"][0]["customers"]
    assert f"{rows:,} customers here" in large.text()
    assert f"What we know of {rows:,} customers" in large.charts
    assert any("," in tick for tick in large.charts["Customers by risk action"]["ticks"]["y"])
    assert not re.search(r"<td>\d{4,}</td>", large.text())


@pytest.mark.parametrize("copy", ["seeded", "empty", "large"])
def test_charts_can_be_read_by_everybody(shown, copy):
    for title, chart in shown("customers", copy).charts.items():
        assert title
        assert chart["x"], title
        assert chart["y"], title
        if chart["time"] or "weekday" in chart["x"]:
            assert "(Africa/Lagos)" in chart["x"], title
        assert set(chart["colours"]) <= OKABE_ITO, title
        assert not chart["texts_over_the_top"], title


@pytest.mark.parametrize("copy", ["seeded", "empty", "large"])
def test_nothing_is_said_on_standard_error(shown, copy):
    said = [
        output
        for output in running.outputs(shown("customers", copy).notebook)
        if output.get("name") == "stderr"
    ]
    assert not said
