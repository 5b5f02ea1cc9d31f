"""The sandbox behind `--sandbox`: one state file, so that what one command writes the next one reads."""

from __future__ import annotations

import os
from pathlib import Path

from paystack_source.sandbox.local import Sandbox

STATE_NAME = "PAYSTACK_SANDBOX_STATE"
DEMO_CUSTOMERS = 5_000


def state_path() -> Path:
    """Where the state is: `PAYSTACK_SANDBOX_STATE`, or `paystack_sandbox.sqlite` beside the DuckDB file."""
    return Path(os.environ.get(STATE_NAME) or "paystack_sandbox.sqlite")


def open_sandbox(customers: int = DEMO_CUSTOMERS) -> Sandbox:
    """A sandbox nobody has to wait for, on that state; a context manager.

    `customers` are invented when the state is new. Raises `StateUnusableError` while another command has it.
    """
    return Sandbox.for_demo(customers, state=state_path())
