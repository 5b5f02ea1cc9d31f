"""The benchmark harness must not rot: a small version of it runs here, from sandbox to report."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.events import PATIENCE
from tests.processes import python

ROOT = Path(__file__).resolve().parent.parent
# What they start need not import anything first, either.
START = "import runpy, sys; sys.executable, *sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def benchmark(folder, script, *arguments):
    command = [python(), "-c", START, python(), ROOT / "benchmarks" / script, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_quick_benchmarks_run_and_are_reported(tmp_path):
    benchmark(tmp_path, "run.py", "--quick", "--into", tmp_path)
    results = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "results").glob("*.json")}
    copied = {run["peer"]: run["lost"] for run in results["latency"]}
    assert copied == {"product": 0, "floor": 0, "naive": 0}
    changed = {run["peer"]: run["done"] for run in results["bulk-latency"]}
    assert changed == {"product": 100, "threads": 100}
    found = next(run for run in results["empty"] if run["peer"] == "product")
    assert found["requests"] <= 3
    assert found["lost"] == 0
    report = (tmp_path / "RESULTS.md").read_text()
    assert "paystack-source" in report
    assert "requests + pandas" in report
    assert (tmp_path / "results" / "plot.svg").read_text().startswith("<?xml")


def test_the_pattern_of_many_accounts_runs(tmp_path):
    said = benchmark(tmp_path, "many_accounts.py", "--accounts", "1", "--customers", "20")
    rounds = [json.loads(line) for line in said.splitlines()]
    assert [(each["round"], each["proven"], each["customers"]) for each in rounds] == [
        ("first copy", 1, 20),
        ("nothing new", 1, 20),
        ("3 new", 1, 23),
    ]
