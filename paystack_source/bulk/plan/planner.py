"""Makes plans: checks an input, finds the customers of its rows, compares, counts, and decides about confirmation."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection

from paystack_source.api import workers
from paystack_source.api.client import PaystackClient
from paystack_source.api.workers import FetchedCustomer
from paystack_source.bulk.input.checks import Checker
from paystack_source.bulk.input.files import InputTable, write_left_out
from paystack_source.bulk.input.header import map_columns
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.bulk.operations import BulkOperation
from paystack_source.bulk.operations import operation as find_operation
from paystack_source.bulk.plan.changes import LOCKED, cleared, compare, merge_metadata, odd_texts, plan_rows
from paystack_source.bulk.plan.copy import CustomerCopy, no_copy, release
from paystack_source.bulk.plan.matching import Matching, planning_database
from paystack_source.bulk.plan.plan import (
    CopyInfo,
    Counts,
    InputInfo,
    Plan,
    PlanHeader,
    digest_of,
    host_of,
    is_plan,
    write_plan,
)
from paystack_source.bulk.plan.tally import Tally, confirmation
from paystack_source.errors import ConfigError, InputError, Problem, WrongAccount
from paystack_source.file_lock import DUCKDB_FILES
from paystack_source.private_files import check_output, private_file, stored_path
from paystack_source.settings import QUOTA_BY_MODE, installed_version
from paystack_source.values import counted, visible

_FRESH: Final = timedelta(hours=24)  # a customer in the copy is current if it was read within this time
_MAX_PROBLEMS: Final = 100_000  # the most problems that are listed; all are counted


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of a plan.

    `refresh`: "live" reads the customer of every row from Paystack, "never" none. "auto" reads all of them if there is
    a copy to compare with and a minute of quota is enough; else those that the copy lacks or read long ago, within the
    same limit. If `account` is None, it is the copy's. `leave_out_problems`: rows with problems are not planned, but
    written into a file that can be corrected and planned. `quota` is requests a minute.
    `switches` are the command line's switches for account and location of the copy, for later commands.
    """

    risk_action: str | None = None
    only_missing: bool = False
    metadata: Literal["merge", "replace"] = "merge"
    refresh: Literal["auto", "live", "never"] = "auto"
    quota: float | None = None
    quota_share: float = 1.0
    account: int | None = None
    undo_of: str | None = None
    leave_out_problems: bool = False
    switches: dict[str, bool | str] = {}


