"""Interrupted at any step, by any signal, at either door, in any warehouse: the next run goes on by itself.

A few steps of each, spread over the run; all of them with PAYSTACK_EVERY_STEP=1, which takes minutes.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paystack_source.destinations import read_table
from tests.warehouses.test_copy import assert_same, held, truth

NEVER = 1_000_000
EVERY = "PAYSTACK_EVERY_STEP" in os.environ


class Runs:
    """Runs at one door, each as a process of its own."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def run(self, machine: Path, step: int = NEVER, kind: int = signal.SIGKILL, dataset="paystack") -> int:
        self._process.stdin.write(f"{int(kind)} {step} {dataset} {machine}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def runs(door: str, place, api) -> Iterator[Runs]:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.warehouses.interrupting_driver",
            door,
            place.destination,
            api.secret_key,
            api.url,
        ],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Runs(process)
        finally:
            process.stdin.close()


@pytest.mark.parametrize("door", ["command", "plain"])
@pytest.mark.parametrize("kind", ["duckdb", "postgres", "delta"])
def test_interrupted_at_any_step_the_next_run_goes_on(kind, door, sandbox, warehouse, tmp_path):
    api, place, machine = sandbox(customers=200, seed=5), warehouse(kind), tmp_path / "here"
    stride = 1 if EVERY else 17
    with runs(door, place, api) as copying:
        for signal_ in (signal.SIGKILL, signal.SIGTERM):
            step, ended = 1 if EVERY else 3, None
            while ended != 0:
                ended = copying.run(machine, step, signal_)
                again = copying.run(machine)
                assert (step, signal_, again) == (step, signal_, 0)
                assert len(held(place, machine)) == len(truth(api)), (step, signal_)
                api.add_customers(3)
                step += stride
        assert copying.run(machine) == 0
    assert_same(held(place, machine), truth(api))
    assert_proven(place, machine, len(truth(api)))


def assert_proven(place, machine: Path, customers: int) -> None:
    pipeline = place.pipeline(machine)
    ledger = read_table(pipeline, "ledger").to_pylist()
    assert len({line["entry_id"] for line in ledger}) == len(ledger)
    newest = max((line for line in ledger if line["kind"] == "count"), key=lambda line: line["verified_at"])
    assert (newest["proven"], newest["api_total"]) == (True, customers)
    versions = read_table(pipeline, "customers_history").to_pylist()
    assert sorted(row["id"] for row in versions if row["_valid_to"] is None) == sorted(held(place, machine))
