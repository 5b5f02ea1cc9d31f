"""What a run costs and what it finds: increments, late customers, vanished ones, refreshes, and honest failure."""

import gc
import weakref
from datetime import timedelta

import pytest

from paystack_source.api.models import Page, PageMeta
from paystack_source.errors import ConfigError, Rejected
from paystack_source.extract.newest import TOP_PAGES
from paystack_source.extract.run import Extraction
from paystack_source.extract.window_read import Reading
from paystack_source.extract.windows import BEGIN, END, Coverage, Window
from tests.extract.fake import NOON, Copy, FakeApi, Odd


def ages(*seconds):
    return [NOON - timedelta(seconds=age) for age in seconds]


def many(number, spread=10_000_000, **odd):
    """An API with pages of 100 and `number` customers, spread over so many seconds."""
    step = spread / number
    return FakeApi(
        [NOON - timedelta(seconds=int(step * n) + 1) for n in range(number, 0, -1)], Odd(cap=100, **odd)
    )


@pytest.fixture(scope="module")
def copied():
    """6,000 customers, half of them of the last day, in windows of 600."""
    old = [NOON - timedelta(seconds=90_000 + 1_333 * n) for n in range(3_000)]
    today = [NOON - timedelta(seconds=1 + 26 * n) for n in range(3_000)]
    copy = Copy(FakeApi(sorted(old + today), Odd(cap=100)), window_rows=600)
    assert copy.run().summary.complete
    return copy


def test_a_first_load_asks_little_more_than_there_are_pages(copied):
    assert copied.requests <= 60 + 2 * 10 + 3  # a probe and a margin for each window
    copied.assert_equal()


def test_nothing_new_costs_two_requests_however_many_are_held(copied):
    run = copied.run()
    assert (copied.requests, run.summary.complete, run.summary.rows_seen) == (2, True, 0)


@pytest.mark.parametrize(("new", "pages"), [(1, 2), (60, 2), (100, 2), (101, 2), (250, 3)])
def test_new_customers_cost_their_pages(copied, new, pages):
    copied.api.clock.now += timedelta(hours=1)
    copied.api.add(*(copied.api.clock.now for _ in range(new)))
    run = copied.run()
    assert copied.requests == pages
    assert (run.summary.complete, run.summary.rows_new) == (True, new)
    copied.assert_equal()


@pytest.mark.parametrize("new", [0, 60])
@pytest.mark.parametrize("odd", [{"meta": "other"}, {"order": "oldest"}], ids=str)
def test_new_customers_cost_little_where_totals_come_by_cursor_or_the_list_ends_with_them(odd, new):
    copy = Copy(many(2_400, spread=100_000, **odd), window_rows=800)
    copy.api.clock.now += timedelta(hours=2)  # this machine's clock is ahead
    assert copy.run().summary.complete
    copy.api.add(*(NOON + timedelta(seconds=n) for n in range(new)))
    run = copy.run()
    assert copy.requests <= (12 if new and odd.get("order") else 3)
    assert (run.summary.complete, run.summary.rows_new) == (True, new)
    assert run.summary.api_total == 2_400 + new
    copy.assert_equal()


@pytest.mark.parametrize("late", [0, 30, 10_000])
def test_without_totals_each_run_reads_the_whole_list_and_finds_whoever_is_late(late):
    copy = Copy(many(1_000, spread=30_000, meta="cursor_only"))
    copy.run()
    copy.api.add(NOON - timedelta(seconds=late))
    assert copy.run().summary.rows_new == 1
    assert copy.requests <= 3 * 11  # two walks, one of them looks as far again for the end
    copy.assert_equal()


@pytest.mark.parametrize("seed", [8, 61])
def test_a_total_that_came_by_cursor_is_believed_though_that_page_was_shorter(seed):
    copy = Copy(FakeApi(ages(1, 1), Odd(cap=3, meta="flips", short=0.5, seed=seed)), load_every=0)
    copy.run(stop_after=0)
    assert copy.run().summary.complete


@pytest.mark.parametrize("named", [3, 6, 9])  # so many answers name a total, and the others none
def test_nobody_is_marked_where_the_totals_end_before_they_confirm_it(named):
    copy = Copy(many(400, spread=4_000), window_rows=100)
    copy.run()
    copy.state["coverage"] = []
    copy.api.add(NOON + timedelta(seconds=1), copy.api.when[10])
    ordered, meta, first = copy.api._ordered, copy.api._meta, copy.api.requests
    copy.api._ordered = lambda from_, to: [n for n in ordered(from_, to) if n != 100 or from_ is to is None]
    copy.api._meta = lambda *args: (
        meta(*args) if copy.api.requests - first <= named else {"next": None, "previous": None}
    )
    copy.run()  # windows do not show the hundredth, the list does
    assert copy.held.stored[100]["_missing_since"] is None


