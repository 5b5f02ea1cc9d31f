"""What stands behind the Python helpers: a frame is planned, confirmed, applied, its outcomes beside it."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, overload

import pandas as pd
import pyarrow as pa

from paystack_source.api.client import PaystackClient
from paystack_source.bulk.describe import plan_frame, switches
from paystack_source.bulk.input.cells import without_nulls
from paystack_source.bulk.input.files import Table, open_table
from paystack_source.bulk.masking import masked
from paystack_source.bulk.operations import OPERATIONS
from paystack_source.bulk.plan.copy import arrow_copy
from paystack_source.bulk.plan.planner import PlanOptions, make_plan
from paystack_source.bulk.plan.undo import make_undo
from paystack_source.bulk.run.circuit import StopRules
from paystack_source.bulk.run.results import COLUMNS, masked_columns, may_be_fed_back, row_results
from paystack_source.bulk.run.runs import Runs
from paystack_source.bulk.run.states import Outcome
from paystack_source.bulk.service import Finished, Session, follow, reach, scope_of, whose
from paystack_source.cli.progress import Progress, Silent
from paystack_source.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paystack_source.api.keys import SecretKey
    from paystack_source.bulk.plan.copy import CustomerCopy
    from paystack_source.bulk.plan.plan import Plan
    from paystack_source.bulk.run.claims import Scope

Frame: TypeAlias = Any
"""pandas, Arrow, polars, a DuckDB relation, a list of dictionaries, or a path."""


class Settings(TypedDict, total=False):
    """What every helper takes, by keyword.

    `client`, or `secret_key` and `base_url`: whom to talk to; default: what the environment and `.dlt` say.
    `confirm`: the number of rows, which a live run above the guard's thresholds needs. `copy`: what to
    compare with: a frame of customers, False for nothing; default: the warehouse copy if there is one,
    which then also gets the results. `destination` and `dataset` say where that is. `refresh`: "auto",
    "live" or "never", see `PlanOptions`. `progress`: show a bar. `quota_share`: above 0 to 1. `canary`:
    send so many rows first, and stop if a larger share than `canary_share` of them fails. `results_folder`:
    where the run is kept; default `paystack_results`.
    """

    client: PaystackClient
    secret_key: str | SecretKey
    base_url: str
    confirm: int
    copy: Any
    destination: str
    dataset: str
    refresh: Literal["auto", "live", "never"]
    progress: bool
    quota_share: float
    canary: int
    canary_share: float
    results_folder: str | Path


@dataclass(slots=True)
class BulkResult:
    """What became of every row. Shows its summary when printed; holds no key."""

    run_id: str
    summary: dict[str, Any]
    """What the command line's `--json` holds: counts by outcome, requests, seconds, files, reasons."""
    _finished: Finished = field(repr=False)
    _table: Table = field(repr=False)
    _settings: Settings = field(repr=False)

    @property
    def results(self) -> pd.DataFrame:
        """The input's own columns and order, and `_status`, `_code`, `_message`, `_time` (UTC).

        Secrets are masked.
        """
        frame = _as_pandas(self._table)
        hidden = masked_columns(self._finished.plan)
        return self._with_outcomes(
            frame.assign(**{name: [masked(cell, secret=True) for cell in frame[name]] for name in hidden})
        )

    @property
    def failed(self) -> pd.DataFrame:
        """The rejected rows as they came in, to be corrected and given to the helper again.

        With the unknown ones where a repeat is harmless; those of a create or a check are for `resume`.
        """
        found = self._with_outcomes(_as_pandas(self._table))
        again = may_be_fed_back(self._finished.plan.header.operation)
        return found[found["_status"].isin([outcome.value for outcome in again])]

    @property
    def complete(self) -> bool:
        """Whether every row was applied, was so already, or was accepted."""
        return self._finished.complete

    def resume(self) -> BulkResult:
        """Go on: read back what is in doubt, send what is unsent. Sends nothing if nothing is left."""
        with _talk(self._settings, self._finished.plan.header.operation) as client:
            return _run(self._finished.plan, self._table, self._settings, client, resumed=self)

    @overload
    def undo(self, *, dry_run: Literal[True], confirm: int | None = None) -> pd.DataFrame: ...
    @overload
    def undo(self, *, dry_run: Literal[False] = False, confirm: int | None = None) -> BulkResult: ...
    def undo(self, *, dry_run: bool = False, confirm: int | None = None) -> BulkResult | pd.DataFrame:
        """Put back what the run replaced, where that is known.

        `confirm` is the undo's own number of rows, where one is needed; the run's is not taken for it. Raises
        `ConfigError` if nothing can be taken back.
        """
        settings = self._settings.copy()
        settings.pop("confirm", None)
        if confirm is not None:
            settings["confirm"] = confirm
        with _talk(settings, self._finished.plan.header.operation) as client:
            account = whose(client).integration
            copy, _ = _compared(settings, client, account)
            quota = _quota(client, self._finished.plan.header.operation)
            options = PlanOptions(account=account, quota=quota, switches=_switches(settings))
            made = make_undo(self._finished.run, copy=copy, client=client, options=options)
            if dry_run:
                return plan_frame(made.plan)
            return _run(made.plan, made.plan.input(), settings, client)

    def _with_outcomes(self, frame: pd.DataFrame) -> pd.DataFrame:
        with self._finished.run.journal() as journal:
            cells = [result.cells for result in row_results(self._finished.plan, journal)]
        outcomes = pd.DataFrame(cells, columns=list(COLUMNS), index=frame.index, dtype="string")
        kept = frame.drop(columns=[name for name in COLUMNS if name in frame.columns])
        return pd.concat([kept, outcomes], axis=1)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.summary[o.value]:,} {o.value}" for o in Outcome if self.summary[o.value])
        return f"run {self.run_id}: {counts or 'no rows'}"

    def _repr_html_(self) -> str:
        lines = {
            key: self.summary[key] for key in ("run_id", "operation", "rows", *Outcome, "requests", "seconds")
        }
        return pd.DataFrame(lines.items(), columns=["", "value"]).to_html(index=False)


