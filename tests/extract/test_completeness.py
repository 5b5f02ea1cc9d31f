"""However the API behaves, the copy is complete, and what cannot be proven is not called complete."""

from datetime import timedelta
from unittest.mock import patch

from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from tests.extract.fake import NOON, Copy, FakeApi, Odd

quick = settings(max_examples=50)

# Seconds before noon: many share one, so that several customers sit on the same second and on the windows' edges.
times = st.lists(st.integers(1, 400), max_size=120).map(
    lambda ages: [NOON - timedelta(seconds=age) for age in sorted(ages, reverse=True)]
)

oddities = st.builds(
    Odd,
    to=st.sampled_from(["exclusive", "inclusive", "ignored", "day"]),
    from_=st.sampled_from(["inclusive", "exclusive", "ignored"]),
    cap=st.sampled_from([1, 3, 5, 7, 100]),
    over_cap=st.sampled_from(["clamp", "refuse"]),
    order=st.sampled_from(["newest", "oldest", "shuffled"]),
    meta=st.sampled_from(["documented", "other", "both", "total_only", "cursor_only", "flips"]),
    numbers_as_text=st.booleans(),
    end=st.sampled_from([None, "null", "", "missing", "repeat"]),
    cursors=st.sampled_from(["combine", "unfiltered", "none"]),
    short=st.sampled_from([0.0, 0.5]),
    slack=st.sampled_from([0, 0, 1, 30]),
    shift=st.sampled_from([0, 0, 0, 1, 3_600, -3_600, 90_000]),
    seed=st.integers(0, 9),
)
several = st.sampled_from([None, 1, 2, 3, 7])  # after so many events, also inside a window
loads = several | st.just(0)  # or all in one


# A window shows nobody, its cursor somebody, and the whole list everybody.
@example(
    [NOON - timedelta(seconds=1)] * 5,
    Odd(to="day", cap=3, meta="flips", cursors="unfiltered", short=0.5, seed=4),
    None,
)
@quick
@given(times, oddities, loads)
def test_every_customer_arrives_whatever_the_api_is_like(created, odd, load_every):
    if odd.cap == 1:
        created = created[:25]
    note(f"{[int((NOON - at).total_seconds()) for at in created]} {odd} {load_every}")
    copy = Copy(FakeApi(created, odd), load_every=load_every)
    run = copy.run()
    assert run.summary.complete
    copy.assert_equal()


@quick
@given(times, oddities, st.sampled_from([1, 2, 5]), loads)
def test_what_is_called_complete_is_it_also_where_high_page_numbers_are_refused(
    created, odd, deepest, load_every
):
    odd.deepest = deepest
    copy = Copy(FakeApi(created, odd), load_every=load_every)
    for budget in (0, 30):
        if copy.run(refresh_budget=budget).summary.complete:
            copy.assert_equal()


@quick
@given(times, oddities, st.integers(1, 8), st.integers(0, 40), loads)
def test_customers_who_arrive_while_it_reads_are_there_after_the_next_run(
    created, odd, every, late_by, load_every
):
    odd.arrive_every, odd.late_by, odd.cap = every, late_by, max(odd.cap, 5)
    note(f"{[int((NOON - at).total_seconds()) for at in created]} {odd} {load_every}")
    api = FakeApi(created, odd)
    copy = Copy(api, load_every=load_every)
    copy.run()
    odd.arrive_every = 0
    run = copy.run()
    assert run.summary.complete
    copy.assert_equal()


@quick
@given(times, oddities, st.lists(st.integers(0, 30), max_size=4), st.data())
def test_killed_anywhere_and_run_again_it_is_complete(created, odd, kills, data):
    if odd.cap == 1:
        created = created[:25]
    note(f"{[int((NOON - at).total_seconds()) for at in created]} {odd} {kills}")
    copy = Copy(FakeApi(created, odd))
    for kill in kills:
        budget = data.draw(st.sampled_from([0, 3, 50]))
        copy.load_every = data.draw(loads)
        copy.run(stop_after=kill, refresh_budget=budget)
    run = copy.run()
    assert run.summary.complete
    copy.assert_equal()


histories = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.sampled_from([0, 1, 40, 5_000, 400_000]), max_size=12)),
        st.tuples(st.sampled_from(["vanish", "back", "edit", "undate"]), st.integers(0, 200)),
        st.tuples(st.just("pass"), st.sampled_from([1, 3_600, 90_000, 700_000])),
        st.tuples(st.just("change"), oddities),
        st.tuples(st.just("run"), st.sampled_from([0, 0, 3, 6, 1_000])),
    ),
    max_size=12,
)


