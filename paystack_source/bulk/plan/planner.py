"""The planning itself, step by step.

Check, look up, refresh, compare, count, and say what must be confirmed.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from paystack_source.bulk.input.checks import KEPT, Checker
from paystack_source.bulk.input.headers import match_columns
from paystack_source.bulk.plan.copy import no_copy
from paystack_source.bulk.plan.diff_sql import COMPARED
from paystack_source.bulk.plan.live import fetch_all
from paystack_source.bulk.plan.matching import Diff
from paystack_source.bulk.plan.plan_file import (
    SCHEMA,
    Confirmation,
    CopyInfo,
    Counts,
    InputInfo,
    PlanHeader,
    digest_of,
)
from paystack_source.errors import ConfigError, InputError, Problem, WrongAccount
from paystack_source.settings import QUOTA_BY_MODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from duckdb import DuckDBPyConnection

    from paystack_source.api.client import PaystackClient
    from paystack_source.bulk.input.files import Table
    from paystack_source.bulk.operations import Guard, Operation
    from paystack_source.bulk.plan.copy import CustomerCopy
    from paystack_source.bulk.plan.plan_file import PlanWriter

_HASH_KEY_BYTES: Final = 32
_FRESH: Final = timedelta(hours=24)  # a copy that saw a customer since then is believed
_FEW: Final = 10  # so few rows are no large share of anything


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to plan.

    `refresh`: "live" reads every touched customer from Paystack, "never" none. "auto" reads them if there is a
    copy to compare with and a minute of quota suffices; else those whose copy is old or missing, within the same
    limit. `key_mode` and `account` are taken from the client and the copy where they are not given. `switches`
    are those of the command line that say where: a later command about this plan needs them as well.
    """

    risk_action: str | None = None
    only_missing: bool = False
    metadata: Literal["merge", "replace"] = "merge"
    refresh: Literal["auto", "live", "never"] = "auto"
    sheet: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quota: float | None = None
    quota_share: float = 1.0
    key_mode: Literal["live", "test"] | None = None
    account: int | None = None
    undo_of: str | None = None
    switches: dict[str, bool | str] = {}


