"""Makes and opens plans: what would be sent, to whom, what was there before, and what it takes to confirm it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from paystack_source.bulk.plan_file import (
    Confirmation,
    CopyInfo,
    Counts,
    InputInfo,
    PlanHeader,
    PlanRow,
    read_rows,
    read_sealed,
)
from paystack_source.bulk.problems import (
    EditedPlan,
    InputChanged,
    InputError,
    PlanError,
    Problem,
    StalePlan,
    WrongAccount,
)

if TYPE_CHECKING:
    from paystack_source.api.customers import PaystackClient
    from paystack_source.bulk.customer_copy import CustomerCopy
    from paystack_source.bulk.operations import Operation

__all__ = [
    "Confirmation",
    "CopyInfo",
    "Counts",
    "EditedPlan",
    "InputChanged",
    "InputError",
    "InputInfo",
    "Plan",
    "PlanError",
    "PlanHeader",
    "PlanOptions",
    "PlanRow",
    "Problem",
    "StalePlan",
    "WrongAccount",
    "make_plan",
]


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to plan.

    `refresh`: "live" reads every touched customer from Paystack, "never" none, "auto" those whose copy is older than
    `refresh_after_hours` or missing, if that takes at most `refresh_limit` requests. `key_mode`, `account` and `host`
    are taken from the client and the copy where they are not given. `guard_rows` and `guard_share` lower or raise the
    thresholds of the operation.
    """

    risk_action: str | None = None
    only_missing: bool = False
    metadata: Literal["merge", "replace"] = "merge"
    refresh: Literal["auto", "live", "never"] = "auto"
    refresh_after_hours: float = 24.0
    refresh_limit: int = 600
    sheet: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quota: float | None = None
    quota_share: float = 1.0
    key_mode: Literal["live", "test"] | None = None
    account: int | None = None
    host: Literal["paystack", "loopback"] | None = None
    guard_rows: int | None = None
    guard_share: float | None = None
    undo_of: str | None = None


class Plan:
    """A sealed plan. `header` says what it is about; `rows()` streams its rows in input order."""

    def __init__(self, path: Path, header: PlanHeader, identity: tuple[int, int, int, int]) -> None:
        self.path = path
        self.header = header
        self._identity = identity

    @classmethod
    def open(cls, path: str | Path) -> Plan:
        """Opens a plan and checks its seal. Raises `EditedPlan`, `StalePlan`, or `FileNotFoundError`."""
        path = Path(path)
        header, identity = read_sealed(path)
        return cls(path, header, identity)

    def rows(self) -> Iterator[PlanRow]:
        """The rows in input order, in bounded memory."""
        return read_rows(self.path, self._identity)

    def secrets(self, source: Any = None) -> Callable[[PlanRow], dict[str, str]]:
        """Reads the secret fields again from the input (the planned path if `source` is None).

        Returns a function of a row. Raises `InputChanged` if the input is not the one that was planned.
        """
        raise NotImplementedError

    def check_applicable(
        self,
        now: datetime,
        *,
        account: int | None,
        key_mode: str,
        max_age: timedelta,
        key_fingerprint: str | None = None,
        host: str | None = None,
    ) -> None:
        """Raises `StalePlan` or `WrongAccount` unless the plan may be applied now, with this key, to this account."""
        raise NotImplementedError


def make_plan(
    operation: str | Operation,
    source: Any,
    *,
    out: str | Path,
    options: PlanOptions | Mapping[str, Any] | None = None,
    copy: CustomerCopy | None = None,
    client: PaystackClient | None = None,
    now: Callable[[], datetime] | None = None,
    plan_id: str | None = None,
) -> Plan:
    """Checks the input, compares it with what is known, and writes a sealed plan to `out`.

    `source` is a path (CSV, Parquet, Excel) or a pandas, Arrow, polars or DuckDB frame. Raises `InputError` with every
    bad cell. Sends no write; reads from Paystack only as `options.refresh` allows and only with a `client`.
    """
    raise NotImplementedError
