"""Decides what an answer, or a missing one, means for the caller (pure).

The rules, from the docs and from recorded answers (the whole table is in ``docs/errors.md``):

- 2xx with ``status: true`` is a success. After a 429 nothing was applied, so also a write may be sent again.
- Reads are sent again after a lost connection, 408, 5xx, or a body that is not Paystack's.
- A 5xx can be the caller's fault: a bad cursor is answered with 500 and ``validation_error``. It is not sent again.
- The outcome of a write that was sent and got no clear answer is unknown. It is not sent again here.
- A 403 with a page of HTML comes from a proxy or the CDN in front of Paystack, not from Paystack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from urllib3 import HTTPHeaderDict

from paystack_source.api.models import json_object, starts_with
from paystack_source.api.operations import Operation
from paystack_source.api.privacy import hide, redact
from paystack_source.errors import (
    AlreadyValidated,
    KeyRefused,
    NotFound,
    OutcomeUnknown,
    PaystackError,
    PermissionRefused,
    RateLimited,
    Rejected,
    Unavailable,
)

_BLOCKED = (
    "Something between here and Paystack blocks this address: try another network, or ask Paystack support."
)
_VALIDATED = re.compile(r"\balready\b.*\bvalidated\b.*\bsame credentials\b", re.IGNORECASE)
_NO_REDIRECT = "Paystack does not redirect: check the proxy and the name server."
_ALLOW_LIST = "Add this machine's address to the IP allow-list in the Paystack dashboard, or remove the list."


class Envelope(msgspec.Struct):
    """The outer JSON object of every Paystack body; its parts may be missing or of another type."""

    status: Any = None
    message: Any = None
    data: msgspec.Raw = msgspec.Raw()
    meta: msgspec.Raw = msgspec.Raw()
    type: Any = None
    code: Any = None
    errors: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """No complete answer. ``sent``: a part of the request may have been sent. ``lasting``: a retry is useless."""

    reason: str
    sent: bool
    lasting: bool = False
    advice: str | None = None


class Retry(Enum):
    """Whether and when to send a request again."""

    NO = "no"
    BACKOFF = "backoff"
    QUOTA = "quota"  # a 429: wait for the quota


class _Ruling(NamedTuple):
    """The result of a failed request. `what` replaces Paystack's own message in the error."""

    kind: type[PaystackError]
    again: Retry = Retry.NO
    what: str | None = None
    advice: str | None = None


_SUCCESS, _REDIRECT = HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES
_REFUSALS: Final[dict[int, type[PaystackError]]] = {401: KeyRefused, 403: PermissionRefused, 404: NotFound}
_NOT_PAYSTACK: Final[dict[int, _Ruling]] = {
    403: _Ruling(Unavailable, what="blocked by a proxy or the CDN in front of Paystack", advice=_BLOCKED),
    407: _Ruling(
        Unavailable,
        what="the proxy wants a user and password",
        advice="Put them into HTTPS_PROXY or ALL_PROXY.",
    ),
}

# JavaScript writes half of a cut emoji as a lone surrogate, which strict decoders refuse: one such name would
# make its whole page unreadable. It becomes U+FFFD, as does a byte that is not UTF-8. The last part skips other
# escapes, also of a backslash.
_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\."
)
_DECODER = msgspec.json.Decoder(Envelope)


def judge(
    operation: Operation, result: Answer | Fault, values: Iterable[str] = ()
) -> tuple[Envelope, None] | tuple[PaystackError, Retry]:
    """The envelope of a success; or the error to raise, and whether to send again instead.

    ``values`` are the texts that were sent; they are removed from Paystack's message.
    """
    if isinstance(result, Fault):
        left = operation.writes and result.sent
        ruling = _Ruling(
            OutcomeUnknown if left else Unavailable,
            Retry.NO if left or result.lasting else Retry.BACKOFF,
            result.reason,
            None if left else result.advice,
        )
        return _error(ruling, operation), ruling.again
    envelope = decode(result.body)
    if _SUCCESS <= result.status < _REDIRECT and envelope is not None and envelope.status in (True, "true"):
        if operation.name != "list" or starts_with(envelope.data, b"["):
            return envelope, None
        envelope = None
    ruling = _rule(operation, result.status, envelope)
    return _error(ruling, operation, result, envelope, values), ruling.again


