"""Everything that is wrong with an input is said at once, with line and column, and nothing personal."""

import csv
import datetime as dt
import re

import numpy as np
import pandas as pd
import pytest

from paystack_source.bulk.input.files import write_problems
from paystack_source.bulk.operations import BULK_OPERATIONS, operation
from paystack_source.errors import ConfigError, InputError

from .workbook import FAILED, xlsx
from .world import copy_of, customer, frame, plan


def problems(tmp_path, name, source, **more):
    with pytest.raises(InputError) as caught:
        plan(tmp_path, name, source, **more)
    assert not list(tmp_path.glob("*.plan"))
    assert caught.value.exit_code == 2
    return caught.value


def reasons(tmp_path, name, source, **more):
    return [(p.row, p.column, p.reason) for p in problems(tmp_path, name, source, **more).problems]


def test_all_bad_cells_at_once_by_physical_line(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(
        "Customer Code,E-Mail,note,Risk Action\n"
        'CUS_1,,"two\nlines",deny\n'
        "cus_2,,x,allow\n"
        "CUS_3,nobody,x,maybe\n"
        ",,x,allow\n"
        "CUS_5,,x,\n"
        "CUS_6,,x\n"
    )
    error = problems(tmp_path, "risk-action", path)
    found = {(p.line, p.column): p.reason for p in error.problems}
    assert set(found) == {
        (4, "Customer Code"),
        (5, "E-Mail"),
        (5, "Risk Action"),
        (6, ""),
        (7, "Risk Action"),
        (8, ""),
    }
    assert found[5, "Risk Action"] == "is none of allow, deny, default"
    assert [p.line for p in error.problems] == sorted(p.line for p in error.problems)
    assert "line 4, Customer Code: is not a customer code" in str(error)
    assert error.count == 6


def test_long_lists_are_cut_in_words_and_whole_as_csv(tmp_path):
    error = problems(
        tmp_path,
        "risk-action",
        frame(*[{"customer_code": f"bad{i}", "risk_action": "deny"} for i in range(50)]),
    )
    assert str(error).count("is neither a customer code") == 5  # what else is wrong must be seen too
    assert "… and 45 more" in str(error)
    path = tmp_path / "problems.csv"
    write_problems(error, path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [str(i) for i in range(1, 51)]
    assert path.stat().st_mode & 0o077 == 0


def test_values_are_masked(tmp_path):
    source = frame(
        {
            "email": "ada.lovelace@",
            "first_name": "Ada\nX",
            "last_name": "L",
            "country": "22222222229",  # the columns are in another order
            "bank_code": "Ada Lovelace",
            "account_number": "01234567891234567891234",
            "bvn": "2222222222Z",
        }
    )
    text = str(problems(tmp_path, "validate", source))
    for private in ("ovelace", "Ada", "0123456789", "22222"):
        assert private not in text
    assert "…2Z" in text or "…Z" in text
    wrong = enumerate(("ada@example.com", "block"))
    actions = [{"customer_code": f"CUS_{n}", "risk_action": cell} for n, cell in wrong]
    text = str(problems(tmp_path, "risk-action", actions))
    assert "block" in text
    assert "example" not in text


# One plan each for the bad and the good ones: the lists differ in the case that is judged otherwise.
CELLS = [
    ("phone", "+2348012345678", True),
    ("phone", "0803 123-4567", True),
    ("phone", "(0803) 123.4567", True),
    ("phone", "0803x", False),
    ("phone", "-8031234567", False),
    ("phone", "2.34801E+12", False),
    ("phone", "123", False),
    ("phone", "+" + "1" * 21, False),
    ("first_name", "Ọláwálé 😀", True),
    ("first_name", "O'Neil-Smith", True),
    ("first_name", "a\tb", False),
    ("first_name", "\ufeffAda", False),
    ("first_name", "\u202eadA", False),
    ("first_name", "Obi\u200e", False),
    (
        "first_name",
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        True,
    ),  # a joiner that Persian names need
    ("first_name", "2024-03-08", False),
    ("last_name", "08.03.2024", False),
    ("phone", "2024-03-08", False),
    ("phone", "08/03/2024", False),
    ("phone", "2024-03-08T00:00:00", False),
    ("phone", "08-03-2024", False),
    ("phone", "2024/3/8", False),
    ("phone", "08/03/24", False),
    ("phone", "8031234567.5", False),
    ("phone", "8031234567.000", False),
    ("phone", "2.348.031.234.567", False),
    ("phone", "8,031,234,567.00", False),
    ("phone", "803.123.4567", True),
    ("first_name", "1-Mar", False),
    ("first_name", "Mar-24", False),
    ("first_name", "Mar", True),
    ("first_name", "8/3/2024 09:00", False),
    ("first_name", "Jos\ufffd", False),
    ("first_name", "Ada\u3164Obi", False),
    ("first_name", "Ada\u2028Obi", False),
    ("first_name", "\U000e0041Ada", False),
    ("first_name", "x" * 256, False),
    ("metadata", '{"a": [1, null]}', True),
    ("metadata", "[1]", False),
    ("metadata", "hello", False),
    ("metadata", '"{}"', False),
    ("metadata", '{"a": NaN}', False),
    ("metadata", '{"a": [-1e400]}', False),
    ("metadata", "{" * 5_000, False),
]


def test_update_cells(tmp_path):
    rows = [{"customer_code": f"CUS_{n}", column: value} for n, (column, value, _) in enumerate(CELLS, 1)]
    found = reasons(tmp_path, "update", frame(*rows), metadata="replace")
    bad = [(column, value) for column, value, good in CELLS if not good]
    assert [(column, CELLS[row - 1][1]) for row, column, _ in found] == bad
    told = {CELLS[row - 1][1]: reason for row, _, reason in found}
    assert "too large" in told['{"a": [-1e400]}']
    assert {"thousands" in told[text] for text in ("2.348.031.234.567", "8,031,234,567.00")} == {True}
    kept = [row for row, (_, _, good) in zip(rows, CELLS, strict=True) if good]
    assert plan(tmp_path, "update", frame(*kept), metadata="replace").header.counts.to_send == len(kept)


EMAILS = [
    ("a@b.co", True),
    ("Ada+x@Shop.NG", True),
    ("ọlá@shop.ng", True),
    ("a@b", False),
    ("a b@c.ng", False),
    ("a@@b.ng", False),
    ("a@b.ng,c@d.ng", False),
    ("a@b.ng\u200b", False),
    ("@b.ng", False),
    ("a@" + "b" * 260 + ".ng", False),
    ("ada@example.com.", False),
    ("ada..obi@example.com", False),
    (".ada@example.com", False),
    ("ada.@example.com", False),
    ("ada@example..com", False),
    ("ada@-example.com", False),
    ("ada@example-.com", False),
    ("ada@example.com/", False),
    ("ada@1.2", False),
    ("'ada@example.com", False),
    ("a" * 65 + "@example.com", False),
    ("ada@" + "b" * 64 + ".ng", False),
    ("ada@mail." + "b" * 64 + ".ng", False),
    ("a" * 64 + "@" + "b" * 63 + ".ng", True),
    ("ada\u3164@example.com", False),
    ("ada@example\ufe0f.com", False),
    ("ada@127.0.0.1", False),
    ("ada@xn--shop-x1a.xn--p1ai", True),
    ("o'neil/x=1@sub.shop-2.com.ng", True),
]


def test_emails(tmp_path):
    found = reasons(tmp_path, "create", frame(*({"email": value} for value, _ in EMAILS)))
    assert [EMAILS[row - 1][0] for row, _, _ in found] == [value for value, good in EMAILS if not good]
    kept = [value for value, good in EMAILS if good]
    rows = plan(tmp_path, "create", frame(*({"email": value} for value in kept))).rows()
    assert [row.key for row in rows] == kept  # as written


def identity(**changes):
    return {
        "customer_code": "CUS_1",
        "first_name": "Ada",
        "last_name": "Obi",
        "country": "ng",
        "bank_code": "058",
        "account_number": "0123456789",
        "bvn": "22222222222",
    } | changes


IDENTITIES = [
    ({"bvn": "222 2222 2222"}, "bvn"),
    ({"bvn": "2.22E+10"}, "bvn"),
    ({"bvn": "-22222222222"}, "bvn"),
    ({"bvn": "22222222222.0"}, "bvn"),
    ({"account_number": "", "country": "GH"}, "account_number"),
    ({"account_number": "O123456789"}, "account_number"),
    ({"country": "Nigeria"}, "country"),
    ({"first_name": ""}, "first_name"),
    ({"first_name": "<clear>"}, "first_name"),
    ({"type": "passport"}, "type"),
    ({"bank_code": ""}, "bank_code"),
    ({"bank_code": "Access Bank"}, "bank_code"),
    ({"bank_code": "'058"}, "bank_code"),
]


def test_identity_cells(tmp_path):
    rows = [identity(customer_code=f"CUS_{n}", **change) for n, (change, _) in enumerate(IDENTITIES, 2)]
    found = reasons(tmp_path, "validate", frame(identity(), *rows))
    assert [(IDENTITIES[row - 2][0], column) for row, column, _ in found] == IDENTITIES


# Numbers of another length. What is said of all rows with the same comes together.
LENGTHS = [
    {"bvn": "222222222221"},  # the only one for a test key
    {"bvn": "2222222222"},
    {"account_number": "012345678"},
    {"account_number": "1234", "country": "GH"},
    {"account_number": "1234"},
    {"bank_code": "58"},
]
UNUSUAL = [
    "'account_number' has not the usual 10 digits of Nigeria in row 4.",
    "'account_number' has not the usual 5 to 20 digits in row 5, row 6.",
    "'bank_code' has not the usual 3 digits of Nigeria in row 7.",
    "'bvn' has not the usual 11 digits in row 2, row 3.",
]


def test_how_many_digits_a_number_has_is_for_paystack_to_judge(tmp_path):
    rows = [identity(customer_code=f"CUS_{n}", **change) for n, change in enumerate(LENGTHS, 2)]
    made = plan(tmp_path, "validate", frame(identity(), *rows))
    assert made.header.counts.to_send == 1 + len(rows)
    warnings = sorted(text for text in made.header.warnings if "usual" in text)
    judged = " Such numbers are sent unchanged: Paystack decides about them."
    assert warnings == [said + judged for said in UNUSUAL]


def test_a_good_identity_row(tmp_path):
    (row,) = plan(tmp_path, "validate", frame(identity(country="gh", account_number="123456789012"))).rows()
    assert row.new == {
        "first_name": "Ada",
        "last_name": "Obi",
        "type": "bank_account",
        "country": "GH",
        "bank_code": "058",
    }
    assert list(row.secrets) == ["account_number", "bvn"]


def test_damaged_numbers_are_reported_and_not_repaired(tmp_path):
    source = pd.DataFrame(
        {"customer_code": ["CUS_1", "CUS_2"], "phone": [2348012345678.0, 23480123456789012345.0]}
    )
    found = reasons(tmp_path, "update", source)
    assert [(row, column) for row, column, _ in found] == [(2, "phone")] * len(found)
    assert "digits are lost" in found[0][2]


@pytest.mark.parametrize(
    ("operation", "good", "columns"),
    [
        ("update", {"phone": ""}, ["phone"]),
        ("validate", identity(), ["bank_code", "account_number", "bvn"]),
    ],
)
def test_numbers_that_pandas_wrote_with_a_point_are_refused(tmp_path, operation, good, columns):
    """`read_csv` makes floats of numbers as soon as one is missing, `to_csv` writes them with `.0`."""
    rows = [good] + [good | {column: 8030000001.0} for column in columns]
    source = tmp_path / "in.csv"
    pd.DataFrame([row | {"customer_code": f"CUS_{n}"} for n, row in enumerate(rows)]).to_csv(
        source, index=False
    )
    found = reasons(tmp_path, operation, source)
    assert [name for _, name, _ in found] == columns
    assert all("read the column as text" in reason for _, _, reason in found)


def test_a_key_that_stands_twice_in_metadata_is_refused(tmp_path):
    texts = ['{"a": 1, "a": 2}', '{"b": [{"a": 1, "a": 1}]}']
    rows = [{"customer_code": f"CUS_{n}", "metadata": text} for n, text in enumerate(texts)]
    said = ("metadata", "has a key twice; leave one of them")
    assert reasons(tmp_path, "update", rows) == [(1, *said), (2, *said)]


def test_no_phone_with_a_decimal_point_is_sent(tmp_path):
    numbers = [plus + "234803456789012"[:digits] for digits in range(7, 16) for plus in ("", "+")]
    good = [{"customer_code": f"CUS_{n}", "phone": number} for n, number in enumerate(numbers)]
    bad = [{"customer_code": f"CUS_{n}x", "phone": number + zeros} for n, number in enumerate(numbers)
           for zeros in (".0", ".00")]  # fmt: skip
    refused = [(row, name) for row, name, _ in reasons(tmp_path, "update", frame(*good, *bad))]
    assert refused == [(len(good) + n, "phone") for n in range(1, len(bad) + 1)]
    assert [row.new for row in plan(tmp_path, "update", frame(*good)).rows()] == [
        {"phone": number} for number in numbers
    ]


def test_points_between_groups_are_a_spelling(tmp_path):
    source = frame(
        *({"customer_code": f"CUS_{n}", "phone": p} for n, p in enumerate(("0803.555.0000", "803.000")))
    )
    assert plan(tmp_path, "update", source).header.counts.to_send == 2


def test_damaged_numbers_elsewhere_do_not_matter(tmp_path):
    source = pd.DataFrame({"customer_code": ["CUS_1"], "first_name": ["Ada"], "other": np.array([1e300])})
    assert plan(tmp_path, "update", source).header.counts.to_send == 1


def test_numeric_phones_and_placeholder_words_are_warned_of(tmp_path):
    source = pd.DataFrame({"customer_code": ["CUS_1"], "phone": [8031234567], "first_name": ["NULL"]})
    warnings = " ".join(plan(tmp_path, "update", source).header.warnings)
    assert "zeros at the start" in warnings
    assert "NULL, nan" in warnings


@pytest.mark.parametrize("number", [8031234567, np.int64(8031234567), 8031234567.0])
def test_numbers_in_a_list_of_dictionaries_are_warned_of_as_in_a_frame(tmp_path, number):
    made = plan(tmp_path, "update", [{"customer_code": "CUS_1", "phone": number}])
    assert any("zeros at the start" in text for text in made.header.warnings)


def test_what_is_wrong_is_shown_without_the_characters_that_turn_text(tmp_path):
    error = problems(
        tmp_path, "update", frame({"customer_code": "CUS_1", "first_name": "\u202eadA\u200e\u2066"})
    )
    assert not {"\u202e", "\u200e", "\u2066"} & set(str(error))
    assert not {"\u202e", "\u200e", "\u2066"} & set(error.problems[0].value)


def test_what_shows_nothing_is_blank(tmp_path):
    values = ["\u200b", " \ufeff ", "\u2060\u200d", "\u202e", "\u3164", "\u2800\ufe0f"]
    rows = [
        {"customer_code": f"CUS_{n}", "first_name": value, "last_name": "Obi"}
        for n, value in enumerate(values)
    ]
    made = plan(tmp_path, "update", frame(*rows)).rows()
    assert [value for value, row in zip(values, made, strict=True) if row.new != {"last_name": "Obi"}] == []


@pytest.mark.parametrize(
    "words",
    [
        ["\\N", "<NA>", "NaT", "(null)", "NULL"],
        ["#REF!", "None None", "TRUE"],
        ["NA", "(blank)", "n.a", "Unknown", "Not available"],
    ],
    ids=["five", "three", "of R and pivot tables"],
)
def test_words_that_stand_for_nothing_are_warned_of_by_line(tmp_path, words):
    path = tmp_path / "in.csv"
    lines = [f"CUS_{n},{word}" for n, word in enumerate(["Ada", *words])]
    path.write_text("\n".join(["customer_code,first_name", *lines, ""]))
    (said,) = [text for text in plan(tmp_path, "update", path).header.warnings if "hold a word" in text]
    assert [word for n, word in enumerate(words, 3) if f"line {n}" not in said] == []
    assert said.startswith(f"{len(words)} cells")


DAMAGED = [
    ("#NV", "an error of a spreadsheet"),
    ("#SPILL!", "an error of a spreadsheet"),
    ("########", "an error of a spreadsheet"),
    ("Err:502", "an error of a spreadsheet"),
    ('"=CONCATENATE(A2;B2)"', "a formula"),
    ("JosÃ©", "JosÃ©"),
    ("Folák__", "JosÃ©"),
    ("Chloâ€™s", "JosÃ©"),
    ("O&#39;Brien", "&amp;"),
    (' ""Ada""', "quotes around"),
    ("45359", "no letter"),
    ("?", "no letter"),
    ("Jos√©", "hardly has"),
    ("Josï¿½", "hardly has"),
    ("1 de janeiro de 2024", "hardly has"),
    ("Adé-Ọlá O’Neil (Mrs.)", ""),  # noqa: RUF001
    ("São", ""),
    ("Ñandú", ""),
    ("李", ""),
]
ESCAPED = [
    ("Jos%C3%A9", "JosÃ©"),
    ("Jos\\u00e9", "JosÃ©"),
    ("Ada+Obi", "JosÃ©"),
    ("['Ada']", "JosÃ©"),
    ("ada@x.ng", "JosÃ©"),
    ("«Ada»", "quotes around"),
    ("b'Ada'", "quotes around"),
    ("‘Ada’", "quotes around"),  # noqa: RUF001
    ("Fatima'u", ""),
]


def test_letters_that_a_program_could_not_save_are_refused(tmp_path):
    """Excel's plain CSV is Windows-1252: it has no ọ, ẹ and ṣ, and gets a question mark for each of them."""
    names = ["Folák??", "K?hìndé", "?gozi", "????"]
    source = frame(*({"email": f"ada{n}@x.ng", "first_name": name} for n, name in enumerate(names)))
    found = reasons(tmp_path, "create", source)
    assert [(row, column) for row, column, _ in found] == [(n, "first_name") for n in range(1, 5)]
    assert all("CSV UTF-8" in reason for _, _, reason in found)
    known = [customer(n, first_name=name) for n, name in enumerate(names)]
    asked = [
        {"customer_code": c["customer_code"], "first_name": c["first_name"], "last_name": "Obi"}
        for c in known
    ]
    rows = plan(tmp_path, "update", frame(*asked), copy=copy_of(*known)).rows()
    assert [row.new for row in rows] == [{"last_name": "Obi"}] * 4


def test_a_frame_of_a_result_file_may_have_its_apostrophes_still(tmp_path):
    """pandas and polars read them as a part of the text, unlike us."""
    source = frame({"customer_code": "CUS_1", "first_name": "'-Obi", "last_name": "'t Hooft"})
    (said,) = [text for text in plan(tmp_path, "update", source).header.warnings if "as text" in text]
    assert said.startswith("1 cell holds a formula")
    ((_, _, reason),) = reasons(
        tmp_path / "phone", "update", frame({"customer_code": "CUS_1", "phone": "'+234801"})
    )
    assert reason == "begins with an apostrophe, as spreadsheets mark a text; remove it"


@pytest.mark.parametrize("damaged", [DAMAGED, ESCAPED], ids=["damaged", "escaped"])
def test_what_looks_damaged_is_warned_of_by_line(tmp_path, damaged):
    path = tmp_path / "in.csv"
    lines = [f"CUS_{n},{value}" for n, (value, _) in enumerate(damaged)]
    path.write_text("\n".join(["customer_code,first_name", *lines, ""]))
    warnings = plan(tmp_path, "update", path).header.warnings
    odd = [text for text in warnings if "cell holds" in text or "cells hold" in text]
    for n, (value, said) in enumerate(damaged, 2):
        named = [text for text in odd if re.search(rf"line {n}\b", text)]
        assert [said in text for text in named] == [True] * bool(said), value


def test_odd_emails_of_new_customers_are_warned_of(tmp_path):
    emails = ["josÃ©@x.ng", "jos?@x.ng", "jos%40@x.ng", "=ada@x.ng", "o'neil/x=1@shop-2.ng"]
    source = frame(*({"email": email} for email in emails))
    (said,) = [t for t in plan(tmp_path, "create", source).header.warnings if "as text" in t]
    assert said.startswith("4 cells hold an email")
    assert "row 5" not in said
    known = customer(1, email="josÃ©@x.ng")
    made = plan(tmp_path, "create", frame({"email": known["email"]}), copy=copy_of(known))
    assert [text for text in made.header.warnings if "as text" in text] == []


@pytest.mark.parametrize("name", ["8-mars", "févr.-24", "25 décembre", "June 2024", "5 August", "juil-24"])
def test_a_date_of_english_or_french_excel_is_no_name(tmp_path, name):
    ((_, column, reason),) = reasons(tmp_path, "create", frame({"email": "a@x.ng", "first_name": name}))
    assert (column, "is a date" in reason) == ("first_name", True)


NO_TEXTS = [
    dt.date(2024, 3, 8),
    dt.datetime(2024, 3, 8, 9, tzinfo=dt.UTC),
    True,
    np.bool_(1),
    dt.time(9),
    ["Ada"],
    {"name": "Ada"},
    pd.Period("2024-03"),
    pd.Interval(0, 1),
]


@pytest.mark.parametrize("value", NO_TEXTS)
def test_a_date_a_boolean_or_a_list_is_no_phone_and_no_name(tmp_path, value):
    row = {"customer_code": "CUS_1", "phone": value, "first_name": value}
    source = pd.DataFrame({name: [cell] for name, cell in row.items()})
    assert {name for _, name, _ in reasons(tmp_path, "update", source)} == {"phone", "first_name"}


def test_nor_is_one_in_a_list_of_dictionaries(tmp_path):
    rows = [
        {"customer_code": f"CUS_{n}", "phone": value, "first_name": value} for n, value in enumerate(NO_TEXTS)
    ]
    found = {(row, name) for row, name, _ in reasons(tmp_path, "update", rows)}
    assert found == {(n, name) for n in range(1, len(rows) + 1) for name in ("phone", "first_name")}


def test_an_error_of_a_spreadsheet_is_said_once_and_by_line(tmp_path):
    rows = [["email", "first_name", "phone"], ["ada@x.ng", "Ada", FAILED], [FAILED, "Obi"]]
    found = problems(tmp_path, "create", xlsx(tmp_path / "in.xlsx", {"S": rows})).problems
    assert [(p.line, p.column, "such as #N/A" in p.reason) for p in found] == [
        (2, "phone", True),
        (3, "email", True),
    ]


def test_the_plan_says_how_many_rows_are_hidden(tmp_path):
    rows = [["customer_code", "risk_action"], *([f"CUS_{n}", "deny"] for n in range(5))]
    made = plan(tmp_path, "risk-action", xlsx(tmp_path / "in.xlsx", {"S": rows}, hidden_rows=(3, 4, 6)))
    assert made.header.counts.to_send == 5
    assert any("3 of 5 rows are hidden" in text for text in made.header.warnings)


# -- headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Customer Code", " CUSTOMER-CODE ", "customerCode", "code"])
def test_headers_in_any_spelling(tmp_path, name):
    made = plan(tmp_path, "risk-action", frame({name: "CUS_1", "ACTION": "Deny"}))
    (row,) = made.rows()
    assert (row.key, row.new) == ("CUS_1", {"risk_action": "deny"})
    assert made.header.input.mapping == {"customer_code": name, "risk_action": "ACTION"}


@pytest.mark.parametrize("name", ["Customer", "customer_code", "email", "id"])
def test_one_column_may_hold_codes_emails_and_ids(tmp_path, name):
    copy = copy_of(*(customer(number) for number in range(1, 5)))
    cells = ["CUS_0001", "Person2@shop.ng", "3", "", "person4@shop.ng "]
    source = frame(*({name: cell, "risk_action": "deny"} for cell in cells if cell))
    made = plan(tmp_path, "risk-action", source, copy=copy)
    assert [row.customer_code for row in made.rows()] == [f"CUS_000{n}" for n in (1, 2, 3, 4)]
    assert made.header.counts.to_send == 4


def test_two_spellings_of_one_customer_in_a_mixed_column_are_one(tmp_path):
    copy = copy_of(customer(1), customer(2))
    cells = (("CUS_0001", "deny"), ("person1@shop.ng", "deny"), ("person2@shop.ng", "deny"), ("2", "allow"))
    found = reasons(
        tmp_path,
        "risk-action",
        frame(*({"Customer": cell, "risk_action": action} for cell, action in cells)),
        copy=copy,
    )
    assert [row for row, _, _ in found] == [4]


def test_a_cell_of_a_mixed_column_that_looks_like_nothing_is_named_by_the_columns_name(tmp_path):
    cells = ("cus_1", "ada@", "CUS_-", "", "Ada Obi", "0803123456")
    source = frame(*({"Customer": cell, "risk_action": "deny", "note": "x"} for cell in cells))
    found = problems(tmp_path, "risk-action", source).problems
    assert [(p.row, p.column) for p in found] == [(n, "Customer" if n != 4 else "") for n in range(1, 7)]
    neither = "is neither a customer code (CUS_…), an email address nor a customer id"
    assert [found[n].reason for n in (0, 4)] == [neither, neither]
    assert "is not an email" in found[1].reason
    assert "is not a customer code" in found[2].reason
    assert "is not a customer id" in found[5].reason  # a phone, whose digits may be another customer's id


def test_with_two_columns_for_the_customer_each_holds_what_it_is_called(tmp_path):
    source = frame({"customer_code": "ada@x.ng", "email": "ada@x.ng", "risk_action": "deny"})
    assert [column for _, column, _ in reasons(tmp_path, "risk-action", source)] == ["customer_code"]


def test_a_near_miss_is_suggested(tmp_path):
    error = problems(tmp_path, "risk-action", frame({"custmer_code": "CUS_1", "risk_acton": "deny"}))
    assert "Column 'risk_acton' is not used; did you mean risk_action?" in error.advice
    error = problems(tmp_path, "risk-action", frame({"custmer_code": "CUS_1", "risk_action": "deny"}))
    assert "Column 'custmer_code' is not used; did you mean customer_code?" in error.advice
    made = plan(
        tmp_path, "update", frame({"customer_code": "CUS_1", "first_name": "A", "phnoe": "1", "shop": "x"})
    )
    assert any("'phnoe'" in text and "phone" in text for text in made.header.warnings)
    assert made.header.input.ignored == ["phnoe", "shop"]


@pytest.mark.parametrize("first", ["CUS_abc123", "ada@shop.ng", "+2348012345678", "AUTH_x1"])
def test_a_file_without_a_header_is_recognised_and_not_quoted(tmp_path, first):
    path = tmp_path / "in.csv"
    path.write_text(f"{first},deny\n{first},deny\n")
    error = problems(tmp_path, "risk-action", path)
    assert "must name the columns" in str(error)
    assert first not in str(error)


def test_an_odd_name_beside_the_known_columns_is_left_alone(tmp_path):
    names = ["20240301", "Contact (e.g. name@company.com)", "+2348012345678"]
    path = tmp_path / "in.csv"
    path.write_text(f"email,first_name,{','.join(names)}\nada@x.ng,Ada,5,6,7\n")
    made = plan(tmp_path, "create", path)
    assert made.header.input.ignored == names
    assert [row.new for row in made.rows()] == [{"first_name": "Ada"}]


def test_double_headers_are_refused(tmp_path):
    for names in (
        ["email", "E mail", "risk_action"],
        ["email", "note", "note", "risk_action"],
        ["phone", "mobile", "tel", "email"],
    ):
        path = tmp_path / "in.csv"
        path.write_text(",".join(names) + "\n")
        if "tel" in names:
            assert (
                plan(tmp_path, "update", path).header.input.mapping["phone"] == "phone"
            )  # the exact name wins
            path.write_text("mobile,tel,email\n")
            assert "may both be phone" in str(
                problems(tmp_path, "update", path) if not (tmp_path / "it.plan").unlink() else ""
            )
        else:
            assert "more than once" in (said := str(problems(tmp_path, "risk-action", path)))
            assert "did you mean" not in said


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("risk-action", {"risk_action": "deny"}, "customer_code, email or id is missing"),
        ("risk-action", {"email": "a@b.ng"}, "risk_action is missing"),
        ("risk-action", {"Blacklist": "a@b.ng"}, "customer_code, email or id is missing"),
        ("update", {"customer_code": "CUS_1", "shop": "x"}, "nothing to set"),
        ("create", {"first_name": "A"}, "email is missing"),
        ("validate", {"email": "a@b.ng", "first_name": "A"}, "bvn is missing"),
        ("deactivate-authorization", {"email": "a@b.ng"}, "authorization_code is missing"),
    ],
)
def test_missing_columns(tmp_path, name, row, said):
    assert said in str(problems(tmp_path, name, frame(row)))


# -- options -------------------------------------------------------------------------------------------------


def test_risk_action_from_the_option_fills_blanks_only(tmp_path):
    made = plan(tmp_path, "risk-action", frame({"customer_code": "CUS_1"}), risk_action="Allow")
    assert [row.new for row in made.rows()] == [{"risk_action": "allow"}]
    source = frame({"customer_code": "CUS_1", "action": ""}, {"customer_code": "CUS_2", "action": "ALLOW"})
    made = plan(tmp_path, "risk-action", source, risk_action="allow")
    assert [row.new["risk_action"] for row in made.rows()] == ["allow", "allow"]


def test_a_risk_action_that_contradicts_the_option_is_refused(tmp_path):
    source = frame(
        {"customer_code": "CUS_1", "action": "allow"}, {"customer_code": "CUS_2", "action": "deny"}
    )
    ((row, column, reason),) = reasons(tmp_path, "risk-action", source, risk_action="allow")
    assert (row, column) == (2, "action")
    assert "leave the column or the option out" in reason


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("update", {"risk_action": "deny"}),
        ("risk-action", {"risk_action": "block"}),
        ("risk-action", {"only_missing": True}),
        ("risk-action", {"quota_share": 0}),
        ("risk-action", {"metadata": "mix"}),
        ("risk", {}),
    ],
)
def test_options_that_cannot_be(tmp_path, name, options):
    source = frame({"customer_code": "CUS_1", "risk_action": "deny", "first_name": "A"})
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, name, source, **options)
    assert caught.value.exit_code == 2


