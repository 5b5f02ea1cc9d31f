"""One session of a run from end to end: check the plan against the account, lock, journal, runner, results.

`apply` starts a run, `resume` goes on with one, `settle` asks for the verdicts of rows that were only
accepted. The command line, the Python helpers and the dlt destination all go through here.
"""

from __future__ import annotations

import contextlib
import getpass
import socket
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from paystack_source.bulk.operations import OPERATIONS
from paystack_source.bulk.plan.plan import host_of
from paystack_source.bulk.run.claims import Claim, Scope
from paystack_source.bulk.run.results import FAILED, Group, Tally, tally, write_results, write_summary
from paystack_source.bulk.run.runner import INTERRUPTED, Ended, Runner, stopping
from paystack_source.bulk.run.runs import Run, Runs, owner, utc
from paystack_source.bulk.run.send import Performer
from paystack_source.bulk.run.states import Action, Event, Kind, Outcome, Phase
from paystack_source.bulk.run.workers import ThreadWorkers
from paystack_source.cli.failures import explain
from paystack_source.errors import (
    AppliedError,
    BrokenOffError,
    ConfigError,
    ExitCode,
    JournalError,
    PaystackError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.api.client import PaystackClient
    from paystack_source.bulk.plan.plan import Plan, PlanRow
    from paystack_source.bulk.run.circuit import StopRules
    from paystack_source.bulk.run.claims import Claims
    from paystack_source.bulk.run.journal import Journal
    from paystack_source.bulk.run.send import Done, Job
    from paystack_source.bulk.run.states import RowState
    from paystack_source.cli.progress import Progress

_AGAIN: Final = "Plan again if it is to be sent once more."
COMMAND: Final = "python pipelines/bulk.py"
_SETTLED: Final = {Kind.APPLIED, Kind.PENDING, Kind.REJECTED, Kind.FOUND}
MAX_AGE: Final = timedelta(hours=24)  # of a plan that is applied
RECHECK_AFTER: Final = timedelta(minutes=5)
MAX_AGE_RESUMED: Final = timedelta(days=7)


def _applied(claim: Claim) -> AppliedError:
    """Says where the run is, and how to go on with it if something of it is left."""
    where = f"This plan was applied before, as run {claim.run_id} in {claim.folder}."
    if not claim.is_there:
        gone = f"{where} That folder is gone, so the run cannot be resumed."
        return AppliedError(gone, advice=_AGAIN, run_id=claim.run_id)
    run = Run(Path(claim.folder))
    with contextlib.suppress(ConfigError, JournalError), run.journal() as journal:
        counts = describe(run, run.plan(), journal).counts
        if not (counts[Outcome.UNSENT] or counts[Outcome.UNKNOWN]):
            return AppliedError(where, advice=f"It is through. {_AGAIN}", run_id=claim.run_id)
    advice = f"Go on with it: {COMMAND} resume {run.name}"
    return AppliedError(where, advice=advice, run_id=claim.run_id, goes_on=True)


def _way_on(run: Run) -> tuple[str, dict[str, str]]:
    return f"Go on with: {COMMAND} resume {run.name}", {"run_id": run.run_id}


def _broken_off(run: Run, error: Exception) -> BrokenOffError:
    failure = explain(error)
    advice, about = _way_on(run)
    # --json names what broke, not that it broke
    details = {"error": failure.error, **about}
    return BrokenOffError(failure.message, advice, exit_code=failure.exit_code, details=details)


@dataclass(frozen=True, slots=True)
class Account:
    """Whose key this is, as one read tells; both None for an account without customers."""

    integration: int | None
    domain: str | None


@dataclass(slots=True)
class Finished:
    """How a run stands after a session: `--json`, `summary.json` and `BulkResult.summary` are made of it."""

    run: Run
    plan: Plan
    counts: dict[Outcome, int]
    reasons: list[Group]
    requests: int
    seconds: float
    started: datetime
    stopped: str | None = None
    error: Exception | None = None
    running: bool = False  # by another process, at this moment
    warnings: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every row was applied, was so already, or was accepted."""
        return not any(self.counts[o] for o in (*FAILED, Outcome.UNSENT))

    @property
    def exit_code(self) -> int:
        if self.stopped == INTERRUPTED:
            return ExitCode.INTERRUPTED
        if isinstance(self.error, PaystackError):
            return self.error.exit_code
        return ExitCode.OK if self.complete else ExitCode.ROWS_FAILED

    @property
    def status(self) -> str:
        """One word: running, complete, interrupted, stopped (by itself), or incomplete."""
        if self.running:
            return "running"
        if self.stopped:
            return "interrupted" if self.stopped == INTERRUPTED else "stopped"
        return "complete" if self.complete else "incomplete"

    def as_json(self) -> dict[str, Any]:
        """No personal data: counts, codes, Paystack's redacted messages, line numbers and file names."""
        header = self.plan.header
        return {
            "run_id": self.run.run_id,
            "operation": header.operation,
            "status": self.status,
            "rows": header.counts.rows,
            **{outcome.value: self.counts[outcome] for outcome in Outcome},
            "folded": header.counts.folded,
            "drifted": header.counts.drifted,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "started": self.started.isoformat(timespec="seconds"),
            "key_mode": header.key_mode,
            "account": header.account,
            "plan_id": header.plan_id,
            "undo_of": header.undo_of,
            "stopped": self.stopped,
            "results_file": _path(self.run.results_file),
            "failed_file": _path(self.run.failed_file),
            "unknown_file": _path(self.run.unknown_file),
            "unsent_file": _path(self.run.unsent_file),
            "reasons": [asdict(group) for group in self.reasons],
            "warnings": self.warnings,
        }


def _path(path: Path) -> str | None:
    return str(path) if path.is_file() else None


@dataclass(slots=True)
class Session:
    """What a session needs besides its plan."""

    client: PaystackClient
    runs: Runs
    rules: StopRules | None = None
    on_done: Callable[[Done, RowState | None], None] | None = None
    max_age: timedelta | None = None
    recheck: bool | None = (
        None  # read each customer before changing it; None: if the plan is not new any more
    )
    source: Any = None  # the frame, for runs from Python
    recorded: Callable[[str, Scope], str | None] | None = None
    """Asks the warehouse which run applied the plan of this id; None: there is no warehouse to ask."""
    server: str | None = None  # what `scope_of` takes
    now: Callable[[], float] = time.time

    def apply(self, plan: Plan, *, run_id: str | None = None) -> Finished:
        """Start a run of `plan`. Raises `PlanError`, `BusyError`, `AppliedError`; then nothing was sent."""
        scope = self.check(plan, MAX_AGE if self.max_age is None else self.max_age)
        secrets = plan.secrets(self.source)
        with self.runs.lock(plan) as claims:
            self._refuse_applied(plan, scope, claims)
            run = self.runs.create(plan, _meta(plan), now=utc(self.now()), run_id=run_id)
            with run.at_work():
                return self._run(run, plan, secrets, claims, scope)

    def resume(self, run: Run) -> Finished:
        """Go on with a run: read back what is in doubt, send what is unsent.

        Sends nothing if nothing is left. Raises `AppliedError` if the plan was applied by another run since, or if
        this folder is a copy of the run's.
        """
        plan = run.plan()
        scope = self.check(plan, MAX_AGE_RESUMED if self.max_age is None else self.max_age)
        secrets = plan.secrets(self.source)
        with Runs(run.folder.parent).lock(plan) as claims:
            before = claims.of(scope)
            if before is not None and not before.is_of(run.folder):
                raise _applied(before)
            return self._run(run, plan, secrets, claims, scope)

    def _refuse_applied(self, plan: Plan, scope: Scope, claims: Claims) -> None:
        """Raises `AppliedError` if any note, the run that the plan is in, or the warehouse knows of an apply."""
        before, own = claims.of(scope), owner(plan.path)
        if own is not None:
            before = Claim(run_id=own.run_id, folder=str(own.folder))
        if before is not None:
            raise _applied(before)
        if self.recorded is None:
            return
        try:
            run_id = self.recorded(plan.header.plan_id, scope)
        except Exception as error:  # noqa: BLE001 - any destination's own errors
            if claims.problem is None or OPERATIONS[plan.header.operation].repeatable:
                return  # the register is enough, or a second time does no harm
            raise ConfigError(
                f"Whether this plan was applied before is not known: {claims.problem} The warehouse could not be "
                f"asked either: {explain(error).message}",
                advice="Make one of the two work; nothing was sent.",
            ) from None
        if run_id is not None:
            where = (
                f"This plan was applied before, as run {run_id}: write_back_runs in the warehouse says so."
            )
            raise AppliedError(where, advice=f"Resume that run where its folder is. {_AGAIN}", run_id=run_id)

    def check(self, plan: Plan, max_age: timedelta) -> Scope:
        """One read: is this the plan's account, mode and host? Raises `PlanError` if not, or if too old."""
        account = whose(self.client)
        if account.domain is not None and account.domain != self.client.mode:
            raise ConfigError(
                f"The key is a {self.client.mode} key, but Paystack answers with {account.domain} customers.",
                advice="Check the key and the base URL.",
            )
        plan.check_applicable(
            utc(self.now()),
            account=account.integration,
            key_mode=self.client.mode,
            key_fingerprint=self.client.key.fingerprint,
            host=host_of(self.client),
            max_age=max_age,
        )
        known = plan.header.account if account.integration is None else account.integration
        return scope_of(self.client, known, self.server)

    def _run(
        self,
        run: Run,
        plan: Plan,
        secrets: Callable[[PlanRow], dict[str, str]],
        claims: Claims,
        scope: Scope,
    ) -> Finished:
        operation = OPERATIONS[plan.header.operation]
        old = utc(self.now()) - plan.header.created_at > RECHECK_AFTER
        performer = Performer(
            operation,
            self.client.until(lambda: runner.check(Action.SEND)),
            secrets,
            reader=self.client.until(lambda: runner.check(Action.READ_BACK)),
            recheck=old if self.recheck is None else self.recheck,
            now=self.now,
        )
        workers: ThreadWorkers[Job, Done] = ThreadWorkers(performer)
        with contextlib.closing(run.journal()) as journal:
            rows = (row for row in plan.rows() if row.verdict == "send")
            runner = Runner(
                operation, rows, journal, workers, rules=self.rules, now=self.now, on_done=self.on_done
            )
            run.withdraw()
            before, started = self.client.stats.requests, self.now()
            folder = str(run.folder.resolve())
            claims.add(Claim(run_id=run.run_id, folder=folder, scope=scope, started=started))  # first of all
            number = journal.begin_session(started, who=_who(), host=socket.gethostname())
            try:
                with stopping(runner):
                    ended = runner.run()
                requests = self.client.stats.requests - before
                journal.end_session(number, ended=self.now(), requests=requests, stopped=ended.reason)
                finished = conclude(run, plan, journal, ended, source=self.source)
            except KeyboardInterrupt as stop:  # a second one: what was under way is in doubt, noted as such
                stop.advice, stop.details = _way_on(run)  # type: ignore[attr-defined]
                raise
            except Exception as error:
                raise _broken_off(run, error) from error
            finally:
                runner.stop()  # also the workers, if something broke
                workers.close()
                with contextlib.suppress(
                    Exception
                ):  # a full disk; what ended the session is what is to be told
                    claims.end(run.run_id, self.now(), journal.last_seq)
            if claims.problem is not None:
                finished.warnings.append(claims.problem)
            return finished


def conclude(
    run: Run,
    plan: Plan,
    journal: Journal,
    ended: Ended | None = None,
    *,
    source: Any = None,  # noqa: ANN401 - any frame
) -> Finished:
    """Write the result files and the summary of a run as it stands."""
    found, missing = write_results(run, plan, journal, source)
    finished = describe(run, plan, journal, found, ended)
    if missing:
        finished.warnings.append(f"The result files have no input columns. {missing}.")
    write_summary(run, finished.as_json())
    if ended is not None and ended.error is not None and not isinstance(ended.error, PaystackError):
        raise ended.error
    return finished


def describe(
    run: Run, plan: Plan, journal: Journal, found: Tally | None = None, ended: Ended | None = None
) -> Finished:
    """How a run stands, from its journal; writes nothing."""
    found = found or tally(plan, journal)
    sessions = journal.sessions()
    return Finished(
        run=run,
        plan=plan,
        counts={outcome: found.counts[outcome] for outcome in Outcome},
        reasons=found.reasons,
        requests=sum(session.requests for session in sessions),
        seconds=sum(s.ended - s.started for s in sessions if s.ended),
        started=utc(sessions[0].started) if sessions else datetime.now(UTC),
        stopped=ended.reason if ended else (sessions[-1].stopped if sessions else None),
        error=ended.error if ended else None,
    )


def settle(run: Run, client: PaystackClient, *, now: Callable[[], float] = time.time) -> int:
    """Ask Paystack for the verdicts of rows that were only accepted; returns how many came. Sends no write.

    Raises `BusyError` while the run is under way.
    """
    plan = run.plan()
    ask = OPERATIONS[plan.header.operation].settle
    if ask is None:
        return 0
    settled = 0
    kinds = {"verified": Kind.VERIFIED, "failed": Kind.FAILED}
    with Runs(run.folder.parent).lock(plan) as claims, run.journal() as journal:
        pending = {row for row, state in journal.states() if state.phase is Phase.PENDING}
        for row in plan.rows():
            if row.row not in pending:
                continue
            kind = kinds.get(ask(client, row))
            if kind is not None:
                message = "identity verified" if kind is Kind.VERIFIED else "identity check failed"
                journal.append([Event(row.row, kind, now(), message=message)])
                settled += 1
        claims.end(run.run_id, now(), journal.last_seq)
    return settled


def whose(client: PaystackClient) -> Account:
    """The account and domain that the key reads from, by one request for one customer."""
    rows = client.list(per_page=1).rows
    if not rows:
        return Account(None, None)
    integration, domain = rows[0].get("integration"), rows[0].get("domain")
    return Account(
        integration if isinstance(integration, int) else None, domain if isinstance(domain, str) else None
    )


def scope_of(client: PaystackClient, account: int | None, server: str | None = None) -> Scope:
    """Whose customers this client changes; `server` names a sandbox whose address is another one each time."""
    return Scope(account, client.mode, host_of(client), server or client.base_url)


def reach(operation: str | None) -> set[str]:
    """The client's operations that a session needs, and no more: the reads, and the one write.

    To be given to `PaystackClient(operations=…)`.
    """
    return {"list", "fetch"} | ({OPERATIONS[operation].endpoint} if operation else set())


def follow(
    progress: Progress, client: PaystackClient, operation: str
) -> Callable[[Done, RowState | None], None]:
    """A session's `on_done` that shows each row once it is settled, and how much of the quota is used."""
    endpoint = OPERATIONS[operation].endpoint

    def on_done(done: Done, _state: RowState | None) -> None:
        if done.event is not None and done.event.kind in _SETTLED:
            progress.advance()
        progress.quota(client.quota_use(endpoint))

    return on_done


def _meta(plan: Plan) -> dict[str, Any]:
    header = plan.header
    return {
        "plan_id": header.plan_id,
        "seal": header.seal,
        "operation": header.operation,
        "account": header.account,
        "key_mode": header.key_mode,
        "host": header.host,
        "input": header.input.path,
        "digest": header.input.digest,
        "rows": header.counts.rows,
        "to_send": header.counts.to_send,
        "undo_of": header.undo_of,
        "tool_version": header.tool_version,
    }


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container user without a name
        return "unknown"