def _rule(operation: Operation, status: int, envelope: Envelope | None) -> _Ruling:
    """What an unsuccessful answer means; ``envelope`` is None if its body is not Paystack's."""
    kind = None if envelope is None else envelope.type
    unclear = _Ruling(OutcomeUnknown) if operation.writes else _Ruling(Unavailable, Retry.BACKOFF)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        ruling = _Ruling(RateLimited, Retry.QUOTA)
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        ruling = _Ruling(Rejected) if kind == "validation_error" and not operation.writes else unclear
    elif _SUCCESS <= status < _REDIRECT:
        if envelope is None or envelope.status not in (False, "false"):
            ruling = unclear._replace(what="the body is cut or not Paystack's")
        else:
            ruling = unclear if kind == "api_error" and not operation.writes else _Ruling(Rejected)
    elif status < HTTPStatus.BAD_REQUEST:
        what = "got a redirect, which is never followed"
        ruling = unclear._replace(again=Retry.NO, what=what, advice=_NO_REDIRECT)
    elif envelope is None and status != HTTPStatus.UNAUTHORIZED:  # a proxy or the CDN answered
        passed_on = _Ruling(Rejected) if operation.writes else unclear
        ruling = _NOT_PAYSTACK.get(status) or passed_on._replace(
            what="refused with a body that is not Paystack's"
        )
    else:
        advice = _ALLOW_LIST if envelope and "ip address" in str(envelope.message).lower() else None
        ruling = _Ruling(_REFUSALS.get(status, Rejected), advice=advice)
    return ruling


def decode(body: bytes) -> Envelope | None:
    """The envelope, or None if the body is cut, not JSON or not an object. Bytes that are not UTF-8 become U+FFFD."""
    try:
        if not body.isascii():
            body.decode()  # the parts that stay raw are not checked by the decoder
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = _SURROGATE.sub(_whole_character, body.decode(errors="replace").encode())
        return None if whole == body else decode(whole)


def is_utf8(body: bytes) -> bool:
    """Whether the body is valid UTF-8, so that `decode` changes nothing in it."""
    try:
        return body.isascii() or bool(body.decode())
    except UnicodeDecodeError:
        return False


def _whole_character(match: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if match["half"] else match[0]


def _error(
    ruling: _Ruling,
    operation: Operation,
    answer: Answer | None = None,
    envelope: Envelope | None = None,
    values: Iterable[str] = (),
) -> PaystackError:
    def shown(value: object) -> str | None:
        return redact(value, values) if isinstance(value, str) and value else None

    def message_of(envelope: Envelope) -> str:
        """Paystack's message and its list of errors; both may be of any JSON type."""
        parts = [
            _sentence(part) for part in (envelope.message, envelope.errors) if part not in (None, "", [], {})
        ]
        return redact(": ".join(parts), values) if parts else "no message from Paystack"

    kind = ruling.kind
    facts: dict[str, Any] = {"advice": ruling.advice, "operation": operation.name}
    if answer is not None:
        facts |= {"http_status": answer.status, "headers": _harmless(answer.headers)}
    if envelope is None or ruling.what:
        return kind(f"{operation.name}: {ruling.what or 'no message from Paystack'}", **facts)
    # Paystack has no code for it. The original message is searched, because values are removed from it later; only
    # its beginning, because the search takes the cube of its length.
    said = str(envelope.message)[:300]
    if kind is Rejected and operation.name == "validate" and _VALIDATED.search(said):
        kind = AlreadyValidated
    meta = json_object(envelope.meta)
    # The docs' text says next_step; their sample and every recorded answer say nextStep.
    next_step = None if meta is None else meta.get("nextStep", meta.get("next_step"))
    return kind(
        f"{operation.name}: {message_of(envelope)}",
        type=shown(envelope.type),
        code=shown(envelope.code),
        next_step=shown(next_step),
        meta=None if meta is None else {hide(name): _redacted(value, values) for name, value in meta.items()},
        **facts,
    )


def _redacted(value: object, values: Iterable[str]) -> object:
    """A value of an answer: null and booleans unchanged, anything else as redacted text."""
    return value if value is None or isinstance(value, bool) else redact(value, values)


def _harmless(headers: Mapping[str, str]) -> Mapping[str, str]:
    """An answer's headers without cookies, and without addresses that may repeat the request."""
    kept = HTTPHeaderDict(headers)
    for name in ("set-cookie", "location", "link"):
        kept.discard(name)
    return kept


def _sentence(value: object) -> str:
    """A text unchanged. A list or an object of messages becomes one text, each message with its key in front."""
    if isinstance(value, list):
        return "; ".join(_sentence(item) for item in value)
    if isinstance(value, dict):
        fields = [str(value[name]) for name in ("field", "param", "path") if value.get(name)]
        if "message" in value:
            return ": ".join([*fields, _sentence(value["message"])])
        return "; ".join(f"{name}: {_sentence(item)}" for name, item in value.items())
    return str(value)