class Planner:
    """One planning run. `run` does it all; the other methods are its steps."""

    def __init__(  # noqa: PLR0913 - what is planned, and when
        self,
        operation: Operation,
        table: Table,
        options: PlanOptions,
        *,
        now: datetime,
        on_fetch: Callable[[int], None] | None = None,
        plan_id: str | None = None,
    ) -> None:
        self.operation = operation
        self.table = table
        self.options = options
        self.now = now
        self.plan_id = plan_id or f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self.on_fetch = on_fetch
        self.warnings = list(table.warnings)
        self.problems: list[Problem] = []
        self.problem_count = 0
        self.account: int | None = options.account
        self.refreshed = 0
        _check_options(operation, options)
        self.given = (
            {} if options.risk_action is None else {"risk_action": options.risk_action.strip().lower()}
        )
        self.match = match_columns(operation, table.columns, given=self.given, source=table.name)

    def run(
        self,
        con: DuckDBPyConnection,
        writer: PlanWriter,
        copy: CustomerCopy | None,
        client: PaystackClient | None,
    ) -> None:
        """Writes the plan. Raises `InputError` with everything that is wrong, and then writes nothing."""
        mode = client.mode if client is not None else self.options.key_mode
        about = None
        if copy is None:
            no_copy(con)
        else:
            about = copy(con, mode)
        if about is not None:
            self.account = _same_account(self.account, about.account)
        diff = self._diff(con, copied=about is not None)
        checker = self._check(diff)
        diff.look_up()
        if not self.problem_count:
            self._refresh(diff, about, client)
        self._collect(diff.problems(KEPT))
        self._collect(diff.merge_metadata())
        self._raise()
        counts, guarded = self._write(diff, writer)
        self.warnings += [*self.match.warnings, *checker.warnings, *self._remarks(diff, about, counts)]
        writer.close(self._header(client, mode, about, counts, guarded))

    # -- steps -----------------------------------------------------------------------------------------------

    def _diff(self, con: DuckDBPyConnection, *, copied: bool) -> Diff:
        present = (
            set(self.match.columns) | set(self.given) | {c.name for c in self.operation.columns if c.default}
        )
        names = {"customer_code": "code"}
        return Diff(
            con,
            self.operation,
            fields=[c.name for c in self.operation.fields if c.name in present and not c.secret],
            secrets=[name for name in self.operation.secret_fields if name in present],
            has={names.get(name, name) for name in self.operation.identifiers if name in present},
            metadata=self.options.metadata,
            only_missing=self.options.only_missing,
            copied=copied,
            place="line" if self.table.format in ("csv", "excel") else "row",
        )

    def _check(self, diff: Diff) -> Checker:
        """Every cell, batch by batch, into the database."""
        key = secrets.token_bytes(_HASH_KEY_BYTES)
        as_held = self.options.undo_of is not None
        checker = Checker(self.operation, self.table, self.match, self.given, key, as_held=as_held)
        diff.create(checker.schema)
        for batch in self.table.batches():
            diff.load(checker.check(batch))
        self.problems, self.problem_count = checker.problems, checker.count
        self.rows = checker.rows
        return checker

    def _refresh(self, diff: Diff, about: CopyInfo | None, client: PaystackClient | None) -> None:
        """Reads customers from Paystack, as far as the options want it and allow it."""
        how = self.options.refresh
        if how == "live" and client is None:
            raise ConfigError(
                "Reading live customers needs a key", advice="Give the key, or plan without --refresh live."
            )
        if how == "never" or client is None or self.operation.name == "deactivate-authorization":
            return
        keys = self._keys(diff, about, client.mode)
        if keys:
            self.refreshed = diff.add_live(self._watched(fetch_all(client, keys, on_progress=self.on_fetch)))

    def _keys(self, diff: Diff, about: CopyInfo | None, mode: Literal["live", "test"]) -> list[str]:
        if self.options.refresh == "live":
            return diff.to_fetch("all")
        most = int(self._per_minute(mode)) or QUOTA_BY_MODE[mode]
        keys: list[str] = []
        if about is not None and self.operation.name in COMPARED:
            keys = diff.to_fetch("all", most=most + 1)
            if len(keys) <= most:
                return keys
            keys = diff.to_fetch("stale", stale_before=self.now - _FRESH, as_of=about.as_of)
            old = f"; {len(keys):,} are not in it or were last seen long ago" if len(keys) > most else ""
            self.warnings.append(
                f"Rows are compared with the copy, not with Paystack itself{old}. What was changed there since is not "
                f"known; --refresh live reads it first, in about {self._minutes(self.rows, mode):.0f} minutes."
            )
            keys = [] if old else keys
        if not keys:
            keys = diff.to_fetch("needed")
        return keys if len(keys) <= most else []

    def _watched(
        self, found: Iterator[tuple[str, dict[str, Any] | None]]
    ) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Notes which account the customers belong to, on their way."""
        for key, customer in found:
            account = (customer or {}).get("integration")
            if isinstance(account, int):
                self.account = _same_account(self.account, account)
            yield key, customer

    def _collect(self, found: Iterator[tuple[int, list[Problem]]]) -> None:
        for count, problems in found:
            self.problem_count += count
            self.problems += problems

    def _raise(self) -> None:
        if self.problem_count:
            self.problems.sort(key=lambda p: (p.row or p.line or 0, p.column))
            raise InputError(self.problems[:KEPT], count=self.problem_count, name=self.table.name)

    def _write(self, diff: Diff, writer: PlanWriter) -> tuple[Counts, list[int]]:
        """Streams the rows into the plan; returns the counts, and the rows to send that each guard counts."""
        total = dict.fromkeys(("rows", "to_send", "noop", "folded", "drifted", "unknown_old"), 0)
        guarded = [0] * len(self.operation.guards)
        for batch in diff.result():
            sent = pc.equal(batch["verdict"], "send")
            total["rows"] += batch.num_rows
            total["to_send"] += _count(sent)
            total["noop"] += _count(pc.equal(batch["verdict"], "noop"))
            total["folded"] += _count(pc.equal(batch["verdict"], "folded"))
            total["drifted"] += _count(batch["drifted"])
            if self.operation.name in COMPARED:
                total["unknown_old"] += _count(pc.and_(sent, pc.is_null(batch["old"])))
            for index, guard in enumerate(self.operation.guards):
                guarded[index] += _count(_counted(guard, batch, sent))
            writer.write(batch.select(SCHEMA.names))
        return Counts(**total, requests=total["to_send"]), guarded

    # -- what the header says --------------------------------------------------------------------------------

    def _header(
        self,
        client: PaystackClient | None,
        mode: Literal["live", "test"] | None,
        about: CopyInfo | None,
        counts: Counts,
        guarded: list[int],
    ) -> PlanHeader:
        if mode is None and about is not None and about.domain in ("live", "test"):
            mode = "live" if about.domain == "live" else "test"
        return PlanHeader(
            tool_version=metadata.version("paystack-source"),
            plan_id=self.plan_id,
            created_at=self.now,
            operation=self.operation.name,
            options=_told(self.options),
            account=self.account,
            key_mode=mode,
            key_fingerprint=None if client is None else client.key.fingerprint,
            host=None if client is None else host_of(client),
            input=self._input(),
            copy=about,
            refreshed=self.refreshed,
            counts=counts,
            minutes=round(self._minutes(counts.requests, mode), 2),
            per_minute=self._per_minute(mode),
            guard=self._confirmation(mode, about, counts, guarded),
            warnings=list(dict.fromkeys(self.warnings)),
            undo_of=self.options.undo_of,
        )

    def _input(self) -> InputInfo:
        table = self.table
        return InputInfo(
            path=None if table.path is None else str(table.path.resolve()),
            digest=digest_of(
                table.sha256(), hides=bool(set(self.operation.secret_fields) & set(self.match.columns))
            ),
            rows=self.rows,
            format=table.format,
            columns=table.columns,
            mapping={name: table.columns[index] for name, index in self.match.columns.items()},
            ignored=self.match.ignored,
            encoding=table.encoding,
            delimiter=table.delimiter,
            sheet=table.sheet,
        )

    def _per_minute(self, mode: Literal["live", "test"] | None) -> float:
        limit = self.options.quota if self.options.quota is not None else QUOTA_BY_MODE[mode or "live"]
        return limit * self.options.quota_share

    def _minutes(self, requests: int, mode: Literal["live", "test"] | None) -> float:
        speed = self._per_minute(mode)
        return requests / speed if speed else 0.0

    def _confirmation(
        self, mode: str | None, about: CopyInfo | None, counts: Counts, guarded: list[int]
    ) -> Confirmation:
        """A live key above a threshold wants the number of rows typed; an unknown mode is taken for live."""
        reasons = []
        for guard, rows in zip(self.operation.guards, guarded, strict=True):
            if rows > guard.rows:
                reasons.append(f"{rows:,} {guard.what} are more than {guard.rows:,}")
            if about is not None and about.customers and rows > _FEW and rows / about.customers > guard.share:
                part = f"{rows / about.customers:.1%} of all {about.customers:,} customers"
                reasons.append(f"{rows:,} {guard.what} are {part}, more than {guard.share:.0%}")
        live = mode != "test"
        return Confirmation(needed=live and bool(reasons), reasons=reasons, phrase=str(counts.to_send))

    def _remarks(self, diff: Diff, about: CopyInfo | None, counts: Counts) -> Iterator[str]:
        """What a person should know before applying, though nothing is wrong."""
        compared = self.operation.name in COMPARED
        if compared and counts.unknown_old:
            why = "there is no copy to compare with" if about is None else "they are not in the copy"
            yield f"Old values of {counts.unknown_old:,} rows are unknown: {why}. They cannot be undone."
        if about is not None and compared and not self.refreshed:
            if about.as_of is None:
                yield "How old the copy is, is not known."
            elif (age := self.now - about.as_of) > _FRESH:
                hours = age.total_seconds() / 3600
                yield f"The copy is {hours:,.0f} hours old; --refresh live compares with Paystack itself."
        if counts.drifted:
            yield f"{counts.drifted:,} rows differ at Paystack from the copy; they are marked as drifted."
        cleared = diff.cleared()
        if cleared:
            yield (
                f"{cleared:,} cells clear a field. Paystack does not document how a field is emptied: an "
                "empty text is sent (for metadata an empty object), and the answer shows whether it was."
            )
        blank = self.rows - diff.filled()
        if blank:
            yield f"{blank:,} blank rows are left out."
        if not counts.to_send:
            yield "There is nothing to send."


def _check_options(operation: Operation, options: PlanOptions) -> None:
    if options.risk_action is not None:
        column = operation.by_column.get("risk_action")
        if column is None:
            raise ConfigError(f"{operation.name} takes no risk action", advice="Leave --risk-action out.")
        if options.risk_action.strip().lower() not in column.choices:
            raise ConfigError(
                f"There is no risk action {options.risk_action[:20]!r}",
                advice=f"Use {', '.join(column.choices)}.",
            )
    if options.only_missing and operation.name != "update":
        raise ConfigError(f"{operation.name} knows no --only-missing", advice="It is for update.")
    if not 0 < options.quota_share <= 1 or (options.quota is not None and options.quota < 0):
        raise ConfigError("The share of the quota must be above 0 and at most 1, the quota not below 0")


def _same_account(one: int | None, other: int | None) -> int | None:
    if one is not None and other is not None and one != other:
        raise WrongAccount(
            "The copy, the key and the account that was named do not belong together",
            advice="Give the copy of the account whose key is used.",
        )
    return one if one is not None else other


def host_of(client: PaystackClient) -> Literal["paystack", "loopback"]:
    """`loopback` for a sandbox."""
    return "paystack" if client.base_url.startswith("https://api.paystack.co") else "loopback"


def _told(options: PlanOptions) -> dict[str, Any]:
    """The options that are not as they are by default."""
    values: dict[str, Any] = msgspec.to_builtins(options)
    defaults: dict[str, Any] = msgspec.to_builtins(PlanOptions())
    return {name: value for name, value in values.items() if value != defaults[name]}


def _count(mask: Any) -> int:  # noqa: ANN401 - an Arrow array
    return int(pc.sum(mask).as_py() or 0)


def _counted(guard: Guard, batch: pa.RecordBatch, sent: Any) -> Any:  # noqa: ANN401 - Arrow arrays
    if guard.when is None:
        return sent
    field, value = guard.when
    return pc.and_(sent, pc.fill_null(pc.equal(batch[f"f_{field}"], value), False))
