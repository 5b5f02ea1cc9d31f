"""Fetches single customers and makes the rows of two tables from the answers: one request per customer.

An `authorization_code` can be charged with the account's key, so it is a credential. It and the card's `signature` are
left out, and BVNs and account numbers are masked, unless `include` names them (`extract.secrets`).
The answer's `transactions` and `subscriptions` are not kept: they belong to other endpoints, and a subscription
holds an authorization code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from paystack_source.api import workers
from paystack_source.api.client import PaystackClient
from paystack_source.customer import DOCUMENTED
from paystack_source.errors import PaystackError, Rejected, Unavailable
from paystack_source.extract.secrets import without_secrets
from paystack_source.tables import Column, Pii, Table
from paystack_source.values import as_text, json_text, read_time

CREDENTIALS = ("authorization_code", "signature")
"""Columns that are null unless `include` names them: `extract.secrets` leaves these keys out."""

_JSON: Final = {
    "identifications": "The identity checks",
    "total_transaction_value": "The sums of transactions by currency",
    "dedicated_account": "The bank account that the customer pays into",
    "dedicated_accounts": "The bank accounts that the customer pays into",
}
# Keys of other endpoints, of the second table, and of the table `customers`.
_SKIPPED = {"transactions", "subscriptions", "authorizations", "created_at", "updated_at", *DOCUMENTED}
_CARD: Final[dict[str, tuple[str, Pii]]] = {
    "bin": ("The first digits of the card: they name the bank.", "personal"),
    "last4": ("The last four digits of the card or account.", "personal"),
    "exp_month": ("The month that the card expires in.", "personal"),
    "exp_year": ("The year that the card expires in.", "personal"),
    "channel": ("How it pays: card, bank, and so on.", "none"),
    "card_type": ("The kind of the card.", "none"),
    "bank": ("The bank.", "personal"),
    "country_code": ("The country of the bank.", "none"),
    "brand": ("The brand of the card.", "none"),
    "account_name": ("The name on the card or account.", "personal"),
}

DETAILS: Final = Table(
    "customer_details",
    "What only the single fetch of a customer shows: one row for each customer who was fetched.",
    ("id",),
    (
        Column("id", "bigint", "The customer, as in customers.", "identifier", nullable=False),
        Column("customer_code", "text", "Paystack's code of the customer.", "identifier"),
        Column("found", "bool", "Whether Paystack knew the customer; null if no fetch ever succeeded."),
        Column("identified", "bool", "Whether the customer passed an identity check."),
        Column("total_transactions", "bigint", "How many transactions Paystack counts."),
        *(
            Column(
                name,
                "json",
                f"{text}, as Paystack gives it; numbers of people and accounts are masked.",
                "personal",
            )
            for name, text in _JSON.items()
        ),
        Column("authorizations", "bigint", "How many saved cards and accounts there are."),
        Column(
            "extra", "json", "Whatever else Paystack gave, without credentials; null if nothing.", "personal"
        ),
        Column("row_updated_at", "timestamp", "The customer's updated_at that the details belong to."),
        Column("row_risk_action", "text", "The customer's risk_action when the details were fetched."),
        Column(
            "fetched_at",
            "timestamp",
            "When the details were fetched, in UTC; null if no fetch ever succeeded.",
        ),
        Column("failed_at", "timestamp", "When the last fetch failed, in UTC; null if it did not."),
        Column("failure", "text", "Why the last fetch failed; null if it did not."),
    ),
)
"""`row_…` are values of the customer's row when the details were fetched: when these change, they are fetched again.

`failed_at` and `failure` belong to the last fetch if it failed; the other columns then have an earlier fetch's values.
"""

FAILURES_IN_A_ROW = 40
"""After this many failed fetches in a row the run ends, because then the customers are not the cause."""

_WHOLE_SECOND: Final = timedelta(seconds=1)
"""Some answers have times with milliseconds, some without."""

AUTHORIZATIONS: Final = Table(
    "customer_authorizations",
    "Saved cards and accounts of the customers in customer_details: one row for each.",
    ("customer_id", "position"),
    (
        Column("customer_id", "bigint", "The customer, as in customers.", "identifier", nullable=False),
        Column("position", "bigint", "The place in Paystack's list, from 1.", nullable=False),
        *(
            Column(name, "text", "A credential. Null unless asked for by name.", "personal")
            for name in CREDENTIALS
        ),
        *(Column(name, "text", text, pii) for name, (text, pii) in _CARD.items()),
        Column("reusable", "bool", "Whether it can be charged again."),
        Column(
            "extra", "json", "Whatever else Paystack gave, without credentials; null if nothing.", "personal"
        ),
        Column("removed_at", "timestamp", "When Paystack no longer showed it, in UTC; else null."),
    ),
)


class Due(NamedTuple):
    """A customer to fetch, and the number of their authorizations in the warehouse."""

    id: int
    code: str | None
    updated_at: datetime | None
    risk_action: str | None
    authorizations: int


class Fetched(NamedTuple):
    """A customer and Paystack's answer; `{}` if Paystack does not know the customer, or if the fetch failed."""

    due: Due
    answer: dict[str, Any]
    asked_at: datetime
    """A time before the request was sent, in UTC."""
    failure: str | None = None
    """Why there is no answer."""