def test_underscores_name_an_operation_too():
    assert operation("risk_action") is BULK_OPERATIONS["risk-action"]


def test_an_undo_takes_values_as_paystack_held_them(tmp_path):
    """Paystack checks neither names nor phones, so what was there may be what we would refuse."""
    held = {"customer_code": "CUS_1", "first_name": " Ada\t", "phone": "call me"}
    (row,) = plan(tmp_path, "update", frame(held), undo_of="an earlier run").rows()
    assert row.new == {"first_name": " Ada\t", "phone": "call me"}
    assert len(reasons(tmp_path / "other", "update", frame(held))) == 1  # a tab at the end is trimmed away


def test_cells_and_customers_are_checked_in_one_go(tmp_path):
    """A bad cell in one row does not hide that another row names two customers."""
    copy = copy_of(customer(1), customer(2))
    source = frame(
        {"customer_code": "nonsense", "email": "", "risk_action": "deny"},
        {"customer_code": "CUS_0001", "email": "person2@shop.ng", "risk_action": "deny"},
        {"customer_code": "CUS_0002", "email": "", "risk_action": "deny"},
        {"customer_code": "", "email": "PERSON2@shop.ng", "risk_action": "allow"},
    )
    found = reasons(tmp_path, "risk-action", source, copy=copy)
    assert [row for row, _, _ in found] == [1, 2, 4]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("risk-action", {"customer_code": "CUS_1\u200b", "risk_action": "deny"}),
        ("risk-action", {"customer_code": "CUS_1", "risk_action": "\ufeffdeny"}),
        ("update", {"customer_code": "CUS_1", "phone": "\u202a+2348030000001\u202c"}),
        ("deactivate-authorization", {"authorization_code": "AUTH_a1\u2060"}),
    ],
)
def test_an_invisible_character_is_said_to_be_one(tmp_path, name, row):
    ((_, _, reason),) = reasons(tmp_path, name, frame(row))
    assert "invisible character" in reason
