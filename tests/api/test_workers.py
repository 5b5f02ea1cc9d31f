"""Jobs side by side: each done once, no more at once than was said, errors handed over, nothing left running."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from paystack_source.api.workers import ThreadWorkers, fetch_all
from paystack_source.errors import ClosedError, Unavailable
from paystack_source.extract import reader
from paystack_source.extract.reader import FAST_WIDTH, Reader
from paystack_source.extract.window_read import Query
from tests.extract.fake import FakeApi


@pytest.fixture
def workers():
    made = []

    def make(perform):
        made.append(ThreadWorkers(perform))
        return made[-1]

    yield make
    for one in made:
        one.close()
        ended(one)


def ended(pool):
    for thread in pool._threads:
        thread.join(5)
        assert not thread.is_alive()


def everything(pool):
    found = []
    while pool.busy:
        try:
            found += pool.wait()
        except ValueError:
            found.append("error")
    return found


def test_every_job_is_done_once_and_no_more_at_once_than_said(workers):
    threads = set()

    def perform(job):
        threads.add(threading.current_thread())
        return job * 2

    pool = workers(perform)
    for job in range(300):
        pool.start(job, width=3)
    assert sorted(everything(pool)) == [job * 2 for job in range(300)]
    assert 1 <= len(threads) <= 3


def test_an_error_is_handed_over_and_the_others_still_come(workers):
    def perform(job):
        if job in {3, 4}:
            raise ValueError("no")
        return job

    pool = workers(perform)
    for job in range(6):
        pool.start(job, width=2)
    assert sorted(map(str, everything(pool))) == ["0", "1", "2", "5", "error", "error"]


def test_closing_ends_the_wait_and_begins_no_job_more(workers):
    gate, began, told, begun = threading.Event(), threading.Event(), threading.Event(), []

    def perform(job):
        begun.append(job)
        began.set()
        gate.wait(5)

    def wait():
        with pytest.raises(ClosedError):
            pool.wait()
        told.set()

    pool = workers(perform)
    for job in range(200):
        pool.start(job, width=1)
    threading.Thread(target=wait, daemon=True).start()
    assert began.wait(5)
    pool.close()
    assert told.wait(5)
    gate.set()
    ended(pool)
    assert begun == [0]


def test_idle_threads_go_when_the_pool_is_closed(workers):
    pool = workers(lambda job: job)
    for job in range(20):
        pool.start(job, width=8)
    everything(pool)
    pool.close()
    ended(pool)


class Knows:
    """A client that knows who is not `unknown`; `held` is how many are being fetched."""

    def until(self, _check):
        return self

    def fetch(self, code):
        from paystack_source.errors import NotFound

        if code == "unknown":
            raise NotFound("no")
        return self

    data = {"id": 1}  # noqa: RUF012


def test_customers_are_fetched_and_those_whom_nobody_knows_are_named():
    found = dict(fetch_all(Knows(), ["a", "unknown", "b"]))
    assert found == {"a": {"id": 1}, "unknown": None, "b": {"id": 1}}


def lists():
    return FakeApi([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(500)])


PAGES = [Query(None, None, page) for page in range(1, 41)]


@pytest.mark.parametrize(("far", "fewest", "most"), [(-1.0, 8, 48), (1e9, 1, FAST_WIDTH)])
def test_many_pages_are_asked_for_at_once_where_answers_are_waited_for_and_few_where_not(
    monkeypatch, far, fewest, most
):
    monkeypatch.setattr(reader, "SLOW_SECONDS", far)
    api, together, at_once = lists(), threading.Barrier(fewest), []
    answer, lock = api._list, threading.Lock()
    api.lock = threading.RLock()
    running = [0]

    def listing(**question):
        with lock:
            running[0] += 1
            at_once.append(running[0])
        together.wait(20)
        with lock:
            running[0] -= 1
        question = {"page": None, "per_page": 100, "use_cursor": False, "next": None} | question
        return answer(*(question[n] for n in ("page", "per_page", "use_cursor", "next", "from_", "to")))

    api.list = listing
    assert len(Reader(api).request_all(PAGES)) == 40
    assert fewest <= max(at_once) <= most


def test_large_answers_are_few_at_once(monkeypatch):
    monkeypatch.setattr(reader, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr(reader, "READY_BYTES", 1)
    api = lists()
    asked = Reader(api)
    asked.request(PAGES[0])
    assert asked.room == 1
    assert len(asked.request_all(PAGES)) == 40


def test_pages_that_were_asked_for_together_are_forgotten_together():
    api, broken = lists(), [2]
    answer = api.list

    def listing(**question):
        if question["page"] in broken:
            broken.remove(question["page"])
            raise Unavailable("no")
        return answer(**question)

    api.list = listing
    asking = Reader(api)
    with pytest.raises(Unavailable):
        asking.request_all(PAGES[:5])
    ((_, page),) = asking.request_all(PAGES[4:5])
    assert page.meta.page == 5
