"""Identity checks: they write, once and for good; Paystack judges the digits; a repeat is nothing to do."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from paystack_source import AlreadyValidated
from paystack_source.cli.terminal import run

from .conftest import load_script, sit_down

NUMBERS = {"country": "NG", "bank_code": "007", "account_number": "0111111111", "bvn": "222222222221"}


def checks(desk, number, *, name="checks.csv", **changes):
    rows = [
        {"customer_code": customer["customer_code"], "first_name": "Uchenna", "last_name": "Okoro"}
        | NUMBERS
        | {"account_number": f"01111111{n:02}"}
        | changes
        for n, customer in enumerate(desk.customers(number))
    ]
    return desk.csv(name, rows)


def validated(desk, number=1, **changes):
    """The first customers, validated; gives their codes."""
    desk.api.configure(verdict_delay=0)
    said = desk.bulk("run", "validate", checks(desk, number, name="before.csv", **changes), "--yes")
    assert (said.code, said.json["accepted_pending"]) == (0, number), said.err
    return [customer["customer_code"] for customer in desk.customers(number)]


# -- validated before ----------------------------------------------------------------------------------------


def test_who_is_validated_already_is_nothing_to_do_and_stops_no_run(desk):
    validated(desk, 8)
    path = checks(desk, 10)
    said = desk.bulk("run", "validate", path, "--yes", "--canary", "3", "--max-equal-rejections", "4")
    assert (said.code, said.json["status"]) == (0, "complete")
    assert (said.json["skipped_noop"], said.json["accepted_pending"]) == (8, 2)
    assert not any(said.json[word] for word in ("applied", "rejected", "unknown", "unsent"))
    lines = desk.results(said)
    assert {line["_code"] for line in lines[:8]} == {"already_validated"}
    assert "already validated" in lines[0]["_message"]
    assert "failed.csv" not in said.err
    assert desk.bulk("status", "latest", "--verify").code == 0


def test_the_canary_is_judged_by_rows_that_paystack_looked_at(desk):
    validated(desk, 10)
    rows = desk.results(desk.bulk("status", "latest"))
    assert len(rows) == 10
    path = checks(desk, 20)
    path.write_text(
        "\n".join(
            line if n <= 10 else line.replace("222222222221", "1")
            for n, line in enumerate(path.read_text().splitlines())
        )
    )
    said = desk.bulk("run", "validate", path, "--yes", "--canary", "4")
    assert (said.json["skipped_noop"], said.json["rejected"], said.json["unsent"]) == (10, 4, 6)
    assert "4 of the first 4 rows failed" in said.json["stopped"]


@pytest.mark.parametrize("name", ["Uchenna", "Already", "Validated", "Same", "Credentials"])
def test_it_is_known_whatever_the_customer_is_called(desk, name):
    desk.api.configure(verdict_delay=0)
    code = desk.customers(1)[0]["customer_code"]
    with desk.client() as client:
        assert client.validate(code, first_name=name, last_name=name, **NUMBERS).status == 202
        with pytest.raises(AlreadyValidated):
            client.validate(code, first_name=name, last_name=name, **NUMBERS)


# -- a write that locks the names ----------------------------------------------------------------------------


def renames(desk, codes, **fields):
    return desk.csv("names.csv", [{"customer_code": code, **fields} for code in codes])


def test_the_plan_of_a_check_says_that_it_overwrites_the_names(desk):
    said = desk.bulk("plan", "validate", checks(desk, 1))
    assert "It cannot be undone. If the check succeeds, Paystack overwrites first and last name" in said.err
    assert "overwrites first and last name" in Path(said.json["review_file"]).read_text()


def test_an_update_of_locked_names_is_warned_of(desk, sandbox, monkeypatch):
    desk.api = sandbox(customers=6)
    sit_down(desk.folder, desk.api, monkeypatch)
    codes = validated(desk, 2)
    assert desk.bulk("status", "latest", "--refresh").json["applied"] == 2
    others = [customer["customer_code"] for customer in desk.customers(4)[2:]]
    assert run(load_script("customers").main, ["--details", "--quiet"]) == 0
    path = renames(desk, codes + others, first_name="Adaobi")
    for refresh in ("live", "never"):  # by the customer, and by the details in the copy
        said = desk.bulk("plan", "update", path, "--refresh", refresh, copy=refresh == "never")
        assert "2 rows change the name of a customer who passed an identity check." in said.err
        assert said.err.count("names are locked: the customer passed an identity check") == 2
        page = Path(said.json["review_file"]).read_text()
        assert "2 rows change the name" in page
        assert page.count("names are locked") == 2
    phones = renames(desk, codes, phone="08031112222")
    assert "identity check" not in desk.bulk("plan", "update", phones, "--refresh", "live").err


@pytest.mark.parametrize("lost", [False, True])
def test_a_name_that_paystack_kept_is_not_applied_and_the_rest_is(desk, lost):
    codes = validated(desk, 2)
    before = [desk.truth(code)["phone"] for code in codes]
    path = renames(desk, codes, first_name="UCHENNA", last_name="Okoro", phone="08039998877")
    if lost:
        desk.api.configure(faults="reset_after@writes#1")
    said = desk.bulk("run", "update", path, "--yes", "--refresh", "live")
    assert (said.code, said.json["rejected"], said.json["unknown"], said.json["applied"]) == (3, 2, 0, 0)
    for line in desk.results(said):
        assert line["_code"] == "names_locked"
        assert line["_message"].endswith("the rest was set: phone")
    assert "bulk.py run" not in said.err  # there is nothing to correct
    assert {desk.truth(code)["first_name"] for code in codes} == {"Uchenna"}
    assert {desk.truth(code)["phone"] for code in codes} == {"08039998877"}
    undone = desk.bulk("undo", said.json["run_id"], "--yes")
    assert (undone.code, undone.json["applied"]) == (0, 2)
    assert [desk.truth(code)["phone"] for code in codes] == before


def test_an_undo_of_names_that_were_locked_since_says_so(desk):
    codes = [customer["customer_code"] for customer in desk.customers(2)]
    renamed = desk.bulk(
        "run",
        "update",
        renames(desk, codes, first_name="Uchenna", last_name="Okoro"),
        "--yes",
        "--refresh",
        "live",
    )
    assert renamed.json["applied"] == 2
    validated(desk, 2)
    said = desk.bulk("undo", renamed.json["run_id"], "--yes")
    assert "2 rows change the name of a customer who passed an identity check." in said.err
    assert (said.code, said.json["rejected"], said.json["applied"]) == (3, 2, 0)
    assert "Next" not in said.err  # the same undo would end the same
    desk.api.configure(validated_names="refused")
    assert desk.bulk("undo", renamed.json["run_id"], "--yes").json["rejected"] == 2


def test_the_copy_keeps_the_names_that_paystack_kept(copied):
    desk = copied
    (code,) = validated(desk)
    said = desk.bulk(
        "run", "update", renames(desk, [code], first_name="Adaobi", phone="0803999"), "--yes", copy=True
    )
    assert said.json["rejected"] == 1
    with duckdb.connect("paystack_customers.duckdb", read_only=True) as connection:
        held = connection.execute(
            "select first_name, phone from paystack.customers where customer_code = ?", [code]
        ).fetchone()
    assert held == ("Uchenna", "0803999")
