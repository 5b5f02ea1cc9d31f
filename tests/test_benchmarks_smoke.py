"""The benchmark harness must not rot: a small version of it runs here, from sandbox to report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.events import PATIENCE

ROOT = Path(__file__).resolve().parent.parent


def test_quick_benchmarks_run_and_are_reported(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "run.py", "--quick", "--into", tmp_path]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    results = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "results").glob("*.json")}
    copied = {run["peer"]: run["lost"] for run in results["latency"]}
    assert copied == {"product": 0, "floor": 0, "naive": 0}
    changed = {run["peer"]: run["done"] for run in results["bulk-latency"]}
    assert changed == {"product": 100, "threads": 100}
    assert results["empty"][0]["requests"] <= 3
    report = (tmp_path / "RESULTS.md").read_text()
    assert "paystack-source" in report
    assert "requests + pandas" in report
    assert (tmp_path / "results" / "plot.svg").read_text().startswith("<?xml")


def test_the_pattern_of_many_accounts_runs(tmp_path):
    command = [
        sys.executable,
        ROOT / "benchmarks" / "many_accounts.py",
        "--accounts",
        "1",
        "--customers",
        "20",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["round"], each["proven"], each["customers"]) for each in rounds] == [
        ("first copy", 1, 20),
        ("nothing new", 1, 20),
        ("3 new", 1, 23),
    ]
