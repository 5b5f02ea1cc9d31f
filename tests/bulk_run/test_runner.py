"""The runner: when it stops, what it leaves, how many requests it keeps under way."""

from __future__ import annotations

import os
import random
import signal
import threading
from datetime import UTC, datetime
from email.utils import formatdate
from types import SimpleNamespace

import msgspec
import pytest

from paystack_source.api.workers import ThreadWorkers
from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.plan import PlanRow
from paystack_source.bulk.run.journal import Journal
from paystack_source.bulk.run.runner import (
    INTERRUPTED,
    MAX_UNREPEATABLE,
    Runner,
    StopRules,
    in_flight,
    stopping,
)
from paystack_source.bulk.run.send import Job, Sender
from paystack_source.bulk.run.states import Action, EventKind, Outcome, outcome
from paystack_source.errors import (
    ClosedError,
    KeyRefused,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    RateLimited,
    Rejected,
    Unavailable,
)
from tests.bulk_run.simulation import OneThread, World
from tests.events import PATIENCE, until

RISK = BULK_OPERATIONS["risk-action"]


class Scripted:
    """A client that answers by row number: an error to raise, or success."""

    def __init__(self, errors=None, held="deny"):
        self.errors = errors or {}
        self.held = held
        self.sent = []
        self.read = []

    def set_risk_action(self, key, risk_action):
        self.sent.append(key)
        error = self.errors.get(int(key[1:]), self.errors.get("all"))
        if isinstance(error, list):
            error = error.pop(0) if error else None
        if error is not None:
            raise error
        return SimpleNamespace(
            headers={}, status=200, message="Customer updated", data={"risk_action": risk_action}
        )

    def fetch(self, key):
        self.read.append(key)
        return SimpleNamespace(headers={}, status=200, message="", data={"risk_action": self.held})


def rows(number):
    return [
        PlanRow(
            row=n, line=n + 1, key=f"C{n}", customer_code=f"C{n}", email=None, customer_id=None, old=None,
            new={"risk_action": "deny"}, verdict="send",
        )
        for n in range(1, number + 1)
    ]  # fmt: skip


@pytest.fixture
def apply(tmp_path):
    """Runs rows through a scripted client on one thread; gives the end, the outcomes, and the client."""

    def run(number, errors=None, *, held="deny", rules=None, operation=RISK, stop_after=None):
        path = tmp_path / "journal.sqlite"
        if not path.exists():
            Journal.create(path, {}, durable=False).close()
        client, world = Scripted(errors, held), World(random.Random(1), trouble=0, kills=0)
        with Journal(path, durable=False) as journal:
            sender = Sender(operation, client, lambda _row: {}, now=world.clock, timer=world.clock)
            workers = OneThread(sender, world)

            def on_done(_done, _state):
                if stop_after is not None and len(client.sent) >= stop_after:
                    runner.stop()

            runner = Runner(
                operation, rows(number), journal, workers, rules=rules, now=world.clock, on_done=on_done
            )
            ended = runner.run()
            states = {n: journal.state(n) for n in range(1, number + 1)}
        return ended, {n: outcome(state) for n, state in states.items()}, client

    return run


def words(outcomes):
    return {word: list(outcomes.values()).count(word) for word in set(outcomes.values())}


def test_every_row_is_sent_once_and_applied(apply):
    ended, outcomes, client = apply(100)
    assert ended.reason is None
    assert words(outcomes) == {Outcome.APPLIED: 100}
    assert sorted(client.sent) == sorted(f"C{n}" for n in range(1, 101))


@pytest.mark.parametrize(
    "error", [KeyRefused("no", http_status=401), PermissionRefused("no", http_status=403)]
)
def test_the_first_refusal_of_key_or_permission_stops_the_run_and_no_row_is_blamed(apply, error):
    ended, outcomes, client = apply(500, {"all": error})
    assert ended.error is error
    assert words(outcomes) == {Outcome.UNSENT: 500}
    assert len(client.sent) <= 40  # what was under way


def test_equal_rejections_in_a_row_stop_the_run(apply):
    same = Rejected("You may not", http_status=400, code="no")
    ended, outcomes, client = apply(500, {"all": same}, rules=StopRules(equal_rejections=5))
    assert ended.reason == "5 equal rejections in a row: You may not"
    assert ended.error is None
    assert words(outcomes)[Outcome.REJECTED] == len(client.sent) < 60


def test_different_rejections_do_not_stop_it(apply):
    errors = {n: Rejected(f"reason {n % 2}", http_status=400) for n in range(1, 61)}
    ended, outcomes, _ = apply(60, errors, rules=StopRules(equal_rejections=20, unknown_window=0))
    assert ended.reason is None
    assert words(outcomes) == {Outcome.REJECTED: 60}


def test_too_many_unknowns_stop_the_sending_but_are_read_back(apply):
    ended, outcomes, client = apply(300, {"all": OutcomeUnknown("reset")}, rules=StopRules(unknown_window=10))
    assert "did not arrive" in ended.reason
    counted = words(outcomes)
    assert counted[Outcome.APPLIED] == len(client.sent) == len(client.read)  # the server holds "deny" for all
    assert counted[Outcome.UNSENT] == 300 - len(client.sent)


