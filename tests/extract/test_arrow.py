"""Nothing is dropped when the shape drifts, and both ways through the parser say the same."""

import json
from datetime import UTC, datetime

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paystack_source.extract import arrow
from paystack_source.extract.windows import Window
from tests.extract.fake import NOON, customer

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def parsed(*rows):
    return arrow.parse([json.dumps(rows).encode()], NOW)


def one(row):
    return parsed(row).table.to_pylist()[0]


def test_the_documented_customer_becomes_the_documented_columns():
    row = one(customer(5, NOON, phone="+2348012345678", metadata={"a": [1, None]}))
    assert list(row) == arrow.SCHEMA.names
    assert (row["id"], row["customer_code"], row["phone"]) == (5, "CUS_000000000000005", "+2348012345678")
    assert (row["created_at"], row["last_name"], row["_missing_since"]) == (NOON, None, None)
    assert row["_last_seen_at"] == NOW
    assert json.loads(row["metadata"]) == {"a": [1, None]}


@pytest.mark.parametrize("metadata", [{}, [], "{}", "", "a\u0000b", 0, False, {"n": 2**70}, [[["ọ́"]]], 1e300])
def test_metadata_is_valid_json_of_the_same_value_whatever_it_is(metadata):
    assert json.loads(one(customer(1, NOON, metadata=metadata))["metadata"]) == metadata
    odd = one(customer(1, NOON, metadata=metadata, new="x"))
    assert json.loads(odd["metadata"]) == metadata


def test_a_number_that_no_float_holds_costs_no_other_customer():
    page = json.dumps([customer(1, NOON, metadata={"a": "@"}), customer(2, NOON, new="x")])
    table = arrow.parse([page.replace('"@"', "1e999").encode()], NOW).table
    assert table.column("metadata").to_pylist() == ['{"a":"1e999"}', '{"n":2}']


def test_metadata_that_was_never_set_is_null():
    assert one(customer(1, NOON, metadata=None))["metadata"] is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"newKey": "text"}, {"new_key": "text"}),
        ({"newKey": 5}, {"new_key": "5"}),
        ({"newKey": {"a": 1}}, {"new_key": '{"a":1}'}),
        ({"newKey": None}, {"new_key": None}),
        ({"phone": 2348012345678}, {"phone": "2348012345678"}),
        ({"first_name": ["a"]}, {"first_name": '["a"]'}),
        ({"id": "77"}, {"id": 77}),
        ({"integration": "100032"}, {"integration": 100032}),
        ({"integration": "n/a"}, {"integration": None, "extra": '{"integration":"n/a"}'}),
        ({"createdAt": "yesterday"}, {"created_at": None, "extra": '{"createdAt":"yesterday"}'}),
        *(
            ({"createdAt": time}, {"created_at": None, "extra": f'{{"createdAt":"{time}"}}'})
            for time in ("0001-01-01T00:00:00Z", "1900-01-01T00:00:00.000Z", "9999-12-31T23:59:59.000Z")
        ),
        ({"createdAt": "2026-03-01"}, {"created_at": datetime(2026, 3, 1, tzinfo=UTC)}),
        ({"createdAt": "2026-03-01 12:00:00"}, {"created_at": NOON}),
        ({"createdAt": "2026-03-01T13:00:00.584+01:00"}, {"created_at": NOON.replace(microsecond=584000)}),
        ({"created_at": "2026-03-01T12:00:00.000Z"}, {"created_at": NOON}),
        ({"created_at": "2020-01-01T00:00:00.000Z"}, {"extra": '{"created_at":"2020-01-01T00:00:00.000Z"}'}),
        ({"Extra": 1, "id!": 2}, {"extra": '{"Extra":1,"id!":2}'}),
        ({"_missing_since": "x"}, {"missing_since": "x", "_missing_since": None}),
        ({"1st": 1, "": 2, "_dlt_id": 3}, {"extra": '{"1st":1,"":2,"_dlt_id":3}'}),
        ({"updatedAt": None}, {"updated_at": None}),
        ({"risk_action": True}, {"risk_action": "true"}),
    ],
)
def test_no_value_is_dropped(fields, expected):
    row = one(customer(1, NOON) | fields)
    assert {name: row[name] for name in expected} == expected


