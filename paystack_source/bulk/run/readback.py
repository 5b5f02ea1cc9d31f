"""Decides the outcome of a row from the customer that Paystack has now; None if Paystack has no such customer.

`ReadBack(customer, new, secrets, since)` is for a row whose answer was lost. `new` and `secrets` are the values that it
sends, `since` is when it was first sent. It returns `FOUND`, `ABSENT`, `LOCKED`, or `UNCLEAR` if a read cannot decide.
`VerdictOf(customer)` is for a row that was accepted. It returns `VERIFIED`, `FAILED`, or None if there is no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from unicodedata import normalize

from paystack_source.bulk.run.states import EventKind
from paystack_source.customer import LOCKED_NAMES
from paystack_source.values import is_blank, json_text, read_time

Customer = Mapping[str, Any] | None
ReadBack = Callable[[Customer, Mapping[str, Any], Mapping[str, Any], datetime | None], EventKind]
VerdictOf = Callable[[Customer], EventKind | None]

# How much our clock and Paystack's may differ. A customer created earlier than this before the intent existed before.
_SKEW = timedelta(minutes=2)


def same(wanted: object, customer: object) -> bool:
    """Whether two values are the same for Paystack.

    Two blank values are, objects that differ in the order of keys, and texts of the same letters: Unicode has two forms
    of `é`, and a Mac may write the longer one.
    """
    asked, held = (normalize("NFC", json_text(value, ordered=True)) for value in (wanted, customer))
    return asked == held or (is_blank(wanted) and is_blank(customer))


def fields_hold(
    customer: Customer, new: Mapping[str, Any], _secrets: Mapping[str, Any], _since: datetime | None
) -> EventKind:
    """For operations that set fields: `FOUND` if every field has the row's value."""
    if customer is None:
        return EventKind.ABSENT
    differing = [name for name, value in new.items() if not same(value, customer.get(name))]
    if not differing:
        return EventKind.FOUND
    return EventKind.LOCKED if differing == kept_names(new, customer) else EventKind.ABSENT


def kept_names(new: Mapping[str, Any], customer: Mapping[str, Any]) -> list[str]:
    """The names in `new` that Paystack did not change, because the customer passed an identity check."""
    if customer.get("identified") is not True:
        return []
    return [
        name
        for name, value in new.items()
        if name in LOCKED_NAMES and name in customer and not same(value, customer[name])
    ]


def customer_appeared(
    customer: Customer, new: Mapping[str, Any], _secrets: Mapping[str, Any], since: datetime | None
) -> EventKind:
    """For create: `ABSENT` if there is no such customer, `FOUND` if the customer was created after the request.

    A customer that existed before proves nothing about the lost request: `UNCLEAR`.
    """
    if customer is None:
        return EventKind.ABSENT
    if since is None or born_before(customer, since) is not False:
        return EventKind.UNCLEAR
    as_wanted = all(same(value, customer.get(name)) for name, value in new.items() if name != "email")
    return EventKind.FOUND if as_wanted else EventKind.UNCLEAR


def born_before(customer: Mapping[str, Any], moment: datetime) -> bool | None:
    """Whether the customer was created before this time, with a margin for clocks; None if that is not known."""
    born = read_time(customer.get("createdAt") or customer.get("created_at"))
    return None if born is None else born < moment - _SKEW


def authorization_gone(
    customer: Customer, _new: Mapping[str, Any], secrets: Mapping[str, Any], _since: datetime | None
) -> EventKind:
    """For deactivations: search the code among the authorizations of the customer that the input names."""
    listed, code = (customer or {}).get("authorizations"), secrets["authorization_code"]
    mine = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    mine = [a for a in mine if a.get("authorization_code") == code]
    if not mine:  # it is deactivated or another customer's; sending it again is harmless and decides
        return EventKind.UNCLEAR
    return EventKind.FOUND if all(a.get("active") is False for a in mine) else EventKind.ABSENT


def identity_verdict(customer: Customer) -> EventKind | None:
    """For identity checks: the verdict in the customer's `identified` and `identifications`."""
    customer = customer or {}
    if customer.get("identified") is True:
        return EventKind.VERIFIED
    listed = customer.get("identifications")
    found = [i for i in (listed if isinstance(listed, list) else [listed]) if isinstance(i, dict)]
    return EventKind.FAILED if any(str(i.get("status", "")).lower() == "failed" for i in found) else None
