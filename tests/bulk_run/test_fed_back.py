"""What the tool writes it reads, and what it prints can be pasted: for every operation and every way to name a customer."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from paystack_source import (
    PaystackClient,
    bulk_create,
    bulk_deactivate_authorization,
    bulk_set_risk_action,
    bulk_update,
    bulk_validate,
)
from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.errors import KeyRefused, OutcomeUnknown, Rejected
from paystack_source.warehouse.write_back import WriteBack

HELPERS = {
    "risk-action": bulk_set_risk_action,
    "update": bulk_update,
    "create": bulk_create,
    "validate": bulk_validate,
    "deactivate-authorization": bulk_deactivate_authorization,
}
# Each operation, and each way to name a customer: what finds the customer does not depend on the operation.
CASES = [
    *(("risk-action", name) for name in ("Customer Code", "id")),
    ("update", "mixed"),
    ("create", "E-Mail"),
    ("validate", "email"),
    ("deactivate-authorization", "mixed"),
]
# A user's own columns, called as ours are but for the underscore.
OWN = {"status": "open", "Message": "call back", "time": "noon", "outcome": "?", "_note": "=1+1"}


class Wire:
    """The writes as they leave, and for which row there is another answer than Paystack's."""

    def __init__(self, monkeypatch):
        self.calls = []
        self.bad = {}  # number of the write, from 1 -> what is raised
        for operation in BULK_OPERATIONS.values():
            self._watch(monkeypatch, operation.endpoint)

    def _watch(self, monkeypatch, endpoint):
        send = getattr(PaystackClient, endpoint)

        def watched(client, *args, **fields):
            self.calls.append((args, fields))
            error = self.bad.get(len(self.calls))
            if error is not None:
                raise error
            return send(client, *args, **fields)

        monkeypatch.setattr(PaystackClient, endpoint, watched)

    def begin(self, **bad):
        self.calls.clear()
        self.bad = {int(number.removeprefix("row")): error for number, error in bad.items()}


@pytest.fixture
def wire(monkeypatch):
    return Wire(monkeypatch)


@pytest.fixture
def people(desk):
    return [desk.truth(c["customer_code"]) for c in desk.customers(3)]


@pytest.fixture
def copied(desk, monkeypatch, people):
    """A copy of the customers, as it were in a warehouse: an id says nothing without."""
    frame = pd.DataFrame(people)[["id", "customer_code", "email", "first_name", "risk_action"]]
    monkeypatch.setattr(WriteBack, "find_copy", lambda _: pa.Table.from_pandas(frame))
    monkeypatch.setattr(WriteBack, "applied_by", lambda *_: None)
    monkeypatch.setattr("paystack_source.bulk.service.claim", lambda *_: None)
    monkeypatch.setattr("paystack_source.bulk.service.catch_up", lambda *_: None)
    monkeypatch.setattr("paystack_source.bulk.run.recording.load", lambda *_: None)
    return frame


def rows(desk, people, operation, name):
    """Three rows, each with what the operation needs."""
    cells = []
    for number, person in enumerate(people):
        if operation == "create":
            named = {name: f"new{number}@example.com"}
        elif name == "mixed":
            only = ("customer_code", "email", "id")[number]
            named = {key: person[key] if key == only else "" for key in ("customer_code", "email", "id")}
        else:
            field = {"code": "customer_code", "Customer Code": "customer_code", "E-Mail": "email"}.get(
                name, name
            )
            named = {name: person[field]}
        account = {"account_number": f"012345678{number}", "bvn": f"2222222222{number}"}
        more = {
            "risk-action": {},
            "update": {"first_name": f"New{number}", "metadata": '{"tier": "gold"}'},
            "create": {"first_name": "Ada"},
            "validate": {"first_name": "A", "last_name": "B", "country": "NG", "bank_code": "058", **account},
            "deactivate-authorization": {"auth": f"AUTH_nosuch{number}"},
        }[operation]
        cells.append(
            {"_note": OWN["_note"], **named, **more, **{k: v for k, v in OWN.items() if k != "_note"}}
        )
    return cells


