"""Fetch and the writes: what they take, what they change, what they answer."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from tests.sandbox.caller import AT, CHECK, Caller, Clock

ROW_KEYS = {
    "integration", "first_name", "last_name", "email", "phone", "metadata", "domain", "customer_code",
    "risk_action", "id", "createdAt", "updatedAt",
}  # fmt: skip
LISTS = {"transactions", "subscriptions", "authorizations"}
IDENTITY = {"identified", "identifications"}


@pytest.fixture
def call(sandbox):
    def start(customers=20, **switches):
        return Caller(sandbox(customers, **({"until": AT, "clock": Clock(AT + 0.584)} | switches)))

    return start


def someone(ask, index=0):
    return list(ask.sandbox.customers_truth())[index]


# --- fetch ---------------------------------------------------------------------------------------------


def test_fetch_by_code_and_by_email_in_any_case(call):
    ask = call()
    row = someone(ask)
    by_code = ask.fetch(row["customer_code"])
    assert (by_code.status, by_code.json["message"]) == (200, "Customer retrieved")
    assert by_code.rows == ask.fetch(quote(row["email"].upper())).rows
    assert {name: by_code.rows[name] for name in ROW_KEYS} == row


@pytest.mark.parametrize("shape", ["docs", "spec"])
def test_fetch_has_ten_or_eleven_keys_more(call, shape):
    ask = call(answers=shape)
    data = ask.fetch(someone(ask)["customer_code"]).rows
    extra = {
        "created_at",
        "updated_at",
        "total_transactions",
        "total_transaction_value",
        "dedicated_account",
    }
    assert set(data) == ROW_KEYS | LISTS | IDENTITY | extra | (
        {"dedicated_accounts"} if shape == "spec" else set()
    )
    assert (data["created_at"], data["updated_at"]) == (data["createdAt"], data["updatedAt"])


def test_fetch_unknown_is_404(call):
    ask = call()
    for part in ("CUS_nobodyknowsthis", "nobody@example.com", "12345", "CUS_x%2Fidentification", "..", "%20"):
        got = ask.fetch(part)
        assert (got.status, got.json["status"]) == (404, False)


def test_some_customers_have_cards_and_they_stay_the_same(call):
    ask = call(60)
    cards = {
        row["customer_code"]: ask.fetch(row["customer_code"]).rows["authorizations"] for row in truth(ask)
    }
    assert {len(found) for found in cards.values()} >= {0, 1}
    codes = [card["authorization_code"] for found in cards.values() for card in found]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"AUTH_[0-9a-z]{10}", code) for code in codes)
    assert all(
        ask.sandbox.authorizations(code) == [card["authorization_code"] for card in found]
        for code, found in cards.items()
    )
    assert {type(card["reusable"]) for found in cards.values() for card in found} == {bool, int}


def truth(ask):
    return list(ask.sandbox.customers_truth())


# --- create --------------------------------------------------------------------------------------------


def test_create_answers_200_with_milliseconds_that_lists_do_not_show(call):
    ask = call()
    got = ask.create(email="New@Example.com", first_name="Ada", phone="+234", metadata={"a": {"b": [1]}})
    assert (got.status, got.json["message"]) == (200, "Customer created")
    assert got.rows["createdAt"] == "2025-06-15T15:06:40.584Z"
    listed = ask.list(perPage=1).rows[0]
    assert listed["createdAt"] == "2025-06-15T15:06:40.000Z"
    assert (listed["email"], listed["first_name"], listed["last_name"]) == ("new@example.com", "Ada", None)
    assert (listed["metadata"], listed["risk_action"], listed["domain"]) == (
        {"a": {"b": [1]}},
        "default",
        "test",
    )
    assert re.fullmatch(r"CUS_[0-9a-z]{15}", listed["customer_code"])


@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        (
            "docs",
            {"email", "integration", "domain", "customer_code", "id", "createdAt", "updatedAt", *IDENTITY},
        ),
        ("spec", ROW_KEYS | LISTS | IDENTITY),
    ],
)
def test_create_answer_varies(call, shape, keys):
    assert set(call(answers=shape).create(email="a@example.com").rows) == keys


def test_mixed_answers_have_both_shapes(call):
    ask = call(answers="mixed")
    assert len({frozenset(ask.create(email=f"a{n}@example.com").rows) for n in range(12)}) == 2


def test_create_with_a_known_email_gives_the_existing_customer_unchanged(call):
    ask = call()
    row = someone(ask)
    got = ask.create(email=row["email"].upper(), first_name="Somebody Else")
    assert (got.status, got.json["message"]) == (200, "Customer created")
    assert got.rows["customer_code"] == row["customer_code"]
    assert ask.sandbox.customer_truth(row["customer_code"]) == row
    assert len(ask.sandbox) == 20
    assert ask.sandbox.write_log() == []


def test_create_with_a_known_email_may_update_it(call):
    ask = call(existing_email="updated")
    row = someone(ask)
    ask.create(email=row["email"], first_name="Somebody Else")
    assert ask.sandbox.customer_truth(row["customer_code"])["first_name"] == "Somebody Else"


@pytest.mark.parametrize(
    ("switches", "kept"), [({}, "new@example.com"), ({"email_case": "kept"}, "New@Example.COM")]
)
def test_email_case_is_lowered_or_kept(call, switches, kept):
    ask = call(**switches)
    ask.create(email="New@Example.COM")
    assert ask.list(perPage=1).rows[0]["email"] == kept


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({}, "Email Address is required", "missing_params"),
        ({"email": ""}, "Email Address is required", "missing_params"),
        ({"email": "no address"}, "Invalid Email Address Passed", "invalid_email_address"),
        ({"email": 5}, "Invalid Email Address Passed", "invalid_email_address"),
        ({"email": "a@example.com", "metadata": "{}"}, '"metadata" must be of type object', "invalid_params"),
        ({"email": "a@example.com", "metadata": []}, '"metadata" must be of type object', "invalid_params"),
        ({"email": "a@example.com", "phone": 234}, '"phone" must be a string', "invalid_params"),
    ],
)
def test_create_refuses(call, body, message, code):
    ask = call()
    got = ask.create(**body)
    assert got.status == 400
    assert got.json == {
        "status": False,
        "message": message,
        "meta": {"nextStep": got.meta["nextStep"]},
        "type": "validation_error",
        "code": code,
    }
    assert len(ask.sandbox) == 20


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"email": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_bodies_that_are_no_object_are_400(call, body):
    assert call()("POST", "/customer", body=body, headers={"Content-Type": "application/json"}).status == 400


@pytest.mark.parametrize("body", [b"email=form%40example.com", b'{"email": "form@example.com"}'])
@pytest.mark.parametrize("headers", [{"Content-Type": "application/x-www-form-urlencoded"}, {}])
def test_a_form_is_no_json(call, body, headers):
    ask = call()
    assert ask("POST", "/customer", body=body, headers=headers).status == 400
    assert ask.sandbox.write_log() == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"email": "\ud83d@example.com"}),
        ("/set_risk_action", {"customer": "\ud83d"}),
        ("/set_risk_action", {"customer": "\ud83d@example.com"}),
        *(("/{code}/identification", CHECK | {name: "\ud83d"}) for name in ("last_name", "bank_code")),
    ],
)
def test_half_an_emoji_where_it_cannot_be_compared_is_400(call, path, body):
    ask = call()
    code = someone(ask)["customer_code"]
    headers = {"Content-Type": "application/json"}
    got = ask("POST", "/customer" + path.format(code=code), body=json.dumps(body).encode(), headers=headers)
    assert (got.status, got.json["code"]) == (400, "invalid_params")
    assert ask.sandbox.write_log() == []
    assert identity(ask, code) == (False, None)


def test_a_body_that_is_not_compressed_as_it_says_is_400(call):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert call()("POST", "/customer", body=b'{"email": "a@example.com"}', headers=headers).status == 400


def test_a_number_that_is_too_large_becomes_null(call):
    ask = call()
    body = b'{"email": "a@example.com", "metadata": {"large": 1e999, "small": 1e-3}}'
    ask("POST", "/customer", body=body, headers={"Content-Type": "application/json"})
    assert ask.list(perPage=1).rows[0]["metadata"] == {"large": None, "small": 0.001}
    assert b"Infinity" not in ask.list(perPage=1).body


@pytest.mark.parametrize("text", ["👩🏾‍💻", "\u202eمحمد", "\ud83d", "a\u0000b", 'q"\\', "x" * 5000])
def test_any_text_comes_back_as_it_went_in(call, text):
    ask = call()
    body = json.dumps({"email": "t@example.com", "first_name": text, "metadata": {text: text}}).encode()
    ask("POST", "/customer", body=body, headers={"Content-Type": "application/json"})
    row = ask.list(perPage=1).rows[0]
    assert (row["first_name"], row["metadata"]) == (text, {text: text})


# --- update --------------------------------------------------------------------------------------------


def test_update_sets_what_is_given_and_moves_updated_at_only(call):
    ask = call()
    row = someone(ask)
    got = ask.update(row["customer_code"], first_name="Zed", email="other@example.com", risk_action="deny")
    assert (got.status, got.json["message"]) == (200, "Customer updated")
    after = ask.sandbox.customer_truth(row["customer_code"])
    assert after == row | {"first_name": "Zed", "updatedAt": "2025-06-15T15:06:40.000Z"}
    assert after in ask.list(perPage=100).rows


@pytest.mark.parametrize(
    ("shape", "keys"),
    [("docs", (ROW_KEYS | LISTS | IDENTITY) - {"risk_action"}), ("spec", ROW_KEYS | IDENTITY)],
)
def test_update_answer_varies(call, shape, keys):
    ask = call(answers=shape)
    assert set(ask.update(someone(ask)["customer_code"], phone="1").rows) == keys


def test_metadata_is_replaced_or_merged(call):
    ask = call()
    code = someone(ask)["customer_code"]
    ask.update(code, metadata={"a": 1, "b": 2})
    ask.update(code, metadata={"b": 3})
    assert ask.sandbox.customer_truth(code)["metadata"] == {"b": 3}
    ask.sandbox.configure(metadata_update="merge")
    ask.update(code, metadata={"c": 4})
    assert ask.sandbox.customer_truth(code)["metadata"] == {"b": 3, "c": 4}


def test_null_and_empty_clear_or_are_ignored(call):
    ask = call()
    code = someone(ask)["customer_code"]
    ask.update(code, first_name="A", last_name="B", metadata={"a": 1})
    ask.sandbox.configure(clearing="ignored")
    ask.update(code, first_name=None, last_name="", metadata=None)
    assert ask.sandbox.customer_truth(code)["last_name"] == "B"
    assert ask.sandbox.customer_truth(code)["metadata"] == {"a": 1}
    ask.sandbox.configure(clearing="set")
    ask.update(code, first_name=None, last_name="", metadata=None)
    row = ask.sandbox.customer_truth(code)
    assert (row["first_name"], row["last_name"], row["metadata"]) == (None, "", None)


def test_update_takes_codes_only(call):
    ask = call()
    row = someone(ask)
    for part in (row["email"], str(row["id"]), "CUS_nobodyknowsthis"):
        assert ask.update(quote(part), first_name="X").status == 404
    assert ask.update(row["customer_code"], metadata="{}").status == 400
    assert ask.sandbox.customer_truth(row["customer_code"]) == row


# --- risk action ---------------------------------------------------------------------------------------


def test_risk_action_by_code_or_email_and_default_when_absent(call):
    ask = call()
    row = someone(ask)
    assert ask.risk(customer=row["customer_code"], risk_action="deny").status == 200
    assert ask.sandbox.customer_truth(row["customer_code"])["risk_action"] == "deny"
    assert ask.risk(customer=row["email"], risk_action="allow").rows["risk_action"] == "allow"
    assert ask.risk(customer=row["email"]).rows["risk_action"] == "default"


@pytest.mark.parametrize(
    ("shape", "keys"), [("docs", ROW_KEYS | IDENTITY), ("spec", ROW_KEYS | LISTS | IDENTITY)]
)
def test_risk_action_answer_varies(call, shape, keys):
    ask = call(answers=shape)
    assert set(ask.risk(customer=someone(ask)["customer_code"]).rows) == keys


def test_risk_action_refuses(call):
    ask = call()
    row = someone(ask)
    wrong = ask.risk(customer=row["customer_code"], risk_action="Deny")
    assert (wrong.status, wrong.json["message"]) == (
        400,
        '"risk_action" must be one of [default, allow, deny]',
    )
    assert ask.risk(risk_action="deny").json["code"] == "missing_params"
    assert ask.risk(customer=5).status == 400
    assert ask.risk(customer="CUS_nobodyknowsthis").status == 404
    ask.sandbox.configure(unknown_risk_customer=400)
    assert ask.risk(customer="CUS_nobodyknowsthis").status == 400
    assert ask.sandbox.customer_truth(row["customer_code"]) == row


def test_risk_action_may_be_forbidden(call):
    ask = call(risk_forbidden=True)
    got = ask.risk(customer=someone(ask)["customer_code"], risk_action="deny")
    assert got.status == 403
    assert got.json["message"] == "You cannot modify risk level of customers on this integration"


# --- identification ------------------------------------------------------------------------------------


def identity(ask, code):
    data = ask.fetch(code).rows
    return data["identified"], data["identifications"]


def test_identification_is_accepted_and_its_verdict_shows_later(call):
    clock = Clock()
    ask = call(clock=clock, verdict_delay=30)
    code = someone(ask)["customer_code"]
    got = ask.identify(code)
    assert got.status == 202
    assert got.json == {"status": True, "message": "Customer Identification in progress"}
    assert identity(ask, code) == (False, None)
    clock.now += 30
    assert identity(ask, code)[0] is True
    assert "20012345677" not in json.dumps(identity(ask, code))
    assert ask.update(code, phone="1").rows["identified"] is True


def test_verdict_after_some_fetches(call):
    ask = call(verdict_after_fetches=2)
    code = someone(ask)["customer_code"]
    ask.identify(code)
    assert [identity(ask, code)[0] for _ in range(4)] == [False, True, True, True]


def test_a_bvn_that_ends_in_9_never_matches(call):
    ask = call(verdict_delay=0)
    code = someone(ask)["customer_code"]
    ask.identify(code, bvn="20012345679")
    assert identity(ask, code) == (False, None)


NAMES = {"first_name": "Uchenna", "last_name": "Okoro"}


def names(ask, code):
    return {name: value for name, value in ask.fetch(code).rows.items() if name in NAMES}


def test_an_identity_check_writes_the_names_and_locks_them(call):
    clock = Clock()
    ask = call(clock=clock, verdict_delay=30)
    row = someone(ask)
    code, before = row["customer_code"], {name: row[name] for name in NAMES}
    ask.identify(code, bvn="222222222221", **NAMES)  # as documented: 12 digits
    assert names(ask, code) == before
    clock.now += 30
    assert next(ask.sandbox.customers_truth())["first_name"] == "Uchenna"
    assert names(ask, code) == NAMES
    changed = ask.update(code, first_name="Ada", phone="0803")
    assert (changed.status, changed.rows["first_name"], changed.rows["phone"]) == (200, "Uchenna", "0803")
    ask.sandbox.configure(validated_names="refused")
    assert ask.update(code, first_name="Ada").status == 400
    assert ask.update(code, phone="0804").status == 200
    ask.identify(code, first_name="Chidi")  # another check alone may change them
    clock.now += 30
    assert names(ask, code)["first_name"] == "Chidi"


def test_a_check_that_fails_changes_no_name(call):
    ask = call(verdict_delay=0)
    row = someone(ask)
    ask.identify(row["customer_code"], bvn="20012345679", **NAMES)
    assert names(ask, row["customer_code"]) == {name: row[name] for name in NAMES}
    assert ask.update(row["customer_code"], first_name="Ada").rows["first_name"] == "Ada"


def test_who_was_validated_is_not_validated_with_the_same_again(call):
    ask = call(verdict_delay=0)
    code = someone(ask)["customer_code"]
    assert ask.identify(code).status == 202
    again = ask.identify(code)
    assert (again.status, again.json["message"]) == (
        400,
        "Customer already validated using the same credentials",
    )
    assert ask.identify(code, bvn="20012345671").status == 202


@pytest.mark.parametrize(
    "missing", ["first_name", "last_name", "type", "country", "bvn", "bank_code", "account_number"]
)
def test_identification_needs_its_seven_fields(call, missing):
    ask = call()
    assert ask.identify(someone(ask)["customer_code"], **{missing: None}).status == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"bvn": "123"},
        {"account_number": "12"},
        {"type": "bvn"},
        {"country": "Nigeria"},
        {"middle_name": 5},
        {"bvn": 2001},
    ],
)
def test_identification_refuses_wrong_values(call, wrong):
    ask = call()
    assert ask.identify(someone(ask)["customer_code"], **wrong).status == 400
    assert ask.sandbox.write_log() == []


def test_identification_by_email_and_of_nobody(call):
    ask = call()
    assert ask.identify(quote(someone(ask)["email"])).status == 202
    assert ask.identify("CUS_nobodyknowsthis").status == 404
    assert ask.identify(someone(ask)["customer_code"], middle_name="M", value="x").status == 202


# --- authorizations ------------------------------------------------------------------------------------


def with_cards(ask):
    return next(code for row in truth(ask) if ask.sandbox.authorizations(code := row["customer_code"]))


def test_deactivating_works_once(call):
    ask = call(60)
    code = with_cards(ask)
    card = ask.sandbox.authorizations(code)[0]
    got = ask.deactivate(card)
    assert (got.status, got.json) == (200, {"status": True, "message": "Authorization has been deactivated"})
    assert card not in [found["authorization_code"] for found in ask.fetch(code).rows["authorizations"]]
    again = ask.deactivate(card)
    assert (again.status, again.json["message"]) == (404, "Authorization code not found.")


def test_deactivate_refuses(call):
    ask = call()
    for code in ("AUTH_0000000000", "AUTH_x", "nonsense", "AUTH_ÄÖÜ0000000"):
        assert ask.deactivate(code).status == 404
    assert ask.deactivate("").status == 400
    assert ask.deactivate(5).status == 400


def test_the_old_path_does_not_exist(call):
    ask = call(60)
    body = {"authorization_code": ask.sandbox.authorizations(with_cards(ask))[0]}
    assert ask("POST", "/customer/deactivate_authorization", json=body).status == 404


# --- all together --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/customer/CUS_x"),
        ("GET", "/"),
        ("GET", "/customers"),
        ("POST", "/customer/CUS_x"),
        ("PATCH", "/customer"),
        ("POST", "/customer/authorization/initialize"),
        ("GET", "/customer/authorization/verify/x"),
    ],
)
def test_what_does_not_exist_is_404(call, method, path):
    got = call()(method, path)
    assert (got.status, got.json["status"]) == (404, False)


def test_the_write_log_has_every_effect_in_order_and_nothing_else(call):
    ask = call()
    code = someone(ask)["customer_code"]
    fresh = ask.create(email="w@example.com").rows["customer_code"]
    ask.risk(customer=code, risk_action="deny")
    ask.risk(customer=code, risk_action="nonsense")
    ask.risk(customer=code, risk_action="deny")
    ask.update(code, phone="1")
    log = ask.sandbox.write_log()
    assert [(endpoint, who) for _, endpoint, who, _ in log] == [
        ("create", fresh),
        ("set_risk_action", code),
        ("set_risk_action", code),
        ("update", code),
    ]
    assert log[3][0] == pytest.approx(AT + 0.584)
    assert log[3][3] == {"phone": "1"}
    assert ask.sandbox.repeated_writes() == {("set_risk_action", code): 2}


def test_reads_may_lag_behind_writes(call):
    clock = Clock()
    ask = call(read_lag=2, clock=clock)
    row = someone(ask)
    code = row["customer_code"]
    ask.risk(customer=code, risk_action="allow" if row["risk_action"] != "allow" else "deny")
    fresh = ask.create(email="lag@example.com").rows["customer_code"]
    assert ask.fetch(code).rows["risk_action"] == row["risk_action"]
    assert row in ask.list(perPage=100).rows
    assert ask.fetch(fresh).status == 404
    clock.now += 2
    assert ask.fetch(code).rows["risk_action"] != row["risk_action"]
    assert row not in ask.list(perPage=100).rows
    assert ask.fetch(fresh).status == 200


def test_errors_in_the_other_documented_forms(call):
    ask = call(error_form="bare")
    assert ask.create(email="").json == {"status": False, "message": "Email Address is required"}
    ask.sandbox.configure(error_form="odd")
    got = ask.create(email="").json
    assert (got["status"], set(got["meta"])) == ("false", {"next_step"})
    assert ask.deactivate("AUTH_0000000000").json["status"] == "false"
    assert ask.create(email="fine@example.com").json["status"] is True


def test_edits_from_outside_show_in_the_api(call):
    ask = call()
    code = someone(ask)["customer_code"]
    ask.sandbox.edit_customer(code, first_name="Dash", risk_action="deny")
    data = ask.fetch(code).rows
    assert (data["first_name"], data["risk_action"], data["updatedAt"]) == (
        "Dash",
        "deny",
        "2025-06-15T15:06:40.000Z",
    )
    with pytest.raises(KeyError):
        ask.sandbox.edit_customer("CUS_nobodyknowsthis", first_name="X")
    codes = ask.sandbox.add_customers(3, created_at="2025-06-01T00:00:00Z", last_name="Same")
    assert [ask.fetch(code).rows["last_name"] for code in codes] == ["Same"] * 3
    assert ask.fetch(codes[0]).rows["createdAt"] == "2025-06-01T00:00:00.000Z"
