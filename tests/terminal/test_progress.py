"""What the progress line says, and when each view says it."""

import io
import sys
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paystack_source.cli.terminal import Terminal
from paystack_source.progress import (
    LatestProgress,
    LineView,
    NotebookView,
    Progress,
    ProgressState,
    fitting_view,
    in_notebook,
    line,
    to_stream,
)
from paystack_source.values import duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_line_says_rate_quota_time_left_and_what_it_waits_for():
    now = ProgressState(
        "Reading", "rows", done=300, total=900, elapsed=3.0, quota=(12, 600), note="waiting 12 s"
    )
    assert line(now) == "Reading: 300 of 900 rows (33 %) · 100/s · quota 12/600 · 6 s left · waiting 12 s"


def test_without_a_total_it_counts():
    assert (
        line(ProgressState("Reading", "customers", done=1300, elapsed=200.0))
        == "Reading: 1,300 customers · 6.5/s"
    )


@given(
    st.builds(
        ProgressState,
        st.just("x"),
        st.just("rows"),
        done=st.integers(0, 10**9),
        total=st.none() | st.integers(0, 10**9),
        elapsed=st.floats(0, 1e7),
    )
)
def test_any_state_can_be_shown(now):
    assert "\n" not in line(now)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (45, "45 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (59.6, "1 min 00 s")],
)
def test_durations_read_like_speech(seconds, words):
    assert duration(seconds) == words


def plain(clock):
    out = io.StringIO()
    return out, Progress(
        "Reading", total=100, unit="rows", view=LineView(to_stream(out), every=5), clock=clock
    )


def test_a_log_gets_a_line_every_few_seconds_not_every_row():
    clock = Clock()
    out, progress = plain(clock)
    with progress:
        for _ in range(100):
            clock.now += 0.2
            progress.advance()
    lines = out.getvalue().splitlines()
    assert lines[0] == "Reading …"
    assert 4 <= len(lines) <= 6
    assert lines[-1] == "Reading: 100 of 100 rows (100 %) · 5.0/s · took 20 s"


def test_a_wait_is_shown_at_once_and_only_once():
    clock = Clock()
    out, progress = plain(clock)
    with progress:
        for left in (12, 11, 10):
            progress.note(f"waiting {left} s for the quota window")
        progress.note()
    shown = [text for text in out.getvalue().splitlines() if "waiting" in text]
    assert len(shown) == 1
    assert "waiting 12 s" in shown[0]


def test_a_wait_that_is_over_is_shown_no_longer_and_the_next_one_at_once():
    clock = Clock()
    out, progress = plain(clock)
    waits = LatestProgress()
    with waits.follow(progress):
        waits(12.0, "update", "quota")
        clock.now += 11
        progress.advance()  # the answer to an earlier request
        clock.now += 6
        progress.advance()
        waits(30.0, "update", "rate_limited")
    shown = [text.partition("waiting ")[2] for text in out.getvalue().splitlines()[1:]]
    assert shown == ["12 s: the quota", "12 s: the quota", "", "30 s: the quota, by a 429", ""]


def test_what_failed_before_anything_was_done_leaves_the_word_to_the_error():
    out, progress = plain(Clock())
    with pytest.raises(ValueError), progress:
        raise ValueError
    assert out.getvalue() == "Reading …\n"


def test_what_failed_half_way_says_how_far_it_came():
    out, progress = plain(Clock())
    progress.advance(40)
    with pytest.raises(ValueError), progress:
        raise ValueError
    assert out.getvalue().splitlines()[-1].startswith("Reading: 40 of 100 rows")


def test_many_threads_lose_no_count():
    progress = Progress("x")
    threads = [threading.Thread(target=lambda: [progress.advance() for _ in range(2000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.now.done == 16000


def test_quiet_counts_but_shows_nothing(capsys):
    with Terminal(quiet=True).progress("x", total=1) as progress:
        progress.advance()
    assert progress.now.done == 1
    assert capsys.readouterr() == ("", "")


def test_a_notebook_gets_one_cell_output_that_is_updated(monkeypatch):
    shown, updates = [], []

    def display(data, *, raw, display_id):
        shown.append(data["text/plain"])
        return types.SimpleNamespace(update=lambda data, raw: updates.append(data["text/plain"]))

    class ZMQInteractiveShell:
        pass

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = ZMQInteractiveShell
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    assert in_notebook()
    clock = Clock()
    with Progress("Reading", total=50, view=fitting_view(), clock=clock) as progress:
        assert isinstance(progress._view, NotebookView)
        for _ in range(50):
            clock.now += 0.1
            progress.advance()
    assert shown == ["Reading …"]
    assert len(updates) < 25
    assert updates[-1] == "Reading: 50 of 50 rows (100 %) · 10/s · took 5 s"


def test_here_is_no_notebook():
    assert not in_notebook()
