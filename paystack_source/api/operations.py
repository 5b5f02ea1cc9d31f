"""The table of the seven customer operations, and the policy which of them a client may use.

A transport sends only operations of this table, so that ``/transfer`` and ``/charge`` cannot be reached
even by a mistake, and a client made with ``read_only=True`` cannot reach a write. Paths: PaystackOSS/openapi
and the docs; the old ``/customer/deactivate_authorization`` does not exist any more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from paystack_source.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. Each has its own quota: "for each endpoint" (beta.paystack.com/docs/api/rate-limits)."""

    name: str
    method: Literal["GET", "POST", "PUT"]
    template: str

    @property
    def writes(self) -> bool:
        """Whether it can change something at Paystack."""
        return self.method != "GET"

    def path(self, part: str | None = None) -> str:
        """The path, with the part quoted so that it stays one segment. Raises :class:`ConfigError`."""
        if "{" not in self.template:
            return self.template
        usable = isinstance(part, str) and part.isprintable() and part.strip() and part not in {".", ".."}
        if part is None or not usable:
            raise ConfigError(f"{self.name} needs a customer code or an email", operation=self.name)
        head, _, rest = self.template.partition("{")
        return head + quote(part, safe="") + rest.partition("}")[2]


_TABLE = (
    Operation("list", "GET", "/customer"),
    Operation("fetch", "GET", "/customer/{email_or_code}"),
    Operation("create", "POST", "/customer"),
    Operation("update", "PUT", "/customer/{code}"),
    Operation("validate", "POST", "/customer/{code}/identification"),
    Operation("set_risk_action", "POST", "/customer/set_risk_action"),
    Operation("deactivate_authorization", "POST", "/customer/authorization/deactivate"),
)

OPERATIONS = MappingProxyType({operation.name: operation for operation in _TABLE})
READS = frozenset(operation.name for operation in _TABLE if not operation.writes)


class Policy:
    """The operations that one client may use; any other request is refused before it is sent."""

    def __init__(self, *, read_only: bool = False, operations: Collection[str] | None = None) -> None:
        if isinstance(operations, str):  # one name, and no set of letters
            operations = {operations}
        wanted = frozenset(OPERATIONS) if operations is None else frozenset(operations)
        if unknown := wanted - frozenset(OPERATIONS):
            raise ConfigError(
                f"Unknown operations: {sorted(unknown)}", advice=f"Known: {', '.join(OPERATIONS)}."
            )
        self.allowed = wanted & READS if read_only else wanted

    def check(self, operation: Operation) -> None:
        """Raise :class:`ConfigError` unless this very entry of the table is allowed."""
        if OPERATIONS.get(operation.name) is operation and operation.name in self.allowed:
            return
        raise ConfigError(
            f"This client may not reach {operation.name}; it was made for: {', '.join(sorted(self.allowed))}",
            advice="Make the client without read_only, or with operations= that include it.",
            operation=operation.name,
        )
