"""Requests side by side: as many as pay, answers bounded, errors handed over, nothing left running."""

import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from paystack_source.errors import ClosedError, Unavailable
from paystack_source.extract.fetch import AHEAD, ALONE, CAP, Fetcher, InFlight
from paystack_source.extract.reader import Reader
from paystack_source.extract.window_read import Query
from tests.events import PATIENCE, until
from tests.extract.fake import FakeApi


@pytest.fixture
def fetcher():
    made = []

    def make(fetch, **options):
        made.append(Fetcher(lambda job: partial(fetch, job), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_every_job_is_answered_once(fetcher):
    pool = fetcher(lambda job: job * 2)
    pool.submit(*range(300))
    assert sorted(pool.take() for _ in range(300)) == [(job, job * 2) for job in range(300)]
    assert pool.pending == 0


def test_an_error_is_handed_over_and_the_others_still_come(fetcher):
    def fetch(job):
        if job == 3:
            raise ValueError("no")
        return job

    pool = fetcher(fetch)
    pool.submit(*range(6))
    found = []
    for _ in range(6):
        try:
            found.append(pool.take()[0])
        except ValueError:
            found.append("error")
    assert sorted(map(str, found)) == ["0", "1", "2", "4", "5", "error"]


def test_asking_for_an_answer_to_nothing_is_an_error_not_a_wait(fetcher):
    with pytest.raises(LookupError):
        fetcher(lambda job: job).take()


def test_answers_that_nobody_takes_stop_the_fetching(fetcher):
    asked = []
    pool = fetcher(asked.append, ready=10)
    pool._in_flight.limit = 8
    pool.submit(*range(100))
    for _ in range(5):
        pool.take()
    until(lambda: not pool._running and not pool._may_run())
    assert len(asked) == 5 + 10


def test_and_large_ones_stop_it_sooner(fetcher):
    asked = []

    def fetch(job):
        asked.append(job)
        return 10

    pool = fetcher(fetch, size=lambda answer: answer, ready_bytes=50)
    pool._in_flight.limit = 8
    pool.submit(0)
    assert pool.take() == (0, 10)  # so large they are
    pool.submit(*range(100))
    until(lambda: not pool._running and not pool._may_run())
    assert len(asked) == 1 + 5
    assert sorted(pool.take()[0] for _ in range(100)) == list(range(100))
    assert pool._answers.size == 0


def test_a_near_server_is_asked_by_whoever_wants_the_answers(fetcher):
    by = set()
    pool = fetcher(lambda _: by.add(threading.current_thread()))
    pool.submit(*range(9))
    for _ in range(9):
        pool.take()
    assert by == {threading.current_thread()}
    assert not pool._threads


def test_and_a_few_requests_ahead():
    under_way, most = [], 0

    def begin(job):
        nonlocal most
        under_way.append(job)
        most = max(most, len(under_way))
        return partial(under_way.remove, job)

    pool = Fetcher(begin)
    pool.submit(*range(50))
    assert sorted(pool.take()[0] for _ in range(50)) == list(range(50))
    assert most == AHEAD
    assert pool.pending == 0


def test_a_request_that_cannot_be_begun_is_an_answer_too():
    def begin(job):
        raise ValueError(job)

    pool = Fetcher(begin)
    pool.submit(1, 2)
    for job in (1, 2):
        with pytest.raises(ValueError, match=str(job)):
            pool.take()


def test_many_at_once_are_sent_by_others(fetcher):
    by = set()
    pool = fetcher(lambda _: by.add(threading.current_thread()))
    pool._in_flight.limit = 8
    pool.submit(*range(50))
    for _ in range(50):
        pool.take()
    assert by
    assert threading.current_thread() not in by


@pytest.mark.parametrize(("before", "after"), [(8, ALONE), (ALONE, 8)])
def test_another_number_in_flight_leaves_nothing_undone(fetcher, before, after):
    pool = fetcher(lambda job: job)
    pool._in_flight.limit = before
    pool.submit(*range(50))
    taken = [pool.take()[0] for _ in range(5)]
    pool._in_flight.limit = after
    taken += [pool.take()[0] for _ in range(45)]
    assert sorted(taken) == list(range(50))


def settled(seconds_each, most_per_second=float("inf"), limits=None, now=0.0):
    """The number in flight after many answers of a server with this latency and this ceiling."""
    limits = limits or InFlight()
    for _ in range(6_000):
        side_by_side = AHEAD if limits.limit == ALONE else limits.limit
        rate = min(side_by_side / seconds_each, most_per_second)
        now += 1 / rate
        limits.answered(now, 1 / rate if limits.limit == ALONE else side_by_side / rate)
    return limits


def test_a_slow_line_gets_many_at_once_and_a_near_server_no_threads():
    assert settled(0.3).limit == CAP
    assert settled(0.03)._settled > CAP / 2
    assert settled(0.0007, most_per_second=1_500)._settled == ALONE


def test_a_near_server_is_never_asked_by_threads_not_even_to_try():
    limits, now = InFlight(), 0.0
    for _ in range(10_000):
        now += 0.001
        limits.answered(now, 0.001)
        assert limits.limit == ALONE


def test_a_line_that_becomes_quick_gets_fewer_again():
    limits = settled(0.3)
    assert limits.limit == CAP
    assert settled(0.0007, most_per_second=1_500, limits=limits, now=1e6)._settled == ALONE


def test_two_slow_answers_in_a_row_are_a_slow_line():
    limits = InFlight()
    limits.idle(1.0, 0.3)
    assert limits.limit == ALONE
    limits.idle(1.3, 0.3)
    assert limits.limit == CAP


def test_a_stall_of_this_machine_is_no_slow_line():
    limits = InFlight()
    for number in range(1, 100):
        for _ in range(AHEAD):  # all that were under way come late together
            limits.answered(float(number), 0.5)
        limits.answered(number + 0.1, 0.001)
    assert limits.limit < CAP


def test_a_pause_says_nothing_about_the_line():
    limits = InFlight()
    for number in range(200):
        limits.answered(number / 1_000, 0.001)
        limits.idle(number / 1_000, 0.001)
    assert limits.limit == ALONE


def test_work_that_is_no_longer_wanted_is_dropped(fetcher):
    gate = threading.Event()
    pool = fetcher(lambda job: job == 99 or (gate.wait(PATIENCE) and job))
    for limit in (ALONE, CAP):
        pool._in_flight.limit = limit
        pool.submit(*range(50))
        pool.forget()  # does not wait for what is under way
        pool.submit(99)
        assert pool.take() == (99, True)
    gate.set()


def test_an_answer_that_comes_after_it_was_forgotten_is_nobodys(fetcher):
    gate = threading.Event()
    pool = fetcher(lambda job: job == 99 or gate.wait(PATIENCE))
    pool._in_flight.limit = 8
    pool.submit(*range(4))
    until(lambda: pool._running == 4)
    pool.forget()
    gate.set()
    until(lambda: not pool._running)
    pool.submit(99)
    assert pool.take() == (99, True)
    assert pool.pending == 0


def test_no_request_is_sent_by_whoever_takes_while_threads_are_at_theirs(fetcher):
    gate, by = threading.Event(), []

    def fetch(job):
        by.append(threading.current_thread())
        return gate.wait(PATIENCE)

    pool = fetcher(fetch)
    pool._in_flight.limit = 2
    pool.submit(1, 2, 3)
    until(lambda: len(by) == 2)
    pool._in_flight.limit = ALONE
    assert not pool._jobs_alone()
    gate.set()
    assert [pool.take()[1] for _ in range(3)] == [True] * 3
    assert threading.current_thread() not in by[:2]


@pytest.mark.parametrize("limit", [ALONE, CAP])
def test_closing_ends_the_wait_for_an_answer_and_asks_nothing_more(fetcher, limit):
    asked, gate, began, ended = [], threading.Event(), threading.Event(), []

    def fetch(job):
        asked.append(job)
        began.set()
        gate.wait(PATIENCE)

    def take():
        with pytest.raises(ClosedError):
            pool.take()
        ended.append(True)

    pool = fetcher(fetch)
    pool._in_flight.limit = limit
    pool.submit(*range(200))
    taking = threading.Thread(target=take)
    taking.start()
    assert began.wait(PATIENCE)
    pool.close()
    if limit == ALONE:  # it is at the request itself
        gate.set()
    taking.join(PATIENCE)
    gate.set()
    for thread in pool._threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert ended
    assert len(asked) <= limit
    with pytest.raises(ClosedError):
        pool.submit(1)


def test_closing_lets_idle_threads_go(fetcher):
    pool = fetcher(lambda job: job)
    pool._in_flight.limit = 8
    pool.submit(*range(20))
    for _ in range(20):
        pool.take()
    pool.close()
    for thread in pool._threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_pages_that_were_asked_for_together_are_forgotten_together():
    api, broken = FakeApi([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(500)]), [2]

    def begin(api_list=api.list, **question):
        if question["page"] in broken:
            broken.remove(question["page"])
            raise Unavailable("no")
        return partial(api_list, **question)

    api.begin_list = begin
    reader = Reader(api)
    queries = [Query(None, None, page) for page in (1, 2, 3, 4, 5)]
    with pytest.raises(Unavailable):
        reader.ask_all(queries)
    (page,) = reader.ask_all(queries[4:])
    assert page.meta.page == 5
