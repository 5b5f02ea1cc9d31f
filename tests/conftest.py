"""Fixtures that many tests share."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from paystack_source.sandbox import Sandbox
from tests import processes
from tests.quick_dlt import make_quick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How long an example takes, or is searched for, says nothing on a machine that has other work.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture
def sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes: `sandbox(customers=50, to_bound="inclusive")`. No quota unless a test asks for it."""
    with ExitStack() as stack:

        def start(customers: int = 50, **options: Any) -> Sandbox:
            return stack.enter_context(Sandbox(customers, **({"limit": 0} | options)))

        yield start


@pytest.fixture
def of_another_user() -> Iterator[Callable[[Path], Path]]:
    """Copies a file that the tests may not open from then on, as if it belonged to somebody else."""
    root = os.geteuid() == 0  # whom no mode keeps from a file
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)

        def copied(path: Path) -> Path:
            copy = Path(shutil.copy(path, folder))
            copy.chmod(0o000)
            if root:
                os.seteuid(65534)
            return copy

        yield copied
        if root:
            os.seteuid(0)


@pytest.fixture
def dlt_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What dlt's log holds at the level INFO."""
    log = logging.getLogger("dlt")
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(caplog.handler)
    yield caplog
    log.removeHandler(caplog.handler)
    log.setLevel(level)


@pytest.fixture(scope="session")
def registers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders, one after the other: `mktemp` looks at all that are there for the next number."""
    folder = tmp_path_factory.mktemp("states")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_register(registers: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The register of applied plans is the test's own, not that of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(next(registers)))


make_quick()
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")  # tests ask nobody but this machine

# A shell that starts the tests in the background lets them ignore Ctrl-C, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Small files in memory where there is room: a disk is asked thousands of times to write them down for good.
MEMORY = "/dev/shm"
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 6e9:
    os.environ["TMPDIR"] = tempfile.tempdir = MEMORY

# Commands that tests start would compile the package anew each time, and pytest the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


TESTS = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """One process forks the commands of all workers, and what one worker has compiled the others need not."""
    worker = getattr(config, "workerinput", None)
    if worker is None:
        processes.offer()
    elif [Path(argument).resolve() for argument in config.args] == [TESTS]:
        parts = sorted(
            str(path) for path in TESTS.iterdir() if path.is_dir() or path.name.startswith("test_")
        )
        begin = len(parts) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        config.args[:] = parts[begin:] + parts[:begin]


def pytest_collection_finish() -> None:
    gc.freeze()  # so that looking for rubbish does not go through all that was imported


# What takes longest begins first, so that all workers end at the same time.
SLOW = [
    "warehouses/test_interrupted.py",
    "docs/test_commands.py",
    "warehouses/test_copy.py",
    "pipeline/test_copying.py",
    "test_canary.py",
    "notebooks/test_bulk_notebook.py",
    "notebooks/test_customers_notebook.py",
    "warehouses/test_dlt_users.py",
    "bulk_run/test_copies.py",
    "pipeline/test_history_details_refresh.py",
    "bulk_run/test_audit.py",
    "warehouses/test_kill.py",
    "pipeline/test_customers_command.py",
    "test_benchmarks_smoke.py",
    "warehouses/test_reading.py",
    "accounts/test_commands.py",
    "warehouses/test_accounts.py",
    "pipeline/test_place.py",
    "extract/test_completeness.py",
    "extract/test_extraction.py",
    "bulk_run/test_swapped_input.py",
    "bulk_run/test_fed_back.py",
    "bulk_run/test_once.py",
    "bulk_plan/test_plan.py",
    "bulk_run/test_command.py",
    "warehouses/test_sandbox_apart.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {f"tests/{name}": rank for rank, name in enumerate(SLOW)}
    files = {item: item.nodeid.partition("::")[0] for item in items}
    items.sort(key=lambda item: (ranks.get(files[item], len(ranks)), files[item]))
