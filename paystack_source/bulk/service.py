"""Bulk changes from end to end: plan, ask, apply, resume, undo, load into the warehouse.

The command line, the Python helpers and the dlt destination each make a `BulkService`. They pass their own client,
their console, which shows progress and asks for approval, and the warehouse, if there is one.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from paystack_source.api.client import PaystackClient
from paystack_source.api.workers import ThreadWorkers
from paystack_source.bulk.consent import Console, question_of
from paystack_source.bulk.describe import COMMAND, input_switch
from paystack_source.bulk.input.files import InputTable
from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.copy import CustomerCopy, arrow_copy, duckdb_copy
from paystack_source.bulk.plan.plan import MAX_AGE, MAX_AGE_RESUMED, Plan, PlanRow, host_of
from paystack_source.bulk.plan.planner import PlanOptions, make_plan
from paystack_source.bulk.plan.undo import Undo, hold_undone, make_undo
from paystack_source.bulk.run.journal import os_user, user
from paystack_source.bulk.run.recording import WriteBackTarget, catch_up, claim, record_runs
from paystack_source.bulk.run.results import RunReport, conclude, remaining_rows
from paystack_source.bulk.run.runner import Runner, StopRules, raise_cancellation, stopping
from paystack_source.bulk.run.runs import AppliedPlan, PlanLock, Run, Runs, Scope, owner, utc
from paystack_source.bulk.run.send import Done, Job, Sender, customer_of
from paystack_source.bulk.run.states import Action, EventKind, JournalEvent, Outcome, Phase, RowState, outcome
from paystack_source.errors import AppliedError, BrokenOffError, ConfigError, JournalError
from paystack_source.failures import explain, raise_interrupt
from paystack_source.interrupts import forget_interrupt
from paystack_source.progress import Progress

RECHECK_AFTER: Final = timedelta(minutes=5)
_AGAIN: Final = "Plan again if it is to be sent once more."


class KeyAccount(NamedTuple):
    """The account of a key, by the values of one of its customers."""

    empty: bool = True
    """Whether the account has no customers, so that no copy can belong to it."""
    integration: int | None = None
    domain: str | None = None
    customers: int | None = None
    """The number of its customers."""


@dataclass
class BulkService:
    """Plans and runs bulk changes for one command or call. It requests `account` once, so do not use it longer."""

    client: PaystackClient
    runs: Runs
    console: Console
    warehouse: WriteBackTarget | None = None
    """The dataset that has the copy and gets the runs; None for no copy and no load."""
    copy: CustomerCopy | None = None
    """The customers to compare with, instead of the warehouse's copy."""
    rules: StopRules | None = None
    max_age: timedelta | None = None
    """The greatest age of a plan; None for `MAX_AGE`, or for `MAX_AGE_RESUMED` when a run is resumed."""
    recheck: bool | None = None
    """Whether each customer is read just before the change. None: only if the plan is older than `RECHECK_AFTER`."""
    per_minute: float | None = None
    """The quota in requests a minute, without the share; None for the client's."""
    server: str | None = None
    """The identity of a sandbox, because its URL changes at each start; None for the client's base URL."""
    now: Callable[[], float] = time.time
    _warned_for: Runner | None = None

    @cached_property
    def account(self) -> KeyAccount:
        """The account of the key. Sends one request, for one customer."""
        page = self.client.list(per_page=1)
        if not (rows := page.rows):
            return KeyAccount()
        integration, domain = rows[0].get("integration"), rows[0].get("domain")
        return KeyAccount(
            empty=False,
            integration=integration if isinstance(integration, int) else None,
            domain=domain if isinstance(domain, str) else None,
            customers=page.meta.total,
        )

    # --- planning

    def plan(
        self,
        operation: str,
        table: InputTable,
        *,
        out: Path,
        options: PlanOptions,
        plan_id: str | None = None,
    ) -> Plan:
        """Plan the rows of the table, compared with the copy and with Paystack. Sends no write.

        `out` is the plan's file. Raises what `make_plan` raises.
        """
        options, copy = self._compared(operation, options)
        with self.console.progress("Comparing", unit="customers read") as shown:
            return make_plan(
                operation,
                table,
                out=out,
                options=options,
                copy=copy,
                client=self.client,
                on_fetch=lambda count: shown.update(done=count),
                plan_id=plan_id,
                customers=self.account.customers,
            )

    def plan_undo(self, run: Run, *, out: Path | None = None, options: PlanOptions) -> Undo:
        """A plan that restores the values that the run replaced. Sends no write."""
        operation = run.plan().header.operation
        how = msgspec.structs.replace(options, metadata="replace", undo_of=run.run_id, refresh="live")
        target = out or run.folder / "undo.plan"
        return make_undo(run, lambda table: self.plan(operation, table, out=target, options=how))

    def _compared(self, operation: str, options: PlanOptions) -> tuple[PlanOptions, CustomerCopy | None]:
        """The options with account and quota, and the customers to compare with.

        If the copy lacks earlier runs that cannot be loaded now, the customers are read live instead.
        """
        quota = self.per_minute
        if quota is None:
            used = self.client.quota_use(BULK_OPERATIONS[operation].endpoint)
            quota = 0.0 if used is None else used[1] / options.quota_share
        account = self.account.integration
        options = msgspec.structs.replace(options, account=account, quota=quota)
        warehouse = self.warehouse
        if self.copy is not None or warehouse is None or self.account.empty:
            return options, self.copy
        if (found := warehouse.find_copy()) is None:
            return options, None
        copy = arrow_copy(found, destination=warehouse.destination)
        if isinstance(found, Path):
            copy = duckdb_copy(found, dataset=warehouse.dataset)
        problem = catch_up(warehouse, self.runs, self._scope(account))
        if problem:
            self.console.warn(
                f"{problem} The copy lacks changes of earlier runs, so customers are read live."
            )
            options = msgspec.structs.replace(options, refresh="live")
        return options, copy

    # --- sending

    def apply(
        self,
        plan: Plan,
        *,
        source: Any = None,  # noqa: ANN401  # any frame
        run_id: str | None = None,
    ) -> RunReport:
        """Ask, run the plan, and load the run into the warehouse. `source` is the frame, for runs from Python.

        Raises `PlanError`, `BusyError`, `AppliedError`, or an error of the console; then nothing was sent.
        """
        scope = self._check(plan, MAX_AGE if self.max_age is None else self.max_age)
        left = self._ask(plan, scope)
        secrets = plan.secrets(source)
        with hold_undone(plan, self.runs, scope), self.runs.lock(plan) as lock:
            self._refuse_applied(plan, scope, lock)
            run = self.runs.create(plan, now=utc(self.now()), run_id=run_id)
            try:
                self._claim(run, plan, lock)
            except ConfigError:  # nothing was sent
                shutil.rmtree(run.folder)
                raise
            with run.hold_lock():
                finished = self._send(run, plan, secrets, lock, scope, left)
        return self._recorded(finished)

    def resume(self, run: Run, *, source: Any = None) -> RunReport:  # noqa: ANN401  # any frame
        """Continue a run: read back the rows in doubt, and send the unsent rows, if there are any.

        Raises `AppliedError` if another run applied the plan since, or if this folder is a copy of the run's folder.
        Raises the errors of `apply` as well.
        """
        plan = run.plan()
        with run.journal() as journal:
            journal.verify()
        scope = self._check(plan, MAX_AGE_RESUMED if self.max_age is None else self.max_age)
        left = self._ask(plan, scope, run)
        secrets = plan.secrets(source)
        with Runs(run.folder.parent).lock(plan) as lock:
            before = lock.applied(scope)
            if before is not None and not before.is_of(run.folder):
                raise _applied(before)
            run.check_journal()  # again, after the question; and also against the register
            self._claim(run, plan, lock)
            finished = self._send(run, plan, secrets, lock, scope, left)
        return self._recorded(finished)

    def _ask(self, plan: Plan, scope: Scope, run: Run | None = None) -> int:
        """Ask whether the rows of the plan, or the remaining rows of the run, may be sent; returns their number."""
        asked = question_of(
            plan,
            run,
            runs=self.runs,
            scope=scope,
            now=self.now(),
            customers=self.account.customers or plan.header.customers,
            warn=self.console.warn,
        )
        if asked is None:
            return 0
        self.console.agree(plan, asked)
        raise_cancellation()
        return asked.rows

    def fetch_verdicts(self, run: Run) -> int:
        """Read the verdicts of `accepted_pending` rows from Paystack; returns the number of new ones. Sends no write.

        Raises `BusyError` while another process works on the run.
        """
        plan = run.plan()
        verdict_of = BULK_OPERATIONS[plan.header.operation].verdict_of
        if verdict_of is None:
            return 0
        settled = 0
        with Runs(run.folder.parent).lock(plan) as lock, run.journal() as journal:
            run.check_journal()
            pending = {row for row, state in journal.states() if state.phase is Phase.PENDING}
            for row in plan.rows():
                if row.row not in pending or (kind := verdict_of(customer_of(row, self.client))) is None:
                    continue
                message = "identity verified" if kind is EventKind.VERIFIED else "identity check failed"
                journal.append([JournalEvent(row.row, kind, self.now(), message=message)])
                settled += 1
            lock.end(run.folder, self.now(), journal.last_seq, journal.chain_at(journal.last_seq))
        return settled

    def _recorded(self, finished: RunReport) -> RunReport:
        if self.warehouse is not None:
            try:
                record_runs([finished], self.warehouse)
            except KeyboardInterrupt:  # the report of the sent rows is still shown
                forget_interrupt()
                finished.not_loaded = "The warehouse could not be updated: Interrupted."
        return finished

    def _scope(self, account: int | None) -> Scope:
        """The account whose customers this client changes."""
        return Scope(account, self.client.mode, host_of(self.client), self.server or self.client.base_url)

    def _check(self, plan: Plan, max_age: timedelta) -> Scope:
        """The account to apply the plan to. Raises `PlanError` if the plan is for another one, or too old."""
        account = self.account
        if account.domain is not None and account.domain != self.client.mode:
            raise ConfigError(
                f"The key is a {self.client.mode} key, but Paystack answers with {account.domain} customers.",
                advice="Check the key and the base URL.",
            )
        plan.check_applicable(utc(self.now()), self.client, account=account.integration, max_age=max_age)
        return self._scope(plan.header.account if account.integration is None else account.integration)

    def _refuse_applied(self, plan: Plan, scope: Scope, lock: PlanLock) -> None:
        """Raise `AppliedError` if the plan is in a run's folder, or if register or warehouse has a run of it."""
        before, own = lock.applied(scope), owner(plan.path)
        if own is not None:
            before = AppliedPlan(run_id=own.run_id, folder=str(own.folder))
        if before is not None:
            raise _applied(before)
        if self.warehouse is None:
            return
        try:
            run_id = self.warehouse.applied_by(plan.header.plan_id, scope.key_mode, scope.account)
        except Exception as error:  # noqa: BLE001  # any destination's own errors
            _require_register(lock, plan, error)
            return
        if run_id is not None:
            raise self._applied_as(run_id)

    def _applied_as(self, run_id: str) -> AppliedError:
        """The error for a plan that the warehouse has as this run."""
        if (here := self.runs.root / run_id).is_dir():
            return _applied(AppliedPlan(run_id=run_id, folder=str(here)))
        where = (
            f"This plan was applied before, as run {run_id}, which write_back_runs in the warehouse lists."
        )
        return AppliedError(where, advice=f"Resume that run where its folder is. {_AGAIN}", run_id=run_id)

    def _claim(self, run: Run, plan: Plan, lock: PlanLock) -> None:
        """Register an unrepeatable run in the warehouse. Raises `AppliedError` if that has another run of the plan."""
        if self.warehouse is None or BULK_OPERATIONS[plan.header.operation].repeatable:
            return
        try:
            other = claim(self.warehouse, run)
        except Exception as error:  # noqa: BLE001  # any destination's own errors
            _require_register(lock, plan, error)
            return
        if other is not None:
            raise self._applied_as(other)

    def _send(  # noqa: PLR0913, PLR0917  # one session needs all of it
        self,
        run: Run,
        plan: Plan,
        secrets: Callable[[PlanRow], dict[str, str]],
        lock: PlanLock,
        scope: Scope,
        left: int,
    ) -> RunReport:
        """Run one session while the plan is locked; returns the report."""
        raise_cancellation()  # again, after waiting for the warehouse
        operation = BULK_OPERATIONS[plan.header.operation]
        old = utc(self.now()) - plan.header.created_at > RECHECK_AFTER
        sender = Sender(
            operation,
            self.client.until(lambda: runner.check(Action.SEND)),
            secrets,
            reader=self.client.until(lambda: runner.check(Action.READ_BACK)),
            recheck=old if self.recheck is None else self.recheck,
            now=self.now,
        )
        rows = (row for row in plan.rows() if row.verdict == "send")
        workers: ThreadWorkers[Job, Done] = ThreadWorkers(
            sender, lambda: self._warn_if_stopping(runner, workers.busy)
        )
        with (
            run.journal() as journal,
            self.console.progress(operation.title, total=left, unit="rows") as shown,
        ):
            on_done = _follow(shown, self.client, operation.endpoint)
            runner = Runner(
                operation, rows, journal, workers, rules=self.rules, now=self.now, on_done=on_done
            )
            for warning in run.discard_results():
                self.console.warn(warning)
            before, started = self.client.stats.requests, self.now()
            folder = str(run.folder.resolve())
            # The register gets the run before anything is sent.
            lock.add(AppliedPlan(run_id=run.run_id, folder=folder, scope=scope, started=started))
            journal.begin_session(started, who=user(), host=socket.gethostname(), os_user=os_user())
            try:
                with stopping(runner):
                    ended = runner.run()
                requests = self.client.stats.requests - before
                journal.end_session(self.now(), requests=requests, stopped=ended.reason)
                finished = conclude(run, plan, journal, ended=ended)
            except KeyboardInterrupt as stop:  # the second Ctrl-C: rows that were being sent are in doubt
                stop.advice, stop.details = _resume_advice(run, plan)  # type: ignore[attr-defined]
                raise
            except Exception as error:
                raise _broken_off(error, *_resume_advice(run, plan)) from error
            finally:
                runner.stop()  # the workers stop as well
                workers.close()
                with contextlib.suppress(Exception):  # the error that ended the session is raised
                    lock.end(run.folder, self.now(), journal.last_seq, journal.chain_at(journal.last_seq))
        if lock.problem is not None:
            finished.warnings.append(lock.problem)
        return finished

    def _warn_if_stopping(self, runner: Runner, busy: int) -> None:
        """After Ctrl-C: end reads, and warn the user once how long the sent changes may take."""
        if runner.interrupted:
            self.client.break_off_reads()
        if runner.interrupted and runner is not self._warned_for:
            self._warned_for = runner
            self.console.warn(
                f"Stopping: up to {busy} changes are under way, and Paystack has {self.client.answer_timeout:.0f} s "
                "to answer. Ctrl-C again stops at once; then their outcome is read back when the run is resumed."
            )