def options(operation):
    return ["--risk-action", "deny"] if operation == "risk-action" else []


def next_command(said, command):
    """The printed command, as a shell cuts it, without `python pipelines/bulk.py`."""
    lines = said.err.partition("\nNext:\n")[2].splitlines()
    (line,) = [line for line in lines if f"bulk.py {command} " in line]
    return shlex.split(line, comments=True)[2:]


def paste(desk, said, command):
    return desk.bulk(*next_command(said, command), "--yes", copy=True)


def typed_anew(path, cells):
    """Masked cells are written again by hand; nothing else is touched."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    for row, own in zip(table, cells, strict=True):
        row.update({name: own[name] for name in ("account_number", "bvn", "auth") if name in row})
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def refuse(wire, operation):
    """The second write is refused; of the deactivations all, for these cards are nobody's."""
    refusal = Rejected("Not today", code="not_today")
    wire.begin(
        **({"row1": refusal, "row3": refusal} if operation == "deactivate-authorization" else {}),
        row2=refusal,
    )


def refused(wire):
    return in_order(wire.calls[number - 1] for number in wire.bad)


def in_order(calls):
    return sorted(calls, key=repr)


def cells_of(calls, cells):
    """The rows that these writes came from: each has a number that no other row has."""
    told = repr(calls)
    return [row for row in cells if any(row.get(name, "none") in told for name in ("bvn", "auth"))]


@pytest.mark.parametrize(("operation", "name"), CASES)
def test_failed_rows_are_sent_again_by_the_printed_command(desk, wire, people, copied, operation, name):
    cells = rows(desk, people, operation, name)
    refuse(wire, operation)
    said = desk.bulk("run", operation, desk.csv("in put.csv", cells), *options(operation), "--yes", copy=True)
    assert said.code == 3, said.err
    wanted = refused(wire)
    wire.begin()
    if BULK_OPERATIONS[operation].secret_fields:
        masked = paste(desk, said, "run")
        assert (masked.code, wire.calls) == (2, [])
        assert "is masked, as result files are" in masked.err
        typed_anew(Path(said.json["failed_file"]), cells_of(wanted, cells))
    again = paste(desk, said, "run")
    assert in_order(wire.calls) == wanted, again.err
    assert again.json["rows"] == len(wanted)


FRAMES = {
    "pandas": pd.DataFrame,
    "list": list,
    "arrow": pa.Table.from_pylist,
    "polars": pl.DataFrame,
    "csv": None,
}


@pytest.mark.parametrize(
    ("operation", "name", "kind"),
    [
        ("risk-action", "code", "arrow"),
        ("update", "id", "polars"),
        ("create", "email", "list"),
        ("validate", "email", "pandas"),
        ("validate", "code", "csv"),
    ],
)
def test_failed_rows_from_python_are_given_to_the_helper_again(
    desk, wire, people, copied, operation, name, kind
):
    cells = rows(desk, people, operation, name)
    make = FRAMES[kind]
    source = desk.csv("given.csv", cells) if make is None else make(cells)
    given = {"risk_action": "deny"} if operation == "risk-action" else {}
    refuse(wire, operation)
    result = HELPERS[operation](source, **given, copy=copied, progress=False)
    wanted = refused(wire)
    assert len(result.failed) == len(wanted)
    wire.begin()
    again = HELPERS[operation](result.failed, **given, copy=copied, progress=False)
    assert in_order(wire.calls) == wanted
    assert again.summary["rows"] == len(wanted)


