"""What an answer, or the lack of one, means for the caller (pure).

The rules, from the docs and from recorded answers (the reasons are in ``docs/errors.md``):

- 2xx with ``status: true`` is done. 429 was not applied and may be sent again, also a write.
- Reads are sent again after a lost connection, 408, 5xx, and a body that is not Paystack's.
- A 5xx can be the caller's fault: a bad cursor answers 500 with ``validation_error``, which no retry cures.
- A write that left and got no clear answer is unknown, and never sent again from here.
- A page of HTML with 403 comes from a proxy or the CDN in front of Paystack, not from Paystack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from urllib3 import HTTPHeaderDict

from paystack_source.api.models import record, starts_with
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from paystack_source.api.operations import Operation

_BLOCKED = (
    "Something between here and Paystack blocks this address: try another network, or ask Paystack support."
)
_VALIDATED = re.compile(r"\balready\b.*\bvalidated\b.*\bsame credentials\b", re.IGNORECASE)
_NO_REDIRECT = "Paystack does not redirect: check the proxy and the name server."
_ALLOW_LIST = "Add this machine's address to the IP allow-list in the Paystack dashboard, or remove the list."


class Envelope(msgspec.Struct):
    """The outer object of every Paystack body; its parts may be missing or of another type."""

    status: Any = None
    message: Any = None
    data: msgspec.Raw = msgspec.Raw()
    meta: msgspec.Raw = msgspec.Raw()
    type: Any = None
    code: Any = None
    errors: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that arrived whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """No whole answer. ``sent``: some of the request may have left. ``lasting``: trying again cannot help."""

    reason: str
    sent: bool
    lasting: bool = False
    advice: str | None = None


class Again(Enum):
    """Whether to send again."""

    NO = "no"
    BACKOFF = "backoff"
    QUOTA = "quota"  # a 429: wait for the quota


@dataclass(frozen=True, slots=True)
class Judgement:
    """Either the envelope of a success, or the error to raise unless sending again helps."""

    envelope: Envelope | None = None
    error: PaystackError | None = None
    again: Again = Again.NO


# JavaScript writes half of a cut emoji as a lone surrogate, which no strict decoder takes: one such name
# would make its whole page unreadable. It becomes U+FFFD, as does a byte that is no UTF-8. The last part skips
# other escapes, also of a backslash.
_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\."
)
_DECODER = msgspec.json.Decoder(Envelope)


def judge(operation: Operation, result: Answer | Fault, values: Iterable[str] = ()) -> Judgement:
    """What to do. ``values`` are the texts that were sent; they are taken out of Paystack's message."""
    if isinstance(result, Fault):
        return _judge_fault(operation, result)
    envelope = decode(result.body)
    if HTTPStatus.OK <= result.status < HTTPStatus.MULTIPLE_CHOICES:
        if envelope is not None and envelope.status in (True, "true"):
            if operation.name != "list" or starts_with(envelope.data, b"["):
                return Judgement(envelope=envelope)
            envelope = None
        return _judge_odd_success(operation, result, envelope, values)
    return _judge_failure(operation, result, envelope, values)


def decode(body: bytes) -> Envelope | None:
    """The envelope, or None if the body is cut, not JSON or not an object. Bytes that are no UTF-8 become U+FFFD."""
    try:
        if not body.isascii():
            body.decode()  # the parts that stay raw are not checked by the decoder
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = _SURROGATE.sub(_whole_character, body.decode(errors="replace").encode())
        return None if whole == body else decode(whole)


def is_utf8(body: bytes) -> bool:
    """Whether `decode` reads the body as it was sent."""
    try:
        return body.isascii() or bool(body.decode())
    except UnicodeDecodeError:
        return False