def client_operations(operation: str | None) -> set[str]:
    """The argument `operations` of a `PaystackClient` for a bulk operation: the reads, and its write."""
    return {"list", "fetch"} | ({BULK_OPERATIONS[operation].endpoint} if operation else set())


def _follow(
    shown: Progress, client: PaystackClient, endpoint: str
) -> Callable[[Done, RowState | None], None]:
    """The runner's `on_done`: counts each row that has an outcome, and shows the use of the quota."""

    def on_done(_done: Done, state: RowState | None) -> None:
        if state is not None and outcome(state) not in {Outcome.UNSENT, Outcome.UNKNOWN}:
            shown.advance()
        shown.quota(client.quota_use(endpoint))

    return on_done


def _require_register(lock: PlanLock, plan: Plan, error: Exception) -> None:
    """Raise `ConfigError` if a plan must not be sent twice, and neither register nor warehouse can be read."""
    raise_interrupt(error)
    if lock.problem is not None and not BULK_OPERATIONS[plan.header.operation].repeatable:
        raise ConfigError(
            f"Whether this plan was applied before is not known: {lock.problem} The warehouse could not be "
            f"read either: {explain(error).message}",
            advice="Make the register or the warehouse readable; nothing was sent.",
        ) from None


def _applied(entry: AppliedPlan) -> AppliedError:
    """The error for a plan that was applied: it names the run, and the command to resume it if rows are left."""
    where = f"This plan was applied before, as run {entry.run_id} in {entry.folder}."
    if not entry.folder_exists:
        missing = f"{where} That folder no longer exists, so the run cannot be resumed."
        return AppliedError(missing, advice=_AGAIN, run_id=entry.run_id)
    run = Run(Path(entry.folder))
    with contextlib.suppress(ConfigError, JournalError), run.journal() as journal:
        if next(remaining_rows(run.plan(), journal), None) is None:
            return AppliedError(where, advice=f"That run is complete. {_AGAIN}", run_id=entry.run_id)
    advice = f"Continue it: {COMMAND} resume {run.name}"
    return AppliedError(where, advice=advice, run_id=entry.run_id, goes_on=True)


def _resume_advice(run: Run, plan: Plan) -> tuple[str, dict[str, str]]:
    return f"Continue with: {COMMAND} resume {run.name}{input_switch(plan)}", {"run_id": run.run_id}


def _broken_off(error: Exception, advice: str, about: dict[str, str]) -> BrokenOffError:
    failure = explain(error)
    # the name of the error in --json
    details = {"error": failure.error, **about}
    return BrokenOffError(failure.message, advice, exit_code=failure.exit_code, details=details)
