"""Two clients nobody here wrote: the official SDK and pypaystack2 must be able to work with the sandbox."""

from __future__ import annotations

import paystack
import pytest
from paystack.configuration import Configuration
from paystack.exceptions import ApiException

IDENTITY = {
    "first_name": "Ada",
    "last_name": "Obi",
    "bvn": "20012345677",
    "bank_code": "007",
    "account_number": "0123456789",
}


@pytest.fixture
def running(sandbox):
    return sandbox(120, verdict_delay=0)


@pytest.fixture
def official(running, monkeypatch):
    """The SDK keeps key and address in globals; both are put back afterwards."""
    monkeypatch.setattr(paystack, "api_key", running.secret_key)
    configuration = Configuration()
    configuration.host = running.url
    monkeypatch.setattr(Configuration, "_default", configuration)
    monkeypatch.setattr(
        Configuration, "host", property(lambda _self: running.url, lambda _self, _value: None), raising=True
    )
    return paystack.Customer


@pytest.fixture
def other(running):
    import pypaystack2  # slow: not in each worker that only collects

    client = pypaystack2.PaystackClient(secret_key=running.secret_key)
    client.customers._BASE_URL = running.url
    return client.customers


def first_code(running):
    return next(running.customers_truth())["customer_code"]


# --- the official SDK ----------------------------------------------------------------------------------


def test_official_sdk_lists(running, official):
    page = official.list(per_page="100", page="2")
    assert len(page.data) == 20
    assert page.data[-1]["id"] == min(row["id"] for row in running.customers_truth())


def test_official_sdk_lists_by_cursor_and_window(running, official):
    rows = list(running.customers_truth())
    got = official.list(use_cursor=True, per_page="30", _from=rows[10]["createdAt"], to=rows[90]["createdAt"])
    assert len(got.data) == 30
    assert all(rows[10]["createdAt"] <= row["createdAt"] < rows[90]["createdAt"] for row in got.data)


def test_official_sdk_fetches_creates_updates_and_sets_risk(running, official):
    code = first_code(running)
    assert official.fetch(code).data["email"] == running.customer_truth(code)["email"]
    made = official.create("sdk@example.com", first_name="S", last_name="DK", phone="+254700000000").data
    assert running.customer_truth(made["customer_code"])["phone"] == "+254700000000"
    official.update(code, first_name="Renamed")
    official.risk_action(code, risk_action="deny")
    row = running.customer_truth(code)
    assert (row["first_name"], row["risk_action"]) == ("Renamed", "deny")


def test_official_sdk_validates(running, official):
    code = first_code(running)
    official.validate(code, type="bank_account", country="NG", **IDENTITY)
    assert official.fetch(code).data["identified"] is True


def test_official_sdk_fails_where_paystack_fails_it(official):
    with pytest.raises(ApiException) as metadata_as_text:
        official.create("text@example.com", metadata='{"a":1}')
    assert metadata_as_text.value.status == 400
    with pytest.raises(ApiException) as old_path:
        official.deactivate_authorization("AUTH_0000000000")
    assert old_path.value.status == 404
    with pytest.raises(ApiException) as unknown:
        official.fetch("CUS_nobodyknowsthis")
    assert unknown.value.status == 404


# --- pypaystack2 ---------------------------------------------------------------------------------------


def test_pypaystack2_lists(running, other):
    got = other.get_customers(page=2, pagination=100)
    assert got.status
    assert [customer.id for customer in got.data] == sorted(row["id"] for row in running.customers_truth())[
        19::-1
    ]
    assert got.raw["meta"]["total"] == 120
    assert len(other.get_customers(start_date="2999-01-01").raw["data"]) == 0


def test_pypaystack2_fetches_creates_updates_and_sets_risk(running, other):
    from pypaystack2 import enums

    running.configure(answers="spec")  # its models insist on risk_action, which the documented answers lack
    code = first_code(running)
    assert other.get_customer(code).data.email == running.customer_truth(code)["email"]
    made = other.create("two@example.com", first_name="P", metadata={"a": [1]}).data
    assert running.customer_truth(made.customer_code)["metadata"] == {"a": [1]}
    other.update(code, phone="0800")
    assert other.flag(code, enums.RiskAction.BLACKLIST).data.risk_action == enums.RiskAction.BLACKLIST
    row = running.customer_truth(code)
    assert (row["phone"], row["risk_action"]) == ("0800", "deny")


def test_pypaystack2_validates_and_deactivates(running, other):
    from pypaystack2 import enums

    code = first_code(running)
    got = other.validate(
        code,
        first_name="Ada",
        last_name="Obi",
        identification_type=enums.Identification.BANK_ACCOUNT,
        country=enums.Country.NIGERIA,
        bvn=IDENTITY["bvn"],
        bank_code="007",
        account_number="0123456789",
    )
    assert got.status_code == 202
    owner = next(
        row["customer_code"]
        for row in running.customers_truth()
        if running.authorizations(row["customer_code"])
    )
    card = running.authorizations(owner)[0]
    assert other.deactivate(card).status_code == 200
    assert other.deactivate(card).status_code == 404