def make_plan(  # noqa: PLR0913  # the input, the copy, and the options
    operation: str,
    table: InputTable,
    *,
    out: str | Path,
    client: PaystackClient,
    options: PlanOptions | None = None,
    copy: CustomerCopy | None = None,
    now: datetime | None = None,
    on_fetch: Callable[[int], None] = lambda _count: None,
    plan_id: str | None = None,
    customers: int | None = None,
) -> Plan:
    """Check the input, compare it with the copy and with Paystack, and write a sealed plan to `out`.

    It sends no write, and reads customers from Paystack as `options.refresh` allows; `on_fetch` gets the number
    of those. `now` is the plan's time, in UTC. `plan_id` None makes a new id; plans with the same id are applied once.
    `customers` is the account's number of customers; None takes the copy's.

    Raises `InputError` with every bad cell, and `ConfigError`.
    """
    chosen = _checked(options or PlanOptions(), found := find_operation(operation))
    path = Path(out)
    check_output(path, "plan", is_plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    now = now or datetime.now(UTC)
    plan_id = plan_id or f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    planner = _Planner(found, table, chosen, client, now, plan_id, customers, on_fetch)
    with planning_database(path.parent) as con, private_file(path) as file:
        planner.run(con, file, copy, path)
        plan = Plan(FileSnapshot(file, path), table)
        plan.tally = planner.tally  # so the rows are not counted again
        return plan


@dataclass
class _Planner:
    """Makes one plan. `run` calls the other methods, which are the steps."""

    operation: BulkOperation
    table: InputTable
    options: PlanOptions
    client: PaystackClient
    now: datetime
    plan_id: str
    customers: int | None  # the account's number of customers, if it is known
    on_fetch: Callable[[int], None]
    about: CopyInfo | None = None
    refreshed: int = 0
    drifted: int = 0
    locked: int = 0  # rows that change a name which Paystack has locked
    verdicts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Raise `InputError` for a bad header."""
        self.mode, self.account = self.client.mode, self.options.account
        self.tally = Tally(self.operation)
        self.warnings = list(self.table.warnings)
        self.given = {} if self.options.risk_action is None else {"risk_action": self.options.risk_action}
        try:
            self.mapping = map_columns(
                self.operation, self.table.columns, given=self.given, source=self.table.name
            )
        except InputError as error:  # the right one may be another sheet
            error.advice = " ".join([error.advice, *self.warnings, self.table.unread]).rstrip()
            raise

    def run(self, con: DuckDBPyConnection, file: BinaryIO, copy: CustomerCopy | None, out: Path) -> None:
        """Write the plan into `file`, and the rows that are left out into a file beside `out`.

        Raises `InputError` with all problems; then nothing is written.
        """
        matching = self._matching(con, copied=copy is not None)
        checker = self._check(matching)
        with DUCKDB_FILES:
            self.about = (copy or no_copy)(con, self.mode)
            if self.about is not None:
                self._require_account(self.about.account)
            matching.look_up()
            release(con)
        self._refresh(matching)
        matching.drop_unchanged_fields()
        self._leave_out(matching, out)
        compare(matching)
        write_plan(file, self._counted(matching), lambda: self._header(matching, checker))

    # -- steps -----------------------------------------------------------------------------------------------

    def _matching(self, con: DuckDBPyConnection, *, copied: bool) -> Matching:
        present = {*self.mapping.columns, *self.given, *(c.name for c in self.operation.columns if c.default)}
        return Matching(
            con,
            self.operation,
            fields=[c.name for c in self.operation.fields if c.name in present and not c.secret],
            secrets=[name for name in self.operation.secret_fields if name in present],
            metadata=self.options.metadata,
            only_missing=self.options.only_missing,
            copied=copied,
            counted_in="line" if self.table.format in ("csv", "excel") else "row",
            is_undo=self.options.undo_of is not None,
        )

    def _check(self, matching: Matching) -> Checker:
        """Check every cell, batch by batch, and put the rows into the database."""
        checker = Checker(self.operation, self.table, self.mapping, self.given, is_undo=matching.is_undo)
        matching.open_input(checker.schema)
        for batch in self.table.batches():
            rows, odd = checker.check(batch)
            matching.append("input", rows)
            matching.append("odd_cells", odd)
        matching.has = {name.removeprefix("customer_") for name in checker.identifiers}
        self.rows = checker.rows
        return checker

    def _leave_out(self, matching: Matching, out: Path) -> None:
        """Leave out the rows with problems, and write them into a file beside `out`.

        Raises `InputError` if `leave_out_problems` is not set, or if no row would be left.
        """
        leave_out = self.options.leave_out_problems
        found: list[Problem] = []
        while True:  # a left-out row may have identified the customer of another row
            merge_metadata(matching)
            count = matching.find_problems()
            if not count:
                break
            if count > _MAX_PROBLEMS or not leave_out:
                many = f"At most {_MAX_PROBLEMS:,} problems can be left out." if leave_out else None
                raise InputError(
                    matching.problems(_MAX_PROBLEMS), count=count, name=self.table.name, advice=many
                )
            found += matching.leave_out()
        if not found:
            return
        if not matching.one("SELECT count(*) FROM input WHERE NOT blank")[0]:
            raise InputError(found, name=self.table.name)
        file = write_left_out(self.table, found, out, self._secret_columns())
        number = len({problem.row for problem in found})
        self.warnings.append(
            f"{counted(number, 'row', 'is', 'are')} left out because of problems. Correct {file} and plan "
            "that file in the same way."
        )

    def _secret_columns(self) -> set[str]:
        """The input's names of the secret columns."""
        mapped = self.mapping.columns
        return {self.table.columns[mapped[name]] for name in self.operation.secret_fields if name in mapped}

    def _refresh(self, matching: Matching) -> None:
        """Read customers from Paystack, as `options.refresh` allows."""
        how = self.options.refresh
        if how == "never" or self.operation.name == "deactivate-authorization":
            return
        keys = matching.to_read("all") if how == "live" else self._default_reads(matching)
        # All problems are reported together, but not after an hour of reading customers.
        read_last = len(keys) > self._max_reads() and not self.options.leave_out_problems
        if read_last and matching.wrong_cells(certainly=self.about is None):
            return
        odd = set(matching.to_read("doubted"))
        # Customers of odd cells first: if such a cell is wrong, the others need not be read.
        for part in ([key for key in keys if key in odd], [key for key in keys if key not in odd]):
            if part and not (read_last and part[0] not in odd and matching.wrong_cells()):
                with contextlib.closing(workers.fetch_all(self.client, part)) as found:
                    self.refreshed += matching.add_live(self._of_one_account(found))

    def _max_reads(self) -> int:
        """The most customers that are read by default: a minute of quota."""
        return int(self._per_minute()) or QUOTA_BY_MODE[self.mode]

    def _default_reads(self, matching: Matching) -> list[str]:
        """The customers to read by default: all if a minute of quota is enough, else the stale ones, else none."""
        most, keys, about = self._max_reads(), list[str](), self.about
        if about is not None and self.operation.compared:
            keys = matching.to_read("all", most=most + 1)
            if len(keys) <= most:
                return keys
            keys = matching.to_read("stale", stale_before=self.now - _FRESH)
            old = f"; {len(keys):,} are not in it or were last seen long ago" if len(keys) > most else ""
            self.warnings.append(
                f"Rows are compared with the copy, not with Paystack itself{old}. Later changes at Paystack are not "
                f"known; --refresh live reads them first, in about {self._minutes(self.rows):.0f} minutes."
            )
        if not 0 < len(keys) <= most:
            keys = matching.to_read("needed")
        return keys if len(keys) <= most else []

    def _of_one_account(self, found: Iterator[FetchedCustomer]) -> Iterator[FetchedCustomer]:
        """The same customers. Raises `WrongAccount` if one belongs to another account."""
        for number, (key, customer) in enumerate(found, 1):
            account = (customer or {}).get("integration")
            if isinstance(account, int):
                self._require_account(account)
            self.on_fetch(number)
            yield key, customer

    def _require_account(self, account: int | None) -> None:
        if None not in (self.account, account) and self.account != account:
            raise WrongAccount(
                "The copy, the key and the named account do not belong together",
                advice="Give the copy of the account whose key is used.",
            )
        self.account = account if self.account is None else self.account

    def _counted(self, matching: Matching) -> Iterator[pa.RecordBatch]:
        """The rows of the plan, which are counted as they pass."""
        for batch in plan_rows(matching):
            self.verdicts.update(batch["verdict"].to_pylist())
            self.drifted += _count(batch["drifted"])
            self.locked += _count(pc.equal(batch["note"], LOCKED))
            self.tally.add_batch(batch)
            yield batch

    # -- the header ------------------------------------------------------------------------------------------

    def _header(self, matching: Matching, checker: Checker) -> PlanHeader:
        """The header, after all rows were counted."""
        about, counts = self.about, self._counts(matching)
        odd = odd_texts(matching) if self.options.undo_of is None else ()
        self.warnings += [*self.mapping.warnings, *checker.warnings, *odd, *self._remarks(matching, counts)]
        customers = about.customers if self.customers is None and about is not None else self.customers
        return PlanHeader(
            tool_version=installed_version(),
            plan_id=self.plan_id,
            created_at=self.now,
            operation=self.operation.name,
            options=msgspec.to_builtins(self.options),
            account=self.account,
            key_mode=self.mode,
            key_fingerprint=self.client.key.fingerprint,
            host=host_of(self.client),
            input=self._input(),
            copy=about,
            refreshed=self.refreshed,
            customers=customers,
            counts=counts,
            minutes=round(self._minutes(counts.requests), 2),
            per_minute=self._per_minute(),
            guard=confirmation(self.tally, customers=customers, live=self.mode == "live"),
            warnings=list(dict.fromkeys(map(visible, self.warnings))),
            undo_of=self.options.undo_of,
        )

    def _counts(self, matching: Matching) -> Counts:
        left_out = matching.one("SELECT count(*) FROM left_out")[0]
        return Counts(
            rows=self.verdicts.total(),
            to_send=self.tally.rows,
            noop=self.verdicts["noop"] - left_out,
            duplicates=self.verdicts["duplicate"],
            left_out=left_out,
            drifted=self.drifted,
            unknown_old=self.tally.unknown_old,
            requests=self.tally.rows,
        )

    def _input(self) -> InputInfo:
        table = self.table
        return InputInfo(
            path=None if table.path is None else stored_path(table.path.resolve()),
            digest=digest_of(table.sha256(), hides=bool(self._secret_columns())),
            format=table.format,
            columns=table.columns,
            mapping={name: table.columns[index] for name, index in self.mapping.columns.items()},
            ignored=self.mapping.ignored,
            encoding=table.encoding,
            delimiter=table.delimiter,
            sheet=table.sheet,
        )

    def _per_minute(self) -> float:
        limit = QUOTA_BY_MODE[self.mode] if self.options.quota is None else self.options.quota
        return limit * self.options.quota_share

    def _minutes(self, requests: int) -> float:
        speed = self._per_minute()
        return requests / speed if speed else 0.0

    def _remarks(self, matching: Matching, counts: Counts) -> Iterator[str]:
        compared, about = self.operation.compared, self.about
        if self.locked:
            yield (
                f"{counted(self.locked, 'row', 'changes', 'change')} the name of a customer who passed an identity "
                "check. Paystack has locked these names: it keeps them, or refuses the row. Only another identity "
                "check can change them."
            )
        if compared and counts.unknown_old:
            why = "there is no copy to compare with" if about is None else "they are not in the copy"
            yield f"Old values of {counted(counts.unknown_old, 'row')} are unknown: {why}. They cannot be undone."
        if about is not None and compared and not self.refreshed:
            if about.as_of is None:
                yield "The age of the copy is not known."
            elif (age := self.now - about.as_of) > _FRESH:
                hours = age.total_seconds() / 3600
                yield f"The copy is {hours:,.0f} hours old; --refresh live compares with Paystack itself."
        if counts.drifted:
            yield f"{counted(counts.drifted, 'row', 'differs', 'differ')} at Paystack from the copy, marked as drifted."
        if emptied := cleared(matching):
            yield (
                f"{counted(emptied, 'cell', 'clears', 'clear')} a field. Paystack does not document how a field is "
                "emptied: an empty text is sent (for metadata an empty object), and the answer shows whether it was."
            )
        if blank := matching.one("SELECT count(*) FROM input ANTI JOIN left_out USING (row) WHERE blank")[0]:
            yield f"{counted(blank, 'blank row', 'is', 'are')} left out."
        if not counts.to_send:
            empty = "" if counts.rows else f"{self.table.name} has a header and no rows. "
            yield f"{empty}There is nothing to send."


def _count(mask: Any) -> int:  # noqa: ANN401  # an Arrow array
    return int(pc.sum(mask).as_py() or 0)


def _checked(options: PlanOptions, operation: BulkOperation) -> PlanOptions:
    try:
        options = msgspec.convert(msgspec.structs.asdict(options), PlanOptions)
    except msgspec.ValidationError as error:
        raise ConfigError(f"An option of the plan is wrong: {error}") from None
    if options.risk_action is not None:
        column = operation.by_column.get("risk_action")
        if column is None:
            raise ConfigError(f"{operation.name} takes no risk action", advice="Leave --risk-action out.")
        action = options.risk_action.strip().lower()
        if action not in column.choices:
            raise ConfigError(
                f"There is no risk action {options.risk_action[:20]!r}",
                advice=f"Use {', '.join(column.choices)}.",
            )
        options = msgspec.structs.replace(options, risk_action=action)
    if options.only_missing and operation.name != "update":
        raise ConfigError(f"{operation.name} has no --only-missing", advice="It is for update.")
    if options.metadata != "merge" and operation.name != "update" and options.undo_of is None:
        raise ConfigError(f"{operation.name} has no --metadata", advice="It is for update.")
    if not 0 < options.quota_share <= 1 or (options.quota is not None and options.quota < 0):
        raise ConfigError("The share of the quota must be above 0 and at most 1, the quota not below 0")
    return options
