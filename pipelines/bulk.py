"""CSV or Parquet -> Paystack: plan a bulk change, look at it, apply it, resume it, take it back.

    python pipelines/bulk.py run risk-action customers.csv --risk-action allow --sandbox

See `docs/howto/officer-csv.md` for the way through, and `docs/bulk.md` for what is promised.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paystack_source import audit, settings
from paystack_source.api.errors import PaystackError
from paystack_source.bulk.circuit import StopRules
from paystack_source.bulk.operations import OPERATIONS
from paystack_source.bulk.perform import StoppableClock
from paystack_source.bulk.plan import Plan, PlanOptions, make_plan
from paystack_source.bulk.problems import SHOWN, InputError, write_problems
from paystack_source.bulk.review import write_review
from paystack_source.bulk.runs import Runs
from paystack_source.bulk.session import COMMAND, Finished, Session, conclude, describe, reach, settle, whose
from paystack_source.bulk.states import Kind, Outcome
from paystack_source.bulk.undo import make_undo
from paystack_source.bulk.words import (
    CHANGES,
    REASONS,
    next_commands,
    plan_changes,
    plan_facts,
    plan_json,
    quoted,
    run_facts,
    run_reasons,
)
from paystack_source.terminal import ExitCode, Terminal, UsageError, options, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paystack_source.api.customers import PaystackClient
    from paystack_source.bulk.customer_copy import CustomerCopy
    from paystack_source.bulk.perform import Done
    from paystack_source.bulk.states import RowState

SANDBOX_QUOTA = 18_000  # requests a minute: 600 in a window of two seconds
SEAL_SHOWN = 12  # characters of a plan's seal: long enough not to be guessed
MOST_REASONS = 12
MOST_CHANGES = 10
SETTLED = (Kind.APPLIED, Kind.PENDING, Kind.REJECTED, Kind.FOUND)


def together(*decorators: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Several options as one decorator."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


sandboxed = click.option(
    "--sandbox", is_flag=True, help="A local Paystack with invented customers; no account."
)
yes = click.option("--yes", is_flag=True, help="Answer the question beforehand.")
where = together(
    click.option(
        "--destination", default="duckdb", show_default=True, help="Where the copy is, as dlt calls it."
    ),
    click.option("--dataset", default="paystack", show_default=True, help="Dataset of the copy."),
    click.option("--no-copy", is_flag=True, help="Neither read the warehouse copy nor write to it."),
)
planning = together(
    click.option("--risk-action", type=click.Choice(["allow", "deny", "default"]), help="For every row."),
    click.option("--only-missing", is_flag=True, help="update: fill blanks, never overwrite."),
    click.option("--metadata", type=click.Choice(["merge", "replace"]), default="merge", show_default=True),
    click.option(
        "--refresh", type=click.Choice(["auto", "live", "never"]), default="auto", show_default=True,
        help="Whether to read the touched customers from Paystack while planning.",
    ),
    click.option("--sheet", help="Excel: which sheet."),
    click.option("--encoding", help="CSV: if it is not what was found."),
    click.option("--delimiter", help="CSV: if it is not what was found."),
    click.option("--review", type=click.Path(path_type=Path), help="Also write the plan as a page."),
)  # fmt: skip
sharing = click.option(
    "--quota-share", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
    help="How much of the quota this run may take.",
)  # fmt: skip
applying = together(
    yes,
    click.option("--approve", metavar="HASH", help="The plan's seal, or its first 12 characters."),
    click.option("--canary", type=click.IntRange(0), default=0, help="Send so many rows first, and look."),
    click.option("--canary-max", type=click.FloatRange(0, 100), default=0.0, help="Stop if more % fail."),
    click.option(
        "--max-equal-rejections", type=click.IntRange(0), default=20, show_default=True,
        help="Stop after so many equal rejections in a row; 0: never.",
    ),
    click.option("--max-age", type=click.FloatRange(0), default=None, metavar="HOURS", help="Of the plan."),
)  # fmt: skip


@click.group()
def main() -> None:
    """Change many Paystack customers from a file: planned first, applied once, resumable, mostly reversible.

    OPERATION is one of: risk-action, update, create, validate, deactivate-authorization.
    """


@main.command()
@click.argument("operation", type=click.Choice(list(OPERATIONS)))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the plan.")
@together(planning, where, sharing, sandboxed, options)
def plan(operation: str, file: Path, *, out: Path | None, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Check FILE and show what would be sent. Sends nothing."""
    with desk(terminal, chosen) as here:
        made = here.planned(operation, file, out)
        here.show_plan(made)
        return here.finish_plan(made)


