"""Raw results: one JSON file per scenario under benchmarks/results/, appended to run by run."""

import datetime as dt
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PACKAGES = ("dlt", "duckdb", "pyarrow", "msgspec", "urllib3", "aiohttp", "pandas")


class Book:
    """The results of one scenario."""

    def __init__(self, name, *, record=True):
        self.path = RESULTS / f"{name}.json"
        self.record = record
        self.runs = json.loads(self.path.read_text()) if record and self.path.exists() else []

    def forget(self, peers=None):
        self.runs = [run for run in self.runs if peers and run["peer"] not in peers]
        self.save()

    def add(self, peer, **facts):
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self.runs.append({"peer": peer, "at": now, "commit": commit()} | facts)
        self.save()

    def save(self):
        if self.record:
            RESULTS.mkdir(parents=True, exist_ok=True)
            lines = ",\n".join(json.dumps(run, sort_keys=False) for run in self.runs)
            self.path.write_text(f"[\n{lines}\n]\n" if lines else "[]\n")
            (RESULTS / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")

    @staticmethod
    def counts(run, peer):
        return run["peer"] == peer and run.get("fine", True) and run.get("kind") != "start"

    def of(self, peer, last=5):
        """The latest finished runs of one peer."""
        return [run for run in self.runs if self.counts(run, peer)][-last:]


def commit(name="HEAD"):
    """The short name of a commit."""
    answer = subprocess.run(
        ["git", "rev-parse", "--short", name],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip()


def machine():
    model = "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }
