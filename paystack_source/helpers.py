"""Bulk changes from a dataframe, for notebooks and scripts: the command line's plan, journal and runner.

    shown = bulk_set_risk_action(frame, "allow", dry_run=True)   # the plan as a frame; nothing is sent
    result = bulk_set_risk_action(frame, "allow")
    result.summary, result.results, result.failed
    result.undo()

`frame` is a pandas (a named index is read as a column), Arrow, polars or DuckDB frame, or a path. Runs are kept under
`paystack_results/` in the working folder, so `python pipelines/bulk.py status` shows them as well.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack, cast, overload

import pandas as pd
import pyarrow as pa

from paystack_source.api.arguments import instance_of
from paystack_source.api.client import PaystackClient
from paystack_source.api.keys import SecretKey
from paystack_source.api.models import RiskAction
from paystack_source.api.privacy import strip_errors
from paystack_source.bulk.consent import Console, Question, unattended
from paystack_source.bulk.describe import HEADINGS, plan_frame, run_facts
from paystack_source.bulk.input.cells import for_pandas, python_values
from paystack_source.bulk.input.files import InputTable, open_table
from paystack_source.bulk.operations import operation as find_operation
from paystack_source.bulk.plan.copy import arrow_copy
from paystack_source.bulk.plan.planner import PlanOptions
from paystack_source.bulk.run.results import (
    OUTCOME_COLUMNS,
    RunReport,
    outcome_cells,
    resendable,
    row_results,
)
from paystack_source.bulk.run.runner import INTERRUPTED, stop_rules
from paystack_source.bulk.run.runs import Runs, results_folder
from paystack_source.bulk.run.states import Outcome
from paystack_source.bulk.service import BulkService, client_operations
from paystack_source.commands import location_options
from paystack_source.errors import ConfigError, ExitCode, PaystackSourceError
from paystack_source.failures import explain, raise_interrupt
from paystack_source.interrupts import raise_interrupted, redeliver_interrupts
from paystack_source.progress import LatestProgress, Progress, WaitView, fitting_view
from paystack_source.settings import check_dataset, dataset_of
from paystack_source.values import masked, visible
from paystack_source.warehouse.write_back import WriteBack

_SEE_SETTINGS = "Settings and errors: see `Settings`."
Frame: TypeAlias = Any
"""pandas, Arrow, polars, a DuckDB relation, a list of dictionaries, or a path."""


@overload
def bulk_set_risk_action(
    frame: Frame,
    risk_action: RiskAction | str | None = None,
    *,
    dry_run: Literal[True],
    **settings: Unpack[Settings],
) -> pd.DataFrame: ...
@overload
def bulk_set_risk_action(
    frame: Frame,
    risk_action: RiskAction | str | None = None,
    *,
    dry_run: Literal[False] = False,
    **settings: Unpack[Settings],
) -> BulkResult: ...
@strip_errors
def bulk_set_risk_action(
    frame: Frame,
    risk_action: RiskAction | str | None = None,
    *,
    dry_run: bool = False,
    **settings: Unpack[Settings],
) -> BulkResult | pd.DataFrame:
    """Set the risk action of customers: whether Paystack takes their payments.

    `frame` has `customer_code`, `email` or `id`, and a column `risk_action`, unless `risk_action` is given for all
    rows: allow (whitelist), deny (blacklist) or default. With `dry_run` nothing is sent and the plan is returned as a
    frame.

    Settings and errors: see `Settings`.
    """
    given = {"risk_action": None if risk_action is None else str(risk_action)}
    return apply_frame("risk-action", frame, given, settings, dry_run=dry_run)


@overload
def bulk_update(
    frame: Frame,
    *,
    only_missing: bool = False,
    metadata: Literal["merge", "replace"] = "merge",
    dry_run: Literal[True],
    **settings: Unpack[Settings],
) -> pd.DataFrame: ...
@overload
def bulk_update(
    frame: Frame,
    *,
    only_missing: bool = False,
    metadata: Literal["merge", "replace"] = "merge",
    dry_run: Literal[False] = False,
    **settings: Unpack[Settings],
) -> BulkResult: ...
@strip_errors
def bulk_update(
    frame: Frame,
    *,
    only_missing: bool = False,
    metadata: Literal["merge", "replace"] = "merge",
    dry_run: bool = False,
    **settings: Unpack[Settings],
) -> BulkResult | pd.DataFrame:
    """Change names, phones and metadata.

    `frame` has `customer_code`, `email` or `id`, and any of `first_name`, `last_name`, `phone`, `metadata`.
    A blank cell leaves the field as it is, `<clear>` empties it. With `only_missing` only fields that are blank at
    Paystack are filled. `metadata` "merge" adds the given keys to the customer's metadata, "replace" replaces it.

    Settings and errors: see `Settings`.
    """
    return apply_frame(
        "update", frame, {"only_missing": only_missing, "metadata": metadata}, settings, dry_run=dry_run
    )


@overload
def bulk_create(frame: Frame, *, dry_run: Literal[True], **settings: Unpack[Settings]) -> pd.DataFrame: ...
@overload
def bulk_create(
    frame: Frame, *, dry_run: Literal[False] = False, **settings: Unpack[Settings]
) -> BulkResult: ...
@strip_errors
def bulk_create(
    frame: Frame, *, dry_run: bool = False, **settings: Unpack[Settings]
) -> BulkResult | pd.DataFrame:
    """Create customers. `frame` has `email` and any of `first_name`, `last_name`, `phone`, `metadata`.

    A row whose answer was lost is never sent again. It ends as `applied` if a later read finds it, else as `unknown`.

    Settings and errors: see `Settings`.
    """
    return apply_frame("create", frame, {}, settings, dry_run=dry_run)


@overload
def bulk_validate(frame: Frame, *, dry_run: Literal[True], **settings: Unpack[Settings]) -> pd.DataFrame: ...
@overload
def bulk_validate(
    frame: Frame, *, dry_run: Literal[False] = False, **settings: Unpack[Settings]
) -> BulkResult: ...
@strip_errors
def bulk_validate(
    frame: Frame, *, dry_run: bool = False, **settings: Unpack[Settings]
) -> BulkResult | pd.DataFrame:
    """Request identity checks. Rows end as `accepted_pending`: the verdict comes later.

    `frame` has `customer_code`, `email` or `id`, and `first_name`, `last_name`, `country`, `bank_code`,
    `account_number`, `bvn`, the numbers as text. BVN and account number are sent to Paystack and never stored.

    Settings and errors: see `Settings`.
    """
    return apply_frame("validate", frame, {}, settings, dry_run=dry_run)


@overload
def bulk_deactivate_authorization(
    frame: Frame, *, dry_run: Literal[True], **settings: Unpack[Settings]
) -> pd.DataFrame: ...
@overload
def bulk_deactivate_authorization(
    frame: Frame, *, dry_run: Literal[False] = False, **settings: Unpack[Settings]
) -> BulkResult: ...
@strip_errors
def bulk_deactivate_authorization(
    frame: Frame, *, dry_run: bool = False, **settings: Unpack[Settings]
) -> BulkResult | pd.DataFrame:
    """Make saved cards and accounts unusable. It cannot be undone.

    `frame` has `authorization_code`. With `customer_code` or `email` a lost answer can be read back.

    Settings and errors: see `Settings`.
    """
    return apply_frame("deactivate-authorization", frame, {}, settings, dry_run=dry_run)


# -- settings and results -----------------------------------------------------------------------------------


class Settings(TypedDict, total=False):
    """The settings that every helper takes, by keyword. None means the default.

    client: a `PaystackClient`; or `secret_key` and `base_url`. Default: from the environment and `.dlt`.
    account_name: the account with the key in `[sources.paystack.accounts.NAME]`; then the dataset is `paystack_NAME`.
    confirm: the number of rows that would be sent; a live run above the thresholds needs it.
    leave_out_problems: True plans the valid rows and writes the others into a file to correct; a warning names it.
    copy: what to compare with: a frame of customers, or False for nothing. Default: the warehouse copy, if there
        is one; then the results are loaded into it as well.
    destination, dataset: where that copy is, as dlt calls it. Default: duckdb, paystack.
    refresh: "live" reads every customer from Paystack first, "never" none. Default: "auto", see `PlanOptions`.
    canary, canary_share: send this many rows first, and stop if a larger share of them fails. Default: 0, 0.0.
    quota_share: the part of the quota that the run may use, above 0 to 1. Default: 1.0.
    progress: False shows no progress bar.
    results_folder: where the run is kept. Default: `paystack_results`, with `account_name` `paystack_results_NAME`.

    A helper raises `ConfigError` for a bad input or a refused plan; then nothing was sent. If a run stops early, also
    because Paystack refused the key, `summary["stopped"]` of the result says why. A Ctrl-C or SIGTERM raises
    `KeyboardInterrupt`; its attribute `result` is the result of the run, if one had begun.
    """

    client: PaystackClient
    secret_key: str | SecretKey
    base_url: str
    account_name: str
    confirm: int | None
    leave_out_problems: bool
    copy: Any
    destination: str
    dataset: str
    refresh: Literal["auto", "live", "never"]
    progress: bool
    quota_share: float
    canary: int
    canary_share: float
    results_folder: str | Path


_CHECKED: Final = {kind.__name__: kind for kind in (PaystackClient, bool, str)}
"""The types of settings that nothing else checks: a text "no" would be true."""

for _helper in (bulk_set_risk_action, bulk_update, bulk_create, bulk_validate, bulk_deactivate_authorization):
    # So that help() and a notebook show them.
    _helper.__doc__ = f"{_helper.__doc__}".replace(_SEE_SETTINGS, f"{Settings.__doc__}".strip())


@dataclass(slots=True, repr=False)
class BulkResult:
    """The outcome of every row of a run. It is shown as a table, and contains no key."""

    run_id: str
    summary: dict[str, Any]
    """The object of `--json`: counts by outcome, requests, seconds, files, reasons, warnings of plan and run."""
    _report: RunReport = field(repr=False)
    _table: InputTable = field(repr=False)
    _settings: Settings = field(repr=False)

    @property
    def results(self) -> pd.DataFrame:
        """The columns and rows of the input, `_status`, `_code`, `_message`, `_time` (UTC). Secrets are masked."""
        frame, hidden = _as_pandas(self._table), set(self._report.plan.secret_columns.values())
        frame = frame.reset_index(level=list(hidden.intersection(frame.index.names) - {*frame.columns}))
        return self._with_outcomes(
            frame.assign(**{name: [masked(cell, secret=True) for cell in frame[name]] for name in hidden})
        )

    @property
    def failed(self) -> pd.DataFrame:
        """The rejected rows as they were given, to be corrected and given to the helper again.

        They include unknown rows if sending them again is harmless; for unknown creates and checks use `resume`.
        """
        found = self._with_outcomes(_as_pandas(self._table))
        again = resendable(self._report.plan.header.operation)
        return found[found["_status"].isin([outcome.value for outcome in again])]

    @property
    def complete(self) -> bool:
        """Whether every row was applied, needed no change, or was accepted."""
        return self._report.complete

    @strip_errors
    def resume(self, *, confirm: int | None = None) -> BulkResult:
        """Continue the run: read back the rows in doubt, and send the rows that are unsent, if there are any.

        `confirm` is the number of remaining rows. A run that its canary stopped is continued only with it.
        """
        settings: Settings = self._settings if confirm is None else {**self._settings, "confirm": confirm}
        with _service(settings, self._report.plan.header.operation) as service:
            report = service.resume(self._report.run, source=self._table)
        return _result(report, self._table, self._settings)

    @overload
    def undo(self, *, dry_run: Literal[True], confirm: int | None = None) -> pd.DataFrame: ...
    @overload
    def undo(self, *, dry_run: Literal[False] = False, confirm: int | None = None) -> BulkResult: ...
    @strip_errors
    def undo(self, *, dry_run: bool = False, confirm: int | None = None) -> BulkResult | pd.DataFrame:
        """Restore the values that the run replaced, where they are known.

        `confirm` is the number of rows that the undo sends; the run's own `confirm` does not count. With `dry_run`
        nothing is sent and the plan is returned as a frame. Raises `ConfigError` if no row can be undone.
        """
        settings: Settings = {**self._settings, "confirm": confirm}
        with _service(settings, self._report.plan.header.operation) as service:
            made = service.plan_undo(self._report.run, options=_options(settings))
            if dry_run:
                return plan_frame(made.plan)
            return _result(service.apply(made.plan), made.plan.input(), settings)

    def _with_outcomes(self, frame: pd.DataFrame) -> pd.DataFrame:
        with self._report.run.journal() as journal:
            cells = [outcome_cells(result) for result in row_results(self._report.plan, journal)]
        outcomes = pd.DataFrame(cells, columns=list(OUTCOME_COLUMNS), index=frame.index, dtype="string")
        return pd.concat([frame.drop(columns=list(OUTCOME_COLUMNS), errors="ignore"), outcomes], axis=1)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.summary[o.value]:,} {o.value}" for o in Outcome if self.summary[o.value])
        return f"run {self.run_id}: {counts or 'no rows'}"

    def __repr__(self) -> str:
        """The closing table of the command line."""
        facts = self._facts()
        width = max(len(label) for label, _ in facts)
        lines = [f"  {label:<{width}}  {value}" for label, value in facts]
        return "\n".join([f"BulkResult: {HEADINGS[self._report.status]}", *lines])

    def _repr_html_(self) -> str:
        table = pd.DataFrame(self._facts()).to_html(index=False, header=False)
        return f"<b>{HEADINGS[self._report.status]}</b>{table}"

    def _facts(self) -> list[tuple[str, str]]:
        facts = [*run_facts(self._report, {}), *(("warning", text) for text in self.summary["warnings"])]
        return [(label, visible(value)) for label, value in facts]


def apply_frame(
    operation: str, source: Frame, planning: dict[str, Any], settings: Settings, *, dry_run: bool
) -> BulkResult | pd.DataFrame:
    """Plan; return the plan as a frame, or apply it. Raises `TypeError` for a setting that does not exist."""
    if unknown := settings.keys() - Settings.__annotations__.keys():
        raise TypeError(f"there is no setting {', '.join(sorted(unknown))}; nothing was sent")
    settings = cast("Settings", {name: value for name, value in settings.items() if value is not None})
    for name, value in settings.items():
        instance_of(name, value, _CHECKED.get(Settings.__annotations__[name].__forward_arg__, object))
    if "secret_key" in settings:  # a result has its settings, and must not contain the key as text
        settings["secret_key"] = SecretKey.parse(settings["secret_key"])
    table = open_table(source, expected=[each.name for each in find_operation(operation).columns])
    with _service(settings, None if dry_run else operation) as service, contextlib.ExitStack() as stack:
        if instance_of("dry_run", dry_run, bool) and not settings.get("leave_out_problems"):
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paystack-plan-")), "dry.plan")
        else:
            out = service.runs.new_plan_file(operation, table.path or Path("frame"))
            stack.callback(out.unlink, missing_ok=True)  # the run's folder has it
        plan = service.plan(operation, table, out=out, options=_options(settings, **planning))
        return plan_frame(plan) if dry_run else _result(service.apply(plan, source=table), table, settings)


def _result(report: RunReport, table: InputTable, settings: Settings) -> BulkResult:
    summary = report.as_json()
    summary["warnings"] = [*report.plan.header.warnings, *summary["warnings"]]
    result = BulkResult(report.run.run_id, summary, report, table, settings)
    if report.stopped == INTERRUPTED:
        raise_interrupted(result)
    return result


def frame_console(settings: Settings, mode: str, waits: LatestProgress | None = None) -> Console:
    """The console of the helpers: it shows a progress bar, and the setting `confirm` approves a live plan."""
    latest = waits or LatestProgress()
    confirmed, shows_bar = str(settings.get("confirm", "")), settings.get("progress", True)

    def approves(question: Question) -> bool:
        if question.after_canary:  # an answer from before the canary stopped the run does not count
            return confirmed == str(question.rows)
        return mode != "live" or confirmed in (str(question.rows), str(question.planned))

    def progress(title: str, *, total: int | None = None, unit: str = "rows") -> Progress:
        view = fitting_view() if total is not None else WaitView()
        return latest.follow(Progress(title, total=total, unit=unit, view=view if shows_bar else None))

    advice = "See the plan with dry_run=True, then give confirm= with the number of rows that would be sent."
    return unattended(approves, advice, progress)


@contextlib.contextmanager
def _service(settings: Settings, operation: str | None) -> Iterator[BulkService]:
    """The service of one call, with the caller's client or a new one."""
    account = settings.get("account_name")
    with redeliver_interrupts(), contextlib.ExitStack() as stack:
        stack.push(_as_config_error)
        client, waits = settings.get("client"), LatestProgress()
        if client is None:
            client = stack.enter_context(
                PaystackClient(
                    settings.get("secret_key"),
                    account_name=account,
                    base_url=settings.get("base_url"),
                    quota_share=settings.get("quota_share", 1.0),
                    operations=client_operations(operation),
                    on_wait=waits,
                )
            )
        given = settings.get("copy")
        dataset = check_dataset(settings.get("dataset", dataset_of(account)))
        warehouse = WriteBack(settings.get("destination", "duckdb"), dataset)
        # Runs are loaded only where a copy is, or where the caller wants them.
        uses_it = given is None and ("destination" in settings or warehouse.find_copy() is not None)
        yield BulkService(
            client,
            Runs(settings.get("results_folder", results_folder(account))),
            frame_console(settings, client.mode, waits),
            warehouse if uses_it else None,
            copy=None if given is None or given is False else arrow_copy(given),
            rules=stop_rules(settings.get("canary", 0), settings.get("canary_share", 0.0)),
        )


