"""The table of operations agrees with the client, Paystack's specification and the documentation."""

import inspect
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from paystack_source.api.client import PaystackClient
from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.plan import PlanRow
from paystack_source.bulk.run.send import Job, Sender
from paystack_source.bulk.run.states import Action, EventKind

from .reference import bulk_input_page, request_of
from .world import NOW, Reader, customer

ROOT = Path(__file__).parents[2]
SPEC = yaml.safe_load((ROOT / "tests/data/paystack-openapi-customer.yaml").read_text())
EACH = pytest.mark.parametrize("operation", BULK_OPERATIONS.values(), ids=lambda o: o.name)


def row(**fields):
    empty = {
        "row": 1,
        "line": 1,
        "key": "CUS_0001",
        "customer_code": "CUS_0001",
        "email": None,
        "customer_id": 1,
    }
    return PlanRow(**(empty | {"old": None, "new": {}, "verdict": "send"} | fields))


@EACH
def test_requests_are_those_of_the_specification(operation):
    method, path = request_of(operation).split()
    assert method.lower() in SPEC["paths"][path]


@EACH
def test_every_column_can_be_sent(operation):
    """Each field is a parameter of the client's method, so that no column can be checked and then lost."""
    method = getattr(PaystackClient, operation.endpoint)
    parameters = set(inspect.signature(method).parameters)
    assert {column.name for column in operation.fields} <= parameters | {"authorization_code", "risk_action"}


@EACH
def test_rows_become_the_right_call(operation):
    calls = []
    client = SimpleNamespace(**{operation.endpoint: lambda *a, **k: calls.append((a, k))})
    body = {column.name: f"<{column.name}>" for column in operation.fields}
    operation.call(client, "who", body)
    ((args, named),) = calls
    sent = inspect.signature(getattr(PaystackClient, operation.endpoint)).bind(None, *args, **named).arguments
    assert set(body.values()) <= set(sent.values())
    assert ("who" in args) is (operation.name != "deactivate-authorization")


@EACH
def test_aliases_mean_one_column_only(operation):
    words = [w for column in operation.columns for w in (column.name, *column.aliases)]
    assert len(set(words)) == len(words)


@EACH
def test_what_cannot_be_undone_says_why(operation):
    assert bool(operation.undoable) != bool(operation.undo_reason)
    assert set(operation.undoable) <= set(operation.by_column)


def test_denials_and_deactivations_are_guarded_more_tightly():
    loose, deny = BULK_OPERATIONS["risk-action"].thresholds
    (gone,) = BULK_OPERATIONS["deactivate-authorization"].thresholds
    assert deny.when == ("risk_action", "deny")
    assert max(deny.rows, gone.rows) < loose.rows
    assert max(deny.share, gone.share) < loose.share


# -- reading back --------------------------------------------------------------------------------------------


def back(name, client, planned, secrets=None, since=NOW):
    """The kind of event that a read-back makes."""
    job = Job(planned, Action.READ_BACK, since=None if since is None else since.timestamp())
    return Sender(BULK_OPERATIONS[name], client, lambda _row: secrets or {})(job).event.kind


@pytest.mark.parametrize(
    ("new", "held", "seen"),
    [
        ({"risk_action": "deny"}, {"risk_action": "deny"}, EventKind.FOUND),
        ({"risk_action": "deny"}, {"risk_action": "default"}, EventKind.ABSENT),
        ({"first_name": ""}, {"first_name": None}, EventKind.FOUND),
        ({"metadata": {}}, {"metadata": None}, EventKind.FOUND),
        ({"metadata": {"a": 1, "b": 2}}, {"metadata": {"b": 2, "a": 1}}, EventKind.FOUND),
        ({"metadata": {"a": 1}}, {"metadata": {"a": True}}, EventKind.ABSENT),
        ({"first_name": "A", "phone": "1"}, {"first_name": "A", "phone": "2"}, EventKind.ABSENT),
    ],
)
def test_states_are_read_back_by_comparing(new, held, seen):
    assert back("update", Reader(customer(1, **held)), row(new=new)) == seen


def test_a_missing_customer_was_not_changed():
    assert back("risk-action", Reader(), row(new={"risk_action": "deny"})) == EventKind.ABSENT


@pytest.mark.parametrize(
    ("held", "seen"),
    [
        (None, EventKind.ABSENT),
        ({"createdAt": (NOW + timedelta(seconds=2)).isoformat(), "first_name": "A"}, EventKind.FOUND),
        ({"createdAt": (NOW + timedelta(seconds=2)).isoformat(), "first_name": "B"}, EventKind.UNCLEAR),
        ({"createdAt": (NOW - timedelta(hours=1)).isoformat(), "first_name": "A"}, EventKind.UNCLEAR),
        ({"first_name": "A"}, EventKind.UNCLEAR),
        ({"createdAt": "yesterday", "first_name": "A"}, EventKind.UNCLEAR),
    ],
)
def test_creations_are_never_guessed(held, seen):
    client = Reader() if held is None else Reader(customer(1, email="a@b.ng", **held))
    planned = row(key="a@b.ng", customer_code=None, new={"first_name": "A"})
    assert back("create", client, planned) == seen
    if seen == EventKind.FOUND:
        assert back("create", client, planned, since=None) == EventKind.UNCLEAR


@pytest.mark.parametrize(
    ("listed", "seen"),
    [
        ([{"authorization_code": "AUTH_x", "active": True}], EventKind.ABSENT),
        ([{"authorization_code": "AUTH_x"}], EventKind.ABSENT),
        ([{"authorization_code": "AUTH_x", "active": False}], EventKind.FOUND),
        ([{"authorization_code": "AUTH_y"}], EventKind.UNCLEAR),
        ([], EventKind.UNCLEAR),
        (None, EventKind.UNCLEAR),
    ],
)
def test_deactivations_are_read_back_where_the_customer_is_named(listed, seen):
    client = Reader(customer(1, authorizations=listed))
    name = "deactivate-authorization"
    assert back(name, client, row(key=""), {"authorization_code": "AUTH_x"}) == seen
    assert (
        back(name, client, row(key="", customer_code=None), {"authorization_code": "AUTH_x"})
        == EventKind.UNCLEAR
    )


def test_identity_checks_are_never_read_back_but_settled():
    operation = BULK_OPERATIONS["validate"]
    assert operation.read_back is None
    assert not operation.repeatable
    for held, verdict in (
        ({"identified": True}, EventKind.VERIFIED),
        ({"identified": False, "identifications": None}, None),
        ({"identified": False, "identifications": [{"status": "failed"}]}, EventKind.FAILED),
        ({"identified": False, "identifications": {"status": "FAILED"}}, EventKind.FAILED),
    ):
        assert operation.verdict_of(customer(1, **held)) == verdict
    assert operation.verdict_of(None) is None


def test_a_read_that_fails_says_nothing_about_the_row():
    class Broken(Reader):
        def fetch(self, _key):
            raise ValueError

    job = Job(row(new={}), Action.READ_BACK)
    done = Sender(BULK_OPERATIONS["risk-action"], Broken(), lambda _row: {})(job)
    assert done.event is None
    assert isinstance(done.halt, ValueError)


# -- documentation -------------------------------------------------------------------------------------------


def test_the_page_of_columns_is_in_step():
    page = (ROOT / "docs/bulk-input.md").read_text()
    assert page == bulk_input_page(page), "run: python -m tests.bulk_plan.reference docs/bulk-input.md"
    for operation in BULK_OPERATIONS.values():
        for column in operation.columns:
            assert f"`{column.name}`" in page
