"""Shared by the subcommands of `bulk`: makes a `BulkService` from the options, and shows plans and runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from paystack_source.bulk import describe
from paystack_source.bulk.consent import Console, Question
from paystack_source.bulk.input.files import lists_problems, open_table, write_problems
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.plan import Plan, is_plan
from paystack_source.bulk.plan.planner import PlanOptions
from paystack_source.bulk.plan.review import check_review, write_review
from paystack_source.bulk.run.recording import WriteBackTarget, record_runs
from paystack_source.bulk.run.results import RunReport, report
from paystack_source.bulk.run.runner import StopRules, stop_rules
from paystack_source.bulk.run.runs import Runs, new_run_id, results_folder, utc
from paystack_source.bulk.service import BulkService, client_operations
from paystack_source.cli.options import chosen_location, paystack
from paystack_source.cli.terminal import Terminal
from paystack_source.commands import command, location_options, location_switches, quoted
from paystack_source.errors import (
    SHOWN,
    ConfigError,
    ExitCode,
    InputError,
    JournalError,
    PaystackError,
    UsageError,
)
from paystack_source.failures import raise_interrupt
from paystack_source.private_files import check_output

SANDBOX_QUOTA = 18_000  # requests a minute: 600 in a window of two seconds
SEAL_SHOWN = 12  # characters of a plan's seal: too many to be guessed
_SEAL = (
    "It takes the seal of the plan: `plan` prints it, and the page of the plan shows it (bulk review PLAN)."
)
_CUT_BY = {"csv": ("encoding", "delimiter"), "excel": ("sheet",)}
_STDIN = "standard input"


def agree(terminal: Terminal, chosen: dict[str, Any], mode: str, plan: Plan, question: Question) -> None:
    """Ask, and raise `UsageError` without approval. With a live key above the thresholds `--yes` is not enough.

    `mode` is the key's. `--yes` and `--approve` answer beforehand.
    """
    approval, confirm = chosen["approve"], question.confirm
    shown = [] if question.resumed else plan.header.guard.reasons
    for reason in confirm.reasons:
        if reason not in shown:
            terminal.warn(reason)
    if approval:
        if len(approval) < SEAL_SHOWN or not plan.header.seal.startswith(approval):
            raise UsageError("--approve does not name this plan.", _SEAL)
        return
    guarded = mode == "live" and confirm.needed
    if chosen["yes"] and (guarded or question.after_canary):
        why = "The canary stopped this run: look at its results first. " if question.after_canary else ""
        raise UsageError(
            f"{why}--yes alone is not enough {'here' if question.after_canary else 'for this plan on a live key'}.",
            f"Leave it out and answer the question in a terminal, or add --approve. {_SEAL}",
        )
    if chosen["yes"]:
        terminal.say(question.text)
    elif not terminal.confirm(question.text, str(question.rows) if guarded else None):
        left = ("resume", question.resumed) if question.resumed else ("apply", quoted(plan.path))
        raise UsageError(
            "Not confirmed; nothing was sent.", f"Later: {describe.follow_up(*left, plan, chosen)}"
        )


@dataclass
class BulkCommand:
    """One command: its terminal, its options, and its service."""

    terminal: Terminal
    chosen: dict[str, Any]
    service: BulkService

    @property
    def options(self) -> PlanOptions:
        given = {name: self.chosen[name] for name in PlanOptions.__struct_fields__ if name in self.chosen}
        return PlanOptions(switches=location_options(self.chosen), **given)

    def plan(self, operation: str, file: Path, out: Path | None = None) -> Plan:
        """Plan FILE, compared with the copy if there is one."""
        target = out or self.service.runs.new_plan_file(operation, Path(_STDIN if _is_stdin(file) else file))
        check_output(target, "plan", is_plan)
        page = self._page(target)
        if page.absolute() == target.absolute():
            raise UsageError(f"{page} cannot be the plan and its page as well.", "Name the plan NAME.plan.")
        check_review(page)
        source = self.read(file)
        cut = {name: self.chosen[name] for name in ("encoding", "delimiter", "sheet")}
        table = open_table(source, **cut)
        for option, value in cut.items():  # the user may have meant another file
            if value is not None and option not in _CUT_BY.get(table.format, ()):
                raise UsageError(
                    f"--{option} has no meaning for {table.name}, which is {table.format}.", "Leave it out."
                )
        if isinstance(source, FileSnapshot):
            table.path = self._kept(operation)
        listed = target.with_suffix(".problems.csv")
        try:
            made = self.service.plan(operation, table, out=target, options=self.options)
        except InputError as error:
            self._advise(error, listed)
            raise
        if isinstance(source, FileSnapshot) and table.path is not None:
            source.save(table.path)
        if lists_problems(listed):
            listed.unlink()  # the problems no longer exist
        if self.service.warehouse is not None and made.header.copy is None:
            self.terminal.say(
                f"There is no copy of the customers here ({command('customers', self.chosen)} makes one)."
            )
        if self.chosen.get("review"):
            self._write_review(made, self.chosen["review"])
        return made

    def _advise(self, error: InputError, listed: Path) -> None:
        """Add to the advice about problems in an input; if there are many, write them into a file."""
        if not self.chosen["leave_out_problems"] and any(problem.row for problem in error.problems):
            error.advice = f"{error.advice} Or plan the other rows: add --leave-out-problems."
        if error.count > SHOWN:
            try:
                write_problems(error, listed)
                error.advice = f"{error.advice} {listed} lists them."
            except ConfigError as taken:
                error.advice = f"{error.advice} {taken.message}"

    def read(self, file: Path | None) -> Path | FileSnapshot | None:
        """The file, or for `-` a copy of standard input, which can be read only once. Raises `UsageError`."""
        if _is_stdin(file):
            self.terminal.stdin_is_data = True
            return FileSnapshot(sys.stdin.buffer, Path(_STDIN))
        if file is not None and not file.exists():
            raise UsageError(f"There is no file {file}.", "Give a CSV, Parquet or Excel file.")
        return file

    def _kept(self, operation: str) -> Path | None:
        """The path that keeps standard input for later commands; None for rows with secrets, which are never stored."""
        if BULK_OPERATIONS[operation].secret_fields:
            return None
        return self.service.runs.new_plan_file(operation, Path(_STDIN)).with_suffix(".input")

    def apply(self, made: Plan, source: Path | None = None) -> int:
        """Show the plan, ask, apply it, and show the result."""
        given = self.read(source)
        self.show_plan(made)
        for label, value in describe.plan_facts(made):
            if label != "seal":  # it approves the plan: `plan` and the review page show it
                self.terminal.say(f"  {label}: {value}")
        run_id = self.terminal.context.run_id = new_run_id(made, utc(self.service.now()))
        try:
            finished = self.service.apply(made, source=given, run_id=run_id)
            return show_run(finished, self.terminal, self.chosen)
        finally:
            if not (self.service.runs.root / run_id).is_dir():  # it never began
                self.terminal.context.run_id = None

    def show_plan(self, made: Plan) -> None:
        """Show the warnings, the most dangerous first, then the first changes."""
        for caution in describe.plan_cautions(made):
            self.terminal.warn(caution)
        changes = describe.plan_changes(made)
        if changes and not (self.terminal.quiet or self.terminal.logs_data):  # no names or phones in a log
            more = made.header.counts.to_send - describe.MOST_CHANGES
            title = f"What would change{f' (and {more:,} more)' if more > 0 else ''}"
            self.terminal.table(title, *describe.without_blank_columns(describe.CHANGE_COLUMNS, changes))

    def finish_plan(self, made: Plan) -> int:
        """Finish the command `plan`: write the review page, and show the facts of the plan."""
        page = self._page(made.path)
        if not self.chosen.get("review"):
            self._write_review(made, page)
        title, then = f"Planned. {describe.NOTHING_SENT}", [self._apply_command(made)]
        if not made.header.counts.to_send:
            title, then = "Planned. There is nothing to send.", []
        facts = [*describe.plan_facts(made), ("page", page)]
        self.terminal.finish(title, facts, describe.plan_json(made, page), then)
        return ExitCode.OK

    def _page(self, plan_file: Path) -> Path:
        return self.chosen.get("review") or plan_file.with_suffix(".html")

    def _write_review(self, made: Plan, page: Path) -> None:
        write_review(made, page, command=self._apply_command(made))
        self.terminal.say(f"Review page: {page}")

    def _apply_command(self, made: Plan) -> str:
        return describe.follow_up("apply", quoted(made.path), made, self.chosen)


def _is_stdin(file: Path | None) -> bool:
    return file is not None and str(file) == "-"


def warehouse_of(chosen: dict[str, Any]) -> WriteBackTarget | None:
    """The chosen dataset; None with --no-copy."""
    if chosen["no_copy"]:
        return None
    from paystack_source.warehouse.write_back import WriteBack  # noqa: PLC0415  dlt takes a second; --help is quick

    return WriteBack(*chosen_location(chosen))


@contextlib.contextmanager
def bulk_command(
    terminal: Terminal, chosen: dict[str, Any], writes: str | None = None, *, recheck: bool | None = None
) -> Iterator[BulkCommand]:
    """The command with its service, for Paystack or a sandbox. Its client may only read, and send `writes`.

    `recheck` is the default of that switch.
    """
    with contextlib.ExitStack() as stack:
        stack.push(lambda _kind, error, _trace: _advise(error, chosen))
        client, sandbox = stack.enter_context(
            paystack(terminal, chosen, operations=client_operations(writes))
        )
        server = quota = None
        if sandbox is not None:
            from paystack_source.sandbox.demo import state_path  # noqa: PLC0415  an extra of the package

            server, quota = str(state_path(chosen["account_name"]).resolve()), SANDBOX_QUOTA
            terminal.say("Practice (--sandbox): an invented Paystack on this computer. Nothing real changes.")
        given = chosen.get("recheck")
        service = BulkService(
            client,
            runs_of(chosen),
            Console(terminal.warn, terminal.progress, partial(agree, terminal, chosen, client.mode)),
            warehouse_of(chosen),
            rules=_stop_rules(chosen),
            max_age=_max_age(chosen.get("max_age")),
            recheck=recheck if given is None else given,
            per_minute=quota,
            server=server,
        )
        yield BulkCommand(terminal, chosen, service)


def _max_age(hours: float | None) -> timedelta | None:
    if hours is None:
        return None
    if hours != hours:  # noqa: PLR0124  # NaN, which is in every range
        raise UsageError("--max-age takes a number of hours.")
    return timedelta(hours=min(hours, 1e6))  # a century; a timedelta holds no more than a million days


def _stop_rules(chosen: dict[str, Any]) -> StopRules:
    if "canary" not in chosen:
        return StopRules()
    share = chosen["canary_max"] / 100
    return stop_rules(chosen["canary"], share, equal_rejections=chosen["max_equal_rejections"])


def _advise(stop: BaseException | None, chosen: dict[str, Any]) -> None:
    """Complete the advice after an interruption, because the same command would make a new plan and a new run."""
    if "run_id" in getattr(stop, "details", {}) and getattr(stop, "goes_on", True):
        stop.advice += location_switches(chosen)  # type: ignore[union-attr]
    elif stop is not None and not getattr(stop, "advice", ""):
        try:
            raise_interrupt(stop)
        except KeyboardInterrupt as interrupt:
            listed = command("bulk status", chosen)
            interrupt.advice = f"Nothing was sent, unless this lists a new run: {listed}"  # type: ignore[attr-defined]
            raise


def warn_not_loaded(found: list[RunReport], terminal: Terminal, chosen: dict[str, Any]) -> None:
    """If a run could not be loaded into the warehouse, show the reason, and the command that loads it later."""
    problem = next((one.not_loaded for one in found if one.not_loaded), None)
    if problem is None:
        return
    if len(found) == 1:
        later = describe.follow_up("status", f"{found[0].run.name} --load", found[0].plan, chosen)
    else:
        later = command("bulk status", chosen, "--load")
    terminal.warn(f"{problem} Later: {later}")


def show_run(finished: RunReport, terminal: Terminal, chosen: dict[str, Any]) -> int:
    """Show a run: its warnings, the reasons, the closing table, the next commands. Returns its exit code."""
    warn_not_loaded([finished], terminal, chosen)
    for warning in finished.warnings:
        terminal.warn(warning)
    if finished.reasons:
        reasons = describe.run_reasons(finished)
        terminal.table("What happened", *describe.without_blank_columns(describe.REASON_COLUMNS, reasons))
    if isinstance(finished.error, PaystackError):
        terminal.warn(f"{finished.error.message}: {finished.error.advice}")
    title, facts = describe.HEADINGS[finished.status], describe.run_facts(finished, chosen)
    terminal.finish(title, facts, finished.as_json(), describe.next_commands(finished, chosen))
    return finished.exit_code


def show_runs(kept: Runs, terminal: Terminal, chosen: dict[str, Any], *, load: bool) -> None:
    """Show all runs, newest first."""
    found = []
    for one in kept:
        try:
            with one.journal() as journal:
                found.append(report(one, one.plan(), journal))
        except (ConfigError, JournalError) as error:  # one damaged folder must not hide the others
            terminal.warn(f"{one.run_id}: {error.message} {error.advice}")
            continue
        found[-1].running = one.is_busy
    if load:
        load_runs(found, chosen)
        warn_not_loaded(found, terminal, chosen)
    if found:
        undone = describe.undone_by(found)
        terminal.lines(
            f"Runs in {kept.root}, newest first",
            [line for one in found for line in describe.run_lines(one, undone.get(one.run.run_id))],
        )
    else:
        terminal.lines(f"No runs in {kept.root.absolute()}.", [])
    if terminal.json_output:
        terminal.emit_json({"runs": [f.as_json() for f in found]})


def runs_of(chosen: dict[str, Any]) -> Runs:
    """The runs of the chosen account, or of the sandbox: each has its own results folder."""
    return Runs(results_folder(chosen["account_name"], sandbox=chosen["sandbox"]))


def load_runs(found: list[RunReport], chosen: dict[str, Any]) -> None:
    """Load these runs into the warehouse; each that cannot be loaded has the reason in `not_loaded`."""
    if (warehouse := warehouse_of(chosen)) is not None and found:
        record_runs(found, warehouse)
