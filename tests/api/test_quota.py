"""The budget never causes a 429 by itself and wastes little; in a simulated world and on real threads."""

import math
import threading
from collections import deque
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paystack_source.api.clock import Clock
from paystack_source.api.quota import NO_HEADERS, Budget, Quota, QuotaHeaders, read_headers, retry_after
from tests.api.quota_world import EPOCH, Crowd, Server
from tests.events import PATIENCE, until

RANDOM = st.integers(0, 2**32).map(Random)
ROUNDINGS = st.sampled_from([math.ceil, math.floor, round])
LATENCIES = st.sampled_from([(0.001, 0.01), (0.02, 0.3), (0.1, 1.0), (0.01, 9.0)])  # one way, seconds
WINDOWS = 5
LATE = "Mon, 01 Jan 99999999999 00:00:00 GMT"


def uniform(bounds, random):
    return random.uniform(*bounds)


@st.composite
def worlds(draw, **fixed):
    options = {
        "limit": draw(st.sampled_from([1, 10, 100, 250])),
        "anchor": -draw(st.floats(0, 60)),
        "headers": draw(st.sampled_from(["always", "on_429", "never"])),
        "reset": draw(st.sampled_from(["relative", "epoch"])),
        "rounding": draw(ROUNDINGS),
        "date": True,
    }
    return Server(**(options | fixed))


@settings(max_examples=30)
@given(server=worlds(), latency=LATENCIES, threads=st.sampled_from([1, 8, 64]), random=RANDOM)
def test_never_a_429_by_our_own_fault(server, latency, threads, random):
    crowd = Crowd(server, Budget(server.limit), threads, partial(uniform, latency), random)
    crowd.run(60 * WINDOWS)
    assert server.refused == 0
    assert server.granted > 0


@settings(max_examples=30)
@given(server=worlds(limit=100), random=RANDOM)
def test_little_of_the_quota_is_wasted(server, random):
    crowd = Crowd(server, Budget(100), 32, partial(uniform, (0.02, 0.3)), random)
    granted = crowd.run(60 * WINDOWS)
    assert len(granted) >= 0.95 * 100 * WINDOWS


@settings(max_examples=30)
@given(server=worlds(limit=100, headers="always"), random=RANDOM)
def test_with_headers_a_fresh_window_is_used_from_its_start(server, random):
    crowd = Crowd(server, Budget(100), 32, partial(uniform, (0.02, 0.3)), random)
    granted = crowd.run(60 * WINDOWS)
    full = [server.anchor + 60 * turn for turn in range(2, WINDOWS)]
    for start in full:
        inside = [moment for moment in granted if start <= moment < start + 60]
        assert len(inside) == 100
        assert inside[0] < start + 3  # a second for the rounding, and the latency


@settings(max_examples=20)
@given(server=worlds(limit=100), random=RANDOM, lost=st.sampled_from([0.01, 0.3]))
def test_answers_that_never_arrive_count_as_sent(server, random, lost):
    crowd = Crowd(server, Budget(100), 32, partial(uniform, (0.02, 0.3)), random, lost=lost)
    crowd.run(60 * WINDOWS)
    assert server.refused == 0


@settings(max_examples=20)
@given(server=worlds(limit=100, reset="epoch", headers="always"), random=RANDOM, error=st.floats(-3600, 3600))
def test_a_wrong_clock_of_this_machine_does_no_harm(server, random, error):
    crowd = Crowd(server, Budget(100), 32, partial(uniform, (0.02, 0.3)), random, clock_error=error)
    granted = crowd.run(60 * WINDOWS)
    assert server.refused == 0
    assert len(granted) >= 0.95 * 100 * WINDOWS


@settings(max_examples=25)
@given(
    server=worlds(limit=100),
    random=RANDOM,
    theirs=st.sampled_from([0.1, 0.5, 0.9]),
    burst=st.booleans(),
)
def test_another_user_of_the_key_costs_few_429s_and_little_time(server, random, theirs, burst):
    seconds = 60 * 8
    count = round(100 * theirs)
    others = [
        server.anchor + 60 * window + (random.uniform(0, 3) if burst else random.uniform(0, 60))
        for window in range(1, 9)
        for _ in range(count)
    ]
    crowd = Crowd(server, Budget(100), 32, partial(uniform, (0.02, 0.3)), random, others=others)
    granted = crowd.run(seconds)
    assert server.refused <= 9 * 16  # nine windows; 32 threads that knew nothing would cost 32 in each
    assert len(granted) >= 0.7 * (100 - count) * seconds / 60