def test_many_customers_of_one_second_are_not_taken_for_the_newest():
    copy = Copy(FakeApi(ages(*[9_000] * 30), Odd(cap=100, order="oldest")))
    copy.run()  # with a total, so until this machine's now
    copy.api.odd.meta = "cursor_only"
    copy.api.odd.cap = 25
    copy.api.add(NOON - timedelta(seconds=8_000))
    assert copy.run().summary.complete
    copy.assert_equal()


@pytest.mark.parametrize(
    ("spread", "odd"),
    [(100_000, {"order": "shuffled"}), (40, {"page_ignored": True}), (40, {"deepest": 1})],
    ids=str,
)
def test_newest_pages_that_are_in_no_order_or_do_not_reach_the_held_ones_are_not_believed(spread, odd):
    copy = Copy(many(500, spread=spread, meta="cursor_only"))
    copy.run()
    copy.api.odd = Odd(cap=100, meta="cursor_only", **odd)
    copy.api.add(*(NOON + timedelta(seconds=n % 9) for n in range(150)))
    assert copy.run().summary.complete
    copy.assert_equal()


def test_more_new_customers_than_the_newest_pages_hold_are_read_as_windows(copied):
    new = TOP_PAGES * 100 + 500
    copied.api.clock.now += timedelta(hours=1)
    copied.api.add(*(copied.api.clock.now - timedelta(seconds=n) for n in range(new)))
    run = copied.run()
    assert (run.summary.complete, run.summary.windows > 0) == (True, True)
    assert copied.requests <= new // 100 * 1.1 + 2 * 5 + 3  # a probe and a margin for each window
    copied.assert_equal()


@pytest.mark.parametrize("days", [0.5, 30])
def test_late_customers_with_an_old_date_are_found_without_reading_everything(copied, days):
    at = NOON - timedelta(days=days)
    copied.api.add(at, at, at + timedelta(seconds=3))
    run = copied.run()
    assert run.summary.complete
    assert copied.requests <= 20
    copied.assert_equal()


def test_late_customers_in_many_places_are_all_found(copied):
    copied.api.add(*(NOON - timedelta(days=2 + 4 * n) for n in range(10)))
    assert copied.run().summary.complete
    copied.assert_equal()


def test_a_customer_who_vanishes_is_marked_and_kept_and_unmarked_when_back():
    copy = Copy(many(500))
    copy.run()
    gone = copy.api.customers[77]
    when = copy.api.when[77]
    copy.api.remove(77)
    run = copy.run()
    assert (run.summary.complete, run.summary.rows_missing) == (True, 1)
    assert copy.held.stored[77]["_missing_since"] is not None
    assert copy.held.stored[77]["email"] == gone["email"]
    copy.assert_equal()
    copy.api.customers[77], copy.api.when[77] = gone, when
    assert copy.run().summary.complete
    assert copy.held.stored[77]["_missing_since"] is None


def test_a_list_that_is_older_than_the_copy_marks_nobody_and_is_not_called_complete():
    copy = Copy(many(500))
    copy.run()
    copy.api.add(*(copy.api.clock.now - timedelta(minutes=minute) for minute in (3, 2, 1)))
    copy.run()
    newer = {n: (copy.api.customers[n], copy.api.when[n]) for n in (501, 502, 503)}
    for number in newer:  # the answers come from a replica that is some minutes behind
        copy.api.remove(number)
    run = copy.run(refresh_budget=50)
    assert (run.summary.complete, run.summary.rows_missing) == (False, 0)
    for number, (row, when) in newer.items():
        copy.api.customers[number], copy.api.when[number] = row, when
    assert copy.run(refresh_budget=50).summary.complete
    copy.assert_equal()


def test_the_newest_customer_who_is_gone_for_a_day_is_marked():
    copy = Copy(many(60))
    copy.api.add(copy.api.clock.now)
    copy.run()
    copy.api.remove(61)
    assert not copy.run().summary.complete
    copy.api.clock.now += timedelta(days=1)
    run = copy.run()
    assert (run.summary.complete, run.summary.rows_missing) == (True, 1)


def test_a_customer_of_the_future_who_is_gone_is_marked():
    copy = Copy(many(60))
    copy.api.add(copy.api.clock.now + timedelta(days=400))
    copy.run()
    copy.api.remove(61)
    run = copy.run()
    assert (run.summary.complete, run.summary.rows_missing) == (True, 1)