@pytest.mark.parametrize("kind", [None, pa.map_(pa.string(), pa.string())])
def test_metadata_of_an_arrow_struct_or_map_is_sent_again_as_it_was(desk, wire, people, kind):
    """A struct has the fields of all rows; those that a row never had are not to be emptied."""
    metadata = [{"tier": "gold"}, {"city": "Lagos"}, {"tier": "blue"}]
    codes = [person["customer_code"] for person in people]
    source = pa.table({"customer_code": codes, "metadata": pa.array(metadata, kind)})
    wire.begin(row1=Rejected("no"), row2=Rejected("no"), row3=Rejected("no"))
    result = bulk_update(source, metadata="replace", copy=False, refresh="never", progress=False)
    wanted = in_order(wire.calls)
    wire.begin()
    bulk_update(result.failed, metadata="replace", copy=False, refresh="never", progress=False)
    assert in_order(wire.calls) == wanted


@pytest.mark.parametrize("operation", ["update", "create"])
def test_the_other_result_files_are_inputs_as_well(desk, wire, people, copied, operation):
    """Also where the input is gone, so that the rows come from the plan."""
    name = "email"
    path = desk.csv("input.csv", rows(desk, people, operation, name))
    error = OutcomeUnknown("lost") if operation == "create" else KeyRefused("no")
    wire.begin(row1=error, row2=error, row3=error)
    plan = desk.bulk("plan", operation, path, *options(operation), "--refresh", "never", copy=True)
    path.unlink()
    said = desk.bulk("apply", plan.json["plan_file"], "--yes", "--no-recheck", copy=True)
    files = [said.json[f"{one}_file"] for one in ("results", "failed", "unknown", "unsent")]
    found = [file for file in files if file is not None]
    assert len(found) > 1, said.json
    for file in found:
        again = desk.bulk("plan", operation, file, *options(operation), "--refresh", "never", copy=True)
        assert (again.code, again.json["to_send"]) == (0, 3), again.err


@pytest.mark.parametrize("other", ["customer_code", "email"])
@pytest.mark.parametrize("whose", ["nobody", "somebody else"])
def test_an_id_that_is_not_the_customers_own_is_refused(desk, wire, people, copied, other, whose):
    number = people[1]["id"] if whose == "somebody else" else 17
    path = desk.csv("input.csv", [{other: people[0][other], "id": number}])
    said = desk.bulk(
        "run", "risk-action", path, "--risk-action", "deny", "--refresh", "never", "--yes", copy=True
    )
    assert (said.code, wire.calls) == (2, [])
    assert "two different customers" in said.err


def test_what_an_undo_left_can_be_put_back_after_all(desk, wire, people):
    cells = [{"customer_code": person["customer_code"]} for person in people]
    for person in people:
        desk.api.edit_customer(person["customer_code"], risk_action="default")
    path = desk.csv("input.csv", cells)
    said = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--refresh", "live", "--yes")
    theirs = people[1]["customer_code"]
    desk.api.edit_customer(theirs, risk_action="allow")
    undone = desk.bulk("undo", said.json["run_id"], "--yes")
    assert undone.json["applied"] == 2
    left = Path("paystack_results", said.json["run_id"], "undo_left.csv")
    assert desk.bulk("run", "risk-action", left, "--yes").json["applied"] == 1
    assert desk.truth(theirs)["risk_action"] == "default"


def test_rows_that_an_undo_could_not_put_back_are_undone_by_the_printed_command(desk, wire, people):
    for person in people:
        desk.api.edit_customer(person["customer_code"], risk_action="default")
    path = desk.csv("input.csv", [{"customer_code": person["customer_code"]} for person in people])
    made = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--refresh", "live", "--yes")
    wire.begin(row2=Rejected("no"))
    undone = desk.bulk("undo", made.json["run_id"], "--yes")
    assert undone.json["rejected"] == 1
    again = paste(desk, undone, "undo")
    assert (again.code, again.json["applied"]) == (0, 1)
    assert {desk.truth(person["customer_code"])["risk_action"] for person in people} == {"default"}


