"""A plan is whole, private, and nobody's secrets are in it."""

import os
import re
import stat

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paystack_source.bulk.input.files import write_table
from paystack_source.bulk.plan.plan import (
    _COST,
    PLAN_FORMAT,
    ROW_SCHEMA,
    Plan,
    digest_fits,
    digest_of,
    write_plan,
)
from paystack_source.bulk.plan.review import write_review
from paystack_source.errors import ConfigError, EditedPlan, StalePlan
from tests.canary import search
from tests.quick_dlt import SCRYPT

from .world import copy_of, customer, frame, plan


def small(folder):
    source = frame(
        {"customer_code": "CUS_0001", "first_name": "Ada"},
        {"customer_code": "CUS_0002", "phone": "+2348012345678"},
    )
    return plan(folder, "update", source, copy=copy_of(customer(1), customer(2)))


def test_a_plan_opens_again_as_it_was(tmp_path):
    made = small(tmp_path)
    again = Plan.open(str(made.path))
    assert again.header == made.header
    assert list(again.rows()) == list(made.rows())
    assert re.fullmatch("[0-9a-f]{64}", again.header.seal)


def test_only_the_owner_may_read_it_and_nothing_else_is_left(tmp_path):
    made = small(tmp_path)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["it.plan"]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    return small(tmp_path_factory.mktemp("sealed")).path.read_bytes()


@settings(max_examples=100)
@given(data=st.data())
def test_any_changed_byte_is_refused(tmp_path_factory, sealed, data):
    at = data.draw(st.integers(0, len(sealed) - 1))
    bit = data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("edited") / "it.plan"
    path.write_bytes(sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :])
    with pytest.raises(EditedPlan):
        Plan.open(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda b: b[:-1],
        lambda b: b + b"\0",
        lambda b: b[: len(b) // 2],
        lambda b: b"",
        lambda b: b"PAR1",
        lambda b: b.replace(b"CUS_0001", b"CUS_0002"),
        lambda b: b.replace(b'"test"', b'"live"'),
        lambda b: b + b,
    ],
)
def test_any_other_edit_is_refused(tmp_path, sealed, edit):
    assert b'"test"' in sealed
    path = tmp_path / "it.plan"
    path.write_bytes(edit(sealed))
    if path.read_bytes() != sealed:
        with pytest.raises(EditedPlan):
            Plan.open(path)


def test_a_plan_that_was_opened_is_no_other_whatever_becomes_of_its_file(tmp_path):
    opened = Plan.open(small(tmp_path).path)
    held = list(opened.rows())
    opened.path.write_bytes(b"edited in place")
    assert list(opened.rows()) == held
    opened.path.unlink()
    opened.snapshot.save(tmp_path / "saved.plan")
    assert Plan.open(tmp_path / "saved.plan").header == opened.header


def test_a_file_name_cannot_forge_the_place_of_the_seal(tmp_path):
    path = tmp_path / "\x1eplan-seal\x1f.csv"
    write_table(path, ["customer_code", "risk_action"], [["CUS_1", "deny"]])
    made = plan(tmp_path, "risk-action", path)
    assert Plan.open(made.path).header.input.path.endswith("\x1eplan-seal\x1f.csv")