def test_a_dead_connection_stops_the_run_and_nothing_is_lost(apply):
    ended, outcomes, _ = apply(300, {"all": Unavailable("connection refused")})
    assert "could not be sent: connection refused" in ended.reason
    assert words(outcomes) == {Outcome.UNSENT: 300}


def test_a_canary_that_dies_stops_the_rest(apply):
    errors = {2: NotFound("no such customer", http_status=404)}
    ended, outcomes, client = apply(100, errors, rules=StopRules(canary_rows=5, canary_share=0.1))
    assert "1 of the first 5 rows failed" in ended.reason
    assert len(client.sent) == 5
    assert words(outcomes)[Outcome.UNSENT] == 95


def test_a_canary_that_lives_lets_the_rest_go(apply):
    errors = {2: NotFound("no such customer", http_status=404)}
    ended, outcomes, _ = apply(100, errors, rules=StopRules(canary_rows=5, canary_share=0.2))
    assert ended.reason is None
    assert words(outcomes) == {Outcome.APPLIED: 99, Outcome.REJECTED: 1}


def test_a_stop_finishes_what_is_under_way_and_a_resume_sends_the_rest(apply):
    ended, outcomes, client = apply(200, stop_after=20)
    assert ended.reason == INTERRUPTED
    assert Outcome.UNKNOWN not in outcomes.values()
    assert words(outcomes)[Outcome.APPLIED] == len(client.sent)
    ended, outcomes, again = apply(200)
    assert ended.reason is None
    assert words(outcomes) == {Outcome.APPLIED: 200}
    assert not set(client.sent) & set(again.sent)


def test_a_finished_run_sends_nothing_when_resumed(apply):
    apply(20, {3: NotFound("gone", http_status=404)})
    _, outcomes, client = apply(20)
    assert client.sent == client.read == []
    assert words(outcomes) == {Outcome.APPLIED: 19, Outcome.REJECTED: 1}


def test_a_lost_answer_is_read_back_before_anything_is_sent_again(apply):
    _, outcomes, client = apply(5, {3: [OutcomeUnknown("reset")]}, held="deny")
    assert outcomes[3] is Outcome.APPLIED
    assert (client.sent.count("C3"), client.read) == (1, ["C3"])


def test_a_lost_request_without_effect_is_sent_again(apply):
    _, outcomes, client = apply(5, {3: [OutcomeUnknown("reset")]}, held="default")
    assert outcomes[3] is Outcome.APPLIED
    assert (client.sent.count("C3"), client.read) == (2, ["C3"])


def test_a_row_that_is_never_answered_is_let_be_after_three_tries(apply):
    ended, outcomes, client = apply(5, {3: OutcomeUnknown("reset")}, held="default")
    assert ended.reason is None
    assert outcomes[3] is Outcome.UNKNOWN
    assert client.sent.count("C3") == 4  # the first, and three more


def test_a_refused_quota_leaves_the_row_unsent(apply):
    _, outcomes, _ = apply(3, {2: RateLimited("slow down", http_status=429)})
    assert outcomes == {1: Outcome.APPLIED, 2: Outcome.UNSENT, 3: Outcome.APPLIED}


@pytest.mark.parametrize(
    "answer", [{"risk_action": "default"}, {"risk_action": "deny", "customer_code": "C2"}]
)
def test_an_answer_with_another_value_or_about_another_customer_is_not_believed(apply, monkeypatch, answer):
    def other(self, key, risk_action):
        self.sent.append(key)
        return SimpleNamespace(headers={}, status=200, message="Customer updated", data=answer)

    monkeypatch.setattr(Scripted, "set_risk_action", other)
    _, outcomes, client = apply(1, held="default")
    assert outcomes[1] is Outcome.UNKNOWN
    assert client.read


@pytest.mark.parametrize(("asked", "answered"), [("jo.hn@x.co", "john@x.co"), ("a@x.co", "A@X.co")])
def test_an_answer_about_another_email_is_neither_believed_nor_kept(asked, answered):
    data = {"email": answered, "id": 7, "risk_action": "deny"}
    reply = SimpleNamespace(headers={}, status=200, message="Customer updated", data=data)
    client = SimpleNamespace(set_risk_action=lambda *_args, **_fields: reply)
    row = rows(1)[0]
    row = msgspec.structs.replace(row, key=asked, email=asked, customer_code=None)
    done = Sender(RISK, client, lambda _row: {})(Job(row, Action.SEND))
    same = asked == answered.lower()
    assert done.event.kind is (EventKind.APPLIED if same else EventKind.UNKNOWN)
    assert bool(done.customer) is same
    # A code and numbers that the journal and the tables cannot hold are left out.
    data |= {"id": 10**40, "integration": "5", "customer_code": ["C1"]}
    kept = Sender(RISK, client, lambda _row: {})(Job(row, Action.SEND)).customer
    assert (kept == {"email": answered, "risk_action": "deny"}) is same


