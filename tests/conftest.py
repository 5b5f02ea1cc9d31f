"""Fixtures that many tests share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from paystack_source.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes: `sandbox(customers=50, to_bound="inclusive")`. No quota unless a test asks for it."""
    with ExitStack() as stack:

        def start(customers: int = 50, **options: Any) -> Sandbox:
            return stack.enter_context(Sandbox(customers, **({"limit": 0} | options)))

        yield start