@pytest.mark.parametrize("at", range(1, 11))
def test_one_who_vanishes_while_the_list_is_read_takes_nobody_else_along(at):
    copy = Copy(many(60, spread=60, meta="total_only"))
    copy.api.odd.cap = 7
    copy.run()
    copy.api.clock.now += timedelta(hours=1)
    answer, before = copy.api._list, copy.api.requests

    def vanishing(*question):
        if copy.api.requests == before + at:
            copy.api.remove(45)
        return answer(*question)

    copy.api._list = vanishing
    copy.run(refresh_budget=50)
    copy.run(refresh_budget=50)
    copy.assert_equal()


@pytest.mark.parametrize("at", range(1, 16, 2))
def test_one_who_vanishes_while_a_first_load_is_read_is_marked_by_it_or_never_counted(at):
    copy = Copy(many(60, spread=60))
    copy.api.odd.cap = 7
    answer = copy.api._list

    def vanishing(*question):
        if copy.api.requests + 1 == at:
            copy.api.remove(45)
        return answer(*question)

    copy.api._list = vanishing
    run = copy.run()
    if copy.api.requests >= at:
        assert (run.summary.complete, run.summary.api_total) == (True, 59)
        copy.assert_equal()
        assert run.summary.rows_missing == (45 in copy.held.stored)


def test_a_held_customer_who_vanishes_after_a_repair_read_it_again_is_marked(monkeypatch):
    monkeypatch.setattr("paystack_source.extract.fallbacks.NARROW_ROWS", 10)
    copy = Copy(many(60, spread=60))
    copy.api.odd.cap = 7
    copy.run()
    copy.api.add(*[copy.api.when[45]] * 3)
    answer, before = copy.api._list, copy.api.requests

    def vanishing(*question):
        if copy.api.requests == before + 9:  # the repair has read the window, and its rows wait for a load
            copy.api.remove(45)
        return answer(*question)

    copy.api._list = vanishing
    run = copy.run()
    assert (run.summary.complete, run.summary.rows_missing) == (True, 1)
    copy.assert_equal()


def test_a_part_without_somebody_who_vanished_counts_one_less(monkeypatch):
    monkeypatch.setattr("paystack_source.extract.fallbacks.NARROW_ROWS", 10)
    copy = Copy(many(200), window_rows=1_000)
    copy.run()
    copy.api.remove(77)
    assert copy.run().summary.complete
    assert copy.covered == 199


def test_late_customers_whom_a_run_found_count_where_it_cuts_what_to_read_again(monkeypatch):
    monkeypatch.setattr("paystack_source.extract.fallbacks.NARROW_ROWS", 100)
    copy = Copy(many(1_000), window_rows=1_000)
    copy.run()
    copy.api.clock.now += timedelta(hours=1)
    copy.api.add(*(NOON - timedelta(days=300, seconds=n) for n in range(400)))
    run = copy.run(refresh_budget=4)
    assert run.summary.complete
    refreshed = [entry for entry in copy.entries if entry.kind == "refresh"]
    assert 0 < sum(entry.requests for entry in refreshed) <= 4
    assert copy.covered == 1_400


def test_a_window_that_only_the_total_proved_is_remembered_with_its_customers():
    copy = Copy(many(60, spread=60, meta="total_only"), window_rows=1_000)
    copy.api.odd.cap = 5
    answer = copy.api._list

    def arriving(*question):
        if copy.api.requests in {5, 11, 30}:
            copy.api.add(NOON - timedelta(seconds=50))
        if copy.api.requests in {33, 36}:
            copy.api.add(NOON)
        return answer(*question)

    copy.api._list = arriving
    assert copy.run().summary.complete
    assert [(entry.kind, entry.proven) for entry in copy.entries] == [("first read", False), ("count", True)]
    (item,) = Coverage.load(copy.state["coverage"])
    assert (item.rows, item.verified_at) == (65, None)


@pytest.mark.parametrize("load_every", [0, None, 1])
def test_a_customer_who_vanishes_from_a_window_that_is_refreshed_in_the_same_run_is_marked_once(load_every):
    copy = Copy(many(2_000), window_rows=2_000, load_every=load_every)
    copy.run()
    copy.api.remove(77)
    copy.api.clock.now += timedelta(hours=1)
    run = copy.run(refresh_budget=50)
    assert (run.summary.complete, run.summary.rows_missing, run.summary.unproven) == (True, 1, [])
    assert "refresh" in {entry.kind for entry in copy.entries}
    assert copy.covered == 1_999
    assert copy.run(refresh_budget=50).summary.complete
    copy.assert_equal()