@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_identity_check_that_was_accepted_has_no_verdict_yet_whatever_the_status(status):
    reply = SimpleNamespace(headers={}, status=status, message="in progress", data=None)
    client = SimpleNamespace(validate=lambda _code, **_fields: reply)
    sender = Sender(BULK_OPERATIONS["validate"], client, lambda _row: {})
    row = msgspec.structs.replace(rows(1)[0], new={"first_name": "Ada"})
    assert sender(Job(row, Action.SEND)).event.kind is EventKind.PENDING


@pytest.mark.parametrize("wrong_by", [-3600, 3600])
def test_who_was_created_just_now_did_not_exist_whatever_our_clock_says(wrong_by):
    paystack_now = 1_772_366_400
    born = datetime.fromtimestamp(paystack_now, UTC).isoformat()
    reply = SimpleNamespace(
        headers={"date": formatdate(paystack_now + 1, usegmt=True)},
        status=200,
        message="Customer created",
        data={"email": "a@x.co", "createdAt": born},
    )
    client = SimpleNamespace(create=lambda _email, **_fields: reply)
    row = msgspec.structs.replace(rows(1)[0], key="a@x.co", email="a@x.co", customer_code=None, new={})
    create = BULK_OPERATIONS["create"]
    sender = Sender(create, client, lambda _row: {}, now=lambda: paystack_now + wrong_by)
    event = sender(Job(row, Action.SEND)).event
    assert (event.kind, event.code) == (EventKind.APPLIED, None)


def test_a_bug_in_between_stops_the_run_with_the_row_in_doubt(apply):
    ended, outcomes, _ = apply(100, {7: ZeroDivisionError("0777123456 is personal")})
    assert ended.reason == "unexpected: ZeroDivisionError"
    assert isinstance(ended.error, ZeroDivisionError)
    assert outcomes[7] is Outcome.UNKNOWN


def test_how_many_are_under_way_follows_the_latency():
    assert in_flight(0.3) == in_flight(0.05) == 32
    assert in_flight(0.0001) == 4
    assert 4 < in_flight(0.02) < 32
    assert in_flight(5.0, repeatable=False) == MAX_UNREPEATABLE


def test_rows_that_must_not_be_sent_twice_are_kept_few(tmp_path):
    create = BULK_OPERATIONS["create"]
    Journal.create(tmp_path / "j", {}, durable=False).close()
    world = World(random.Random(1), trouble=0, kills=0)
    client = SimpleNamespace(
        create=lambda _email, **_fields: SimpleNamespace(
            headers={}, status=200, message="Customer created", data={}
        )
    )
    with Journal(tmp_path / "j", durable=False) as journal:
        workers = OneThread(Sender(create, client, lambda _row: {}, timer=world.clock), world)
        Runner(create, rows(100), journal, workers, now=world.clock).run()
        assert words({n: outcome(journal.state(n)) for n in range(1, 101)}) == {Outcome.APPLIED: 100}
    assert workers.most <= MAX_UNREPEATABLE


def test_threads_work_side_by_side_within_the_width():
    gate, lock, now, most = threading.Event(), threading.Lock(), [0], [0]

    def perform(job):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        gate.wait(PATIENCE)
        with lock:
            now[0] -= 1
        return job

    workers = ThreadWorkers(perform)
    for number in range(12):
        workers.start(number, width=8)
    until(lambda: now[0] == 8)
    gate.set()
    done = []
    while workers.busy:
        done += workers.wait()
    workers.close()
    assert sorted(done) == list(range(12))
    assert most[0] == 8


def test_a_row_that_waited_for_quota_when_the_run_stopped_was_not_sent():
    class Waiting(Scripted):
        def set_risk_action(self, _key, risk_action):
            raise ClosedError("The run was stopped")

    done = Sender(RISK, Waiting(), lambda _row: {})(Job(rows(1)[0], Action.SEND))
    assert done.event.kind is EventKind.NOT_SENT


def test_a_hang_up_that_nohup_ignores_stays_ignored_and_ctrl_c_does_not():
    """In the background of a script Ctrl-C is ignored as well, but `kill -INT` is meant."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    runner = Runner(RISK, [], None, None)
    try:
        with stopping(runner):
            os.kill(os.getpid(), signal.SIGHUP)
            runner.check(Action.SEND)
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(ClosedError):
                runner.check(Action.SEND)
            os.kill(os.getpid(), signal.SIGHUP)  # no second Ctrl-C either
        assert signal.getsignal(signal.SIGHUP) is signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_ctrl_c_ends_the_reading_back_after_a_run_that_stopped_by_itself():
    runner = Runner(RISK, [], None, None)
    runner.stop("the canary failed")
    runner.check(Action.READ_BACK)
    with pytest.raises(ClosedError):
        runner.check(Action.SEND)
    runner.stop(INTERRUPTED)
    with pytest.raises(ClosedError):
        runner.check(Action.READ_BACK)