@settings(max_examples=10)
@given(server=worlds(limit=100), random=RANDOM)
def test_it_recovers_when_the_other_user_is_gone(server, random):
    others = [server.anchor + 60 + random.uniform(0, 5) for _ in range(90)]
    crowd = Crowd(server, Budget(100), 32, partial(uniform, (0.02, 0.3)), random, others=others)
    granted = crowd.run(60 * 10)
    # Five windows, of which one may be cut off by either end.
    assert len([moment for moment in granted if moment > 300]) >= 0.98 * 100 * 4


@settings(max_examples=15)
@given(server=worlds(limit=100), random=RANDOM, share=st.sampled_from([0.1, 0.5]))
def test_a_share_leaves_the_rest_to_others(server, random, share):
    crowd = Crowd(server, Budget(100, share=share), 32, partial(uniform, (0.02, 0.3)), random)
    granted = crowd.run(60 * WINDOWS)
    for moment in granted:
        window = [m for m in granted if moment <= m < moment + 59]
        assert len(window) <= 2 * 100 * share  # the end of one window and the beginning of the next
    assert 0.94 * 100 * share * WINDOWS <= len(granted) <= 100 * share * (WINDOWS + 1)


@settings(max_examples=15)
@given(server=worlds(limit=40, headers="always"), random=RANDOM)
def test_the_headers_limit_wins_over_a_default_that_is_too_high(server, random):
    crowd = Crowd(server, Budget(600), 32, partial(uniform, (0.02, 0.3)), random)
    crowd.run(60 * WINDOWS)
    assert server.refused == 0  # the first request goes alone, so that it can tell


def test_the_headers_limit_wins_over_a_default_that_is_too_low():
    server = Server(1000, -10.0)
    crowd = Crowd(server, Budget(100), 32, lambda _: 0.1, None)
    crowd.random = type("Never", (), {"random": lambda self: 1.0})()
    assert len(crowd.run(45)) == 1000


def test_an_explicit_cap_is_never_raised_by_headers():
    budget = Budget(5, cap=5)
    budget.charge()
    budget.settle(0.0, 0.1, QuotaHeaders(600, 599, (30.0, 32.0)))
    sent = 1
    while budget.wait(0.2) == 0:
        budget.charge()
        sent += 1
    assert sent == 5


def test_without_a_limit_only_a_429_stops():
    budget = Budget(None)
    for _ in range(1000):
        assert budget.wait(1.0) == 0
        budget.charge()
    budget.settle(1.0, 2.0, QuotaHeaders(100, 0, (10.0, 12.0)), refused=True)
    assert budget.wait(2.0) == pytest.approx(12.0)
    assert budget.wait(14.0) == 0


def test_a_429_that_says_nothing_closes_for_a_whole_window():
    budget = Budget(100)
    budget.charge()
    budget.settle(1.0, 2.0, refused=True)
    assert budget.wait(2.0) == pytest.approx(60.0)
    assert budget.wait(62.0) == 0


def sendable(budget, now):
    """How many requests may be sent at this moment."""
    count = 0
    while budget.wait(now) == 0:
        budget.charge()
        count += 1
    return count


def test_a_429_frees_at_its_reset_what_was_answered_before():
    budget = Budget(10)
    for _ in range(5):
        budget.charge()
        budget.settle(0.0, 1.0)  # would count until 61
    budget.charge()
    budget.settle(2.0, 3.0, QuotaHeaders(10, 0, (8.0, 10.0)), refused=True)
    assert budget.wait(3.0) == pytest.approx(10.0)
    assert budget.wait(13.0) == 0
    for _ in range(10):  # the whole limit, one after another
        assert budget.wait(13.0) == 0
        budget.charge()
        budget.settle(13.0, 13.5)
    assert budget.wait(14.0) > 50


def test_an_answer_without_headers_inside_a_known_window_ends_with_it():
    budget = Budget(10)
    for _ in range(2):
        budget.charge()
    budget.settle(0.0, 1.0, QuotaHeaders(10, 9, (29.0, 31.0)))
    budget.settle(0.0, 2.0)  # lost, but sent in this window or before
    assert sendable(budget, 32.1) == 10


def test_each_answer_narrows_the_end_of_the_window():
    budget = Budget(2)
    for late in (40.0, 31.0):  # a slow answer, then a quick one of the same window
        budget.charge()
        budget.settle(0.0, 1.0, QuotaHeaders(2, 1, (29.0, late)))
    assert budget.wait(1.0) == pytest.approx(31.0)


def test_an_answer_of_an_older_window_that_comes_late_changes_nothing():
    budget = Budget(100)
    for _ in range(2):
        budget.charge()
    budget.settle(60.0, 61.0, QuotaHeaders(100, 99, (57.0, 59.0)))
    budget.settle(
        1.0, 61.5, QuotaHeaders(100, 0, (0.0, 2.0))
    )  # sent a minute ago, counted in the window before
    assert sendable(budget, 64.0) == 99


