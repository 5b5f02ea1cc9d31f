"""Judges the outcome of a row by the customer as Paystack has it now; None for a customer that it does not know.

`ReadBack(held, new, secrets, since)` is for a row whose answer was lost. `new` and `secrets` are the values that it
sends, `since` is when it was first sent. It returns `FOUND`, `ABSENT`, `LOCKED`, or `UNCLEAR` if a read cannot decide.
`Settle(held)` is for a row that was accepted. It returns `VERIFIED`, `FAILED`, or None while there is no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from paystack_source.bulk.run.states import EventKind
from paystack_source.customer import LOCKED_NAMES
from paystack_source.values import is_blank, json_text, read_time

Held = Mapping[str, Any] | None
ReadBack = Callable[[Held, Mapping[str, Any], Mapping[str, Any], datetime | None], EventKind]
Settle = Callable[[Held], EventKind | None]

# How much our clock and Paystack's may differ. A customer created earlier than this before the intent existed before.
_SKEW = timedelta(minutes=2)


def same(wanted: object, held: object) -> bool:
    """Whether two values are the same for Paystack: all blank values are, and objects with their keys in any order."""
    return json_text(wanted, ordered=True) == json_text(held, ordered=True) or (
        is_blank(wanted) and is_blank(held)
    )


def fields_hold(
    held: Held, new: Mapping[str, Any], _secrets: Mapping[str, Any], _since: datetime | None
) -> EventKind:
    """For operations that set fields: `FOUND` if every field has the row's value."""
    if held is None:
        return EventKind.ABSENT
    differing = [name for name, value in new.items() if not same(value, held.get(name))]
    if not differing:
        return EventKind.FOUND
    return EventKind.LOCKED if differing == kept_names(new, held) else EventKind.ABSENT


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
    held: Held, new: Mapping[str, Any], _secrets: Mapping[str, Any], since: datetime | None
) -> EventKind:
    """For create: `ABSENT` if there is no such customer, `FOUND` if it was created after the request was sent.

    A customer that existed before proves nothing about the lost request: `UNCLEAR`.
    """
    if held is None:
        return EventKind.ABSENT
    if since is None or born_before(held, since) is not False:
        return EventKind.UNCLEAR
    as_wanted = all(same(value, held.get(name)) for name, value in new.items() if name != "email")
    return EventKind.FOUND if as_wanted else EventKind.UNCLEAR


def born_before(customer: Mapping[str, Any], moment: datetime) -> bool | None:
    """Whether the customer was created before this time, by more than clocks may differ; None if it is not known."""
    born = read_time(customer.get("createdAt") or customer.get("created_at"))
    return None if born is None else born < moment - _SKEW


def authorization_gone(
    held: Held, _new: Mapping[str, Any], secrets: Mapping[str, Any], _since: datetime | None
) -> EventKind:
    """For deactivations: look for the code among the authorizations of the customer whom the input names."""
    listed, code = (held or {}).get("authorizations"), secrets["authorization_code"]
    mine = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    mine = [a for a in mine if a.get("authorization_code") == code]
    if not mine:  # deactivated, or another customer's: sending it again finds out, and is harmless
        return EventKind.UNCLEAR
    return EventKind.FOUND if all(a.get("active") is False for a in mine) else EventKind.ABSENT


def identity_verdict(held: Held) -> EventKind | None:
    """For identity checks: the verdict in the customer's `identified` and `identifications`."""
    held = held or {}
    if held.get("identified") is True:
        return EventKind.VERIFIED
    listed = held.get("identifications")
    found = [i for i in (listed if isinstance(listed, list) else [listed]) if isinstance(i, dict)]
    return EventKind.FAILED if any(str(i.get("status", "")).lower() == "failed" for i in found) else None
