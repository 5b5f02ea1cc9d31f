"""Reads a customer to learn what became of a row: pure comparisons around one fetch each.

`ReadBack(client, row, secrets, since)` answers for a row whose answer was lost; `Settle(client, row)` for a
row that was accepted and gets its verdict later. Where a read cannot tell, they say so; they never guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from paystack_source.errors import NotFound

if TYPE_CHECKING:
    from paystack_source.api.client import PaystackClient
    from paystack_source.bulk.plan.plan import PlanRow

Seen = Literal["applied", "not_applied", "unknown"]
Verdict = Literal["verified", "failed", "pending"]
ReadBack = Callable[["PaystackClient", "PlanRow", Mapping[str, Any], datetime | None], Seen]
Settle = Callable[["PaystackClient", "PlanRow"], Verdict]

# Our clock and Paystack's need not agree; a customer older than this before the intent was there already.
_SKEW = timedelta(minutes=2)


EMPTY: Final[tuple[object, ...]] = (None, "", {}, "{}")


def same(wanted: object, held: object) -> bool:
    """Whether Paystack holds what was asked for.

    What is `EMPTY` is alike; objects compare without key order.
    """
    return canonical(wanted) == canonical(held) or (wanted in EMPTY and held in EMPTY)


def canonical(value: object) -> bytes:
    """JSON with sorted keys: `1` is not `true`, and key order does not matter."""
    return msgspec.json.encode(value, order="sorted")


def fields_hold(
    client: PaystackClient,
    row: PlanRow,
    secrets: Mapping[str, Any],  # noqa: ARG001 - one shape for all
    since: datetime | None,  # noqa: ARG001
) -> Seen:
    """For operations that set a state: applied if every field of the row is as wanted."""
    try:
        held = client.fetch(row.customer_code or row.key).data
    except NotFound:
        return "not_applied"
    if held is None:
        return "unknown"
    return "applied" if all(same(value, held.get(name)) for name, value in row.new.items()) else "not_applied"


def customer_appeared(
    client: PaystackClient,
    row: PlanRow,
    secrets: Mapping[str, Any],  # noqa: ARG001
    since: datetime | None,
) -> Seen:
    """For create: not applied if there is no such customer, applied if it appeared after the request left.

    A customer that was there before proves nothing about the lost request.
    """
    try:
        held = client.fetch(row.key).data
    except NotFound:
        return "not_applied"
    if held is None or since is None or born_before(held, since) is not False:
        return "unknown"
    wanted = {name: value for name, value in row.new.items() if name != "email"}
    return "applied" if all(same(value, held.get(name)) for name, value in wanted.items()) else "unknown"


def born_before(customer: Mapping[str, Any], moment: datetime) -> bool | None:
    """Whether the customer was there before, give or take what clocks differ; None if they do not say."""
    born = _time(customer.get("createdAt") or customer.get("created_at"))
    return None if born is None else born < moment - _SKEW


def authorization_gone(
    client: PaystackClient,
    row: PlanRow,
    secrets: Mapping[str, Any],
    since: datetime | None,  # noqa: ARG001
) -> Seen:
    """For deactivations: looks for the code at the customer, if the input names one."""
    name = row.customer_code or row.email
    code = secrets.get("authorization_code")
    if not name or not code:
        return "unknown"
    try:
        held = client.fetch(name).data
    except NotFound:
        return "unknown"
    listed = (held or {}).get("authorizations")
    if not isinstance(listed, list):
        return "unknown"
    mine = [a for a in listed if isinstance(a, dict) and a.get("authorization_code") == code]
    if not mine:  # gone, or never this customer's: a repeat tells, and is harmless
        return "unknown"
    return "applied" if all(a.get("active") is False for a in mine) else "not_applied"


def identity_verdict(client: PaystackClient, row: PlanRow) -> Verdict:
    """For identity checks: what the fetched customer says by now (`identified`, `identifications`)."""
    try:
        held = client.fetch(row.customer_code or row.key).data or {}
    except NotFound:
        return "pending"
    if held.get("identified") is True:
        return "verified"
    listed = held.get("identifications")
    found = [i for i in (listed if isinstance(listed, list) else [listed]) if isinstance(i, dict)]
    return "failed" if any(str(i.get("status", "")).lower() == "failed" for i in found) else "pending"


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
