"""Leaves out or masks values of an answer, by the words in their keys.

Credentials are left out: the card can be charged with an authorization code and the key of the account. Numbers that
identify a person or an account (BVN, account, card and wallet numbers) keep their last two digits. Amounts are never
changed. Paystack names such keys in many ways, so the words of a key decide, not the whole key.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from paystack_source.api.arguments import instance_of
from paystack_source.errors import ConfigError

_CREDENTIAL = re.compile(
    r"(^|_)(authorization_code|access_code|signature|secret|password|passcode|token|pin|otp|cvv|cvc)$"
    r"|(^|_)(secret|private|api|access|encryption)_key$"
)
_NUMBER = re.compile(
    r"(^|_)(bvn|nin|iban|nuban|pan)$"
    r"|(account|card|wallet|money|identification|identity|document|passport|licen[cs]e)_(number|no)$"
)
_OF_IDENTITY = re.compile(r"(^|_)(identification|identity|bvn|nin)s?$")
_IDENTITY_TYPE = re.compile(r"bvn|nin|passport|drivers?_license|voters_card|bank_account")


def is_credential(key: str) -> bool:
    """Whether the value under this key is a credential, which is left out."""
    return bool(_CREDENTIAL.search(snake_case(key)))


def clear_fields(include: str | Collection[str]) -> frozenset[str]:
    """The fields to keep in clear, in snake case. Raises `ConfigError` for one that is never left out or masked.

    Otherwise a misspelled name would have no effect, and nobody would notice it.
    """
    kind: Any = Collection
    names = (include,) if isinstance(include, str) else instance_of("include", include, kind)
    fields = {snake_case(str(name)): name for name in names}
    for field, name in fields.items():
        if not (is_credential(field) or _NUMBER.search(field) or field == "value"):
            raise ConfigError(
                f"include: a field of the name {str(name)[:40]!r} is neither left out nor masked",
                advice="Name fields that are, such as authorization_code, signature, bvn or account_number "
                "(docs/extraction.md).",
            )
    return frozenset(fields)


def without_secrets(
    value: Any,  # noqa: ANN401  # JSON
    include: Collection[str] = (),  # from `clear_fields`
    *,
    key: str = "",
    of_identity: bool = False,
) -> Any:  # noqa: ANN401
    """The value of `key`, with credentials left out and numbers masked at any depth.

    Keys in `include` are kept in clear. `of_identity`: the value is in an object about the identity of a person.
    """
    words = snake_case(key)
    if words not in include and (_NUMBER.search(words) or (of_identity and words == "value")):
        if isinstance(value, dict | list):
            return None
        return value if value is None or "*" in str(value) else f"*****{str(value)[-2:]}"
    of_identity = of_identity or bool(_OF_IDENTITY.search(words))
    if isinstance(value, list):
        return [without_secrets(item, include, key=key, of_identity=of_identity) for item in value]
    if not isinstance(value, dict):
        return value
    of_identity = of_identity or bool(_IDENTITY_TYPE.fullmatch(snake_case(str(value.get("type")))))
    return {
        name: without_secrets(item, include, key=name, of_identity=of_identity)
        for name, item in value.items()
        if snake_case(name) in include or not is_credential(name)
    }


def snake_case(key: str) -> str:
    """`receiverBankAccountNumber` as `receiver_bank_account_number`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return re.sub(r"\W+|_+", "_", words, flags=re.ASCII).strip("_").lower()
