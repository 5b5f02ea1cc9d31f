"""Makes and opens plans: what would be sent, to whom, what was there before, and what it takes to confirm it.

plan = make_plan("risk-action", "customers.csv", out="customers.plan", copy=duckdb_copy("paystack_customers.duckdb"))
plan.header.counts        # rows, to_send, noop, folded, drifted
plan.rows()               # old and new values of each row
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from paystack_source.bulk.input.checks import secret_reader
from paystack_source.bulk.input.files import open_table, private_file
from paystack_source.bulk.input.snapshot import Snapshot
from paystack_source.bulk.operations import OPERATIONS
from paystack_source.bulk.operations import operation as find_operation
from paystack_source.bulk.plan.matching import open_database
from paystack_source.bulk.plan.plan_file import (
    PlanRow,
    PlanWriter,
    digest_fits,
    read_header,
    read_rows,
)
from paystack_source.bulk.plan.planner import Planner, PlanOptions
from paystack_source.errors import ConfigError, EditedPlan, InputChanged, StalePlan, WrongAccount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paystack_source.api.client import PaystackClient
    from paystack_source.bulk.input.files import Table
    from paystack_source.bulk.plan.copy import CustomerCopy

_AHEAD: Final = timedelta(minutes=5)  # clocks of two machines differ


class Plan:
    """A sealed plan. `header` says what it is about; `rows()` streams its rows in input order.

    Both come from a snapshot of the file: what was checked and shown is what is sent, whatever becomes of the
    file at `path`.
    """

    def __init__(self, snapshot: Snapshot, table: Table | None = None) -> None:
        """`table` is the input, if it is at hand. Raises `EditedPlan` or `StalePlan`."""
        self.path = snapshot.path
        self.header = read_header(snapshot)
        self._snapshot = snapshot
        self._table = table

    @classmethod
    def open(cls, path: str | Path) -> Plan:
        """Opens a plan and checks its seal. Raises `EditedPlan`, `StalePlan`, or `FileNotFoundError`."""
        try:
            snapshot = Snapshot.of(path)
        except ConfigError as error:
            raise EditedPlan(error.message, advice="Give the .plan file that `plan` wrote.") from None
        return cls(snapshot)

    def rows(self) -> Iterator[PlanRow]:
        """The rows in input order, in bounded memory."""
        return read_rows(self._snapshot)

    def save(self, path: Path) -> None:
        """Writes the plan to another file, readable by its owner only."""
        with self._snapshot.open() as plan, private_file(path) as file:
            shutil.copyfileobj(plan, file)

    def input(self, source: Any = None) -> Table:  # noqa: ANN401 - any frame
        """The input that was planned: `source`, or if that is None the planned file.

        It is read once: later calls return what the first one read. Raises `InputChanged` if it is not at hand
        or not what was planned.
        """
        about = self.header.input
        if source is None and self._table is not None:
            return self._table
        if source is None and about.path is None:
            raise InputChanged(
                "This plan was made from a frame, which is not at hand", advice="Give the same frame again."
            )
        try:
            table = open_table(
                about.path if source is None else source,
                encoding=about.encoding,
                delimiter=about.delimiter,
                sheet=about.sheet,
            )
        except FileNotFoundError:
            raise InputChanged(
                "The input file of this plan is gone", advice="Put it back, or plan again."
            ) from None
        if table.columns != about.columns or not digest_fits(about.digest, table.sha256()):
            raise InputChanged(
                f"{table.name} was changed since it was planned",
                advice="Put the file back as it was, or plan again.",
            )
        self._table = table
        return table

    def secrets(self, source: Any = None) -> Callable[[PlanRow], dict[str, str]]:  # noqa: ANN401 - any frame
        """Reads the secret fields from the `input`; returns a function of a row.

        Without secret fields the input is only for the result files, so it may be missing.
        """
        about = self.header.input
        names = set(OPERATIONS[self.header.operation].secret_fields) & set(about.mapping)
        if not names:
            with suppress(OSError, ConfigError):
                self.input(source)
            return lambda _row: {}
        return secret_reader(
            self.input(source), {name: about.columns.index(about.mapping[name]) for name in names}
        )

    def check_applicable(  # noqa: PLR0913 - everything that must agree
        self,
        now: datetime,
        *,
        account: int | None,
        key_mode: str,
        max_age: timedelta,
        key_fingerprint: str | None,
        host: str,
    ) -> None:
        """Raises `StalePlan` or `WrongAccount` unless the plan may be applied now, with this key.

        `now` must have a time zone. What is None on either side is not compared; of account and key
        fingerprint one suffices, because a key may have been replaced since.
        """
        header = self.header
        age = now - header.created_at
        if age > max_age or age < -_AHEAD:
            said = f"{age.total_seconds() / 3600:.1f} hours old" if age > max_age else "from the future"
            raise StalePlan(
                f"{self.path.name} is {said}; customers may have changed since", advice="Plan again."
            )
        if header.key_mode is not None and header.key_mode != key_mode:
            raise WrongAccount(
                f"The plan was made for {header.key_mode} mode, the key is a {key_mode} key",
                advice="Use the other key, or plan again with this one.",
            )
        if header.host is not None and header.host != host:
            places = {"paystack": "Paystack", "loopback": "a local sandbox"}
            raise WrongAccount(
                f"The plan was made against {places[header.host]}, not {places[host]}",
                advice="Plan again.",
            )
        if account is not None and header.account is not None:
            if account != header.account:
                raise WrongAccount(
                    "The plan was made for another Paystack account", advice="Plan again with this key."
                )
        elif (
            None not in (key_fingerprint, header.key_fingerprint)
            and key_fingerprint != header.key_fingerprint
        ):
            raise WrongAccount(
                "The plan was made with another key, and whether it is the same account is not known",
                advice="Plan again with this key.",
            )


def make_plan(  # noqa: PLR0913 - what is planned, against what, when
    operation: str,
    source: Any,  # noqa: ANN401 - any kind of table
    *,
    out: str | Path,
    options: PlanOptions | None = None,
    copy: CustomerCopy | None = None,
    client: PaystackClient | None = None,
    now: datetime | None = None,
    on_fetch: Callable[[int], None] | None = None,
    plan_id: str | None = None,
) -> Plan:
    """Checks the input, compares it with what is known, and writes a sealed plan to `out`.

    `source` is a path (CSV, Parquet, Excel) or a pandas, Arrow, polars or DuckDB frame. Raises `InputError`
    with every bad cell. Sends no write; reads from Paystack only as `options.refresh` allows and only with a
    `client`; `on_fetch` hears how many customers were read. `now` is when (UTC). A plan of this `plan_id` is
    applied once; None: a new one.
    """
    chosen = _checked(options or PlanOptions())
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = open_table(source, encoding=chosen.encoding, delimiter=chosen.delimiter, sheet=chosen.sheet)
    planner = Planner(
        find_operation(operation),
        table,
        chosen,
        now=now or datetime.now(UTC),
        on_fetch=on_fetch,
        plan_id=plan_id,
    )
    # DuckDB spills here when a plan is large; the folder is private and goes away with the planning.
    with (
        tempfile.TemporaryDirectory(prefix=".planning-", dir=path.parent) as folder,
        closing(open_database(Path(folder))) as con,
        private_file(path) as file,
        PlanWriter(file) as writer,
    ):
        planner.run(con, writer, copy, client)
        snapshot = Snapshot(file, path)
    return Plan(snapshot, table)


def _checked(options: PlanOptions) -> PlanOptions:
    """From Python an option may be anything. Raises `ConfigError` for what it cannot be."""
    try:
        return msgspec.convert(msgspec.structs.asdict(options), PlanOptions)
    except msgspec.ValidationError as error:
        raise ConfigError(f"An option of the plan is wrong: {error}") from None
