"""What the commands of `pipelines/bulk.py` have in common: ask, plan, apply, load, show.

Between the command line, which parses, and `paystack_source.bulk`, which works and draws nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from paystack_source import audit, copies, settings
from paystack_source.bulk.describe import (
    CHANGES,
    HEADINGS,
    REASONS,
    again,
    mode,
    next_commands,
    plan_changes,
    plan_facts,
    plan_json,
    quoted,
    run_facts,
    run_reasons,
    switches,
    where,
)
from paystack_source.bulk.input.files import open_table, write_problems
from paystack_source.bulk.operations import OPERATIONS
from paystack_source.bulk.plan.planner import PlanOptions, make_plan
from paystack_source.bulk.plan.review import write_review
from paystack_source.bulk.run.circuit import StopRules
from paystack_source.bulk.run.runs import RESULTS_FOLDER, Runs
from paystack_source.bulk.run.states import Outcome
from paystack_source.bulk.service import COMMAND, Finished, Session, describe, follow, reach, scope_of, whose
from paystack_source.errors import SHOWN, ConfigError, ExitCode, InputError, PaystackError, UsageError
from paystack_source.warehouse.locations import SANDBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from paystack_source.api.client import PaystackClient
    from paystack_source.bulk.plan.copy import CustomerCopy
    from paystack_source.bulk.plan.plan import Plan
    from paystack_source.bulk.run.claims import Scope
    from paystack_source.cli.progress import Progress
    from paystack_source.cli.terminal import Terminal

SANDBOX_QUOTA = 18_000  # requests a minute: 600 in a window of two seconds
SEAL_SHOWN = 12  # characters of a plan's seal: long enough not to be guessed
MOST_REASONS = 12
MOST_CHANGES = 10


@dataclass
class Desk:
    """One command at work: where it talks, what was chosen on its line, and its client."""

    terminal: Terminal
    chosen: dict[str, Any]
    client: PaystackClient

    waits: list[Progress] = field(default_factory=list)
    """Where waits for the quota are shown, once there is a display."""

    @property
    def per_minute(self) -> int:
        """Requests a minute that the quota lets through; 0 for no limit of our own."""
        if self.chosen["sandbox"]:
            return SANDBOX_QUOTA
        quota = settings.find_quota()
        return settings.QUOTA_BY_MODE[self.client.mode] if quota is None else quota

    @property
    def server(self) -> str | None:
        """The state of the `--sandbox`: its address is another one in each command."""
        if not self.chosen["sandbox"]:
            return None
        from paystack_source.sandbox.demo import state_path  # noqa: PLC0415  with the sandbox only

        return str(state_path().resolve())

    @cached_property
    def account(self) -> int | None:
        """Whose key it is, as one request tells."""
        return whose(self.client).integration

    def planned(self, operation: str, file: Path, out: Path | None = None) -> Plan:
        """A plan of FILE, compared with the copy if there is one."""
        try:
            cut = {name: self.chosen[name] for name in ("encoding", "delimiter", "sheet")}
            table = open_table(file, **cut)
        except FileNotFoundError:
            raise UsageError(f"There is no file {file}.", "Give a CSV, Parquet or Excel file.") from None
        copy = self.copy()
        if copy is None and not self.chosen["no_copy"]:
            self.terminal.say(
                "There is no copy of the customers here "
                f"(python pipelines/customers.py{where(self.chosen)} makes one)."
            )
        target = out or runs(self.chosen).new_plan_file(operation, file)
        try:
            with self.reading() as on_fetch:
                made = make_plan(
                    operation,
                    table,
                    out=target,
                    options=self.plan_options(),
                    copy=copy,
                    client=self.client,
                    on_fetch=on_fetch,
                )
        except InputError as error:
            if error.count > SHOWN:
                listed = target.with_suffix(".problems.csv")
                write_problems(error, listed)
                error.advice = f"{error.advice} {listed} lists them."
            raise
        if self.chosen.get("review"):
            self.write_review(made, self.chosen["review"])
        return made

    def write_review(self, made: Plan, page: Path) -> None:
        """The plan as a page, with the command that applies it."""
        write_review(made, page, command=self.apply_command(made))
        self.terminal.say(f"To look at: {page}")

    def apply_command(self, made: Plan) -> str:
        """What applies the plan."""
        return again("apply", quoted(made.path), made, self.chosen)

    def copy(self) -> CustomerCopy | None:
        """The warehouse copy, if there is one and it may be read."""
        if self.chosen["no_copy"]:
            return None
        where = self.chosen["destination"], self.chosen["dataset"]
        copy = copies.find_copy(*where)
        if copy is None:
            return None
        scope = scope_of(self.client, self.account, self.server)
        problem = audit.catch_up(runs(self.chosen), scope, *where)
        if problem:
            self.terminal.warn(
                f"{problem} The copy does not know of earlier runs, so customers are read live."
            )
            self.chosen["refresh"] = "live"
        return copy

    def plan_options(self) -> PlanOptions:
        """The planner's options among the command's, and whose account and quota it is."""
        names = set(PlanOptions.__struct_fields__) & set(self.chosen)
        return PlanOptions(
            account=self.account,
            quota=self.per_minute,
            switches=switches(self.chosen),
            **{name: self.chosen[name] for name in names},
        )

    def go(self, made: Plan, *, recheck: bool | None = None) -> int:
        """Show, ask, apply, show. `recheck` is the default of that switch."""
        self.show_plan(made)
        self.ask(made)
        with self.session(made, recheck) as session:
            finished = session.apply(made)
        return self.close(finished)

    def question(self, what: str, number: int) -> str:
        """Says in capitals if it is about real customers."""
        mode = "LIVE" if self.client.mode == "live" else self.client.mode
        return f"{what}: {number:,} changes on the {mode} account"

    def ask(self, made: Plan) -> None:
        """Nothing is sent before somebody agreed; the more it can hurt, the less a bare yes is enough."""
        header, approval = made.header, self.chosen["approve"]
        if not header.counts.to_send:
            return
        if approval:
            if len(approval) < SEAL_SHOWN or not header.seal.startswith(approval):
                advice = f"Its seal begins with {header.seal[:SEAL_SHOWN]}."
                raise UsageError("--approve does not name this plan.", advice)
            return
        asked = self.question("Apply", header.counts.to_send)
        if self.client.mode == "live" and header.guard.needed:
            self.terminal.warn("; ".join(header.guard.reasons))
            if self.chosen["yes"]:
                raise UsageError(
                    "--yes alone is not enough for this plan on a live key.",
                    f"Leave it out and type the number of rows, or add --approve {header.seal[:SEAL_SHOWN]}.",
                )
            agreed = self.terminal.confirm_typed(f"{asked}.", header.guard.phrase)
        else:
            agreed = self.terminal.confirm(f"{asked}?", yes=self.chosen["yes"])
        if not agreed:
            raise UsageError("Not confirmed; nothing was sent.")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int], None]]:
        """What to tell how many customers a plan has read from Paystack."""
        with self.terminal.progress("Comparing", unit="customers read") as progress:
            self.waits.append(progress)
            yield lambda count: progress.update(done=count)

    @contextlib.contextmanager
    def session(self, made: Plan, recheck: bool | None = None) -> Iterator[Session]:
        """A session with a progress display."""
        chosen = self.chosen
        title = OPERATIONS[made.header.operation].title
        rules = StopRules(
            equal_rejections=chosen["max_equal_rejections"],
            canary_rows=chosen["canary"],
            canary_share=chosen["canary_max"] / 100,
        )
        age = None if chosen["max_age"] is None else timedelta(hours=chosen["max_age"])
        with self.terminal.progress(title, total=made.header.counts.to_send, unit="rows") as progress:
            self.waits.append(progress)
            yield Session(
                self.client,
                runs(self.chosen),
                rules,
                follow(progress, self.client, made.header.operation),
                age,
                recheck if chosen["recheck"] is None else chosen["recheck"],
                server=self.server,
                recorded=None if chosen["no_copy"] else self._recorded,
            )

    def _recorded(self, plan_id: str, scope: Scope) -> str | None:
        return copies.applied_by(plan_id, scope, self.chosen["destination"], self.chosen["dataset"])

    def close(self, finished: Finished) -> int:
        """Load what is known into the warehouse, show it, and say how it went."""
        for warning in finished.warnings:
            self.terminal.warn(warning)
        loaded([finished], self.terminal, self.chosen)
        show_finished(finished, self.terminal, self.chosen)
        return finished.exit_code

    def show_plan(self, made: Plan) -> None:
        """The warnings, the first changes, the numbers."""
        for warning in made.header.warnings:
            self.terminal.warn(warning)
        changes = plan_changes(made, MOST_CHANGES)
        if changes and not self.terminal.quiet:
            more = made.header.counts.to_send - MOST_CHANGES
            self.terminal.table(
                f"What would change{f' (and {more:,} more)' if more > 0 else ''}", CHANGES, changes
            )
        for label, value in plan_facts(made):
            self.terminal.say(f"  {label}: {value}")

    def finish_plan(self, made: Plan) -> int:
        """A plan was all that was asked for; it comes with its page."""
        page = self.chosen.get("review") or made.path.with_suffix(".html")
        if not self.chosen.get("review"):
            self.write_review(made, page)
        follow = [self.apply_command(made)]
        title = "Planned; nothing was sent"
        if not made.header.counts.to_send:
            title, follow = "Planned; there is nothing to send", []
        facts = [*plan_facts(made), ("page", page)]
        self.terminal.finish(title, facts, plan_json(made, page), follow)
        return ExitCode.OK


@contextlib.contextmanager
def desk(terminal: Terminal, chosen: dict[str, Any], writes: str | None = None) -> Iterator[Desk]:
    """The client for this command: of Paystack or a sandbox, and for the reads and `writes` only."""
    from paystack_source.api.client import PaystackClient  # noqa: PLC0415  --help need not wait for it

    waits: list[Progress] = []

    def on_wait(seconds: float, _endpoint: str, reason: str) -> None:
        for progress in waits:
            why = "the quota" if reason == "quota" else reason.replace("_", " ")
            progress.note(f"waiting {seconds:,.0f} s: {why}" if seconds >= 1 else "")

    with contextlib.ExitStack() as stack:
        stack.push(lambda _kind, error, _trace: _advise(error, chosen))
        key, url = None, None
        if chosen["sandbox"]:
            from paystack_source.sandbox.demo import open_sandbox  # noqa: PLC0415

            sandbox = stack.enter_context(open_sandbox())
            key, url = sandbox.secret_key, sandbox.url
            terminal.say("Sandbox: a local Paystack; its quota window is short, so nobody sits one out.")
        share = chosen.get("quota_share", 1.0)
        client = stack.enter_context(
            PaystackClient(key, base_url=url, quota_share=share, operations=reach(writes), on_wait=on_wait)
        )
        yield Desk(terminal, chosen, client, waits)


def _advise(stop: BaseException | None, chosen: dict[str, Any]) -> None:
    """What to do after a run broke off: the same command again would make a new plan and a new run of it."""
    if "run_id" in getattr(stop, "details", {}) and getattr(stop, "goes_on", True):
        stop.advice += where(chosen)  # type: ignore[union-attr]
    elif isinstance(stop, KeyboardInterrupt) and not getattr(stop, "advice", ""):
        stop.advice = f"See what was sent: {COMMAND} status{where(chosen)}"  # type: ignore[attr-defined]


def loaded(found: list[Finished], terminal: Terminal, chosen: dict[str, Any]) -> None:
    """The warehouse is told; if it cannot be, nothing is lost and it is told later."""
    if chosen["no_copy"] or not found:
        return
    problem = audit.load([one.run for one in found], chosen["destination"], chosen["dataset"])
    if problem:
        for one in found:
            one.warnings.append(problem)
        if len(found) == 1:
            later = again("status", f"{found[0].run.name} --load", found[0].plan, chosen)
        else:
            later = f"{COMMAND} status --load{where(chosen)}"
        terminal.warn(f"{problem} Later: {later}")


def show_finished(finished: Finished, terminal: Terminal, chosen: dict[str, Any]) -> None:
    """The reasons, the closing table, the next commands."""
    if finished.reasons:
        terminal.table("Why", REASONS, run_reasons(finished, MOST_REASONS))
    if isinstance(finished.error, PaystackError):
        terminal.warn(f"{finished.error.message}: {finished.error.advice}")
    title, facts = HEADINGS[state(finished)], run_facts(finished, chosen)
    terminal.finish(title, facts, finished.as_json(), next_commands(finished, chosen))


def state(finished: Finished) -> str:
    """`Finished.status`, or `killed`: a session began that nobody ended, and nobody is at it."""
    if finished.status in {"running", "complete"}:
        return finished.status
    with finished.run.journal() as journal:
        sessions = journal.sessions()
    return finished.status if sessions and sessions[-1].ended else "killed"


def show_runs(kept: Runs, terminal: Terminal, chosen: dict[str, Any], *, load: bool) -> int:
    """All runs, newest first."""
    found = []
    for one in kept:
        try:
            with one.journal() as journal:
                found.append(describe(one, one.plan(), journal))
        except ConfigError as error:  # one damaged folder must not hide the others
            terminal.warn(f"{one.run_id}: {error.message} {error.advice}")
            continue
        found[-1].running = one.is_busy
    if load:
        loaded(found, terminal, chosen)
    rows = [
        (f.run.run_id, _account(f), f.plan.header.counts.rows, *map(f.counts.get, Outcome), state(f))
        for f in found
    ]
    terminal.table("Runs, newest first", ("run", "account", "rows", *Outcome, "status"), rows)
    if terminal.json_output:
        terminal.emit_json({"runs": [f.as_json() for f in found]})
    return ExitCode.OK


def _account(finished: Finished) -> str:
    header = finished.plan.header
    return f"{mode(header)} {header.account or ''}".rstrip()


def runs(chosen: dict[str, Any]) -> Runs:
    """The runs that this command looks at: those of the sandbox have a folder of their own."""
    return Runs(f"{RESULTS_FOLDER}{SANDBOX}" if chosen["sandbox"] else RESULTS_FOLDER)
