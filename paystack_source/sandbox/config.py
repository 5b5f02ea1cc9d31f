"""Every switch of the sandbox in one frozen dataclass, with the check of its value and its source.

Facts about Paystack come from its documentation, its OpenAPI description and recorded answers. Where these say
nothing, the default is a guess, and a switch exists to test a client with the other possibility. `docs/sandbox.md`
lists every switch with its reason.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args, get_origin, get_type_hints

from paystack_source.sandbox.faults import Fault, parse_faults
from paystack_source.sandbox.people import INTEGRATION

TEST_KEY = "sk_test_sandbox"
LIVE_KEY = "sk_live_sandbox"
# Requests per 60 seconds and endpoint; beta.paystack.com/docs/api/rate-limits.
DOCUMENTED_LIMIT = {"live": 600, "test": 100}
DOCUMENTED_WINDOW = 60.0
_SHARES = {"short_pages", "dropped_rows", "new_keys", "type_drift"}
_BELOW_ZERO = {"total_off", "seed", "integration"}
_NUMBERS = (float, int, int | None)


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """What a sandbox does. Change it at run time with `Sandbox.configure(name=value)`.

    Times are seconds. Rates are shares of requests (or rows) between 0 and 1. `clock` gives seconds since
    1970 in UTC. Raises `ValueError` for a value that a switch does not take.
    """

    # keys
    mode: Literal["test", "live"] = "test"
    secret_keys: tuple[str, ...] = ()  # accepted besides the key of the mode
    ip_allowed: bool = True

    # quota
    limit: int | None = None  # None: as documented for the mode; 0: no quota
    window_seconds: float = DOCUMENTED_WINDOW
    window_anchor: Literal["first_request", "epoch"] = "first_request"
    quota_scope: Literal["endpoint", "integration"] = "endpoint"
    headers: Literal["always", "on_429", "never"] = "always"
    reset_form: Literal["relative", "epoch"] = "relative"
    retry_after: bool = False

    # lists
    per_page_cap: int = 100
    per_page_over_cap: Literal["clamp", "refuse"] = "clamp"
    per_page_as_string: bool = False
    deepest_page: int = 0  # pages with a higher number are refused; 0: none
    from_bound: Literal["inclusive", "ignored"] = "inclusive"
    to_bound: Literal["exclusive", "inclusive", "ignored"] = "exclusive"
    window_slack: float = 0.0  # rows this far outside from/to are served as well
    meta_of_other_mode: bool = False
    no_totals: bool = False  # cursor meta in both modes
    null_cursor_text: bool = False  # "null" instead of null
    empty_cursor: bool = False  # "" instead of null
    no_next_key: bool = False  # the key is missing instead of null
    repeated_cursor: bool = False  # the last page names itself as the next
    bogus_cursor: Literal[500, 400] = 500
    cursor_with_filters: Literal["combine", "ignore"] = "combine"
    short_pages: float = 0.0  # share of cursor pages with fewer rows than there are
    dropped_rows: float = 0.0  # share of numbered pages that silently lack one row
    total_off: int = 0  # meta.total is wrong by so many

    # records and writes
    answers: Literal["mixed", "docs", "spec"] = "mixed"
    error_form: Literal["full", "bare", "odd"] = "full"
    new_keys: float = 0.0  # share of rows with keys nobody has seen yet
    type_drift: float = 0.0  # share of rows where a key has another type
    metadata_update: Literal["replace", "merge"] = "replace"
    clearing: Literal["set", "ignored"] = "set"  # what null or "" in an update does
    existing_email: Literal["unchanged", "updated"] = "unchanged"
    email_case: Literal["kept", "lowered"] = "lowered"
    risk_forbidden: bool = False
    unknown_risk_customer: Literal[404, 400] = 404
    read_lag: float = 0.0  # for so long after a write, reads still show what was before
    verdict_delay: float = 3.0
    verdict_after_fetches: int | None = None  # when set, counts fetches instead of time
    validated_names: Literal["ignored", "refused"] = (
        "ignored"  # what an update of a validated person's names is
    )

    # customers who are created or edited while a client reads
    churn_every: int = 0  # after so many list requests ...
    churn_arrivals: int = 0  # ... so many customers arrive
    churn_edits: int = 0  # ... so many existing ones are edited
    churn_late: int = 0  # ... so many arrive with a createdAt in the past
    churn_late_by: float = 120.0  # how far in the past at most

    # latency and faults
    latency: float = 0.0
    jitter: float = 0.0
    faults: tuple[Fault, ...] = field(default=())
    slow_body_seconds: float = 2.0
    gzip: bool = False  # compress when the client offers to read it, as the CDN does

    # clock and seed
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] | None = None  # None: asyncio.sleep
    seed: int = 1
    integration: int = INTEGRATION  # whose customers a new state is filled with

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                choices = ", ".join(str(choice) for choice in get_args(hint))
                raise ValueError(f"{name} must be one of {choices}, not {getattr(self, name)!r}")
            value, most = getattr(self, name), 1.0 if name in _SHARES else sys.float_info.max
            if hint in _NUMBERS and name not in _BELOW_ZERO and value is not None and not 0 <= value <= most:
                what = "between 0 and 1" if name in _SHARES else "0 or more"
                raise ValueError(f"{name} must be {what}, not {value!r}")
        if self.window_seconds <= 0:
            raise ValueError("window_seconds must be more than 0")
        if not 1 <= self.per_page_cap <= 10_000:  # noqa: PLR2004  # a page beyond this is a slip, not a test
            raise ValueError("per_page_cap must be between 1 and 10000")

    @property
    def secret_key(self) -> str:
        """The key this sandbox hands out."""
        return LIVE_KEY if self.mode == "live" else TEST_KEY

    @property
    def keys(self) -> frozenset[str]:
        """Every key that is accepted."""
        return frozenset((self.secret_key, *self.secret_keys))

    @property
    def quota_limit(self) -> int:
        """Requests per window; 0 is no quota."""
        return DOCUMENTED_LIMIT[self.mode] if self.limit is None else self.limit

    def changed(self, **changes: object) -> SandboxConfig:
        """The same with `changes`; `faults` may be text, see `parse_faults`."""
        return dataclasses.replace(self, **normalised(changes))


def normalised(changes: dict[str, Any]) -> dict[str, Any]:
    """Accept the short forms: faults as text, single key as text."""
    names = {entry.name for entry in dataclasses.fields(SandboxConfig)}
    if unknown := sorted(set(changes) - names):
        raise ValueError(f"the sandbox has no switch {', '.join(unknown)}; it has {', '.join(sorted(names))}")
    result = dict(changes)
    faults: str | Iterable[Fault] | None = result.get("faults")
    if isinstance(faults, str):
        result["faults"] = parse_faults(faults)
    elif faults is not None:
        result["faults"] = tuple(faults)
    if isinstance(result.get("secret_keys"), str):
        result["secret_keys"] = (result["secret_keys"],)
    return result


def parse_switch(text: str) -> tuple[str, Any]:
    """`name=value` from a command line as the name and a value of the switch's type."""
    name, equals, value = text.partition("=")
    hints = get_type_hints(SandboxConfig)
    if name not in hints or name in {"clock", "sleep"} or not equals:
        raise ValueError(f"{text!r} is not a switch of the sandbox in the form name=value")
    hint = hints[name]
    if get_origin(hint) is Literal:
        for choice in get_args(hint):
            if str(choice) == value:
                return name, choice
        raise ValueError(f"{name} must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
    if hint is bool:
        if value.lower() not in {"true", "false", "1", "0", "on", "off", "yes", "no"}:
            raise ValueError(f"{name} is on or off, not {value!r}")
        return name, value.lower() in {"true", "1", "on", "yes"}
    if name == "secret_keys":
        return name, tuple(value.split(","))
    if name == "faults":
        return name, parse_faults(value)
    try:
        return name, float(value) if hint is float else None if value.lower() == "none" else int(value)
    except ValueError:
        raise ValueError(f"{name} is a number, not {value!r}") from None


def seconds_of(moment: datetime | float | str) -> float:
    """Seconds since 1970 of an aware datetime, an ISO text (UTC unless it says otherwise) or a number."""
    if isinstance(moment, int | float):
        return float(moment)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