def test_what_others_have_used_is_counted():
    budget = Budget(100)
    for remaining in (50, 3, 40):  # in any order: the least is the latest
        budget.charge()
        budget.settle(0.0, 1.0, QuotaHeaders(100, remaining, (29.0, 31.0)))
    assert sendable(budget, 1.0) == 3
    assert budget.wait(1.0) == pytest.approx(31.0)


def test_without_headers_requests_at_a_time_double():
    budget, rounds = Budget(600), []
    for now in range(8):
        rounds.append(sendable(budget, now))
        for _ in range(rounds[-1]):
            budget.settle(now, now + 0.5)
    assert rounds == [1, 2, 4, 8, 16, 32, 537, 0]


def test_after_a_429_what_lies_beyond_goes_one_at_a_time():
    budget = Budget(100)
    for _ in range(40):
        budget.charge()
        budget.settle(0.0, 0.5)
    budget.charge()
    budget.settle(1.0, 1.5, refused=True)
    assert sendable(budget, 62.0) == 41  # as many as were granted, and one to see


def test_what_was_never_sent_costs_nothing():
    budget = Budget(1)
    budget.charge()
    assert budget.wait(0.0) == math.inf
    budget.release()
    assert budget.wait(0.0) == 0


class TestHeaders:
    def test_whole_seconds_may_be_rounded_either_way(self):
        reading = read_headers(
            {"x-ratelimit-limit": "100", "x-ratelimit-remaining": "7", "x-ratelimit-reset": "30"}, EPOCH
        )
        assert reading == QuotaHeaders(100, 7, (29.0, 31.0))

    def test_fractions_are_taken_as_they_are(self):
        assert read_headers({"x-ratelimit-reset": "1.25"}, EPOCH).ends == pytest.approx((1.24, 1.26))

    def test_a_moment_is_compared_with_the_answers_date(self):
        headers = {"x-ratelimit-reset": "1795000030", "date": "Wed, 18 Nov 2026 11:06:40 GMT"}
        assert read_headers(headers, 5.0).ends == (28.0, 31.0)

    def test_a_moment_without_date_is_compared_with_this_clock(self):
        assert read_headers({"x-ratelimit-reset": "1795000030"}, 1_795_000_000.0).ends == (28.0, 31.0)
        assert read_headers({"x-ratelimit-reset": "1795000030000"}, 1_795_000_000.0).ends == (28.0, 31.0)

    def test_retry_after_stands_in_for_reset_on_a_429(self):
        assert read_headers({"retry-after": "5"}, EPOCH, refused=True).ends == (4.0, 6.0)
        assert read_headers({"retry-after": "5"}, EPOCH) == NO_HEADERS
        dated = {"retry-after": "Wed, 18 Nov 2026 11:07:00 GMT", "date": "Wed, 18 Nov 2026 11:06:40 GMT"}
        assert read_headers(dated, EPOCH, refused=True).ends == (18.0, 21.0)
        both = {"x-ratelimit-reset": "9", "retry-after": "5"}
        assert read_headers(both, EPOCH, refused=True).ends == (8.0, 10.0)

    @pytest.mark.parametrize(
        "text", ["", "soon", "-5", "nan", "inf", "1e400", "٣", "<configure>", "9" * 400, "9" * 5000, LATE]
    )
    def test_nonsense_is_no_reading(self, text):
        names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after", "date")
        reading = read_headers(dict.fromkeys(names, text), EPOCH, refused=True)
        assert reading.ends is None or reading.ends[1] <= 600.0
        assert 0.0 <= retry_after(dict.fromkeys(names, text), EPOCH) <= 600.0

    def test_a_reset_in_the_far_future_is_bounded(self):
        assert read_headers({"x-ratelimit-reset": "999999"}, EPOCH).ends == (600.0, 600.0)

    def test_a_limit_of_zero_is_not_believed(self):
        assert read_headers({"x-ratelimit-limit": "0", "x-ratelimit-reset": "1"}, EPOCH).limit is None


@pytest.fixture(autouse=True)
def nobody_looks_up_unasked(monkeypatch):
    monkeypatch.setattr("paystack_source.api.quota.MAX_WAIT", 60.0)


class HandClock(Clock):
    """Time passes when the test says so; `resting` counts the threads that sleep on it."""

    def __init__(self):
        self.moment = 0.0
        self.moved = threading.Condition()
        self.resting = self.rests = 0

    def now(self):
        return self.moment

    def rest(self, seconds, wake):
        until = self.moment + seconds
        with self.moved:
            self.resting += 1
            self.rests += 1
            self.moved.notify_all()
            self.moved.wait_for(lambda: self.moment >= until or wake.is_set(), timeout=PATIENCE)
            self.resting -= 1

    def wait_for_rest(self):
        with self.moved:
            assert self.moved.wait_for(lambda: self.resting, timeout=PATIENCE)

    def wait_for_rests(self, count):
        with self.moved:
            assert self.moved.wait_for(lambda: self.rests >= count, timeout=PATIENCE)

    def pass_to(self, moment):
        with self.moved:
            self.moment = moment
            self.moved.notify_all()