def _whole_character(match: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if match["half"] else match[0]


def _judge_fault(operation: Operation, fault: Fault) -> Judgement:
    if operation.writes and fault.sent:
        return Judgement(error=OutcomeUnknown(f"{operation.name}: {fault.reason}", operation=operation.name))
    error = Unavailable(f"{operation.name}: {fault.reason}", advice=fault.advice, operation=operation.name)
    return Judgement(error=error, again=Again.NO if fault.lasting else Again.BACKOFF)


def _judge_odd_success(
    operation: Operation, answer: Answer, envelope: Envelope | None, values: Iterable[str]
) -> Judgement:
    """2xx that is no success: ``status: false``, or a body that is not Paystack's."""
    if envelope is not None and envelope.status in (False, "false"):
        transient = envelope.type == "api_error" and not operation.writes
        kind = Unavailable if transient else Rejected
        again = Again.BACKOFF if transient else Again.NO
        return Judgement(error=_error(kind, operation, answer, envelope, values), again=again)
    what = "the body is cut or not Paystack's"
    if operation.writes:
        return Judgement(error=_error(OutcomeUnknown, operation, answer, None, values, what=what))
    return Judgement(
        error=_error(Unavailable, operation, answer, None, values, what=what), again=Again.BACKOFF
    )


def _judge_failure(
    operation: Operation, answer: Answer, envelope: Envelope | None, values: Iterable[str]
) -> Judgement:
    status = answer.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Judgement(error=_error(RateLimited, operation, answer, envelope, values), again=Again.QUOTA)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return _judge_server_error(operation, answer, envelope, values)
    if status < HTTPStatus.BAD_REQUEST:
        kind = OutcomeUnknown if operation.writes else Unavailable
        what = "got a redirect, which is never followed"
        return Judgement(error=_error(kind, operation, answer, None, values, what=what, advice=_NO_REDIRECT))
    if envelope is None:
        return _judge_foreign_refusal(operation, answer, values)
    advice = _ALLOW_LIST if "ip address" in str(envelope.message).lower() else None
    kinds: dict[int, type[PaystackError]] = {401: KeyRefused, 403: PermissionRefused, 404: NotFound}
    return Judgement(
        error=_error(kinds.get(status, Rejected), operation, answer, envelope, values, advice=advice)
    )


def _judge_server_error(
    operation: Operation, answer: Answer, envelope: Envelope | None, values: Iterable[str]
) -> Judgement:
    if operation.writes:
        return Judgement(error=_error(OutcomeUnknown, operation, answer, envelope, values))
    if envelope is not None and envelope.type == "validation_error":
        return Judgement(error=_error(Rejected, operation, answer, envelope, values))
    return Judgement(error=_error(Unavailable, operation, answer, envelope, values), again=Again.BACKOFF)


def _judge_foreign_refusal(operation: Operation, answer: Answer, values: Iterable[str]) -> Judgement:
    """4xx with a body that is not Paystack's: a proxy or the CDN spoke, and passed nothing on."""
    status = answer.status
    if status == HTTPStatus.UNAUTHORIZED:
        return Judgement(error=_error(KeyRefused, operation, answer, None, values))
    if status == HTTPStatus.FORBIDDEN:
        what = "blocked by a proxy or the CDN in front of Paystack"
        return Judgement(
            error=_error(Unavailable, operation, answer, None, values, what=what, advice=_BLOCKED)
        )
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        what, advice = "the proxy wants a user and password", "Put them into HTTPS_PROXY or ALL_PROXY."
        return Judgement(error=_error(Unavailable, operation, answer, None, values, what=what, advice=advice))
    what = "refused with a body that is not Paystack's"
    if operation.writes:
        return Judgement(error=_error(Rejected, operation, answer, None, values, what=what))
    return Judgement(
        error=_error(Unavailable, operation, answer, None, values, what=what), again=Again.BACKOFF
    )


def _error(  # noqa: PLR0913  # all that an error tells
    kind: type[PaystackError],
    operation: Operation,
    answer: Answer,
    envelope: Envelope | None,
    values: Iterable[str],
    *,
    what: str | None = None,
    advice: str | None = None,
) -> PaystackError:
    def shown(value: object) -> str | None:
        return redact(value, values) if isinstance(value, str) and value else None

    def told(envelope: Envelope) -> str:
        """The message, and the list of errors behind it; both may be of any shape."""
        parts = [
            _sentence(part) for part in (envelope.message, envelope.errors) if part not in (None, "", [], {})
        ]
        return redact(": ".join(parts), values) if parts else "no message from Paystack"

    facts: dict[str, Any] = {
        "advice": advice,
        "http_status": answer.status,
        "operation": operation.name,
        "headers": _harmless(answer.headers),
    }
    if envelope is None:
        return kind(f"{operation.name}: {what or 'no message from Paystack'}", **facts)
    # Paystack has no code for it; the message is read before names that were sent are taken out of it.
    if kind is Rejected and operation.name == "validate" and _VALIDATED.search(str(envelope.message)):
        kind = AlreadyValidated
    meta = record(envelope.meta)
    # The docs' text says next_step; their sample and every recorded answer say nextStep.
    next_step = None if meta is None else meta.get("nextStep", meta.get("next_step"))
    return kind(
        f"{operation.name}: {told(envelope)}",
        type=shown(envelope.type),
        code=shown(envelope.code),
        next_step=shown(next_step),
        meta=None if meta is None else {hide(name): _redacted(value, values) for name, value in meta.items()},
        **facts,
    )


def _redacted(value: object, values: Iterable[str]) -> object:
    """A value of an answer, in its own shape where that is known to be harmless, and else as redacted text."""
    return value if value is None or isinstance(value, bool) else redact(value, values)


def _harmless(headers: Mapping[str, str]) -> Mapping[str, str]:
    """An answer's headers, without cookies, and without addresses that may repeat what was asked for."""
    kept = HTTPHeaderDict(headers)
    for name in ("set-cookie", "location", "link"):
        kept.discard(name)
    return kept


def _sentence(value: object) -> str:
    """A text as it is; of a list or an object of messages each one, with the name that it stands under."""
    if isinstance(value, list):
        return "; ".join(_sentence(item) for item in value)
    if isinstance(value, dict):
        known = [str(value[name]) for name in ("field", "param", "path") if value.get(name)]
        if "message" in value:
            return ": ".join([*known, _sentence(value["message"])])
        return "; ".join(f"{name}: {_sentence(item)}" for name, item in value.items())
    return str(value)