def test_other_files_are_no_plans(tmp_path):
    for name, content in (("a.plan", b"hello"), ("b.plan", os.urandom(5_000))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EditedPlan, match=name):
            Plan.open(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Plan.open(tmp_path / "missing.plan")
    with pytest.raises((EditedPlan, OSError)):
        Plan.open(tmp_path)


def test_a_plan_is_no_input(tmp_path):
    """It is Parquet with customer codes: the rows that it leaves out would be sent as well."""
    path = small(tmp_path).path
    with pytest.raises(ConfigError, match="is a plan, not an input"):
        plan(tmp_path / "of it", "risk-action", path, risk_action="deny")


def test_another_format_is_stale_not_edited(tmp_path, monkeypatch):
    made = small(tmp_path)
    monkeypatch.setattr("paystack_source.bulk.plan.plan.PLAN_FORMAT", PLAN_FORMAT + 1)
    with pytest.raises(StalePlan, match=f"format {PLAN_FORMAT}"):
        Plan.open(made.path)


def test_a_run_of_the_former_format_can_still_be_read(tmp_path):
    row = {"customer_code": "CUS_0001", "first_name": "Ada"}
    made = plan(tmp_path, "update", frame(row, row))
    rows = pq.read_table(made.path).to_pylist()
    for one in rows:
        one["verdict"] = one["verdict"].replace("duplicate", "folded")
    with (tmp_path / "old.plan").open("w+b") as file:
        old = [pa.RecordBatch.from_pylist(rows, schema=ROW_SCHEMA)]
        write_plan(file, old, lambda: msgspec.structs.replace(made.header, format=1))
    assert list(Plan.open(tmp_path / "old.plan").rows()) == list(made.rows())
    assert [one["verdict"] for one in rows] == ["send", "folded"]


def test_a_failed_planning_leaves_the_last_plan_alone(tmp_path):
    made = small(tmp_path)
    before = made.path.read_bytes()
    with pytest.raises(Exception, match="is neither a customer code"):
        plan(tmp_path, "update", frame({"customer_code": "x", "first_name": "A"}))
    assert made.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["it.plan"]


# -- secrets -------------------------------------------------------------------------------------------------

SECRETS = ("22233344455", "0987612345", "AUTH_canary77", "ID-CANARY-1")


@pytest.mark.parametrize("personal", [False, True])
def test_no_secret_rests_in_plan_or_page(tmp_path, personal):
    source = tmp_path / "in.csv"
    row = ["ada@canary.ng", "Ada", "Obi", "NG", "058", "0987612345", "22233344455", "ID-CANARY-1"]
    names = ["email", "first_name", "last_name", "country", "bank_code", "account_number", "bvn", "value"]
    write_table(source, names, [row])
    codes = tmp_path / "codes.csv"
    write_table(codes, ["authorization_code", "email"], [["AUTH_canary77", "ada@canary.ng"]])
    for operation, path in (("validate", source), ("deactivate-authorization", codes)):
        folder = tmp_path / operation
        made = plan(folder, operation, path)
        write_review(made, folder / "review.html", show_personal=personal)
        (planned,) = made.rows()
        assert planned.secrets
    found = search(tmp_path, SECRETS, except_for=[source, codes])
    assert found == []
    # The search does find what is there.
    assert search(tmp_path, SECRETS[:1]) == [f"in.csv: {SECRETS[0]}"]
    assert (
        bool(search(tmp_path / "validate", ["Ada"], except_for=[tmp_path / "validate/it.plan"])) is personal
    )


def test_the_hash_of_an_input_with_secrets_cannot_be_guessed_fast(tmp_path, monkeypatch):
    assert SCRYPT["n"] * SCRYPT["r"] * 128 >= 2**24  # bytes of memory for each guess
    for name, cost in SCRYPT.items():
        monkeypatch.setitem(_COST, name, cost)
    path = tmp_path / "codes.csv"
    write_table(path, ["authorization_code"], [["AUTH_canary77"]])
    made = plan(tmp_path, "deactivate-authorization", path)
    assert made.header.input.digest.startswith("scrypt:")
    plain = digest_of("ab" * 32, hides=False)
    slow = digest_of("ab" * 32, hides=True)
    assert plain == "sha256:" + "ab" * 32
    assert "ab" * 32 not in slow
    assert digest_of("ab" * 32, hides=True) != slow  # salted
    for digest in (plain, slow):
        assert digest_fits(digest, "ab" * 32)
        assert not digest_fits(digest, "ac" * 32)
    for junk in ("", "scrypt:zz:1", "md5:" + "ab" * 32):
        assert not digest_fits(junk, "ab" * 32)


def test_the_footer_repeats_no_values(tmp_path):
    """Statistics would put the least and the greatest value of each column into the clear."""
    made = small(tmp_path)
    group = pq.ParquetFile(made.path).metadata.row_group(0)
    assert not any(group.column(i).is_stats_set for i in range(group.num_columns))
    assert msgspec.json.decode(pq.ParquetFile(made.path).metadata.metadata[b"plan"])["seal"] == ""
