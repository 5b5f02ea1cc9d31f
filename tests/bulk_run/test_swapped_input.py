"""Whoever saves over an input or a plan, at whatever moment: what is sent and what is claimed is one and the same list."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paystack_source import PaystackClient, bulk_set_risk_action, bulk_validate
from paystack_source.bulk.input.files import open_table, write_table
from tests.bulk_plan.workbook import xlsx

HOOK = {"call": None}


def on_open(event, args):
    if event == "open" and HOOK["call"] is not None:
        HOOK["call"](args[0])


sys.addaudithook(on_open)  # a hook stays for the life of the process, so there is one


MOMENTS = ("input.", "given.", ".plan", "results.csv")


@contextlib.contextmanager
def at_open(number, swap, names=MOMENTS):
    """Calls `swap` just before the open with this number of a file that matters; yields how many there were."""
    seen = SimpleNamespace(opens=0)

    def opened(path):
        if isinstance(path, str | os.PathLike) and any(name in Path(path).name for name in names):
            HOOK["call"] = None  # what the swap opens is not counted
            seen.opens += 1
            if seen.opens == number:
                swap()
            HOOK["call"] = opened

    HOOK["call"] = opened
    try:
        yield seen
    finally:
        HOOK["call"] = None


def by_replace(path, content):
    part = path.with_name("saving.tmp")
    part.write_bytes(content)
    part.replace(path)


def in_place(path, content):
    """Also the time of the last change is as before."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class Lists:
    """Two lists of customers: A has four, B has two others. A row is sent with a number that is the list's own."""

    def __init__(self, desk, monkeypatch):
        people = [c["customer_code"] for c in desk.customers(6)]
        self.desk, self.codes = desk, {"A": people[:4], "B": people[4:]}
        desk.api.configure(verdict_delay=1e9)  # who is validated is not validated with the same again
        self.sent = []
        send = PaystackClient.validate

        def validate(client, code, **fields):
            self.sent.append((code, fields["bvn"]))
            return send(client, code, **fields)

        monkeypatch.setattr(PaystackClient, "validate", validate)

    def rows(self, which, operation):
        if operation == "risk-action":
            return [{"customer_code": code, "risk_action": "deny"} for code in self.codes[which]]
        fixed = {"first_name": "Ada", "last_name": "Obi", "country": "NG", "bank_code": "058"}
        return [
            {"customer_code": code, **fixed, "account_number": "0123456789", "bvn": self.bvn(which, n)}
            for n, code in enumerate(self.codes[which])
        ]

    def bvn(self, which, number):
        return f"2222222{ord(which):03d}{number}"

    def file(self, which, operation, suffix):
        path = self.desk.folder / f"{which}{suffix}"
        rows = self.rows(which, operation)
        cells = [list(row.values()) for row in rows]
        if suffix == ".xlsx":
            xlsx(path, {"Sheet1": [list(rows[0]), *cells]})
        elif suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            write_table(path, list(rows[0]), cells)
        content = path.read_bytes()
        path.unlink()
        return content

    def reset(self):
        self.sent.clear()
        shutil.rmtree("paystack_results", ignore_errors=True)
        for code in itertools.chain(*self.codes.values()):
            self.desk.api.edit_customer(code, risk_action="default")
        self.before = len(self.desk.api.write_log())

    def is_one(self, operation, code, results):
        """What was sent, and what the results claim, is A or B throughout; or it ended with 2 and nothing was sent."""
        sent = [customer for _, _, customer, _ in self.desk.api.write_log()[self.before :]]
        if code == 2:
            assert sent == []
            return None
        (which,) = [name for name, codes in self.codes.items() if sorted(codes) == sorted(sent)]
        if operation == "validate":
            expected = [(c, self.bvn(which, n)) for n, c in enumerate(self.codes[which])]
            assert sorted(self.sent) == sorted(expected)
        done = "accepted_pending" if operation == "validate" else "applied"
        assert [(row["customer_code"], row["_status"]) for row in results] == [
            (code, done) for code in self.codes[which]
        ]
        return which


@pytest.fixture
def lists(desk, monkeypatch):
    return Lists(desk, monkeypatch)


def results(said):
    name = said.json.get("results_file")
    if name is None:
        return []
    table = open_table(name)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows()]


@pytest.mark.parametrize(
    ("operation", "suffix", "save"),
    [
        ("validate", ".csv", in_place),
        ("risk-action", ".parquet", in_place),
        ("risk-action", ".xlsx", by_replace),
    ],
)
def test_an_input_that_is_saved_over_at_any_open(desk, lists, operation, suffix, save):
    path = desk.folder / f"input{suffix}"
    a, b = (lists.file(which, operation, suffix) for which in "AB")
    ended = []
    for number in itertools.count(1):
        lists.reset()
        path.write_bytes(a)
        with at_open(number, lambda: save(path, b)) as seen:
            said = desk.bulk("run", operation, path, "--refresh", "never", "--yes")
        ended.append(lists.is_one(operation, said.code, results(said)))
        if seen.opens < number:
            break
    assert set(ended) == {"A", "B"}  # B: it was there before the first look
    assert ended.count("B") == 1


