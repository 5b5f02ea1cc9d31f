"""What a plan says: who is meant, what differs, what is sent, and what must be confirmed."""

import datetime as dt

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paystack_source.bulk.describe import plan_changes, plan_facts
from paystack_source.bulk.input.files import write_table
from paystack_source.bulk.plan.copy import arrow_copy, duckdb_copy
from paystack_source.bulk.plan.plan import Plan
from paystack_source.errors import ConfigError, InputChanged, InputError, StalePlan, WrongAccount
from paystack_source.values import is_blank

from .workbook import xlsx
from .world import NOW, Reader, copy_of, customer, frame, plan, verdicts

COPY = (
    customer(1),
    customer(2, risk_action="deny"),
    customer(3, first_name="Ada", metadata={"tier": "gold"}),
)


def deny(*codes):
    return frame(*[{"customer_code": code, "risk_action": "deny"} for code in codes])


# -- diff ----------------------------------------------------------------------------------------------------


def test_rows_show_old_and_new_and_wanted_states_are_not_sent(tmp_path):
    made = plan(tmp_path, "risk-action", deny("CUS_0001", "CUS_0002", "CUS_0009"), copy=copy_of(*COPY))
    one, two, nine = made.rows()
    assert (one.verdict, one.old, one.new, one.customer_id) == (
        "send",
        {"risk_action": "default"},
        {"risk_action": "deny"},
        1,
    )
    assert (two.verdict, two.note) == ("noop", "as wanted already")
    assert (nine.verdict, nine.old, nine.note) == ("send", None, "not in the copy")
    counts = made.header.counts
    assert (counts.rows, counts.to_send, counts.noop, counts.unknown_old, counts.requests) == (3, 2, 1, 1, 2)


def test_without_a_copy_it_plans_all_the_same(tmp_path):
    made = plan(tmp_path, "risk-action", deny("CUS_0001", "CUS_0002"))
    assert verdicts(made) == ["send", "send"]
    assert [row.old for row in made.rows()] == [None, None]
    assert any("Old values of 2 rows are unknown" in text for text in made.header.warnings)
    one = plan(
        tmp_path, "risk-action", frame({"customer_code": "CUS_1", "risk_action": "deny", "note": ""}, {})
    )
    assert {text[:27] for text in one.header.warnings} == {
        "Old values of 1 row are unk",
        "1 blank row is left out.",
    }


def test_names_resolve_by_email_and_id(tmp_path):
    source = frame(
        {"email": "PERSON1@shop.ng", "risk_action": "deny"},
        {"id": "3", "risk_action": "deny"},
        {"email": "new@shop.ng", "risk_action": "deny"},
    )
    keys = [row.key for row in plan(tmp_path, "risk-action", source, copy=copy_of(*COPY)).rows()]
    assert keys == ["CUS_0001", "CUS_0003", "new@shop.ng"]


@pytest.mark.parametrize(
    ("operation", "row", "advice"),
    [
        ("risk-action", {"id": "1", "risk_action": "deny"}, "there is no copy"),
        ("update", {"email": "person1@shop.ng", "first_name": "A"}, "--refresh live"),
        ("update", {"customer_code": "CUS_1", "metadata": "{}"}, "--metadata replace"),
    ],
)
def test_what_cannot_be_known_without_a_copy_is_said_with_advice(tmp_path, operation, row, advice):
    with pytest.raises(InputError, match=advice):
        plan(tmp_path, operation, frame(row))


def test_blank_leaves_and_the_token_clears(tmp_path):
    source = frame(
        {"customer_code": "CUS_0003", "first_name": " <CLEAR> ", "last_name": "", "metadata": "<clear>"},
        {"customer_code": "CUS_0001", "first_name": "<clear>"},
        {"customer_code": "CUS_0002"},
    )
    made = plan(tmp_path, "update", source, copy=copy_of(*COPY))
    three, one, two = made.rows()
    assert three.new == {"first_name": "", "metadata": {}}
    assert three.old == {"first_name": "Ada", "metadata": {"tier": "gold"}}
    assert (one.verdict, one.note) == ("noop", "as wanted already")  # null is as empty as ""
    assert (two.verdict, two.note) == ("noop", "nothing to set")
    assert any("3 cells clear" in text for text in made.header.warnings)


def test_only_missing_fills_and_never_overwrites(tmp_path):
    source = frame(
        {"customer_code": "CUS_0001", "first_name": "Bola", "last_name": "Bello", "phone": "<clear>"},
        {"customer_code": "CUS_0003", "first_name": "Bola", "metadata": '{"tier":"x","n":1}'},
    )
    one, three = plan(tmp_path, "update", source, copy=copy_of(*COPY), only_missing=True).rows()
    assert one.new == {"first_name": "Bola"}
    assert three.new == {"metadata": {"n": 1, "tier": "gold"}}
    with pytest.raises(InputError, match="needs the present values"):
        plan(
            tmp_path,
            "update",
            frame({"customer_code": "CUS_0009", "first_name": "B"}),
            copy=copy_of(*COPY),
            only_missing=True,
        )


