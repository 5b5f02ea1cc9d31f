"""What whoever agrees, looks and comes back sees: numbers that explain themselves, in a narrow terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from paystack_source import ConfigError, bulk_set_risk_action, helpers
from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.tally import confirmation
from paystack_source.bulk.run.runs import Runs
from paystack_source.cli.terminal import Terminal


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
    assert "update names, phones and metadata: 3 applied" in flat


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
    made = Terminal.progress

    def progress(self, title, **how):
        totals.append((title, how.get("total")))
        return made(self, title, **how)

    monkeypatch.setattr(Terminal, "progress", progress)
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


# -- the question --------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """The questions that were asked."""
    asked = []

    def agree(_terminal, _chosen, _mode, _plan, question):
        asked.append(question.text)

    monkeypatch.setattr("paystack_source.cli.bulk_commands.agree", agree)
    return asked


def test_the_question_names_the_action_and_what_is_dangerous_about_it(desk, asked):
    path = allow(desk, 9)
    for customer in desk.customers(3):
        desk.api.edit_customer(customer["customer_code"], risk_action="deny")
    done = desk.bulk("run", "risk-action", path, "--risk-action", "allow", "--refresh", "live")
    assert asked.pop() == "Set 9 customers to allow on the TEST account? Denied now: 3 of 9."
    undone = desk.bulk("undo", done.json["run_id"])
    back = f"Undo {done.json['run_id']}: Set 9 customers (6 to default, 3 to deny) on the TEST account?"
    assert asked.pop() == f"{back} Allowed now: 9 of 9."
    assert undone.json["applied"] == 9
    people = desk.csv("people.csv", [{"email": "one@example.ng"}])
    desk.bulk("run", "create", people)
    assert asked.pop() == "Create 1 customer on the TEST account? It cannot be undone."
    check = {
        "first_name": "Ada",
        "last_name": "Obi",
        "country": "NG",
        "bank_code": "058",
        "account_number": "0123456789",
    }
    code = desk.customers(1)[0]["customer_code"]
    desk.bulk(
        "run", "validate", desk.csv("checks.csv", [{"customer_code": code, **check, "bvn": "22222222222"}])
    )
    assert asked.pop() == (
        "Check the identity of 1 customer, which overwrites and locks the names of those who pass, on the TEST account? "
        "It cannot be undone."
    )


def test_the_loss_of_undo_stands_in_the_question_itself(copied, asked, monkeypatch):
    desk = copied
    monkeypatch.setattr("paystack_source.bulk.run.recording.load", lambda *_: None)
    desk.bulk("run", "risk-action", allow(desk, 4), "--risk-action", "deny", "--refresh", "never")
    assert asked.pop() == (
        "Set 4 customers to deny on the TEST account? It cannot be undone for 4 of 4: their present values are not known."
    )
    codes = [one["customer_code"] for one in desk.customers(2)] + desk.api.add_customers(1)
    path = desk.csv("some.csv", [{"customer_code": code} for code in codes])
    desk.bulk("run", "risk-action", path, "--risk-action", "allow", "--refresh", "never", copy=True)
    assert asked.pop().endswith("It cannot be undone for 1 of 3: their present values are not known.")


def test_a_plan_says_its_transitions_and_its_share_of_all_customers(desk):
    path = allow(desk, 6)
    desk.api.edit_customer(desk.customers(1)[0]["customer_code"], risk_action="deny")
    said = desk.bulk("plan", "risk-action", path, "--risk-action", "allow", "--refresh", "live")
    assert said.json["transitions"] == [
        {"field": "risk_action", "from": "default", "to": "allow", "rows": 5},
        {"field": "risk_action", "from": "deny", "to": "allow", "rows": 1},
    ]
    assert "Planned. Nothing has been sent yet." in said.err
    assert "6 (10.0% of all 60 customers)" in said.err
    assert "risk_action: deny → allow  1" in re.sub(r" {2,}", "  ", said.err)


# -- the thresholds ------------------------------------------------------------------------------------------


def test_a_resume_after_the_canary_stopped_asks_anew(desk):
    rows = [{"customer_code": f"CUS_nosuchone{n}"} for n in range(8)]
    rows += [{"customer_code": c["customer_code"]} for c in desk.customers(20)]
    path = desk.csv("bad.csv", rows)
    said = desk.bulk(
        "run", "risk-action", path, "--risk-action", "deny", "--refresh", "never", "--canary", "4", "--yes"
    )
    assert "canary" in said.json["stopped"]
    before = len(desk.api.write_log())
    refused = desk.bulk("resume", "latest", "--yes")
    seal = Runs().open("latest").plan().header.seal
    assert (refused.code, len(desk.api.write_log())) == (2, before)
    assert "The canary stopped this run" in refused.err
    assert seal[:6] not in refused.err
    assert desk.bulk("resume", "latest", "--approve", seal[:12]).json["unsent"] == 0


def at_most(rows, monkeypatch):
    """More than so many denials have to be confirmed."""
    risk = BULK_OPERATIONS["risk-action"]
    tight = replace(risk, thresholds=(replace(risk.thresholds[1], rows=rows, share=1.0),))
    for module in ("operations", "plan.plan", "consent"):
        name = f"paystack_source.bulk.{module}.BULK_OPERATIONS"
        monkeypatch.setattr(name, {**BULK_OPERATIONS, "risk-action": tight})


def test_thresholds_are_counted_from_the_rows_and_for_a_day_together(desk, monkeypatch):
    at_most(10, monkeypatch)
    files = [
        desk.csv(
            f"{part}.csv",
            [{"customer_code": c["customer_code"]} for c in desk.customers(24)[part * 6 : part * 6 + 6]],
        )
        for part in range(3)
    ]
    common = ["--risk-action", "deny", "--refresh", "never", "--yes"]
    first = desk.bulk("run", "risk-action", files[0], *common)
    assert "more than 10" not in first.err
    # the second file of the day: the plan's header says that it is harmless, the rows and the day say more
    second = desk.bulk("run", "risk-action", files[1], *common)
    assert "warning: 12 denials (with 6 in runs of the last 24 hours) are more than 10" in second.err
    elsewhere = desk.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    third = desk.bulk("run", "risk-action", files[2], *common)
    assert "warning: 18 denials (with 12 in runs of the last 24 hours) are more than 10" in third.err


def test_a_row_that_is_sent_once_more_is_counted_once(desk, monkeypatch):
    """What is in doubt was perhaps sent, and is left to be sent: it is one denial all the same."""
    at_most(5, monkeypatch)
    desk.api.configure(faults="error@set_risk_action=1.0")
    listed = desk.risk_file(4)
    run = desk.bulk("run", "risk-action", listed, "--risk-action", "deny", "--refresh", "never", "--yes")
    assert (run.code, run.json["unknown"]) == (3, 4)
    desk.api.configure(faults="")
    resumed = desk.bulk("resume", "latest", "--yes")
    assert (resumed.code, resumed.json["applied"], "denials" in resumed.err) == (0, 4, False)


def test_a_day_of_small_files_is_refused_where_one_large_one_is(desk, monkeypatch):
    """The same on a live key, which a sandbox cannot have: what the service asks is asked of a live console."""
    rows = [{"customer_code": c["customer_code"], "risk_action": "deny"} for c in desk.customers(60)]
    at_most(40, monkeypatch)

    def live(tally, **how):
        return confirmation(tally, **{**how, "live": True})

    monkeypatch.setattr("paystack_source.bulk.consent.confirmation", live)
    frame_console = helpers.frame_console
    with desk.client() as client:
        settings = {"client": client, "copy": False, "progress": False}
        monkeypatch.setattr(helpers, "frame_console", lambda settings, *_: frame_console(settings, "live"))
        assert bulk_set_risk_action(rows[:30], **settings).complete
        with pytest.raises(ConfigError, match="more than 40 denials"):
            bulk_set_risk_action(rows[30:], **settings)
        assert bulk_set_risk_action(rows[30:], confirm=30, **settings).complete