def test_threads_are_served_in_the_order_they_came_and_only_the_first_sleeps():
    clock = HandClock()
    told = []
    quota = Quota("list", lambda: Budget(1, cap=1), clock, lambda *wait: told.append(wait))
    first = quota.acquire()
    quota.settle(first)  # counts for 60 s
    served, threads = [], []

    def work(number):
        quota.settle(quota.acquire())
        served.append(number)
        done.release()

    done = threading.Semaphore(0)
    for number in range(32):
        threads.append(threading.Thread(target=work, args=(number,), daemon=True))
        threads[-1].start()
        until(lambda: len(quota.queue) > number)  # noqa: B023  # called at once
    for turn in range(1, 33):
        clock.wait_for_rest()
        assert clock.resting == 1
        clock.pass_to(60.0 * turn)
        assert done.acquire(timeout=PATIENCE)
    assert served == list(range(32))
    assert told == [(60.0, "list", "quota")] * 32
    assert quota.waited_seconds == pytest.approx(60.0 * 32)


def test_an_answer_wakes_who_waits_for_it():
    clock = HandClock()
    quota = Quota("list", lambda: Budget(600), clock)
    alone = quota.acquire()  # the first goes alone, the others wait for its answer
    got = []
    threads = [threading.Thread(target=lambda: got.append(quota.acquire()), daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: len(quota.queue) == 5)
    assert not got
    quota.settle(alone, QuotaHeaders(600, 599, (30.0, 32.0)))
    for thread in threads:
        thread.join(PATIENCE)
    assert len(got) == 5
    assert clock.resting == 0


def test_a_request_that_was_never_sent_makes_room_for_who_waits():
    quota = Quota("list", lambda: Budget(600), HandClock())
    got = []
    quota.acquire()
    waiter = threading.Thread(target=lambda: got.append(quota.acquire()), daemon=True)
    waiter.start()
    until(lambda: quota.queue)
    quota.release()
    waiter.join(PATIENCE)
    assert len(got) == 1


def test_nobody_overtakes_who_waits():
    quota = Quota("list", lambda: Budget(None), HandClock())
    quota.queue.append(threading.Event())  # somebody who was woken and has not run yet
    late = threading.Thread(target=quota.acquire, daemon=True)
    late.start()
    until(lambda: len(quota.queue) == 2)
    with quota.lock:
        quota.queue.popleft()
        quota._wake_first()
    late.join(PATIENCE)
    assert not quota.queue


def test_a_wait_is_told_once_however_often_an_answer_interrupts_it():
    clock, told = HandClock(), []
    quota = Quota("list", lambda: Budget(3, cap=3), clock, lambda *wait: told.append(wait))
    quota.settle(quota.acquire(), QuotaHeaders(3, 2, (29.0, 31.0)))
    pending = [quota.acquire() for _ in range(2)]
    waiter = threading.Thread(target=quota.acquire, daemon=True)
    waiter.start()
    for count, charge in enumerate(pending, start=1):
        clock.wait_for_rests(count)
        quota.settle(charge, QuotaHeaders(3, 0, (29.0, 31.0)))  # sets its event, which ends the rest
        with clock.moved:
            clock.moved.notify_all()
    clock.wait_for_rests(3)
    clock.pass_to(31.5)
    waiter.join(PATIENCE)
    assert not waiter.is_alive()
    assert told == [(31.0, "list", "quota")]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_ends_a_wait_and_lets_the_next_one_in(interrupt):
    clock = HandClock()
    quota = Quota("list", lambda: Budget(1, cap=1), clock)
    quota.settle(quota.acquire())

    def interrupted(seconds, wake):
        raise interrupt

    rest, clock.rest = clock.rest, interrupted
    with pytest.raises(interrupt):
        quota.acquire()
    clock.rest = rest
    assert not quota.queue
    clock.pass_to(60.0)
    assert quota.acquire() == 60.0


def test_ctrl_c_while_somebody_joins_the_queue_leaves_nobody_in_it():
    class Interrupted(deque):
        def append(self, turn):
            super().append(turn)
            raise KeyboardInterrupt

    quota = Quota("list", lambda: Budget(None), HandClock())
    quota.queue = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        quota.acquire()
    assert not quota.queue


def test_the_reason_of_a_wait_is_told(clock):
    told = []
    quota = Quota("update", lambda: Budget(100), clock, lambda *wait: told.append(wait))
    quota.settle(quota.acquire(), QuotaHeaders(100, 0, (8.0, 10.0)), refused=True)
    quota.acquire()
    assert told == [(10.0, "update", "rate_limited")]
