"""`--leave-out-problems`: the good rows are planned, the others come back in a file that can be fed back."""

import pandas as pd
import pytest

from paystack_source.bulk.input.files import open_table
from paystack_source.bulk.plan import planner
from paystack_source.errors import InputError

from .workbook import FAILED, xlsx
from .world import Reader, copy_of, customer, frame, plan, verdicts

COPY = copy_of(*(customer(number) for number in range(1, 9)))


def left(folder, name="it.left_out.csv"):
    table = open_table(folder / name)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows()]


def test_the_good_rows_are_planned_and_the_others_come_back_with_reasons(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(
        "customer,risk_action,note\n"
        "CUS_0001,deny,a\n"
        "person2@shop,deny,b\n"
        "CUS_0003,denied,c\n"
        "CUS_9999,deny,d\n"
        "CUS_0005,deny\n"
        ",,\n"
        "CUS_0006,deny,e,f\n"
        "person7@shop.ng,deny,g\n"
    )
    held = Reader(*(customer(number) for number in range(1, 9)))
    made = plan(tmp_path, "risk-action", path, copy=COPY, client=held, leave_out_problems=True)
    counts = made.header.counts
    assert (counts.rows, counts.to_send, counts.left_out, counts.noop) == (8, 2, 5, 1)
    sent = [(row.row, row.line, row.customer_code) for row in made.rows() if row.verdict == "send"]
    assert sent == [(1, 2, "CUS_0001"), (8, 9, "CUS_0007")]
    notes = [row.note.partition(":")[0] for row in made.rows()]
    assert notes == ["", *["left out"] * 4, "blank row", "left out", ""]
    rows = left(tmp_path)
    assert [row["_line"] for row in rows] == ["3", "4", "5", "6", "8"]
    assert [row["_problem"].partition(";")[0] for row in rows] == [
        "customer: is not an email address",
        "risk_action: is none of allow, deny, default",
        "Paystack has no such customer",
        "has too few cells: 2 where the header has 3",
        "has too many cells: 4 where the header has 3",
    ]
    assert [row["note"] for row in rows] == ["b", "c", "d", "", "e,f\ufffd"]
    assert any("it.left_out.csv" in text and "5 rows" in text for text in made.header.warnings)


def test_the_file_can_be_corrected_and_fed_back(tmp_path):
    source = frame(
        {"customer_code": "CUS_0001", "risk_action": "deny"},
        {"customer_code": "CUS_0002", "risk_action": "dney"},
    )
    plan(tmp_path, "risk-action", source, copy=COPY, leave_out_problems=True)
    again = tmp_path / "it.left_out.csv"
    again.write_text(again.read_text().replace("dney", "deny"))
    (tmp_path / "it.plan").unlink()
    (row,) = plan(tmp_path, "risk-action", again, copy=COPY, leave_out_problems=True).rows()
    assert (row.customer_code, row.verdict) == ("CUS_0002", "send")


def test_a_cell_without_a_text_of_its_own_is_refused_again(tmp_path):
    """As text, a failed formula is a blank cell, and a number that lost digits is a phone."""
    cells = [FAILED, 1234567890123456789, "08031234567"]
    rows = [["email", "phone"], *([f"person{n}@x.ng", cell] for n, cell in enumerate(cells))]
    plan(tmp_path, "create", xlsx(tmp_path / "in.xlsx", {"S": rows}), leave_out_problems=True)
    with pytest.raises(InputError) as refused:
        plan(tmp_path / "again", "create", tmp_path / "it.left_out.csv")
    assert [(p.line, p.column) for p in refused.value.problems] == [(2, "phone"), (3, "phone")]
    path = tmp_path / "uneven.csv"
    path.write_text("email,first_name\nada@x.ng,Obi,Ada\nobi@x.ng\ngood@x.ng,Ada\n")
    plan(tmp_path, "create", path, leave_out_problems=True)
    with pytest.raises(InputError) as refused:
        plan(tmp_path / "again", "create", tmp_path / "it.left_out_2.csv")
    assert [p.line for p in refused.value.problems] == [2, 2, 3]


def test_no_file_is_written_over(tmp_path):
    source = frame(
        {"customer_code": "CUS_0001", "risk_action": "deny"}, {"customer_code": "no", "risk_action": "deny"}
    )
    for name in ("it.left_out.csv", "it.left_out_2.csv"):
        plan(tmp_path, "risk-action", source, leave_out_problems=True)
        assert left(tmp_path, name)[0]["customer_code"] == "no"


def test_of_rows_that_contradict_each_other_none_is_planned(tmp_path):
    asked = (("CUS_0001", "deny"), ("person1@shop.ng", "deny"), ("CUS_0002", "allow"), ("1", "allow"))
    source = frame(*({"customer": who, "risk_action": action} for who, action in asked))
    made = plan(tmp_path, "risk-action", source, copy=COPY, leave_out_problems=True)
    assert verdicts(made) == ["noop", "noop", "send", "noop"]
    assert [row["_line"] for row in left(tmp_path)] == ["1", "2", "4"]
    assert all("for the same customer" in row["_problem"] for row in left(tmp_path))


def test_more_rows_are_left_out_than_problems_would_be_told(tmp_path, monkeypatch):
    monkeypatch.setattr(planner, "_MAX_PROBLEMS", 3)
    asked = [
        {"customer_code": f"CUS_000{n}", "risk_action": how} for n in (1, 2, 3) for how in ("deny", "allow")
    ]
    source = frame({"customer_code": "CUS_0004", "risk_action": "deny"}, *asked)
    made = plan(tmp_path, "risk-action", source, copy=COPY, leave_out_problems=True)
    assert made.header.counts.left_out == 6
    assert [row["_line"] for row in left(tmp_path)] == ["2", "3", "4", "5", "6", "7"]
    assert "6 rows are left out" in made.header.warnings[0]


def test_more_problems_than_can_be_left_out_are_refused_with_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(planner, "_MAX_PROBLEMS", 1)
    source = frame(
        *({"customer_code": code, "risk_action": "deny"} for code in ("no", "neither", "CUS_0001"))
    )
    with pytest.raises(InputError) as refused:
        plan(tmp_path, "risk-action", source, copy=COPY, leave_out_problems=True)
    assert (refused.value.count, refused.value.advice) == (2, "At most 1 problems can be left out.")


def test_a_row_whose_customer_only_a_left_out_row_named_is_left_out_too(tmp_path):
    source = frame(
        {"customer_code": "CUS_0404", "email": "new@x.ng", "phone": "call me"},
        {"customer_code": "", "email": "new@x.ng", "phone": "08031112222"},
        {"customer_code": "CUS_0001", "email": "", "phone": "08031112222"},
    )
    made = plan(tmp_path, "update", source, copy=COPY, leave_out_problems=True)
    assert verdicts(made) == ["noop", "noop", "send"]


def test_secrets_are_masked_in_the_file_and_good_rows_keep_theirs(tmp_path):
    good = {
        "customer_code": "CUS_0001",
        "first_name": "Ada",
        "last_name": "Obi",
        "country": "NG",
        "bank_code": "058",
        "account_number": "0123456789",
        "bvn": "22222222222",
    }
    source = frame(good | {"customer_code": "CUS_0002", "account_number": "one"}, good)
    made = plan(tmp_path, "validate", source, leave_out_problems=True)
    assert "22222222222" not in (tmp_path / "it.left_out.csv").read_text()
    sending = next(row for row in made.rows() if row.verdict == "send")
    assert made.secrets()(sending) == {"account_number": "0123456789", "bvn": "22222222222"}


def test_without_a_good_row_nothing_is_planned(tmp_path):
    source = pd.DataFrame({"customer_code": ["no", "neither"], "risk_action": "deny"})
    with pytest.raises(InputError) as caught:
        plan(tmp_path, "risk-action", source, leave_out_problems=True)
    assert caught.value.count == 2
    assert not list(tmp_path.iterdir())
