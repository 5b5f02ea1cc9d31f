"""The sandbox of `--sandbox`: its state is in a file, so that a command reads what an earlier one wrote."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from paystack_source.sandbox.local import Sandbox

STATE_NAME = "PAYSTACK_SANDBOX_STATE"
DEMO_CUSTOMERS = 5_000


def state_path(account: str | None = None) -> Path:
    """The path of the state: `PAYSTACK_SANDBOX_STATE`, or `paystack_sandbox.sqlite` beside the DuckDB file.

    Each account is an integration of its own, with a state of its own beside it: `paystack_sandbox_NAME.sqlite`.
    """
    path = Path(os.environ.get(STATE_NAME) or "paystack_sandbox.sqlite")
    return path.with_stem(f"{path.stem}_{account}") if account else path


def open_sandbox(customers: int | None = None, *, account: str | None = None) -> Sandbox:
    """A sandbox without long waits, with that state; a context manager.

    `customers`, or `DEMO_CUSTOMERS`, are invented when the state is new. Raises `StateUnusableError` while another
    command uses it.
    """
    number = zlib.crc32((account or "").encode()) % 400_000
    own = {"integration": 100_000 + number, "seed": number} if account else {}
    return Sandbox.for_demo(
        DEMO_CUSTOMERS if customers is None else customers, state=state_path(account), **own
    )
