"""The columns of a customer, declared once.

Everything that needs a customer's columns derives from `COLUMNS`: the Arrow schema and the decoder of pages
(`extract.arrow`), the hints for dlt, the comparison of a plan with the copy, and the keys that the journal keeps of an
answer. To add a column that Paystack documents, add a line here.

The keys, types and meanings are those of Paystack's API document for customers.
"""

from __future__ import annotations

from typing import Final

from paystack_source.tables import Column, Table

_PAYSTACK: Final = (
    Column("id", "bigint", "Paystack's number of the customer.", "identifier", nullable=False),
    Column(
        "customer_code", "text", "Paystack's code of the customer, CUS_ and letters and digits.", "identifier"
    ),
    Column("email", "text", "The customer's email address.", "personal"),
    Column("first_name", "text", "As typed by people; may be empty.", "personal", writable=True),
    Column("last_name", "text", "As typed by people; may be empty.", "personal", writable=True),
    Column("phone", "text", "As typed by people; may be empty.", "personal", writable=True),
    Column("metadata", "json", "What the merchant attached to the customer.", "personal", writable=True),
    Column("domain", "text", "The mode of the key: live or test."),
    Column("integration", "bigint", "The Paystack account that the customer belongs to."),
    Column("risk_action", "text", "default, allow (whitelisted) or deny (blacklisted).", writable=True),
    Column("created_at", "timestamp", "When the customer was created, in UTC.", key="createdAt"),
    Column("updated_at", "timestamp", "When Paystack changed the customer last, in UTC.", key="updatedAt"),
)

COLUMNS: Final[tuple[Column, ...]] = (
    *_PAYSTACK,
    Column("_last_seen_at", "timestamp", "When a run last read this customer from Paystack, in UTC."),
    Column(
        "_missing_since", "timestamp", "Since when Paystack no longer lists this customer, in UTC; else null."
    ),
)
"""The columns of the table, in its order: Paystack's, then ours."""

CHANGES: Final = (
    Column("_fingerprint", "text", "A hash of the customer: two versions of a customer have different ones."),
    Column(
        "_changed_at",
        "timestamp",
        "When this copy loaded the last change of the customer, in UTC; reading an unchanged customer keeps it.",
    ),
)
"""Columns that `warehouse.changes` computes from the customer as read and from the copy as it was before."""

DOCUMENTED: Final[dict[str, Column]] = {column.key or column.name: column for column in _PAYSTACK}
"""Paystack's columns by their key in an answer."""

WRITABLE_TEXTS: Final = tuple(column.name for column in COLUMNS if column.writable and column.kind == "text")
"""The text columns that a plan can change."""

LOCKED_NAMES: Final = ("first_name", "last_name")
"""A successful identity check overwrites these with the names of the BVN, and locks them: no update changes them."""


CUSTOMERS: Final = Table(
    "customers",
    "The customers of a Paystack account: one row each, as Paystack held it when it was last asked.",
    ("id",),
    (*COLUMNS, *CHANGES),
)
