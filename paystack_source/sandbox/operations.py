"""The operations on one customer: fetch, create, update, risk action, identification, deactivation.

Each takes a `Call` and the path's variable part, and gives an `Answer` or raises `Refused`. All effects go
through the store and its write log. Runs under the lock of `Paystack`.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from paystack_source.sandbox import answers
from paystack_source.sandbox.answers import Answer, Refused, error, invalid, missing, success
from paystack_source.sandbox.config import SandboxConfig
from paystack_source.sandbox.store import Store

RISK_ACTIONS = ("default", "allow", "deny")
_EMAIL = re.compile(r"[^@\s,]+@([\w-]+\.)+[^\W\d_]{2,}")
_PROFILE = ("first_name", "last_name", "phone")
_IDENTIFICATION = ("first_name", "last_name", "type", "country", "bvn", "bank_code", "account_number")


@dataclass(slots=True)
class Call:
    """One request as it arrived. Header names are lower case."""

    method: str
    path: str  # still percent-encoded
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def fields(self) -> dict[str, Any]:
        """The body as an object. Raises `Refused`."""
        if not self.body.strip():
            return {}
        if "json" not in self.headers.get("content-type", "").lower():  # curl says that all are forms
            raise invalid("The body of the request is not JSON")
        try:
            found = json.loads(self.body, parse_constant=_no_constant, parse_float=_finite)
        except (ValueError, RecursionError):
            raise invalid("Invalid JSON in the body of the request") from None
        if not isinstance(found, dict):
            raise invalid('"value" must be of type object')
        return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float | None:
    """The number, or null for one like 1e999: JavaScript reads it as infinity, and writes that as null."""
    return number if math.isfinite(number := float(text)) else None


class Operations:
    """The endpoints' reads and changes of the store."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store = store
        self._random = random.Random(f"operations:{seed}")  # noqa: S311  # references that need no secrecy

    # --- customers -----------------------------------------------------------------------------------

    def fetch(self, _call: Call, part: str, config: SandboxConfig, now: float) -> Answer:
        number = self._customer(part)
        record = self._store.record_earlier(number, now - config.read_lag)
        if record is None:
            raise answers.unknown_customer()
        if (asked := self._store.verdict(number)) is not None and asked[1] > 0:
            self._store.count_fetch(number)
            self._store.settle(now)
        cards = [
            card
            for card in answers.authorizations_of(record)
            if not self._store.is_deactivated(card["authorization_code"])
        ]
        known = self._identifications(number, now)
        return success("Customer retrieved", answers.fetched(record, cards, known, _shape(config, number)))

    def create(self, call: Call, _part: str, config: SandboxConfig, now: float) -> Answer:
        given = call.fields()
        email = given.get("email")
        if email is None or email == "":
            raise missing("Email Address is required")
        if not isinstance(email, str) or not _EMAIL.fullmatch(email):
            raise Refused(error(400, "Invalid Email Address Passed", code="invalid_email_address"))
        changes = _profile(given, config)
        existing = self._store.find(email=email)
        if existing is not None:
            if config.existing_email == "updated" and changes:
                self._change(existing, "create", changes, config, now)
            record = self._store.record(existing)
            return success("Customer created", answers.created(record, _shape(config, existing)))
        blank = {
            "first_name": None,
            "last_name": None,
            "phone": None,
            "metadata": None,
            "risk_action": "default",
        }
        fields = blank | changes | {"email": email.lower() if config.email_case == "lowered" else email}
        number = self._store.add(int(now), int(now), fields)
        if config.read_lag:
            self._store.remember(number, now, fresh=True)
        record = self._store.record(number)
        self._store.log_write(now, "create", record["customer_code"], fields)
        # Recorded: only this answer shows real milliseconds; lists show the same moment with .000.
        moment = f"{self._store.iso(int(now))[:-4]}{int(now * 1000) % 1000:03d}Z"
        record |= {"createdAt": moment, "updatedAt": moment}
        return success("Customer created", answers.created(record, _shape(config, number)))

    def update(self, call: Call, part: str, config: SandboxConfig, now: float) -> Answer:
        number = self._store.find(code=part)  # by code only: an email is not documented here
        if number is None:
            raise answers.unknown_customer()
        record = self._change(number, "update", _profile(call.fields(), config), config, now)
        shown = answers.updated(record, _shape(config, number))
        return success("Customer updated", shown | self._identity(number, now))

    def set_risk_action(self, call: Call, _part: str, config: SandboxConfig, now: float) -> Answer:
        if config.risk_forbidden:
            raise Refused(error(403, "You cannot modify risk level of customers on this integration"))
        given = call.fields()
        customer = given.get("customer")
        if customer is None or customer == "":
            raise missing("Customer code/email is required")
        action = given.get("risk_action", "default")
        if not isinstance(customer, str):
            raise invalid('"customer" must be a string')
        if action not in RISK_ACTIONS:
            raise invalid(f'"risk_action" must be one of [{", ".join(RISK_ACTIONS)}]')
        number = self._customer(customer, status=config.unknown_risk_customer)
        record = self._change(number, "set_risk_action", {"risk_action": action}, config, now)
        shown = answers.risk_set(record, _shape(config, number))
        return success("Customer updated", shown | self._identity(number, now))

    def identification(self, call: Call, part: str, config: SandboxConfig, now: float) -> Answer:
        given = call.fields()
        for name in _IDENTIFICATION:
            if given.get(name) is None or given[name] == "":
                raise missing(f'"{name}" is required')
            if not isinstance(given[name], str):
                raise invalid(f'"{name}" must be a string')
        _texts(given, ("middle_name", "value"))
        if given["type"] != "bank_account":
            raise invalid('"type" must be one of [bank_account]')
        if not re.fullmatch(r"[A-Za-z]{2}", given["country"]):
            raise invalid("Please enter a valid country")
        # Documented: a BVN of 12 digits, though real ones have 11.
        if not re.fullmatch(r"[0-9]{11,12}", given["bvn"]):
            raise invalid("Invalid BVN")
        if not re.fullmatch(r"[0-9]{10}", given["account_number"]):
            raise invalid("Please enter a valid account number")
        number = self._customer(part)
        told = "|".join(given[name] for name in ("country", "bank_code", "account_number", "bvn"))
        credentials = hashlib.sha256(told.encode()).hexdigest()
        if self._store.validated_with(number) == credentials:
            raise Refused(error(400, "Customer already validated using the same credentials"))
        # Bank and identity are not checked here: a BVN that ends in 9 never matches.
        body = {"type": given["type"], "country": given["country"].upper(), "status": "success"}
        due, fetches = now + config.verdict_delay, 0
        if config.verdict_after_fetches is not None:
            due, fetches = now, config.verdict_after_fetches
        self._store.identify(number, credentials, given["first_name"], given["last_name"])
        self._store.ask_verdict(number, due, fetches, body, good=not given["bvn"].endswith("9"))
        self._log(now, "identification", number, {"type": given["type"]})
        return success("Customer Identification in progress", status=202)

    # --- authorizations ------------------------------------------------------------------------------

    def deactivate(self, call: Call, _part: str, _config: SandboxConfig, now: float) -> Answer:
        code = call.fields().get("authorization_code")
        if code is None or code == "":
            raise missing("Authorization code is required")
        if not isinstance(code, str):
            raise invalid('"authorization_code" must be a string')
        owner = self._owner(code)
        if owner is None or self._store.is_deactivated(code):
            raise Refused(error(404, "Authorization code not found."))
        self._store.deactivate(code, now)
        self._log(now, "deactivate", owner, {"authorization_code": code})
        return success("Authorization has been deactivated")

    # --- shared --------------------------------------------------------------------------------------

    def _customer(self, text: str, *, status: int = 404) -> int:
        number = self._store.find(email=text) if "@" in text else self._store.find(code=text)
        if number is None:
            raise answers.unknown_customer(status)
        return number

    def _owner(self, code: str) -> int | None:
        owner = answers.owner_of(code)
        number = None if owner is None else self._store.find(number=owner[0])
        if number is None:
            return None
        record = self._store.record(number)
        cards = [card["authorization_code"] for card in answers.authorizations_of(record)]
        return number if code in cards else None

    def _change(
        self, number: int, endpoint: str, changes: dict[str, Any], config: SandboxConfig, now: float
    ) -> dict[str, Any]:
        locked = {"first_name", "last_name"} & changes.keys()
        if locked and self._store.validated_with(number) is not None:
            if config.validated_names == "refused":
                raise invalid("The names of a validated customer cannot be changed")
            changes = {name: value for name, value in changes.items() if name not in locked}
        if config.metadata_update == "merge" and isinstance(changes.get("metadata"), dict):
            before = self._store.record(number)["metadata"]
            kept = before if isinstance(before, dict) else {}
            changes = changes | {"metadata": kept | changes["metadata"]}
        if config.read_lag:
            self._store.remember(number, now, fresh=False)
        record = self._store.change(number, changes, now)
        self._store.log_write(now, endpoint, record["customer_code"], changes)
        return record

    def _log(self, now: float, endpoint: str, number: int, changes: Mapping[str, Any]) -> None:
        self._store.log_write(now, endpoint, self._store.record(number)["customer_code"], changes)

    def _identifications(self, number: int, now: float) -> dict[str, Any] | None:
        asked = self._store.verdict(number)
        if asked is None:
            return None
        due, fetches, good, body = asked
        return body if good and now >= due and fetches <= 0 else None

    def _identity(self, number: int, now: float) -> dict[str, Any]:
        known = self._identifications(number, now)
        return {"identified": known is not None, "identifications": known}


def _shape(config: SandboxConfig, number: int) -> Literal["docs", "spec"]:
    if config.answers == "mixed":
        return "docs" if number % 2 else "spec"
    return config.answers


def _profile(given: Mapping[str, Any], config: SandboxConfig) -> dict[str, Any]:
    """The fields of a create or an update, checked. Unknown ones are ignored."""
    changes: dict[str, Any] = {}
    for name in _PROFILE:
        if name not in given:
            continue
        value = given[name]
        if value is not None and not isinstance(value, str):
            raise invalid(f'"{name}" must be a string')
        if value or config.clearing == "set":
            changes[name] = value
    if "metadata" in given:
        value = given["metadata"]
        if value is not None and not isinstance(value, dict):
            raise invalid('"metadata" must be of type object')
        if value is not None or config.clearing == "set":
            changes["metadata"] = value
    return changes


def _texts(given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name in given and not isinstance(given[name], str):
            raise invalid(f'"{name}" must be a string')
