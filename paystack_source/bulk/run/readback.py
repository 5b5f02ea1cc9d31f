"""Reads a customer to find out the outcome of a row, with one fetch each.

`ReadBack(fetch, row, secrets, since)` is for a row whose answer was lost: it returns `FOUND`, `ABSENT`, `LOCKED`, or
`UNCLEAR` if a read cannot decide. `Settle(fetch, row)` is for a row that was accepted: it returns `VERIFIED`, `FAILED`,
or None while there is no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from paystack_source.bulk.run.states import EventKind
from paystack_source.customer import LOCKED_NAMES
from paystack_source.errors import NotFound
from paystack_source.values import is_blank, json_text, read_time


class Row(Protocol):
    """The values of a plan's row that a read-back needs."""

    @property
    def key(self) -> str: ...
    @property
    def customer_code(self) -> str | None: ...
    @property
    def email(self) -> str | None: ...
    @property
    def new(self) -> Mapping[str, Any]: ...


Fetch = Callable[[str], Mapping[str, Any] | None]
ReadBack = Callable[[Fetch, "Row", Mapping[str, Any], datetime | None], EventKind]
Settle = Callable[[Fetch, "Row"], EventKind | None]

# How much our clock and Paystack's may differ. A customer created earlier than this before the intent existed before.
_SKEW = timedelta(minutes=2)


def same(wanted: object, held: object) -> bool:
    """Whether two values are the same for Paystack: all blank values are, and objects with their keys in any order."""
    return json_text(wanted, ordered=True) == json_text(held, ordered=True) or (
        is_blank(wanted) and is_blank(held)
    )


def fields_hold(
    fetch: Fetch,
    row: Row,
    secrets: Mapping[str, Any],  # noqa: ARG001 - one shape for all
    since: datetime | None,  # noqa: ARG001
) -> EventKind:
    """For operations that set fields: `FOUND` if every field has the row's value."""
    try:
        held = fetch(row.customer_code or row.key)
    except NotFound:
        return EventKind.ABSENT
    if held is None:
        return EventKind.UNCLEAR
    differing = [name for name, value in row.new.items() if not same(value, held.get(name))]
    if not differing:
        return EventKind.FOUND
    return EventKind.LOCKED if differing == kept_names(row.new, held) else EventKind.ABSENT


def kept_names(new: Mapping[str, Any], customer: Mapping[str, Any]) -> list[str]:
    """The names in `new` that Paystack kept as they were, because the customer passed an identity check."""
    if customer.get("identified") is not True:
        return []
    return [
        name
        for name, value in new.items()
        if name in LOCKED_NAMES and name in customer and not same(value, customer[name])
    ]


def customer_appeared(
    fetch: Fetch,
    row: Row,
    secrets: Mapping[str, Any],  # noqa: ARG001
    since: datetime | None,
) -> EventKind:
    """For create: `ABSENT` if there is no such customer, `FOUND` if it was created after the request was sent.

    A customer that existed before proves nothing about the lost request: `UNCLEAR`.
    """
    try:
        held = fetch(row.key)
    except NotFound:
        return EventKind.ABSENT
    if held is None or since is None or born_before(held, since) is not False:
        return EventKind.UNCLEAR
    wanted = {name: value for name, value in row.new.items() if name != "email"}
    return (
        EventKind.FOUND
        if all(same(value, held.get(name)) for name, value in wanted.items())
        else EventKind.UNCLEAR
    )


def born_before(customer: Mapping[str, Any], moment: datetime) -> bool | None:
    """Whether the customer was created before this time, by more than clocks may differ; None if it is not known."""
    born = read_time(customer.get("createdAt") or customer.get("created_at"))
    return None if born is None else born < moment - _SKEW


def authorization_gone(
    fetch: Fetch,
    row: Row,
    secrets: Mapping[str, Any],
    since: datetime | None,  # noqa: ARG001
) -> EventKind:
    """For deactivations: look for the code among the customer's authorizations, if the input names the customer."""
    name = row.customer_code or row.email
    code = secrets.get("authorization_code")
    if not name or not code:
        return EventKind.UNCLEAR
    try:
        held = fetch(name)
    except NotFound:
        return EventKind.UNCLEAR
    listed = (held or {}).get("authorizations")
    if not isinstance(listed, list):
        return EventKind.UNCLEAR
    mine = [a for a in listed if isinstance(a, dict) and a.get("authorization_code") == code]
    if not mine:  # deactivated, or another customer's: sending it again finds out, and is harmless
        return EventKind.UNCLEAR
    return EventKind.FOUND if all(a.get("active") is False for a in mine) else EventKind.ABSENT


def identity_verdict(fetch: Fetch, row: Row) -> EventKind | None:
    """For identity checks: the verdict in the fetched customer's `identified` and `identifications`."""
    try:
        held = fetch(row.customer_code or row.key) or {}
    except NotFound:
        return None
    if held.get("identified") is True:
        return EventKind.VERIFIED
    listed = held.get("identifications")
    found = [i for i in (listed if isinstance(listed, list) else [listed]) if isinstance(i, dict)]
    return EventKind.FAILED if any(str(i.get("status", "")).lower() == "failed" for i in found) else None