def test_a_printed_command_repeats_every_switch_that_matters(desk, wire, people, copied):
    path = desk.csv("input.csv", rows(desk, people, "update", "customer_code"))
    how = ["--metadata", "replace", "--only-missing", "--refresh", "never"]
    where = ["--dataset", "two", "--destination", "filesystem", "--quota-share", "0.5"]
    plan = desk.bulk("plan", "update", path, *how, *where, "--out", "it's a.plan", copy=True)
    apply = next_command(plan, "apply")
    assert apply == ["apply", "it's a.plan", *where[2:4], *where[:2], *where[4:]]
    rules = ["--canary", "3", "--canary-max", "50", "--max-equal-rejections", "0", "--no-recheck"]
    wire.begin(row1=Rejected("no"), row2=KeyRefused("no"), row3=KeyRefused("no"))
    said = desk.bulk(*apply, *rules, "--yes", copy=True)
    run, resume = next_command(said, "run"), next_command(said, "resume")
    for command, wanted in ((run, [*how, *where, *rules]), (resume, [*where, *rules])):
        switches = [word for word in wanted if word.startswith("--")]
        assert {word for word in command if word.startswith("--")} == set(switches)
        for switch in switches:
            value = wanted[wanted.index(switch) + 1 : wanted.index(switch) + 2]
            if value and not value[0].startswith("--"):
                assert command[command.index(switch) + 1] == value[0]
    # `status` was told nothing: the plan knows.
    shown = desk.bulk("status", "latest", copy=True)
    assert set(where) <= set(next_command(shown, "resume"))
    wire.begin()
    assert paste(desk, said, "resume").json["applied"] == 2


def test_a_run_of_the_sandbox_is_gone_on_with_in_the_sandbox(desk, wire, monkeypatch):
    for name in ("SOURCES__PAYSTACK__SECRET_KEY", "SOURCES__PAYSTACK__BASE_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PAYSTACK_SANDBOX_STATE", str(desk.folder / "practice.sqlite"))
    monkeypatch.setattr("paystack_source.sandbox.demo.DEMO_CUSTOMERS", 20)
    path = desk.csv("input.csv", [{"email": "new@example.com"}])
    wire.begin(row1=KeyRefused("no"))
    said = desk.bulk("run", "create", path, "--sandbox", "--yes")
    assert said.json["unsent"] == 1
    wire.begin()
    shown = desk.bulk("status", "latest", "--sandbox", copy=True)
    assert paste(desk, shown, "resume").json["applied"] == 1


def test_a_run_in_another_results_folder_is_gone_on_with_there(desk, wire, people):
    wire.begin(row1=KeyRefused("no"))
    frame = pd.DataFrame({"email": ["new@example.com"]})
    kept = Path("elsewhere and far")
    result = bulk_create(frame, copy=False, progress=False, results_folder=kept)
    assert result.summary["unsent"] == 1
    wire.begin()
    shown = desk.bulk("status", kept / result.run_id)
    assert paste(desk, shown, "resume").json["applied"] == 1
    shutil.rmtree(kept)


@pytest.mark.parametrize("command", [("resume", "--yes"), ("status", "--refresh")], ids=" ".join)
def test_a_result_file_that_somebody_corrects_is_not_lost_when_it_is_written_again(desk, command):
    path = desk.risk_file(3, extra=1)
    said = desk.bulk("run", "risk-action", path, "--risk-action", "allow", "--yes")
    failed = Path(said.json["failed_file"])
    corrected = failed.read_text("utf-8-sig").replace("CUS_nosuchone0", desk.customers(4)[3]["customer_code"])
    failed.write_text(corrected, "utf-8-sig")
    later = failed.with_name("summary.json").stat().st_mtime_ns + 10**9
    os.utime(failed, ns=(later, later))
    again = desk.bulk(command[0], said.json["run_id"], command[1])
    kept = failed.with_name("failed.edited.csv")
    assert f"failed.csv was edited since it was written; it is kept as {kept}" in again.err
    assert kept.read_text("utf-8-sig") == corrected
    assert "CUS_nosuchone0" in failed.read_text("utf-8-sig")