@pytest.mark.parametrize("source", ["copy", "live"])
def test_blank_means_the_same_in_the_file_and_at_paystack(tmp_path, source):
    """`values.is_blank` says what is blank; the comparison in SQL says the same."""
    held = [None, "", "  ", "\t\n", "\xa0", "\u2003 \u3000", "\x1c", "\x0b\x85", "{}", " { } ", "x"]
    known = [customer(n, phone=phone) for n, phone in enumerate(held)]
    more = {"copy": copy_of(*known)} if source == "copy" else {"client": Reader(*known), "refresh": "live"}

    def blank(phone, verdict, **options):
        rows = [{"customer_code": one["customer_code"], "phone": phone} for one in known]
        made = plan(tmp_path, "update", frame(*rows), **options, **more)
        return [value for value, found in zip(held, verdicts(made), strict=True) if found == verdict]

    assert blank("+2348012345678", "send", only_missing=True) == list(filter(is_blank, held))
    assert blank("<clear>", "noop") == list(filter(is_blank, held))


@pytest.mark.parametrize(
    ("how", "cases"),
    [
        (
            "merge",
            [
                (None, {"n": 1, "t": True}),
                ({"n": 1, "k": [1]}, {"k": [1], "n": 1, "t": True}),
                ('{"k": 2}', {"k": 2, "n": 1, "t": True}),
                ('"{}"', {"n": 1, "t": True}),
                ({"t": True, "n": 1}, None),
                ({"t": 1, "n": 1}, {"n": 1, "t": True}),
                ({"big": 2**70}, {"big": 2**70, "n": 1, "t": True}),
            ],
        ),
        ("replace", [({"n": 1, "k": [1]}, {"n": 1, "t": True})]),
    ],
)
def test_metadata_is_the_whole_object(tmp_path, how, cases):
    known = [customer(n, metadata=held) for n, (held, _) in enumerate(cases)]
    rows = [{"customer_code": one["customer_code"], "metadata": '{"t": true, "n": 1}'} for one in known]
    made = plan(tmp_path, "update", frame(*rows), copy=copy_of(*known), metadata=how).rows()
    for (held, after), row in zip(cases, made, strict=True):
        if after is None:
            assert row.verdict == "noop", held
        else:
            assert row.new == {"metadata": after}, held
            assert row.new["metadata"]["t"] is True, held


def test_metadata_that_is_no_object_cannot_be_merged_into(tmp_path):
    source = frame({"customer_code": "CUS_0001", "metadata": '{"n":1}'})
    copy = copy_of(customer(1, metadata="[1, 2]"))
    with pytest.raises(InputError, match="--metadata replace"):
        plan(tmp_path, "update", source, copy=copy)
    assert verdicts(plan(tmp_path, "update", source, copy=copy, metadata="replace")) == ["send"]


def test_create_leaves_out_who_is_there(tmp_path):
    source = frame(
        {"email": "Person1@shop.ng", "first_name": "A"}, {"email": "new@shop.ng", "metadata": '{"a":1}'}
    )
    one, two = plan(tmp_path, "create", source, copy=copy_of(*COPY)).rows()
    assert (one.verdict, one.note) == ("noop", "is a customer already")
    assert (two.verdict, two.key, two.new) == ("send", "new@shop.ng", {"metadata": {"a": 1}})