def apply_frame(
    operation: str, source: Frame, planning: dict[str, Any], settings: Settings, *, dry_run: bool
) -> BulkResult | pd.DataFrame:
    """Plan; return the plan as a frame, or apply it. Raises `TypeError` for a setting that does not exist."""
    if unknown := settings.keys() - Settings.__annotations__.keys():
        raise TypeError(f"there is no setting {', '.join(sorted(unknown))}; nothing was sent")
    table = open_table(source)
    with _talk(settings, None if dry_run else operation) as client, contextlib.ExitStack() as stack:
        runs = Runs(settings.get("results_folder"))
        if dry_run:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paystack-plan-")))
            out = folder / "dry.plan"
        else:
            out = runs.new_plan_file(operation, table.path or Path("frame"))
            stack.callback(out.unlink, missing_ok=True)  # the run's folder has it
        account = whose(client).integration
        copy, refresh = _compared(settings, client, account)
        options = PlanOptions(
            account=account,
            refresh=refresh,
            quota=_quota(client, operation),
            switches=_switches(settings),
            **planning,
        )
        plan = make_plan(operation, table, out=out, options=options, copy=copy, client=client)
        if dry_run:
            return plan_frame(plan)
        return _run(plan, table, settings, client)


def _run(
    plan: Plan,
    table: Table,
    settings: Settings,
    client: PaystackClient,
    resumed: BulkResult | None = None,
) -> BulkResult:
    if resumed is None:
        _confirmed(plan, client, settings)
    rules = StopRules(canary_rows=settings.get("canary", 0), canary_share=settings.get("canary_share", 0.0))
    runs = Runs(settings.get("results_folder"))
    title, number = OPERATIONS[plan.header.operation].title, plan.header.counts.to_send
    shown = Progress.here if settings.get("progress", True) else Silent
    with shown(title, total=number, unit="rows") as progress:
        on_done = follow(progress, client, plan.header.operation)
        session = Session(client, runs, rules, on_done, source=table, recorded=_recorded(settings))
        finished = session.apply(plan) if resumed is None else session.resume(resumed._finished.run)  # noqa: SLF001
    problem = _load(finished, settings)
    if problem:
        finished.warnings.append(problem)
    return BulkResult(
        run_id=finished.run.run_id,
        summary=finished.as_json(),
        _finished=finished,
        _table=table,
        _settings=settings,
    )


