"""Paystack without HTTP: it checks the key, finds the endpoint, counts the quota, and makes the answer or a fault.

`Paystack.handle` is what the HTTP server calls, and what a test under a simulated clock can call directly.
Thread-safe: one lock, held only while a request is worked on and never while waiting.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from paystack_source.sandbox import answers
from paystack_source.sandbox.answers import Answer, Refused, error
from paystack_source.sandbox.config import SandboxConfig
from paystack_source.sandbox.faults import Fault, FaultPicker
from paystack_source.sandbox.operations import RISK_ACTIONS, Call, Operations
from paystack_source.sandbox.pages import Lists
from paystack_source.sandbox.quota import Quota
from paystack_source.sandbox.store import Store

Handler = Callable[[Call, str, SandboxConfig, float], Answer]
# Fixed paths win over variable ones, as in any router.
_FIXED = {
    ("POST", "/customer"): "create",
    ("GET", "/customer"): "list",
    ("POST", "/customer/set_risk_action"): "set_risk_action",
    ("POST", "/customer/authorization/deactivate"): "deactivate",
}
_VARIABLE = {
    ("GET", ""): "fetch",
    ("PUT", ""): "update",
    ("POST", "identification"): "identification",
}
_RESERVED = {"authorization", "set_risk_action", "deactivate_authorization"}


@dataclass
class Stats:
    """Counts of requests and answers since the start or since `clear`, without customer data."""

    requests: Counter[str] = field(default_factory=Counter)  # by endpoint; "unknown" for no endpoint
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    rate_limited: int = 0
    refused_keys: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    bytes_sent: int = 0

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())

    def clear(self) -> None:
        """Begin counting again."""
        for counter in (self.requests, self.statuses, self.faults):
            counter.clear()
        self.rate_limited = self.refused_keys = self.bytes_sent = 0
        self.max_in_flight = self.in_flight


@dataclass(slots=True)
class Outcome:
    """What the server has to do: send `answer`, with the fault in `fault`, or send nothing."""

    answer: Answer | None
    fault: Fault | None = None


def route(method: str, path: str) -> tuple[str, str] | None:
    """Endpoint name and the variable part of a percent-encoded path, decoded; `None` if there is none."""
    path = path.rstrip("/") or "/"
    if (method, path) in _FIXED:
        return _FIXED[method, path], ""
    parts = path.split("/")
    if parts[:2] != ["", "customer"]:
        return None
    if len(parts) not in {3, 4} or (parts[2] in _RESERVED and method != "GET"):
        return None
    name = _VARIABLE.get((method, parts[3] if len(parts) == 4 else ""))  # noqa: PLR2004
    return None if name is None else (name, unquote(parts[2]))


class Paystack:
    """The endpoints with their quota and faults, without HTTP."""

    def __init__(self, store: Store, config: SandboxConfig) -> None:
        self.lock = threading.RLock()
        self.store = store
        self.config = config
        self.stats = Stats()
        self._quota = Quota()
        self._faults = FaultPicker(config.faults, config.seed)
        self._lists = Lists(store, config.seed)
        self._operations = Operations(store, config.seed)
        self._random = random.Random(f"churn:{config.seed}")  # noqa: S311  # repeatable arrivals, no secret
        self._handlers: dict[str, Handler] = {
            "list": lambda call, _part, config, now: self._lists.answer(call.query, config, now),
            **{
                name: getattr(self._operations, name)
                for name in (*_FIXED.values(), *_VARIABLE.values())
                if name != "list"
            },
        }

    def configure(self, config: SandboxConfig) -> None:
        """Use another configuration. Fault and quota counts begin again if their part changed."""
        with self.lock:
            before, self.config = self.config, config
            if before.faults != config.faults:
                self._faults = FaultPicker(config.faults, config.seed)
            if (before.quota_limit, before.window_seconds) != (config.quota_limit, config.window_seconds):
                self._quota.reset()

    def handle(self, call: Call) -> Outcome:
        """Handle one request: everything between arrival and answer, except waiting."""
        with self.lock:
            outcome = self._handle(call)
            if outcome.answer is not None:
                self.stats.statuses[outcome.answer.status] += 1
                self.stats.bytes_sent += len(outcome.answer.body)
            return outcome

    def _handle(self, call: Call) -> Outcome:
        config, now = self.config, self.config.clock()
        found = route(call.method, call.path)
        endpoint = found[0] if found else "unknown"
        self.stats.requests[endpoint] += 1
        if refused := self._refusal(call, config):
            self.stats.refused_keys += 1
            return Outcome(refused)
        if found is None:
            return Outcome(
                error(404, "Entity not found", code="not_found", next_step="Check the URL and the method")
            )
        granted, headers = self._quota.take(endpoint, now, config)
        if not granted:
            self.stats.rate_limited += 1
            return Outcome(answers.rate_limited(headers))
        fault = self._faults.pick(endpoint)
        if fault is not None:
            self.stats.faults[fault.kind] += 1
        happens = fault is None or fault.after_effect
        answer = self._effect(found, call, config, now) if happens else None
        answer = _after_fault(answer, fault)
        if answer is not None and config.error_form != "full":
            answer = answers.reshaped(answer, config.error_form)
        if answer is not None:
            answer.headers.update(headers)
            if fault is not None and fault.kind == "limited":
                self.stats.rate_limited += 1
                if headers:
                    answer.headers["x-ratelimit-remaining"] = "0"
        return Outcome(answer, fault)

    def _effect(self, found: tuple[str, str], call: Call, config: SandboxConfig, now: float) -> Answer:
        endpoint, part = found
        self.store.settle(now)
        try:
            answer = self._handlers[endpoint](call, part, config, now)
        except Refused as refused:
            answer = refused.answer
        except UnicodeEncodeError:  # half of an emoji where nothing else can be compared with it
            answer = error(400, "Invalid text in the body of the request", code="invalid_params")
        if (
            endpoint == "list"
            and config.churn_every
            and self.stats.requests["list"] % config.churn_every == 0
        ):
            self._churn(config, int(now))
        return answer

    @staticmethod
    def _refusal(call: Call, config: SandboxConfig) -> Answer | None:
        if not config.ip_allowed:
            return error(403, "Your IP address is not allowed to make this call")
        given = call.headers.get("authorization", "")
        if not given:
            return error(401, "No Authorization Header was found")
        scheme, _, key = given.partition(" ")
        if scheme.lower() == "bearer" and key.strip() in config.keys:
            return None
        step = "Ensure that you provide the correct authorization key for the request"
        return error(401, "Invalid key", code="invalid_Key", next_step=step)

    def _churn(self, config: SandboxConfig, now: int) -> None:
        """Add and edit customers while a client reads pages."""
        with self.store.at_once():
            for _ in range(config.churn_arrivals):
                self.store.add(now, now)
            for _ in range(config.churn_late):
                self.store.add(now - self._random.randint(1, max(1, int(config.churn_late_by))), now)
            for _ in range(min(config.churn_edits, len(self.store))):
                number = self.store.id_at(self._random.randrange(len(self.store)))
                changes = {"risk_action": self._random.choice(RISK_ACTIONS), "first_name": f"Edited {now}"}
                self.store.change(number, changes, now)


def _after_fault(answer: Answer | None, fault: Fault | None) -> Answer | None:
    """The answer after the fault; `None` if nothing is sent."""
    if fault is None or fault.kind in {"cut", "slow"}:
        return answer
    instead = _FAULT_ANSWERS.get(fault.kind)
    return instead() if instead else None  # after a reset or a hang nothing is sent


def _broken() -> Answer:
    return error(500, "An error occurred", type_="api_error", code="unknown", next_step="Try again later")


_FAULT_ANSWERS: dict[str, Callable[[], Answer]] = {
    "error": _broken,
    "error_after": _broken,
    "unavailable": lambda: Answer(503, b"", content_type="text/plain"),
    "html": lambda: Answer(502, answers.BAD_GATEWAY, content_type=answers.HTML_TYPE),
    "html_after": lambda: Answer(502, answers.BAD_GATEWAY, content_type=answers.HTML_TYPE),
    "blocked": lambda: Answer(403, answers.BOT_CHECK, content_type=answers.HTML_TYPE),
    "not_json": lambda: Answer(200, b"upstream connect error or disconnect/reset before headers"),
    "empty": lambda: Answer(200, b""),
    "status_false": lambda: error(200, "Your request could not be completed"),
    "limited": lambda: answers.rate_limited({}),
}
