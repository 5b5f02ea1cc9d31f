"""Switches and settings that contradict each other, or mean nothing: refused before anything is sent."""

from __future__ import annotations

import pandas as pd
import pytest

from paystack_source import ConfigError, bulk_set_risk_action, commands
from paystack_source.cli.bulk import main

DENY = ("--risk-action", "deny")


@pytest.mark.parametrize(
    "setting",
    [
        {"canary": "3"},
        {"canary": -1},
        {"canary": 2.5},
        {"canary": 5, "canary_share": 5},
        {"canary": 5, "canary_share": -0.1},
        {"canary": 5, "canary_share": float("nan")},
        {"canary_share": 0.1},
    ],
    ids=str,
)
def test_a_canary_that_could_not_stop_a_run_is_refused(desk, setting):
    frame = pd.DataFrame({"customer_code": [one["customer_code"] for one in desk.customers(6)]})
    with pytest.raises(ConfigError, match=r"[Cc]anary"):
        bulk_set_risk_action(frame, "deny", copy=False, progress=False, **setting)
    assert desk.api.write_log() == []


@pytest.mark.parametrize(
    "rules", [("--canary", "5", "--canary-max", "nan"), ("--canary-max", "5")], ids=" ".join
)
def test_so_it_is_on_the_command_line(desk, rules):
    said = desk.bulk("run", "risk-action", desk.risk_file(6), *DENY, "--yes", *rules)
    assert (said.code, desk.api.write_log()) == (2, [])
    assert "canary" in said.err


def test_a_plan_may_be_of_any_age_that_is_a_number(desk):
    plan = desk.folder / "old.plan"
    desk.bulk("plan", "risk-action", desk.risk_file(2), *DENY, "--out", plan)
    assert desk.bulk("apply", plan, "--yes", "--max-age", "nan").code == 2
    assert desk.api.write_log() == []
    assert desk.bulk("apply", plan, "--yes", "--max-age", "inf").code == 0


def test_a_blank_name_is_no_run(desk):
    assert desk.bulk("run", "risk-action", desk.risk_file(2), *DENY, "--yes", "--refresh", "live").code == 0
    for command in (("undo", "", "--yes"), ("resume", " ", "--yes"), ("status", "")):
        said = desk.bulk(*command)
        assert (said.code, "blank" in said.err) == (2, True)
    assert len(desk.api.write_log()) == 2
    for switch in ("--refresh", "--verify"):
        said = desk.bulk("status", switch)
        assert (said.code, "is for one run" in said.err) == (2, True)


def test_a_plan_needs_a_name_that_is_free(desk):
    listed = desk.risk_file(2)
    for out in (".", "/", ""):
        said = desk.bulk("plan", "risk-action", listed, *DENY, "--out", out)
        assert (said.code, said.json["error"]) == (2, "ConfigError")
    missing = desk.bulk("review", desk.folder / "none.plan")
    assert (missing.code, "There is no plan" in missing.err) == (2, True)


@pytest.mark.parametrize(
    "switches", [("--sheet", "June"), ("--metadata", "replace"), ("--only-missing",)], ids=" ".join
)
def test_what_means_nothing_for_this_file_or_operation_is_refused(desk, switches):
    said = desk.bulk("plan", "risk-action", desk.risk_file(2), *DENY, *switches)
    assert (said.code, "out" in said.err or "for update" in said.err) == (2, True)


def test_how_a_csv_is_cut_means_nothing_for_parquet(desk):
    file = desk.folder / "customers.parquet"
    pd.DataFrame({"customer_code": [desk.customers(1)[0]["customer_code"]]}).to_parquet(file)
    assert desk.bulk("plan", "risk-action", file, *DENY, "--encoding", "utf-8").code == 2
    assert desk.bulk("plan", "risk-action", file, *DENY).code == 0


@pytest.mark.parametrize(
    "typed", [["run", "update", "x.csv"], ["apply", "x.plan"], ["resume", "latest"], ["undo", "latest"]]
)
def test_a_printed_command_repeats_no_switch_that_is_as_by_default(typed):
    name, *words = typed
    chosen = main.commands[name].make_context(name, [*words]).params
    printed = commands.command(f"bulk {name}", chosen, *words)
    assert printed == f"python pipelines/bulk.py {' '.join(typed)}"
