"""What can go wrong, named by what the caller should do about it.

    PaystackError                 base of everything below
    |-- ConfigError               exit 2  fix the call or the settings; nothing was sent
    |   `-- ClosedError                   the client was closed
    |-- AccessError               exit 4  stop: the next request would be refused as well
    |   |-- KeyRefused                    401: give another key
    |   `-- PermissionRefused             403: ask Paystack, or fix the IP allow-list
    |-- Rejected                  exit 3  Paystack looked at this request and said no; others may pass
    |   `-- NotFound                      404: there is no such customer or authorization
    |-- RateLimited               exit 1  429 until the retries ended; certainly not applied
    |-- Unavailable               exit 1  no usable answer; a write was certainly not applied
    `-- OutcomeUnknown            exit 3  a write left and its effect is unknown: read it back first

No error holds customer data or the key: texts that come from Paystack pass :mod:`.redact` first, and the
request itself is never kept. The same table, with examples, is ``docs/errors.md``; a test keeps the two in
step.
"""

from __future__ import annotations

from typing import ClassVar


class PaystackError(Exception):
    """Base of all errors of this package.

    ``message`` is one sentence, ``advice`` what to do next. ``http_status``, ``type``, ``code`` and
    ``next_step`` repeat what Paystack answered (``meta.nextStep``), and are None where there was no answer.
    ``operation`` is the name of the operation, such as ``update``. ``exit_code`` is what a command ends with.
    """

    exit_code: ClassVar[int] = 1
    default_advice: ClassVar[str] = "Run again with PAYSTACK_TRACEBACK=1 and report what it shows."

    def __init__(  # noqa: PLR0913  # every part of Paystack's error body, by name
        self,
        message: str,
        *,
        advice: str | None = None,
        http_status: int | None = None,
        type: str | None = None,  # noqa: A002  # Paystack's own name for it
        code: str | None = None,
        next_step: str | None = None,
        operation: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = self.default_advice if advice is None else advice
        self.http_status = http_status
        self.type = type
        self.code = code
        self.next_step = next_step
        self.operation = operation

    def __str__(self) -> str:
        """The message, the facts that Paystack gave, and the advice, on one line."""
        facts = [f"HTTP {self.http_status}"] if self.http_status else []
        facts += [fact for fact in (self.type, self.code) if fact]
        text = f"{self.message} ({', '.join(facts)})" if facts else self.message
        return f"{text}. {self.advice}".replace("..", ".") if self.advice else text

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, so that a worker process can hand the error back."""
        return type(self), (self.message,), dict(self.__dict__)


class ConfigError(PaystackError):
    """The key, a setting or an argument cannot be right. Nothing was sent."""

    exit_code = 2
    default_advice = "Correct it and run again; nothing was sent."


class ClosedError(ConfigError):
    """The client was closed, or whoever uses it has stopped: this request was certainly not applied."""

    default_advice = "Make a new client, or close it later."


class AccessError(PaystackError):
    """Paystack refused the key or the permission: every further request would be refused as well."""

    exit_code = 4
    default_advice = "Stop, and check the key and what the integration may do."


class KeyRefused(AccessError):  # noqa: N818  # named by what happened
    """HTTP 401: Paystack does not know this key."""

    default_advice = "Copy the secret key again from the Paystack dashboard, Settings > API Keys & Webhooks."


class PermissionRefused(AccessError):  # noqa: N818  # named by what happened
    """HTTP 403: the key is known, but may not do this."""

    default_advice = "Ask Paystack support to enable this for your integration, or use another operation."


class Rejected(PaystackError):  # noqa: N818  # named by what happened
    """Paystack looked at the request and refused it (4xx, or ``status: false``). It was not applied."""

    exit_code = 3
    default_advice = "Correct this request; sending it again as it is cannot help."


class NotFound(Rejected):
    """HTTP 404: no such customer or authorization under this key."""

    default_advice = "Check the code or email, and that the key's mode (test or live) is the one it lives in."


class RateLimited(PaystackError):  # noqa: N818  # named by what happened
    """HTTP 429 until the retries ended. The request was certainly not applied."""

    default_advice = (
        "Something else uses the quota of this key: wait a minute, or lower the share of this run."
    )


class Unavailable(PaystackError):  # noqa: N818  # named by what happened
    """No usable answer: no connection, a server error, or a body that is not Paystack's.

    Reads were retried first. A write that ends like this certainly never reached Paystack.
    """

    default_advice = "Check the network and https://status.paystack.com, then run again."


class OutcomeUnknown(PaystackError):  # noqa: N818  # named by what happened
    """A write was sent, and no answer tells whether it was applied.

    Never resend it blindly: fetch the customer and compare first. It carries no request data.
    """

    exit_code = 3
    default_advice = "Fetch the customer and compare before you send it again."