@pytest.mark.parametrize("load_every", [0, None, 1, 2])
def test_a_part_that_was_mended_is_remembered_alike_wherever_a_load_ended(monkeypatch, load_every):
    monkeypatch.setattr("paystack_source.extract.fallbacks.NARROW_ROWS", 10)
    copy = Copy(many(200), window_rows=1_000, load_every=load_every)
    copy.run()
    for number in range(60, 130):
        del copy.held.stored[number]
    assert copy.run().summary.complete
    assert copy.covered == 200
    mended = [entry for entry in copy.entries if entry.kind == "repair"]
    assert mended
    assert sum(entry.rows - entry.rows_held_before for entry in mended) == 70
    copy.assert_equal()


def test_a_whole_list_that_a_later_run_reads_counts_everybody_once():
    copy = Copy(FakeApi(ages(1, 1, 1, 1, 0), Odd(cap=100)))
    answer = copy.api._list

    def changing(*question):
        if copy.api.requests == 0:
            copy.api.add(NOON)
        if copy.api.requests == 1:
            copy.api.remove(6)  # one who was shown went,
        if copy.api.requests == 2:
            copy.api.add(NOON)  # and one came: the count agrees by chance
        return answer(*question)

    copy.api._list = changing
    assert copy.run().summary.complete
    copy.api.clock.now += timedelta(hours=1)
    assert copy.run().summary.complete
    assert "whole list" in {entry.kind for entry in copy.entries}
    assert copy.covered == 6
    assert copy.state["filters_ignored_at"] is None  # the filters hid nobody
    copy.assert_equal()


def test_one_who_vanished_and_one_who_came_late_do_not_hide_each_other_for_ever():
    copy = Copy(many(500), window_rows=100)
    copy.run()
    copy.api.remove(50)
    copy.api.add(copy.api.when[400])  # the total is as before
    for _ in range(4):
        copy.api.clock.now += timedelta(hours=1)
        assert not copy.run(refresh_budget=3).summary.filters_ignored
        assert "whole list" not in {entry.kind for entry in copy.entries}
    copy.assert_equal()
    assert copy.held.stored[50]["_missing_since"] is not None


@pytest.mark.parametrize("load_every", [0, None, 1])
@pytest.mark.parametrize(("meta", "look", "budget"), [("documented", 2, 3), ("other", 3, 9)])
def test_every_customer_is_read_again_within_the_stated_runs_and_budget(load_every, meta, look, budget):
    copy = Copy(many(1_000, meta=meta), window_rows=400, load_every=load_every)
    copy.run()
    for number in copy.api.customers:
        copy.api.customers[number]["risk_action"] = "deny"
    runs = 0
    while any(row["risk_action"] != "deny" for row in copy.held.present.values()):
        copy.api.clock.now += timedelta(hours=1)
        run = copy.run(refresh_budget=budget)
        assert run.summary.complete
        assert copy.requests <= look + budget
        runs += 1
        assert runs <= run.summary.refresh_runs
    copy.assert_equal()


def read_again(copy, budget, runs):
    """Deny everybody, and let so many runs read again; how many customers are as they were before."""
    copy.run()
    for number in copy.api.customers:
        copy.api.customers[number]["risk_action"] = "deny"
    for _ in range(runs):
        copy.api.clock.now += timedelta(hours=1)
        run = copy.run(refresh_budget=budget)
        assert run.summary.complete
        assert copy.requests <= 2 + budget
    copy.stated = run.summary.refresh_runs
    return sum(row["risk_action"] != "deny" for row in copy.held.present.values())


@pytest.mark.parametrize("first", [0, 700])
def test_more_customers_in_one_second_than_the_budget_reads_do_not_keep_others_from_being_read(first):
    crowd = [NOON - timedelta(seconds=50_000)] * 1_200
    before = [NOON - timedelta(seconds=50_000 + 97 * n) for n in range(first, 0, -1)]
    after = [NOON - timedelta(seconds=50 * n) for n in range(900, 0, -1)]
    copy = Copy(FakeApi(before + crowd + after, Odd(cap=100)), window_rows=10_000)
    assert read_again(copy, budget=10, runs=5) == 1_200
    assert copy.stated is None


def test_many_crowded_seconds_do_not_keep_others_from_being_read():
    crowds = [NOON - timedelta(seconds=10_000 * n) for n in range(5, 0, -1) for _ in range(250)]
    others = [NOON - timedelta(seconds=n) for n in range(40, 0, -1)]
    copy = Copy(FakeApi(crowds + others, Odd(cap=100)), window_rows=300)
    assert read_again(copy, budget=2, runs=8) == 5 * 250
    assert copy.stated is None


