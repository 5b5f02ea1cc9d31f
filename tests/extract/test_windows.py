"""Coverage keeps its promises whatever is added, dropped and joined: ordered, disjoint, nothing forgotten."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paystack_source.errors import ConfigError
from paystack_source.extract.fallbacks import differing
from paystack_source.extract.windows import (
    ALWAYS,
    BEGIN,
    END,
    Coverage,
    Proven,
    Window,
    bounds,
    cut_at,
    frozen_end,
)
from paystack_source.values import parse_time, time_text

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
seconds = st.integers(0, 60)
windows = (
    st.tuples(seconds, seconds)
    .filter(lambda pair: pair[0] < pair[1])
    .map(lambda pair: Window(NOON + timedelta(seconds=pair[0]), NOON + timedelta(seconds=pair[1])))
)
proven = st.builds(
    Proven,
    windows,
    st.integers(0, 5_000),
    st.none() | st.integers(0, 99).map(lambda h: NOON + timedelta(hours=h)),
)


def built(items):
    coverage = Coverage()
    for item in items:
        coverage.add(item)
    return coverage


def covered(coverage, at):
    return any(at in item.window for item in coverage)


@given(st.lists(proven, max_size=12), windows)
def test_windows_and_gaps_tile_the_time(items, within):
    coverage = built(items)
    found = [item.window for item in coverage]
    assert all(left.hi <= right.lo for left, right in pairwise(found))
    gaps = coverage.gaps(within)
    at = within.lo
    while at < within.hi:
        assert covered(coverage, at) != any(at in gap for gap in gaps)
        at += timedelta(seconds=1)


@given(st.lists(proven, max_size=12), st.integers(0, 40_000))
def test_joining_neighbours_changes_neither_what_is_covered_nor_how_many(items, most):
    coverage = built(items)
    before = [covered(coverage, NOON + timedelta(seconds=n)) for n in range(60)]
    rows, oldest = sum(item.rows for item in coverage), min((item.age_key for item in coverage), default=None)
    coverage.compact(most)
    assert [covered(coverage, NOON + timedelta(seconds=n)) for n in range(60)] == before
    assert sum(item.rows for item in coverage) == rows
    assert min((item.age_key for item in coverage), default=None) == oldest


@given(st.lists(proven, max_size=12))
def test_what_is_remembered_comes_back(items):
    coverage = built(items)
    again = Coverage.load(coverage.dump())
    assert list(again) == list(coverage)


def test_a_damaged_memory_is_read_again_rather_than_trusted():
    window = [time_text(NOON), time_text(NOON + timedelta(hours=1)), 5, None]
    backwards = [time_text(NOON + timedelta(hours=9)), time_text(NOON + timedelta(hours=8)), 5, None]
    assert [item.rows for item in Coverage.load([window, window, backwards])] == [5]


@given(windows, st.lists(st.integers(-10, 70), max_size=10))
def test_cuts_tile_the_window_and_part_no_second(window, cuts):
    parts = cut_at(window, [NOON + timedelta(seconds=cut, milliseconds=300) for cut in cuts])
    assert parts[0].lo == window.lo
    assert parts[-1].hi == window.hi
    assert all(left.hi == right.lo for left, right in pairwise(parts))
    assert all(part.hi.microsecond == 0 for part in parts)


def test_what_is_asked_reaches_past_both_edges_and_is_open_where_the_window_is():
    asked = Window(NOON, NOON + timedelta(hours=1)).asked()
    assert asked == (NOON - timedelta(seconds=1), NOON + timedelta(hours=1, seconds=1))
    assert ALWAYS.asked() == (None, None)


def test_the_present_second_belongs_to_this_run():
    assert frozen_end(NOON + timedelta(milliseconds=1)) == NOON + timedelta(seconds=1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-2, 9)), min_size=1, max_size=20))
def test_halving_finds_each_difference_that_does_not_cancel_another(pairs):
    parts = [Window(NOON + timedelta(seconds=n), NOON + timedelta(seconds=n + 1)) for n in range(len(pairs))]
    held = [rows for rows, _ in pairs]
    there = [rows + max(more, 0) for rows, more in pairs]  # only ever more: no cancelling out
    asked = []

    def count(lo, hi):
        asked.append((lo, hi))
        return sum(rows for part, rows in zip(parts, there, strict=True) if lo <= part.lo and part.hi <= hi)

    found = list(differing(parts, held, count))
    assert found == [part for part, rows, now in zip(parts, held, there, strict=True) if rows != now]
    assert len(asked) <= 1 + len(found) * len(pairs).bit_length()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01T13:00:00+01:00", NOON),
        (" 2026-03-01 12:00 ", NOON),
        (date(2026, 3, 1), datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text, expected):
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "01/03/2026", pd.NaT])
def test_what_is_no_time_is_refused_with_advice(text):
    with pytest.raises(ConfigError, match="is not a time") as caught:
        bounds(text, None)
    assert "2026-01-31" in caught.value.advice


def test_a_range_is_open_where_nothing_was_said_and_never_backwards():
    assert bounds(None, None) is None
    assert bounds("2026-03-01T12:00:00Z", None) == Window(NOON, END)
    assert bounds(None, "2026-03-01T12:00:00Z") == Window(BEGIN, NOON)
    with pytest.raises(ConfigError, match="not after its start"):
        bounds("2026-03-02", "2026-03-01")