@settings(quick, max_examples=30)
@given(times, oddities, histories, st.sampled_from(["documented", "both", "total_only"]), loads)
def test_whatever_became_of_customers_and_api_nobody_listed_is_missing_and_two_runs_later_all_is_equal(
    created, odd, history, meta, load_every
):
    api = FakeApi(created[:60], odd)
    copy = Copy(api, load_every=load_every)
    gone = {}

    def run(budget):
        api.odd.meta, api.odd.cap = meta, max(api.odd.cap, 5)
        return copy.run(refresh_budget=budget).summary.complete

    api.add(NOON)
    note(f"{[int((NOON - at).total_seconds()) for at in created]} {odd} {history}")
    # The first page of another order does not show that somebody newer is listed.
    orders = {odd.order, *(value.order for what, value in history if what == "change")}
    young = timedelta(0) if orders == {"newest"} else timedelta(days=1)
    for what, value in [*history, ("run", 0)]:
        listed = sorted(api.customers)
        newest = max(at for each, at in api.when.items() if each not in api.undated)
        if what == "add":
            api.add(*(api.clock.now - timedelta(seconds=late) for late in value))
        elif what == "pass":
            api.clock.now += timedelta(seconds=value)
        elif what == "change":
            api.odd = value
        elif what == "run":
            assert run(value)
        elif what == "back":
            for number in sorted(gone)[:1]:
                api.customers[number], api.when[number] = gone.pop(number)
        elif what == "edit":
            api.customers[listed[value % len(listed)]]["risk_action"] = "deny"
        elif what == "undate":
            number = listed[value % len(listed)]
            if api.when[number] < newest:  # without a time it would not show that who vanished is older
                api.undate(number)
        else:
            number = listed[value % len(listed)]
            # A list without the newest customer is an old one.
            known = number in api.undated or api.when[number] < min(newest, api.clock.now - young)
            if len(listed) > 1 and known:
                api.undated.discard(number)
                gone[number] = api.customers[number], api.when[number]
                api.remove(number)
    for _ in range(3):
        api.clock.now += timedelta(hours=1)
        assert run(10_000)
    copy.assert_equal()


meanwhile = st.dictionaries(
    st.integers(1, 40),  # the request before which it happens
    st.tuples(st.sampled_from(["vanish", "vanish", "late", "new", "edit"]), st.integers(0, 200)),
    max_size=4,
)


@patch("paystack_source.extract.fallbacks.NARROW_ROWS", 10)
@settings(quick, max_examples=30)
@given(times, st.sampled_from([5, 100]), st.lists(meanwhile, min_size=1, max_size=3), st.data())
def test_whatever_happens_while_it_reads_the_numbers_of_a_run_are_those_of_the_copy(created, cap, runs, data):
    api = FakeApi(created, Odd(cap=cap))
    api.add(NOON)
    copy, answer = Copy(api, load_every=data.draw(several)), api._list
    for plan in [*runs, {}]:
        began, before = api.requests, copy.held.total()
        marked = sum(row["_missing_since"] is not None for row in copy.held.stored.values())

        def changing(*question, plan=plan, began=began):
            happen(api, *plan.pop(api.requests + 1 - began, ("", 0)))
            return answer(*question)

        api._list = changing
        tally = copy.run(refresh_budget=data.draw(st.sampled_from([0, 6, 1_000]))).summary
        assert tally.complete
        assert tally.api_total == copy.held.total()
        assert tally.rows_new == copy.held.total() - before + tally.rows_missing
        assert (
            sum(row["_missing_since"] is not None for row in copy.held.stored.values())
            == marked + tally.rows_missing
        )
        assert copy.covered == copy.held.total()
        api.clock.now += timedelta(hours=1)


def happen(api, what, value):
    listed = sorted(api.customers)
    number = listed[value % len(listed)]
    if what == "vanish" and api.when[number] < max(
        api.when.values()
    ):  # a list without the newest is an old one
        api.remove(number)
    elif what in {"late", "new"}:
        api.add(api.clock.now - timedelta(seconds=value if what == "late" else 0))
    elif what == "edit":
        api.customers[number]["risk_action"] = "deny"
