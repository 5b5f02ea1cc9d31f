"""The bodies of answers: success and error envelopes, and records in the shapes each operation gives.

Texts, `type` and `code` are those of the documentation's samples and of recorded answers where there are
any; where there are none the wording is ours and clients must go by the status.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from paystack_source.sandbox.store import dump

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html; charset=UTF-8"
BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1>"
    b"</center>\r\n<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n"
)
BOT_CHECK = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Please enable cookies.</h1>"
    b"<p>Checking your browser before you go on.</p></body></html>"
)


@dataclass(slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON_TYPE


class Refused(Exception):  # noqa: N818  # not an error of the sandbox; an answer it gives
    """Raised inside an operation to answer with an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def success(message: str, data: object = None, *, status: int = 200, meta: object = None) -> Answer:
    """`{status: true, message, data?, meta?}`."""
    body: dict[str, object] = {"status": True, "message": message}
    if data is not None:
        body["data"] = data
    if meta is not None:
        body["meta"] = meta
    return Answer(status, dump(body))


def error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    type_: str = "validation_error",
    next_step: str | None = "Ensure that the values you pass are valid and try again",
) -> Answer:
    """`{status: false, message, meta: {nextStep}, type, code}`; without `code` the older two-key body."""
    body: dict[str, object] = {"status": False, "message": message}
    if code is not None:
        body |= {"meta": {"nextStep": next_step}, "type": type_, "code": code}
    return Answer(status, dump(body))


def reshaped(answer: Answer, form: Literal["bare", "odd"]) -> Answer:
    """The same error in a form that is also documented: two keys only, or text for false and `next_step`."""
    if answer.status < HTTPStatus.BAD_REQUEST or answer.content_type != JSON_TYPE:
        return answer
    body = json.loads(answer.body)
    if form == "bare":
        body = {"status": False, "message": body["message"]}
    else:
        body["status"] = "false"
        if "meta" in body:
            body["meta"] = {"next_step": body["meta"]["nextStep"]}
    return Answer(answer.status, dump(body), answer.headers)


def invalid(message: str) -> Refused:
    """400 `invalid_params`."""
    return Refused(error(400, message, code="invalid_params"))


def missing(message: str) -> Refused:
    """400 `missing_params`."""
    return Refused(error(400, message, code="missing_params"))


def unknown_customer(status: int = 404) -> Refused:
    """The wording of a recorded answer. Another wording exists too, so clients must not rely on it."""
    return Refused(error(status, "Customer code/email specified is invalid", code="invalid_params"))


def rate_limited(headers: Mapping[str, str]) -> Answer:
    answer = error(
        429,
        "Rate limit exceeded!",
        type_="api_error",
        code="rate_limited",
        next_step="Wait for a few minutes before making another request",
    )
    answer.headers.update(headers)
    return answer


# --- records ------------------------------------------------------------------------------------------


def fetched(
    record: Mapping[str, Any],
    authorizations: list[dict[str, Any]],
    identifications: object,
    shape: Literal["docs", "spec"],
) -> dict[str, Any]:
    """A fetched customer: the row and eleven more keys (`docs`: ten)."""
    return {
        "transactions": [],
        "subscriptions": [],
        "authorizations": authorizations,
        **record,
        "created_at": record["createdAt"],
        "updated_at": record["updatedAt"],
        "total_transactions": 0,
        "total_transaction_value": [],
        "dedicated_account": None,
        **({"dedicated_accounts": []} if shape == "spec" else {}),
        "identified": identifications is not None,
        "identifications": identifications,
    }


def created(record: Mapping[str, Any], shape: Literal["docs", "spec"]) -> dict[str, Any]:
    """Nine keys in the documentation's sample, more in the OpenAPI description."""
    full = {"transactions": [], "subscriptions": [], "authorizations": [], **record, **_IDENTITY}
    if shape == "spec":
        return full
    keys = ("email", "integration", "domain", "customer_code", "id", *_IDENTITY, "createdAt", "updatedAt")
    return {key: full[key] for key in keys}


def updated(record: Mapping[str, Any], shape: Literal["docs", "spec"]) -> dict[str, Any]:
    """The documentation's sample has three empty lists and lacks `risk_action`."""
    if shape == "spec":
        return {**record, **_IDENTITY}
    rest = {key: value for key, value in record.items() if key != "risk_action"}
    return {"transactions": [], "subscriptions": [], "authorizations": [], **rest, **_IDENTITY}


def risk_set(record: Mapping[str, Any], shape: Literal["docs", "spec"]) -> dict[str, Any]:
    """The OpenAPI description has the three empty lists, the documentation's sample has not."""
    lists: dict[str, Any] = (
        {"transactions": [], "subscriptions": [], "authorizations": []} if shape == "spec" else {}
    )
    return {**lists, **record, **_IDENTITY}


_IDENTITY: dict[str, Any] = {"identified": False, "identifications": None}


# --- authorizations -----------------------------------------------------------------------------------

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_CODE_LENGTH = 10
_CODES = 36**_CODE_LENGTH
_SPREAD = 1_234_567_890_133  # coprime to 36, so that codes look random and can be read backwards
_GATHER: int = pow(_SPREAD, -1, _CODES)
_PER_CUSTOMER = 64


def authorization_code(customer_id: int, index: int) -> str:
    """`AUTH_` and ten characters. Computed, not stored: a million customers have cards without a table."""
    number = (customer_id * _PER_CUSTOMER + index) * _SPREAD % _CODES
    text = ""
    for _ in range(_CODE_LENGTH):
        number, digit = divmod(number, 36)
        text = _ALPHABET[digit] + text
    return f"AUTH_{text}"


def owner_of(code: str) -> tuple[int, int] | None:
    """Customer id and index of an authorization code, if it has the form of one."""
    prefix, _, text = code.partition("_")
    if prefix != "AUTH" or len(text) != _CODE_LENGTH or not set(text) <= set(_ALPHABET):
        return None
    number = int(text, 36) * _GATHER % _CODES
    return number // _PER_CUSTOMER, number % _PER_CUSTOMER


def authorizations_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cards of a customer, the same each time: three in five have none, some have two."""
    digest = hashlib.blake2b(record["customer_code"].encode(), digest_size=8).digest()
    count = 0 if digest[0] < 150 else 1 if digest[0] < 230 else 2  # noqa: PLR2004  # shares of a byte
    return [_card(record, index, digest) for index in range(count)]


def _card(record: Mapping[str, Any], index: int, digest: bytes) -> dict[str, Any]:
    return {
        "authorization_code": authorization_code(record["id"], index),
        "bin": "408408",
        "last4": f"{(digest[1] * 256 + digest[2] + index) % 10_000:04d}",
        "exp_month": f"{digest[3] % 12 + 1:02d}",
        "exp_year": str(2027 + digest[4] % 5),
        "channel": "card",
        "card_type": "visa " if digest[5] % 2 else "mastercard",  # the blank is Paystack's
        "bank": "TEST BANK",
        "country_code": "NG",
        "brand": "visa" if digest[5] % 2 else "mastercard",
        "reusable": True if digest[6] % 3 else 1,  # both forms were seen
        "signature": f"SIG_{digest.hex()}{index}",
        "account_name": None,
    }
