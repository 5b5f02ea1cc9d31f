"""The command `bulk`: plan a bulk change of customers from a file, review it, apply it, resume it, undo it.

    python pipelines/bulk.py run risk-action customers.csv --risk-action allow --sandbox

See `docs/howto/officer-csv.md` for the steps, and `docs/bulk.md` for the promises.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from paystack_source.bulk.describe import COMMAND, follow_up, run_lines
from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.plan import MAX_AGE, MAX_AGE_RESUMED, Plan
from paystack_source.bulk.plan.review import write_review
from paystack_source.bulk.run.results import conclude, report
from paystack_source.cli.bulk_commands import bulk_command, load_runs, runs_of, show_run, show_runs
from paystack_source.cli.options import location, once, sharing, together
from paystack_source.cli.terminal import Terminal, examples, options
from paystack_source.commands import quoted
from paystack_source.errors import ExitCode, UsageError
from paystack_source.settings import EQUAL_REJECTIONS
from paystack_source.values import counted

HOUR = timedelta(hours=1)
yes_option = click.option("--yes", is_flag=True, help="Answer the question beforehand.")
copy_options = together(
    location(destination="Where the copy is, as dlt calls it.", dataset="Dataset of the copy."),
    click.option("--no-copy", is_flag=True, help="Do not use the warehouse copy: neither read nor write it."),
)
planning_options = together(
    once("--risk-action", type=click.Choice(["allow", "deny", "default"]), help="The action of every row."),
    click.option(
        "--leave-out-problems", is_flag=True,
        help="Plan the valid rows; write the others into a file that can be corrected and planned.",
    ),
    click.option("--only-missing", is_flag=True, help="update: fill blanks, never overwrite."),
    once(
        "--metadata", type=click.Choice(["merge", "replace"]), default="merge", show_default=True,
        help="update: add the given keys to the customer's metadata, or replace all of it.",
    ),
    once(
        "--refresh", type=click.Choice(["auto", "live", "never"]), default="auto", show_default=True,
        help="Which customers of the input to read from Paystack while planning: live: all; never: none; "
        "auto: those whose present values the copy lacks, if a minute of quota is enough.",
    ),
    click.option("--sheet", help="Excel: which sheet."),
    click.option("--encoding", help="CSV: the encoding, if the detected one is wrong."),
    click.option("--delimiter", help="CSV: the delimiter, if the detected one is wrong."),
    click.option("--review", type=click.Path(path_type=Path), help="Also write the plan as a page."),
)  # fmt: skip
input_option = click.option(
    "--input", "source", metavar="FILE", type=click.Path(path_type=Path),
    help="The planned input, if it was moved; -: standard input.",
)  # fmt: skip
applying_options = together(
    yes_option,
    click.option("--approve", metavar="HASH", help="The plan's seal, or its first 12 characters."),
    click.option("--canary", type=click.IntRange(0), default=0, help="How many rows to send first, as a trial."),
    click.option(
        "--canary-max", type=click.FloatRange(0, 100), default=0.0, show_default=True,
        help="Stop if a larger part of these rows fails, in %.",
    ),
    click.option(
        "--max-equal-rejections", type=click.IntRange(0), default=EQUAL_REJECTIONS, show_default=True,
        help="Stop after this number of equal rejections in a row; 0: never.",
    ),
    click.option(
        "--recheck/--no-recheck", default=None,
        help="Read each customer before the change, and skip those changed since the plan; "
        "default: apply does, the others if the plan is older than 5 minutes.",
    ),
    click.option(
        "--max-age", type=click.FloatRange(0), default=None, metavar="HOURS",
        help="The greatest age of the plan; default: "
        f"{MAX_AGE / HOUR:.0f}, for resume {MAX_AGE_RESUMED / HOUR:.0f} ({MAX_AGE_RESUMED.days} days).",
    ),
)  # fmt: skip


@click.group(
    no_args_is_help=False,
    invoke_without_command=True,
    epilog=examples(
        f"{COMMAND} run risk-action customers.csv --risk-action allow --sandbox",
        f"{COMMAND} plan --help",
    ),
)
@click.pass_context
def main(context: click.Context) -> None:
    """Change many Paystack customers from a file: planned first, applied once, resumable, mostly reversible.

    OPERATION is one of: risk-action, update, create, validate, deactivate-authorization.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command(
    epilog=examples(
        f"{COMMAND} plan risk-action customers.csv --risk-action allow",
        f"{COMMAND} plan update names.csv --only-missing --out names.plan",
    )
)
@click.argument("operation", metavar="OPERATION", type=click.Choice(list(BULK_OPERATIONS)))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the plan.")
@together(planning_options, copy_options, sharing, options)
def plan(operation: str, file: Path, *, out: Path | None, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Check FILE and show what would be sent. Sends nothing. `-` reads standard input.

    OPERATION is one of: risk-action, update, create, validate, deactivate-authorization.
    """
    with bulk_command(terminal, chosen) as here:
        made = here.plan(operation, file, out)
        here.show_plan(made)
        return here.finish_plan(made)


def _open_plan(file: Path) -> Plan:
    try:
        return Plan.open(file)
    except FileNotFoundError:
        raise UsageError(f"There is no plan {file}.", f"Make one: {COMMAND} plan OPERATION FILE") from None


@main.command(
    epilog=examples(f"{COMMAND} apply names.plan", f"{COMMAND} apply names.plan --canary 20 --canary-max 5")
)
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@together(input_option, applying_options, copy_options, sharing, options)
def apply(file: Path, *, source: Path | None, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Apply PLAN, once: send its rows."""
    made = _open_plan(file)
    with bulk_command(terminal, chosen, made.header.operation, recheck=True) as here:
        return here.apply(made, source)


@main.command(
    name="run",
    epilog=examples(
        f"{COMMAND} run risk-action customers.csv --risk-action deny",
        f"{COMMAND} run create people.csv --canary 20 --yes",
    ),
)
@click.argument("operation", metavar="OPERATION", type=click.Choice(list(BULK_OPERATIONS)))
@click.argument("file", type=click.Path(path_type=Path))
@together(planning_options, applying_options, copy_options, sharing, options)
def run_(operation: str, file: Path, *, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Plan FILE, show the plan, ask, and apply it. `-` reads standard input.

    OPERATION is one of: risk-action, update, create, validate, deactivate-authorization.
    """
    with bulk_command(terminal, chosen, operation) as here:
        made = here.plan(operation, file)
        code = here.apply(made)
        made.path.unlink(missing_ok=True)  # the run's folder has it
        return code


@main.command(epilog=examples(f"{COMMAND} review names.plan --out names.html"))
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to; default: beside the plan.")
@click.option("--show-personal", is_flag=True, help="Names, emails and phones in clear.")
@options
def review(file: Path, *, out: Path | None, show_personal: bool, terminal: Terminal) -> int:
    """Write PLAN as one HTML page, to review and to share."""
    made = _open_plan(file)
    command = follow_up("apply", quoted(file), made, {})
    page = write_review(made, out or file.with_suffix(".html"), show_personal=show_personal, command=command)
    terminal.finish("Written", [("page", page)], {"review_file": str(page)})
    return ExitCode.OK


@main.command(epilog=examples(f"{COMMAND} resume latest"))
@click.argument("name", metavar="RUN")
@together(input_option, applying_options, copy_options, sharing, options)
def resume(name: str, *, source: Path | None, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Continue RUN: read back the rows in doubt, send the unsent rows.

    RUN is an id, its beginning, or `latest`.
    """
    found = runs_of(chosen).open(name)
    terminal.context.run_id = found.run_id
    with bulk_command(terminal, chosen, found.plan().header.operation) as here:
        return show_run(here.service.resume(found, source=here.read(source)), terminal, chosen)


@main.command(epilog=examples(f"{COMMAND} status", f"{COMMAND} status latest --refresh"))
@click.argument("name", metavar="[RUN]", required=False)
@click.option("--refresh", is_flag=True, help="Read missing identity verdicts from Paystack.")
@click.option("--load", is_flag=True, help="Load the runs that the copy lacks, from their journals.")
@click.option("--verify", is_flag=True, help="Check the journal's hash chain.")
@together(yes_option, copy_options, options)
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
    runs = runs_of(chosen)
    if name is None:
        if refresh or verify:
            raise UsageError(
                f"{'--refresh' if refresh else '--verify'} is for one run.", "Name it: its id, or latest."
            )
        show_runs(runs, terminal, chosen, load=load)
        terminal.require_shown()
        return ExitCode.OK
    found = runs.open(name)
    terminal.context.run_id = found.run_id
    made = found.plan()
    if refresh:
        with bulk_command(terminal, chosen) as here:
            found_verdicts = here.service.fetch_verdicts(found)
        terminal.say(f"{counted(found_verdicts, 'new verdict')}.")
    with found.journal() as journal:
        if verify:
            found.check_journal()
            terminal.say("The journal's hash chain is intact.")
        running = found.is_busy
        # A session that was killed left no summary; there may be results of an earlier session.
        write = refresh or not (running or found.summary_file.is_file())
        finished = conclude(found, made, journal) if write else report(found, made, journal)
    finished.running = running
    if refresh or load:
        load_runs([finished], chosen)
    show_run(finished, terminal, chosen)
    terminal.require_shown()
    return ExitCode.OK


@main.command(epilog=examples(f"{COMMAND} undo latest --plan-only", f"{COMMAND} undo latest"))
@click.argument("name", metavar="RUN")
@click.option("--plan-only", is_flag=True, help="Only write the plan of the undo.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write that plan.")
@together(applying_options, copy_options, sharing, options)
def undo(name: str, *, plan_only: bool, out: Path | None, terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401
    """Restore the values that RUN replaced: plan it, ask, and apply it."""
    found = runs_of(chosen).open(name)
    with bulk_command(terminal, chosen, found.plan().header.operation) as here:
        with found.journal() as journal:
            terminal.say("This undoes:")
            for line in run_lines(report(found, found.plan(), journal), None):
                terminal.say(f"  {line}")
        made = here.service.plan_undo(found, out=out, options=here.options)
        if made.not_undoable:
            terminal.warn(
                f"{counted(made.not_undoable, 'row')} cannot be undone; {made.left} has the reasons."
            )
        if not plan_only:
            return here.apply(made.plan)
        here.show_plan(made.plan)
        return here.finish_plan(made.plan)
