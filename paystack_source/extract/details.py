"""What only the single fetch of a customer shows, as rows of two tables: one request per customer.

An `authorization_code` can be charged with the account's key, so it is a credential: it and the card's
`signature` are left out, and BVNs and account numbers are masked, unless asked for by name. The answer's
`transactions` and `subscriptions` are not kept: they belong to other endpoints, and a subscription holds an
authorization code.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa

from paystack_source.api import workers
from paystack_source.extract.arrow import TIME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from paystack_source.api.client import PaystackClient

HIDDEN = ("authorization_code", "signature")
MASKED = ("bvn", "account_number", "value")
"""What is left out, and what is shown by its last digits only, unless `include` names it."""

JSON_COLUMNS = ("identifications", "total_transaction_value", "dedicated_account", "dedicated_accounts")
_SKIPPED = {
    # other endpoints' matters, the second table, and what the list says as well
    "transactions", "subscriptions", "authorizations", "createdAt", "updatedAt", "created_at", "updated_at",
    "integration", "first_name", "last_name", "email", "phone", "metadata", "domain", "customer_code",
    "risk_action", "id",
}  # fmt: skip
_CARD = (
    "bin", "last4", "exp_month", "exp_year", "channel", "card_type", "bank", "country_code", "brand",
    "account_name",
)  # fmt: skip

DETAILS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("customer_code", pa.string()),
        ("found", pa.bool_()),
        ("identified", pa.bool_()),
        ("total_transactions", pa.int64()),
        *[(name, pa.string()) for name in JSON_COLUMNS],
        ("authorizations", pa.int64()),
        ("extra", pa.string()),
        ("row_updated_at", TIME),
        ("row_risk_action", pa.string()),
        ("fetched_at", TIME),
    ]
)
"""`row_…` is what the list said when the details were fetched: when that changes, they are fetched again."""

AUTHORIZATIONS_SCHEMA = pa.schema(
    [
        pa.field("customer_id", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        *[(name, pa.string()) for name in (*HIDDEN, *_CARD)],
        ("reusable", pa.bool_()),
        ("extra", pa.string()),
        ("removed_at", TIME),
    ]
)


class Due(NamedTuple):
    """A customer to fetch, and how many authorizations of theirs are held."""

    id: int
    code: str
    updated_at: datetime | None
    risk_action: str | None
    authorizations: int


Fetched = tuple[Due, dict[str, Any]]
"""A customer and Paystack's answer; `{}` if it does not know them."""


def fetch_all(client: PaystackClient, due: list[Due]) -> Iterator[Fetched]:
    """Fetch these customers side by side, within the client's quota; in the order in which answers come."""
    by_code = {one.code: one for one in due}
    with contextlib.closing(workers.fetch_all(client, by_code)) as found:
        for code, answer in found:
            yield by_code[code], answer or {}


def details_row(due: Due, answer: dict[str, Any], include: Collection[str], now: datetime) -> dict[str, Any]:
    """The customer's row of `customer_details`; what its columns cannot hold is in `extra`."""
    kept = _without_secrets({key: value for key, value in answer.items() if key not in _SKIPPED}, include)
    typed = {
        name: kept.pop(name, None)
        for name, kind in (("identified", bool), ("total_transactions", int))
        if isinstance(kept.get(name), kind | None)
    }
    return {
        "id": due.id,
        "customer_code": due.code,
        "found": bool(answer),
        **typed,
        **{name: _json(kept.pop(name, None)) for name in JSON_COLUMNS},
        "authorizations": len(_authorizations(answer)),
        "extra": _json(kept or None),
        "row_updated_at": due.updated_at,
        "row_risk_action": due.risk_action,
        "fetched_at": now,
    }


def authorization_rows(
    due: Due, answer: dict[str, Any], include: Collection[str], now: datetime
) -> Iterator[dict[str, Any]]:
    """A row each; those that were held and are no longer there are marked, never deleted."""
    found = _authorizations(answer)
    for position, authorization in enumerate(found, start=1):
        kept = _without_secrets(authorization, include)
        reusable = kept.pop("reusable", None)
        yield {
            "customer_id": due.id,
            "position": position,
            **{name: _text(kept.pop(name, None)) for name in (*HIDDEN, *_CARD)},
            "reusable": None if reusable is None else bool(reusable),
            "extra": _json(kept or None),
        }
    for position in range(len(found) + 1, due.authorizations + 1):
        yield {"customer_id": due.id, "position": position, "removed_at": now}


def _authorizations(answer: dict[str, Any]) -> list[dict[str, Any]]:
    given = answer.get("authorizations")
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def _without_secrets(value: Any, include: Collection[str]) -> Any:  # noqa: ANN401
    """The same, at any depth, with credentials left out and numbers of identity and accounts masked."""
    if isinstance(value, list):
        return [_without_secrets(item, include) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _masked(item) if key in MASKED and key not in include else _without_secrets(item, include)
        for key, item in value.items()
        if key not in HIDDEN or key in include
    }


def _masked(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict | list):
        return None
    return value if value is None or "*" in str(value) else f"*****{str(value)[-2:]}"


def _text(value: Any) -> str | None:  # noqa: ANN401
    return value if value is None or isinstance(value, str) else _json(value)


def _json(value: Any) -> str | None:  # noqa: ANN401
    return None if value is None else msgspec.json.encode(value).decode()
