"""Seeded schedules of faults and kills: nothing lost, nothing claimed wrongly, nothing unrepeatable twice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.run.states import Outcome
from tests.bulk_run.simulation import Simulation

SEEDS = int(os.environ.get("PAYSTACK_SEEDS", "30"))  # of each operation
SHM = Path("/dev/shm")


@pytest.mark.parametrize("operation", BULK_OPERATIONS)
def test_every_schedule_ends_with_true_claims(operation: str) -> None:
    folder = SHM if SHM.is_dir() else None
    deaths = 0
    with tempfile.TemporaryDirectory(dir=folder) as path:
        for seed in range(SEEDS):
            simulation = Simulation(operation, seed, Path(path))
            claims = simulation.to_the_end()
            deaths += simulation.sessions - 1
            allowed = {Outcome.APPLIED, Outcome.REJECTED}
            if operation == "validate":
                allowed = {Outcome.ACCEPTED_PENDING, Outcome.REJECTED, Outcome.UNKNOWN}
            if operation in ("create", "deactivate-authorization"):
                allowed |= {Outcome.UNKNOWN}
            assert set(claims.values()) <= allowed, (operation, seed, claims)
            simulation.path.unlink()
    assert deaths > SEEDS // 4  # the schedules did interrupt
