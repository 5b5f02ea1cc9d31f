"""What whoever agrees, looks and comes back sees: numbers that explain themselves, in a narrow terminal."""

from __future__ import annotations

import re
from pathlib import Path

from paystack_source.progress import Progress


def allow(desk, number=6, *, name="allow.csv", twice=0):
    path = desk.risk_file(number)
    lines = path.read_text().splitlines()
    path = path.with_name(name)
    path.write_text("\n".join([*lines, *lines[1 : 1 + twice]]) + "\n")
    return path


def test_status_says_each_run_in_lines_of_a_narrow_terminal(desk):
    assert "No runs in" in desk.bulk("status").err
    done = desk.bulk(
        "run", "risk-action", allow(desk, twice=2), "--risk-action", "allow", "--yes", "--refresh", "live"
    )
    names = desk.csv(
        "names.csv", [{"customer_code": c["customer_code"], "first_name": "Ada"} for c in desk.customers(3)]
    )
    desk.bulk("run", "update", names, "--yes")
    back = desk.bulk("undo", done.json["run_id"], "--yes")
    shown = desk.bulk("status").err
    assert max(map(len, shown.splitlines())) <= 80
    run_id, short = done.json["run_id"], back.json["run_id"][:15]
    assert f"{run_id}  complete, undone by {short}\n" in shown
    flat = re.sub(r"\s+", " ", shown)
    assert "UTC, test account" in flat
    assert ", set to allow: 8 applied" in flat
    assert f"undo of {run_id[:15]}: set risk actions: 6 applied" in flat
    assert "update: 3 applied" in flat


def test_an_undo_of_the_latest_says_of_which_run(desk):
    done = desk.bulk(
        "run", "risk-action", allow(desk, 3), "--risk-action", "deny", "--yes", "--refresh", "live"
    )
    said = desk.bulk("undo", "latest", "--plan-only")
    flat = re.sub(r"\s+", " ", said.err)
    assert f"This undoes: {done.json['run_id']} complete" in flat
    assert "set to deny: 3 applied" in flat


def test_numbers_that_differ_are_explained(desk):
    said = desk.bulk("run", "risk-action", allow(desk, 6, twice=2), "--risk-action", "allow", "--yes")
    assert said.json["applied"] == 8
    assert "8 (2 of them repeat another row, which was sent once)" in said.err
    assert "(reads included)" in said.err


def test_what_was_not_sent_says_why_and_a_resume_counts_what_is_left(desk, monkeypatch):
    totals = []
    made = Progress.here.__func__

    def here(cls, title, **how):
        totals.append((title, how.get("total")))
        return made(cls, title, **how)

    monkeypatch.setattr(Progress, "here", classmethod(here))
    path = desk.csv(
        "bad.csv",
        [{"customer_code": f"CUS_nosuchone{n}"} for n in range(8)]
        + [{"customer_code": c["customer_code"]} for c in desk.customers(50)],
    )
    rules = ["--max-equal-rejections", "3", "--yes", "--refresh", "never"]
    said = desk.bulk("run", "risk-action", path, "--risk-action", "deny", *rules)
    assert said.json["rejected"] >= 3
    left = said.json["unsent"]
    reasons = {line["_message"] for line in desk.results(said, "unsent_file")}
    why = f"not sent before the run ended: {said.json['stopped']}"
    assert why in reasons
    assert reasons <= {why, "The run was stopped"}
    totals.clear()
    assert desk.bulk("resume", "latest", "--yes").json["unsent"] == 0
    assert ("Set risk actions", left) in totals


def test_the_problems_of_an_earlier_plan_go_when_a_plan_is_good(desk):
    rows = [{"customer_code": "nonsense", "risk_action": "deny"} for _ in range(30)]
    out = Path("it.plan")
    said = desk.bulk("plan", "risk-action", desk.csv("bad.csv", rows), "--out", out)
    assert said.code == 2
    listed = out.with_suffix(".problems.csv")
    assert listed.exists()
    good = allow(desk, 3)
    assert desk.bulk("plan", "risk-action", good, "--risk-action", "allow", "--out", out).code == 0
    assert not listed.exists()
    listed.write_text("mine\n1\n")
    assert desk.bulk("plan", "risk-action", good, "--risk-action", "allow", "--out", out).code == 0
    assert listed.exists()
