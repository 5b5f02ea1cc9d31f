"""Fixtures that many tests share."""

from __future__ import annotations

import functools
import gc
import sys
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


def pytest_collection_finish() -> None:
    gc.freeze()  # so that looking for rubbish does not go through all that was imported
    _remember_type_hints()


def _remember_type_hints() -> None:
    """dlt finds out anew what a type hint means whenever it reads a setting: a fifth of every load of the tests."""
    module = "dlt.common.configuration.specs.base_configuration"
    for name in ("extract_inner_hint", "is_secret_hint") if module in sys.modules else ():
        original = getattr(sys.modules[module], name)
        users = [user for path, user in sys.modules.items() if path.partition(".")[0] == "dlt"]
        for user in users:
            if vars(user).get(name) is original:
                setattr(user, name, _remembered(original))


def _remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    cached = functools.cache(function)

    @functools.wraps(function)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return cached(*args, **kwargs)
        except TypeError:  # a hint that cannot be a key
            return function(*args, **kwargs)

    return answer


# What takes longest begins first, so that all workers end at the same time.
SLOW = [
    "docs/test_commands.py",
    "warehouses/test_copy.py",
    "pipeline/test_copying.py",
    "test_canary.py",
    "notebooks/test_bulk_notebook.py",
    "notebooks/test_customers_notebook.py",
    "pipeline/test_history_details_refresh.py",
    "warehouses/test_dlt_users.py",
    "bulk_run/test_audit.py",
    "warehouses/test_kill.py",
    "pipeline/test_customers_command.py",
    "test_benchmarks_smoke.py",
    "warehouses/test_reading.py",
    "pipeline/test_place.py",
    "extract/test_completeness.py",
    "extract/test_extraction.py",
    "bulk_run/test_simulation.py",
    "bulk_run/test_killed.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {f"tests/{name}": rank for rank, name in enumerate(SLOW)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))
