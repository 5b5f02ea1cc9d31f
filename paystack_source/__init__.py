"""Customers of a Paystack integration: a provably complete copy in a warehouse, and safe bulk changes back.

    import dlt
    from paystack_source import paystack_source

    pipeline = dlt.pipeline("paystack_customers", destination="duckdb", dataset_name="paystack")
    pipeline.run(paystack_source())

Every public name is listed here, and the errors in `errors`. Slow modules are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from paystack_source import errors
from paystack_source.errors import *  # noqa: F403  # what its `__all__` lists

if TYPE_CHECKING:
    from paystack_source.api.client import PaystackClient
    from paystack_source.api.models import IdentificationType, RiskAction
    from paystack_source.helpers import (
        BulkResult,
        bulk_create,
        bulk_deactivate_authorization,
        bulk_set_risk_action,
        bulk_update,
        bulk_validate,
    )
    from paystack_source.source import paystack_source
    from paystack_source.warehouse.sync import CopyReport, copy_customers

__all__ = [
    "BulkResult",
    "CopyReport",
    "IdentificationType",
    "PaystackClient",
    "RiskAction",
    "bulk_create",
    "bulk_deactivate_authorization",
    "bulk_set_risk_action",
    "bulk_update",
    "bulk_validate",
    "copy_customers",
    "paystack_source",
]
__all__ += errors.__all__

_MODULES = {
    "PaystackClient": "api.client",
    "IdentificationType": "api.models",
    "RiskAction": "api.models",
    "BulkResult": "helpers",
    "bulk_create": "helpers",
    "bulk_deactivate_authorization": "helpers",
    "bulk_set_risk_action": "helpers",
    "bulk_update": "helpers",
    "bulk_validate": "helpers",
    "CopyReport": "warehouse.sync",
    "copy_customers": "warehouse.sync",
    "paystack_source": "source",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