def test_seconds_that_just_fit_the_budget_are_read_again_within_the_stated_runs():
    crowds = [NOON - timedelta(seconds=10_000 * n) for n in range(6, 0, -1) for _ in range(560)]
    copy = Copy(FakeApi(crowds, Odd(cap=100)), window_rows=10_000)
    copy.run()
    runs = copy.run(refresh_budget=10).summary.refresh_runs
    assert runs <= 12
    assert read_again(copy, budget=10, runs=runs) == 0


def test_a_run_whose_clock_was_ahead_keeps_nobody_from_being_read_again():
    copy = Copy(many(700), window_rows=300)
    copy.api.clock.now += timedelta(days=365)
    copy.run()
    copy.api.clock.now = NOON
    assert read_again(copy, budget=10, runs=1) == 0


def test_the_budget_holds_where_pages_are_shorter_than_was_asked_for():
    copy = Copy(many(1_000, over_cap="clamp"), window_rows=400)
    copy.api.odd.cap = 50
    copy.run()
    runs = copy.run(refresh_budget=6).summary.refresh_runs
    assert read_again(copy, budget=6, runs=runs) == 0


def test_rows_that_the_warehouse_lost_are_read_again():
    copy = Copy(many(2_000), window_rows=400)
    copy.run()
    for number in range(900, 905):
        del copy.held.stored[number]
    run = copy.run()
    assert run.summary.complete
    assert copy.requests <= 12  # of twenty pages
    copy.assert_equal()


@pytest.mark.parametrize("off", [-1, 3])
def test_a_total_that_never_agrees_is_not_called_complete(off):
    copy = Copy(many(450, total_off=off))
    run = copy.run()
    assert not run.summary.complete
    assert run.summary.unproven[-1].difference == off
    assert set(copy.held.present) == set(copy.api.customers)  # what there is is kept all the same


def test_a_window_whose_pages_lack_customers_is_read_by_cursor():
    copy = Copy(many(450, drop=0.6))
    assert copy.run().summary.complete
    assert any(entry.proof == "cursor" for entry in copy.entries)
    copy.assert_equal()


def test_filters_that_do_not_filter_are_noticed_and_remembered():
    copy = Copy(many(700, from_="ignored", to="ignored"), window_rows=100)
    run = copy.run()
    assert (run.summary.complete, run.summary.filters_ignored, run.summary.refresh_runs) == (True, True, None)
    assert copy.state["filters_ignored_at"]
    copy.assert_equal()
    copy.api.add(NOON)
    assert copy.run().summary.complete
    assert copy.requests == 2


def test_an_answer_without_a_total_is_asked_for_again_and_is_no_sign_of_a_filter_that_does_not_filter(copied):
    meta, left = copied.api._meta, [3]  # of the answers that come without a total

    def sometimes(*args):
        found = meta(*args)
        if copied.api.requests > first + 3 and left[0]:
            left[0] -= 1
            del found["total"]
        return found

    first = copied.api.requests
    copied.api._meta = sometimes
    copied.api.add(NOON - timedelta(days=20))
    run = copied.run()
    copied.api._meta = meta
    assert left == [0]
    assert (run.summary.complete, run.summary.filters_ignored) == (True, False)
    assert copied.requests <= 20
    copied.assert_equal()


@pytest.mark.parametrize(
    ("most", "meta"),
    [(20, "documented"), (100, "documented"), (400, "documented"), (100, "other"), (400, "cursor_only")],
)
def test_a_list_that_ends_at_a_number_and_counts_no_more_is_never_called_complete(most, meta):
    copy = Copy(many(1_000, most=most, meta=meta), window_rows=300)
    for _ in range(2):
        tally = copy.run(refresh_budget=30).summary
        assert not tally.complete
        assert tally.unproven
    assert len(copy.held.present) > most
    window = Window(NOON - timedelta(seconds=9_000_000), NOON - timedelta(seconds=1_000))
    assert not Copy(copy.api, window_rows=300).run(bounds=window).summary.complete


@pytest.mark.parametrize("new", [0, 150])
def test_nobody_is_marked_as_missing_by_a_list_that_ends_at_a_number_since(new):
    copy = Copy(many(1_000), window_rows=300)
    assert copy.run().summary.complete
    copy.api.odd.most = 400
    for _ in range(2):
        copy.api.clock.now += timedelta(hours=1)
        copy.api.add(*(copy.api.clock.now for _ in range(new)))
        run = copy.run(refresh_budget=30)
        assert (run.summary.complete, run.summary.rows_missing) == (False, 0)
    copy.api.odd.most = 0
    assert copy.run().summary.complete
    copy.assert_equal()