def fetch_customers(client: PaystackClient, due: list[Due]) -> Iterator[Fetched]:
    """Fetch these customers in parallel, within the client's quota; results are in the order of the answers.

    A failed fetch does not stop the others: its result has the failure instead of an answer. Raises `PaystackError` if
    the key was refused, or if `FAILURES_IN_A_ROW` fetches failed one after the other.
    """
    by_code: dict[str, list[Due]] = {}  # a code should be unique, but only the id certainly is
    for one in due:
        if one.code:
            by_code.setdefault(one.code, []).append(one)
        else:
            yield Fetched(one, {}, datetime.now(UTC), "fetch: the customer has no code to ask by")
    asked: dict[str, datetime] = {}
    in_a_row = 0

    def codes() -> Iterator[str]:
        for code in by_code:  # each code is taken just before its request
            asked[code] = datetime.now(UTC)
            yield code

    with contextlib.closing(workers.fetch_all(client, codes(), tolerate=(Rejected, Unavailable))) as found:
        for code, answer in found:
            asked_at = asked.pop(code)
            for one in by_code[code]:
                failure = _failure(one, answer)
                in_a_row = in_a_row + 1 if failure else 0
                if failure and in_a_row >= FAILURES_IN_A_ROW:
                    raise failure
                yield Fetched(
                    one, {} if failure else answer or {}, asked_at, failure.message if failure else None
                )


def _failure(one: Due, answer: Any) -> PaystackError | None:  # noqa: ANN401
    if isinstance(answer, PaystackError):
        return answer
    if answer and str(answer.get("id", one.id)) != str(one.id):
        return Unavailable("fetch: the answer is another customer's", operation="fetch")
    return None


def failed_row(fetched: Fetched, held: dict[str, Any] | None) -> dict[str, Any]:
    """The row of a customer whose fetch failed: the failure, and the values of the row in the warehouse, if any."""
    row = held or {"id": fetched.due.id, "customer_code": fetched.due.code}
    return {**row, "failed_at": fetched.asked_at, "failure": fetched.failure}


def details_row(fetched: Fetched, include: Collection[str]) -> dict[str, Any]:
    """The customer's row of `customer_details`. Keys without a column are in `extra`."""
    due, answer, asked_at, _ = fetched
    updated_at, shown = due.updated_at, read_time(answer.get("updatedAt") or answer.get("updated_at"))
    if updated_at and shown and shown < updated_at - _WHOLE_SECOND:
        updated_at = shown  # from a cache or a replica that is behind: the next run fetches it again
    kept = without_secrets({key: value for key, value in answer.items() if key not in _SKIPPED}, include)
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
        **{name: _json(kept.pop(name, None)) for name in _JSON},
        "authorizations": len(_authorizations(answer)),
        "extra": _json(kept or None),
        "row_updated_at": updated_at,
        "row_risk_action": due.risk_action,
        "fetched_at": asked_at,
    }


def authorization_rows(fetched: Fetched, include: Collection[str]) -> Iterator[dict[str, Any]]:
    """A row for each authorization. Those that Paystack no longer shows get `removed_at`; they are not deleted."""
    due, answer, asked_at, _ = fetched
    found = _authorizations(answer)
    for position, authorization in enumerate(found, start=1):
        kept = without_secrets(authorization, include)
        reusable = kept.pop("reusable", None)
        yield {
            "customer_id": due.id,
            "position": position,
            **{name: as_text(kept.pop(name, None)) for name in (*CREDENTIALS, *_CARD)},
            "reusable": None if reusable is None else bool(reusable),
            "extra": _json(kept or None),
        }
    for position in range(len(found) + 1, due.authorizations + 1):
        yield {"customer_id": due.id, "position": position, "removed_at": asked_at}


def _authorizations(answer: dict[str, Any]) -> list[dict[str, Any]]:
    given = answer.get("authorizations")
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def _json(value: Any) -> str | None:  # noqa: ANN401
    return None if value is None else json_text(value)
