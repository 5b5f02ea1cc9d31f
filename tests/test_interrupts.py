"""A signal that another thread was handed, as any may be, is heard by a main thread that waits."""

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from paystack_source.api.client import PaystackClient
from paystack_source.api.clock import Clock
from paystack_source.api.quota import Budget, Quota
from paystack_source.api.workers import ThreadWorkers, fetch_all
from paystack_source.extract.read_ahead import read_ahead
from paystack_source.interrupts import redeliver_interrupts
from tests.events import PATIENCE


class Heard:
    """`wait` is what another thread does while the main thread waits for it."""

    def __init__(self):
        self.event = threading.Event()
        self.main = threading.main_thread().ident

    def wait(self, *_):
        same, before = 0, None
        while same < 20:
            now = self.place()
            same = same + 1 if now == before and "start" not in now else 0
            before = now
            threading.Event().wait(0.001)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        self.in_time = self.event.wait(PATIENCE)
        return self.in_time

    def place(self):
        """Where the main thread is, from the innermost function outwards."""
        frame, names = sys._current_frames()[self.main], []
        names.append(frame.f_lasti)
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        return names

    def beside(self, then):
        """Does so in a thread of its own, and then what ends the main thread's wait."""

        def both():
            self.wait()
            then()

        threading.Thread(target=both, daemon=True).start()


@pytest.fixture
def heard():
    made = Heard()
    before = signal.signal(signal.SIGINT, lambda *_: made.event.set())
    yield made
    signal.signal(signal.SIGINT, before)
    assert made.in_time


def workers(heard):
    made = ThreadWorkers(heard.wait)
    made.start(1, width=1)
    assert made.wait() == [True]
    made.close()


def reader(heard):
    def items():
        yield heard.wait()

    assert list(read_ahead(items(), lambda _: 1, 10)) == [True]


def planning(heard):
    class Client:
        def until(self, _check):
            return self

        def fetch(self, _key):
            heard.wait()
            return self

        data = None

    assert list(fetch_all(Client(), ["CUS_1"])) == [("CUS_1", None)]


def quota(heard):
    made = Quota("list", lambda: Budget(600), Clock())
    alone = made.acquire()  # the next one may go once its answer is there
    heard.beside(lambda: made.settle(alone))
    made.acquire()


def clock(heard):
    wake = threading.Event()
    heard.beside(wake.set)
    while not wake.is_set():
        Clock().rest(10 * PATIENCE, wake)


@pytest.mark.parametrize("waits", [workers, reader, planning, quota, clock])
def test_a_signal_that_another_thread_was_handed_is_heard(waits, heard):
    waits(heard)


def test_so_it_is_while_all_connections_are_taken(heard, sandbox):
    server = sandbox(customers=10)
    with PaystackClient(server.secret_key, base_url=server.url, quota=0, max_in_flight=1) as client:
        taken = client._wire.take(lambda: None)
        heard.beside(lambda: client._wire.give_back(taken, broken=True))
        assert len(client.list().rows) == 10


class Leaving:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def dropped():
    Leaving()


def ignored():
    with contextlib.suppress(RuntimeError):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as interrupt:
            raise RuntimeError from interrupt


def begin(lost, error):
    with redeliver_interrupts(signal.SIGTERM):
        with redeliver_interrupts():
            lost()
            if error:
                raise error
        pytest.fail("the work goes on")


@pytest.mark.parametrize("lost", [dropped, ignored])
@pytest.mark.parametrize("error", [None, ValueError()])
def test_one_that_is_lost_just_before_the_end_is_raised_all_the_same(lost, error):
    with pytest.raises(KeyboardInterrupt):
        begin(lost, error)
    with redeliver_interrupts():  # nothing is left of it
        pass


# In a process of its own: whoever waits for DuckDB holds Python's lock, so nothing in this one could end it.
PRESSED = """
import os, signal, sys, threading
import duckdb
from paystack_source import paystack_source
from paystack_source.interrupts import closed_at_end
from paystack_source.warehouse import sync
from paystack_source.warehouse.scratch import scratch_database

def press(connection, *_):
    connection.execute("create or replace table main.t as select range a, range % 10 b from range(3000000)")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    connection.execute("select count(*) from main.t x join main.t y on x.b = y.b")

def run():
    sync.open_pipeline("duckdb", "paystack").run(paystack_source(quota=0))

def press_at_the_end(pipeline, _copying):
    with pipeline.sql_client() as client:
        press(client.native_connection)

def use():
    with closed_at_end(duckdb.connect("paystack_customers.duckdb")) as connection:
        press(connection)

def read_files():
    with scratch_database() as connection:
        press(connection)

signal.signal(signal.SIGINT, signal.default_int_handler)
begun, sync.close = sync.close, press_at_the_end
try:
    {"run": run, "use": use, "read files": read_files}[sys.argv[1]]()
except (KeyboardInterrupt, RuntimeError):
    sync.close = begun
    run()
    print("and again")
"""


@pytest.mark.parametrize("inside", ["run", "use", "read files"])
def test_a_statement_of_duckdb_that_was_interrupted_lets_the_next_run_begin(
    inside, sandbox, tmp_path, monkeypatch
):
    server = sandbox(customers=10)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", server.secret_key)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", server.url)
    command = [sys.executable, "-c", PRESSED, inside]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout == "and again\n", done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_outcome_was_shown_does_not_change_the_exit_code(number):
    """A run ended with `complete` and -15: the signal came while Python ended."""
    late = f"""
import os, sys
from paystack_source.cli.terminal import run

class Late:
    def __del__(self, kill=os.kill, own=os.getpid()):
        kill(own, {int(number)})

late = Late()
sys.exit(run(lambda: 3))
"""
    assert subprocess.run([sys.executable, "-c", late], check=False).returncode == 3