@pytest.mark.parametrize("stop_after", range(1, 6))
def test_a_killed_run_does_not_forget_to_ask_who_is_older(stop_after):
    copy = Copy(many(1_000, most=400), window_rows=1_000, load_every=1)
    copy.run(stop_after=stop_after)
    assert not copy.run().summary.complete


def test_counts_that_never_come_are_no_sign_of_a_filter_that_does_not_filter():
    copy = Copy(many(700), window_rows=100)
    copy.run()
    copy.api.add(NOON - timedelta(days=20))
    answer = copy.api._list

    def uncounted(page, per_page, use_cursor, cursor, from_, to):
        found = answer(page, per_page, use_cursor, cursor, from_, to)
        if from_ is None and to is None:
            return found
        return Page(raw=found.raw, meta=PageMeta(), params={})

    copy.api._list = uncounted
    run = copy.run()
    assert (run.summary.complete, run.summary.filters_ignored) == (True, False)
    copy.assert_equal()


def test_a_window_that_does_not_show_who_is_listed_is_not_leant_on():
    copy = Copy(FakeApi(ages(3_251), Odd(shift=90_000)))
    copy.run()
    copy.api.clock.now += timedelta(hours=1)
    copy.api.customers[1]["risk_action"] = "deny"
    assert copy.run(refresh_budget=9).summary.filters_ignored
    assert copy.run(refresh_budget=9).summary.complete
    copy.assert_equal()


def test_a_customer_who_loses_the_creation_time_is_no_sign_of_a_filter_that_does_not_filter():
    copy = Copy(many(900), window_rows=200)
    copy.run()
    copy.api.undate(3, 400)
    copy.api.clock.now += timedelta(hours=1)
    run = copy.run(refresh_budget=50)
    assert (run.summary.complete, run.summary.filters_ignored, run.summary.rows_missing) == (True, False, 0)
    copy.assert_equal()


@pytest.mark.parametrize("ahead", [0, 30])
def test_filters_that_did_not_filter_are_tried_again_after_a_week(ahead):
    copy = Copy(many(700, from_="ignored", to="ignored"), window_rows=100)
    copy.api.clock.now += timedelta(days=ahead)  # the clock of that run was wrong
    copy.run()
    copy.api.odd = Odd(cap=100)
    for days in (6, 8):
        copy.api.clock.now = NOON + timedelta(days=days)
        copy.api.add(NOON - timedelta(days=100 + days))
        assert copy.run().summary.complete
        assert ("whole list" in {entry.kind for entry in copy.entries}) == (days == 6 and not ahead)
    assert copy.state["filters_ignored_at"] is None
    copy.assert_equal()


def test_pages_that_are_refused_prove_nothing_without_a_total_or_a_cursor():
    copy = Copy(many(700, meta="cursor_only", cursors="none", deepest=3))
    assert not copy.run().summary.complete
    copy = Copy(many(700, meta="cursor_only", deepest=3))
    assert copy.run().summary.complete
    copy.assert_equal()


@pytest.mark.parametrize(
    ("deepest", "window_rows"), [(3, 30_000), (3, 600), (7, 1_000), (2, 30_000)], ids=str
)
@pytest.mark.parametrize(
    "odd", [{"cursors": "none"}, {"cursors": "unfiltered"}, {"cursors": "none", "shallow": True}], ids=str
)
def test_windows_are_as_small_as_an_api_wants_that_refuses_high_page_numbers(deepest, window_rows, odd):
    copy = Copy(many(4_000, deepest=deepest, **odd), window_rows=window_rows)
    assert copy.run().summary.complete
    copy.assert_equal()
    first = copy.requests
    assert copy.run(bounds=Window(NOON - timedelta(days=80), NOON)).summary.complete
    assert max(first, copy.requests) < 4 * 40 + 20 * deepest


def test_edits_arrive_from_windows_that_are_larger_than_an_api_shows_by_page_numbers():
    copy = Copy(many(4_000, cursors="none"), window_rows=4_000)
    copy.run()
    copy.api.odd = Odd(cap=100, cursors="none", deepest=3)
    for n in (1, 1_000, 4_000):
        copy.api.customers[n]["phone"] = "edited"
    for day in range(1, 4):
        copy.api.clock.now = NOON + timedelta(days=day)
        assert copy.run(refresh_budget=60).summary.complete
        assert copy.requests < 60 + 60
    copy.assert_equal()


