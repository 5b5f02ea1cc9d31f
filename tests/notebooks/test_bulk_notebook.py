"""notebooks/bulk_risk_actions.ipynb, run from scratch: what it shows is what happened in the sandbox it started."""

import os
import re
import shutil
import subprocess

import nbformat
import pytest

from paystack_source.sandbox import Sandbox
from tests.notebooks import running
from tests.processes import python


@pytest.fixture
def bulk(shown):
    return shown("bulk_risk_actions")


def by_action(bulk):
    """The closing table: how many customers have which risk action, after each step."""
    cell = next(cell for cell in bulk.notebook.cells if cell.source.startswith("pd.concat(counts"))
    lines = cell.outputs[0].data["text/plain"].splitlines()
    names = lines[0].split()
    return {line.split()[0]: dict(zip(names, map(int, line.split()[1:]), strict=True)) for line in lines[2:]}


def test_the_difference_is_shown_before_anything_is_sent(bulk):
    shown = bulk.text()
    assert len(bulk.frames["regulars"]) >= 50
    assert re.search(r"^send +\d+$", shown, flags=re.MULTILINE)
    assert "old_risk_action" in shown
    assert "new_risk_action" in shown


def test_what_was_chosen_by_a_query_is_applied_with_progress(bulk):
    rows = len(bulk.frames["regulars"])
    run = bulk.frames["runs"][0]
    assert run["rows"] == rows == run["applied"] + run["skipped_noop"]
    assert run["applied"] > 50
    assert run["requests"] == run["applied"]
    assert f"Set risk actions: {run['applied']:,} of {run['applied']:,} rows (100 %)" in bulk.text()


def test_mistakes_of_a_csv_are_named_before_anything_is_sent(bulk):
    shown = bulk.text()
    assert "line 9, Risk Action: is none of allow, deny, default (block)" in shown
    assert "line 5: Paystack has no such customer" in shown
    assert shown.count("nothing was sent") == 2


def test_the_refused_row_is_corrected_and_sent_again(bulk):
    _, first, again, repeated, _ = bulk.frames["runs"]
    assert (first["input"], first["rows"], first["applied"], first["rejected"]) == (
        "chargebacks.csv",
        12,
        11,
        1,
    )
    assert (again["rows"], again["applied"]) == (1, 1)
    assert (repeated["rows"], repeated["skipped_noop"], repeated["requests"]) == (12, 12, 0)
    assert re.search(r"rejected +invalid_params", bulk.text())


def test_the_undo_puts_back_what_the_first_run_changed(bulk):
    runs = bulk.frames["runs"]
    assert [run["is_undo"] for run in runs] == [False, False, False, False, True]
    assert runs[-1]["applied"] == runs[0]["applied"]
    assert sum(run["unknown"] for run in runs) == 0


def test_every_step_shows_in_the_warehouse(bulk):
    allowed = bulk.frames["runs"][0]["applied"]
    actions = by_action(bulk)
    assert actions["allow"]["regulars_allowed"] - actions["allow"]["at_first"] == allowed
    assert actions["deny"]["chargebacks_denied"] - actions["deny"]["regulars_allowed"] == 12
    assert actions["allow"]["regulars_undone"] == actions["allow"]["at_first"]
    assert actions["default"]["regulars_undone"] == actions["default"]["at_first"] - 12
    assert len({sum(action[step] for action in actions.values()) for step in actions["allow"]}) == 1


def test_the_story_of_one_customer_is_one_query(bulk):
    story = [(row["outcome"], row["was"], row["became"]) for row in bulk.frames["story"]]
    assert story == [("applied", "default", "deny"), ("skipped_noop", "deny", "deny")]


def test_without_the_demo_it_works_in_the_repository_and_keeps_its_runs(place, tmp_path):
    """As somebody with an account of their own runs it: started in `notebooks`, key and copy are in the folder above."""
    repository, made = tmp_path / "repository", running.copies(place) / "seeded"
    shutil.copytree(running.NOTEBOOKS, repository / "notebooks")
    shutil.copy(made / "paystack_customers.duckdb", repository)
    shutil.copy(made / "paystack_sandbox.sqlite", tmp_path / "state.sqlite")
    notebook = nbformat.read(running.NOTEBOOKS / "bulk_risk_actions.ipynb", nbformat.NO_CONVERT)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    (demo,) = (source for source in code if source.startswith("# DEMO: delete this cell"))
    code.remove(demo)
    environment = {name: value for name, value in os.environ.items() if not re.search("PAYSTACK|DLT", name)}
    environment["DLT_DATA_DIR"] = str(tmp_path / "dlt")

    def run(*, send):
        done = subprocess.run(
            [python(), "-c", "\n".join(code).replace("SEND = False", f"SEND = {send}")],
            cwd=repository / "notebooks",
            env=environment | {"PYTHONPATH": f"{running.ROOT}:{repository / 'notebooks'}"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr

    with Sandbox(state=tmp_path / "state.sqlite", limit=0) as api:
        (repository / ".dlt").mkdir()
        (repository / ".dlt" / "secrets.toml").write_text(
            f'[sources.paystack]\nsecret_key = "{api.secret_key}"\nbase_url = "{api.url}"\n'
        )
        before = list(api.customers_truth())
        assert "Nothing was sent" in run(send=False)
        assert list(api.customers_truth()) == before
        said = run(send=True)
        after = list(api.customers_truth())
    # The part with the mistakes stops it: it is the demo's alone, and denies nobody here.
    assert "name 'client' is not defined" in said
    changed = [
        new for old, new in zip(before, after, strict=True) if old["risk_action"] != new["risk_action"]
    ]
    assert {person["risk_action"] for person in changed} == {"allow"}
    (kept,) = (repository / "paystack_results").glob("*-risk-action-*")
    assert {"journal.sqlite", "results.csv"} <= {file.name for file in kept.iterdir()}


def test_nothing_is_said_on_standard_error(bulk):
    assert not [output for output in running.outputs(bulk.notebook) if output.get("name") == "stderr"]