@pytest.mark.parametrize("swapped", ["input", "plan"])
def test_an_input_or_a_plan_that_is_saved_over_while_the_plan_is_applied(desk, lists, swapped):
    path = desk.folder / "input.csv"
    a, b = (lists.file(which, "validate", ".csv") for which in "AB")
    path.write_bytes(b)
    desk.bulk("plan", "validate", path, "--out", "b.plan")
    path.write_bytes(a)
    desk.bulk("plan", "validate", path, "--out", "a.plan")
    plan = desk.folder / "a.plan"
    planned = plan.read_bytes()
    ended = []
    for number in itertools.count(1):
        lists.reset()
        shutil.rmtree(os.environ["XDG_STATE_HOME"], ignore_errors=True)  # else the plan was applied before
        shutil.rmtree(desk.folder / ".plans", ignore_errors=True)
        path.write_bytes(a)
        plan.write_bytes(planned)
        new = b if swapped == "input" else (desk.folder / "b.plan").read_bytes()
        old = path if swapped == "input" else plan

        with at_open(number, lambda old=old, new=new: in_place(old, new)) as seen:
            said = desk.bulk("apply", plan, "--yes")
        ended.append(lists.is_one("validate", said.code, results(said)))
        if seen.opens < number:
            break
    assert ended[0] is None  # the input is not the planned one: refused
    assert ended[-1] == "A"
    assert "B" not in ended


def test_a_plan_that_is_edited_while_the_question_waits(desk, lists, monkeypatch):
    for which in "BA":
        path = desk.folder / f"{which}.csv"
        path.write_bytes(lists.file(which, "risk-action", ".csv") or b"")
        desk.bulk("plan", "risk-action", path, "--out", f"{which}.plan")
    lists.reset()
    plan = desk.folder / "A.plan"

    def answer():
        in_place(plan, (desk.folder / "B.plan").read_bytes())
        return "y\n"

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=answer))
    said = desk.bulk("apply", plan)
    assert lists.is_one("risk-action", said.code, results(said)) == "A"


@pytest.mark.parametrize("gone", ["the plan", "its folder"])
def test_a_plan_that_is_deleted_while_the_question_waits_is_sent_from_its_copy(desk, monkeypatch, gone):
    folder = desk.folder / "kept"
    folder.mkdir()
    plan = folder / "deny.plan"
    desk.bulk("plan", "risk-action", desk.risk_file(3), "--risk-action", "deny", "--out", plan)

    def answer():
        plan.unlink() if gone == "the plan" else shutil.rmtree(folder)
        return "y\n"

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=answer))
    said = desk.bulk("apply", plan)
    assert (said.code, said.json["applied"]) == (0, 3), said.err
    assert (
        desk.bulk("undo", said.json["run_id"], "--plan-only").code == 2
    )  # old values were not read: a whole run


@pytest.mark.parametrize("gone", ["plan.plan", "."])
def test_a_run_that_is_deleted_while_the_question_waits_sends_nothing(desk, monkeypatch, gone):
    desk.api.configure(risk_forbidden=True)
    run_id = desk.bulk("run", "risk-action", desk.risk_file(3), "--risk-action", "deny", "--yes").json[
        "run_id"
    ]
    desk.api.configure(risk_forbidden=False)
    folder = desk.folder / "paystack_results" / run_id

    def answer():
        shutil.rmtree(folder) if gone == "." else (folder / gone).unlink()
        return "y\n"

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=answer))
    said = desk.bulk("resume", run_id)
    assert (said.code, said.json["error"]) == (2, "NoSuchRunError")
    assert desk.api.write_log() == []


def test_a_file_that_is_written_to_while_it_is_read_is_refused(desk, lists):
    """Half of it would be of one list and half of the other."""
    path = desk.folder / "input.csv"
    wide = "x" * 700_000
    a, b = (
        ("customer_code,note\n" + "".join(f"{code},{wide}\n" for code in (codes * 4)[:4])).encode()
        for codes in lists.codes.values()
    )
    codes = set()
    for number in itertools.count(1):
        lists.reset()
        path.write_bytes(a)
        reads = 0

        def reading(_frame, event, function, number=number):
            nonlocal reads
            file = getattr(function, "__self__", None)
            if event != "c_call" or function.__name__ != "read" or not hasattr(file, "fileno"):
                return
            with contextlib.suppress(OSError, ValueError):
                if os.path.sameopenfile(file.fileno(), handle.fileno()):
                    reads += 1
                    if reads == number:
                        path.write_bytes(b)

        with path.open("rb") as handle:
            sys.setprofile(reading)
            try:
                said = desk.bulk("run", "risk-action", path, "--risk-action", "deny", "--yes")
            finally:
                sys.setprofile(None)
        codes.add(said.code)
        if said.code == 2:
            assert "written to while it was read" in said.err
        lists.is_one("risk-action", said.code, results(said))
        if reads < number:
            break
    assert number > 3
    assert codes == {0, 2}


def test_results_that_somebody_edited_are_not_taken_for_the_input(desk, lists):
    path = desk.folder / "input.csv"
    path.write_bytes(lists.file("A", "risk-action", ".csv"))
    lists.reset()
    desk.api.configure(risk_forbidden=True)
    said = desk.bulk("run", "risk-action", path, "--yes")
    assert said.json["unsent"] == 4
    path.unlink()
    edited = Path(said.json["results_file"])
    lines = edited.read_text("utf-8-sig").splitlines(keepends=True)
    for rows in (lines[:-1], [lines[0], *reversed(lines[1:])]):
        edited.write_text("".join(rows), "utf-8-sig")
        shown = desk.bulk("status", "latest", "--refresh")
        assert [row["customer_code"] for row in results(shown)] == lists.codes["A"]
    desk.api.configure(risk_forbidden=False)
    resumed = desk.bulk("resume", "latest", "--yes")
    assert lists.is_one("risk-action", resumed.code, results(resumed)) == "A"


def test_an_undo_whose_own_file_is_saved_over_puts_back_what_it_showed(desk, lists):
    path = desk.folder / "input.csv"
    other = "customer_code,email,risk_action\n" + "".join(f"{code},,allow\n" for code in lists.codes["B"])
    for number in itertools.count(1):
        lists.reset()
        path.write_bytes(lists.file("A", "risk-action", ".csv"))
        made = desk.bulk("run", "risk-action", path, "--yes", "--refresh", "live")
        own = Path("paystack_results", made.json["run_id"], "undo.csv")

        def swap(own=own):
            if own.is_file():
                by_replace(own, other.encode())

        with at_open(number, swap, ["undo."]) as seen:
            said = desk.bulk("undo", made.json["run_id"], "--yes")
        assert (said.code, said.json["applied"]) == (0, 4), said.err
        assert {desk.truth(code)["risk_action"] for code in itertools.chain(*lists.codes.values())} == {
            "default"
        }
        if seen.opens < number:
            break


# -- from Python ---------------------------------------------------------------------------------------------


def as_pandas(rows, other):
    frame = pd.DataFrame(rows, dtype=object)

    def swap():
        for place, row in enumerate(other):
            frame.iloc[place] = list(row.values())

    return frame, swap


def as_list(rows, other):
    def swap():
        rows[: len(other)] = other
        rows[-1]["customer_code"] = other[0]["customer_code"]

    return rows, swap


def as_relation(rows, other):
    con = duckdb.connect()
    others = pd.DataFrame(other)
    con.register("rows", pd.DataFrame(rows))
    con.execute("CREATE TABLE given AS SELECT * FROM rows")

    def swap():
        con.register("others", others)
        con.execute("CREATE OR REPLACE TABLE given AS SELECT * FROM others")

    return con.table("given"), swap


@pytest.mark.parametrize(
    ("given", "helper", "operation"),
    [
        (as_pandas, bulk_validate, "validate"),
        (as_list, bulk_set_risk_action, "risk-action"),
        (as_relation, bulk_set_risk_action, "risk-action"),
    ],
)
def test_a_frame_that_is_changed_meanwhile(desk, lists, given, helper, operation):
    ended = []
    for number in itertools.count(1):
        lists.reset()
        source, swap = given(lists.rows("A", operation), lists.rows("B", operation))
        with at_open(number, swap) as seen:
            result = helper(source, copy=False, refresh="never", progress=False)
        if seen.opens < number:
            swap()
        claimed = result.results.to_dict("records")
        ended.append(lists.is_one(operation, 0, claimed))
        assert len(result.failed) == 0
        if seen.opens < number:
            break
    assert len(ended) > 3
    assert set(ended[1:]) == {"A"}


def test_a_table_of_numbers_that_shares_its_memory(desk, lists):
    """Arrow does not copy a column of numbers; whoever changes the frame it came from changes the table."""
    held = [desk.truth(code) for code in lists.codes["A"] + lists.codes["B"]]
    numbers = pd.DataFrame({"id": [c["id"] for c in held[:4]]})
    source = pa.Table.from_pandas(numbers)
    other = [c["id"] for c in held[4:]]

    def swap():
        numbers.to_numpy().setflags(write=True)
        numbers["id"].array._ndarray[:2] = other

    lists.reset()
    with at_open(1, swap):
        result = bulk_set_risk_action(source, "deny", copy=pd.DataFrame(held), progress=False)
    assert {desk.truth(code)["risk_action"] for code in lists.codes["A"]} == {"deny"}
    assert list(result.results["id"]) == [c["id"] for c in held[:4]]