@pytest.mark.parametrize("pages", [3, 10])
def test_a_cursor_that_is_refused_half_way_proves_nothing_beside_pages_that_are(pages):
    copy = Copy(many(1_200, meta="cursor_only", deepest=pages))
    answer = copy.api._list

    def shallow(page, per_page, use_cursor, cursor, from_, to):
        if cursor == f"at:{1_200 - 100 * pages}":
            raise Rejected("too deep")
        return answer(page, per_page, use_cursor, cursor, from_, to)

    copy.api._list = shallow
    assert not copy.run().summary.complete


def test_a_window_that_does_not_add_up_is_in_the_ledger_with_its_difference():
    copy = Copy(many(450, total_off=2), window_rows=100)
    copy.run()
    wrong = [entry for entry in copy.entries if not entry.proven]
    assert wrong
    assert all(entry.difference == 2 for entry in wrong)


def assert_entries_hold(copy):
    """The warehouse holds of each window that was read what its line says."""
    for entry in copy.entries:
        if entry.kind != "count":
            window = Window(entry.window_from or BEGIN, entry.window_to or END)
            assert (entry.proven, entry.rows) == (True, len(copy.held.ids(window)))


@pytest.mark.parametrize("load_every", [0, None, 1])
def test_customers_without_a_creation_time_are_of_no_window_and_in_no_way(load_every):
    copy = Copy(many(900), window_rows=200, load_every=load_every)
    copy.api.undate(3, 400, 899)
    for _ in range(3):
        run = copy.run(refresh_budget=50)
        assert (run.summary.complete, run.summary.unproven, run.summary.rows_missing) == (True, [], 0)
        assert copy.covered == 897
        assert_entries_hold(copy)
        copy.assert_equal()
        copy.api.clock.now += timedelta(hours=1)
    assert "refresh" in {entry.kind for entry in copy.entries}
    copy.api.add(NOON + timedelta(minutes=5), NOON - timedelta(days=50))
    assert copy.run().summary.complete
    copy.assert_equal()


def test_the_ledger_says_what_was_asked_and_held():
    copy = Copy(many(450), window_rows=200)
    run = copy.run()
    windows = [entry for entry in copy.entries if entry.kind == "first read"]
    assert sum(entry.rows for entry in windows) == 450
    assert all(entry.proven and entry.api_total == entry.distinct_ids for entry in windows)
    assert all(entry.rows_held_before == 0 and entry.run_id == run.run_id for entry in windows)
    count = copy.entries[-1]
    assert (count.kind, count.api_total, count.rows, count.proven) == ("count", 450, 450, True)
    assert 5 <= sum(entry.requests for entry in windows) <= copy.requests  # there are five pages


def test_only_the_asked_range_is_read_and_the_rest_stays_unproven():
    copy = Copy(many(1_000), window_rows=200)
    window = Window(NOON - timedelta(seconds=5_000_000), NOON - timedelta(seconds=2_000_000))
    assert copy.run(bounds=window).summary.complete
    assert set(copy.held.present) == {n for n, at in copy.api.when.items() if at in window}
    assert copy.requests <= 12
    assert copy.run().summary.complete
    copy.assert_equal()


@pytest.mark.parametrize(
    "odd",
    [
        {"to": "day"},
        {"from_": "day", "to": "day"},
        {"to": "day", "shift": 50_400},
        {"shift": 3_600},
        {"shift": -3_600},
        {"slack": 30},
        {"to": "ignored"},
        {"from_": "ignored", "to": "ignored"},
        {"meta": "cursor_only", "shift": 3_600},
    ],
    ids=str,
)
@pytest.mark.parametrize("ends", [(300_000, 150_000), (None, 150_000), (300_000, None)], ids=str)
def test_a_range_is_whole_whatever_the_api_makes_of_from_and_to(odd, ends):
    copy = Copy(many(600, spread=600_000, **odd), window_rows=100)
    lo, hi = (None if age is None else NOON - timedelta(seconds=age) for age in ends)
    window = Window(lo or BEGIN, hi or END)
    assert copy.run(bounds=window).summary.complete
    assert set(copy.held.present) == {n for n, at in copy.api.when.items() if at in window}


def test_a_range_that_does_not_show_who_is_held_in_it_is_not_called_complete():
    copy = Copy(many(1_000))
    copy.run()
    copy.api.remove(500)
    window = Window(NOON - timedelta(seconds=9_000_000), NOON - timedelta(seconds=1_000_000))
    run = copy.run(bounds=window)
    assert not run.summary.complete
    assert [entry.difference for entry in run.summary.unproven] == [-1]


