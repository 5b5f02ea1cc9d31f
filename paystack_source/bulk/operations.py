"""The bulk operations in one declarative table; checks, plan, command line, docs and tests derive from it.

The facts are from Paystack's API reference and OpenAPI description (paths, required fields, 202 for identity checks)
and from recorded answers (metadata has to be an object, an unknown authorization is a 404). A fact that is not
documented has a comment. `readback.py` describes how a row is read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal

from paystack_source.api.client import PaystackClient
from paystack_source.api.models import Reply
from paystack_source.bulk.run import readback
from paystack_source.errors import ConfigError

CLEAR: Final = "<clear>"
"""The cell that empties a field. A blank cell does not change the field."""

CellKind = Literal[
    "code", "email", "id", "auth_code", "name", "phone", "json", "enum", "country", "digits", "text"
]


@dataclass(frozen=True, slots=True)
class InputColumn:
    """One input column: its names, its valid values, and how they are protected.

    `secret` values are sent to Paystack and never stored; `personal` ones are masked in the review page. `length` is
    the smallest and the largest number of characters, or of digits for `phone`. For the kind `digits` it is the usual
    number: another number is sent with a warning, because Paystack decides (a BVN for tests has 12 digits).
    """

    name: str
    kind: CellKind
    help: str
    aliases: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False
    personal: bool = True
    clearable: bool = False
    choices: tuple[str, ...] = ()
    default: str | None = None
    length: tuple[int, int] = (1, 255)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Above `rows` to send, or above `share` of all customers, a live run must be confirmed by hand.

    With `when` (field, value), only rows that set this field to this value are counted.
    """

    rows: int
    share: float
    what: str
    when: tuple[str, str] | None = None

    def counts(self, new: Mapping[str, Any]) -> bool:
        """Whether a row with these new values is counted."""
        return self.when is None or new.get(self.when[0]) == self.when[1]


@dataclass(frozen=True)
class BulkOperation:
    """One operation.

    `endpoint` is its name in `api/operations.py`, of the client's method and of the quota. `identifier_required`: the
    request names the customer. `repeatable`: sending the same row twice does no harm. `absent_means_done`: a 404 for a
    row that is sent *again* means that it was applied before. `read_back` decides whether a row was applied if its
    answer was lost; `verdict_of` returns the verdict of a row that was only accepted.
    """

    name: str
    title: str
    endpoint: str
    columns: tuple[InputColumn, ...]
    identifiers: tuple[str, ...]
    repeatable: bool
    thresholds: tuple[Threshold, ...]
    read_back: readback.ReadBack | None = None
    verdict_of: readback.VerdictOf | None = None
    undoable: tuple[str, ...] = ()
    undo_reason: str = ""
    accepted_pending: bool = False
    absent_means_done: bool = False
    identifier_required: bool = True

    @cached_property
    def by_column(self) -> dict[str, InputColumn]:
        return {column.name: column for column in self.columns}

    def call(self, client: PaystackClient, key: str, body: Mapping[str, Any]) -> Reply:
        """Send one row; `body` has the row's new values and its secret fields."""
        method = getattr(client, self.endpoint)
        reply: Reply = method(key, **body) if self.identifier_required else method(**body)
        return reply

    @property
    def compared(self) -> bool:
        """Whether it sets fields. Such rows are compared with the customer's present values, and can be undone."""
        return bool(self.undoable)

    @property
    def fields(self) -> tuple[InputColumn, ...]:
        """The columns that are sent, without the identifiers of the customer."""
        return tuple(c for c in self.columns if c.name not in self.identifiers)

    @property
    def secret_fields(self) -> tuple[str, ...]:
        """The names of the columns whose values are never stored in clear."""
        return tuple(c.name for c in self.columns if c.secret)


_CODE: Final = InputColumn(
    "customer_code",
    "code",
    "Paystack's code of the customer, CUS_ and lower-case letters and digits.",
    aliases=("code", "customer", "paystack_customer_code", "cus_code"),
    length=(5, 64),
)
_EMAIL: Final = InputColumn(
    "email",
    "email",
    "The customer's email as Paystack holds it; kept as written, compared without regard to case.",
    aliases=("email_address", "e_mail", "mail", "customer_email"),
    length=(3, 254),
)
_ID: Final = InputColumn(
    "id",
    "id",
    "Paystack's number of the customer; needs the copy, which knows the code that belongs to it.",
    aliases=("customer_id", "paystack_id"),
    length=(1, 18),
)
_FIRST: Final = InputColumn(
    "first_name", "name", "First name.", aliases=("first", "given_name", "forename"), clearable=True
)
_LAST: Final = InputColumn(
    "last_name", "name", "Last name.", aliases=("last", "surname", "family_name"), clearable=True
)
_PHONE: Final = InputColumn(
    "phone",
    "phone",
    "Phone as text: leading zeros and plus signs are kept, nothing is reformatted.",
    aliases=("phone_number", "mobile", "mobile_number", "telephone", "tel", "msisdn"),
    clearable=True,
    length=(5, 20),
)
_METADATA: Final = InputColumn(
    "metadata",
    "json",
    'A JSON object, e.g. {"tier": "gold"}.',
    aliases=("meta", "meta_data", "custom_fields"),
    clearable=True,
    length=(2, 100_000),
)

IDENTIFIERS: Final = ("customer_code", "email", "id")
"""The columns that can identify a customer, the most reliable first."""