def _confirmed(plan: Plan, client: PaystackClient, settings: Settings) -> None:
    guard = plan.header.guard
    if client.mode == "live" and guard.needed and str(settings.get("confirm", "")) != guard.phrase:
        raise ConfigError(
            f"This changes {guard.phrase} live customers: {'; '.join(guard.reasons)}.",
            advice=f"Look at it with dry_run=True, then give confirm={guard.phrase}.",
        )


@contextlib.contextmanager
def _talk(settings: Settings, operation: str | None) -> Iterator[PaystackClient]:
    """The caller's client, or one of our own."""
    given = settings.get("client")
    if given is not None:
        yield given
        return
    share = settings.get("quota_share", 1.0)
    with PaystackClient(
        settings.get("secret_key"),
        base_url=settings.get("base_url"),
        quota_share=share,
        operations=reach(operation),
    ) as client:
        yield client


def _compared(
    settings: Settings, client: PaystackClient, account: int | None
) -> tuple[CustomerCopy | None, Literal["auto", "live", "never"]]:
    """The copy, and whether to read live: a copy that does not know of earlier runs is not to be believed."""
    given, refresh = settings.get("copy"), settings.get("refresh", "auto")
    if given is False:
        return None, refresh
    if given is not None:
        return arrow_copy(given), refresh
    from paystack_source import audit, copies  # noqa: PLC0415 - not with every import of the helpers

    copy = copies.find_copy(*_where(settings))
    if copy is None:
        return None, refresh
    runs = Runs(settings.get("results_folder"))
    problem = audit.catch_up(runs, scope_of(client, account), *_where(settings))
    return copy, "live" if problem else refresh


def _load(finished: Finished, settings: Settings) -> str | None:
    """Tell the warehouse, if there is one."""
    if settings.get("copy") is not None:
        return None
    from paystack_source import audit, copies  # noqa: PLC0415

    if "destination" not in settings and copies.find_copy(*_where(settings)) is None:
        return None
    return audit.load([finished.run], *_where(settings))


def _recorded(settings: Settings) -> Callable[[str, Scope], str | None] | None:
    """What asks the warehouse who applied a plan."""
    if settings.get("copy") is not None:
        return None
    from paystack_source import copies  # noqa: PLC0415

    return lambda plan_id, scope: copies.applied_by(plan_id, scope, *_where(settings))


def _quota(client: PaystackClient, operation: str) -> float:
    """Requests a minute that the client may send for this operation, its share counted; 0 without a limit."""
    used = client.quota_use(OPERATIONS[operation].endpoint)
    return 0.0 if used is None else float(used[1])


def _where(settings: Settings) -> tuple[str, str]:
    return settings.get("destination", "duckdb"), settings.get("dataset", "paystack")


def _switches(settings: Settings) -> dict[str, bool | str]:
    """What the command line must be told to go on with a run from here."""
    return switches({**settings, "no_copy": settings.get("copy") is not None})


def _as_pandas(table: Table) -> pd.DataFrame:
    """The input as it was when it was opened."""
    if isinstance(table.frame, pd.DataFrame):
        return table.frame
    if isinstance(table.frame, pa.Table):
        frame: pd.DataFrame = table.frame.to_pandas()
        for column in table.frame.schema:
            if pa.types.is_nested(column.type) and column.name in frame.columns:
                values = [without_nulls(value) for value in table.frame[column.name].to_pylist()]
                frame[column.name] = pd.Series(values, frame.index, dtype=object)
        return frame
    if table.frame is not None:
        return pd.DataFrame(table.frame)
    return pd.DataFrame(list(table.rows()), columns=table.columns, dtype="string")