def test_a_range_whose_answers_begin_to_stray_is_cut_from_the_whole_list(monkeypatch):
    monkeypatch.setattr("paystack_source.extract.run.filters_hold", lambda _reader, _shown: True)
    copy = Copy(many(1_000, spread=600_000, shift=3_600), window_rows=100)
    window = Window(NOON - timedelta(seconds=300_000), NOON - timedelta(seconds=150_000))
    run = copy.run(bounds=window)
    inside = {n for n, at in copy.api.when.items() if at in window}
    assert (run.summary.complete, run.summary.api_total, run.filters_ignored) == (True, len(inside), True)
    assert set(copy.held.present) == inside


def test_a_range_that_begins_to_stray_half_way_counts_its_customers_once():
    copy = Copy(many(1_500, spread=600_000), window_rows=100)
    answer = copy.api._list

    def straying(*question):
        copy.api.odd.slack = 3_600 if copy.api.requests > 30 else 0
        return answer(*question)

    copy.api._list = straying
    window = Window(NOON - timedelta(seconds=500_000), NOON - timedelta(seconds=100_000))
    run = copy.run(bounds=window)
    assert run.summary.complete
    assert sum(entry.rows for entry in copy.entries) > run.summary.api_total == len(copy.held.present)
    assert set(copy.held.present) == {n for n, at in copy.api.when.items() if at in window}


def test_a_range_is_asked_for_as_far_as_a_crowded_page_tells():
    api = FakeApi(ages(352_777, 315_841, 262_466, 226_928, 200_688, 97_570, 96_995), Odd(cap=3, shift=90_000))
    copy = Copy(api)
    window = Window(NOON - timedelta(seconds=240_955), NOON - timedelta(seconds=226_465))
    assert copy.run(bounds=window).summary.complete
    assert set(copy.held.present) == {n for n, at in api.when.items() if at in window} != set()


def test_a_range_is_whole_where_the_first_page_shows_nobody_to_try_it_with():
    copy = Copy(FakeApi(ages(14), Odd(cap=100, to="day", drop=1.0)))
    assert copy.run(bounds=Window(BEGIN, END)).summary.complete
    copy.assert_equal()


def test_a_range_inside_what_is_proven_leaves_the_rest_proven():
    copy = Copy(many(1_000), window_rows=10_000)
    copy.run()
    window = Window(NOON - timedelta(seconds=5_000_000), NOON - timedelta(seconds=2_000_000))
    copy.run(bounds=window)
    coverage = Coverage.load(copy.state["coverage"])
    assert sum(item.rows for item in coverage) == 1_000
    assert coverage.gaps(Window(BEGIN, NOON)) == []


def test_another_account_in_the_same_dataset_is_refused_before_anything_is_stored():
    copy = Copy(many(50))
    copy.run()
    copy.api = many(60)
    for row in copy.api.customers.values():
        row["integration"] = 8
    with pytest.raises(ConfigError, match="test integration 7, and this key reads test integration 8"):
        copy.run()
    assert len(copy.held.present) == 50


def test_an_empty_account_is_complete_and_one_that_lost_everybody_is_not_believed():
    copy = Copy(many(1))
    copy.api.remove(1)
    assert copy.run().summary.complete
    assert copy.requests == 1
    copy = Copy(many(5))
    copy.run()
    for number in range(1, 6):
        copy.api.remove(number)
    with pytest.raises(ConfigError, match="no customer at all"):
        copy.run()


def test_a_second_in_which_thousands_were_imported_is_one_window():
    burst = [NOON - timedelta(seconds=500)] * 1_500
    copy = Copy(
        FakeApi(ages(*range(2_000, 1_000, -1)) + burst + ages(*range(400, 0, -1)), Odd(cap=100)),
        window_rows=200,
    )
    assert copy.run().summary.complete
    copy.assert_equal()


@pytest.mark.parametrize("bounds", [None, Window(BEGIN, NOON)])
def test_windows_that_were_read_are_let_go(monkeypatch, bounds):
    alive = weakref.WeakSet()
    begin = Reading.__init__

    def noted(self, *args, **kwargs):
        alive.add(self)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(Reading, "__init__", noted)
    monkeypatch.setattr("paystack_source.extract.reader.AHEAD_PAGES", 5)
    holding = []
    settle = Extraction._record_window

    def held():
        return sum(1 for reading in alive if reading.seen)

    def counted(self, result, kind):
        if held() > 8:
            gc.collect()
        holding.append(held())
        return settle(self, result, kind)

    monkeypatch.setattr(Extraction, "_record_window", counted)
    Copy(many(2_000), window_rows=100).run(bounds=bounds)
    assert len(holding) >= 20
    assert max(holding) <= 8  # the ids of those under way, not of all