@main.command()
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@together(applying, where, sharing, sandboxed, options)
def apply(file: Path, *, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Send what PLAN says, once."""
    if not file.is_file():
        raise UsageError(f"There is no plan {file}.", f"Make one: {COMMAND} plan OPERATION FILE")
    made = Plan.open(file)
    with desk(terminal, chosen, made.header.operation) as here:
        return here.go(made)


@main.command(name="run")
@click.argument("operation", type=click.Choice(list(OPERATIONS)))
@click.argument("file", type=click.Path(path_type=Path))
@together(planning, applying, where, sharing, sandboxed, options)
def run_(operation: str, file: Path, *, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Plan FILE, show the plan, ask, and apply it."""
    with desk(terminal, chosen, operation) as here:
        made = here.planned(operation, file)
        code = here.go(made)
        made.path.unlink(missing_ok=True)  # the run's folder has it
        return code


@main.command()
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to; default: beside the plan.")
@click.option("--show-personal", is_flag=True, help="Names, emails and phones in clear.")
@options
def review(file: Path, *, out: Path | None, show_personal: bool, terminal: Terminal) -> int:
    """Write PLAN as one HTML page, to look at and to show around; needs no network."""
    page = write_review(Plan.open(file), out or file.with_suffix(".html"), show_personal=show_personal)
    terminal.finish("Written", [("page", page)], {"review_file": str(page)})
    return ExitCode.OK


@main.command()
@click.argument("name", metavar="RUN")
@together(applying, where, sharing, sandboxed, options)
def resume(name: str, *, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Go on with RUN (an id, its beginning, or `latest`): read back what is in doubt, send what is unsent."""
    found = Runs().open(name)
    made = found.plan()
    with desk(terminal, chosen, made.header.operation) as here:
        with found.journal() as journal:
            before = describe(found, made, journal)
        left = before.counts[Outcome.UNSENT] + before.counts[Outcome.UNKNOWN]
        asked = here.question(f"Resume {found.run_id}", left)
        if left and not terminal.confirm(f"{asked}?", yes=chosen["yes"]):
            raise UsageError("Not confirmed; nothing was sent.")
        with here.session(made) as session:
            finished = session.resume(found)
        return here.close(finished)


@main.command()
@click.argument("name", metavar="[RUN]", required=False)
@click.option("--refresh", is_flag=True, help="Ask Paystack for identity verdicts that are still to come.")
@click.option("--load", is_flag=True, help="Load what the warehouse has not got yet.")
@click.option("--verify", is_flag=True, help="Check the journal's hash chain.")
@together(yes, where, sandboxed, options)
def status(
    name: str | None,
    *,
    terminal: Terminal,
    refresh: bool,
    load: bool,
    verify: bool,
    **chosen: Any,  # noqa: ANN401
) -> int:
    """Show all runs, newest first, or one RUN."""
    runs = Runs()
    if name is None:
        return show_runs(runs, terminal, chosen, load=load)
    found = runs.open(name)
    made = found.plan()
    if refresh:
        with desk(terminal, chosen) as here:
            settled = settle(runs, found, here.client)
        terminal.say(f"{settled:,} verdicts came.")
    with found.journal() as journal:
        if verify:
            journal.verify()
            terminal.say("The journal's hash chain holds.")
        finished = conclude(found, made, journal) if refresh else describe(found, made, journal)
    if refresh or load:
        loaded(finished, terminal, chosen)
    show_finished(finished, terminal, chosen)
    return ExitCode.OK


@main.command()
@click.argument("name", metavar="RUN")
@click.option("--plan-only", is_flag=True, help="Only write the plan of the undo.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write that plan.")
@together(applying, where, sharing, sandboxed, options)
def undo(name: str, *, plan_only: bool, out: Path | None, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Plan and apply the way back of RUN: the values that it replaced."""
    found = Runs().open(name)
    with desk(terminal, chosen, found.plan().header.operation) as here:
        made = make_undo(found, out=out, copy=here.copy(), client=here.client, options=here.plan_options())
        if made.not_undoable:
            terminal.warn(f"{made.not_undoable:,} rows cannot be taken back; {made.left} says why.")
        if not plan_only:
            return here.go(made.plan)
        here.show_plan(made.plan)
        return here.finish_plan(made.plan)


# --- what the commands share


@dataclass(slots=True)
class Desk:
    """One command at work: where it talks, what was chosen on its line, and its client."""

    terminal: Terminal
    chosen: dict[str, Any]
    client: PaystackClient
    clock: StoppableClock

    def planned(self, operation: str, file: Path, out: Path | None = None) -> Plan:
        """A plan of FILE, compared with the copy if there is one."""
        if not file.is_file():
            raise UsageError(f"There is no file {file}.", "Give a CSV, Parquet or Excel file.")
        copy = self.copy()
        if copy is None and not self.chosen["no_copy"]:
            self.terminal.say(
                "There is no copy of the customers here (python pipelines/customers.py makes one)."
            )
        target = out or Runs().new_plan_file(operation, file)
        try:
            made = make_plan(
                operation, file, out=target, options=self.plan_options(), copy=copy, client=self.client
            )
        except InputError as error:
            if error.count > SHOWN:
                listed = write_problems(error, target.with_suffix(".problems.csv"))
                error.advice = f"{error.advice} {listed} lists them."
            raise
        if self.chosen.get("review"):
            self.terminal.say(f"To look at: {write_review(made, self.chosen['review'])}")
        return made

    def copy(self) -> CustomerCopy | None:
        """The warehouse copy, if there is one and it may be read."""
        if self.chosen["no_copy"]:
            return None
        return audit.find_copy(self.chosen["destination"], self.chosen["dataset"])

    def plan_options(self) -> PlanOptions:
        """The planner's options among the command's, and whose account and quota it is."""
        names = set(PlanOptions.__struct_fields__) & set(self.chosen)
        return PlanOptions(
            account=whose(self.client).integration,
            quota=SANDBOX_QUOTA if self.chosen["sandbox"] else settings.find_quota(),
            **{name: self.chosen[name] for name in names},
        )

    def go(self, made: Plan) -> int:
        """Show, ask, apply, show."""
        self.show_plan(made)
        self.ask(made)
        with self.session(made) as session:
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
    def session(self, made: Plan) -> Iterator[Session]:
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

            def on_done(done: Done, _state: RowState | None) -> None:
                if done.event is not None and done.event.kind in SETTLED:
                    progress.advance()
                waited = self.client.stats.waited_seconds
                if waited >= 1:
                    progress.note(f"waited {waited:,.0f} s for the quota")

            yield Session(self.client, Runs(), rules, self.clock, on_done, age)

    def close(self, finished: Finished) -> int:
        """Load what is known into the warehouse, show it, and say how it went."""
        loaded(finished, self.terminal, self.chosen)
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
        """A plan was all that was asked for."""
        follow = [f"{COMMAND} apply {quoted(made.path)}{suffix(self.chosen)}"]
        self.terminal.finish("Planned; nothing was sent", plan_facts(made), plan_json(made), follow)
        return ExitCode.OK


@contextlib.contextmanager
def desk(terminal: Terminal, chosen: dict[str, Any], writes: str | None = None) -> Iterator[Desk]:
    """The client for this command: of Paystack or a sandbox, and for the reads and `writes` only."""
    from paystack_source.api.customers import PaystackClient  # noqa: PLC0415  --help need not wait for it

    clock = StoppableClock()
    with contextlib.ExitStack() as stack:
        key, url = None, None
        if chosen["sandbox"]:
            from paystack_source.sandbox.demo import open_sandbox  # noqa: PLC0415

            sandbox = stack.enter_context(open_sandbox())
            key, url = sandbox.secret_key, sandbox.url
            terminal.say("Sandbox: a local Paystack; its quota window is short, so nobody sits one out.")
        share = chosen.get("quota_share", 1.0)
        client = stack.enter_context(
            PaystackClient(key, base_url=url, quota_share=share, clock=clock, operations=reach(writes))
        )
        yield Desk(terminal, chosen, client, clock)


def loaded(finished: Finished, terminal: Terminal, chosen: dict[str, Any]) -> None:
    """The warehouse is told; if it cannot be, nothing is lost and it is told later."""
    if chosen["no_copy"]:
        return
    problem = audit.load([finished.run], chosen["destination"], chosen["dataset"])
    if problem:
        finished.warnings.append(problem)
        terminal.warn(f"{problem} Later: {COMMAND} status {finished.run.run_id} --load")


def show_finished(finished: Finished, terminal: Terminal, chosen: dict[str, Any]) -> None:
    """The reasons, the closing table, the next commands."""
    if finished.reasons:
        terminal.table("Why", REASONS, run_reasons(finished, MOST_REASONS))
    if isinstance(finished.error, PaystackError):
        terminal.warn(f"{finished.error.message}: {finished.error.advice}")
    title = "Interrupted" if finished.exit_code == ExitCode.INTERRUPTED else "Done"
    if finished.stopped and title == "Done":
        title = "Stopped"
    terminal.finish(title, run_facts(finished), finished.as_json(), next_commands(finished, suffix(chosen)))


def show_runs(runs: Runs, terminal: Terminal, chosen: dict[str, Any], *, load: bool) -> int:
    """All runs, newest first."""
    found = []
    for one in runs:
        with one.journal() as journal:
            found.append(describe(one, one.plan(), journal))
    if load:
        for finished in found:
            loaded(finished, terminal, chosen)
    rows = [
        (f.run.run_id, f.plan.header.counts.rows, *map(f.counts.get, Outcome), f.stopped or "") for f in found
    ]
    terminal.table("Runs, newest first", ("run", "rows", *Outcome, "stopped"), rows)
    if terminal.json_output:
        terminal.emit_json({"runs": [f.as_json() for f in found]})
    return ExitCode.OK


def suffix(chosen: dict[str, Any]) -> str:
    """The switches that the next command needs as well."""
    words = ["--sandbox"] if chosen["sandbox"] else []
    words += ["--no-copy"] if chosen["no_copy"] else []
    words += ["--destination", chosen["destination"]] if chosen["destination"] != "duckdb" else []
    words += ["--dataset", chosen["dataset"]] if chosen["dataset"] != "paystack" else []
    return "".join(f" {word}" for word in words)


if __name__ == "__main__":
    sys.exit(run(main))