def test_credentials_and_numbers_of_people_come_into_no_row_whatever_they_are_called():
    told = {
        "authorization_code": "AUTH_abc",
        "signature": "SIG_x",
        "email_token": "d7gofp6yppn3qz7",
        "secretKey": "AUTH_ghi",
        "account_number": "0690777555",
        "wallet_number": {"digits": "0551234987", "shown_as": "*"},
        "amount": 540000,
    }
    row = one(
        customer(1, NOON) | {"authorizations": [told], "bvn": "22299911177", "authorizationCode": "AUTH_def"}
    )
    kept = {"account_number": "*****55", "wallet_number": None, "amount": 540000}
    assert json.loads(row["authorizations"]) == [kept]
    assert row["bvn"] == "*****77"
    assert "AUTH_" not in repr(row)
    many = {f"key_{n}": n for n in range(arrow.MAX_NEW_COLUMNS)}
    beside = one(
        customer(1, NOON) | many | {"mobile_money_number": "0551234987", "card_number": 4084084084084081}
    )
    assert json.loads(beside["extra"]) == {"mobile_money_number": "*****87", "card_number": "*****81"}
    metadata = {"account_number": "1", "signature": "x"}  # the merchant's own
    assert json.loads(one(customer(1, NOON, metadata=metadata, new=1))["metadata"]) == metadata


def test_the_hundredth_new_key_goes_into_one_column_with_the_others():
    row = one(customer(1, NOON) | {f"key_{n}": n for n in range(100)})
    own = {name: value for name, value in row.items() if name.startswith("key_")}
    rest = json.loads(row["extra"])
    assert len(own) == arrow.MAX_NEW_COLUMNS
    assert len(own) + len(rest) == 100


def test_a_table_gets_no_more_new_columns_however_many_pages_have_them():
    known = {"of_an_earlier_run"}
    row = customer(1, NOON) | {"of_an_earlier_run": 1}
    tables = [
        arrow.parse(
            [json.dumps([row | {f"key_{page}_{n}": n for n in range(30)}]).encode()], NOON, known
        ).table
        for page in range(3)
    ]
    added = {name for table in tables for name in table.column_names} - {*arrow.SCHEMA.names, "extra"}
    assert added == known
    assert len(added) == arrow.MAX_NEW_COLUMNS
    assert [len(json.loads(table["extra"][0].as_py())) for table in tables[1:]] == [11, 30]
    assert [table["of_an_earlier_run"][0].as_py() for table in tables] == ["1"] * 3


def test_a_missing_key_is_null_and_a_missing_id_is_counted():
    rows = parsed({"id": 3}, {"email": "a@example.com"}, "text", {"id": None}, {"id": True}, {"id": 2**70})
    assert rows.table.column("id").to_pylist() == [3]
    assert rows.unreadable == 5
    assert rows.lengths == [6]


def test_one_odd_page_does_not_slow_or_change_the_others():
    pages = [json.dumps([customer(n, NOON)]).encode() for n in range(5)]
    pages[2] = json.dumps([customer(2, NOON, brand_new=1)]).encode()
    table = arrow.parse(pages, NOW).table
    assert sorted(table.column("id").to_pylist()) == [0, 1, 2, 3, 4]
    assert [row["brand_new"] for row in table.to_pylist() if row["id"] == 2] == ["1"]


@pytest.mark.parametrize("page", [b"[]", b"null", b"", b"{}"])
def test_a_page_without_customers_is_empty(page):
    table, unreadable, lengths = arrow.parse([page], NOW)
    assert (table.num_rows, unreadable, lengths) == (0, 0, [0])
    assert table.schema == arrow.SCHEMA


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts.filter(lambda t: t is not None), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=50)
@given(
    st.lists(
        st.fixed_dictionaries({"first_name": texts, "phone": texts, "metadata": jsons}),
        min_size=1,
        max_size=5,
    )
)
def test_both_ways_through_the_parser_say_the_same(many):
    rows = [customer(n, NOON) | fields for n, fields in enumerate(many)]
    fast = parsed(*rows).table.to_pylist()
    slow = parsed(*({**row, "strange": 1} for row in rows)).table.drop_columns(["strange"]).to_pylist()
    for quick, careful, row in zip(fast, slow, rows, strict=True):
        for name in quick:
            if name == "metadata" and quick[name] is not None:
                assert (
                    msgspec.json.decode(quick[name]) == msgspec.json.decode(careful[name]) == row["metadata"]
                )
            else:
                assert quick[name] == careful[name]


def test_a_customer_without_a_time_belongs_to_every_window():
    table = parsed(customer(1, NOON, createdAt=None), customer(2, NOON)).table
    early = Window(NOON.replace(year=2020), NOON.replace(year=2021))
    assert arrow.cut(table, early).column("id").to_pylist() == [1]
    assert arrow.cut(table, Window(NOON, NOON.replace(hour=13))).num_rows == 2


def test_each_customer_is_given_once():
    table = parsed(*(customer(n, NOON) for n in (1, 2, 2, 3, 1))).table
    seen = {3}
    assert arrow.unseen(table, seen).column("id").to_pylist() == [1, 2]
    assert seen == {1, 2, 3}


def test_those_marked_missing_keep_what_is_held_of_them():
    held = parsed(customer(1, NOON, new_key="kept")).table
    marked = arrow.missing_since(held, NOW).to_pylist()[0]
    assert marked == held.to_pylist()[0] | {"_missing_since": NOW}
    assert pa.types.is_int64(held.schema.field("id").type)
