"""A generator that works ahead: the same items in the same order, bounded, and gone when nobody wants more."""

import threading

import pytest

from paystack_source.extract.read_ahead import read_ahead
from tests.events import PATIENCE


def drained():
    """Waits until no reader thread is left."""
    for thread in threading.enumerate():
        if thread.name == "paystack-reader":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_the_same_items_in_the_same_order_made_elsewhere():
    makers = set()

    def items():
        for number in range(1_000):
            makers.add(threading.current_thread())
            yield number

    assert list(read_ahead(items(), lambda _: 1, 10)) == list(range(1_000))
    assert threading.current_thread() not in makers


def test_an_error_comes_after_what_was_made_before_it():
    def items():
        yield from range(3)
        raise ValueError("broke")

    taken = []
    with pytest.raises(ValueError, match="broke"):
        taken.extend(taken_one for taken_one in _noting(read_ahead(items(), lambda _: 1, 10), taken))
    assert taken[:3] == [0, 1, 2]


def _noting(items, taken):
    for item in items:
        taken.append(item)
    yield from ()


def test_no_more_than_the_bound_waits():
    made = []
    reached = threading.Event()

    def items():
        for number in range(100):
            made.append(number)
            if len(made) == 6:
                reached.set()
            yield number

    taking = read_ahead(items(), lambda _: 10, 50)
    assert next(taking) == 0
    assert reached.wait(PATIENCE)
    threading.Event().wait(0.02)  # it would go on now, if it did
    assert len(made) <= 1 + 5 + 1
    taking.close()
    drained()


def test_things_without_size_never_wait():
    made = threading.Event()

    def items():
        yield from range(1_000)
        made.set()

    taking = read_ahead(items(), lambda _: 0, 1)
    assert next(taking) == 0
    assert made.wait(PATIENCE)
    taking.close()


def test_the_work_ends_when_nobody_takes_any_longer():
    closed = threading.Event()

    def items():
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    taking = read_ahead(items(), lambda _: 1, 5)
    assert next(taking) == 0
    taking.close()
    drained()
    assert closed.wait(PATIENCE)


def test_whoever_leaves_early_stops_what_the_next_item_would_take():
    stopped = threading.Event()

    def items():
        yield 0
        assert stopped.wait(PATIENCE)

    taking = read_ahead(items(), lambda _: 1, 5, stopped.set)
    assert next(taking) == 0
    taking.close()
    assert stopped.is_set()
    drained()


def test_what_ended_by_itself_is_not_stopped():
    def items():
        yield 0
        raise ValueError

    stopped = threading.Event()
    taking = read_ahead(items(), lambda _: 1, 5, stopped.set)
    assert next(taking) == 0
    with pytest.raises(ValueError):
        next(taking)
    assert not stopped.is_set()


def test_whoever_leaves_has_nothing_more_made():
    made, full = [], threading.Event()

    def items():
        for number in range(100):
            made.append(number)
            if len(made) == 3:
                full.set()  # one was taken, one waits, and there is no room for this one
            yield number

    taking = read_ahead(items(), lambda _: 1, 1)
    assert next(taking) == 0
    assert full.wait(PATIENCE)
    taking.close()
    drained()
    assert made == [0, 1, 2]