_NAMED: Final = (_CODE, _EMAIL, _ID)
_PROFILE: Final = (_FIRST, _LAST, _PHONE, _METADATA)


def _required(column: InputColumn) -> InputColumn:
    return replace(column, required=True, clearable=False)


_RISK: Final = BulkOperation(
    name="risk-action",
    title="Set risk actions",
    endpoint="set_risk_action",
    columns=(
        *_NAMED,
        InputColumn(
            "risk_action",
            "enum",
            "allow (whitelist), deny (blacklist) or default; or give --risk-action for all rows.",
            aliases=("action", "risk"),
            required=True,
            personal=False,
            choices=("allow", "deny", "default"),
        ),
    ),
    identifiers=IDENTIFIERS,
    repeatable=True,  # it sets a state
    read_back=readback.fields_hold,
    undoable=("risk_action",),
    thresholds=(
        Threshold(rows=1_000, share=0.10, what="risk actions"),
        Threshold(rows=100, share=0.01, what="denials", when=("risk_action", "deny")),
    ),
)

_UPDATE: Final = BulkOperation(
    name="update",
    title="Update names, phones and metadata",
    endpoint="update",
    columns=(*_NAMED, *_PROFILE),
    identifiers=IDENTIFIERS,
    repeatable=True,
    read_back=readback.fields_hold,
    undoable=("first_name", "last_name", "phone", "metadata"),
    thresholds=(Threshold(rows=1_000, share=0.10, what="updates"),),
)

_CREATE: Final = BulkOperation(
    name="create",
    title="Create customers",
    endpoint="create",
    columns=(_required(_EMAIL), *(replace(column, clearable=False) for column in _PROFILE)),
    identifiers=("email",),
    # Seven code bases rely on it that for a known email the answer is the existing customer; it is not documented.
    repeatable=False,
    read_back=readback.customer_appeared,
    undo_reason="Paystack has no way to delete a customer.",
    thresholds=(Threshold(rows=1_000, share=0.10, what="new customers"),),
)

_VALIDATE: Final = BulkOperation(
    name="validate",
    title="Validate identities",
    endpoint="validate",
    columns=(
        *_NAMED,
        _required(_FIRST),
        _required(_LAST),
        InputColumn("middle_name", "name", "Middle name, if any.", aliases=("middle", "other_name")),
        InputColumn(
            "type",
            "enum",
            "What is validated; bank_account unless given.",
            aliases=("identification_type",),
            required=True,
            personal=False,
            choices=("bank_account",),
            default="bank_account",
        ),
        InputColumn(
            "country",
            "country",
            "Two letters, e.g. NG.",
            aliases=("country_code",),
            required=True,
            personal=False,
            length=(2, 2),
        ),
        InputColumn(
            "bank_code",
            "text",
            "The bank's code, as text: leading zeros count.",
            aliases=("bank",),
            required=True,
            personal=False,
            length=(2, 20),
        ),
        InputColumn(
            "account_number",
            "digits",
            "The bank account; in Nigeria 10 digits.",
            aliases=("account", "account_no", "nuban"),
            required=True,
            secret=True,
            length=(5, 20),
        ),
        InputColumn(
            "bvn",
            "digits",
            "The bank verification number.",
            aliases=("bank_verification_number",),
            required=True,
            secret=True,
            length=(11, 11),
        ),
        InputColumn("value", "text", "Customer's identification number.", secret=True, length=(1, 64)),
    ),
    identifiers=IDENTIFIERS,
    repeatable=False,  # it asks the bank, and writes the names
    verdict_of=readback.identity_verdict,
    undo_reason="If the check succeeds, Paystack overwrites first and last name with those of the BVN and locks them: "
    "only another identity check can change them.",
    accepted_pending=True,
    thresholds=(Threshold(rows=200, share=0.05, what="identity checks"),),
)

_DEACTIVATE: Final = BulkOperation(
    name="deactivate-authorization",
    title="Deactivate authorizations",
    endpoint="deactivate_authorization",
    columns=(
        InputColumn(
            "authorization_code",
            "auth_code",
            "The code of the card or account authorization, AUTH_ and letters and digits.",
            aliases=("authorization", "auth_code", "auth"),
            required=True,
            secret=True,
            length=(6, 64),
        ),
        *_NAMED,
    ),
    identifiers=IDENTIFIERS,
    identifier_required=False,  # a customer is named only to read back unknown outcomes
    repeatable=True,
    absent_means_done=True,
    read_back=readback.authorization_gone,
    undo_reason="A deactivated authorization cannot be activated again; the customer has to pay once more.",
    thresholds=(Threshold(rows=100, share=0.01, what="deactivations"),),
)

BULK_OPERATIONS: Final[Mapping[str, BulkOperation]] = MappingProxyType(
    {op.name: op for op in (_RISK, _UPDATE, _CREATE, _VALIDATE, _DEACTIVATE)}
)
"""Every bulk operation, by its name on the command line."""


def operation(name: str) -> BulkOperation:
    """The operation of this name (`_` may replace `-`). Raises `ConfigError` if there is none."""
    try:
        return BULK_OPERATIONS[name.replace("_", "-")]
    except KeyError:
        raise ConfigError(
            f"There is no operation {name!r}", advice=f"Use one of {', '.join(BULK_OPERATIONS)}."
        ) from None