def _as_config_error(_kind: object, error: BaseException | None, _trace: object) -> None:
    """Raise `ConfigError` for a setting that dlt or a driver refused, such as an unknown destination."""
    if isinstance(error, Exception) and not isinstance(error, PaystackSourceError):
        raise_interrupt(error)
        failure = explain(error)
        if failure.exit_code == ExitCode.USAGE:
            raise ConfigError(failure.message, failure.advice) from None


def _options(settings: Settings, **planning: Any) -> PlanOptions:  # noqa: ANN401  # as the helpers are given it
    """The planner's options, with the switches that a command needs to continue a run."""
    return PlanOptions(
        refresh=settings.get("refresh", "auto"),
        leave_out_problems=settings.get("leave_out_problems", False),
        quota_share=1.0 if "client" in settings else settings.get("quota_share", 1.0),
        switches=location_options({**settings, "no_copy": settings.get("copy") is not None}),
        **planning,
    )


def _as_pandas(table: InputTable) -> pd.DataFrame:
    """The input, as it was when it was opened, as a pandas frame."""
    if isinstance(table.frame, pd.DataFrame):
        return table.frame
    if isinstance(table.frame, pa.Table):
        held = for_pandas(table.frame)
        frame: pd.DataFrame = held.to_pandas()
        for column in held.schema:
            if pa.types.is_nested(column.type) and column.name in frame.columns:
                frame[column.name] = pd.Series(python_values(held[column.name]), frame.index, dtype=object)
        return frame
    return pd.DataFrame(list(table.rows()), columns=table.columns, dtype="string")
