"""`PaystackClient`: the seven customer operations, typed, for one notebook or any number of threads."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from msgspec import UNSET, UnsetType

from paystack_source import settings
from paystack_source.api.arguments import (
    Bound,
    check_email,
    check_fields,
    flags,
    instance_of,
    list_params,
    member,
    require_text,
    texts,
    timeouts,
)
from paystack_source.api.clock import Clock
from paystack_source.api.keys import Mode, SecretKey
from paystack_source.api.models import (
    IdentificationType,
    Page,
    PageMeta,
    Reply,
    RiskAction,
    every_row,
    json_object,
)
from paystack_source.api.operations import OPERATIONS, Policy
from paystack_source.api.privacy import redact, strip_errors, strip_iterator_errors
from paystack_source.api.quota import WINDOW_SECONDS, Budget, OnWait, Quota
from paystack_source.api.transport import RetryPolicy, Stats, Transport, encode
from paystack_source.api.wire import Wire, check_host
from paystack_source.errors import ConfigError, NotFound, Unavailable


class PaystackClient:
    """Paystack's customer operations.

    ``secret_key`` None looks the key up (see :mod:`paystack_source.settings`). With ``account_name`` the key, the base
    URL and the quota come from the section ``[sources.paystack.accounts.NAME]``; the key is never taken from another
    section. ``quota`` is requests per 60 s and endpoint. None is the default of the key's mode (live 600, test 100),
    which the server's headers correct; a number is a maximum that headers may lower but not raise; 0 is no limit of
    our own, so that only a 429 delays requests. ``quota_share`` is the part of the quota to use, above 0 to 1.
    ``max_in_flight`` bounds the connections. ``read_only`` or ``operations`` restrict the operations of this
    client. ``timeout`` is seconds to connect and for the answer, as two numbers or as one for both.
    ``on_wait(seconds, endpoint, reason)`` is called at every wait; the reason is quota, rate_limited or backoff.

    Every method raises a :class:`~paystack_source.errors.PaystackError`; see ``docs/errors.md``. The
    client is safe to share between threads: each call blocks until the quota allows it.
    """

    @strip_errors
    def __init__(  # noqa: PLR0913  # all have a default
        self,
        secret_key: str | SecretKey | None = None,
        *,
        account_name: str | None = None,
        base_url: str | None = None,
        quota: int | None = None,
        quota_share: float = 1.0,
        max_in_flight: int = 48,
        read_only: bool = False,
        operations: Collection[str] | None = None,
        on_wait: OnWait | None = None,
        timeout: float | tuple[float, float] = (10.0, 60.0),
        retry: RetryPolicy | None = None,
        window: float = WINDOW_SECONDS,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        section = settings.section_of(account_name)
        self.key = SecretKey.find(section) if secret_key is None else SecretKey.parse(secret_key)
        self.mode: Mode = self.key.mode
        """``live`` or ``test``, from the key."""
        self.base_url = check_host(settings.find_base_url(base_url, section), self.key)
        flags(read_only=read_only)
        retry = RetryPolicy() if retry is None else instance_of("retry", retry, RetryPolicy)
        if not isinstance(quota_share, int | float) or not 0.0 < quota_share <= 1.0:
            raise ConfigError("quota_share must be a number above 0 and at most 1")
        if not isinstance(max_in_flight, int) or max_in_flight < 1:
            raise ConfigError("max_in_flight must be a whole number, at least 1")
        if on_wait is not None and not callable(on_wait):
            raise ConfigError("on_wait must be a function")
        cap = settings.find_quota(quota, section)
        limit = None if cap == 0 else cap or settings.QUOTA_BY_MODE[self.key.mode]
        clock = clock or Clock()
        connect_timeout, self.answer_timeout = timeouts(timeout)
        """Seconds of silence after which a request is given up."""
        self._wire = Wire(self.base_url, connect_timeout, self.answer_timeout, max_in_flight=max_in_flight)
        self._transport = Transport(
            wire=self._wire,
            key=self.key,
            policy=Policy(read_only=read_only, operations=operations),
            quotas={
                name: Quota(
                    name, lambda: Budget(limit, cap=cap, share=quota_share, window=window), clock, on_wait
                )
                for name in OPERATIONS
            },
            clock=clock,
            random=random or Random(),  # noqa: S311  # spreads retries, guards nothing
            retry=retry,
            on_wait=on_wait,
            checks=(self._wire.check,),
        )

    @property
    def stats(self) -> Stats:
        """Counts since the client was made."""
        return self._transport.stats

    def quota_use(self, operation: str) -> tuple[int, int] | None:
        """How many requests of this client count in the endpoint's quota now, and how many it allows.

        None if there is no limit of our own. ``operation`` is one of list, fetch, create, update, validate,
        set_risk_action, deactivate_authorization.
        """
        return self._transport.quotas[operation].use()

    def close(self) -> None:
        """Close the connections and send nothing more. A call that waits to send, or reads, raises ``ClosedError``."""
        self._wire.close()

    def break_off_reads(self) -> None:
        """End the reads of views whose `check` raises now (see `until`), with that error.

        Writes are never ended early.
        """
        self._wire.break_off_reads()

    def until(self, check: Callable[[], None]) -> Self:
        """A view of this client, with the same connections, quota and counts, that stops when `check` raises.

        ``check`` is called before anything is sent, and twice a second while a call waits to send. The call ends with
        the error that it raises, and nothing is sent.
        """
        other = copy.copy(self)
        other._transport = replace(self._transport, checks=(*self._transport.checks, check))  # noqa: SLF001  # of this class
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PaystackClient({self.key}, {self.base_url})"

    @strip_errors
    def list(  # noqa: PLR0913  # the parameters of the endpoint
        self,
        *,
        page: int | str | None = None,
        per_page: int | str = 100,
        use_cursor: bool = False,
        next: str | None = None,  # noqa: A002  # the API's own name
        previous: str | None = None,
        from_: Bound | None = None,
        to: Bound | None = None,
    ) -> Page:
        """One page of customers, newest first.

        ``page`` counts from 1; ``use_cursor``, ``next`` and ``previous`` page by cursor instead. ``from_``
        and ``to`` filter by creation time only: an aware datetime, an ISO text with time zone, a date (UTC) or
        the text of one, or seconds since 1970. The docs do not say whether ``to`` is inclusive; recorded answers show
        that it is not.
        """
        return self._page(
            list_params(
                page=page,
                per_page=per_page,
                use_cursor=use_cursor,
                next=next,
                previous=previous,
                from_=from_,
                to=to,
            )
        )

    @strip_errors
    def iterate(
        self, *, from_: Bound | None = None, to: Bound | None = None, per_page: int | str = 100
    ) -> Iterator[dict[str, Any]]:
        """Every customer once, newest first, as dictionaries. Pages are fetched when they are needed.

        It pages by cursor, or by number if the answers have no cursor. Repeated rows are dropped by ``id``, which
        takes about 60 bytes of memory per customer. It does not prove that no customer is missing; the dlt source does.
        """
        params = list_params(per_page=per_page, use_cursor=True, from_=from_, to=to)
        return strip_iterator_errors(every_row(functools.partial(self._page, params)))

    @strip_errors
    def _page(self, params: Mapping[str, str]) -> Page:
        operation = OPERATIONS["list"]
        answer, envelope = self._transport.send(operation, f"{operation.path()}?{urlencode(params)}")
        meta = json_object(envelope.meta)
        return Page(
            envelope.data,
            PageMeta.parse(meta),
            params,
            status=answer.status,
            headers=answer.headers,
            raw_meta=meta,
            get=self._page,
        )

    @strip_errors
    def fetch(self, email_or_code: str) -> Reply:
        """One customer in full, with authorizations, subscriptions and transactions. Raises NotFound."""
        reply = self._call("fetch", email_or_code)
        data = reply.data or {}
        # {} does not say that Paystack has no such customer, or has no value in any field.
        is_named = any(map(data.get, ("customer_code", "id", "email")))
        wrong = None if is_named else "the answer has no customer in it"
        advice = None
        name = (
            "email" if "@" in email_or_code else "customer_code" if email_or_code.startswith("CUS_") else ""
        )
        shown = data.get(name)
        if shown is not None and str(shown).casefold() != email_or_code.strip().casefold():
            wrong = "the answer is another customer's"
            advice = "A proxy or cache on the way mixes up answers."
        if wrong:
            raise Unavailable(f"fetch: {wrong}", advice=advice, http_status=reply.status, operation="fetch")
        return reply

    @strip_errors
    def create(
        self,
        email: str,
        *,
        first_name: str | None = None,
        last_name: str | None = None,
        phone: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Reply:
        """Create a customer.

        If the email exists, Paystack returns the existing customer; this is not documented. ``metadata`` is a
        dictionary: Paystack refuses a string, although its specification requires one.
        """
        check_email(email)
        fields = {"first_name": first_name, "last_name": last_name, "phone": phone, "metadata": metadata}
        given = {name: value for name, value in fields.items() if value is not None}
        return self._call("create", fields={"email": email, **given})

    @strip_errors
    def update(
        self,
        code: str,
        *,
        first_name: str | UnsetType | None = UNSET,
        last_name: str | UnsetType | None = UNSET,
        phone: str | UnsetType | None = UNSET,
        metadata: dict[str, Any] | UnsetType | None = UNSET,
    ) -> Reply:
        """Change a customer, by code. Fields that are left out do not change; None and "" are sent unchanged.

        Paystack does not document whether it replaces or merges metadata, and whether None clears a field. An update
        cannot change the email and the risk action.
        """
        fields = {"first_name": first_name, "last_name": last_name, "phone": phone, "metadata": metadata}
        given = {name: value for name, value in fields.items() if not isinstance(value, UnsetType)}
        if not given:
            raise ConfigError("update: no field was given", operation="update")
        try:
            return self._call("update", code, fields=given)
        except NotFound as error:
            if "@" in code:
                error.advice = (
                    "Give the customer's code, which fetch(email) returns: no email is documented here."
                )
            raise

    @strip_errors
    def validate(  # noqa: PLR0913  # the fields of the endpoint
        self,
        code: str,
        *,
        first_name: str,
        last_name: str,
        country: str,
        bank_code: str,
        account_number: str,
        bvn: str,
        type: IdentificationType | str = IdentificationType.BANK_ACCOUNT,  # noqa: A002  # the API's own name
        middle_name: str | None = None,
        value: str | None = None,
    ) -> Reply:
        """Request an identity check. Paystack answers 202 without data; the verdict comes later, by webhook.

        ``country`` has two letters; ``bvn``, ``bank_code`` and ``account_number`` are texts, since numbers
        lose their leading zeros. Paystack refuses the request if any of these is missing.
        """
        fields = {
            "first_name": first_name,
            "last_name": last_name,
            "type": member(IdentificationType, type, "type"),
            "country": country,
            "bank_code": bank_code,
            "account_number": account_number,
            "bvn": bvn,
        }
        for name, text in fields.items():
            require_text("validate", name, text)
        extra = {"middle_name": middle_name, "value": value}
        return self._call("validate", code, fields=fields | {k: v for k, v in extra.items() if v is not None})

    @strip_errors
    def set_risk_action(self, customer: str, risk_action: RiskAction | str | None = None) -> Reply:
        """Allow or deny a customer's payments, or reset it to the default. ``customer`` is a code or an email.

        ``risk_action`` may be left out; Paystack's specification does not say what happens then.
        """
        require_text("set_risk_action", "customer", customer)
        fields = {"customer": customer}
        if risk_action is not None:
            fields["risk_action"] = member(RiskAction, risk_action, "risk_action")
        return self._call("set_risk_action", fields=fields)

    @strip_errors
    def deactivate_authorization(self, authorization_code: str) -> Reply:
        """Make a saved card or account unusable. It cannot be undone. Raises NotFound for an unknown code."""
        name = "deactivate_authorization"
        require_text(name, "authorization_code", authorization_code)
        return self._call(name, fields={"authorization_code": authorization_code})

    def _call(self, name: str, part: str | None = None, *, fields: dict[str, Any] | None = None) -> Reply:
        operation = OPERATIONS[name]
        if fields is not None:
            check_fields(fields, name)
        target = operation.path(part)
        body = None if fields is None else encode(fields, operation)
        values = tuple(texts(part, fields))
        answer, envelope = self._transport.send(operation, target, body, values)
        # Journals and results store this message, like the message of an error.
        message = redact(envelope.message, values) if isinstance(envelope.message, str) else ""
        return Reply(
            answer.status,
            message,
            json_object(envelope.data),
            meta=json_object(envelope.meta),
            headers=answer.headers,
        )
