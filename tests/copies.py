"""A copy that many tests begin with: made once per process, and laid into the working folder of each of them."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext

from paystack_source.api.client import PaystackClient
from paystack_source.sandbox import Sandbox
from paystack_source.warehouse.sync import copy_customers, open_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlt import Pipeline

UNTIL = time.time()
"""With it and its seed a sandbox has the same customers each time."""


def begin_copied(
    sandbox: Callable[..., Sandbox], customers: int, *, place: str = "", history: bool = False
) -> tuple[Pipeline, Sandbox]:
    """A sandbox, and the pipeline of a machine that has copied it once. `place` is dlt's setting for DuckDB.

    The working folder is the test's own, and `DLT_DATA_DIR` its folder `dlt`. What is copied is among such folders.
    """
    here = Path.cwd()
    made = _copied(customers, place, history, here.parent)
    assert os.environ["DLT_DATA_DIR"] == str(here / "dlt")
    shutil.copytree(made, here, dirs_exist_ok=True)
    for file in (here / "dlt").rglob("*"):  # dlt's state names the working folder
        if file.suffix in {".json", ".place"}:
            file.write_bytes(file.read_bytes().replace(os.fsencode(made), os.fsencode(here)))
    return open_pipeline("duckdb", "paystack"), sandbox(customers=customers, until=UNTIL)


@functools.cache
def _copied(customers: int, place: str, history: bool, among: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="copied-", dir=among)).resolve()
    with Sandbox(customers, until=UNTIL, limit=0) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DLT_DATA_DIR", str(folder / "dlt"))
        if place:
            patch.setenv("DESTINATION__DUCKDB__CREDENTIALS", place)
        context = Container()[PluggableRunContext]
        folder_before = context.context.run_dir
        context.reload(str(folder))  # dlt remembers a folder of its own
        with PaystackClient(server.secret_key, base_url=server.url, quota=0, read_only=True) as client:
            copy_customers(open_pipeline("duckdb", "paystack"), client, history=history, refresh_budget=0)
        context.reload(folder_before)
    return folder
