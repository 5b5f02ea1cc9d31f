"""A run that is killed in the middle of loading goes on where it stopped: any warehouse, any machine."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from paystack_source.warehouse import bucket_lease
from paystack_source.warehouse.destinations import read_table
from tests.events import PATIENCE
from tests.processes import python
from tests.warehouses.test_copy import assert_same, copy, held, truth

# Copies in loads of some 150 customers; dies when a load is in the warehouse and dlt has not noted it yet.
DRIVER = """
import os, signal, sys
import dlt
from dlt.load import Load
from paystack_source import PaystackClient
from paystack_source.warehouse.sync import copy_customers
from paystack_source.warehouse.copying import Limits
from tests.processes import python

destination, machine, key, url, deadly = sys.argv[1:]
noted, packages = Load.complete_package, []

def complete_package(self, load_id, schema, *args, **kwargs):
    packages.append(load_id)
    if len(packages) == int(deadly):
        os.kill(os.getpid(), signal.SIGKILL)
    return noted(self, load_id, schema, *args, **kwargs)

Load.complete_package = complete_package
pipeline = dlt.pipeline(
    "paystack_customers", destination=destination, dataset_name="paystack", pipelines_dir=machine
)
with PaystackClient(key, base_url=url, quota=0, read_only=True) as client:
    copy_customers(pipeline, client, limits=Limits(rows=150, slow_rows=150), refresh_budget=0)
"""


@pytest.mark.parametrize(
    ("kind", "goes_on"),
    [
        ("parquet", "here"),
        ("delta-s3", "elsewhere"),
        ("iceberg", "elsewhere"),
    ],
)
def test_a_killed_run_goes_on(kind, goes_on, sandbox, warehouse, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket_lease, "LEASE_SECONDS", 2.0)  # the killed one holds a bucket for so long
    api = sandbox(customers=400, seed=5)
    place = warehouse(kind)
    killed = run_until_killed(place, tmp_path / "here", api, deadly=2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    asked = api.stats.total

    report = copy(place, tmp_path / goes_on, api)

    assert (report.complete, report.warehouse_total) == (True, 400)
    assert_same(held(place, tmp_path / goes_on), truth(api))
    # 400 customers are four pages; what the killed run had loaded for good is not asked for again.
    assert report.requests < asked
    ledger = read_table(place.pipeline(tmp_path / goes_on), "ledger").to_pylist()
    assert len({line["entry_id"] for line in ledger}) == len(ledger)


def run_until_killed(place, machine: Path, api, *, deadly: int) -> subprocess.CompletedProcess:
    return subprocess.run(
        [python(), "-c", DRIVER, place.destination, str(machine), api.secret_key, api.url, str(deadly)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
