"""Identity checks: they write, once and for good; Paystack judges the digits; a repeat is nothing to do."""

from __future__ import annotations

import pytest

from paystack_source import AlreadyValidated

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
    validated(desk, 40)
    path = checks(desk, 43)
    said = desk.bulk("run", "validate", path, "--yes", "--canary", "3", "--max-equal-rejections", "5")
    assert (said.code, said.json["status"]) == (0, "complete")
    assert (said.json["skipped_noop"], said.json["accepted_pending"]) == (40, 3)
    assert not any(said.json[word] for word in ("applied", "rejected", "unknown", "unsent"))
    lines = desk.results(said)
    assert {line["_code"] for line in lines[:40]} == {"already_validated"}
    assert "already validated" in lines[0]["_message"]
    assert "failed.csv" not in said.err
    assert desk.bulk("status", "latest", "--verify").code == 0


def test_the_canary_is_judged_by_rows_that_paystack_looked_at(desk):
    validated(desk, 10)
    rows = desk.results(desk.bulk("status", "latest"))
    assert len(rows) == 10
    path = checks(desk, 30)
    path.write_text(
        "\n".join(
            line if n <= 10 else line.replace("222222222221", "1")
            for n, line in enumerate(path.read_text().splitlines())
        )
    )
    said = desk.bulk("run", "validate", path, "--yes", "--canary", "4")
    assert (said.json["skipped_noop"], said.json["rejected"], said.json["unsent"]) == (10, 4, 16)
    assert "4 of the first 4 rows failed" in said.json["stopped"]


@pytest.mark.parametrize("name", ["Uchenna", "Already", "Validated", "Same", "Credentials"])
def test_it_is_known_whatever_the_customer_is_called(desk, name):
    (code,) = validated(desk, first_name=name, last_name=name)
    check = {"first_name": name, "last_name": name, **NUMBERS, "account_number": "0111111100"}
    with desk.client() as client, pytest.raises(AlreadyValidated):
        client.validate(code, **check)
