"""`--history`, `--details` and `--full-refresh`, each against a sandbox that changes meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import dlt
import duckdb
import msgspec
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source.api.client import PaystackClient
from paystack_source.api.transport import RetryPolicy
from paystack_source.errors import ConfigError, NotCompleteError, Rejected
from paystack_source.extract import reader
from paystack_source.sandbox import answers
from paystack_source.source import paystack_source
from paystack_source.warehouse import history
from paystack_source.warehouse.details import fetch_details
from paystack_source.warehouse.sync import copy_customers, open_pipeline
from tests.copies import begin_copied
from tests.extract.listing_server import Listing, customer, forgetting, stamp

FILE = "paystack_customers.duckdb"
"""Kept open in most tests here: to open it costs more than what it is asked."""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))


@pytest.fixture
def pipeline(machine):
    with duckdb.connect(FILE):
        yield open_pipeline("duckdb", "paystack")


@pytest.fixture
def server(sandbox):
    return sandbox(customers=150)


@pytest.fixture
def copied(machine, sandbox):
    """A pipeline that has copied 150 customers, and their sandbox."""
    made = begin_copied(sandbox, 150)
    with duckdb.connect(FILE):
        yield made


def client(server):
    return PaystackClient(server.secret_key, base_url=server.url, quota=0)


def ask(pipeline, sql):
    with pipeline.sql_client() as connection:
        return connection.execute_sql(sql)


def copy(pipeline, server, **options):
    report = copy_customers(pipeline, client(server), **options)
    assert report.complete
    return report


def risk_actions(server):
    return {row["id"]: row["risk_action"] for row in server.customers_truth()}


# -- history ---------------------------------------------------------------------------------------------------------


def versions(pipeline, number):
    return ask(
        pipeline,
        "select risk_action, _valid_from, _valid_to from paystack.customers_history"
        f" where id = {int(number)} order by _valid_from",
    )


def test_history_has_every_version_once_also_when_it_is_begun_later(copied):
    pipeline, server = copied
    target = next(row for row in server.customers_truth() if row["risk_action"] == "default")
    server.edit_customer(target["customer_code"], risk_action="deny")
    copy(pipeline, server, history=True)
    copy(pipeline, server, history=True)  # nothing changed: no version
    server.edit_customer(target["customer_code"], risk_action="default")
    server.add_customers(3)
    copy(pipeline, server, history=True)

    seen = versions(pipeline, target["id"])
    assert [action for action, _, _ in seen] == ["default", "deny", "default"]
    for (_, _, end), (_, begin, _) in itertools.pairwise(seen):
        assert end == begin
    assert seen[-1][2] is None
    ((total, people, ended),) = ask(
        pipeline, "select count(*), count(distinct id), count(_valid_to) from paystack.customers_history"
    )
    assert (total, people, ended) == (155, 153, 2)


def test_a_version_begins_after_the_one_before_it_also_if_a_clock_was_ahead(copied, monkeypatch):
    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=1)

    pipeline, server = copied
    target = next(row for row in server.customers_truth() if row["risk_action"] == "default")
    for action, clock in (("deny", Ahead), ("allow", datetime), ("deny", datetime)):
        server.edit_customer(target["customer_code"], risk_action=action)
        monkeypatch.setattr(reader, "datetime", clock)
        copy(pipeline, server, history=True)
    seen = versions(pipeline, target["id"])
    assert [action for action, _, _ in seen] == ["default", "deny", "allow", "deny"]
    for (_, earlier, end), (_, begin, _) in itertools.pairwise(seen):
        assert end == begin > earlier


def test_json_that_the_destination_spells_otherwise_is_no_other_version(copied):
    pipeline, server = copied
    people = {row["id"]: row["metadata"] for row in server.customers_truth() if row["metadata"]}
    assert people
    with pipeline.sql_client() as connection:
        for number, metadata in people.items():  # as PostgreSQL's jsonb does
            spelled = json.dumps(dict(reversed(metadata.items())), indent=1)
            change = "update paystack.customers set metadata = %s, _fingerprint = null where id = %s"
            connection.execute_sql(change, spelled, number)
    copy(pipeline, server, history=True)
    assert ask(pipeline, "select count(*), count(_valid_to) from paystack.customers_history") == [(150, 0)]


def test_what_was_loaded_without_a_history_gets_into_it_once_it_is_asked_for_again(machine, sandbox):
    pipeline, server = begin_copied(sandbox, 150, history=True)
    target = next(row for row in server.customers_truth() if row["risk_action"] == "default")
    server.edit_customer(target["customer_code"], risk_action="deny")
    server.add_customers(3)
    copy(pipeline, server)
    server.edit_customer(target["customer_code"], risk_action="allow")
    copy(pipeline, server, history=True)
    assert copy(pipeline, server, history=True, refresh_budget=0).requests == 2

    assert [action for action, _, _ in versions(pipeline, target["id"])] == ["default", "deny", "allow"]
    assert ask(
        pipeline, "select count(*), count(distinct id), count(_valid_to) from paystack.customers_history"
    ) == [(155, 153, 2)]


def test_a_history_of_an_existing_copy_comes_in_loads_of_bounded_size(copied, monkeypatch):
    monkeypatch.setattr(history, "BASELINE_ROWS", 30)
    monkeypatch.setattr(history, "LOAD_BYTES", 8_000)
    pipeline, server = copied
    assert copy(pipeline, server, history=True, refresh_budget=0).requests == 2  # made from the copy
    assert ask(pipeline, "select count(*), count(distinct id) from paystack.customers_history") == [
        (150, 150)
    ]
    loads = "select count(distinct _dlt_load_id) from paystack.customers_history"
    assert ask(pipeline, loads)[0][0] > 2
    assert copy(pipeline, server, history=True, refresh_budget=0).rows_loaded == 0


# -- details ---------------------------------------------------------------------------------------------------------


def test_details_are_bounded_and_only_for_new_or_changed_customers(copied):
    pipeline, server = copied
    assert fetch_details(pipeline, client(server), budget=100) == (100, 50, 0)
    assert fetch_details(pipeline, client(server), budget=100) == (50, 0, 0)
    assert fetch_details(pipeline, client(server), budget=100) == (0, 0, 0)

    target = next(iter(server.customers_truth()))
    server.edit_customer(target["customer_code"], first_name="Zainab")
    report = copy(pipeline, server, details=50)
    assert (report.details.fetched, report.details.waiting) == (1, 0)


def test_what_was_fetched_before_a_stop_is_loaded_and_told_meanwhile(copied):
    pipeline, server = copied
    told = []

    def stop(done, total):
        told.append((done, total))
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_details(pipeline, client(server), budget=100, on_details=stop)
    assert told == [(done, 100) for done in range(11)]
    assert ask(pipeline, "select count(*) from paystack.customer_details") == [(10,)]
    assert fetch_details(pipeline, client(server), budget=1000) == (140, 0, 0)


def test_a_time_that_was_unknown_when_details_were_fetched_makes_them_stale_once_it_is_known(copied):
    pipeline, server = copied
    assert fetch_details(pipeline, client(server), budget=1000) == (150, 0, 0)
    with pipeline.sql_client() as client_:
        # As if Paystack had named no time of change to the one, and no risk action to the other.
        ids = [row[0] for row in client_.execute_sql("select id from paystack.customers order by id limit 2")]
        client_.execute_sql(
            "update paystack.customer_details set row_updated_at = null where id = %s", ids[0]
        )
        client_.execute_sql(
            "update paystack.customer_details set row_risk_action = null where id = %s", ids[1]
        )
    assert fetch_details(pipeline, client(server), budget=100) == (2, 0, 0)
    assert fetch_details(pipeline, client(server), budget=100) == (0, 0, 0)


def test_details_hold_what_the_server_holds_and_no_credential(copied):
    pipeline, server = copied
    copy(pipeline, server, details=True, refresh_budget=0)
    held = dict(ask(pipeline, "select id, authorizations from paystack.customer_details"))
    theirs = {row["id"]: len(server.authorizations(row["customer_code"])) for row in server.customers_truth()}
    assert held == theirs
    assert sum(theirs.values()) > 0
    ((rows, codes, signatures, cards),) = ask(
        pipeline,
        "select count(*), count(authorization_code), count(signature), count(last4)"
        " from paystack.customer_authorizations",
    )
    assert (rows, codes, signatures) == (sum(theirs.values()), 0, 0)
    assert cards > 0
    secrets = {
        code for row in server.customers_truth() for code in server.authorizations(row["customer_code"])
    }
    everything = repr(ask(pipeline, "select * from paystack.customer_authorizations")) + repr(
        ask(pipeline, "select * from paystack.customer_details")
    )
    assert not [code for code in secrets if code in everything]


def test_numbers_of_identity_and_accounts_are_masked_wherever_they_stand(copied, monkeypatch):
    pipeline, server = copied
    numbers = {
        "bvn": "22299911177",
        "account_number": "0690777555",
        "value": "22299911188",
        "receiver_bank_account_number": "0690777444",
        "mobileMoneyNumber": "0551234987",
    }
    told, fetched = {"type": "bank_account", **numbers}, answers.fetched
    amounts = [{"currency": "NGN", "value": 540000, "amount": "7700"}]
    more = {
        "identified": True,
        "identifications": [told, {"value": "22299911199"}],  # one whose type is not said
        "unheard_of": {"inside": [told]},
        "total_transaction_value": amounts,
    }
    monkeypatch.setattr(answers, "fetched", lambda *about: fetched(*about) | more)
    copy(pipeline, server, details=5, refresh_budget=0)
    for column in ("identifications", "extra"):
        shown = repr(ask(pipeline, f"select {column} from paystack.customer_details"))
        assert shown.count('"type":"bank_account"') == 5
        assert not [number for number in (*numbers.values(), "22299911199") if number in shown]

    ((shown,),) = ask(pipeline, "select distinct total_transaction_value from paystack.customer_details")
    assert json.loads(shown) == amounts


def test_one_who_cannot_be_fetched_keeps_nobody_else_from_it_and_is_tried_again(copied):
    pipeline, server = copied
    fetch = server.paystack._handlers["fetch"]
    people = sorted(server.customers_truth(), key=itemgetter("createdAt"))
    poison = next(one for one in reversed(people) if server.authorizations(one["customer_code"]))

    def answer(call, part, *about):
        if part == poison["customer_code"] and refuses:
            raise answers.Refused(answers.error(400, "The customer is odd"))
        return fetch(call, part, *about)

    def row():
        found = ask(
            pipeline,
            "select found, authorizations, failure is not null and failed_at is not null"
            f" from paystack.customer_details where id = {poison['id']}",
        )
        return found[0]

    server.paystack._handlers["fetch"] = answer
    refuses = True
    details = copy(pipeline, server, details=1000, refresh_budget=0).details
    assert (details.fetched, details.waiting, details.failed) == (149, 0, 1)
    assert row() == (None, None, True)

    # Tried after the others, so that it costs none of them.
    others = people[:2]  # older ones, who would come after
    for other in others:
        server.edit_customer(other["customer_code"], risk_action="deny")
    details = copy(pipeline, server, details=2, refresh_budget=100).details
    assert (details.fetched, details.waiting, details.failed) == (2, 1, 0)

    refuses = False
    # As if Paystack named neither a time of change nor a risk action: no sign but the failure that they are due.
    ask(
        pipeline,
        f"update paystack.customers set updated_at = null, risk_action = null where id = {poison['id']}",
    )
    assert fetch_details(pipeline, client(server), budget=1000) == (1, 0, 0)
    known = row()
    assert known[0] is True
    assert known[2] is False

    # What an earlier run fetched stays.
    refuses = True
    server.edit_customer(poison["customer_code"], risk_action="deny")
    details = copy(pipeline, server, details=1000, refresh_budget=100).details
    assert (details.fetched, details.failed) == (0, 1)
    assert row() == (*known[:2], True)
    cards = "select count(*), count(removed_at) from paystack.customer_authorizations where customer_id = {}"
    assert ask(pipeline, cards.format(poison["id"])) == [(known[1], 0)]


def test_details_are_kept_for_whom_and_for_when_the_answer_is(copied, monkeypatch):
    pipeline, server = copied
    fetched = answers.fetched
    nameless, double, late, other, *_ = server.customers_truth()
    change = "update paystack.customers set customer_code = %s where id = %s"
    asked, old = [], {"updatedAt": "2020-01-01T00:00:00.000Z"}
    with pipeline.sql_client() as connection:
        connection.execute_sql(change, None, nameless["id"])
        connection.execute_sql(change, other["customer_code"], double["id"])

    def answer(*about):
        data = fetched(*about)
        asked.append(data["id"])
        return data | old if data["id"] == late["id"] else data

    monkeypatch.setattr(answers, "fetched", answer)
    assert fetch_details(pipeline, client(server), budget=1000) == (148, 0, 2)
    assert len(asked) == 148
    failed = ask(pipeline, "select id, failure from paystack.customer_details where failed_at is not null")
    assert dict(failed) == {
        nameless["id"]: "fetch: the customer has no code to ask by",
        double["id"]: "fetch: the answer is another customer's",
    }
    old.clear()
    asked.clear()
    assert fetch_details(pipeline, client(server), budget=1000) == (1, 0, 2)
    assert sorted(asked) == sorted([late["id"], other["id"]])


def test_one_whose_answer_never_comes_is_skipped_recorded_told_and_tried_again(pipeline, sandbox, dlt_log):
    server = sandbox(customers=5)
    fetch = server.paystack._handlers["fetch"]
    silent_about = next(iter(server.customers_truth()))["customer_code"]
    held = contextvars.ContextVar("held", default=False)  # of the request that is answered

    def answer(call, part, *about):
        held.set(part == silent_about)
        return fetch(call, part, *about)

    async def wait(_seconds):
        while held.get() and silent_about:  # noqa: ASYNC110  # the test lets it go from another thread
            await asyncio.sleep(0.001)

    server.paystack._handlers["fetch"] = answer
    server.configure(latency=1.0, sleep=wait)
    impatient = PaystackClient(
        server.secret_key, base_url=server.url, quota=0, timeout=(10.0, 1.0), retry=RetryPolicy(attempts=2)
    )
    details = copy_customers(pipeline, impatient, details=1000).details
    assert (details.fetched, details.waiting, details.failed) == (4, 0, 1)
    failed = "select customer_code, failure from paystack.customer_details where failed_at is not null"
    ((code, failure),) = ask(pipeline, failed)
    assert code == silent_about
    assert "within the time limit" in failure
    assert f"The details of 1 customers could not be fetched: {failure}" in dlt_log.text

    silent_about = None
    details = copy_customers(pipeline, impatient, details=1000).details
    assert (details.fetched, details.failed) == (1, 0)
    assert ask(pipeline, failed) == []


def test_where_nobody_can_be_fetched_the_run_says_why(copied):
    pipeline, server = copied
    server.configure(error_form="full")
    fetch = server.paystack._handlers["fetch"]
    refused = {row["customer_code"] for row in server.customers_truth()}

    def answer(call, part, *about):
        if part in refused:
            raise answers.Refused(answers.error(400, "Nobody today"))
        return fetch(call, part, *about)

    server.paystack._handlers["fetch"] = answer
    with pytest.raises(Rejected, match="Nobody today"):
        fetch_details(pipeline, client(server), budget=1000)
    refused = set(sorted(refused)[::3])  # more than would end a run, but others between them
    assert fetch_details(pipeline, client(server), budget=1000) == (100, 0, 50)


def test_credentials_are_kept_when_asked_for_by_name(copied):
    pipeline, server = copied

    def held():
        return {
            code
            for (code,) in ask(pipeline, "select authorization_code from paystack.customer_authorizations")
        }

    for include in (("authorization_code",), "authorization_code"):
        assert fetch_details(pipeline, client(server), budget=50, include=include).fetched == 50
    asked = ask(pipeline, "select customer_code from paystack.customer_details")
    theirs = {code for (customer,) in asked for code in server.authorizations(customer)}
    assert held() == theirs
    assert theirs
    fetch_details(
        pipeline, client(server), budget=50, include="no_authorization_code"
    )  # a name, not a part of one
    assert held() - {None} == theirs
    for wrong in ("authorisation_code", ["authorization_code", "last4"], 5):  # each would have no effect
        for begin in (
            functools.partial(copy_customers, pipeline, client(server), details=1),
            functools.partial(paystack_source, server.secret_key, base_url=server.url, details=True),
        ):
            asked = server.stats.total
            with pytest.raises(ConfigError, match="include"):
                begin(include=wrong)
            assert server.stats.total == asked


# -- full refresh ----------------------------------------------------------------------------------------------------


def test_full_refresh_replaces_the_copy(copied, monkeypatch):
    pipeline, server = copied
    edited = [row["customer_code"] for row in server.customers_truth()][:40]
    for code in edited:
        server.edit_customer(code, risk_action="deny")
    ask(pipeline, "insert into paystack.customers (id, customer_code) values (1, 'CUS_left')")
    with monkeypatch.context() as patch:  # of the user's other pipelines; DuckDB lacks it
        patch.setenv("DESTINATION__REPLACE_STRATEGY", "staging-optimized")
        report = copy(pipeline, server, full_refresh=True)
    assert report.rows_loaded == 150
    assert dict(ask(pipeline, "select id, risk_action from paystack.customers")) == risk_actions(server)
    assert copy(pipeline, server, refresh_budget=0).requests == 2
    another = dlt.pipeline("another", destination=dlt.destinations.duckdb("another.duckdb"))
    assert (
        another.destination_client().config.replace_strategy is None
    )  # pipelines of the user replace as ever


def with_total(_question, meta, _rows):
    return meta


class OneMore(PaystackClient):
    """Paystack says that there is always one customer more than it shows."""

    def list(self, **question):
        shown = super().list(**question)
        total = None if shown.meta.total is None else shown.meta.total + 1
        return replace(shown, meta=msgspec.structs.replace(shown.meta, total=total))


def test_a_full_refresh_that_does_not_add_up_changes_nothing(copied):
    pipeline, server = copied
    before = ask(pipeline, "select * from paystack.customers order by id")
    server.edit_customer(next(iter(server.customers_truth()))["customer_code"], first_name="Changed")
    liar = OneMore(server.secret_key, base_url=server.url, quota=0)
    with pytest.raises(Exception) as caught:
        copy_customers(pipeline, liar, full_refresh=True)
    error = caught.value
    while error is not None and not isinstance(error, NotCompleteError):
        error = error.__cause__ or error.__context__
    assert isinstance(error, NotCompleteError)
    assert ask(pipeline, "select * from paystack.customers order by id") == before
    assert copy(pipeline, server, refresh_budget=0).warehouse_total == 150  # and the next run is as usual


@pytest.mark.parametrize(
    ("refresh", "meta"),
    [
        (
            lambda pipeline, paystack, _source: copy_customers(pipeline, paystack, full_refresh=True),
            with_total,
        ),
        (lambda pipeline, _paystack, source: pipeline.run(source, write_disposition="replace"), with_total),
        (
            lambda pipeline, _paystack, source: pipeline.run(source, refresh="drop_resources"),
            forgetting("total"),
        ),
    ],
    ids=["copy_customers", "replace", "drop_resources, no totals"],
)
def test_a_full_refresh_is_not_made_from_a_list_that_is_behind(pipeline, refresh, meta):
    key, now = "sk_test_" + 40 * "0", datetime.now(UTC)
    with Listing(120, meta=meta) as server:
        late = [customer(n) | {"createdAt": stamp(now - timedelta(minutes=130 - n))} for n in (121, 122, 123)]
        server.customers += late
        paystack = PaystackClient(key, base_url=server.url, quota=0)
        assert copy_customers(pipeline, paystack).warehouse_total == 123
        before = ask(pipeline, "select * from paystack.customers order by id")
        del server.customers[-2:]  # a replica that is some minutes behind
        with pytest.raises((NotCompleteError, PipelineStepFailed), match="could not be proven complete"):
            refresh(pipeline, paystack, paystack_source(key, server.url, quota=0))
        assert ask(pipeline, "select * from paystack.customers order by id") == before
        server.customers += late[1:]
        late[2]["email"] = "changed@example.com"
        refresh(pipeline, paystack, paystack_source(key, server.url, quota=0))
        emails = ask(pipeline, "select email from paystack.customers order by id desc")
        assert (len(emails), emails[0]) == (123, ("changed@example.com",))


def test_a_full_refresh_takes_no_range(copied):
    pipeline, server = copied
    with pytest.raises(ConfigError, match="takes no range"):
        copy_customers(pipeline, client(server), start="2026-01-01", full_refresh=True)
    assert ask(pipeline, "select count(*) from paystack.customers") == [(150,)]


def test_a_full_refresh_is_not_made_from_an_account_that_shows_nobody(copied, sandbox):
    pipeline, _server = copied
    with pytest.raises(Exception, match="no customer at all"):
        copy_customers(pipeline, client(sandbox(customers=0)), full_refresh=True)
    assert ask(pipeline, "select count(*) from paystack.customers") == [(150,)]


def test_the_plain_source_gives_history_and_details_too(pipeline, sandbox):
    server = sandbox(customers=20)
    for _ in range(2):  # details are of those who were held before the run
        pipeline.run(
            paystack_source(server.secret_key, base_url=server.url, quota=0, history=True, details=True)
        )
    for table in ("customers", "customers_history", "customer_details"):
        assert ask(pipeline, f"select count(*) from paystack.{table}") == [(20,)], table