def test_blank_rows_are_accounted_for(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("customer_code,risk_action,x\nCUS_1,deny,\n,,\n , ,\nCUS_2,deny,\n")
    made = plan(tmp_path, "risk-action", path)
    assert verdicts(made) == ["send", "noop", "noop", "send"]
    assert any("2 blank rows" in text for text in made.header.warnings)


# -- what Paystack holds is neutral --------------------------------------------------------------------------

ODD = {
    "first_name": " Ada ",
    "last_name": "two\nlines",
    "phone": "call me",
    "metadata": "[1, 2]",
}


@pytest.mark.parametrize("known", ["copy", "live", "both"])
def test_what_paystack_holds_is_no_error_and_no_change_however_odd(tmp_path, known):
    """A copy that was written out, and fed back with one name changed: that name is all that is planned."""
    held = [customer(n, **ODD, email=f"odd{n}@shop") for n in (1, 2, 3)]
    held.append(customer(4, metadata={"tier": "gold"}))
    more = {"copy": copy_of(*held)} if known != "live" else {}
    more |= {"client": Reader(*held), "refresh": "live"} if known != "copy" else {}
    names = ("customer_code", "email", *ODD)
    rows = [{name: c[name] for name in names} for c in held[:3]]
    rows[1]["first_name"] = "Bola"
    rows[2]["phone"] = " +2348012345678 "
    rows.append(
        {"customer_code": "CUS_0004", "email": "person4@shop.ng", "first_name": "New", "phone": "08031234567"}
    )
    one, two, three, four = plan(tmp_path, "update", frame(*rows), **more).rows()
    assert (one.verdict, one.new) == ("noop", {})
    assert four.new == {"first_name": "New"}  # the phone is as it was
    assert (two.verdict, two.old, two.new) == ("send", {"first_name": " Ada "}, {"first_name": "Bola"})
    assert (three.verdict, three.old, three.new) == (
        "send",
        {"phone": "call me"},
        {"phone": "+2348012345678"},
    )


def test_odd_values_that_paystack_does_not_hold_are_refused(tmp_path):
    cases = [  # held, asked
        ({"phone": "call me"}, {"phone": "call you"}),
        ({"phone": None}, {"phone": "call me"}),
        ({"last_name": "a\nb"}, {"last_name": "a\nc"}),
        ({"metadata": "[1]"}, {"metadata": "[2]"}),
        ({"email": "person5@shop.ng"}, {"email": "person5@shop"}),
    ]
    known = [customer(n, **held) for n, (held, _) in enumerate(cases, 1)]
    rows = [
        {"customer_code": one["customer_code"], "first_name": "A", **asked}
        for one, (_, asked) in zip(known, cases, strict=True)
    ]
    client, options = Reader(*known), {"refresh": "live", "metadata": "replace"}
    with pytest.raises(InputError) as caught:
        plan(tmp_path, "update", frame(*rows), copy=copy_of(*known), client=client, **options)
    found = {(problem.row, problem.column) for problem in caught.value.problems}
    assert found >= {(n, column) for n, (_, asked) in enumerate(cases, 1) for column in asked}
    client.asked.clear()
    rest = [{"customer_code": f"CUS_{n:04d}", "first_name": "B"} for n in range(6, 9)]
    with pytest.raises(InputError):
        plan(tmp_path, "update", frame(*rest, *rows), client=client, quota=1, **options)
    assert sorted(client.asked) == [f"CUS_{n:04d}" for n in range(1, 6)]  # who may hold it, and nobody else


def test_a_phone_that_a_spreadsheet_made_a_number_is_not_sent(tmp_path):
    """A CSV of the copy that a spreadsheet saved again: nothing in it says that 803… was 0803…."""
    copy = copy_of(*(customer(n) for n in (1, 2)), customer(3, phone="+2348031234567"))
    rows = [
        {"customer_code": "CUS_0001", "phone": "8031234567"},
        {"customer_code": "CUS_0002", "phone": "8031234568"},
        {"customer_code": "CUS_0003", "phone": "2348031234567"},
    ]
    with pytest.raises(InputError) as refused:
        plan(tmp_path, "update", frame(*rows), copy=copy)
    assert [(p.row, p.column, p.reason[:13]) for p in refused.value.problems] == [
        (1, "phone", "lost the zero")
    ]
    made = plan(tmp_path, "update", frame(*rows), copy=copy, leave_out_problems=True)
    assert verdicts(made) == ["noop", "send", "send"]
    (said,) = [
        text for text in made.header.warnings if "as text" in text
    ]  # other programs want it without a plus
    assert said.startswith("1 cell holds the phone at Paystack without its +")
    assert said.endswith("First seen in row 3.")
    assert verdicts(plan(tmp_path, "update", frame(*rows), copy=copy, only_missing=True)) == ["noop"] * 3
    assert verdicts(plan(tmp_path, "update", frame(rows[0]), copy=copy, undo_of="a run")) == ["send"]


def test_each_field_is_shown_with_its_customer(tmp_path):
    """In a narrow terminal and in logs each of them stands alone."""
    source = frame({"customer_code": "CUS_0001", "first_name": "Ada", "last_name": "Obi"})
    lines = plan_changes(plan(tmp_path, "update", source, copy=copy_of(customer(1))))
    assert [line[:3] for line in lines] == [(1, "CUS_0001", name) for name in ("first_name", "last_name")]
    unknown = plan_changes(plan(tmp_path, "update", source))
    created = plan_changes(plan(tmp_path, "create", frame({"email": "new@shop.ng", "first_name": "Ada"})))
    assert ({line[3] for line in unknown}, created[0][3]) == (
        {"(unknown)"},
        "",
    )  # who is new has no old values


def test_a_header_that_does_not_fit_is_refused_with_what_else_is_in_the_workbook(tmp_path):
    sheets = {"Export Summary": [["Exported from Numbers"]], "Table 1": [["customer_code"], ["CUS_0001"]]}
    path = xlsx(tmp_path / "in.xlsx", sheets)
    with pytest.raises(InputError) as refused:
        plan(tmp_path, "risk-action", path, risk_action="deny")
    assert "Another sheet is read with --sheet: 'Table 1'." in refused.value.advice
    assert verdicts(plan(tmp_path, "risk-action", path, risk_action="deny", sheet="Table 1")) == ["send"]


def test_odd_texts_are_warned_of_only_where_they_are_sent(tmp_path):
    held = [customer(1, first_name="N/A"), customer(2, first_name="Ada"), customer(3, first_name="N/A")]
    rows = [{"customer_code": c["customer_code"], "first_name": "N/A", "last_name": "Obi"} for c in held[:2]]
    rows.append({"customer_code": "CUS_0003", "first_name": "45359", "last_name": "Obi"})
    made = plan(tmp_path, "update", frame(*rows), copy=copy_of(*held))
    odd = [text for text in made.header.warnings if "as text" in text]
    assert [
        text.startswith(said)
        for text, said in zip(odd, ("1 cell holds a word", "1 cell holds no letter"), strict=True)
    ] == [True, True]
    assert ["row 2" in text for text in odd] == [True, False]
    again = plan(tmp_path, "update", frame(*rows))  # without a copy nobody knows what is held
    assert sum("2 cells hold a word like NULL" in text for text in again.header.warnings) == 1


def test_a_text_that_is_not_sent_is_not_odd(tmp_path):
    """A field that is not missing, a row that is repeated, and somebody who is a customer already."""
    held = [customer(1, first_name="Ada", last_name=None)]
    row = {"customer_code": "CUS_0001", "first_name": "N/A", "last_name": "N/A"}
    made = plan(tmp_path, "update", frame(row, row), copy=copy_of(*held), only_missing=True)
    assert [text[:12] for text in made.header.warnings if "as text" in text] == ["1 cell holds"]
    people = [
        {"email": held[0]["email"], "first_name": "N/A"},
        {"email": "new@shop.ng", "first_name": "Bola"},
    ]
    made = plan(tmp_path, "create", frame(*people), copy=copy_of(*held))
    assert [text for text in made.header.warnings if "as text" in text] == []


def test_an_odd_risk_action_that_paystack_holds_is_left(tmp_path):
    copy = copy_of(customer(1, risk_action="review"), customer(2))
    rows = [
        {"customer_code": f"CUS_000{n}", "risk_action": action} for n, action in ((1, "review"), (2, "deny"))
    ]
    assert verdicts(plan(tmp_path, "risk-action", frame(*rows), copy=copy)) == ["noop", "send"]
    rows[1]["risk_action"] = "review"
    with pytest.raises(InputError, match="is none of allow, deny, default"):
        plan(tmp_path, "risk-action", frame(*rows), copy=copy)


# -- doubles -------------------------------------------------------------------------------------------------


def test_identical_doubles_are_sent_once(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('customer_code,metadata\nCUS_1,"{""a"":1,""b"":2}"\n\nCUS_1,"{ ""b"": 2, ""a"": 1 }"\n')
    first, second = plan(tmp_path, "update", path, metadata="replace").rows()
    assert (first.verdict, second.verdict, second.same_as, second.note) == (
        "send",
        "duplicate",
        1,
        "same as line 2",
    )


def test_contradictions_name_both_lines(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("customer_code,risk_action\nCUS_1,deny\nCUS_2,deny\nCUS_1,allow\nCUS_1,deny\n")
    with pytest.raises(InputError) as caught:
        plan(tmp_path, "risk-action", path)
    (problem,) = caught.value.problems
    assert (problem.line, "line 2" in problem.reason) == (4, True)


def test_one_authorization_is_not_of_two_customers(tmp_path):
    """A code that was filled down: the second customer's own card would be called deactivated, and is not."""
    card = {"authorization_code": "AUTH_abcdefgh12"}
    for others in (
        [{"customer_code": "CUS_0001"}, {"customer_code": "CUS_0002"}],
        [{"email": "a@shop.ng"}, {"email": "b@shop.ng"}],
        [{"customer_code": "CUS_0001"}, {"email": "person2@shop.ng"}],
    ):
        rows = [card | other for other in others]
        with pytest.raises(InputError, match="another customer for the same authorization than row 1"):
            plan(tmp_path, "deactivate-authorization", frame(*rows), copy=copy_of(*COPY))
    for same in (
        [{"customer_code": "CUS_0001"}, {}],
        [{"customer_code": "CUS_0001"}, {"email": "Person1@shop.ng"}],
        [{"email": "a@shop.ng"}, {"email": "A@shop.ng"}],
    ):
        rows = [card | other for other in same]
        made = plan(tmp_path, "deactivate-authorization", frame(*rows), copy=copy_of(*COPY))
        assert verdicts(made) == ["send", "duplicate"]


@pytest.mark.parametrize("known", ["copy", "input"])
def test_one_customer_under_two_names_is_seen(tmp_path, known):
    rows = [
        {"customer_code": "CUS_0001", "risk_action": "deny"},
        {"email": "Person1@shop.ng", "risk_action": "deny"},
    ]
    copy = copy_of(*COPY)
    if known == "input":  # another row says that the two belong together
        rows[0]["email"] = "person1@shop.ng"
        copy = None
    assert verdicts(plan(tmp_path, "risk-action", frame(*rows), copy=copy)) == ["send", "duplicate"]
    rows[1]["risk_action"] = "allow"
    with pytest.raises(InputError, match="than row 1"):
        plan(tmp_path, "risk-action", frame(*rows), copy=copy)


@pytest.mark.parametrize(
    "row",
    [
        {"customer_code": "CUS_0001", "email": "person2@shop.ng"},
        {"customer_code": "CUS_0001", "email": "someone@else.ng"},
        {"customer_code": "CUS_0001", "id": "2"},
        {"customer_code": "CUS_0001", "id": "17"},
        {"email": "person1@shop.ng", "id": "17"},
        {"customer_code": "CUS_0777", "email": "person2@shop.ng"},
        {"email": "person1@shop.ng", "id": "2"},
        {"email": "someone@else.ng", "id": "2"},
    ],
)
def test_a_row_that_names_two_customers_is_refused(tmp_path, row):
    with pytest.raises(InputError, match="two different customers"):
        plan(tmp_path, "risk-action", frame(row | {"risk_action": "deny"}), copy=copy_of(*COPY))


def test_emails_that_differ_by_case_only(tmp_path):
    copy = copy_of(customer(1, email="ada@x.ng"), customer(2, email="Ada@x.ng"))
    (row,) = plan(
        tmp_path, "risk-action", frame({"email": "Ada@x.ng", "risk_action": "deny"}), copy=copy
    ).rows()
    assert row.key == "CUS_0002"
    with pytest.raises(InputError, match="more than one customer"):
        plan(tmp_path, "risk-action", frame({"email": "ADA@x.ng", "risk_action": "deny"}), copy=copy)


def test_secrets_tell_doubles_apart(tmp_path):
    row = {"email": "a@b.ng", "first_name": "A", "last_name": "B", "country": "NG", "bank_code": "058"}
    row |= {"account_number": "0123456789", "bvn": "22222222221"}
    assert verdicts(plan(tmp_path, "validate", frame(row, row))) == ["send", "duplicate"]
    with pytest.raises(InputError, match="has other values"):
        plan(tmp_path, "validate", frame(row, row | {"bvn": "22222222222"}))
    codes = frame(
        {"authorization_code": "AUTH_a1"},
        {"authorization_code": "AUTH_b2"},
        {"authorization_code": "AUTH_a1"},
    )
    assert verdicts(plan(tmp_path, "deactivate-authorization", codes)) == ["send", "send", "duplicate"]


# -- live ----------------------------------------------------------------------------------------------------


def test_live_values_win_and_drift_is_shown(tmp_path):
    client = Reader(customer(1, risk_action="deny"), customer(2, risk_action="allow"), customer(3))
    made = plan(
        tmp_path,
        "risk-action",
        deny("CUS_0001", "CUS_0002", "CUS_0003"),
        copy=copy_of(*COPY),
        client=client,
        refresh="live",
    )
    one, two, three = made.rows()
    assert (one.verdict, one.drifted) == ("noop", True)
    assert (two.verdict, two.drifted, two.old) == ("send", True, {"risk_action": "allow"})
    assert (three.verdict, three.drifted) == ("send", False)
    assert made.header.counts.drifted == 2
    assert made.header.refreshed == len(client.asked) == 3


def test_drift_of_metadata_ignores_how_it_is_written(tmp_path):
    source = frame(*[{"customer_code": f"CUS_000{i}", "metadata": '{"new":1}'} for i in (1, 2, 3)])
    client = Reader(
        customer(1, metadata={}),
        customer(2, metadata={"a": 1, "b": 2}),
        customer(3, metadata={"tier": "silver"}),
    )
    copy = copy_of(customer(1), customer(2, metadata='{"b": 2, "a": 1}'), COPY[2])
    rows = list(plan(tmp_path, "update", source, copy=copy, client=client, refresh="live").rows())
    assert [row.drifted for row in rows] == [False, False, True]
    assert rows[2].old == {"metadata": {"tier": "silver"}}
    assert rows[2].new == {"metadata": {"new": 1, "tier": "silver"}}


def test_a_customer_that_paystack_lacks_is_a_problem(tmp_path):
    with pytest.raises(InputError, match="Paystack has no such customer"):
        plan(
            tmp_path, "risk-action", deny("CUS_0001", "CUS_0002"), client=Reader(customer(1)), refresh="live"
        )


def test_an_email_is_resolved_by_a_read_where_an_update_needs_the_code(tmp_path):
    client = Reader(customer(1))
    source = frame(
        {"email": "person1@shop.ng", "first_name": "Ada"}, {"customer_code": "CUS_0001", "first_name": "Ada"}
    )
    one, two = plan(tmp_path, "update", source, client=client).rows()
    assert (one.key, one.old, one.verdict) == ("CUS_0001", {"first_name": None}, "send")
    assert two.verdict == "duplicate"
    assert client.asked == ["person1@shop.ng"]
    with pytest.raises(InputError):
        plan(tmp_path, "update", source, client=client, refresh="never")


def test_the_copy_is_refreshed_by_itself_if_that_is_cheap(tmp_path):
    old = NOW - dt.timedelta(hours=30)
    client = Reader(*COPY)
    made = plan(tmp_path, "risk-action", deny("CUS_0001"), copy=copy_of(*COPY), client=client)
    assert client.asked == ["CUS_0001"]
    assert made.header.refreshed == 1
    made = plan(
        tmp_path,
        "risk-action",
        deny("CUS_0001", "CUS_0002"),
        copy=copy_of(*COPY, as_of=old),
        client=client,
        quota=1,
    )
    assert len(client.asked) == 1
    assert any("2 are not in it" in text and "--refresh live" in text for text in made.header.warnings)
    made = plan(
        tmp_path,
        "risk-action",
        deny("CUS_0001"),
        copy=copy_of(*COPY, as_of=old),
        client=client,
        refresh="never",
    )
    assert any("30 hours old" in text for text in made.header.warnings)


def test_rows_say_themselves_when_they_were_seen(tmp_path):
    seen = [(NOW - dt.timedelta(hours=h)).isoformat() for h in (1, 100)]
    copy = arrow_copy([customer(1, _last_seen_at=seen[0]), customer(2, _last_seen_at=seen[1])])
    client = Reader(*COPY)
    denied = deny("CUS_0001", "CUS_0002")
    made = plan(tmp_path, "risk-action", denied, copy=copy, client=client, quota=1)
    assert client.asked == ["CUS_0002"]
    assert any("compared with the copy" in text for text in made.header.warnings)
    assert made.header.copy.as_of == NOW - dt.timedelta(hours=1)


def test_a_customer_that_disappeared_is_noted(tmp_path):
    copy = copy_of(customer(1, _missing_since="2026-04-30T08:00:00+00:00"), customer(2, _missing_since=None))
    one, two = plan(tmp_path, "risk-action", deny("CUS_0001", "CUS_0002"), copy=copy).rows()
    assert (one.verdict, one.note, two.note) == ("send", "not seen at Paystack since 2026-04-30", "")


def test_a_create_does_not_say_that_known_customers_are_as_wanted(tmp_path):
    people = frame({"email": "person1@shop.ng", "first_name": "Other"}, {"email": None, "first_name": None})
    facts = dict(plan_facts(plan(tmp_path, "create", people, copy=copy_of(*COPY))))
    assert facts["customers already"] == "1 (left as they are)"
    assert facts["blank rows"] == "1 (not sent)"
    assert "already as wanted" not in facts


def test_bad_cells_and_unknown_customers_are_said_in_one_round(tmp_path):
    client = Reader(*COPY)
    with pytest.raises(InputError) as caught:
        plan(
            tmp_path,
            "risk-action",
            deny("CUS_0001", "nonsense", "CUS_9999", "ada@nowhere"),
            client=client,
            refresh="live",
        )
    assert [(p.row, p.reason[:20]) for p in caught.value.problems] == [
        (2, "is neither a custome"),
        (3, "Paystack has no such"),
        (4, "is not an email addr"),  # it is not said of the same cell that nobody has it
    ]


def test_customers_are_not_read_for_minutes_while_a_cell_is_wrong(tmp_path):
    client = Reader(*COPY)
    with pytest.raises(InputError):
        plan(
            tmp_path,
            "risk-action",
            deny("CUS_0001", "CUS_0002", "nonsense"),
            client=client,
            refresh="live",
            quota=1,
        )
    assert client.asked == []


# -- copies --------------------------------------------------------------------------------------------------


def warehouse(path, *customers, dataset="paystack"):
    with duckdb.connect(path) as con:
        con.execute(f"CREATE SCHEMA {dataset}")
        con.execute(
            f"CREATE TABLE {dataset}.customers (id BIGINT, customer_code VARCHAR, email VARCHAR, "
            "first_name VARCHAR, last_name VARCHAR, phone VARCHAR, metadata JSON, risk_action VARCHAR, "
            "integration BIGINT, domain VARCHAR, _last_seen_at TIMESTAMPTZ)"
        )
        for c in customers:
            con.execute(
                f"INSERT INTO {dataset}.customers SELECT ?, ?, ?, ?, ?, ?, ?::JSON, ?, ?, ?, ?",
                [
                    c["id"],
                    c["customer_code"],
                    c["email"],
                    c["first_name"],
                    c["last_name"],
                    c["phone"],
                    c.get("json"),
                    c["risk_action"],
                    c["integration"],
                    c["domain"],
                    NOW,
                ],
            )


def test_a_duckdb_file_is_joined_in_place_and_stays_as_it_was(tmp_path):
    path = tmp_path / "copy.duckdb"
    warehouse(
        path, customer(1, json='{"a": 1}'), customer(2, domain="live", email="person1@shop.ng", integration=7)
    )
    before = path.read_bytes()
    source = frame({"email": "person1@shop.ng", "metadata": '{"b":2}'})
    made = plan(tmp_path, "update", source, copy=duckdb_copy(path))
    (row,) = made.rows()
    assert (row.key, row.new) == (
        "CUS_0001",
        {"metadata": {"a": 1, "b": 2}},
    )  # the live namesake is another customer
    about = made.header.copy
    assert (about.destination, about.customers, about.account, about.as_of) == (
        "duckdb:copy.duckdb",
        1,
        42,
        NOW,
    )
    assert path.read_bytes() == before


def test_the_file_of_a_copy_is_read_while_it_is_written_and_written_while_customers_are_read(tmp_path):
    path = tmp_path / "copy.duckdb"
    warehouse(path, customer(1), customer(2, first_name="Obi"))

    class Writer(Reader):
        def fetch(self, key):
            duckdb.connect(path).close()
            return super().fetch(key)

    source = frame({"customer_code": "CUS_0002", "first_name": "Ngozi"})
    live = {"client": Writer(customer(2)), "refresh": "live"}
    made = plan(tmp_path, "update", source, copy=duckdb_copy(path), **live)
    assert made.header.counts.drifted == 1
    with duckdb.connect(path):
        made = plan(tmp_path, "update", source, copy=duckdb_copy(path))
    assert next(made.rows()).old == {"first_name": "Obi"}
    assert (made.header.copy.destination, made.header.copy.customers) == ("duckdb:copy.duckdb", 2)


def test_copies_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="more than one account"):
        plan(tmp_path, "risk-action", deny("CUS_1"), copy=copy_of(customer(1), customer(2, integration=7)))
    with pytest.raises(ConfigError, match="customer_code and email"):
        plan(tmp_path, "risk-action", deny("CUS_1"), copy=arrow_copy([{"a": 1}]))
    # As pandas reads a CSV of phones like 0803…: a plan would show what is no change, and an undo would restore it.
    numbers = arrow_copy(pd.DataFrame([customer(1, phone=8031234567), customer(2, phone=None)]))
    with pytest.raises(ConfigError, match="numbers, not texts, as phone"):
        plan(tmp_path, "risk-action", deny("CUS_0001"), copy=numbers)


def test_a_customer_twice_in_the_copy_counts_once(tmp_path):
    copy = copy_of(customer(1), customer(1))
    assert plan(tmp_path, "risk-action", deny("CUS_0001"), copy=copy).header.counts.rows == 1


# -- confirmation, minutes, account --------------------------------------------------------------------------


def many(count, action="allow"):
    return frame(*[{"customer_code": f"CUS_{i:04d}", "risk_action": action} for i in range(1, count + 1)])


@pytest.mark.parametrize(
    ("action", "rows", "mode", "needed"),
    [
        ("allow", 1_001, "live", True),
        ("allow", 1_000, "live", False),
        ("deny", 101, "live", True),
        ("deny", 100, "live", False),
        ("deny", 101, "test", False),
    ],
)
def test_large_plans_want_the_number_typed(tmp_path, action, rows, mode, needed):
    guard = plan(tmp_path, "risk-action", many(rows, action), mode=mode).header.guard
    assert guard.needed is needed
    assert bool(guard.reasons) is (rows not in (100, 1_000))


def test_a_large_share_of_all_customers_wants_it_too(tmp_path):
    copy = copy_of(*[customer(i, domain="live") for i in range(1, 201)])
    guard = plan(tmp_path, "risk-action", many(15), copy=copy, mode="live").header.guard
    assert not guard.needed
    guard = plan(tmp_path, "risk-action", many(15, "deny"), copy=copy, mode="live").header.guard
    assert guard.needed
    assert "7.5% of all 200 customers" in guard.reasons[0]


def test_rows_that_need_nothing_do_not_count(tmp_path):
    copy = copy_of(*[customer(i, domain="live", risk_action="deny") for i in range(1, 201)])
    header = plan(tmp_path, "risk-action", many(200, "deny"), copy=copy, mode="live").header
    assert (header.guard.needed, header.counts.to_send) == (False, 0)
    assert "There is nothing to send." in header.warnings


@pytest.mark.parametrize(
    ("options", "minutes"),
    [
        ({"mode": "live"}, 0.5),
        ({"mode": "test"}, 3.0),
        ({"mode": "live", "quota_share": 0.5}, 1.0),
        ({"mode": "live", "quota": 1_200}, 0.25),
        ({"mode": "live", "quota": 0}, 0.0),
    ],
)
def test_minutes_at_the_quota(tmp_path, options, minutes):
    assert plan(tmp_path, "risk-action", many(300), **options).header.minutes == minutes


def test_who_and_where_come_from_the_client(tmp_path):
    header = plan(tmp_path, "risk-action", deny("CUS_0001"), client=Reader(*COPY), refresh="live").header
    assert (header.key_mode, header.key_fingerprint, header.host, header.account) == (
        "test",
        "print-test",
        "loopback",
        42,
    )


def test_a_copy_of_another_account_is_refused(tmp_path):
    client = Reader(customer(1, integration=7))
    with pytest.raises(WrongAccount):
        plan(tmp_path, "risk-action", deny("CUS_0001"), copy=copy_of(*COPY), client=client, refresh="live")
    with pytest.raises(WrongAccount):
        plan(tmp_path, "risk-action", deny("CUS_0001"), copy=copy_of(*COPY), account=7)


def test_applicable_only_here_and_now(tmp_path):
    made = plan(tmp_path, "risk-action", deny("CUS_0001"), copy=copy_of(*COPY), client=Reader(*COPY))
    day = dt.timedelta(hours=24)

    def check(age=dt.timedelta(0), account=42, mode="test", key="print-test", base_url="http://127.0.0.1:1"):
        client = Reader(mode=mode, base_url=base_url)
        client.key.fingerprint = key
        made.check_applicable(NOW + age, client, account=account, max_age=day)

    check()
    check(age=day)
    check(key="another key of the same account")
    for age in (day + dt.timedelta(seconds=1), dt.timedelta(minutes=-6)):
        with pytest.raises(StalePlan):
            check(age=age)
    for wrong in (
        {"account": 7},
        {"mode": "live"},
        {"base_url": "https://api.paystack.co"},
        {"account": None, "key": "another"},
    ):
        with pytest.raises(WrongAccount):
            check(**wrong)


# -- secrets -------------------------------------------------------------------------------------------------


def identities(path):
    rows = [["a@b.ng", "A", "B", "NG", "058", f"012345678{i}", f"2222222222{i}"] for i in range(3)]
    rows = [[f"{i}{row[0]}", *row[1:]] for i, row in enumerate(rows)]
    write_table(
        path, ["email", "first_name", "last_name", "country", "bank_code", "account_number", " BVN "], rows
    )
    return path


def test_secrets_are_read_again_from_the_input(tmp_path):
    path = identities(tmp_path / "in.csv")
    made = plan(tmp_path, "validate", path)
    secrets = made.secrets()
    assert [secrets(row) for row in made.rows()] == [
        {"account_number": f"012345678{i}", "bvn": f"2222222222{i}"} for i in range(3)
    ]
    assert [row.secrets["bvn"] for row in made.rows()] == ["…20", "…21", "…22"]


def test_secrets_are_refused_from_another_input(tmp_path):
    path = identities(tmp_path / "in.csv")
    made = Plan.open(plan(tmp_path, "validate", path).path)
    path.write_bytes(path.read_bytes().replace(b"22222222220", b"22222222229"))
    with pytest.raises(InputChanged, match="changed since"):
        made.secrets()
    path.unlink()
    with pytest.raises(InputChanged, match="no longer exists"):
        made.secrets()


def test_secrets_of_a_frame_come_from_the_frame(tmp_path):
    source = frame({"authorization_code": " AUTH_abc123 "}, {"authorization_code": "AUTH_xyz789"})
    made = plan(tmp_path, "deactivate-authorization", source)
    secrets = made.secrets(source)
    assert [secrets(row) for row in made.rows()] == [
        {"authorization_code": "AUTH_abc123"},
        {"authorization_code": "AUTH_xyz789"},
    ]
    for other in (None, source.slice(0, 1)):
        with pytest.raises(InputChanged):
            Plan.open(made.path).secrets(other)


def test_operations_without_secrets_need_no_input(tmp_path):
    made = plan(tmp_path, "risk-action", deny("CUS_0001"))
    assert made.secrets()(next(made.rows())) == {}


# -- any input -----------------------------------------------------------------------------------------------

ROW = st.fixed_dictionaries(
    {},
    optional={
        "customer_code": st.sampled_from(["", "CUS_0001", "CUS_0002", "CUS_0009", "bad"]),
        "email": st.sampled_from(["", "person1@shop.ng", "PERSON2@shop.ng", "new@shop.ng", "bad"]),
        "first_name": st.sampled_from(["", "Ada", "<clear>", "Zoë"]),
        "phone": st.sampled_from(["", "+2348012345678", "x"]),
        "metadata": st.sampled_from(["", '{"a":1}', "<clear>", "{"]),
    },
)


@settings(max_examples=8)
@given(
    rows=st.lists(ROW, max_size=6), copied=st.booleans(), only_missing=st.booleans(), replace=st.booleans()
)
def test_every_row_is_accounted_for_exactly_once(tmp_path_factory, rows, copied, only_missing, replace):
    folder = tmp_path_factory.mktemp("p")
    names = ("customer_code", "email", "first_name", "phone", "metadata")
    source = (
        frame(*[dict.fromkeys(names, "") | row for row in rows]) if rows else frame(dict.fromkeys(names, ""))
    )
    try:
        made = plan(
            folder,
            "update",
            source,
            copy=copy_of(*COPY) if copied else None,
            only_missing=only_missing,
            metadata="replace" if replace else "merge",
        )
    except InputError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.count == len(refused.problems) > 0
        assert all(1 <= p.row <= len(source) for p in refused.problems)
        return
    planned = list(made.rows())
    assert [row.row for row in planned] == list(range(1, len(source) + 1))
    counts = made.header.counts
    assert counts.to_send + counts.noop + counts.duplicates == counts.rows == len(source)
    for verdict, count in (("send", counts.to_send), ("noop", counts.noop), ("duplicate", counts.duplicates)):
        assert sum(row.verdict == verdict for row in planned) == count
    sent = [row.key for row in planned if row.verdict == "send"]
    assert len(set(sent)) == len(sent)
    for row in planned:
        if row.verdict == "send":
            assert row.new
            assert row.old is None or set(row.old) == set(row.new)
        if row.verdict == "duplicate":
            assert planned[row.same_as - 1].verdict != "duplicate"
            assert planned[row.same_as - 1].key == row.key
