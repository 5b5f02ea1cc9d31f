"""CSV or Parquet -> Paystack: plan a bulk change, look at it, apply it, resume it, take it back.

    python pipelines/bulk.py run risk-action customers.csv --risk-action allow --sandbox

See `docs/howto/officer-csv.md` for the way through, and `docs/bulk.md` for what is promised.
"""

from __future__ import annotations

import contextlib
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paystack_source import audit
from paystack_source.api.errors import PaystackError
from paystack_source.bulk.circuit import StopRules
from paystack_source.bulk.operations import OPERATIONS
from paystack_source.bulk.perform import StoppableClock
from paystack_source.bulk.plan import Plan, PlanOptions, make_plan
from paystack_source.bulk.runs import Run, Runs
from paystack_source.bulk.session import Finished, Session, conclude, describe, settle
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
from paystack_source.bulk.words import COMMAND as THIS
from paystack_source.terminal import ExitCode, Terminal, UsageError, options, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paystack_source.api.customers import PaystackClient
    from paystack_source.bulk.perform import Done
    from paystack_source.bulk.states import RowState
    from paystack_source.progress import Progress

MOST_REASONS = 12
MOST_CHANGES = 10


def together(*decorators: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Several options as one decorator."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


sandboxed = click.option("--sandbox", is_flag=True, help="A local Paystack with invented customers; no account.")
yes = click.option("--yes", is_flag=True, help="Answer the question beforehand.")
where = together(
    click.option("--destination", default="duckdb", show_default=True, help="Where the copy is, as dlt calls it."),
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
    click.option("--review", type=click.Path(path_type=Path), help="Also write the plan as a page to look at."),
)  # fmt: skip
sharing = click.option(
    "--quota-share", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
    help="How much of the quota this run may take.",
)  # fmt: skip
applying = together(
    yes,
    click.option("--approve", metavar="HASH", help="The plan's seal (or its first 12 characters), in place of typing."),
    click.option("--canary", type=click.IntRange(0), default=0, help="Send so many rows first, and look."),
    click.option("--canary-max", type=click.FloatRange(0, 100), default=0.0, help="Stop if more % of them fail."),
    click.option(
        "--max-equal-rejections", type=click.IntRange(0), default=20, show_default=True,
        help="Stop after so many equal rejections in a row; 0: never.",
    ),
    click.option("--max-age", type=click.FloatRange(0), default=None, metavar="HOURS", help="Of the plan."),
)  # fmt: skip


@click.group()
def main() -> None:
    """Change many Paystack customers from a file: planned first, applied once, resumable, reversible where possible.

    OPERATION is one of: risk-action, update, create, validate, deactivate-authorization.
    """


@main.command()
@click.argument("operation", type=click.Choice(list(OPERATIONS)))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the plan.")
@together(planning, where, sharing, sandboxed, options)
def plan(operation: str, file: Path, *, out: Path | None, terminal: Terminal, **chosen: Any) -> int:
    """Check FILE and show what would be sent. Sends nothing."""
    with paystack(terminal, chosen) as (client, _):
        made = planned(operation, file, out, client, terminal, chosen)
    show_plan(terminal, made)
    follow = [f"{THIS} apply {quoted(made.path)}{suffix(chosen)}"]
    terminal.finish("Planned; nothing was sent", plan_facts(made), plan_json(made), follow)
    return ExitCode.OK


@main.command()
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@together(applying, where, sharing, sandboxed, options)
def apply(file: Path, *, terminal: Terminal, **chosen: Any) -> int:
    """Send what PLAN says, once."""
    if not file.is_file():
        raise UsageError(f"There is no plan {file}.", f"Make one: {THIS} plan OPERATION FILE")
    made = Plan.open(file)
    with paystack(terminal, chosen) as (client, clock):
        show_plan(terminal, made)
        return go(made, client, clock, terminal, chosen)


@main.command(name="run")
@click.argument("operation", type=click.Choice(list(OPERATIONS)))
@click.argument("file", type=click.Path(path_type=Path))
@together(planning, applying, where, sharing, sandboxed, options)
def run_(operation: str, file: Path, *, terminal: Terminal, **chosen: Any) -> int:
    """Plan FILE, show the plan, ask, and apply it."""
    with paystack(terminal, chosen) as (client, clock):
        made = planned(operation, file, None, client, terminal, chosen)
        show_plan(terminal, made)
        return go(made, client, clock, terminal, chosen)


@main.command()
@click.argument("name", metavar="RUN")
@together(applying, where, sharing, sandboxed, options)
def resume(name: str, *, terminal: Terminal, **chosen: Any) -> int:
    """Go on with RUN (an id, its beginning, or `latest`): read back what is in doubt, send what is unsent."""
    runs = Runs()
    found = runs.open(name)
    with paystack(terminal, chosen) as (client, clock):
        made = found.plan()
        ask(made, client, terminal, chosen, what=f"Resume {found.run_id}")
        with watched(made, terminal, client) as on_done:
            finished = Session(client, runs, rules(chosen), clock, on_done, age(chosen)).resume(found)
    return close(finished, terminal, chosen)


@main.command()
@click.argument("name", metavar="[RUN]", required=False)
@click.option("--refresh", is_flag=True, help="Ask Paystack for identity verdicts that are still to come.")
@click.option("--load", is_flag=True, help="Load what the warehouse has not got yet.")
@click.option("--verify", is_flag=True, help="Check the journal's hash chain.")
@together(where, sandboxed, options)
def status(name: str | None, *, terminal: Terminal, refresh: bool, load: bool, verify: bool, **chosen: Any) -> int:
    """Show all runs, newest first, or one RUN."""
    runs = Runs()
    if name is None:
        return show_runs(runs, terminal, chosen, load=load)
    found = runs.open(name)
    made = found.plan()
    if refresh:
        with paystack(terminal, chosen) as (client, _):
            settled = settle(found, client)
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
def undo(name: str, *, plan_only: bool, out: Path | None, terminal: Terminal, **chosen: Any) -> int:
    """Plan and apply the way back of RUN: the values that it replaced."""
    found = Runs().open(name)
    with paystack(terminal, chosen) as (client, clock):
        copy = None if chosen["no_copy"] else audit.find_copy(chosen["destination"], chosen["dataset"])
        made = make_undo(found, out=out, copy=copy, client=client, options=plan_options(chosen))
        if made.not_undoable:
            terminal.warn(f"{made.not_undoable:,} rows cannot be taken back; {made.left} says why.")
        show_plan(terminal, made.plan)
        if plan_only:
            follow = [f"{THIS} apply {quoted(made.plan.path)}{suffix(chosen)}"]
            terminal.finish("Planned; nothing was sent", plan_facts(made.plan), plan_json(made.plan), follow)
            return ExitCode.OK
        return go(made.plan, client, clock, terminal, chosen)


# --- what the commands share -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def paystack(terminal: Terminal, chosen: dict[str, Any]) -> Iterator[tuple[PaystackClient, StoppableClock]]:
    """The client for this command, and the clock that ends its waits."""
    from paystack_source.api.customers import PaystackClient  # noqa: PLC0415  --help need not wait for it

    clock = StoppableClock()
    share = chosen.get("quota_share", 1.0)
    with contextlib.ExitStack() as stack:
        key, url = None, None
        if chosen["sandbox"]:
            from paystack_source.sandbox.demo import open_sandbox  # noqa: PLC0415

            sandbox = stack.enter_context(open_sandbox())
            key, url = sandbox.secret_key, sandbox.url
            terminal.say("Sandbox: a local Paystack; its quota window is short, so nobody sits one out.")
        client = stack.enter_context(PaystackClient(key, base_url=url, quota_share=share, clock=clock))
        yield client, clock


def planned(
    operation: str, file: Path, out: Path | None, client: PaystackClient, terminal: Terminal, chosen: dict[str, Any]
) -> Plan:
    """A plan of FILE, compared with the copy if there is one."""
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", "Give a CSV, Parquet or Excel file.")
    copy = None if chosen["no_copy"] else audit.find_copy(chosen["destination"], chosen["dataset"])
    if copy is None and not chosen["no_copy"]:
        terminal.say("There is no copy of the customers here (python pipelines/customers.py makes one).")
    target = out or Runs().new_plan_file(operation, file)
    return make_plan(operation, file, out=target, options=plan_options(chosen), copy=copy, client=client)


def plan_options(chosen: dict[str, Any]) -> PlanOptions:
    """The planner's options among the command's."""
    names = set(PlanOptions.__struct_fields__) & set(chosen)
    return PlanOptions(**{name: chosen[name] for name in names})


def go(
    made: Plan, client: PaystackClient, clock: StoppableClock, terminal: Terminal, chosen: dict[str, Any]
) -> int:
    """Ask, apply, show."""
    ask(made, client, terminal, chosen, what="Apply")
    with watched(made, terminal, client) as on_done:
        finished = Session(client, Runs(), rules(chosen), clock, on_done, age(chosen)).apply(made)
    return close(finished, terminal, chosen)


def ask(made: Plan, client: PaystackClient, terminal: Terminal, chosen: dict[str, Any], *, what: str) -> None:
    """Nothing is sent before somebody agreed; the more it can hurt, the less a bare yes is enough."""
    header = made.header
    number = header.counts.to_send
    if not number:
        return
    question = f"{what}: {number:,} changes on the {'LIVE' if client.mode == 'live' else client.mode} account"
    approval = chosen["approve"]
    if approval:
        if len(approval) < 12 or not header.seal.startswith(approval):  # noqa: PLR2004  long enough not to guess
            raise UsageError("--approve does not name this plan.", f"Its seal begins with {header.seal[:12]}.")
        return
    if client.mode == "live" and header.guard.needed:
        terminal.warn("; ".join(header.guard.reasons))
        if chosen["yes"]:
            raise UsageError(
                "--yes alone is not enough for this plan on a live key.",
                f"Run without --yes and type the number of rows, or add --approve {header.seal[:12]}.",
            )
        if not terminal.confirm_typed(question + ".", header.guard.phrase):
            raise UsageError("Not confirmed; nothing was sent.")
    elif not terminal.confirm(question + "?", yes=chosen["yes"]):
        raise UsageError("Not confirmed; nothing was sent.")


def rules(chosen: dict[str, Any]) -> StopRules:
    """When the run stops by itself."""
    return StopRules(
        equal_rejections=chosen["max_equal_rejections"],
        canary_rows=chosen["canary"],
        canary_share=chosen["canary_max"] / 100,
    )


def age(chosen: dict[str, Any]) -> timedelta | None:
    """How old the plan may be, if somebody said so."""
    return None if chosen["max_age"] is None else timedelta(hours=chosen["max_age"])


@contextlib.contextmanager
def watched(
    made: Plan, terminal: Terminal, client: PaystackClient
) -> Iterator[Callable[[Done, RowState | None], None]]:
    """A progress display, and the function that feeds it."""
    title = OPERATIONS[made.header.operation].title
    with terminal.progress(title, total=made.header.counts.to_send, unit="rows") as progress:
        yield lambda done, _state: advance(progress, done, client)


def advance(progress: Progress, done: Done, client: PaystackClient) -> None:
    """One answer more."""
    if done.event is not None and done.event.kind in (Kind.APPLIED, Kind.PENDING, Kind.REJECTED, Kind.FOUND):
        progress.advance()
    waited = client.stats.waited_seconds
    if waited >= 1:
        progress.note(f"waited {waited:,.0f} s for the quota")


def close(finished: Finished, terminal: Terminal, chosen: dict[str, Any]) -> int:
    """Load what is known into the warehouse, show it, and say how it went."""
    loaded(finished, terminal, chosen)
    show_finished(finished, terminal, chosen)
    return finished.exit_code


def loaded(finished: Finished, terminal: Terminal, chosen: dict[str, Any]) -> None:
    """The warehouse is told; if it cannot be, nothing is lost and it is told later."""
    if chosen["no_copy"]:
        return
    problem = audit.load([finished.run], chosen["destination"], chosen["dataset"])
    if problem:
        finished.warnings.append(problem)
        terminal.warn(f"{problem} Later: {THIS} status {finished.run.run_id} --load")


def show_plan(terminal: Terminal, made: Plan) -> None:
    """The warnings and the first changes."""
    for warning in made.header.warnings:
        terminal.warn(warning)
    changes = plan_changes(made, MOST_CHANGES)
    if changes and not terminal.quiet:
        more = made.header.counts.to_send - MOST_CHANGES
        terminal.table(f"What would change{f' (and {more:,} more)' if more > 0 else ''}", CHANGES, changes)
    for label, value in plan_facts(made):
        terminal.say(f"  {label}: {value}")


def show_finished(finished: Finished, terminal: Terminal, chosen: dict[str, Any]) -> None:
    """The reasons, the closing table, the next commands."""
    if finished.reasons:
        terminal.table("Why", REASONS, run_reasons(finished, MOST_REASONS))
    title = "Interrupted" if finished.exit_code == ExitCode.INTERRUPTED else "Stopped" if finished.stopped else "Done"
    if isinstance(finished.error, PaystackError):
        terminal.warn(f"{finished.error.message}: {finished.error.advice}")
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
        (f.run.run_id, f.plan.header.counts.rows, *(f.counts[outcome] for outcome in Outcome), f.stopped or "")
        for f in found
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
